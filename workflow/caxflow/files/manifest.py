"""Manifests: path, size and digest of every file of a dataset, and what differs between two of them.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
Paths are relative, with ``/``; bytes in a name that are not UTF-8 are kept as surrogate escapes.
"""

# ruff: noqa: B905, RUF007 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.folder import Folder
from caxflow.files.listing import (
    Touched,
    is_leftover,
    os_error,
    printable,
    safe_path,
    to_bytes,
    to_text,
)
from caxflow.files.reading import hash_listed, scan
from caxflow.threads import do_all

__all__ = [
    "Difference",
    "Entry",
    "Manifest",
    "os_error",
    "printable",
    "safe_path",
    "scan",
    "take",
    "take_all",
    "to_bytes",
    "to_text",
]


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


@dataclass(frozen=True)
class Manifest:
    """What a dataset holds.

    Parameters
    ----------
    algorithm : str
        Name of the digests, one of `caxflow.files.digests.ALGORITHMS`.
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

        Sizes of -1 (unknown) are not compared; nor is what file systems keep of removed files, which goes by
        itself (manifests of early versions have it).

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
        mine, theirs = (
            {entry.path: entry for entry in manifest.entries if not is_leftover(entry.path)}
            for manifest in (self, other)
        )
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
    if isinstance(size, bool) or not isinstance(size, int) or not -1 <= size < 1 << 63:
        raise ValueError(f"size {size!r:.40}")
    return size


def _hexadecimal(digest: str, algorithm: str) -> str:
    length = {"xxh128": 32, "sha256": 64, "sha512": 128, "adler32": 8}[algorithm]
    if len(bytes.fromhex(digest)) * 2 != length:
        raise ValueError(f"digest {digest!r:.40}")
    return digest.lower()


def take_all(
    path: str, algorithms=("xxh128",), drop_cache=False, threads=None, progress=None, *, check=None, roots=()
) -> dict:
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
    check : callable, optional
        See `caxflow.files.reading.hash_listed`; from several threads.
    roots : sequence of str
        What the dataset may be below, see `caxflow.files.folder.split`.

    Returns
    -------
    dict of str to Manifest

    Raises
    ------
    CaxflowError
        If the dataset cannot be read or changes meanwhile.
    """
    threads = threads or min(4, os.cpu_count() or 1)
    how = {"check": check, "roots": roots}
    try:
        return _read(os.fspath(path), algorithms, drop_cache, threads, progress, **how)
    except Touched:
        # Some file systems tell the time of change of what was just renamed only after a while, or number
        # files anew each time they forget them.
        return _read(os.fspath(path), algorithms, drop_cache, threads, progress, **how)


def _read(path: str, algorithms, drop_cache, threads: int, progress, *, check, roots) -> dict:
    listing = scan(path, progress, roots=roots)
    lock = threading.Lock()
    left = sorted(listing.files, key=lambda file: file.size)
    hashed = {}

    def work(goes_on):
        def count(size):
            goes_on()
            if progress:
                with lock:
                    progress(size)

        with folder.again() as own:
            while True:
                with lock:
                    file = left.pop() if left else None
                if file is None:
                    return
                hashed[file] = hash_listed(own, file, algorithms, drop_cache, count, check=check)

    try:
        folder = Folder(listing.root, roots)
    except OSError as error:
        raise os_error(error, path) from None
    with folder:
        do_all([work] * threads, lambda: None)
    now = scan(path, progress, roots=roots)
    if now != listing:
        kind = Touched if _timeless(now) == _timeless(listing) else CaxflowError
        raise kind(
            f"{printable(path)} changed while it was read", "wait until it is complete, then start again"
        )
    return {
        name: Manifest(name, tuple(Entry(file.path, file.size, hashed[file][name]) for file in listing.files))
        for name in algorithms
    }


def _timeless(listing):
    return listing._replace(files=[file[:3] for file in listing.files])


def take(
    path: str, algorithm="xxh128", drop_cache=False, threads=None, progress=None, *, roots=()
) -> Manifest:
    """Read a dataset and make its manifest; see `take_all`."""
    return take_all(path, (algorithm,), drop_cache, threads, progress, roots=roots)[algorithm]
