"""Locks of the work directory, which end with the process that holds them, even by ``kill -9``."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from caxflow import receipts
from caxflow.errors import CaxflowError


def take(path: Path, taken: Callable[[str], CaxflowError]) -> int:
    """Lock a file, which is made; the handle, which holds the lock until it is closed.

    Parameters
    ----------
    taken : callable
        Is given who holds it, in words, where somebody does; returns what to raise.

    Raises
    ------
    CaxflowError
        If somebody holds it, or it cannot be locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CaxflowError(f"{path} cannot be made: {error.strerror}", "mend the work directory") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(handle, 200).decode(errors="replace") or "another host"
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise taken(owner) from None
        mend = "have its file system mounted with locks, or put work_dir elsewhere"
        raise CaxflowError(f"{path} cannot be locked: {error.strerror}", mend) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, "{user}@{host}, process {pid}".format(**receipts.who()).encode(), 0)
    return handle
