"""An end where no program may be run: its files by SFTP, method ``scp``.

OpenSSH's ``scp`` speaks SFTP too since version 9. Without a helper nothing can be hashed there: what is
there, and what was written, is read back and hashed here.
"""

import errno
import os
import secrets
import stat
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from caxflow.abilities import SYNC_FILES, attempt
from caxflow.errors import CaxflowError, DiskAway
from caxflow.files import census, digests, marker
from caxflow.files.folder import names_below, not_below, split
from caxflow.files.listing import FileStat, is_leftover, os_error, printable, safe_path, unchanged
from caxflow.files.manifest import Entry, Manifest
from caxflow.transfer import causes, zips
from caxflow.transfer.ends import at
from caxflow.transfer.folder import Pace
from caxflow.transfer.limiter import Limiter
from caxflow.transfer.place import Place
from caxflow.transfer.protocol import LostError
from caxflow.transfer.session import BLOCK, some
from caxflow.transfer.sftp_client import CREATE, NEW, READ, WRITE, Attributes, Room, SftpClient
from caxflow.transfer.sftp_part import Beacon, SftpPart, remove_leftovers
from caxflow.transfer.ssh import Connection, open_channel

# Arguments that are paths: of a dataset, and of a folder in which something is done.
_PATHS, _FOLDERS = ("path", "destination"), ("parent", "folder", "root")
_MARKED = 1000  # folders in which a marker is looked for: each takes a round trip
_ROOM = 1 << 20  # bytes: with less free a disk is full


class SftpConnection(Connection):
    """A login with SFTP.

    Attributes
    ----------
    client : SftpClient
    """

    causes = causes.OF_SFTP

    def __init__(self, place: Place, limit: Limiter | None = None):
        super().__init__(place, open_channel(place), limit)
        self.client = SftpClient(self._limited)
        self.host = place.host

    def _begin(self) -> None:
        self.client.greet()
        self._channel.ignore_the_far_end()

    def _mute(self, said: str, status: int) -> CaxflowError:
        place = self.place
        return CaxflowError(
            f"{place.site}: {place.host} begins no SFTP (exit {status}): {said}",
            f"try: sftp {place.host}; ask the site's manager if that fails too",
        )


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
        self.client = connection.client
        self.algorithms = digests.available()
        self._report = report
        self._part: SftpPart | None = None
        self._alive = lambda: None

    def call(self, operation: str, **arguments):
        """Perform an operation by name."""
        method = getattr(self, f"_do_{operation}", None)
        if method is None:
            raise CaxflowError(
                f"{self.place.site}: method scp has no {operation!r}",
                "set access.method of the site to stream",
            )
        self.client.let_go()
        try:
            with self.explained(next(iter(arguments.values()), "")):
                # All that the protocol allows: what is exchanged between two requests is not seen.
                self._check_ways(arguments)
                result = method(**arguments)
                self._check_ways(arguments)
                return result
        except CaxflowError as error:
            raise at(self.place.site, error) from None

    def _check_ways(self, arguments: dict) -> None:
        """See that no path below a root leads over a symbolic link; none is asked about right in a root."""
        for name in (*_PATHS, *_FOLDERS):
            if path := arguments.get(name):
                self._check_way(f"{path}/any" if name in _FOLDERS else path)

    def _check_way(self, path: str) -> None:
        root, names = split(path, self.place.roots)
        at = os.fsdecode(root).rstrip("/")
        if not any(at == each.rstrip("/") for each in self.place.roots):
            return
        for name in map(os.fsdecode, names[:-1]):
            at += f"/{name}"
            if self.client.kind(at) == "other":
                raise not_below(at, os.fsdecode(root), ": it is a symbolic link")

    def close(self) -> None:
        """Log out; a copy that was begun is let go of, if need be over a new connection."""
        part, self._part = self._part, None
        self.connection.close()
        if part:
            part.close()
            with suppress(CaxflowError, OSError, LostError):
                again = SftpConnection(self.place)
                again.greet()
                part.let_go(again.client)
                again.close()

    @contextmanager
    def explained(self, path):
        """Errors of SFTP, and of its connection, in words."""
        try:
            yield
        except (LostError, struct.error) as error:
            raise self.connection.diagnosis(error) from None
        except OSError as error:
            raise self._refused(error, str(path)) from None

    def _refused(self, error: OSError, path: str) -> CaxflowError:
        """Why the server refuses; SFTP has no word for a full disk."""
        name = error.filename or path
        if error.errno == errno.EIO:
            with suppress(OSError, LostError):
                room = self._room(name)
                cause = errno.EROFS if room.read_only else errno.ENOSPC
                full = room.size is not None and room.size < _ROOM
                if room.read_only or full or room.files == 0:
                    error = OSError(cause, os.strerror(cause))
        if error.errno == errno.EIO:
            return CaxflowError(
                f"{self.place.site}: {printable(name)}: the server says only: {error.strerror}",
                "check rights, space and quota there, then start again: what has arrived is kept",
            )
        known = os_error(error, name)
        return CaxflowError(f"{self.place.site}: {known.what}", known.mend)

    # Looking

    def _do_ping(self) -> None:
        self.client.stat(".")

    def _do_kind(self, path: str) -> str | None:
        return self.client.kind(path)

    def _do_scan_again(self, path: str) -> dict:
        return self._do_scan(path)

    def _do_scan(self, path: str, leftovers: list | None = None) -> dict:
        status = self.client.lstat(path)
        if stat.S_ISREG(status.mode):
            folder, _, name = path.rpartition("/")
            return {"root": folder or "/", "single": True, "files": [_file(name, status)], "directories": []}
        if not stat.S_ISDIR(status.mode):
            raise self._irregular(path)
        files, directories = [], []
        self._descend(path.rstrip("/"), "", files, directories, [] if leftovers is None else leftovers)
        files.sort(key=lambda file: os.fsencode(file[0]))
        return {"root": path.rstrip("/"), "single": False, "files": files, "directories": sorted(directories)}

    def _descend(self, root: str, below: str, files: list, directories: list, leftovers: list) -> None:
        for name, status in self.client.listing(f"{root}/{below}" if below else root):
            path = safe_path(f"{below}/{name}" if below else name)
            if stat.S_ISREG(status.mode) and is_leftover(path):
                leftovers.append(path)
            elif stat.S_ISREG(status.mode):
                files.append(_file(path, status))
            elif stat.S_ISDIR(status.mode):
                directories.append(path)
                self._descend(root, path, files, directories, leftovers)
            else:
                raise self._irregular(f"{root}/{path}")
        self._report(0)

    def _irregular(self, path: str) -> CaxflowError:
        return CaxflowError(
            f"{self.place.site}: {printable(path)} is neither file nor directory",
            "a dataset holds only regular files and directories: remove or replace it",
        )

    def _do_free_space(self, path: str) -> int | None:
        try:
            return self._room(path).size
        except OSError:
            return None  # a server that cannot tell

    def _do_have_one_file_system(self, one: str, other: str) -> bool:
        try:
            return self.client.room(one).of == self.client.room(other).of
        except OSError:
            return True  # a server that cannot tell

    def _room(self, path: str) -> Room:
        while path not in ("", "/") and self.client.kind(path) is None:
            path = path.rpartition("/")[0]
        return self.client.room(path or "/")

    def _go_on(self) -> None:
        """Show here and there that something goes on."""
        self._report(0)
        self._alive()

    def _do_manifests(self, path: str, algorithms, drop_cache: bool) -> dict:
        return self._manifests(path, algorithms, lambda file, full: ())

    def _do_examine(self, path: str, algorithms) -> dict:
        checkers = {}

        def check(file: FileStat, full: str) -> Sequence:
            archive = self._archive(full, file.size)
            if archive:
                checkers[file.path] = zips.Checker(archive)
            return [checkers[file.path]] if archive else []

        manifests = self._manifests(path, algorithms, check)
        return {
            "manifests": manifests,
            "zips": {name: list(checker.results()) for name, checker in checkers.items()},
        }

    def _manifests(self, path: str, algorithms, check: Callable[[FileStat, str], Sequence]) -> dict:
        """Read a dataset once; what `check` returns for a file sees its bytes, too."""
        listing = self._do_scan(path)
        found = {name: [] for name in algorithms}
        for file in map(FileStat._make, listing["files"]):
            full = f"{listing['root']}/{file.path}"
            hashed = self.hash(full, file, algorithms, also=check(file, full))
            for name in algorithms:
                found[name].append(Entry(file.path, file.size, hashed[name]))
        return {name: Manifest(name, tuple(entries)).to_json() for name, entries in found.items()}

    def _archive(self, path: str, size: int) -> zips.Archive | None:
        if not path.endswith(".zip"):
            return None
        with _Reader(self.client, path, size) as opened:
            return zips.Archive(opened, size)

    def _do_blocks(self, root: str, files, algorithms) -> list:
        return [self._blocks(f"{root}/{safe_path(file[0])}", file, algorithms) for file in files]

    def _blocks(self, path: str, file, algorithms) -> tuple:
        whole = [digests.hasher(name) for name in algorithms]
        found, block, room = [], None, 0
        handle = self._open(path)
        for data in self.client.read(handle, 0, file[1]):
            view = memoryview(data)
            for each in whole:
                each.update(view)
            while view:
                if not room:
                    found.append(block := digests.hasher(algorithms[0]))
                    room = BLOCK
                part, view = view[:room], view[room:]
                block.update(part)
                room -= len(part)
            self._report(len(data))
            self._alive()
        if len(file) > 2:
            _unchanged(FileStat(*file), self.client.status(handle))
        if self._part:
            self._sync(path, handle)  # its writer may have died before
        self.client.close(handle)
        return (
            {name: each.hexdigest() for name, each in zip(algorithms, whole, strict=True)},
            [each.hexdigest() for each in found],
        )

    def _do_inventory(self, path: str) -> dict:
        leftovers = []
        listing = self._do_scan(path, leftovers)
        found = {}
        for file in listing["files"]:
            if archive := self._archive(f"{listing['root']}/{file[0]}", file[1]):
                found[file[0]] = archive.contents()
            self._report(0)
        return {
            "files": {file[0]: file[1] for file in listing["files"]},
            "directories": listing["directories"],
            "leftovers": leftovers,
            "zips": found,
        }

    def _do_look(self, paths, opened: bool = False) -> list:
        return [self._look(path, opened) for path in paths]

    def _look(self, path: str, opened: bool) -> dict:
        files, error, kind = [], "", "other"
        try:
            self._check_way(path)
            kind = self._do_kind(path)
            if kind is not None:
                listing = self._do_scan(path)
                files = listing["files"]
                for file in some(files) if opened else ():
                    self._read_byte(f"{listing['root'].rstrip('/')}/{file[0]}")
        except CaxflowError as wrong:
            error = wrong.what
        except OSError as wrong:
            error = self._refused(wrong, path).what
        return {
            "kind": kind,
            "files": {file[0]: file[1] for file in files},
            "error": error,
            "identity": [],  # SFTP, version 3, tells neither inodes nor times of change
            "changed": time.time() - max(file[2] for file in files) / 1e9 if files else None,
        }

    def _read_byte(self, path: str) -> None:
        handle = self.client.open(path)
        for _ in self.client.read(handle, 0, 1):
            pass
        self.client.close(handle)

    def _do_census(self, root: str, depth: int) -> list:
        return [list(item) for item in census.items(self._list, root, depth, self._report)]

    def _list(self, path: str) -> Iterator[census.Found]:
        for name, status in self.client.each(path):
            yield census.Found(name, status.mode, status.size, status.mtime)

    def _do_names(self, folder: str) -> list[str]:
        return sorted(name for name, _ in self.client.listing(folder))

    # Reading

    def _open(self, path: str, file: FileStat | None = None) -> bytes:
        # By path first: a server that opens a named pipe waits for its other end.
        status = self.client.lstat(path)
        if not stat.S_ISREG(status.mode):
            raise CaxflowError(
                f"{printable(path)} is no regular file any more",
                "let nothing write to the dataset, then start again",
            )
        if file:
            _unchanged(file, status)
        return self.client.open(path)

    def chunks(self, path: str, file: FileStat, offset: int, length: int):
        """The bytes of a range of a file, which must be and stay as it was listed."""
        handle = self._open(path, file)
        for data in self.client.read(handle, offset, length):
            length -= len(data)
            yield data
        _unchanged(file, self.client.status(handle))
        if length:
            raise CaxflowError(
                f"file {printable(file.path)} became shorter while it was read",
                "let nothing write to the dataset, then start again",
            )
        self.client.close(handle)

    def hash(
        self,
        path: str,
        file: FileStat,
        algorithms,
        offset: int = 0,
        length: int | None = None,
        *,
        also: Sequence = (),
    ) -> dict[str, str]:
        """Read a file, or a range of it, and hash it here; what is given `also` sees its bytes, too."""
        hashers = [digests.hasher(name) for name in algorithms]
        for data in self.chunks(path, file, offset, file.size - offset if length is None else length):
            for each in (*hashers, *also):
                each.update(data)
            self._report(len(data))
            self._alive()
        return {name: each.hexdigest() for name, each in zip(algorithms, hashers, strict=True)}

    def read_back(self, path: str, algorithm: str, offset: int, length: int) -> str:
        """Digest of a range of a file, of what there is of it."""
        hasher = digests.hasher(algorithm)
        handle = self.client.open(path)
        for data in self.client.read(handle, offset, length):
            hasher.update(data)
            self._report(len(data))
            self._alive()
        self.client.close(handle)
        return hasher.hexdigest()

    # Writing

    def _do_begin(
        self, destination: str, token: str, wait: float, *, files, directories, root, site=None
    ) -> dict:
        self._check_marker(root, site)
        part = SftpPart(self.client, destination, token)
        exists = part.begin(wait, alive=self._go_on)
        if exists:
            return {"exists": exists, "data": "", "present": []}
        self._part = part
        present = part.keep_only(dict(map(tuple, files)), directories, self._go_on)
        self._check_space(part, sum(size for _, size in files) - sum(size for _, size in present))
        return {"exists": None, "data": part.data, "present": present}

    def _do_join(self, destination: str, token: str) -> None:
        data = SftpPart(self.client, destination, token).data
        if self.client.kind(data) != "directory":
            raise CaxflowError(f"{self.place.site}: {printable(data)} is not there")

    def _check_space(self, part: SftpPart, needed: int) -> None:
        free = self._do_free_space(part.data)
        if free is not None and needed > free:
            raise CaxflowError(
                f"{self.place.site}: no space for {printable(part.destination)}: {needed / 1e9:.3f} GB to "
                f"come, {free / 1e9:.3f} GB free",
                "free space there, then start again",
            )

    def guard(self, data: str) -> None:
        """Show others, as long as files are written or read, that somebody works on a copy."""
        self._alive = Beacon(self.client, data)

    def write(self, path: str, offset: int, chunks) -> str:
        """Write a range of a file and bring it to the disk; what is lacking for that."""

        def passing():
            for chunk in chunks:
                self._alive()
                yield chunk

        handle = self.client.open(path, WRITE | CREATE)
        self.client.write(handle, offset, passing())
        lacking = self._sync(path, handle)
        self.client.close(handle)
        return lacking

    def _sync(self, path: str, handle: bytes) -> str:
        try:
            return attempt(SYNC_FILES, self.client.sync, handle)
        except OSError:
            with suppress(OSError):  # it may be in the server's memory alone, where the next attempt finds it
                self.client.remove(path)
            raise

    def _do_publish(self, files, directories, single: bool) -> list[str]:
        there = {(file[0], file[1]) for file in self._do_scan(self._part.data)["files"]}
        if there != {(path, size) for path, size, _ in files}:
            raise CaxflowError(
                f"{self.place.site}: files in {printable(self._part.container)} changed meanwhile",
                "let nothing write there",
            )
        failed = self._part.publish(files, single, self._go_on)
        self._part = None
        return failed

    def _do_let_go(self) -> None:
        if self._part:
            part, self._part = self._part, None
            part.let_go(self.client)

    def _do_leftovers(self, parent: str, older_than: float, only: str | None) -> list[str]:
        return remove_leftovers(self.client, parent, older_than, only, self._go_on)

    def _do_root(self, root: str, folder: str, site: str = "") -> dict:
        filling = self._filling(root)
        return {
            "kind": "directory" if filling else self.client.kind(root),
            "marker": self._marker(root, site),
            "empty": filling == "empty",
            "folder": self._filling(folder),
            "others": self._others(root) if filling else "",
        }

    def _others(self, root: str) -> str:
        """Return which others may write to a root, in words."""
        mode = stat.S_IMODE(self.client.stat(root).mode)
        who = "all accounts" if mode & 0o002 else "its group"
        return f"may be written by {who} (mode {mode:04o})" if mode & 0o022 else ""

    def _filling(self, folder: str) -> str | None:
        try:
            if not stat.S_ISDIR(self.client.stat(folder).mode):
                return None
        except FileNotFoundError:
            return None
        names = [name for name, _ in self.client.listing(folder) if not census.is_furniture(name)]
        return "full" if names else "empty"

    def _marker(self, root: str, site: str = "") -> str | None:
        path = marker.path(root)
        try:
            marker.check_mode(self.client.lstat(path).mode, root, site)
            handle = self.client.open(path)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise marker.unreadable(root, error) from None
        data = b"".join(self.client.read(handle, 0, marker.LARGEST))
        self.client.close(handle)
        return data.decode("utf-8", "replace")

    def _do_markers(self, root: str) -> list:
        above, folders = self.client.resolve(root), [root]
        while above.strip("/"):
            above = above.rpartition("/")[0]
            folders.append(above or "/")
        listed = self.client.listing(root)
        inner = [
            name for name, status in listed if stat.S_ISDIR(status.mode) and not census.is_furniture(name)
        ]
        folders += [f"{root.rstrip('/')}/{name}" for name in inner[:_MARKED]]
        return [[folder, text] for folder in folders if (text := self._marker(folder)) is not None]

    def _check_marker(self, root: str | None, site: str | None) -> None:
        if root and self.client.kind(root) is None:
            what = f"{self.place.site}: {printable(root)}, which is to hold the data, does not exist"
            raise DiskAway(what, "make it, or mount its file system")
        if root and site:
            marker.check(self._marker(root, site), root, site)

    def _do_mark(self, root: str, text: str) -> bool:
        path = marker.path(root)
        new = f"{path}.{secrets.token_hex(4)}"
        handle = self.client.open(new, WRITE | NEW)
        try:
            self.client.write(handle, 0, [text.encode()])
            attempt(SYNC_FILES, self.client.sync, handle)
            self.client.close(handle)
            self.client.rename(new, path)  # which is refused where the name exists
        except OSError:
            with suppress(OSError):
                self.client.remove(new)
            if self.client.kind(path) is None:
                raise
            return False
        return True

    def _do_rename(self, old: str, new: str, root: str, new_root: str, site: str | None = None) -> bool:
        self._check_marker(new_root, site)
        old, new = self._beneath(old, root), self._beneath(new, new_root)
        taken = CaxflowError(f"{self.place.site}: {printable(new)} exists", "choose another name")
        if self.client.kind(new):
            raise taken
        parent = new.rpartition("/")[0]
        if self.client.kind(parent) is None:
            self.client.make(parent)
        try:
            self.client.rename(old, new)  # SFTP has no word for another file system: a failure like others
        except OSError:
            if self.client.kind(new):
                raise taken from None
            raise
        return True

    def _do_touch(self, path: str, root: str) -> None:
        self.client.close(self.client.open(self._beneath(path, root), WRITE | NEW))

    def _do_link(self, path: str, target: str, root: str) -> bool:
        path = self._beneath(path, root)
        if self.client.kind(path) is None:
            self.client.link(path, target)
        return self._leads_to(path, target)

    def _do_unlink(self, path: str, target: str, root: str) -> None:
        if self._leads_to(path := self._beneath(path, root), target):
            self.client.remove(path)

    def _leads_to(self, path: str, target: str) -> bool:
        """Return whether a symbolic link with the text `target` is at `path`."""
        try:
            return stat.S_ISLNK(self.client.lstat(path).mode) and self.client.target(path) == target
        except FileNotFoundError:
            return False

    def _do_prune(self, path: str, root: str) -> None:
        folder, top = self._beneath(path, root), root.rstrip("/")
        while folder != top:
            with suppress(FileNotFoundError):
                if self.client.listing(folder):
                    return
                self.client.remove_directory(folder)
            folder = folder.rpartition("/")[0]

    def _do_remove_tree(self, path: str, root: str, within: float | None = None) -> None:
        # The server does what it is asked whenever that comes: at most one request is under way at a time.
        pace = Pace(path, within)

        def go_on() -> None:
            self._go_on()
            pace()

        def check(folder: str) -> None:
            self._beneath(f"{folder}/any", root)

        self.client.remove_tree(self._beneath(path, root), go_on, check)

    def _beneath(self, path: str, root: str) -> str:
        """Return `path` once it was found strictly below `root`, with no symbolic link on the way."""
        *above, _ = names_below(path, root)
        at = root.rstrip("/")
        for name in map(os.fsdecode, above):
            at += f"/{name}"
            if self.client.kind(at) not in ("directory", None):
                raise not_below(at, root, ": it is a symbolic link, or no folder")
        return path.rstrip("/")


class _Reader:
    """A file at the far end as `zipfile` reads it."""

    def __init__(self, client: SftpClient, path: str, size: int):
        self._client, self._size, self._at = client, size, 0
        self._handle = client.open(path, READ)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.close(self._handle)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = base + offset
        return self._at

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        data = b"".join(self._client.read(self._handle, self._at, left if count < 0 else min(count, left)))
        self._at += len(data)
        return data


def _file(path: str, status: Attributes) -> list:
    # SFTP, version 3, tells neither time of change nor inode.
    return [safe_path(path), status.size, status.mtime * 10**9, 0, 0]


def _unchanged(file: FileStat, status: Attributes) -> None:
    class Seen:
        st_size, st_mtime_ns, st_ctime_ns, st_ino = status.size, status.mtime * 10**9, 0, 0

    unchanged(file, Seen)
