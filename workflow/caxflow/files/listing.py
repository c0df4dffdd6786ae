"""The files of a dataset as they lie on a disk: names, sizes, times.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
Paths are relative, with ``/``; bytes in a name that are not UTF-8 are kept as surrogate escapes.
"""

from __future__ import annotations

import errno
import os
import re
from collections import namedtuple

from caxflow.errors import CaxflowError
from caxflow.legible import line, printable


def to_bytes(path: str) -> bytes:
    """A path as the file system knows it."""
    return os.fspath(path).encode("utf-8", "surrogateescape")


def to_text(path: bytes) -> str:
    """The inverse of `to_bytes`."""
    return path.decode("utf-8", "surrogateescape")


DEEPEST = 100  # folders within folders; more, and much of what there is to look at files with gives up
# What file systems leave of a file that is removed while it is open, until it is closed.
_LEFTOVER = re.compile(r"(?s)(.*/)?\.(nfs[0-9A-Fa-f]{4,}|fuse_hidden[0-9A-Fa-f]{8,}|__afs[0-9A-Fa-f]{4,})")
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


def safe_path(path: str) -> str:
    """Return `path` if it stays below any directory it is joined to.

    Raises
    ------
    CaxflowError
        If it is empty, absolute, has a NUL, an empty component, ``.`` or ``..``, more than `DEEPEST`
        components, or a component or a whole longer than Linux allows (255 and 4095 bytes).
    """
    if isinstance(path, str) and _PLAIN.fullmatch(path):
        return path  # what nearly all are, and several checks of each file take time
    parts = path.split("/") if isinstance(path, str) else [".."]
    try:
        sizes = [len(to_bytes(part)) for part in parts]
    except UnicodeEncodeError:
        parts = [".."]
    strange = any(part in ("", ".", "..") or "\0" in part for part in parts)
    if strange or max(sizes) > 255 or sum(sizes) + len(sizes) > 4096:
        raise CaxflowError(
            f"file name {line(repr(path), 200)} may not be used",
            "names must be relative and stay inside the dataset",
        )
    if len(parts) > DEEPEST:
        raise CaxflowError(
            f"{path[:60]!r}… goes more than {DEEPEST} folders deep",
            "no dataset is so deep: find out what made it",
        )
    return path


FileStat = namedtuple("FileStat", "path size mtime_ns ctime_ns inode")
FileStat.__doc__ = "A regular file as it was listed: what must not change while it is read."


class Listing(namedtuple("Listing", "root single files directories")):
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

    __slots__ = ()

    @property
    def size(self) -> int:
        """Sum of the files' sizes in bytes."""
        return sum(file.size for file in self.files)


def is_leftover(path: str) -> bool:
    """Return whether a file is what NFS, FUSE or AFS keep of one that is removed while it is open.

    Such a file goes by itself, so it is never part of a dataset.
    """
    return "/." in "/" + path and _LEFTOVER.fullmatch(path) is not None


def os_error(error: OSError, path: str = "") -> CaxflowError:
    """An error of the operating system about a file, in words, with what to do."""
    named = error.filename and not isinstance(error.filename, int)  # which is the number of an open file
    name = error.filename if named else path
    name = to_text(name) if isinstance(name, bytes) else str(name)
    about = f"{printable(name)}: " if name else ""
    mend = {
        "ENOENT": "check that it exists and that its file system is mounted",
        "EACCES": "give the account that copies the right to use it",
        "EPERM": "give the account that copies the right to use it",
        "ENOSPC": "free space there (or files, see df -i), then start again: what has arrived is kept",
        "EDQUOT": "free space or raise the quota there, then start again: what has arrived is kept",
        "EFBIG": "its file system, or the limit `ulimit -f`, takes no file so large: ask the site's manager",
        "EMFILE": "raise the limit of open files there: ulimit -n",
        "ENFILE": "the machine has too many files open: ask the site's manager",
        "ENOTEMPTY": "end what has a file in it open, or writes there, then start again",
        "EBUSY": "end what uses it, then start again; a mount point stays",
        "EROFS": "the file system is mounted read-only: ask the site's manager",
        "EIO": "the disk fails: ask the site's manager",
        "ESTALE": "the network file system lost it: ask the site's manager",
    }
    return CaxflowError(
        f"{about}{os.strerror(error.errno) if error.errno else error}",
        mend.get(errno.errorcode.get(error.errno or 0, ""), "mend this at the site, then start again"),
    )


class Touched(CaxflowError):
    """Of a file that was read only time of change or inode are others; reading it again tells more."""


def unchanged(file: FileStat, status) -> None:
    """Raise a CaxflowError unless an open file is still as it was listed."""
    now = FileStat(file.path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    if now != file:
        kind = Touched if now[:3] == file[:3] else CaxflowError
        raise kind(
            f"file {printable(file.path)} changed while it was read",
            "wait until nothing writes to the dataset any more, then start again",
        )
