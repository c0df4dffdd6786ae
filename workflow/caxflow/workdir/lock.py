"""Locks of the work directory, which end with the process that holds them, even by ``kill -9``."""

import errno
import fcntl
import hashlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from caxflow import abilities, owners, receipts
from caxflow.errors import CaxflowError

_MEND = "have its file system mounted with locks, or put work_dir elsewhere"


def take(path: Path, taken: Callable[[str], CaxflowError]) -> int:
    """Lock a file, which is made; the handle, which holds the lock until it is closed.

    Where the file system has no locks, others of this machine are kept out all the same, and a line says so.

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
        handle = owners.open_own(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise CaxflowError(f"{path} cannot be made: {error.strerror}", "mend the work directory") from error
    try:
        lacking = abilities.attempt(abilities.LOCKS, fcntl.flock, handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = _hold_name(path) if lacking else handle
    except OSError as error:
        owner = os.read(handle, 200).decode(errors="replace") or "another host"
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise taken(owner) from None
        raise CaxflowError(f"{path} cannot be locked: {error.strerror}", _MEND) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, "{user}@{host}, process {pid}".format(**receipts.who()).encode(), 0)
    if lacking:
        os.close(handle)
        sys.stderr.write(f"caxflow: {path.parent}: {lacking}: work there from one machine only, or {_MEND}\n")
    return held


def _hold_name(path: Path) -> int:
    """Hold a name of this machine, which ends with the process; a BlockingIOError if another one does."""
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    with socket.socket(socket.AF_UNIX) as holder:
        try:
            holder.bind(f"\0caxflow-{name}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK)) from None
        return holder.detach()
