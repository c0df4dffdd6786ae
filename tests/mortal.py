"""Processes that die, or wait to be killed, right before a step that lasts.

A step that lasts is one that changes files, or asks the database to change something: Python tells of all of
them by itself (`sys.addaudithook`), pymongo by its listeners, so nothing of the program has to be named, and
no step can be forgotten. A write of data is done by half before the process dies.

`Zygote` runs calls in processes of their own, which are forked from one that has imported everything;
`arm` also works in a `sitecustomize` of any Python, to hold it up at a step that a pattern describes.
"""

import contextlib
import importlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

CHANGES = {
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
COMMANDS = {"insert", "update", "delete", "findAndModify", "createIndexes", "bulkWrite"}


def listen(step, *, reading: bool = False) -> None:
    """Have `step` called with a line of text right before each step that lasts, or before a file is read."""

    def heard(event, arguments):
        if event in CHANGES:
            step(f"{event} {' '.join(str(_text(each)) for each in arguments[:2])}")
        elif event == "open" and (reading or (arguments[2] or 0) & WRITING):
            step(f"open {_text(arguments[0])}")

    sys.addaudithook(heard)


def listen_to_database(step) -> None:
    """The same for commands to a database; for clients that are made from now on."""
    from pymongo import monitoring

    class Listener(monitoring.CommandListener):
        def started(self, event):
            if event.command_name in COMMANDS:
                step(f"{event.command_name} {event.command[event.command_name]}")

        def succeeded(self, event):
            pass

        def failed(self, event):
            pass

    monitoring.register(Listener())


def _text(name):
    return os.fsdecode(name) if isinstance(name, bytes) else name


def die() -> None:
    """End this process as a crash does."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)  # the other threads of this process may be the first to notice


class Countdown:
    """Counts the steps below a folder, and dies at one of them."""

    def __init__(self, folder: str, last: int | None):
        self.folder, self.last, self.steps = folder, last, []
        self._numbers = itertools.count(1)

    def __call__(self, step: str) -> None:
        if "/" in step and self.folder not in step:
            return  # elsewhere: its own caches
        self.steps.append(step)
        if next(self._numbers) == self.last:
            die()

    def tear(self) -> None:
        """Count writes of data as well, and do half of the last one; without syncing: no machine crashes."""
        real, os.fsync = os.pwrite, lambda _: None

        def half(handle, data, offset):
            self.steps.append("pwrite")
            if next(self._numbers) == self.last:
                real(handle, bytes(data)[: len(data) // 2], offset)
                die()
            return real(handle, data, offset)

        os.pwrite = half


class Zygote:
    """A process that has imported modules, and forks one that calls a function of theirs.

    Parameters
    ----------
    folder : Path
        Steps below it count.
    modules : list of str
        What to import; the first has the functions.
    """

    def __init__(self, folder: Path, *modules: str):
        self._process = subprocess.Popen(
            [sys.executable, __file__, folder, *modules],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """The process that forks."""
        return self._process.pid

    def call(self, function: str, *arguments, die_at: int | None = None) -> dict:
        """Call it; its ``status``, what it ``said`` at its end and before that (``out``), and its ``steps``.

        The status is negative after a signal, 1 after an exit that is not 0, 2 after an exception.
        """
        order = {"function": function, "arguments": arguments, "die_at": die_at}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _serve(folder: str, names: list[str]) -> None:
    modules = [importlib.import_module(name) for name in names]
    assert threading.active_count() == 1, "a fork would copy half of what other threads are at"
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _perform(modules[0], json.loads(line), folder, writing)
        os.close(writing)
        with open(reading, encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
            said = stream.read()
        _, status = os.waitpid(child, 0)
        answer = json.loads(said) if said else {"said": "", "out": "", "steps": []}
        print(json.dumps(answer | {"status": os.waitstatus_to_exitcode(status)}), flush=True)


def _perform(module, order: dict, folder: str, answer: int) -> None:
    """Call the function, tell what became of it, and end."""
    status, said, out = 3, "", os.memfd_create("out")
    counting = Countdown(folder, order["die_at"])
    with contextlib.suppress(BaseException):
        os.dup2(out, 1)
        os.dup2(out, 2)
        listen(counting)
        listen_to_database(counting)
        counting.tear()
        try:
            getattr(module, order["function"])(*order["arguments"])
            status = 0
        except SystemExit as error:
            status, said = (1, error.code) if error.code else (0, "")
        except BaseException:
            status, said = 2, traceback.format_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        steps, out = list(counting.steps), os.pread(out, 1 << 20, 0).decode()
        if isinstance(said, int):
            said = out  # a command prints its message and exits with a number
        os.write(answer, json.dumps({"said": said, "out": out, "steps": steps}).encode())
    os._exit(status)


class Gate:
    """Holds up the first process that comes to a step; whoever made the gate kills it, or lets it go on.

    Parameters
    ----------
    folder : Path
        A new one, for the gate's own files.
    step : str
        Pattern of the step's text.
    """

    def __init__(self, folder: Path, step: str):
        self.folder = folder
        folder.mkdir()
        (folder / "step").write_text(step)
        code = "import os, sys\nsys.path.append({!r})\nimport mortal\nmortal.stand_at({!r})\n"
        (folder / "sitecustomize.py").write_text(code.format(str(Path(__file__).parent), str(folder)))

    def python(self) -> str:
        """An interpreter that heeds the gate, for the far end."""
        return _python(self.folder)

    def wait(self, process: subprocess.Popen, seconds: float = 120) -> int:
        """Wait until somebody stands there; who it is."""
        deadline = time.monotonic() + seconds
        while not (self.folder / "there").exists():
            assert process.poll() is None, f"it ended before: {process.stdout.read()}"
            assert time.monotonic() < deadline, "nobody came to the gate"
            time.sleep(0.02)
        return int((self.folder / "there").read_text())

    def open(self) -> None:
        """Let it go on, and all that come after it."""
        (self.folder / "open").touch()


class Doom:
    """Kills programs of the far end at a step, counted in each of them; those that read count as well.

    Parameters
    ----------
    folder : Path
        A new one, for its own files.
    below : Path
        Steps below it count, and those whose path is not whole.
    """

    def __init__(self, folder: Path, below: Path):
        self.folder = folder
        folder.mkdir()
        code = "import sys\nsys.path.append({!r})\nimport mortal\nmortal.await_doom({!r}, {!r})\n"
        named = str(Path(__file__).parent), str(folder), str(below)
        (folder / "sitecustomize.py").write_text(code.format(*named))
        self.at(None)

    def at(self, last: int | None) -> None:
        """Die at that step, or never."""
        (self.folder / "last").write_text(str(last or 0))
        (self.folder / "struck").unlink(missing_ok=True)

    @property
    def struck(self) -> bool:
        """Whether somebody died since then."""
        return (self.folder / "struck").exists()

    def python(self) -> str:
        """An interpreter that meets it."""
        return _python(self.folder)


def await_doom(folder: str, below: str) -> None:
    """Count steps and die at one; for a ``sitecustomize``."""
    last, numbers = int(Path(folder, "last").read_text()), itertools.count(1)

    def step(text: str) -> None:
        if (below in text or "/" not in text) and next(numbers) == last:
            os.close(os.open(Path(folder, "struck"), os.O_CREAT))
            die()

    listen(step, reading=True)


def _python(folder: Path) -> str:
    """A Python that has a folder's ``sitecustomize``."""
    path = folder / "python3"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


def stand_at(folder: str) -> None:
    """Heed a gate; for a ``sitecustomize``."""
    pattern = re.compile(Path(folder, "step").read_text())

    def step(text: str) -> None:
        if pattern.search(text) and not Path(folder, "taken").exists():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(Path(folder, "taken"), os.O_CREAT | os.O_EXCL))
                Path(folder, "new").write_text(str(os.getpid()))
                Path(folder, "new").rename(Path(folder, "there"))
                deadline = time.monotonic() + 120
                while not Path(folder, "open").exists() and time.monotonic() < deadline:
                    time.sleep(0.02)

    listen(step)


if __name__ == "__main__":
    # Under the name that others import it by.
    importlib.import_module("mortal")._serve(sys.argv[1], sys.argv[2:])
