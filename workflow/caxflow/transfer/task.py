"""Work on other machines that is watched, kept alive, and ended when nothing goes on any more."""

import math
import secrets
import threading
import time
from contextlib import suppress

from caxflow.errors import CaxflowError
from caxflow.threads import explained, start, started
from caxflow.transfer import kept
from caxflow.transfer.causes import TurnedAway
from caxflow.transfer.ends import LocalEnd, RemoteEnd
from caxflow.transfer.limiter import Limiter
from caxflow.transfer.place import Place
from caxflow.transfer.progress import Progress
from caxflow.transfer.ssh import connect

_PAUSES = (1.0, 3.0, 9.0)  # seconds before a login is tried again that the server did not take
_INTERVAL = 0.25  # seconds between calls of `progress`
# A disk or a link may be slow, but a far end's word for it is not taken for ever: of the time-out, so many
# times, in which so many bytes a second are dealt with, or a step is done.
_PATIENCE = 15
_SLOWEST = 10_000
_EACH = 1 / 60  # of the time-out for each file, as to sync it may take
_MOST = 10_000  # files that get such a share
_SHORTEST = 30.0  # seconds: what an attempt waits at least for another one that may be over
# Operations whose end nothing that is known here tells, which work on names alone; they hold up no copy.
_LONG = dict.fromkeys(("census", "leftovers", "permissions", "remove_tree"), 360)
_AT_ONCE = 32  # paths that are looked at by one question, whose answer lists what is there


def any_remote(places) -> bool:
    """Whether one of the places is reached over SSH."""
    return any(place.remote for place in places)


class StoppedError(Exception):
    """The task was stopped from elsewhere, which knows why."""


class Task:
    """Something that is under way; its thread does it, others may look and `stop` it.

    Attributes
    ----------
    places : tuple of Place
        The sites it works at.
    timeout : float
        Seconds without progress after which it fails.
    patience : float
        Seconds after which it fails though a far end shows life, see `sign`.
    beats : int
        Changes whenever something goes on.
    """

    def __init__(self, *places: Place):
        self.places = places
        self.timeout = max(place.timeout for place in places if place.remote or not any_remote(places))
        self.error: BaseException | None = None
        self.patience = max(_PATIENCE * self.timeout, _SHORTEST)
        self.stopped = threading.Event()
        self.beats = 0
        self.steps = 0  # changes as often as something was done for certain
        self.passed = 0  # bytes that far ends have dealt with
        self.phase, self.done, self.total = "connecting", 0, 0
        self.files_done, self.files = 0, 0
        self.lock = threading.Lock()
        self._connections: list = []
        self._greeted: list = []  # those of them that may be spoken to
        self._closed = False
        self._limits: dict[str, Limiter] = {}
        self.began = time.monotonic()

    def work(self):
        """Do it and return the result; in a thread of its own."""
        raise NotImplementedError

    def stop(self, error: BaseException) -> None:
        """End it; the first error it was stopped with is the one that counts."""
        with self.lock:
            if self.error is None:
                self.error = explained(error)
            connections = list(self._connections)
        self.stopped.set()
        for connection in connections:
            connection.kill()

    def beat(self, count: int = 0) -> None:
        """Take note that something was done here, and of bytes that were dealt with.

        Raises
        ------
        StoppedError
            If the task was stopped.
        """
        if self.stopped.is_set():
            raise StoppedError
        with self.lock:
            self.beats += 1
            self.steps += 1
            self.done += count

    def sign(self, passed: int = 0, done: int = 0) -> None:
        """Take note of a far end's sign of life, which is no progress but for the bytes that have passed.

        Parameters
        ----------
        passed : int
            Bytes that came or went, or are known to be there to be read.
        done : int
            Those of them that count for how far it is.

        Raises
        ------
        StoppedError
            If the task was stopped.
        """
        if self.stopped.is_set():
            raise StoppedError
        with self.lock:
            self.beats += 1
            self.passed += passed
            self.done += done

    def bear_with(self, files: int) -> None:
        """Take note that a dataset of so many files was listed: a far end's disk is given time for each."""
        self.patience += min(files, _MOST) * _EACH * self.timeout
        self.beat()

    def pause(self, seconds: float) -> None:
        """Sleep on purpose, which is no lack of progress; raises StoppedError if the task is stopped."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.stopped.wait(min(left, 1))
            self.beat()

    def _keep(self, connection):
        """Have the connection end with the task; one that comes when that has ended, ends at once."""
        with self.lock:
            late = self._closed
            if not late:
                self._connections.append(connection)
        if late:
            connection.close()
            raise CaxflowError(f"{connection.place.site}: is not needed any more")
        if self.stopped.is_set():
            connection.kill()
            raise StoppedError
        return connection

    def limit(self, place: Place) -> Limiter | None:
        """Return what holds bytes from and to `place` back, over all connections; None if nothing does."""
        if not place.bandwidth:
            return None
        with self.lock:
            if place.site not in self._limits:
                self._limits[place.site] = Limiter(place.bandwidth, self.pause, place.ledger)
            return self._limits[place.site]

    def open(self, place: Place, report, *, needed: bool = True):
        """Return the end of a transfer at `place`; `report` is called with the bytes it has dealt with.

        Of a far end, `report` is given `sign` its words; of this machine's files, `beat`.

        Where the server takes no login now, one that is `needed` is tried again.
        """
        if not place.remote:
            return LocalEnd(place, report, self.limit(place))
        make, end = _kind(place)
        connection = kept.take(place)
        if connection and self._answers(connection, end):
            return end(connection, report)
        for pause in (*(_PAUSES if needed else ()), None):
            connection = self._keep(make(place, self.limit(place)))
            try:
                connection.greet(self.beat)
                break
            except TurnedAway:
                if pause is None:
                    raise
                self._drop(connection)
                self.pause(pause * (0.7 + secrets.randbelow(60) / 100))
        with self.lock:
            self._greeted.append(connection)
        return end(connection, report)

    def _answers(self, connection, end) -> bool:
        """Take over a connection, if it still leads somewhere; a new one is quicker than to wait for long."""
        connection.limit(self.limit(connection.place))
        with self.lock:
            self._connections.append(connection)
        answered = threading.Event()
        patience = connection.place.timeout / 3
        start(lambda: answered.wait(patience) or connection.kill())
        try:
            end(connection, self.sign).call("ping")
        except CaxflowError:
            self._drop(connection)
            return False
        finally:
            answered.set()
        with self.lock:
            self._greeted.append(connection)
        return True

    def _drop(self, connection) -> None:
        with self.lock:
            if connection in self._connections:
                self._connections.remove(connection)
        connection.close()

    def leave(self, end) -> None:
        """Leave an end's connection, at which nothing is under way, to the next task."""
        connection = getattr(end, "connection", None)
        if connection is None or not kept.leave(connection):
            end.close()
            return
        with self.lock:
            for known in (self._connections, self._greeted):
                if connection in known:
                    known.remove(connection)

    def close(self) -> None:
        """End all connections, in an orderly way."""
        with self.lock:
            self._closed = True
            connections, self._connections, self._greeted = self._connections, [], []
        for connection in connections:
            connection.kill()  # what is still logging in does so side by side
        for connection in connections:
            connection.close()

    def keep_alive(self) -> None:
        """Tell the far ends that we are still here."""
        with self.lock:
            greeted = list(self._greeted)
        for connection in greeted:
            with suppress(Exception):
                connection.keep_alive()

    @property
    def waiting(self) -> str:
        """What logins wait for that are under way."""
        with self.lock:
            logins = [each for each in self._connections if each not in self._greeted]
        return "; ".join(dict.fromkeys(f"at {each.place.host}, {each.waiting}" for each in logins))

    def state(self, rate: float) -> Progress:
        """How far it is."""
        seconds = time.monotonic() - self.began
        done = min(self.done, self.total)
        return Progress(self.phase, done, self.total, rate, self.files_done, self.files, seconds)


class Visit(Task):
    """One operation at one place.

    Parameters
    ----------
    place : Place
    operation : str
    total : str, optional
        Path of a dataset that is listed first, as it is read.
    size : int, optional
        Bytes that it is to have, where that is known: of more, it is no progress to read them.
    arguments
        Of the operation.
    """

    def __init__(self, place: Place, operation: str, total=None, size=None, **arguments):
        super().__init__(place)
        self._operation, self._total, self._arguments = operation, total, arguments
        self._size, self._unread = size, math.inf
        self.patience = max(self.patience, _LONG.get(operation, 0) * self.timeout)

    def work(self):
        end = self.open(self.places[0], self._note if self.places[0].remote else self.beat)
        try:
            self.phase = "reading"
            if self._total:
                listing = end.call("scan", path=self._total)
                self.files = len(listing["files"])
                self.total = sum(file[1] for file in listing["files"])
                self.bear_with(self.files)
                end.size = self.total if self._size is None else min(self.total, self._size)
                self._unread = 2 * end.size  # what changes is read twice
            found = self._perform(end)
        except BaseException:
            end.close()
            raise
        self.leave(end)
        return found

    def _note(self, count: int) -> None:
        """Take note of bytes that were read there, which are progress as far as there are so many."""
        passed = min(count, self._unread)
        self._unread -= passed
        self.sign(passed, count)

    def _perform(self, end):
        arguments = dict(self._arguments)
        if "algorithms" in arguments:
            wanted = [name if name in end.algorithms else "sha256" for name in arguments["algorithms"]]
            arguments["algorithms"] = list(dict.fromkeys(wanted))
        if (begin_by := arguments.pop("begin_by", None)) is not None:
            # Clocks differ: the far end counts what is left from a question that it has answered.
            end.call("ping")
            arguments["within"] = begin_by - time.monotonic()
        if self._operation != "look":
            return end.call(self._operation, **arguments)
        found, paths = [], arguments.pop("paths")
        for begin in range(0, len(paths), _AT_ONCE):
            found += end.call("look", paths=paths[begin : begin + _AT_ONCE], **arguments)
            self.beat()
        return found


class Greeting(Visit):
    """What a place says of our key as it greets."""

    def __init__(self, place: Place):
        super().__init__(place, "ping")

    def _perform(self, end):
        return getattr(getattr(end, "connection", None), "restriction", None)


def _kind(place: Place) -> tuple:
    """Return what connects to a place that is reached over SSH, and what works over that connection."""
    if place.method == "stream":
        return connect, RemoteEnd
    from caxflow.transfer.sftp import SftpConnection, SftpEnd

    return SftpConnection, SftpEnd


def attend(task: Task, progress=None):
    """Run a task in a thread, watch it from this one, return its result or raise its error.

    Parameters
    ----------
    task : Task
    progress : callable, optional
        Called a few times a second with a `Progress`; what it raises ends the task and is raised here.
    """
    result = []
    ended = threading.Event()

    def run():
        try:
            result.append(task.work())
        except BaseException as error:
            task.stop(error)
        finally:
            try:
                task.close()
            finally:
                ended.set()

    def keep_alive():
        while not ended.wait(max(task.timeout / 6, 1)):
            task.keep_alive()

    worker = started(run)
    try:
        started(keep_alive)
        _watch(task, progress, ended)
    except BaseException as error:
        task.stop(error)
        worker.join(30)
        raise
    worker.join()
    if task.error:
        raise task.error
    if progress:
        progress(task.state(0.0))
    return result[0]


class _Deadline:
    """Ends a task that shows no life, or shows life and does next to nothing."""

    def __init__(self, task: Task):
        self._task, now = task, time.monotonic()
        self._beats, self._alive = -1, now
        self._steps, self._passed, self._moved = -1, 0, now

    def check(self) -> None:
        """Raise a CaxflowError once it is over."""
        task, now = self._task, time.monotonic()
        if task.steps != self._steps or task.passed - self._passed >= _SLOWEST * task.patience:
            self._steps, self._passed, self._moved = task.steps, task.passed, now
        if task.beats != self._beats:
            self._beats, self._alive = task.beats, now
        sites = " and ".join(place.site for place in task.places)
        if now - self._alive > task.timeout:
            waiting = f" ({text})" if (text := task.waiting) else ""
            raise CaxflowError(
                f"{sites}: no progress for {task.timeout:.0f} s{waiting}",
                "check the link and the sites' disks, then start again: what has arrived is kept",
            )
        if now - self._moved > task.patience:
            raise CaxflowError(
                f"{sites}: no progress for {task.patience:.0f} s, but signs of life",
                "see what answers there, and its disks; if they are slow, raise access.timeout of the site",
            )


def _watch(task: Task, progress, ended) -> None:
    deadline = _Deadline(task)
    window: list[tuple[float, int]] = []
    while not ended.wait(_INTERVAL):
        deadline.check()
        if not progress:
            continue
        now, done = time.monotonic(), task.done
        if window and done < window[-1][1]:
            window = []
        window = [*window, (now, done)][-20:]
        elapsed = window[-1][0] - window[0][0]
        progress(task.state((done - window[0][1]) / elapsed if elapsed > 0 else 0.0))
