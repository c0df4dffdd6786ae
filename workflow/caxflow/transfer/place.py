"""A site as an end of a transfer: how it is reached, and within which limits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from caxflow.errors import CaxflowError

METHODS = ("local", "stream", "scp")

# AES-GCM first: half the CPU time of chacha20 on machines with AES instructions, and no separate MAC.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr")

_MOST_HOPS = 16  # jump hosts, which may name jump hosts of their own

LOGIN = 20.0  # seconds that a login which is not needed any more has to end in order


def preferred(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, ...]:
    """Return the ciphers that a client may use, those first that we prefer."""
    return (*(each for each in ours if each in theirs), *(each for each in theirs if each not in ours))


@dataclass(frozen=True)
class Place:
    """Where an end of a transfer is.

    Parameters
    ----------
    site : str
        The site's name, for messages.
    method : str
        ``local`` (this machine or a shared file system), ``stream`` (a helper is started over SSH) or
        ``scp`` (the far end allows only scp and sftp).
    host : str, optional
        Host name, address or alias of the user's ``ssh_config``.
    port : int, optional
        TCP port.
    user : str, optional
        Account.
    jump : str, optional
        Jump host, ``[user@]host[:port]``, several joined by commas.
    identity : str, optional
        Path of the private key; without it agent and ``ssh_config`` decide.
    ssh_config : str, optional
        Path of the configuration instead of ``~/.ssh/config``.
    known_hosts : str, optional
        Path of the known hosts instead of the user's and the system's.
    ciphers : tuple of str
        Those that are tried first, in this order; then come the client's others.
    python : str
        The far end's interpreter, Python 3.8 or newer.
    connections : int, optional
        Connections at the same time; by default as many as the distance asks for, 2 to 8.
    bandwidth : float, optional
        Limit in bytes per second, over all connections of a transfer.
    ledger : str, optional
        Path of a file through which transfers of this machine share that limit.
    timeout : float
        Seconds without progress after which a transfer fails.
    roots : tuple of str
        Its data roots: below them no symbolic link is followed.
    client : str
        ``auto`` (OpenSSH's ``ssh`` where it is on the PATH, else paramiko), ``openssh`` or ``paramiko``.
    hops : int
        Of a jump host, how many are reached through it before the site itself, with it.
    """

    site: str
    method: str = "local"
    host: str | None = None
    port: int | None = None
    user: str | None = None
    jump: str | None = None
    identity: str | None = None
    ssh_config: str | None = None
    known_hosts: str | None = None
    ciphers: tuple[str, ...] = field(default=CIPHERS)
    python: str = "python3"
    connections: int | None = None
    bandwidth: float | None = None
    ledger: str | None = None
    timeout: float = 60.0
    roots: tuple[str, ...] = ()
    client: str = "auto"
    hops: int = 0

    def __post_init__(self):
        if self.method not in METHODS:
            raise CaxflowError(
                f"{self.site}: transfer method {self.method!r} is unknown", f"use one of {', '.join(METHODS)}"
            )
        if self.remote and not self.host:
            raise CaxflowError(
                f"{self.site}: no host is given", f"method {self.method} needs one: access.host of the site"
            )
        for name in ("host", "user", "jump"):
            # OpenSSH takes what begins with a dash for an option, even in a host's place.
            value = getattr(self, name)
            if value and (value.startswith("-") or any(c.isspace() or not c.isprintable() for c in value)):
                raise CaxflowError(
                    f"{self.site}: {name} {value!r} cannot be one", f"correct access.{name} of the site"
                )
        if self.jump:
            self.hop(self.jump)

    @property
    def remote(self) -> bool:
        """Whether it is reached over SSH."""
        return self.method != "local"

    def hop(self, jump: str) -> "Place":
        """The last of the jump hosts `jump`, reached through the others with the same key and known hosts."""
        *before, last = jump.split(",")
        match = re.fullmatch(r"(?:ssh://)?(?:(.+)@)?(\[[^]]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", last)
        if not match:
            raise CaxflowError(
                f"{self.site}: jump {last!r} cannot be one", "write access.jump as [user@]host[:port]"
            )
        if self.hops >= _MOST_HOPS:
            raise CaxflowError(
                f"{self.site}: it is reached through more than {_MOST_HOPS} jump hosts, or a circle of them",
                "correct access.jump of the site, or ProxyJump in ssh_config",
            )
        user, host, port = match.groups()
        return replace(
            self,
            hops=self.hops + 1,
            method="stream",
            host=host.strip("[]"),
            port=int(port) if port else None,
            user=user,
            jump=",".join(before) or None,
        )
