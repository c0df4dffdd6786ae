"""The threads that move pieces, each with connections of its own."""

import threading

from caxflow import threads
from caxflow.transfer import movers


class Crew:
    """Movers of a job.

    The first uses the ends that are open already. The others open ends of their own; if they cannot, do not
    see the data, or are not in when all has been given out, the transfer goes on without them.
    """

    def __init__(self, job):
        self._job = job
        self._changed = threading.Condition()
        self._over = False
        self._states: dict[int, str] = {}
        self.worked = 0

    def work(self, size: int, at_once: int, login: float) -> None:
        """Have movers move what the job gives out, and wait until all is moved.

        Parameters
        ----------
        size : int
            Movers at most.
        at_once : int
            Those that surely find something to do: the others log in if there is still enough to do when they
            could have.
        login : float
            Seconds that a login takes.
        """
        self._call(0, min(at_once, size))
        with self._changed:
            ended = self._changed.wait_for(self._done, login)
        if not ended and size > at_once and self._job.goes_on:
            self._call(at_once, size)
        with self._changed:
            self._changed.wait_for(self._done)
            self._over = True  # who comes later finds nothing to do, and perhaps nothing to write to any more

    def _call(self, first: int, beyond: int) -> None:
        with self._changed:
            self._states |= dict.fromkeys(range(first, beyond), "connecting")
        for number in range(first, beyond):
            self._start(number)

    def _done(self) -> bool:
        states = self._states.values()
        if self._job.stopped.is_set():
            return "working" not in states
        return "working" not in states and (not self._job.pieces_left or "connecting" not in states)

    def _start(self, number: int) -> None:
        if threads.start(self._run, number, name=f"mover {number}") is None:
            if number:
                self._enter(number, "ended")  # the others go on without
            else:
                self._run(number)

    def _enter(self, number: int, state: str) -> None:
        with self._changed:
            self._states[number] = state
            self._changed.notify_all()

    def _run(self, number: int) -> None:
        try:
            ends = self._job.further() if number else (self._job.source, self._job.destination)
            if ends and self._admitted(number) and (not number or self._job.joined(*ends)):
                _mover(self._job)(self._job, *ends)
                self.worked += 1
        except BaseException as error:
            self._job.stop(error)
        finally:
            self._enter(number, "ended")

    def _admitted(self, number: int) -> bool:
        """Return whether there is still something to do for one that has logged in, who then works."""
        with self._changed:
            if self._job.stopped.is_set() or self._over:
                return False
            self._states[number] = "working"
            return True

    def wake(self) -> None:
        """Look again whether the job was stopped."""
        with self._changed:
            self._changed.notify_all()


def _mover(job):
    """The function that moves pieces of `job`, called with it and an end on each side, in its own thread."""
    if job.adopting:
        return movers.look
    if not (job.source.helped and job.destination.helped):
        from caxflow.transfer.ferry import ferry  # which needs paramiko

        return ferry
    if job.source.remote:
        return movers.relay if job.destination.remote else movers.pull
    return movers.push if job.destination.remote else movers.local
