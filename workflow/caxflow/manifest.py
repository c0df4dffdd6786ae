"""Manifests: path, size and digest of every file of a dataset, and what differs between two of them.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
Paths are relative, with ``/``; bytes in a name that are not UTF-8 are kept as surrogate escapes.
"""

# ruff: noqa: B905, PTH116, PTH118, RUF007 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from caxflow import digests
from caxflow.errors import CaxflowError


def to_bytes(path: str) -> bytes:
    """A path as the file system knows it."""
    return os.fspath(path).encode("utf-8", "surrogateescape")


def to_text(path: bytes) -> str:
    """The inverse of `to_bytes`."""
    return path.decode("utf-8", "surrogateescape")


def safe_path(path: str) -> str:
    """Return `path` if it stays below any directory it is joined to.

    Raises
    ------
    CaxflowError
        If it is empty, absolute, has a NUL, an empty component, ``.`` or ``..``, or a component or a
        whole longer than Linux allows (255 and 4095 bytes).
    """
    parts = path.split("/") if isinstance(path, str) else [".."]
    try:
        sizes = [len(to_bytes(part)) for part in parts]
    except UnicodeEncodeError:
        parts = [".."]
    strange = any(part in ("", ".", "..") or "\0" in part for part in parts)
    if strange or max(sizes) > 255 or sum(sizes) + len(sizes) > 4096:
        raise CaxflowError(
            f"file name {path!r:.200} may not be used", "names must be relative and stay inside the dataset"
        )
    return path


@dataclass(frozen=True)
class Entry:
    """One file: relative path, size in bytes, hexadecimal digest."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Difference:
    """How one file of a manifest differs from what was expected.

    `kind` is ``missing``, ``extra``, ``changed`` or ``swapped`` (its content is that of another name, and
    that name's content is elsewhere too); `str()` makes a sentence's part of it.
    """

    kind: str
    path: str
    note: str = ""

    def __str__(self) -> str:
        return f"{printable(self.path)} {self.note or 'is ' + self.kind}"


def printable(path: str) -> str:
    """`path` for a message: quoted where it has spaces, control characters or bytes that are not UTF-8."""
    return path if path.isprintable() and " " not in path and path else repr(path)


@dataclass(frozen=True)
class Manifest:
    """What a dataset holds.

    Parameters
    ----------
    algorithm : str
        Name of the digests, one of `caxflow.digests.ALGORITHMS`.
    entries : tuple of Entry
        Sorted by the bytes of their paths (put into that order here), without repetition.
    """

    algorithm: str
    entries: tuple

    def __post_init__(self):
        if self.algorithm not in digests.ALGORITHMS:
            raise CaxflowError(f"digest {self.algorithm!r:.60} is unknown", "use xxh128 or sha256")
        entries = tuple(sorted(self.entries, key=lambda entry: to_bytes(safe_path(entry.path))))
        for entry, following in zip(entries, entries[1:]):
            if entry.path == following.path:
                raise CaxflowError(f"manifest names {printable(entry.path)} twice", "make it anew")
        object.__setattr__(self, "entries", entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def size(self) -> int:
        """Sum of the files' sizes in bytes."""
        return sum(entry.size for entry in self.entries)

    @property
    def digest(self) -> str:
        """``algorithm:hex`` over all entries; stands for the whole dataset, names included.

        The digest is taken, by the manifest's own algorithm, over one record an entry in order: the
        digest in lower-case hexadecimal, a space, the size in decimal, a space, the path's bytes, NUL.
        """
        total = digests.hasher(self.algorithm)
        for entry in self.entries:
            total.update(f"{entry.digest} {entry.size} ".encode("ascii") + to_bytes(entry.path) + b"\0")
        return f"{self.algorithm}:{total.hexdigest()}"

    def to_json(self) -> dict:
        """A dict of plain values, fit for JSON and BSON; ``files`` holds ``[path, size, digest]``.

        A path that is not UTF-8 is written as ``{"hex": bytes}``, since BSON has no surrogates.
        """
        return {
            "algorithm": self.algorithm,
            "digest": self.digest,
            "size": self.size,
            "files": [[_plain(entry.path), entry.size, entry.digest] for entry in self.entries],
        }

    @classmethod
    def from_json(cls, document) -> Manifest:
        """Read what `to_json` made.

        Raises
        ------
        CaxflowError
            If the document is malformed, names a file outside the dataset, or does not have the digest it
            claims.
        """
        try:
            entries = tuple(
                Entry(_unplain(path), _count(size), _hexadecimal(digest, document["algorithm"]))
                for path, size, digest in document["files"]
            )
            manifest = cls(document["algorithm"], entries)
            claimed = document.get("digest")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CaxflowError(f"manifest cannot be read: {error!r}", "make it anew") from None
        if claimed and manifest.algorithm in digests.available() and claimed != manifest.digest:
            raise CaxflowError(
                f"manifest does not have the digest it claims, {claimed!r:.90}",
                "it was altered: make it anew",
            )
        return manifest

    def to_sums(self) -> str:
        """The lines that ``xxhsum -c`` (xxh128) or ``sha256sum -c`` check, run inside the dataset.

        Raises
        ------
        CaxflowError
            If a name has a line feed or ends in a carriage return, which the format has no way to say.
        """
        for entry in self.entries:
            if "\n" in entry.path or entry.path.endswith("\r"):
                raise CaxflowError(
                    f"file name {entry.path!r} has a line break, which a list of checksums cannot hold",
                    "rename the file at its source",
                )
        return "".join(f"{entry.digest}  {entry.path}\n" for entry in self.entries)

    @classmethod
    def from_sums(cls, text: str, sizes: dict | None = None) -> Manifest:
        r"""Read what `to_sums` wrote; the length of the digests tells the algorithm.

        Parameters
        ----------
        text : str
            The lines, read with ``errors="surrogateescape"`` and ``newline="\n"``.
        sizes : dict of str to int, optional
            Sizes in bytes by path, which the format does not hold; unknown ones are -1.
        """
        entries, lengths = [], set()
        for number, line in enumerate(text.split("\n"), 1):
            if not line:
                continue
            digest, separator, path = line.partition("  ")
            try:
                bytes.fromhex(digest)
            except ValueError:
                separator = ""
            if not separator or not path:
                raise CaxflowError(
                    f"line {number} of the checksums is not a digest, two spaces and a name",
                    "make the file anew",
                )
            lengths.add(len(digest))
            entries.append(Entry(path, (sizes or {}).get(path, -1), digest.lower()))
        if not entries:
            lengths = {32}
        algorithm = {32: "xxh128", 64: "sha256", 128: "sha512", 8: "adler32"}.get(min(lengths))
        if len(lengths) > 1 or algorithm is None:
            raise CaxflowError(
                "checksums are of more than one kind, or of an unknown one", "make the file anew"
            )
        return cls(algorithm, tuple(entries))

    def differences(self, other: Manifest) -> list:
        """How `other` differs from this manifest, which says what is expected.

        Sizes of -1 (unknown) are not compared.

        Returns
        -------
        list of Difference
            In the order of paths; empty if both name the same files with the same contents.
        """
        if self.algorithm != other.algorithm:
            raise CaxflowError(
                f"manifests by {self.algorithm} and by {other.algorithm} cannot be compared",
                "take both with the same digest",
            )
        mine = {entry.path: entry for entry in self.entries}
        theirs = {entry.path: entry for entry in other.entries}
        expected_at = {entry.digest: entry.path for entry in self.entries if entry.size}
        found = []
        for path in sorted(mine.keys() | theirs.keys(), key=to_bytes):
            if path not in theirs:
                found.append(Difference("missing", path))
            elif path not in mine:
                found.append(Difference("extra", path))
            elif not _same(mine[path], theirs[path]):
                found.append(_changed(mine, theirs, path, expected_at))
        return found


def _changed(mine: dict, theirs: dict, path: str, expected_at: dict) -> Difference:
    twin = expected_at.get(theirs[path].digest)
    if twin != path and twin in theirs and not _same(mine[twin], theirs[twin]):
        if theirs[twin].digest == mine[path].digest:
            return Difference("swapped", path, f"and {printable(twin)} have each other's contents")
        return Difference("swapped", path, f"has the contents of {printable(twin)}")
    if -1 not in (mine[path].size, theirs[path].size) and mine[path].size != theirs[path].size:
        return Difference("changed", path, f"has {theirs[path].size} bytes instead of {mine[path].size}")
    return Difference("changed", path, "has the right size but other contents")


def _same(one: Entry, other: Entry) -> bool:
    return one.digest == other.digest and (one.size == other.size or -1 in (one.size, other.size))


def _plain(path: str):
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return {"hex": to_bytes(path).hex()}
    return path


def _unplain(path) -> str:
    return to_text(bytes.fromhex(path["hex"])) if isinstance(path, dict) else safe_path(path)


def _count(size) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < -1:
        raise ValueError(f"size {size!r:.40}")
    return size


def _hexadecimal(digest: str, algorithm: str) -> str:
    length = {"xxh128": 32, "sha256": 64, "sha512": 128, "adler32": 8}[algorithm]
    if len(bytes.fromhex(digest)) * 2 != length:
        raise ValueError(f"digest {digest!r:.40}")
    return digest.lower()


FileStat = namedtuple("FileStat", "path size mtime_ns ctime_ns inode")
FileStat.__doc__ = "A regular file as it was listed: what must not change while it is read."


@dataclass(frozen=True)
class Listing:
    """What is below a directory, or a single file.

    Parameters
    ----------
    root : str
        The directory that the paths are relative to (of a single file: the one that holds it).
    single : bool
        Whether a single file was asked for.
    files : tuple of FileStat
        Sorted by the bytes of their paths.
    directories : tuple of str
        Sub-directories, parents first, empty ones included.
    """

    root: str
    single: bool
    files: tuple
    directories: tuple = ()

    @property
    def size(self) -> int:
        """Sum of the files' sizes in bytes."""
        return sum(file.size for file in self.files)


_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


def scan(path: str) -> Listing:
    """List a dataset: regular files and directories only.

    Raises
    ------
    CaxflowError
        If there is nothing at `path`, it cannot be read, or it holds a symbolic link, a device, a socket
        or a named pipe (followed or opened, these could lead anywhere). A link at `path` itself is followed.
    """
    path = os.fspath(path)
    root = to_bytes(path)
    try:
        status = os.stat(root)
        if stat.S_ISREG(status.st_mode):
            folder, name = os.path.split(root)
            return Listing(to_text(folder) or ".", True, (_file(name, status),))
        files, directories = [], []
        _descend(root, b"", files, directories)
    except OSError as error:
        raise os_error(error, path) from None
    files.sort(key=lambda file: to_bytes(file.path))
    return Listing(to_text(root), False, tuple(files), tuple(sorted(directories)))


def _file(name: bytes, status) -> FileStat:
    return FileStat(to_text(name), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _descend(root: bytes, below: bytes, files: list, directories: list) -> None:
    folders = []
    with os.scandir(os.path.join(root, below)) as found:
        for entry in found:
            name = below + b"/" + entry.name if below else entry.name
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                files.append(_file(name, status))
            elif stat.S_ISDIR(status.st_mode):
                folders.append(name)
            else:
                kind = next((text for test, text in _KINDS if test(status.st_mode)), "no regular file")
                raise CaxflowError(
                    f"{printable(to_text(os.path.join(root, name)))} is {kind}",
                    "a dataset holds only regular files and directories: remove or replace it",
                )
    for name in folders:
        directories.append(to_text(name))
        _descend(root, name, files, directories)


def os_error(error: OSError, path: str = "") -> CaxflowError:
    """An error of the operating system about a file, in words, with what to do."""
    name = error.filename if error.filename is not None else path
    name = printable(to_text(name) if isinstance(name, bytes) else str(name))
    mend = {
        "ENOENT": "check that it exists and that its file system is mounted",
        "EACCES": "give the account that copies the right to use it",
        "EPERM": "give the account that copies the right to use it",
        "ENOSPC": "free space there, then start again: what has arrived is kept",
        "EDQUOT": "free space or raise the quota there, then start again: what has arrived is kept",
        "EROFS": "the file system is mounted read-only: ask the site's manager",
        "EIO": "the disk fails: ask the site's manager",
        "ESTALE": "the network file system lost it: ask the site's manager",
    }
    return CaxflowError(
        f"{name}: {os.strerror(error.errno) if error.errno else error}",
        mend.get(errno.errorcode.get(error.errno or 0, ""), "mend this at the site, then start again"),
    )


def take_all(path: str, algorithms=("xxh128",), drop_cache=False, threads=None, progress=None) -> dict:
    """Read a dataset once and make a manifest for each of several digests.

    Parameters
    ----------
    path : str
        A directory, or a single file (whose manifest has its base name).
    algorithms : sequence of str
        Digests wanted.
    drop_cache : bool
        Drop the cached pages of every file first, so that the disk is read.
    threads : int, optional
        Files hashed at the same time; by default the machine's cores, at most 4.
    progress : callable, optional
        Called with the number of bytes of each block; from several threads, one at a time.

    Returns
    -------
    dict of str to Manifest

    Raises
    ------
    CaxflowError
        If the dataset cannot be read or changes meanwhile.
    """
    path = os.fspath(path)
    listing = scan(path)
    lock = threading.Lock()
    root = to_bytes(listing.root)

    def count(size):
        with lock:
            progress(size)

    def one(file):
        return file, hash_listed(root, file, algorithms, drop_cache, progress and count)

    threads = threads or min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads)
    try:
        hashed = list(pool.map(one, sorted(listing.files, key=lambda file: -file.size)))
    finally:
        pool.shutdown(wait=True)
    if scan(path) != listing:
        raise CaxflowError(
            f"{printable(path)} changed while it was read", "wait until it is complete, then start again"
        )
    return {
        name: Manifest(name, tuple(Entry(file.path, file.size, found[name]) for file, found in hashed))
        for name in algorithms
    }


def take(path: str, algorithm="xxh128", drop_cache=False, threads=None, progress=None) -> Manifest:
    """Read a dataset and make its manifest; see `take_all`."""
    return take_all(path, (algorithm,), drop_cache, threads, progress)[algorithm]


def hash_listed(root: bytes, file: FileStat, algorithms, drop_cache=False, progress=None) -> dict:
    """Digests of a file of a listing; an error if it is no longer the one that was listed."""
    try:
        fd = os.open(os.path.join(root, to_bytes(file.path)), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if drop_cache:
                digests.drop_cache(fd)
            found, _ = digests.hash_fd(fd, algorithms, 0, file.size, progress)
            unchanged(file, os.fstat(fd))
        finally:
            os.close(fd)
    except OSError as error:
        raise os_error(error, os.path.join(root, to_bytes(file.path))) from None
    return found


def unchanged(file: FileStat, status) -> None:
    """Raise a CaxflowError unless an open file is still as it was listed."""
    if tuple(file[1:]) != (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino):
        raise CaxflowError(
            f"file {printable(file.path)} changed while it was read",
            "wait until nothing writes to the dataset any more, then start again",
        )
