"""Connections over SSH: OpenSSH's client where it is installed, else paramiko.

Both read the user's ``ssh_config``, use keys or the agent only, and accept no host key that is not known.
"""

import re
import shlex
import shutil
import subprocess
import threading
import time
from contextlib import suppress

from caxflow.errors import CaxflowError
from caxflow.files.listing import legible
from caxflow.transfer import bootstrap
from caxflow.transfer.place import Place
from caxflow.transfer.protocol import JSON, FdChannel, LostError, Stream

_CAUSES = (
    # pattern in what ssh says, what it means, what to do
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed",
        "compare it with the site's manager, then mend known_hosts",
    ),
    (
        r"Host key verification failed|host key is known for|not found in known_hosts",
        "the host key of {host} is not known",
        "get its fingerprint from the site's manager, then add it to known_hosts",
    ),
    (
        r"Permission denied|Authentication failed|No authentication methods|Too many authentication failures",
        "{host} refuses our key",
        "check user and identity of the site, the agent, and the account's authorized_keys there",
    ),
    (
        r"Could not resolve hostname|Name or service not known|Temporary failure in name resolution",
        "the name {host} cannot be resolved",
        "check host of the site, and ssh_config",
    ),
    (
        r"Connection refused|No route to host|Network is unreachable|timed out|port 65535: Connection closed",
        "{host} cannot be reached",
        "check host and port, and that its sshd is up",
    ),
    (
        r"Bad configuration option|Bad owner or permissions on|Can't open user config file",
        "ssh refuses its configuration: {line}",
        "mend that file",
    ),
    (
        r"no matching (cipher|key exchange method|host key type|MAC)",
        "{host} and ssh have no {match[1]} in common",
        "set ciphers of the site to what its sshd offers",
    ),
    (
        r"(?i)command not found|not found$|No such file or directory$",
        "{python} cannot be run at {host}: {line}",
        "set python of the site to a Python 3.8 or newer, or its method to scp",
    ),
    (
        r"(?i)This service allows sftp connections only|administratively|command not allowed",
        "{host} lets us run no program",
        "set method of the site to scp",
    ),
)
_CHATTER = re.compile(r"debug\d: |OpenSSH_|Authenticated to |Transferred: |Bytes per second: |\s*$")


class Connection:
    """A helper at the far end and the stream to it.

    Attributes
    ----------
    stream : Stream
    algorithms : tuple of str
        Digests that the far end can compute, the preferred first.
    cipher : str
        What the bytes are encrypted with.
    """

    def __init__(self, place: Place, channel):
        self.place, self._channel = place, channel
        self.stream = Stream(channel)
        self.algorithms: tuple[str, ...] = ()

    def greet(self) -> None:
        """Start the helper and wait until it answers."""
        guard = threading.Timer(max(self.place.timeout, 20), self.kill)
        guard.daemon = True
        guard.start()
        try:
            self._channel.start()
            self.stream.write(memoryview(bootstrap.program(max(self.place.timeout, 10))))
            self.stream.skip_noise()
            kind, _, _, length = self.stream.header()
            if kind != JSON:
                raise LostError("no greeting")
            hello = self.stream.json(length)["hello"]
            self.algorithms = tuple(str(name) for name in hello["algorithms"])
        except (LostError, OSError, KeyError, TypeError) as error:
            raise self.diagnosis(error) from None
        finally:
            guard.cancel()

    @property
    def cipher(self) -> str:
        return self._channel.cipher

    def diagnosis(self, error) -> CaxflowError:
        """End the connection and say in words why it broke."""
        said, status = self._channel.end(wait=2)
        lines = [line for line in said.splitlines() if not _CHATTER.match(line)]
        text = "\n".join(lines) or str(error)
        for pattern, what, mend in _CAUSES:
            match = re.search(pattern, text, re.MULTILINE)
            if match:
                line = legible(next(line for line in text.splitlines() if match[0] in line))
                place = self.place
                cause = what.format(host=place.host, python=place.python, line=line.strip(), match=match)
                return CaxflowError(f"{place.site}: {cause}", mend)
        if self.algorithms:
            return CaxflowError(
                f"{self.place.site}: the connection to {self.place.host} broke",
                "start again: what has arrived is kept",
            )
        last = legible((lines or [str(error)])[-1].strip())
        return CaxflowError(
            f"{self.place.site}: no helper could be started at {self.place.host} (exit {status}): {last}",
            f"try: ssh {self.place.host} {self.place.python} --version; it must be 3.8 or newer",
        )

    @property
    def round_trip(self) -> float:
        """Seconds that TCP's handshake took; 0 if that is not known."""
        return self._channel.round_trip

    def wait_for_round_trip(self) -> float:
        """The same, as soon as it is known."""
        self._channel.reached.wait(self.place.timeout)
        return self._channel.round_trip

    def kill(self) -> None:
        """End the connection at once; blocked reads and writes fail."""
        self._channel.kill()

    def close(self) -> None:
        """End the connection, when all that was asked has been answered: the helper sees its input end."""
        self.kill()  # to log out in an orderly way takes several round trips
        self._channel.end(wait=5)


def connect(place: Place) -> Connection:
    """Connect to `place`; `Connection.greet` then starts the helper.

    Raises
    ------
    CaxflowError
        In one line: unknown or changed host key, refused key, unreachable, no Python there, …
    """
    openssh = shutil.which("ssh")
    if place.client == "openssh" and not openssh:
        raise CaxflowError(f"{place.site}: there is no ssh on the PATH", "install it, or set client to auto")
    if openssh and place.client != "paramiko":
        return Connection(place, _OpenSsh(place, openssh))
    from caxflow.transfer.paramiko_channel import ParamikoChannel

    return Connection(place, ParamikoChannel(place, bootstrap.command(place.python)))


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
    *before, last = place.jump.split(",")
    user, _, host = last.rpartition("@")
    host, _, port = host.partition(":")
    hop = Place(
        place.site,
        "stream",
        host=host,
        port=int(port) if port else None,
        user=user or None,
        jump=",".join(before) or None,
        identity=place.identity,
        ssh_config=place.ssh_config,
        known_hosts=place.known_hosts,
        timeout=place.timeout,
    )
    command = arguments(hop, program)
    command[command.index("LogLevel=DEBUG1")] = "LogLevel=ERROR"
    # -W needs its forwarding, which ClearAllForwardings would clear.
    command[command.index("ClearAllForwardings=yes")] = "ClearAllForwardings=no"
    return shlex.join(command[:-1]).replace("%", "%%") + " -W %h:%p " + shlex.quote(host)


class _OpenSsh(FdChannel):
    """The helper's standard input and output through a child process ``ssh``."""

    def __init__(self, place: Place, program: str):
        self._process = subprocess.Popen(
            [*arguments(place, program), bootstrap.command(place.python)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # an interrupt from the terminal is for us to handle
        )
        super().__init__(self._process.stdout.fileno(), self._process.stdin.fileno())
        self.cipher = ""
        self.round_trip = 0.0
        self.reached = threading.Event()
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        began = time.monotonic()
        for raw in self._process.stderr:
            line = raw[:500].decode("utf-8", "replace").rstrip()
            agreed = re.match(r"debug1: kex: client->server cipher: (\S+)", line)
            if agreed:
                self.cipher = agreed[1]
            elif line.startswith("debug1: Connecting to "):
                began = time.monotonic()
            elif line == "debug1: Connection established.":
                self.round_trip = time.monotonic() - began
                self.reached.set()
            elif not _CHATTER.match(line):
                self._said = [*self._said[-19:], line]
        self.reached.set()

    def start(self) -> None:
        """The process runs already."""

    def kill(self) -> None:
        self._process.kill()

    def end(self, wait: float) -> tuple[str, int]:
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(wait)
        self._process.stdout.close()
        if not self._listener.is_alive():
            self._process.stderr.close()
        return "\n".join(self._said), self._process.returncode
