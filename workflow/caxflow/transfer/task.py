"""Work on other machines that is watched, kept alive, and ended when nothing goes on any more."""

import threading
import time
from contextlib import suppress

from caxflow.errors import CaxflowError
from caxflow.threads import explained, started
from caxflow.transfer.ends import LocalEnd, RemoteEnd
from caxflow.transfer.place import Place
from caxflow.transfer.progress import Progress
from caxflow.transfer.ssh import connect

_INTERVAL = 0.25  # seconds between calls of `progress`


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
    beats : int
        Changes whenever something goes on.
    """

    def __init__(self, *places: Place):
        self.places = places
        self.timeout = max(place.timeout for place in places if place.remote or not any_remote(places))
        self.error: BaseException | None = None
        self.stopped = threading.Event()
        self.beats = 0
        self.phase, self.done, self.total = "connecting", 0, 0
        self.files_done, self.files = 0, 0
        self.lock = threading.Lock()
        self._connections: list = []
        self._greeted: list = []  # those of them that may be spoken to
        self._closed = False
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
        """Take note that something goes on, and of bytes that were dealt with.

        Raises
        ------
        StoppedError
            If the task was stopped.
        """
        if self.stopped.is_set():
            raise StoppedError
        with self.lock:
            self.beats += 1
            self.done += count

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

    def open(self, place: Place, report):
        """The end of a transfer at `place`; `report` is called with numbers of bytes it has dealt with."""
        if place.method == "stream":
            connection = self._keep(connect(place))
            self.opening(connection)
            self._greet(connection)
            return RemoteEnd(connection, report)
        if place.method == "scp":
            from caxflow.transfer.sftp import SftpConnection, SftpEnd

            connection = self._keep(SftpConnection(place))
            self._greet(connection)
            return SftpEnd(connection, report)
        return LocalEnd(place, report)

    def _greet(self, connection) -> None:
        connection.greet()
        with self.lock:
            self._greeted.append(connection)

    def opening(self, connection) -> None:
        """Called with a connection whose login has begun."""

    def close(self) -> None:
        """End all connections, in an orderly way."""
        with self.lock:
            self._closed = True
            connections, self._connections, self._greeted = self._connections, [], []
        for connection in connections:
            connection.close()

    def keep_alive(self) -> None:
        """Tell the far ends that we are still here."""
        with self.lock:
            greeted = list(self._greeted)
        for connection in greeted:
            with suppress(Exception):
                connection.keep_alive()

    def state(self, rate: float) -> Progress:
        """How far it is."""
        seconds = time.monotonic() - self.began
        done = min(self.done, self.total)
        return Progress(self.phase, done, self.total, rate, self.files_done, self.files, seconds)


class Visit(Task):
    """One operation at one place."""

    def __init__(self, place: Place, operation: str, total=None, **arguments):
        super().__init__(place)
        self._operation, self._total, self._arguments = operation, total, arguments

    def work(self):
        end = self.open(self.places[0], self.beat)
        try:
            self.phase = "reading"
            if self._total:
                listing = end.call("scan", path=self._total)
                self.files = len(listing["files"])
                self.total = sum(file[1] for file in listing["files"])
            return self._perform(end)
        finally:
            end.close()

    def _perform(self, end):
        arguments = dict(self._arguments)
        if "algorithms" in arguments:
            wanted = [name if name in end.algorithms else "sha256" for name in arguments["algorithms"]]
            arguments["algorithms"] = list(dict.fromkeys(wanted))
        if (begin_by := arguments.pop("begin_by", None)) is not None:
            # Clocks differ: the far end counts what is left from a question that it has answered.
            end.call("ping")
            arguments["within"] = begin_by - time.monotonic()
        return end.call(self._operation, **arguments)


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


def _watch(task: Task, progress, ended) -> None:
    beats, since = -1, time.monotonic()
    window: list[tuple[float, int]] = []
    while not ended.wait(_INTERVAL):
        now = time.monotonic()
        if task.beats != beats:
            beats, since = task.beats, now
        elif now - since > task.timeout:
            raise CaxflowError(
                f"{' and '.join(place.site for place in task.places)}: no progress for {task.timeout:.0f} s",
                "check the link and the sites' disks, then start again: what has arrived is kept",
            )
        if not progress:
            continue
        done = task.done
        if window and done < window[-1][1]:
            window = []
        window = [*window, (now, done)][-20:]
        elapsed = window[-1][0] - window[0][0]
        progress(task.state((done - window[0][1]) / elapsed if elapsed > 0 else 0.0))
