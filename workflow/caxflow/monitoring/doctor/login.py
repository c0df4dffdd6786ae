"""Logins by OpenSSH's client, each of which ends in order: servers punish those that are broken off."""

import re
import subprocess
import threading
from dataclasses import dataclass
from typing import IO

from caxflow import legible
from caxflow.transfer import Place, causes, ssh

PATIENCE = 60.0  # s; more than servers give a login
_MOST = 1 << 20  # bytes of what is said and answered
_CHATTER = re.compile(r"debug\d: |OpenSSH_|Transferred: |Bytes per second: |\s*$")
_IN = "Authenticated to "


@dataclass(frozen=True)
class Said:
    """What came of a login: the far end's output and complaints, and why it failed, if it did."""

    out: bytes = b""
    complaints: tuple[str, ...] = ()
    failed: str = ""


class Login:
    """A login that is under way; what it starts there ends with its input.

    Parameters
    ----------
    place : Place
    command : str or None
        What is run there; None for the SFTP server.
    """

    def __init__(self, place: Place, command: str | None):
        *options, host = ssh.arguments(place, session="default" if command else "subsystem", of_config=True)
        called = [*options, host, command] if command else [*options, "-s", host, "sftp"]
        self._place, self._process = place, None
        try:
            self._process = subprocess.Popen(
                called, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            self._error = error.strerror or str(error)
            return
        self._guard = threading.Timer(PATIENCE, self._process.kill)
        self._guard.daemon = True
        self._guard.start()
        self._said: list[bytes] = []
        self._reader = threading.Thread(target=lambda: self._said.append(self._read(self._process.stderr)))
        self._reader.start()

    def answers(self, request: bytes, size: int) -> bool:
        """Send something; return whether so many bytes come back."""
        if self._process is None:
            return False
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
            return len(self._process.stdout.read(size)) == size
        except OSError:
            return False

    def end(self, last: bytes = b"") -> Said:
        """Send the last of its input, and wait for the far end to be done."""
        if self._process is None:
            return Said(failed=self._error)
        try:
            try:
                self._process.stdin.write(last)
                self._process.stdin.close()
            except OSError:
                pass  # it has ended, and says why
            out = self._read(self._process.stdout)
            status = self._process.wait()
            self._reader.join()
        finally:
            self._guard.cancel()
            for stream in (self._process.stdout, self._process.stderr):
                stream.close()
        return self._sum_up(out, b"".join(self._said).decode(errors="replace"), status)

    def _read(self, stream: IO[bytes]) -> bytes:
        """What comes, to its end; of who says more than any login prints, the login ends."""
        data = stream.read(_MOST + 1)
        if len(data) > _MOST:
            self._process.kill()
        return data[:_MOST]

    def _sum_up(self, out: bytes, said: str, status: int) -> Said:
        lines = [legible.line(line.rstrip()) for line in said.splitlines()]
        inside = next((number for number, line in enumerate(lines) if line.startswith(_IN)), None)
        if inside is None:
            known = causes.find(lines, causes.OF_LOGINS, self._place)
            words = [line for line in lines if not _CHATTER.match(line)]
            last = words[-1] if words else f"no answer in {PATIENCE:.0f} s" if status < 0 else "no answer"
            return Said(out, (), known.what.removeprefix(f"{self._place.site}: ") if known else last)
        complaints = tuple(line for line in lines[inside + 1 :] if not _CHATTER.match(line))
        failed = f"exit {status}: {(complaints or ('no answer',))[-1]}" if status else ""
        return Said(out, complaints, failed)
