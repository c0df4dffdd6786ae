"""Connections over SSH: OpenSSH's client where it is installed, else paramiko.

Both read the user's ``ssh_config``, use keys or the agent only, and accept no host key that is not known.
"""

import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import threading
import time
from contextlib import suppress

from caxflow.errors import CaxflowError
from caxflow.files.listing import legible
from caxflow.threads import started
from caxflow.transfer import bootstrap, causes
from caxflow.transfer.place import Place
from caxflow.transfer.protocol import JSON, FdChannel, LostError, Stream

_CHATTER = re.compile(
    r"debug\d: (?!Server accepts key)|OpenSSH_|Authenticated to |Transferred: |Bytes per second: |\s*$"
)
# ssh breaks in on a line of the far end, and its own goes on to the line's end.
_ASIDE = re.compile(r"(?<=.)debug\d: .*")


class Connection:
    """A program at the far end and the channel to it.

    Attributes
    ----------
    cipher : str
        What the bytes are encrypted with.
    """

    causes = causes.OF_LOGINS

    def __init__(self, place: Place, channel):
        self.place, self._channel = place, channel
        self._greeted = False

    def greet(self) -> None:
        """Wait until the program at the far end answers."""
        guard = threading.Timer(max(self.place.timeout, 20), self.kill)
        guard.daemon = True
        guard.start()
        try:
            self._channel.start()
            self._begin()
            self._greeted = True
        except (LostError, OSError, struct.error) as error:
            raise self.diagnosis(error) from None
        finally:
            guard.cancel()

    def _begin(self) -> None:
        raise NotImplementedError

    def _mute(self, said: str, status: int) -> CaxflowError:
        """What to say of a far end that logged us in and did not answer."""
        raise NotImplementedError

    @property
    def cipher(self) -> str:
        return self._channel.cipher

    def diagnosis(self, error) -> CaxflowError:
        """End the connection and say in words why it broke."""
        said, status = self._channel.end(wait=2)
        lines = [legible(line) for line in said.splitlines() if not _CHATTER.match(line)]
        place = self.place
        if self._greeted:
            why = f" ({lines[-1].strip()})" if lines else ""
            return CaxflowError(
                f"{place.site}: the connection to {place.host} broke{why}",
                "start again: what has arrived is kept",
            )
        # What came in the place of an answer: a shell's complaint, or start-up files.
        lines = [legible(line) for line in str(error).splitlines() if line.strip()] + lines
        known = causes.find(lines, self.causes, place)
        return known or self._mute((lines or [str(error)])[-1].strip(), status)

    @property
    def round_trip(self) -> float:
        """Seconds that TCP's handshake took; 0 if that is not known."""
        return self._channel.round_trip

    def wait_for_round_trip(self) -> float:
        """The same, as soon as it is known; the login goes on meanwhile."""
        self._channel.reached.wait(self.place.timeout)
        return self._channel.round_trip

    def keep_alive(self) -> None:
        """Tell the far end, from any thread, that we are still here; not before it has been greeted."""

    def kill(self) -> None:
        """End the connection at once; blocked reads and writes fail."""
        self._channel.kill()

    def close(self) -> None:
        """End the connection, when all that was asked has been answered: the far end sees its input end."""
        self.kill()  # to log out in an orderly way takes several round trips
        self._channel.end(wait=5)


class HelperConnection(Connection):
    """A helper at the far end and the stream to it.

    Attributes
    ----------
    stream : Stream
    algorithms : tuple of str
        Digests that the far end can compute, the preferred first.
    """

    causes = causes.OF_HELPERS

    def __init__(self, place: Place, channel):
        super().__init__(place, channel)
        self.stream = Stream(channel)
        self.algorithms: tuple[str, ...] = ()

    def _begin(self) -> None:
        with suppress(LostError):  # what the far end has printed tells why
            self.stream.write(memoryview(bootstrap.program(max(self.place.timeout, 10))))
        self.stream.skip_noise()
        kind, _, _, length = self.stream.header()
        if kind != JSON:
            raise LostError("no greeting")
        try:
            hello = self.stream.json(length)["hello"]
            self.algorithms = tuple(str(name) for name in hello["algorithms"])
        except (KeyError, TypeError):
            raise LostError("an odd greeting") from None
        if "sha256" not in self.algorithms:
            raise LostError("an odd greeting")

    def keep_alive(self) -> None:
        self.stream.send({"alive": True})

    def _mute(self, said: str, status: int) -> CaxflowError:
        place = self.place
        return CaxflowError(
            f"{place.site}: no helper could be started at {place.host} (exit {status}): {said}",
            f"try: ssh {place.host} {place.python} --version; it must be 3.8 or newer",
        )


def connect(place: Place) -> HelperConnection:
    """Connect to `place`; `Connection.greet` then starts the helper.

    Raises
    ------
    CaxflowError
        In one line: unknown or changed host key, refused key, unreachable, no Python there, …
    """
    return HelperConnection(place, open_channel(place, bootstrap.command(place.python)))


def open_channel(place: Place, command: str | None = None):
    """A channel to a command at `place`, or to its SFTP server; `start` logs in."""
    openssh = shutil.which("ssh")
    if place.client == "openssh" and not openssh:
        raise CaxflowError(f"{place.site}: there is no ssh on the PATH", "install it, or set client to auto")
    if openssh and place.client != "paramiko":
        return _OpenSsh(place, openssh, command)
    from caxflow.transfer.paramiko_channel import ParamikoChannel

    return ParamikoChannel(place, command)


def arguments(place: Place, program: str = "ssh") -> list[str]:
    """OpenSSH's command line up to and including the host."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "Compression": "no",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "PermitLocalCommand": "no",
        "RemoteCommand": "none",
        "RequestTTY": "no",
        # A shared connection would carry all streams through one process and one window.
        "ControlMaster": "no",
        "ControlPath": "none",
        "ConnectTimeout": str(round(max(5, min(place.timeout, 30)))),
        "ServerAliveInterval": str(max(1, round(place.timeout / 4))),
        "ServerAliveCountMax": "3",
        "Ciphers": ",".join(place.ciphers),
        "LogLevel": "DEBUG1",  # says which cipher was agreed on
    }
    if place.known_hosts:
        options |= {"UserKnownHostsFile": place.known_hosts, "GlobalKnownHostsFile": "none"}
    if place.identity:
        options |= {"IdentityFile": place.identity, "IdentitiesOnly": "yes"}
    command = [program, "-T", "-x"]
    if place.ssh_config:
        command += ["-F", place.ssh_config]
    if place.jump:
        options["ProxyCommand"] = _proxy(place, program) if place.known_hosts or place.identity else "none"
        if options["ProxyCommand"] == "none":
            del options["ProxyCommand"]
            command += ["-J", place.jump]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    if place.port:
        command += ["-p", str(place.port)]
    if place.user:
        command += ["-l", place.user]
    return [*command, place.host]


def _proxy(place: Place, program: str) -> str:
    """A ProxyCommand with our own key and known hosts, which ``-J`` would not pass on to the jump host."""
    hop = place.hop(place.jump)
    command = arguments(hop, program)
    command[command.index("LogLevel=DEBUG1")] = "LogLevel=ERROR"
    # -W needs its forwarding, which ClearAllForwardings would clear.
    command[command.index("ClearAllForwardings=yes")] = "ClearAllForwardings=no"
    return shlex.join(command[:-1]).replace("%", "%%") + " -W %h:%p " + shlex.quote(hop.host)


class _OpenSsh(FdChannel):
    """Standard input and output of a far program, or of its SFTP server, through a child process ``ssh``."""

    def __init__(self, place: Place, program: str, command: str | None):
        *options, host = arguments(place, program)
        called = [*options, host, command] if command else [*options, "-s", host, "sftp"]
        self._process = subprocess.Popen(
            called,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # an interrupt from the terminal is for us to handle; see `kill`
        )
        super().__init__(self._process.stdout.fileno(), self._process.stdin.fileno())
        self.cipher = ""
        self.round_trip = 0.0
        self.reached = threading.Event()
        self._said: list[str] = []
        try:
            self._listener = started(self._listen)
        except CaxflowError:
            with self._process:
                self.kill()
            raise

    def _listen(self) -> None:
        # Closed here: another process may hold its other end for longer than anybody waits.
        with self._process.stderr as said:
            self._understand(said)
        self.reached.set()

    def _understand(self, said) -> None:
        began = time.monotonic()
        for raw in iter(lambda: said.readline(500), b""):
            line = raw.decode("utf-8", "replace").rstrip()
            agreed = re.match(r"debug1: kex: client->server cipher: (\S+)", line)
            if agreed:
                self.cipher = agreed[1]
            elif line.startswith("debug1: Connecting to "):
                began = time.monotonic()
            elif line == "debug1: Connection established.":
                self.round_trip = time.monotonic() - began
                self.reached.set()
            elif line.startswith("Authenticated to "):
                self._said = []  # a banner, remarks about keys: no cause of what happens from here on
            elif not _CHATTER.match(line):
                self._said = [*self._said[-19:], _ASIDE.sub("", line)]

    def start(self) -> None:
        """The process runs already."""

    def kill(self) -> None:
        # With its ProxyCommand, which it would end itself if it were asked.
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self, wait: float) -> tuple[str, int]:
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._listener.join(wait)
        self._process.stdout.close()
        return "\n".join(self._said), self._process.returncode
