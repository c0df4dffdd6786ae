"""Runs one server for as long as its owner lives, then ends it and everything it started.

A program on its own, of the standard library and `caxflow.family`: ``python -I keeper.py COMMAND…``. Its
input is a pipe that only the owner holds. When that closes, because the owner stopped the server or was
killed, nothing of the server is left. The first line on standard output is the server's process id; what the
server writes goes to standard error.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    # Run as a file, by an interpreter that takes nothing from the environment.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from caxflow.family import adopt_orphans, bury, descendants

PR_SET_PDEATHSIG = 1  # linux/prctl.h

PATIENCE = 5.0  # s between two signals; SecantusDB sometimes misses the first


def reap(server: int) -> int | None:
    """Collect ended children; the exit status of `server` if it is among them."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, raw = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == server:
                status = os.waitstatus_to_exitcode(raw)
    return status


def ask_to_end(server: int) -> None:
    """End the server, gently first; whatever it answers, it is gone afterwards."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        os.kill(server, number)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if os.waitpid(server, os.WNOHANG)[0]:
                return
            time.sleep(0.02)


def end_family() -> None:
    """End, without mercy, everything that is left of the server."""
    while bury():
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def main(command: list[str]) -> int:
    """Keep `command` running until it ends or the owner goes; its exit status, 0 if it was told to end."""
    owner = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    adopt_orphans()
    wake, wakened = os.pipe()
    os.set_blocking(wakened, False)
    signal.set_wakeup_fd(wakened, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        # Kept in a variable: a Popen that goes takes the exit status of a child that is gone with it.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            # The server goes even if this process is killed with -9.
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    server = child.pid
    sys.stdout.write(f"{server}\n")
    sys.stdout.flush()
    while (status := reap(server)) is None and os.getppid() == owner:
        # The second is for an owner that forked: then a copy of its end of the pipe may outlive it.
        ready, _, _ = select.select([sys.stdin.fileno(), wake], [], [], 1.0)
        if sys.stdin.fileno() in ready or (wake in ready and set(os.read(wake, 4096)) - {signal.SIGCHLD}):
            break
    if status is None:
        ask_to_end(server)
    end_family()
    return status or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
