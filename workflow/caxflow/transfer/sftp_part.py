"""Where a copy grows at an end that is reached by SFTP only, which knows no locks.

Beside the destination ``<parent>/<name>`` each attempt makes ``<parent>/.<name>.part-<token>-caxflow/`` with
``owner`` (who it is), ``alive`` (there and touched while it writes) and ``data/``. The next attempt moves
``data/`` into its own: one rename, after which a writer that was thought to be dead finds nothing under its
paths. What is in there is read back before it is used.

An attempt is over if it said so (it has no ``owner`` any more), if it ran on this machine and its process is
gone, or if nothing was touched for a time in which a living one would have.
"""

import errno
import os
import re
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

from caxflow import legible
from caxflow.abilities import TIMES, attempt
from caxflow.errors import CaxflowError
from caxflow.files.listing import printable
from caxflow.transfer.protocol import LostError
from caxflow.transfer.sftp_client import CREATE, WRITE, Attributes, SftpClient

_BEAT = 5.0  # seconds
# A server has one word for most that may be wrong.
_TIMES = TIMES._replace(numbers=TIMES.numbers | {errno.EIO})
# Method stream, which can lock, has no token in the name.
_LEFTOVER = re.compile(r"\.(.+)\.part-([0-9a-f]+-)?caxflow", re.DOTALL)


class SftpPart:
    """A growing copy.

    Parameters
    ----------
    client : SftpClient
    destination : str
        The path under which the copy will be published.
    token : str
        Names the attempt.
    """

    def __init__(self, client: SftpClient, destination: str, token: str):
        self._client, self.destination, self._token = client, destination, token
        self._parent, _, self._name = destination.rpartition("/")
        if self._name in ("", ".", ".."):
            raise CaxflowError(f"{printable(destination)} cannot be the name of a copy", "give a full path")
        self.container = f"{self._parent}/.{self._name}.part-{token}-caxflow"
        self.data = f"{self.container}/data"
        self._presence: socket.socket | None = None
        self._made: Attributes | None = None

    def begin(self, wait: float, alive) -> str | None:
        """Make the container and take over what an earlier attempt left.

        Parameters
        ----------
        wait : float
            Seconds to wait for another attempt to end, and after which one that touches nothing is dead.
        alive : callable
            Called now and then while waiting.

        Returns
        -------
        str or None
            The kind of what is published already under the destination; then nothing was begun.
        """
        client = self._client
        self._presence = _announce(self._token)
        try:
            if client.kind(self._parent or "/") is None:
                client.make(self._parent)
            client.make(self.container, 0o700)
            # The server's clock, which its files' times are by.
            self._made = client.lstat(self.container)
            offset = self._made.mtime - time.monotonic()
            deadline = time.monotonic() + wait + 2
            who = f"{self._token} {_machine() or '-'} process {os.getpid()} on {os.uname().nodename}\n"
            _write(client, f"{self.container}/owner", who)
            while not (exists := client.kind(self.destination)):
                late = time.monotonic() > deadline
                holder = self._begin(time.monotonic() + offset - wait)
                if not holder:
                    break
                if late:
                    raise CaxflowError(
                        f"{printable(self.destination)} is being written by another transfer ({holder})",
                        "wait for it, or end it there",
                    )
                alive()
                time.sleep(0.3)
            if not exists:
                self._take_over()
        except BaseException:
            with suppress(OSError, LostError):
                self.let_go(client)
            raise
        if exists:
            with suppress(OSError):  # a server may refuse all removals
                self.let_go(client)
        return exists

    def _others(self) -> list[str]:
        """Containers of other attempts, the one that was last written to first."""
        found = []
        for name, status in self._client.each(self._parent or "/"):
            match = _LEFTOVER.fullmatch(name)
            path = f"{self._parent}/{name}"
            # What others may have written to is not taken over, nor waited for.
            own = status.owner == self._made.owner and not status.mode & ~self._made.mode & 0o022
            if match and match[1] == self._name and match[2] and path != self.container and own:
                found.append((status.mtime, path))
        return [path for _, path in sorted(found, reverse=True)]

    def _begin(self, dead_since: float) -> str:
        """Begin to write if nobody else does; else return who.

        Of two that begin at the same time each sees the other in its second look at the latest; the one whose
        name comes first goes on.
        """
        holder = self._rival(dead_since, lambda path: path < self.container or self._has(path, "alive"))
        if not holder:
            Beacon(self._client, self.data)()
            holder = self._rival(dead_since, lambda path: path < self.container)
            if holder:
                self._client.remove(f"{self.container}/alive")
        return holder

    def _rival(self, dead_since: float, counts) -> str:
        for path in self._others():
            if counts(path):
                holder = self._holder(path, dead_since)
                if holder:
                    return holder
        return ""

    def _holder(self, container: str, dead_since: float) -> str:
        """Who writes to a container or waits to, or an empty string if that attempt is over."""
        try:
            owner = _read(self._client, f"{container}/owner")
        except FileNotFoundError:
            return ""
        token, _, who = owner.partition(" ")
        machine, _, who = who.partition(" ")
        if machine == _machine() and re.fullmatch("[0-9a-f]+", token):
            return legible.line(who) if _lives(token) else ""
        return legible.line(who) if _newest(self._client, container) > dead_since else ""

    def _has(self, container: str, name: str) -> bool:
        return self._client.kind(f"{container}/{name}") is not None

    def _take_over(self) -> None:
        """Make the data directory, or take that of an attempt that is over; only those are left by now."""
        for path in self._others():
            if not self._has(path, "data"):
                continue  # one that is about to begin, and will see this one
            with suppress(OSError):  # somebody else cleans up
                if not self._has(self.container, "data"):
                    self._client.rename(f"{path}/data", self.data)
                self._client.remove_tree(path)
        if not self._has(self.container, "data"):
            self._client.make(self.data)

    def keep_only(self, sizes: dict, directories, alive=lambda: None) -> list:
        """Remove what does not belong to the dataset; make its directories.

        See `caxflow.transfer.part.Part.keep_only`.
        """
        left = []
        self._keep("", sizes, set(directories), left, alive)
        for directory in directories:
            if self._client.kind(f"{self.data}/{directory}") is None:
                self._client.make(f"{self.data}/{directory}")
        return left

    def _keep(self, below: str, sizes: dict, directories: set, left: list, alive) -> None:
        for name, status in self._client.each(f"{self.data}/{below}"):
            path = f"{below}/{name}" if below else name
            if stat.S_ISDIR(status.mode) and path in directories:
                self._keep(path, sizes, directories, left, alive)
            elif stat.S_ISREG(status.mode) and status.size <= sizes.get(path, -1):
                left.append((path, status.size))
            else:
                self._client.remove_tree(f"{self.data}/{path}", alive)

    def publish(self, files, single: bool, alive=lambda: None) -> list[str]:
        """Set times and rename; parameters and result as of `caxflow.transfer.part.Part.publish`."""
        failed = []
        for path, _, mtime_ns in files:
            lacking = attempt(_TIMES, self._client.set_mtime, f"{self.data}/{path}", mtime_ns // 10**9)
            alive()
            if lacking:
                failed = [lacking]
                break
        if self._client.kind(self.destination):
            raise CaxflowError(
                f"{printable(self.destination)} appeared while it was being copied",
                "find out who writes there, then start again",
            )
        self._client.rename(f"{self.data}/{files[0][0]}" if single else self.data, self.destination)
        try:
            self._client.remove_tree(self.container)
        except (OSError, LostError) as error:
            # As where a server refuses all removals.
            why = error.strerror if isinstance(error, OSError) else str(error)
            failed.append(f"{printable(self.container)} could not be removed: {why}")
        self.close()
        return failed

    def close(self) -> None:
        """Tell others on this machine that nothing is written any more."""
        if self._presence:
            self._presence.close()

    def let_go(self, client: SftpClient) -> None:
        """Leave what has arrived to the next attempt, or remove the container if that is nothing."""
        self.close()
        if client.kind(self.data) and _holds_something(client, self.data):
            client.remove(f"{self.container}/owner")
        else:
            client.remove_tree(self.container)


class Beacon:
    """Shows, over any connection, that somebody works on the copy whose growing directory is `data`."""

    def __init__(self, client: SftpClient, data: str):
        self._client, self._path = client, f"{data.rpartition('/')[0]}/alive"
        self._shown = 0.0

    def __call__(self) -> None:
        """To be called often."""
        if time.monotonic() - self._shown > _BEAT:
            self._shown = time.monotonic()
            _write(self._client, self._path, "\n")


def remove_leftovers(
    client: SftpClient, parent: str, older_than: float, only: str | None, alive
) -> list[str]:
    """Remove unfinished copies that nobody writes to any more; see `caxflow.transfer.remove_leftovers`."""
    removed = []
    for name, status in client.listing(parent):
        match = _LEFTOVER.fullmatch(name)
        if not match or (only is not None and match[1] != only) or not stat.S_ISDIR(status.mode):
            continue
        if not older_than or time.time() - _newest(client, f"{parent}/{name}") >= older_than:
            client.remove_tree(f"{parent}/{name}", alive)
            removed.append(f"{parent}/{name}")
    return removed


def _newest(client: SftpClient, path: str) -> int:
    """The latest time of modification below a directory."""
    newest = client.lstat(path).mtime
    for name, status in client.each(path):
        below = f"{path}/{name}"
        newest = max(newest, _newest(client, below) if stat.S_ISDIR(status.mode) else status.mtime)
    return newest


def _holds_something(client: SftpClient, path: str) -> bool:
    return any(
        not stat.S_ISDIR(status.mode) or _holds_something(client, f"{path}/{name}")
        for name, status in client.each(path)
    )


def _write(client: SftpClient, path: str, text: str) -> None:
    handle = client.open(path, WRITE | CREATE)
    client.write(handle, 0, [text.encode()])
    client.close(handle)


def _read(client: SftpClient, path: str) -> str:
    handle = client.open(path)
    data = b"".join(client.read(handle, 0, 300))
    client.close(handle)
    return data.decode("ascii", "replace").strip()


# Whether an attempt on this machine lives: it holds a socket whose name, in Linux' abstract namespace,
# vanishes with it.


def _machine() -> str:
    """What the names of such sockets are unique in; empty where there are none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/net').stat().st_ino}"
    except OSError:
        return ""


def _announce(token: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    with suppress(OSError):
        found.bind(_presence(token))
    return found


def _presence(token: str) -> str:
    return f"\0caxflow-{token}"


def _lives(token: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(_presence(token))
        except OSError:
            return True
    return False
