"""An end where no program may be run: its files by SFTP, method ``scp``.

OpenSSH's ``scp`` speaks SFTP too since version 9. Without a helper nothing can be hashed there, so what was
written is read back. Each attempt writes to a container of its own, as nothing can be locked.
"""

import stat
import time
from collections import deque
from contextlib import contextmanager, suppress

import paramiko
from paramiko.sftp import CMD_EXTENDED, CMD_READ, CMD_STATUS, int64

from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.listing import FileStat, printable, safe_path, unchanged
from caxflow.files.manifest import Entry, Manifest
from caxflow.transfer import zips
from caxflow.transfer.paramiko_channel import close_client, open_client, shut
from caxflow.transfer.place import Place

_REQUEST = 1 << 15  # bytes that any server answers at once
_REQUESTS = 64  # on their way at the same time: 2 MiB, as much as OpenSSH's window


class SftpConnection:
    """A login with SFTP, which a `Task` can end."""

    def __init__(self, place: Place):
        self.place = place
        self.client = open_client(place)
        self.cipher = self.client.get_transport().local_cipher
        try:
            self.sftp = self.client.open_sftp()
            self.sftp.get_channel().settimeout(place.timeout)
        except (paramiko.SSHException, EOFError, OSError) as error:
            close_client(self.client)
            raise CaxflowError(
                f"{place.site}: {place.host} offers no SFTP ({error})", "ask the site's manager for it"
            ) from None

    def kill(self) -> None:
        """End it at once; what waits for it fails."""
        shut(self.client)

    def close(self) -> None:
        """Log out."""
        close_client(self.client)


class SftpEnd:
    """The operations of `caxflow.transfer.session.Session` that SFTP can do.

    Parameters
    ----------
    connection : SftpConnection
    report : callable
        Called with numbers of bytes while operations go on.
    """

    remote, helped = True, False
    round_trip = 0.0

    def __init__(self, connection: SftpConnection, report):
        self.connection, self.place = connection, connection.place
        self.algorithms = digests.available()
        self.sftp = connection.sftp
        self._report = report
        self._container = ""
        self._destination = ""

    def call(self, operation: str, **arguments):
        """Perform an operation by name."""
        method = getattr(self, f"_do_{operation}", None)
        if method is None:
            raise CaxflowError(
                f"{self.place.site}: method scp cannot {operation}", "set its method to stream"
            )
        with self.explained(next(iter(arguments.values()), "")):
            return method(**arguments)

    def close(self) -> None:
        """Log out; what was written but not published is removed, if need be over a new connection."""
        if self._container:
            with suppress(CaxflowError, OSError, EOFError, paramiko.SSHException):
                again = SftpConnection(self.place)
                self.sftp = again.sftp
                self._do_let_go()
                again.close()
        self.connection.close()

    @contextmanager
    def explained(self, path):
        """Errors of SFTP in words."""
        try:
            yield
        except CaxflowError:
            raise
        except UnicodeError:
            raise CaxflowError(
                f"{self.place.site}: a name in {path} is not UTF-8",
                "rename it, or set the site's method to stream",
            ) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            cause = getattr(error, "strerror", None) or str(error) or "the connection broke"
            name = getattr(error, "filename", None) or path
            raise CaxflowError(
                f"{self.place.site}: {name}: {cause}", "mend this at the site, then start again"
            ) from None

    # Looking

    def _do_ping(self) -> None:
        self.sftp.stat(".")

    def _do_kind(self, path: str) -> str | None:
        try:
            mode = self.sftp.lstat(path).st_mode
        except FileNotFoundError:
            return None
        return "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else "other"

    def _do_scan(self, path: str) -> dict:
        status = self.sftp.stat(path)
        if stat.S_ISREG(status.st_mode):
            folder, _, name = path.rpartition("/")
            return {"root": folder or "/", "single": True, "files": [_file(name, status)], "directories": []}
        files, directories = [], []
        self._descend(path.rstrip("/"), "", files, directories)
        files.sort(key=lambda file: file[0].encode())
        return {"root": path.rstrip("/"), "single": False, "files": files, "directories": sorted(directories)}

    def _descend(self, root: str, below: str, files: list, directories: list) -> None:
        for entry in self.sftp.listdir_attr(f"{root}/{below}" if below else root):
            path = safe_path(f"{below}/{entry.filename}" if below else entry.filename)
            if stat.S_ISREG(entry.st_mode):
                files.append(_file(path, entry))
            elif stat.S_ISDIR(entry.st_mode):
                directories.append(path)
                self._descend(root, path, files, directories)
            else:
                raise CaxflowError(
                    f"{self.place.site}: {printable(f'{root}/{path}')} is neither file nor directory",
                    "a dataset holds only regular files and directories: remove or replace it",
                )
        self._report(0)

    def _do_free_space(self, path: str) -> int:
        while path not in ("", "/") and self._do_kind(path) is None:
            path = path.rpartition("/")[0]
        # OpenSSH's extension, PROTOCOL 4.4; the reply's fields are all uint64.
        _, reply = self.sftp._request(CMD_EXTENDED, "statvfs@openssh.com", path or "/")
        fields = [reply.get_int64() for _ in range(5)]
        return fields[1] * fields[4]

    def _do_manifests(self, path: str, algorithms, drop_cache: bool) -> dict:
        listing = self._do_scan(path)
        found = {name: [] for name in algorithms}
        for file in map(FileStat._make, listing["files"]):
            hashed = self.hash(f"{listing['root']}/{file.path}", file, algorithms)
            for name in algorithms:
                found[name].append(Entry(file.path, file.size, hashed[name]))
        return {name: Manifest(name, tuple(entries)).to_json() for name, entries in found.items()}

    def _do_inventory(self, path: str) -> dict:
        listing = self._do_scan(path)
        counts = {}
        for file in listing["files"]:
            if file[0].endswith(".zip"):
                with self.sftp.open(f"{listing['root']}/{file[0]}", "rb") as opened:
                    counts[file[0]] = zips.members(opened)
                self._report(0)
        return {"files": {file[0]: file[1] for file in listing["files"]}, "zip_members": counts}

    def _do_look(self, paths) -> list:
        return [self._look(path) for path in paths]

    def _look(self, path: str) -> dict:
        files, error = {}, ""
        kind = self._do_kind(path)
        if kind in ("file", "directory"):
            try:
                files = {file[0]: file[1] for file in self._do_scan(path)["files"]}
            except CaxflowError as wrong:
                error = wrong.what
        return {"kind": kind, "files": files, "error": error}

    def _do_names(self, folder: str) -> list[str]:
        return sorted(self.sftp.listdir(folder))

    # Reading

    def chunks(self, path: str, file: FileStat):
        """The bytes of a file, which must be and stay as it was listed."""
        with self.sftp.open(path, "rb") as opened:
            _unchanged(file, opened.stat())
            yield from _Ahead(self.sftp, opened.handle, file.size)
            _unchanged(file, opened.stat())

    def hash(self, path: str, file: FileStat, algorithms) -> dict[str, str]:
        """Read a file and hash it here."""
        hashers = [digests.hasher(name) for name in algorithms]
        for data in self.chunks(path, file):
            for each in hashers:
                each.update(data)
            self._report(len(data))
        return {name: each.hexdigest() for name, each in zip(algorithms, hashers, strict=True)}

    # Writing

    def _do_begin(self, destination: str, token: str, wait: float, files, directories) -> dict:
        parent, _, name = destination.rpartition("/")
        exists = self._do_kind(destination)
        if exists:
            return {"exists": exists, "data": "", "present": []}
        if self._do_kind(parent) is None:
            with suppress(FileNotFoundError):
                self.sftp.mkdir(parent)
        self._check_space(destination, sum(size for _, size in files))
        self._container, self._destination = f"{parent}/.{name}.part-{token}-caxflow", destination
        self.sftp.mkdir(self._container, 0o700)
        data = f"{self._container}/data"
        self.sftp.mkdir(data)
        for directory in directories:
            self.sftp.mkdir(f"{data}/{directory}")
        return {"exists": None, "data": data, "present": []}

    def _check_space(self, destination: str, needed: int) -> None:
        try:
            free = self._do_free_space(destination)
        except OSError:
            return  # a server that cannot tell
        if needed > free:
            raise CaxflowError(
                f"{self.place.site}: no space for {printable(destination)}: {needed / 1e9:.3f} GB to come, "
                f"{free / 1e9:.3f} GB free",
                "free space there, then start again",
            )

    def write(self, path: str, chunks) -> None:
        """Write a new file and bring it to the disk."""
        with self.sftp.open(path, "wxb") as opened:
            opened.set_pipelined(True)
            last = b""
            for data in chunks:
                opened.write(last + bytes(data[:-1]))
                last = bytes(data[-1:])
            opened.set_pipelined(False)
            opened.write(last)  # waits for the answers to all that was written, errors among them
            with suppress(OSError):  # a server without OpenSSH's extension
                self.sftp._request(CMD_EXTENDED, "fsync@openssh.com", opened.handle)

    def _do_publish(self, files, directories, single: bool) -> None:
        data = f"{self._container}/data"
        there = {(file[0], file[1]) for file in self._do_scan(data)["files"]}
        if there != {(path, size) for path, size, _ in files}:
            raise CaxflowError(
                f"{self.place.site}: files in {printable(self._container)} changed meanwhile",
                "let nothing write there",
            )
        for path, _, mtime_ns in files:
            self.sftp.utime(f"{data}/{path}", (mtime_ns // 10**9, mtime_ns // 10**9))
        if self._do_kind(self._destination):
            raise CaxflowError(
                f"{self.place.site}: {printable(self._destination)} appeared while it was being copied",
                "find out who writes there, then start again",
            )
        self.sftp.rename(f"{data}/{files[0][0]}" if single else data, self._destination)
        self._do_let_go()

    def _do_let_go(self) -> None:
        if self._container:
            container, self._container = self._container, ""
            self._remove(container)

    def _do_leftovers(self, parent: str, older_than: float, only: str | None) -> list[str]:
        removed = []
        for entry in self.sftp.listdir_attr(parent):
            name = entry.filename
            ours = name.startswith(f".{only}.part-" if only else ".") and ".part-" in name
            if not ours or not name.endswith("-caxflow") or not stat.S_ISDIR(entry.st_mode):
                continue
            if time.time() - self._newest(f"{parent}/{name}") >= older_than:
                self._remove(f"{parent}/{name}")
                removed.append(f"{parent}/{name}")
        return removed

    def _newest(self, path: str) -> float:
        listing = self._do_scan(path)
        return max([self.sftp.lstat(path).st_mtime, *(file[2] / 1e9 for file in listing["files"])])

    def _do_rename(self, old: str, new: str, root: str, new_root: str) -> bool:
        old, new = self._beneath(old, root), self._beneath(new, new_root)
        if self._do_kind(new):
            raise CaxflowError(f"{self.place.site}: {printable(new)} exists", "choose another name")
        parent = new.rpartition("/")[0]
        if self._do_kind(parent) is None:
            self.sftp.mkdir(parent)
        self.sftp.rename(old, new)  # SFTP has no word for another file system: a failure like others
        return True

    def _do_prune(self, path: str, root: str) -> None:
        folder, top = self._beneath(path, root), self.sftp.normalize(root).rstrip("/")
        while folder != top:
            with suppress(FileNotFoundError):
                if self.sftp.listdir(folder):
                    return
                self.sftp.rmdir(folder)
            folder = folder.rpartition("/")[0]

    def _do_remove_tree(self, path: str, root: str) -> None:
        self._remove(self._beneath(path, root))

    def _beneath(self, path: str, root: str) -> str:
        parent, _, name = path.rpartition("/")
        real = f"{self.sftp.normalize(parent or '/').rstrip('/')}/{name}"
        above = self.sftp.normalize(root).rstrip("/")
        if name in ("", ".", "..") or not real.startswith(above + "/"):
            raise CaxflowError(
                f"{self.place.site}: {printable(path)} is not below {printable(root)}", "name one that is"
            )
        return real

    def _remove(self, path: str) -> None:
        kind = self._do_kind(path)
        if kind == "directory":
            for entry in self.sftp.listdir_attr(path):
                self._remove(f"{path}/{entry.filename}")
            self.sftp.rmdir(path)
        elif kind:
            self.sftp.remove(path)


class _Ahead:
    """The bytes of an open file, asked for ahead in a sliding window.

    paramiko's own read-ahead holds the whole file in memory and prints a traceback when it is interrupted.
    """

    def __init__(self, sftp, handle: bytes, size: int):
        self._sftp, self._handle, self._size = sftp, handle, size
        self._answers: dict[int, tuple] = {}

    def _async_response(self, kind, message, number) -> None:
        """Called by paramiko with what the server answers."""
        self._answers[number] = (kind, message)

    def _ask(self, offset: int, length: int) -> tuple[int, int, int]:
        number = self._sftp._async_request(self, CMD_READ, self._handle, int64(offset), length)
        return number, offset, length

    def __iter__(self):
        asked, position = deque(), 0
        while asked or position < self._size:
            while position < self._size and len(asked) < _REQUESTS:
                length = min(_REQUEST, self._size - position)
                asked.append(self._ask(position, length))
                position += length
            number, offset, length = asked.popleft()
            while number not in self._answers:
                self._sftp._read_response()
            kind, message = self._answers.pop(number)
            if kind == CMD_STATUS:
                with suppress(EOFError):
                    self._sftp._convert_status(message)
                return  # the file has become shorter: whoever reads will notice
            data = message.get_string()
            yield data
            if len(data) < length:
                asked.appendleft(self._ask(offset + len(data), length - len(data)))


def _file(path: str, status) -> list:
    # SFTP, version 3, tells neither time of change nor inode.
    return [safe_path(path), status.st_size, status.st_mtime * 10**9, 0, 0]


def _unchanged(file: FileStat, status) -> None:
    class Seen:
        st_size, st_mtime_ns, st_ctime_ns, st_ino = status.st_size, status.st_mtime * 10**9, 0, 0

    unchanged(file, Seen)
