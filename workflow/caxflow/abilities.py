"""What file systems may lack: by the number of an error it is decided here, for all, what is optional.

A file system that has no such thing, or lets this account not do it, says so by one of a few numbers; what
was asked is then left out, and a remark says so. Any other number, first of all EIO, is a failure. Runs at
the far end of a transfer, too: Python 3.8, standard library only.
"""

from __future__ import annotations

import errno
import os
from collections import namedtuple

Ability = namedtuple("Ability", "lacking numbers")
Ability.__doc__ = (
    """Something that a file system may lack: in words that follow "its file system", and by what numbers."""
)

# Whatever was asked, there is no such thing.
_UNKNOWN = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY))
_REFUSED = frozenset((errno.EPERM, errno.EACCES))

SYNC_FILES = Ability("syncs no files", _UNKNOWN | {errno.EBADF})
# A folder that may be written to and not read cannot be opened for it.
SYNC_FOLDERS = Ability("syncs no folders", _UNKNOWN | _REFUSED | {errno.EBADF, errno.EISDIR})
TIMES = Ability("lets no times of modification be set", _UNKNOWN | _REFUSED)
MODES = Ability("lets no modes be set", _UNKNOWN | _REFUSED)
# Before what is to come is written: what does not fit, the writing shows.
SIZES = Ability("lets files not be made longer", _UNKNOWN | _REFUSED | {errno.EFBIG})
LINKS = Ability("has no links from folder to folder", _UNKNOWN | _REFUSED | {errno.EMLINK, errno.EXDEV})
RENAMING = Ability("has no renaming that never replaces", _UNKNOWN | {errno.EPERM})
LOCKS = Ability("has no locks", _UNKNOWN | {errno.ENOLCK, errno.EBADF})
SPACE = Ability("does not tell its free space", _UNKNOWN | _REFUSED)
HINTS = Ability("takes no hints", _UNKNOWN | _REFUSED | {errno.EBADF, errno.ESPIPE})


def numbers() -> dict:
    """Return, by the name of each ability, the error numbers that mean that it is lacking."""
    return {name: sorted(each.numbers) for name, each in globals().items() if isinstance(each, Ability)}


def attempt(ability: Ability, do, *arguments, **keywords) -> str:
    """Call what a file system may lack.

    Returns
    -------
    str
        What it lacks, in words; empty if it was done.

    Raises
    ------
    OSError
        If it failed for another reason.
    """
    try:
        do(*arguments, **keywords)
    except OSError as error:
        if error.errno not in ability.numbers:
            raise
        return f"its file system {ability.lacking} ({os.strerror(error.errno)})"
    return ""


def sync_folder(path) -> str:
    """Bring the entries of a folder to the disk, where that can be done; what is lacking, as of `attempt`."""
    return attempt(SYNC_FOLDERS, _sync, path, os.O_DIRECTORY)


def sync_path(path) -> str:
    """Bring a file to the disk, where that can be done; what is lacking, as of `attempt`."""
    return attempt(SYNC_FILES, _sync, path)


def _sync(path, kind: int = 0) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | kind)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        error.filename = path
        raise


def sync_file(fd: int) -> str:
    """Bring an open file to the disk, where that can be done; what is lacking, as of `attempt`."""
    return attempt(SYNC_FILES, os.fsync, fd)


def free_space(path) -> int | None:
    """Return how many bytes the account may still write to the file system of a folder; None if not told."""
    try:
        state = os.statvfs(path)
    except OSError as error:
        if error.errno not in SPACE.numbers:
            raise
        return None
    return state.f_bavail * (state.f_frsize or state.f_bsize) if state.f_blocks else None
