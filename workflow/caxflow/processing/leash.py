"""Runs one command for as long as its owner lives, then ends it and everything it started.

A program on its own, of the standard library and `caxflow.family`: ``python -I leash.py COMMAND…``. Its input
is a pipe whose other end only the owner holds: whatever ends the owner, kill -9 included, closes it. It stays
in the owner's process group, so that what a batch system does to the job reaches the command as well, and it
ends as the command did, by the same status or signal.
"""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

if __name__ == "__main__":
    # Run as a file, by an interpreter that takes nothing from the environment.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from caxflow import processes
from caxflow.family import adopt_orphans, bury, descendants

_PATIENCE = 10.0  # s from asking to forcing


def main(command: list[str]) -> int:
    """Run `command` with empty input; its exit status, minus the signal's number if one ended it."""
    # Orphans of the command become children of this process, where they are found.
    adopt_orphans()
    processes.mark()  # `caxflow.credentials` answers none of them
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        # A file that is there and not found is a script.
        of_script = isinstance(error, FileNotFoundError) and shutil.which(command[0]) is not None
        sys.stderr.write(f"{command[0]}: {'its #! line: ' * of_script}{error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: process.send_signal(number))
    threading.Thread(target=_watch_owner, daemon=True).start()
    status = process.wait()
    _end_family()
    return status


def _watch_owner() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    _end_family()
    os._exit(1)


def _end_family() -> None:
    deadline = time.monotonic() + _PATIENCE
    asked = set()
    while bury():
        for pid in descendants():
            late = time.monotonic() > deadline
            if late or pid not in asked:
                asked.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.02)


def _end_alike(status: int) -> None:
    """End this process as the command ended, without a core file of its own."""
    if status >= 0:
        sys.exit(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


if __name__ == "__main__":
    _end_alike(main(sys.argv[1:]))
