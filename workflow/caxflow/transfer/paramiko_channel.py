"""Standard input and output of a far program, or of its SFTP server, through paramiko: without ``ssh``."""

import getpass
import logging
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import paramiko

from caxflow import legible
from caxflow.errors import CaxflowError
from caxflow.transfer import causes, ssh_config
from caxflow.transfer.bootstrap import MARK
from caxflow.transfer.place import LOGIN, Place, preferred

# More makes pulls worse: sshd then queues megabytes in a buffer that it shifts byte by byte.
WINDOW = 4 << 20
_PACKET = 1 << 18  # bytes of a packet, as in OpenSSH; paramiko itself reads any
_OVER = "the connection is not needed any more"
_CLOSED = "the connection is closed"
# Without a handler, Python would print paramiko's tracebacks of connections that break.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def open_client(place: Place, reached=None, step=lambda waiting: None) -> paramiko.SSHClient:
    """Log in at `place`, through its jump hosts.

    `reached` is called with the socket and the seconds that TCP's handshake took, or with 0 if the way there
    is through something else; `step` with what is waited for next.

    Raises
    ------
    CaxflowError
        If the host key is not known or has changed, the key is refused or the host cannot be reached.
    """
    settings = ssh_config.settings(place)
    known = ssh_config.known_hosts(place, settings)
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    port = _port(place, settings)
    alias = settings.get("hostkeyalias", settings["hostname"])
    through = []  # what ends the way there, once nothing needs it
    sock = None
    try:
        ssh_config.load_known_hosts(client, known, alias, port, settings.get("hostkeyalias", ""))
        begin = time.monotonic()
        sock = _socket(place, settings, through, step)
        if reached:
            direct = getattr(sock, "family", socket.AF_UNIX) != socket.AF_UNIX
            reached(sock, time.monotonic() - begin if direct else 0.0)
        step("the login")
        client.connect(
            alias,
            port,
            username=place.user or settings.get("user") or getpass.getuser(),
            **_keys(place, settings),
            sock=sock,
            timeout=place.timeout,
            banner_timeout=place.timeout,
            auth_timeout=place.timeout,
            transport_factory=_factory(place),
        )
    except BaseException as error:
        client.close()
        if sock is not None:
            sock.close()  # the client has it only once it logs in
        said = next(filter(None, [end() for end in through]), "")
        if isinstance(error, (OSError, EOFError, paramiko.SSHException)):
            certified = ssh_config.has_authority(known, alias, port)
            # What does not answer may be what leads there.
            named = causes.find([str(error)], causes.OF_PARAMIKO[bool(through) :], place)
            raise (named or _refusal(place, error, settings, certified, said)) from None
        raise
    client.through = through  # ended with it by `close_client`
    return client


def close_client(client: paramiko.SSHClient) -> None:
    """Log out, at the jump hosts too."""
    _log_out(client)
    for end in getattr(client, "through", ()):
        end()


def shut(client: paramiko.SSHClient) -> None:
    """End a login at once, whatever is under way."""
    transport = client.get_transport()
    if transport is not None and transport.sock is not None:
        with suppress(OSError, AttributeError):
            transport.sock.shutdown(socket.SHUT_RDWR)
    _log_out(client)


def _log_out(client: paramiko.SSHClient) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException):  # the jump host may be gone
        client.close()


def _keys(place: Place, settings: dict) -> dict:
    """With which keys to log in, as `paramiko.SSHClient.connect` wants it."""
    named = _named_keys(place, settings)
    files = [str(path) for path in named if path.is_file()]
    certified = None
    certificate = Path(settings.get("certificatefile", "")).expanduser()
    if files and certificate.is_file():
        # Beside the key, where paramiko looks, it need not be.
        certified = paramiko.PKey.from_path(files[0])
        certified.load_certificate(str(certificate))
    return {
        "pkey": certified,
        "key_filename": files,
        "look_for_keys": not named,
        "allow_agent": not place.identity and settings.get("identityagent") != "none",
    }


def _named_keys(place: Place, settings: dict) -> list[Path]:
    named = [place.identity] if place.identity else settings.get("identityfile", [])
    return [Path(name).expanduser() for name in named]


def _port(place: Place, settings: dict) -> int:
    return int(place.port or settings.get("port", 22))


def _socket(place: Place, settings: dict, through: list, step):
    host, port = settings["hostname"], _port(place, settings)
    jump = place.jump or settings.get("proxyjump")
    if jump and jump != "none":
        client = open_client(place.hop(jump), step=step)
        through.append(partial(close_client, client))
        return client.get_transport().open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0))
    if settings.get("proxycommand", "none") != "none":
        proxy = _Proxy(settings["proxycommand"])
        through.append(proxy.end)
        return proxy.sock
    sock = _connection(host, port, max(2, min(place.timeout / 2, 30)), step)
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # paramiko's own keep-alive does not notice a link that was cut; TCP's does.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    quarter = max(1, round(place.timeout / 4))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, quarter)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, quarter)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(place.timeout * 1000))
    return sock


def _connection(host: str, port: int, timeout: float, step) -> socket.socket:
    """Return a connection to the first address of a name that takes one; each is given `timeout` seconds."""
    errors = []
    for _, _, _, _, (address, *_) in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        step(f"a connection to {address}, port {port}")
        try:
            return socket.create_connection((address, port), timeout=timeout)
        except OSError as error:
            errors.append(error)
    raise errors[-1]


class _Proxy:
    """The command of ``ProxyCommand``, run by the user's shell as ssh does it, but on a socket.

    paramiko's own neither ends nor collects the process, cannot be interrupted, and spins once it has ended.

    Attributes
    ----------
    sock : socket.socket
        The other end.
    """

    def __init__(self, command: str):
        with ExitStack() as opened:
            self._said = opened.enter_context(tempfile.TemporaryFile())
            self.sock, theirs = map(opened.enter_context, socket.socketpair())
            self._process = subprocess.Popen(
                [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
                stdin=theirs,
                stdout=theirs,
                stderr=self._said,
                # Or bash takes the socket for a login by rsh and reads its start-up file.
                env={"SHLVL": "1"} | os.environ,
                start_new_session=True,  # an interrupt from the terminal is for us to handle; see `end`
            )
            opened.pop_all()
        theirs.close()

    def end(self) -> str:
        """End the command and what it started; the last line that it said to standard error."""
        self.sock.close()
        if self._process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)  # its input has ended
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._said.closed:
            return ""
        with self._said:
            self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 1000))
            lines = self._said.read().decode("utf-8", "replace").splitlines()
        return next((legible.line(line).strip() for line in reversed(lines) if line.strip()), "")


def _factory(place: Place):
    def transport(sock, **options):
        made = paramiko.Transport(sock, default_window_size=WINDOW, **options)
        made.packetizer.read_all = _up_to(_PACKET, lambda size, *_: size, made.packetizer.read_all)
        security = made.get_security_options()
        security.ciphers = preferred(place.ciphers, security.ciphers)
        return made

    return transport


def _up_to(most: int, size, read):
    """Return a function of paramiko's that is given what a server sends, which ends the login over too much.

    Parameters
    ----------
    most : int
        Bytes.
    size : callable
        Called with the function's arguments: how many there would be.
    """

    def limited(*arguments, **keys):
        if size(*arguments) > most:
            raise paramiko.SSHException(f"the server sends more than the {most} bytes that it may")
        return read(*arguments, **keys)

    return limited


def _refusal(
    place: Place, error: Exception, settings: dict, certified: bool, proxy: str = ""
) -> CaxflowError:
    """Why a login failed; `proxy` is what its ProxyCommand said last."""
    text, agent = str(error), settings.get("identityagent", "SSH_AUTH_SOCK")
    named = _named_keys(place, settings)
    keys = f" {named[0]}" if len(named) == 1 else ""
    asked = ("none", "SSH_AUTH_SOCK", os.environ.get("SSH_AUTH_SOCK"))
    if isinstance(error, paramiko.BadHostKeyException):
        what = f"the host key of {place.host} has changed"
        mend = "compare it with the site's manager, then correct known_hosts"
    elif text == ssh_config.REVOKED:
        what, mend = f"the host key of {place.host} is revoked", "ask the site's manager for the new one"
    elif "not found in known_hosts" in text and certified:
        what = f"the host key of {place.host} is not known, and paramiko cannot check its certificate"
        mend = "install ssh, or add the host's own key to known_hosts"
    elif "not found in known_hosts" in text:
        what = f"the host key of {place.host} is not known"
        mend = "get its fingerprint from the site's manager, then add it to known_hosts"
    elif isinstance(error, paramiko.PasswordRequiredException):
        what, mend = f"the key{keys} is locked with a passphrase", "have an agent hold it: ssh-add"
    elif "private key file" in text:
        what, mend = f"paramiko cannot read the key{keys}: {text}", "name another in ssh_config"
    elif "No authentication methods" in text and named and not any(path.is_file() for path in named):
        what, mend = f"there is no key{keys}", "correct IdentityFile in ssh_config"
    elif isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in text:
        what = f"{place.host} refuses our key"
        mend = causes.REFUSED
        if agent not in asked and str(Path(agent).expanduser()) not in asked:
            what += f", and paramiko cannot ask the agent that IdentityAgent names ({agent})"
            mend = "install ssh, or set SSH_AUTH_SOCK to that agent"
    elif isinstance(error, socket.gaierror):
        what, mend = (
            f"the name {place.host} cannot be resolved",
            "check access.host of the site, and ssh_config",
        )
    else:
        what = f"{place.host} cannot be reached ({proxy or text or type(error).__name__})"
        mend = causes.UNREACHABLE
    return CaxflowError(f"{place.site}: {what}", mend)


@contextmanager
def _broken():
    """Raise OSError where paramiko raises something else when it finds the connection broken."""
    try:
        yield
    except (paramiko.SSHException, EOFError) as error:
        raise OSError(str(error) or _CLOSED) from None


class ParamikoChannel:
    """The interface of `caxflow.transfer.protocol.FdChannel` over a session channel.

    Parameters
    ----------
    place : Place
    command : str or None
        What is run there; without one, its SFTP server.
    """

    def __init__(self, place: Place, command: str | None):
        self._place, self._command = place, command
        self._client = self._sock = self._session = None
        self._over, self._lock = False, threading.Lock()
        self._settled = threading.Event()
        self._own_words = False
        self.cipher = ""
        self.round_trip = 0.0
        self.waiting = "the way there"
        self.authenticated = self.begun = False

    def start(self, step=lambda: None) -> None:
        """Log in and start it; `step` is called when the login gets on."""

        def next_(waiting: str) -> None:
            if self._over and self._sock is None:
                raise OSError(_OVER)  # what the server knows of goes on, and ends in order
            self.waiting = waiting
            step()

        try:
            client = open_client(self._place, self._reach, next_)
            with self._lock:
                self._client, over = client, self._over
                self.authenticated = True
            if over:
                close_client(client)
                raise OSError(_OVER)
        finally:
            self._settled.set()
        next_("the answer of what was started there")
        transport = self._client.get_transport()
        self.cipher = transport.local_cipher
        with _broken():
            self._session = transport.open_session(window_size=WINDOW)
            for pipe in (self._session.in_buffer, self._session.in_stderr_buffer):
                # paramiko takes what comes, whether the server may send it or not.
                pipe.feed = _up_to(2 * WINDOW, lambda data, pipe=pipe: len(pipe) + len(data), pipe.feed)
            try:
                if self._command:
                    self._session.exec_command(self._command)
                else:
                    self._session.invoke_subsystem("sftp")
            except paramiko.SSHException:
                refused = "command not allowed" if self._command else "subsystem request failed"
                raise OSError(refused) from None

    def _reach(self, sock, seconds: float) -> None:
        with self._lock:
            self._sock, self.round_trip = sock, seconds

    def ignore_the_far_end(self) -> None:
        """Take nothing that comes on standard error for a cause from now on."""
        self._own_words = True

    def read_into(self, view) -> int:
        with _broken():  # by what it sends, to make room for more
            data = self._session.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def write_some(self, view) -> int:
        with _broken():
            sent = self._session.send(view)
        if not sent:
            raise OSError(_CLOSED)
        return sent

    def kill(self) -> None:
        """End it, but a login that the server knows of only once it is through."""
        with self._lock:
            self._over = True  # for a login that is under way in another thread
        if self._client is not None:
            shut(self._client)

    def destroy(self) -> None:
        """End it at once."""
        self.kill()
        if self._client is None and self._sock is not None:
            with suppress(OSError, AttributeError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def end(self, wait: float) -> tuple[str, int]:
        """Wait until it has ended; what was said, and the status it ended with."""
        with self._lock:
            over, self._over = self._over, True
        if over and self._sock is not None and not self._settled.wait(LOGIN):
            self.destroy()
        said, status = b"", -1
        if self._session is None:
            if self._client is not None:
                close_client(self._client)
            return "", status
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._session.shutdown_write()
            transport = self._client.get_transport()
            if transport is not None and transport.is_active() and self._session.status_event.wait(wait):
                status = self._session.exit_status
            while self._session.recv_stderr_ready() and len(said) < 1 << 16:
                said += self._session.recv_stderr(1 << 14)
        close_client(self._client)
        _, mark, after = os.fsdecode(said).rpartition(MARK)
        self.begun = bool(mark)
        return "" if self._own_words else after, status
