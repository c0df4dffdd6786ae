"""The threads that move pieces, each with connections of its own."""

import threading

from caxflow import threads
from caxflow.transfer import movers


class Crew:
    """Movers of a job: some may log in before it is known what is to be moved.

    The first uses the ends that are open already. The others open ends of their own; if they cannot, or are
    not in when all has been given out, the transfer goes on without them.
    """

    def __init__(self, job):
        self._job = job
        self._changed = threading.Condition()
        self._size: int | None = None  # how many are wanted, once that is known
        self._states: dict[int, str] = {}
        self.worked = 0

    def call(self, size: int) -> None:
        """Have so many movers, less the first, log in, unless they do already."""
        with self._changed:
            most = size if self._size is None else min(size, self._size)
            wanted = [number for number in range(1, most) if number not in self._states]
            self._states |= dict.fromkeys(wanted, "connecting")
        for number in wanted:
            self._start(number)

    def work(self, size: int) -> None:
        """Have `size` movers move what the job gives out, and wait until all is moved."""
        with self._changed:
            self._size = size
            self._states[0] = "connecting"
        self.call(size)
        self._start(0)
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(self._done)
            self._size = 0  # who comes later finds nothing to do, and perhaps nothing to write to any more

    def _done(self) -> bool:
        states = [state for number, state in self._states.items() if number < self._size]
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
            if ends and self._admitted(number):
                _mover(self._job)(self._job, *ends)
                self.worked += 1
        except BaseException as error:
            self._job.stop(error)
        finally:
            self._enter(number, "ended")

    def _admitted(self, number: int) -> bool:
        """Wait until it is known how many are wanted; whether this one is, who then works."""
        with self._changed:
            self._changed.wait_for(lambda: self._size is not None or self._job.stopped.is_set())
            if self._job.stopped.is_set() or number >= self._size:
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
