"""What an end of a transfer can be asked to do with its files.

The same class works here and, called by name through `helper`, at the far end: Python 3.8, standard
library only; arguments and results are plain values.
"""

# ruff: noqa: B905, PTH112, PTH116, PTH120 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from contextlib import suppress

from caxflow import abilities, owners
from caxflow.errors import CaxflowError, DiskAway
from caxflow.files import digests, marker
from caxflow.files.census import census, is_furniture
from caxflow.files.folder import Folder, entries, parent_of
from caxflow.files.listing import FileStat, os_error, printable, to_bytes, to_text, unchanged
from caxflow.files.reading import scan
from caxflow.threads import do_all
from caxflow.transfer import below
from caxflow.transfer.folder import Pace
from caxflow.transfer.part import Part, remove_leftovers

BLOCK = 4 << 20  # bytes; what a resumed file is compared by


class Session:
    """Operations on the files of one end; holds the lock of a copy that is being made there.

    Parameters
    ----------
    report : callable
        Called with a number of bytes as long operations go on (0: still alive).
    roots : sequence of str
        The data roots: below them no symbolic link is followed.
    whose : str, optional
        Whose the copies are that are made here, see `caxflow.transfer.part.Part`.
    """

    def __init__(self, report, roots=(), whose: str | None = None):
        self.report, self._whose = report, whose
        self.roots = tuple(roots)
        self.part = None
        self._listed = None  # path and listing of the dataset that was listed last
        self._asked = None  # when the other end last asked whether this one is there

    def ping(self) -> None:
        """Answer."""
        self._asked = time.monotonic()

    def folder(self, path: str) -> Folder:
        """Open a folder: that of the copy that is being made, or one below a root."""
        if self.part and path == to_text(self.part.data):
            return self.part.folder()
        return Folder(path, self.roots)

    def scan(self, path: str) -> dict:
        """List a dataset; see `caxflow.files.reading.scan`."""
        listing = scan(path, self.report, roots=self.roots)
        self._listed = path, listing
        return {
            "root": listing.root,
            "single": listing.single,
            "files": [list(file) for file in listing.files],
            "directories": list(listing.directories),
        }

    def scan_again(self, path: str):
        """List a dataset once more; None if it is as it was when it was listed last."""
        before = self._listed
        found = self.scan(path)
        return None if self._listed == before else found

    def kind(self, path: str) -> str | None:
        """``file``, ``directory``, ``other``, or None if nothing is there."""
        try:
            with parent_of(path, self.roots) as (folder, name):
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        return "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else "other"

    def free_space(self, path: str):
        """Return the bytes that may still be written where `path` is or will be; None if that is not told."""
        path = to_bytes(path)
        while not os.path.lexists(path) and path not in (b"", b"/"):
            path = os.path.dirname(path)
        return abilities.free_space(path or b".")

    def have_one_file_system(self, one: str, other: str) -> bool:
        """Return whether two folders are on one file system."""
        return os.stat(to_bytes(one)).st_dev == os.stat(to_bytes(other)).st_dev

    def manifests(self, path: str, algorithms, drop_cache: bool) -> dict:
        """Read a dataset; its manifests by algorithm as JSON documents."""
        from caxflow.files.manifest import take_all

        found = take_all(path, algorithms, drop_cache, progress=self.report, roots=self.roots)
        return {name: manifest.to_json() for name, manifest in found.items()}

    def examine(self, path: str, algorithms) -> dict:
        """Read a dataset; as `manifests` does, and see whether its zip files agree with their checksums.

        Returns
        -------
        dict
            ``manifests`` by algorithm; ``zips``, by path: what is wrong, and what is odd.
        """
        from caxflow.files.manifest import take_all
        from caxflow.transfer import zips

        checkers = {}

        def check(file, fd):
            archive = zips.read(file.path, fd, file.size)
            if archive:
                checkers[file.path] = zips.Checker(archive)
            return [checkers[file.path]] if archive else []

        found = take_all(path, algorithms, progress=self.report, check=check, roots=self.roots)
        return {
            "manifests": {name: manifest.to_json() for name, manifest in found.items()},
            "zips": {name: list(checker.results()) for name, checker in checkers.items()},
        }

    def blocks(self, root: str, files, algorithms) -> list:
        """Digests of files and of their blocks, in one pass, to find what an earlier attempt brought.

        Parameters
        ----------
        root : str
            Directory that the files are below.
        files : list of [path, size] or of FileStat as a list
            Of a FileStat it is checked that the file did not change.
        algorithms : list of str
            The first is also taken of each block of `BLOCK` bytes.

        Returns
        -------
        list of (dict of str to str, list of str)
            Digests of the whole file by algorithm, and the digest of each block, for each file.
        """
        with self.folder(root) as folder:
            return [self._blocks(folder, file, algorithms) for file in files]

    def _blocks(self, folder, file, algorithms) -> tuple:
        whole = [digests.hasher(name) for name in algorithms]
        found = []
        view = memoryview(bytearray(min(digests.BUFFER, max(1, file[1]))))
        try:
            fd = folder.open(file[0], os.O_RDONLY)
            try:
                if self.part:
                    # What a disk refused may still be in memory, as if it were there.
                    do_all([lambda _: digests.drop_cache(fd)], lambda: self.report(0))
                size = min(file[1], os.fstat(fd).st_size)  # what was asked for need not be there
                for start in range(0, size, BLOCK):
                    block = digests.hasher(algorithms[0])
                    done, end = start, min(size, start + BLOCK)
                    while done < end:
                        count = os.preadv(fd, [view[: min(len(view), end - done)]], done)
                        if not count:
                            break
                        for each in (block, *whole):
                            each.update(view[:count])
                        done += count
                        self.report(count)
                    found.append(block.hexdigest())
                if len(file) > 2:
                    unchanged(FileStat(*file), os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise os_error(error, folder.root + "/" + file[0]) from None
        return {name: each.hexdigest() for name, each in zip(algorithms, whole)}, found

    def begin(
        self, destination: str, token: str, wait: float, *, files, directories, root, site=None
    ) -> dict:
        """Begin to make a copy.

        Parameters
        ----------
        destination : str
            The path under which it will be published.
        token : str
            The attempt's name.
        wait : float
            Seconds to wait for an earlier attempt's writers.
        files : list of [path, size]
            The files that will be written.
        directories : list of str
            Sub-directories, parents first.
        root : str or None
            The data root, which must exist.
        site : str, optional
            Whose marker the root must have.

        Returns
        -------
        dict
            ``exists``: kind of what is published already under this path (then nothing was begun), else
            None; ``data``: the directory to write to; ``present``: path and size of files left by an
            earlier attempt.
        """
        check_marker(root, site)
        roots = (root, *self.roots) if root else self.roots
        self._parent(destination, root, roots)
        part = Part(destination, token, roots, self._whose)
        try:
            part.begin(wait, alive=lambda: self.report(0))
            exists = self.kind(destination)
            if exists:
                part.discard_empty()
                part.close()
                return {"exists": exists, "data": "", "present": []}
            present = part.keep_only(dict(map(tuple, files)), directories, lambda: self.report(0))
            needed = sum(size for _, size in files) - part.allocated(self.report)
            free = self.free_space(to_text(part.data))
            if free is not None and needed > free:
                part.discard_empty()
                raise CaxflowError(
                    f"no space for {printable(destination)}: {needed / 1e9:.3f} GB to come, "
                    f"{free / 1e9:.3f} GB free",
                    "free space there, then start again",
                )
        except BaseException:
            part.close()
            raise
        self.part = part
        return {"exists": None, "data": to_text(part.data), "present": present}

    def _parent(self, destination: str, root, roots) -> None:
        """Make the directory that will hold the copy, but neither the one above nor the data root."""
        parent = os.path.dirname(to_bytes(destination))
        above = os.path.dirname(parent)
        try:
            if root and parent == to_bytes(root):
                above = parent
                os.stat(parent)
            elif parent:
                with parent_of(parent, roots) as (folder, name):
                    os.mkdir(name, dir_fd=folder)
        except FileExistsError:
            pass
        except FileNotFoundError:
            raise absent(to_text(above)) from None

    def join(self, destination: str, token: str) -> None:
        """Take part in a copy that the same attempt has begun."""
        part = Part(destination, token, self.roots, self._whose)
        try:
            part.join()
        except BaseException:
            part.close()
            raise
        self.part = part

    def publish(self, files, directories, single: bool) -> list:
        """Publish the copy that was begun; see `caxflow.transfer.part.Part.publish`."""
        failed = self.part.publish(files, directories, single, alive=lambda: self.report(0))
        self.part = None
        return failed

    def let_go(self) -> None:
        """Give up the copy that was begun; what has arrived stays for the next attempt."""
        if self.part:
            self.part.discard_empty()
            self.part.close()
            self.part = None

    def leftovers(self, parent: str, older_than: float, only: str | None) -> list:
        """Remove unfinished copies; see `caxflow.transfer.part.remove_leftovers`."""
        how = {"roots": self.roots, "whose": self._whose}
        return remove_leftovers(parent, older_than, only, lambda: self.report(0), **how)

    def inventory(self, path: str) -> dict:
        """What a dataset holds by its folders and the directories of its zip files."""
        from caxflow.transfer import zips

        leftovers = []
        listing = scan(path, self.report, leftovers, self.roots)
        found = {}
        with Folder(listing.root, self.roots) as folder:
            for file in listing.files:
                fd = folder.open(file.path, os.O_RDONLY)
                try:
                    archive = zips.read(file.path, fd, file.size)
                finally:
                    os.close(fd)
                if archive:
                    found[file.path] = archive.contents()
                self.report(0)
        return {
            "files": {file.path: file.size for file in listing.files},
            "directories": list(listing.directories),
            "leftovers": leftovers,
            "zips": found,
        }

    def look(self, paths, opened: bool = False) -> list:
        """What is at each path; see `caxflow.transfer.Look`."""
        return [self._look(path, opened) for path in paths]

    def _look(self, path: str, opened: bool) -> dict:
        kind, listing, error = "other", None, ""
        self.report(0)
        try:
            kind = self.kind(path)
            if kind is not None:
                listing = scan(path, self.report, roots=self.roots)
                with Folder(listing.root, self.roots) as folder:
                    for file in some(listing.files) if opened else ():
                        _read_a_byte(folder, file.path)
        except CaxflowError as wrong:
            error = wrong.what
        except OSError as wrong:
            error = os_error(wrong, path).what
        files = listing.files if listing else ()
        return {
            "kind": kind,
            "files": {file.path: file.size for file in files},
            "error": error,
            "identity": [[file.inode, file.ctime_ns] for file in files],
            "changed": time.time() - max(file.ctime_ns for file in files) / 1e9 if files else None,
        }

    def names(self, folder: str) -> list:
        """Names of what is right in a folder."""
        try:
            with Folder(folder, self.roots) as found:
                return sorted(map(to_text, entries(found.fileno())))
        except OSError as error:
            raise os_error(error, folder) from None

    def census(self, root: str, depth: int) -> list:
        """What is below a root; see `caxflow.files.census.census`."""
        return [list(item) for item in census(root, depth, self.report, self.roots)]

    def permissions(self, path: str, wanted, apply: bool) -> list:
        """How owners, modes and lists of a copy deviate; see `caxflow.files.permissions.deviations`."""
        from caxflow.files.permissions import deviations

        return deviations(path, wanted, apply, self.report, roots=self.roots)

    def root(self, root: str, folder: str, site: str = "") -> dict:
        """What a data root is like, and a folder in it.

        Returns
        -------
        dict
            ``kind`` of the root, a link followed; its ``marker``, the text; whether it is ``empty``; of the
            ``folder``, ``empty``, ``full``, or None if it is not there; which
            ``others`` may write to the root.
        """
        there = os.path.isdir(to_bytes(root))
        return {
            "kind": "directory" if there else self.kind(root),
            "others": owners.shared(os.stat(to_bytes(root))) if there else "",
            "marker": marker.read(root, site),
            "empty": _filling(root) == "empty",
            "folder": _filling(folder, (root,)),
        }

    def markers(self, root: str) -> list:
        """Folder and text of the markers at a root, above it (links resolved), and in its folders."""
        above = os.path.realpath(to_bytes(root))
        folders = [root]
        while above != os.path.dirname(above):
            above = os.path.dirname(above)
            folders.append(to_text(above))
        folders += inner_folders(root)
        found = ((folder, marker.read(folder, roots=(root,))) for folder in folders)
        return [[folder, text] for folder, text in found if text is not None]

    def mark(self, root: str, text: str) -> bool:
        """Give a root its marker, whole or not at all; False if it has one already."""
        with Folder(root) as folder:
            there, name = folder.fileno(), to_bytes(marker.NAME)
            new = name + b"." + os.urandom(4).hex().encode("ascii")
            try:
                _write_new(there, new, text)
                if abilities.attempt(abilities.LINKS, os.link, new, name, src_dir_fd=there, dst_dir_fd=there):
                    _write_new(there, name, text)
                return True
            except FileExistsError:
                return False
            finally:
                with suppress(OSError):
                    os.unlink(new, dir_fd=there)

    def rename(self, old: str, new: str, root: str, new_root: str, site=None) -> bool:
        """Rename a copy from below `root` to below `new_root`, where nothing may be at the new path.

        With `site`, the new root must have the marker of that site.

        Returns
        -------
        bool
            False if the two are on different file systems, and nothing was done.
        """
        check_marker(new_root, site)
        return below.rename(old, new, root, new_root)

    def touch(self, path: str, root: str) -> None:
        """Make an empty file below `root` that is not there yet."""
        below.touch(path, root)

    def link(self, path: str, target: str, root: str) -> bool:
        """Make a symbolic link below `root` with the text `target`; False if something else is there."""
        return below.link(path, target, root)

    def unlink(self, path: str, target: str, root: str) -> None:
        """Remove the symbolic link below `root` with the text `target`, and nothing else."""
        below.unlink(path, target, root)

    def prune(self, path: str, root: str) -> None:
        """Remove the folder `path`, and those above it strictly below `root`, as far as they are empty."""
        below.prune(path, root)

    def remove_tree(self, path: str, root: str, within=None) -> None:
        """Remove a file or directory below `root`, never following a symbolic link; may be gone already.

        Parameters
        ----------
        within : float, optional
            Seconds since the last `ping` within which that must begin.
        """
        since = self._asked if within is not None else None
        below.remove(path, root, lambda: self.report(0), Pace(path, within, since))


def inner_folders(root: str) -> list:
    """Return the folders right in a root, but the file system's own."""
    with os.scandir(to_bytes(root)) as found:
        inner = [each for each in found if not is_furniture(to_text(each.name))]
        return [to_text(each.path) for each in inner if each.is_dir(follow_symlinks=False)]


def some(files, most: int = 16):
    """Return at most so many of the files, from all over the list."""
    return files[:: max(1, -(-len(files) // most))]


def check_marker(root, site) -> None:
    """See that a root, if one is given, has the marker of a site."""
    if root and site:
        if _filling(root) is None:
            raise absent(root)
        marker.check(marker.read(root, site), root, site)


def absent(folder: str) -> DiskAway:
    """Return the error that a folder is missing which is to hold data."""
    return DiskAway(
        f"{printable(folder)}, which is to hold the data, does not exist", "make it, or mount its file system"
    )


def _filling(folder: str, roots=()) -> str | None:
    try:
        with Folder(folder, roots) as found:
            names = map(to_text, entries(found.fileno()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return "empty" if all(map(is_furniture, names)) else "full"


def _write_new(folder: int, name: bytes, text: str) -> None:
    """Write a file that is not there yet, for all to read, and bring it to the disk."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
    try:
        os.write(fd, text.encode("utf-8"))
        abilities.attempt(abilities.MODES, os.fchmod, fd, 0o644)  # else the account that made it reads it
        abilities.sync_file(fd)
    finally:
        os.close(fd)


def _read_a_byte(folder: Folder, path: str) -> None:
    """Open a file for reading and read a byte: what a cache only remembers fails."""
    fd = folder.open(path, os.O_RDONLY)
    try:
        os.read(fd, 1)
    finally:
        os.close(fd)


class Throttle:
    """Collects numbers of bytes and passes on their sum a few times a second, from any thread."""

    def __init__(self, passed_on, interval: float = 0.2):
        self._passed_on, self._interval = passed_on, interval
        self._lock = threading.Lock()
        self._sum, self._last = 0, 0.0

    def __call__(self, count: int) -> None:
        with self._lock:
            self._sum += count
            now = time.monotonic()
            if now - self._last < self._interval:
                return
            self._last, total, self._sum = now, self._sum, 0
        self._passed_on(total)


# What can be asked for by name; of a restricted key, each class as `caxflow.transfer.restriction` has it.
READS = frozenset(
    (
        "ping",
        "scan",
        "scan_again",
        "kind",
        "free_space",
        "have_one_file_system",
        "manifests",
        "examine",
        "blocks",
        "inventory",
        "look",
        "names",
        "census",
        "permissions",  # unless they are to be applied
        "root",
        "markers",
    )
)
# They make a copy where nothing is, and clear up what an attempt of the same key has left.
ADDS = frozenset(("begin", "join", "publish", "let_go", "leftovers"))
CHANGES = frozenset(("mark", "rename", "touch", "link", "unlink", "prune", "remove_tree"))
OPERATIONS = READS | ADDS | CHANGES


def perform(session: Session, name: str, arguments: dict):
    """Call one of the operations; errors of the operating system become CaxflowErrors."""
    if name not in OPERATIONS:
        raise CaxflowError(f"operation {name!r:.40} is unknown", "run the same version of caxflow")
    try:
        return getattr(session, name)(**arguments)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.ECONNRESET):
            raise
        path = next((value for value in arguments.values() if isinstance(value, str)), "")
        raise os_error(error, path) from None
