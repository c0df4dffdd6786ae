"""The helper's standard input and output, and SFTP, through paramiko: for machines without ``ssh``."""

import getpass
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import paramiko

from caxflow.errors import CaxflowError
from caxflow.transfer.place import Place

# More makes pulls worse: sshd then queues megabytes in a buffer that it shifts byte by byte.
WINDOW = 4 << 20


def open_client(place: Place, reached=None) -> paramiko.SSHClient:
    """Log in at `place`, through its jump hosts.

    `reached` is called with the socket and the seconds that TCP's handshake took, or with 0 if the way there
    is through something else.

    Raises
    ------
    CaxflowError
        If the host key is not known or has changed, the key is refused or the host cannot be reached.
    """
    settings = _settings(place)
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    _load_known_hosts(client, place, settings)
    host, port = settings["hostname"], int(place.port or settings.get("port", 22))
    alias = settings.get("hostkeyalias", host)
    through = []
    try:
        begin = time.monotonic()
        sock = _socket(place, settings, host, port, through)
        if reached:
            direct = isinstance(sock, socket.socket)
            reached(sock, time.monotonic() - begin if direct else 0.0)
        client.connect(
            alias,
            port,
            username=place.user or settings.get("user") or getpass.getuser(),
            key_filename=[place.identity] if place.identity else settings.get("identityfile"),
            look_for_keys=not place.identity and "identityfile" not in settings,
            allow_agent=not place.identity,
            sock=sock,
            timeout=max(5, min(place.timeout, 30)),
            banner_timeout=place.timeout,
            auth_timeout=place.timeout,
            transport_factory=_factory(place),
        )
    except BaseException as error:
        client.close()
        for hop in through:
            hop.close()
        if isinstance(error, (OSError, EOFError, paramiko.SSHException)):
            raise _refusal(place, error) from None
        raise
    client.hops = through  # closed with it by `close_client`
    return client


def close_client(client: paramiko.SSHClient) -> None:
    """Log out, at the jump hosts too."""
    client.close()
    for hop in getattr(client, "hops", ()):
        close_client(hop)


def shut(client: paramiko.SSHClient) -> None:
    """End a login at once, whatever is under way."""
    transport = client.get_transport()
    if transport is not None and transport.sock is not None:
        with suppress(OSError, AttributeError):
            transport.sock.shutdown(socket.SHUT_RDWR)
    client.close()


def _settings(place: Place) -> dict:
    path = Path(place.ssh_config) if place.ssh_config else Path("~/.ssh/config").expanduser()
    config = paramiko.SSHConfig()
    if path.is_file():
        config = paramiko.SSHConfig.from_path(str(path))
    elif place.ssh_config:
        raise CaxflowError(f"{place.site}: there is no {path}", "mend ssh_config of the site")
    return config.lookup(place.host)


def _load_known_hosts(client, place: Place, settings: dict) -> None:
    paths = [place.known_hosts] if place.known_hosts else settings.get("userknownhostsfile", "").split()
    paths = paths or ["~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"]
    for path in paths:
        if Path(path).expanduser().is_file():
            client.load_system_host_keys(str(Path(path).expanduser()))


def _socket(place: Place, settings: dict, host: str, port: int, through: list):
    jump = place.jump or settings.get("proxyjump")
    if jump and jump != "none":
        *before, last = jump.split(",")
        user, _, name = last.rpartition("@")
        name, _, number = name.partition(":")
        hop = Place(
            place.site,
            "stream",
            host=name,
            port=int(number) if number else None,
            user=user or None,
            jump=",".join(before) or None,
            identity=place.identity,
            ssh_config=place.ssh_config,
            known_hosts=place.known_hosts,
            ciphers=place.ciphers,
            timeout=place.timeout,
        )
        client = open_client(hop)
        through.append(client)
        return client.get_transport().open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0))
    if settings.get("proxycommand", "none") != "none":
        return paramiko.ProxyCommand(settings["proxycommand"])
    sock = socket.create_connection((host, port), timeout=max(5, min(place.timeout, 30)))
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


def _factory(place: Place):
    def transport(sock, **options):
        made = paramiko.Transport(sock, default_window_size=WINDOW, **options)
        security = made.get_security_options()
        known = [cipher for cipher in place.ciphers if cipher in security.ciphers]
        security.ciphers = tuple(known) or security.ciphers
        return made

    return transport


def _refusal(place: Place, error: Exception) -> CaxflowError:
    if isinstance(error, paramiko.BadHostKeyException):
        what = f"the host key of {place.host} has changed"
        mend = "compare it with the site's manager, then mend known_hosts"
    elif isinstance(error, paramiko.SSHException) and "not found in known_hosts" in str(error):
        what = f"the host key of {place.host} is not known"
        mend = "get its fingerprint from the site's manager, then add it to known_hosts"
    elif isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error):
        what = f"{place.host} refuses our key"
        mend = "check user and identity of the site, the agent, and the account's authorized_keys there"
    elif isinstance(error, socket.gaierror):
        what, mend = f"the name {place.host} cannot be resolved", "check host of the site, and ssh_config"
    else:
        what = f"{place.host} cannot be reached ({str(error) or type(error).__name__})"
        mend = "check host and port, and that its sshd is up"
    return CaxflowError(f"{place.site}: {what}", mend)


class ParamikoChannel:
    """The interface of `caxflow.transfer.protocol.FdChannel` over a session channel."""

    def __init__(self, place: Place, command: str):
        self._place, self._command = place, command
        self._client = self._sock = self._session = None
        self.cipher = ""
        self.round_trip = 0.0
        self.reached = threading.Event()

    def start(self) -> None:
        """Log in and start the command."""
        try:
            self._client = open_client(self._place, self._reach)
        finally:
            self.reached.set()
        transport = self._client.get_transport()
        self.cipher = transport.local_cipher
        self._session = transport.open_session(window_size=WINDOW)
        self._session.exec_command(self._command)

    def _reach(self, sock, seconds: float) -> None:
        self._sock, self.round_trip = sock, seconds
        self.reached.set()

    def read_into(self, view) -> int:
        data = self._session.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def write_some(self, view) -> int:
        sent = self._session.send(view)
        if not sent:
            raise OSError("the connection is closed")
        return sent

    def kill(self) -> None:
        if self._client is not None:
            shut(self._client)
        elif self._sock is not None:
            with suppress(OSError, AttributeError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def end(self, wait: float) -> tuple[str, int]:
        said, status = b"", -1
        if self._session is None:
            return "", status
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._session.shutdown_write()
            transport = self._client.get_transport()
            if transport is not None and transport.is_active() and self._session.status_event.wait(wait):
                status = self._session.exit_status
            while self._session.recv_stderr_ready() and len(said) < 1 << 16:
                said += self._session.recv_stderr(1 << 14)
        close_client(self._client)
        return os.fsdecode(said), status
