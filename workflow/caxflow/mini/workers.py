"""Worker processes that keep the order of their tasks.

Not `multiprocessing`'s: its spawned processes run the main script again, and Snakemake's scripts are no
modules; forked ones inherit locks that other threads hold. These start a fresh interpreter each and end when
their parent does.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

from caxflow.errors import CaxflowError, Overrun

_CHILD = "import sys; from caxflow.mini.workers import serve; serve(int(sys.argv[1]))"
_LIBRARY = str(Path(__file__).resolve().parents[2])

# Tasks that wait at a worker besides the one it does, and results (a worker) that may wait for their turn.
_QUEUED = 1
_BACKLOG = 4
_MORE = "ask for more, or fewer cores"


def ordered_map(function: Callable, tasks: Iterable[tuple], cores: int) -> Iterator:
    """Call ``function(*task)`` for each task on `cores` processes and yield the results in the tasks' order.

    Parameters
    ----------
    function : callable
        Importable by name.
    tasks : iterable of tuple
        Consumed as results are taken, so that memory does not grow with their number.
    cores : int
        1 or less: no process is started.

    Raises
    ------
    CaxflowError
        The one that `function` raised, or that a process was killed.
    """
    if cores <= 1:
        for task in tasks:
            yield function(*task)
        return
    workers = []
    try:
        workers += [_Worker() for _ in range(cores)]
        yield from _run(function, iter(tasks), workers)
    finally:
        for worker in workers:
            worker.stop()


def serve(descriptor: int) -> None:
    """Be a worker: do what comes over the socket until its other end closes."""
    # Ctrl-C reaches the whole process group; the parent decides what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Events are trees of many small objects without cycles; looking for some would take a tenth of the time.
    gc.disable()
    connection = Connection(descriptor)
    try:
        while True:
            index, function, task = connection.recv()
            connection.send((index, *_attempt(function, task)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _attempt(function: Callable, task: tuple) -> tuple:
    try:
        return "done", function(*task)
    except CaxflowError as error:
        return "refused", (error.what, error.mend)
    except MemoryError:
        return "starved", None
    except Exception:
        return "failed", traceback.format_exc()


class _Worker:
    def __init__(self):
        ours, theirs = socket.socketpair()
        with theirs:
            path = os.pathsep.join(filter(None, [_LIBRARY, os.environ.get("PYTHONPATH")]))
            self.process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Each worker is one core's share: numpy is not to start threads of its own.
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        self.connection = Connection(ours.detach())
        self.waiting = 0

    def give(self, message: tuple) -> None:
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None
        self.waiting += 1

    def take(self) -> tuple:
        try:
            index, outcome, value = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._died() from None
        self.waiting -= 1
        if outcome == "refused":
            raise CaxflowError(*value)
        if outcome == "starved":
            raise Overrun("a worker process got no more memory", _MORE)
        if outcome == "failed":
            raise RuntimeError(f"in a worker process:\n{value}")
        return index, value

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()

    def _died(self) -> Overrun:
        code = self.process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return Overrun(f"a worker process {how}", f"most often memory ran out: {_MORE}")


def _run(function, tasks, workers) -> Iterator:
    results, given, taken, exhausted = {}, 0, 0, False
    while True:
        while not exhausted and given - taken < _BACKLOG * len(workers):
            worker = min(workers, key=lambda each: each.waiting)
            if worker.waiting > _QUEUED:
                break
            task = next(tasks, None)
            if task is None:
                exhausted = True
                break
            worker.give((given, function, task))
            given += 1
        if exhausted and taken == given:
            return
        busy = {worker.connection: worker for worker in workers if worker.waiting}
        for connection in wait(list(busy)):
            index, value = busy[connection].take()
            results[index] = value
        while taken in results:
            yield results.pop(taken)
            taken += 1
