"""A server process that ends with its owner, whatever way the owner ends."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from caxflow.errors import CaxflowError

Answer = TypeVar("Answer")

# Below those of ip_local_port_range, as Linux has it unless told otherwise.
_PORTS = range(12_768, 32_768)

_KEEPER = Path(__file__).with_name("keeper.py")


class Server:
    """One server under `caxflow.demo.keeper`, in its own session, so that Ctrl-C is the owner's to handle.

    Parameters
    ----------
    name : str
        What messages call it.
    command : sequence of str
        Program and arguments, run in the foreground.
    log : Path
        Receives what the server prints; begun anew at each start.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path):
        self.name = name
        self.command = [os.fspath(word) for word in command]
        self.log = log
        self.pid: int | None = None
        self._keeper: subprocess.Popen | None = None

    @property
    def running(self) -> bool:
        """Whether the server, or what it left behind, is still there."""
        return self._keeper is not None and self._keeper.poll() is None

    def start(self) -> None:
        """Start the process; `wait` tells when it serves."""
        with self.log.open("wb") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", _KEEPER, *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        with self._keeper.stdout as answer:
            self.pid = int(answer.readline() or 0) or None

    def wait(self, ready: Callable[[], Answer | None], seconds: float = 60.0) -> Answer:
        """Wait until `ready` returns something true, and return that.

        Raises
        ------
        CaxflowError
            With the last line of the log, if the server ends instead or takes longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            running = self.running
            if running and (answer := ready()):
                return answer
            if not running or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        self.stop()
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        how = f"did not answer within {seconds:.0f} s" if running else "ended at its start"
        raise CaxflowError(f"{self.name} {how}: {lines[-1]}", f"read {self.log}")

    def stop(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """End the server and all it started, gently at first; returns when they are gone.

        Until then, `meanwhile` is called again and again.
        """
        if self._keeper is None:
            return
        self._keeper.stdin.close()
        while self._keeper.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._keeper.wait(0.1)
            meanwhile()
        self._keeper = self.pid = None

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would, and what it started after it."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.stop()


def reserve_port(owner: object, wanted: int = 0, host: str = "127.0.0.1") -> int:
    """Return a TCP port of `host` that nothing listens on: `wanted`, if it can be had, or else any other.

    No other caller on this machine gets it as long as `owner` lives, and the kernel gives it to no outgoing
    connection.
    """
    others = random.sample(_PORTS, len(_PORTS))
    for port in [wanted, *others] if wanted else others:
        # A name in Linux' abstract namespace, which vanishes with the process.
        guard = socket.socket(socket.AF_UNIX)
        try:
            guard.bind(f"\0caxflow-port-{port}")
            socket.create_server((host, port)).close()
        except OSError:
            guard.close()  # it is taken
        else:
            weakref.finalize(owner, guard.close)
            return port
    raise CaxflowError(f"no TCP port of {host} is free", "end what listens on them")
