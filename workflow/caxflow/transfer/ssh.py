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

from caxflow import legible
from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.threads import started
from caxflow.transfer import bootstrap, causes, restriction
from caxflow.transfer.limiter import Limited, Limiter
from caxflow.transfer.place import LOGIN, Place, preferred
from caxflow.transfer.plan import MOST
from caxflow.transfer.protocol import BUFFER, JSON, FdChannel, LostError, OtherVersionError, Stream
from caxflow.transfer.restriction import Restriction

_CHATTER = re.compile(
    r"debug\d: (?!Server accepts key|kex_exchange_identification: banner)"
    r"|OpenSSH_|Authenticated to |Transferred: |Bytes per second: |\s*$"
    r"|\*\* |Warning: Permanently added|Pseudo-terminal will not"
)
# ssh breaks in on a line of the far end, and its own goes on to the line's end.
_ASIDE = re.compile(r"(?<=.)debug\d: .*")

# What ssh_config may say that a program's channel does not bear, and what is said instead. All options of ssh
# are gone through in tests/unit/test_ssh_options.py.
_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "NoHostAuthenticationForLocalhost": "no",  # which may be the end of a tunnel
    "Compression": "no",
    "RekeyLimit": "default 1d",  # new keys each second would let no byte pass; "none" leaves a time as it is
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "PermitLocalCommand": "no",
    "RequestTTY": "no",
    "Tunnel": "no",
    "EscapeChar": "none",
    # A shared connection would carry all streams through one process and one window.
    "ControlMaster": "no",
    "ControlPath": "none",
    "ConnectionAttempts": "1",
    "ServerAliveCountMax": "3",
    "UpdateHostKeys": "no",
    "VisualHostKey": "no",
    "AddKeysToAgent": "no",
    "LogLevel": "DEBUG1",  # says which cipher was agreed on, and how far the login is
}
# Those that not every ssh knows: where `ssh -G` shows them.
_NEWER = {
    "RemoteCommand": "none",
    "StdinNull": "no",
    "ForkAfterAuthentication": "no",
    "ChannelTimeout": "session=0 global=0",
    "ObscureKeystrokeTiming": "no",
    "WarnWeakCrypto": "no",
    "LogVerbose": "none",
}


_LOGIN_AT_MOST = 10  # times as long as one step of a login may take, however many steps a server makes of it


class Connection:
    """A program at the far end and the channel to it.

    Attributes
    ----------
    cipher : str
        What the bytes are encrypted with.
    """

    causes = ()  # of what keeps a program from answering, once we are logged in

    def __init__(self, place: Place, channel, limit: Limiter | None = None):
        self.place, self._channel = place, channel
        self._limited = Limited(channel, limit)
        self._greeted = False
        self._patience = max(place.timeout, 20)
        self._deadline = 0.0
        self._late = False

    def greet(self, alive=lambda: None) -> None:
        """Wait until the program at the far end answers; `alive` is called when the login gets on."""
        answered = threading.Event()
        latest = time.monotonic() + _LOGIN_AT_MOST * self._patience

        def step() -> None:
            if answered.is_set():
                return  # what a far end prints may look like ssh's words
            self._deadline = min(time.monotonic() + self._patience, latest)
            with suppress(Exception):  # of a task that was stopped, which ends this, too
                alive()

        step()
        threading.Thread(target=self._guard, args=(answered,), daemon=True).start()
        try:
            self._channel.start(step)
            self._begin()
            self._greeted = self._limited.logged_in = True
        except (LostError, OSError, struct.error) as error:
            raise self.diagnosis(error) from None
        finally:
            answered.set()

    def _guard(self, answered: threading.Event) -> None:
        """End a login that does not get on."""
        while (left := self._deadline - time.monotonic()) > 0:
            if answered.wait(left):
                return
        self._late = True
        self._channel.destroy()

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
        channel, place = self._channel, self.place
        said, status = channel.end(wait=2)
        lines = [legible.line(line) for line in said.splitlines() if not _CHATTER.match(line)]
        if self._greeted:
            why = f" ({lines[-1].strip()})" if lines else ""
            return CaxflowError(
                f"{place.site}: the connection to {place.host} broke{why}",
                "start again: what has arrived is kept",
            )
        if self._late:
            return CaxflowError(
                f"{place.site}: {place.host}: {channel.waiting} took longer than {self._patience:.0f} s",
                f"try: ssh {place.host}; access.timeout of the site is the seconds that are waited",
            )
        if not channel.authenticated and status in (255, -1):
            known = causes.find(lines, causes.OF_LOGINS, place)
            if isinstance(known, causes.TurnedAway) and not channel.round_trip:
                known = CaxflowError(known.what, known.mend)  # perhaps by what leads there
            return known or CaxflowError(
                f"{place.site}: cannot log in at {place.host}: {(lines or [str(error)])[-1].strip()}",
                f"try: ssh {place.host}",
            )
        if channel.begun:
            lines = lines or ["it said nothing"]
        else:
            # What came in the place of an answer: a shell's complaint, or start-up files.
            lines = [legible.line(line) for line in str(error).splitlines() if line.strip()] + lines
        known = causes.find(lines, self.causes, place)
        return known or self._mute((lines or [str(error)])[-1].strip(), status)

    def limit(self, limit: Limiter | None) -> None:
        """Have another limit hold its bytes back from now on."""
        self._limited.limit = limit

    @property
    def waiting(self) -> str:
        """What the login waits for."""
        return self._channel.waiting

    @property
    def round_trip(self) -> float:
        """Seconds that TCP's handshake took; 0 if that is not known."""
        return self._channel.round_trip

    def keep_alive(self) -> None:
        """Tell the far end, from any thread, that we are still here; not before it has been greeted."""

    def kill(self) -> None:
        """End the connection at once; blocked reads and writes fail.

        A login that is under way ends as soon as it is through: servers count those that are dropped, and
        then shut this address out.
        """
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
    host : str
        What that machine calls itself.
    restriction : Restriction or None
        What our key may do there, where that is less than all.
    """

    causes = causes.OF_HELPERS

    def __init__(self, place: Place, channel, limit: Limiter | None = None):
        super().__init__(place, channel, limit)
        self.stream = Stream(self._limited)
        self.algorithms: tuple[str, ...] = ()
        self.host = place.host
        self.restriction: Restriction | None = None

    def _begin(self) -> None:
        with suppress(LostError):  # what the far end has printed tells why
            self.stream.write(memoryview(bootstrap.program(self._longest_silence(), self.place.roots)))
        try:
            self.stream.skip_noise()
        except OtherVersionError as error:
            mend = "use the same version at both sites: its manager writes caxflow serve anew"
            raise CaxflowError(f"{self.place.site}: {error}", mend) from None
        kind, _, _, length = self.stream.header()
        if kind != JSON:
            raise LostError("no greeting")
        self.stream.largest = BUFFER
        try:
            hello = self.stream.json(length)["hello"]
            self.algorithms = tuple(name for name in digests.ALGORITHMS if name in hello["algorithms"])
            if isinstance(host := hello.get("host"), str):
                self.host = legible.line(host)
            self.restriction = restriction.parsed(hello.get("serve"))
        except (CaxflowError, KeyError, TypeError):
            raise LostError("an odd greeting") from None
        if "sha256" not in self.algorithms:
            raise LostError("an odd greeting")
        if self.restriction:  # the program that has the time-out was dropped
            self.stream.send({"timeout": self._longest_silence()})

    def _longest_silence(self) -> float:
        """Return the seconds after which the far end may take us for dead: a limit holds our bytes back."""
        place = self.place
        held_back = 2 * BUFFER * (place.connections or MOST) / place.bandwidth if place.bandwidth else 0
        return max(place.timeout, 10) + held_back

    def keep_alive(self) -> None:
        self.stream.send({"alive": True})

    def _mute(self, said: str, status: int) -> CaxflowError:
        place = self.place
        if self._channel.begun:
            how = f"ended without an answer (exit {status}): {said}"
            return CaxflowError(
                f"{place.site}: {place.python} at {place.host} {how}",
                "ask the site's manager what its sessions may use (ulimit -a), or set access.method to scp",
            )
        if status in (126, 127):
            return CaxflowError(
                f"{place.site}: {place.python} cannot be run at {place.host}: {said}", causes.OTHER_PYTHON
            )
        return CaxflowError(
            f"{place.site}: no helper could be started at {place.host} (exit {status}): {said}",
            f"try: ssh {place.host} {place.python} --version; it must be 3.8 or newer",
        )


def connect(place: Place, limit: Limiter | None = None) -> HelperConnection:
    """Connect to `place`; `Connection.greet` then starts the helper.

    Raises
    ------
    CaxflowError
        In one line: unknown or changed host key, refused key, unreachable, no Python there, …
    """
    return HelperConnection(place, open_channel(place, bootstrap.command(place.python)), limit)


def open_channel(place: Place, command: str | None = None):
    """A channel to a command at `place`, or to its SFTP server; `start` logs in."""
    openssh = shutil.which("ssh")
    if place.client == "openssh" and not openssh:
        raise CaxflowError(f"{place.site}: there is no ssh on the PATH", "install OpenSSH's client")
    if openssh and place.client != "paramiko":
        return _OpenSsh(place, openssh, command)
    from caxflow.transfer.paramiko_channel import ParamikoChannel

    return ParamikoChannel(place, command)


def arguments(
    place: Place, program: str = "ssh", session: str = "default", *, of_config: bool = False
) -> list[str]:
    """Return OpenSSH's command line up to and including the host, for a kind of session.

    Parameters
    ----------
    of_config : bool
        Whether jump hosts that ssh_config names are gone through under our options, too, as those of the
        place are.
    """
    command = [program, "-T", "-x"]
    if place.ssh_config:
        command += ["-F", place.ssh_config]
    if place.port:
        command += ["-p", str(place.port)]
    if place.user:
        command += ["-l", place.user]
    found = _configured(command, place.host)
    options = _OPTIONS | {name: value for name, value in _NEWER.items() if name.lower() in found}
    options |= {
        # The name may have further addresses, each of which is given as long.
        "ConnectTimeout": str(round(max(2, min(place.timeout / 2, 30)))),
        "ServerAliveInterval": str(max(1, round(place.timeout / 4))),
    }
    if "sessiontype" in found:
        options["SessionType"] = session
    if ciphers := found.get("ciphers"):
        options["Ciphers"] = ",".join(preferred(place.ciphers, ciphers.split(",")))
    if place.known_hosts:
        options |= {"UserKnownHostsFile": place.known_hosts, "GlobalKnownHostsFile": "none"}
        options |= {"KnownHostsCommand": "none"} if "knownhostscommand" in found else {}
    if place.identity:
        options |= {"IdentityFile": place.identity, "IdentitiesOnly": "yes"}
    jump = place.jump or (_jump(place, found) if of_config else None)
    if jump:
        options |= {"ProxyUseFdpass": "no", "ProxyCommand": _proxy(place, jump, program)}
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    return [*command, place.host]


def _configured(command: list[str], host: str) -> dict[str, str]:
    """Return what ssh_config says of a host, by option in lower case; nothing where ssh cannot read it.

    Most that is not set is there with its default.
    """
    with os.fdopen(
        os.memfd_create("ssh -G"), "r+b"
    ) as answer:  # no pipe: what is left running may hold its end
        try:
            subprocess.run(
                [*command, "-G", host],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                timeout=30,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return {}  # why, ssh says again when it is called
        answer.seek(0)
        said = answer.read().decode("utf-8", "replace")
    return {name: value for name, _, value in (line.partition(" ") for line in said.splitlines())}


def _jump(place: Place, found: dict[str, str]) -> str | None:
    """The jump hosts of ``ProxyJump``, but those at which ssh says that they lead to themselves."""
    jump = found.get("proxyjump", "none")
    return jump if jump != "none" and place.hop(jump).host != place.host else None


def _proxy(place: Place, jump: str, program: str) -> str:
    """A ProxyCommand with our own options, key and known hosts, none of which ``-J`` passes on."""
    hop = place.hop(jump)
    command = arguments(hop, program, of_config=True)
    command[command.index("LogLevel=DEBUG1")] = "LogLevel=ERROR"
    # -W needs its forwarding, which ClearAllForwardings would clear.
    command[command.index("ClearAllForwardings=yes")] = "ClearAllForwardings=no"
    return shlex.join(command[:-1]).replace("%", "%%") + " -W '[%h]:%p' " + shlex.quote(hop.host)


class _OpenSsh(FdChannel):
    """Standard input and output of a far program, or of its SFTP server, through a child process ``ssh``.

    Attributes
    ----------
    cipher : str
    round_trip : float
        Seconds that TCP's handshake took; 0 if that is not known.
    waiting : str
        What the login waits for.
    authenticated, begun : bool
        Whether we are logged in, and whether our program has begun there.
    """

    def __init__(self, place: Place, program: str, command: str | None):
        if command:
            called = [*arguments(place, program, of_config=True), command]
        else:
            *options, host = arguments(place, program, "subsystem", of_config=True)
            called = [*options, "-s", host, "sftp"]
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
        self.waiting = "the way there"
        self.authenticated = self.begun = False
        self._own_words = False
        self._unwanted_since: float | None = None
        self._step = lambda: None
        self._said: list[str] = []
        self._lock = threading.Lock()
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

    def _understand(self, said) -> None:
        began = time.monotonic()
        for raw in iter(lambda: said.readline(500), b""):
            line = raw.decode("utf-8", "replace").rstrip()
            agreed = re.match(r"debug1: kex: client->server cipher: (\S+)", line)
            towards = re.match(r"debug1: Connecting to \S+ \[(\S+)\] port (\d+)", line)
            if agreed:
                self.cipher = agreed[1]
            elif towards:
                began = time.monotonic()
                self._next(f"a connection to {towards[1]}, port {towards[2]}")
            elif line == "debug1: Connection established.":
                self.round_trip = time.monotonic() - began
                self._next("the login")
            elif line.startswith("Authenticated to "):
                self._said = []  # a banner, remarks about keys: no cause of what happens from here on
                self._log_in()
                self._next("the answer of what was started there")
            elif bootstrap.MARK in line:
                self._said = []  # what start-up files print is no cause either
                self.begun = True
            elif not _CHATTER.match(line) and (raw.endswith(b"\r\n") or not self._own_words):
                self._said = [*self._said[-19:], _ASIDE.sub("", line)]

    def _next(self, waiting: str) -> None:
        self.waiting = waiting
        self._step()

    def _log_in(self) -> None:
        with self._lock:
            self.authenticated = True
            unwanted = self._unwanted_since is not None
        if unwanted:
            self.destroy()

    def start(self, step) -> None:
        """Have `step` called whenever the login gets on; the process runs already."""
        self._step = step

    def ignore_the_far_end(self) -> None:
        """Take only what ssh says itself for a cause from now on; its lines end as those of terminals."""
        self._own_words, self._said = True, []

    def kill(self) -> None:
        """End it, but a login only once that is through."""
        with self._lock:
            under_way = not self.authenticated
            if under_way and self._unwanted_since is None:
                self._unwanted_since = time.monotonic()
        if not under_way:
            self.destroy()

    def destroy(self) -> None:
        """End it at once, with its ProxyCommand, which it would end itself if it were asked."""
        if self._process.returncode is None:  # it is collected by `end` alone
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self, wait: float) -> tuple[str, int]:
        """Wait until it has ended; what was said, and the status it ended with."""
        if self._unwanted_since is not None:
            wait = max(wait, self._unwanted_since + LOGIN - time.monotonic())
        else:
            with suppress(OSError):
                self._process.stdin.close()
        self._await_end(wait)
        self.destroy()  # what it has started and leaves behind, too
        self._process.wait()
        with suppress(OSError):
            self._process.stdin.close()
        self._listener.join(2)
        self._process.stdout.close()
        return "\n".join(self._said), self._process.returncode

    def _await_end(self, seconds: float) -> None:
        """Wait until it has ended, at most so long, and do not collect it."""
        how, delay = os.WEXITED | os.WNOHANG | os.WNOWAIT, 0.0005
        end = time.monotonic() + seconds
        with suppress(ChildProcessError):  # another thread has collected it
            while not os.waitid(os.P_PID, self._process.pid, how) and (left := end - time.monotonic()) > 0:
                delay = min(2 * delay, left, 0.05)
                time.sleep(delay)
