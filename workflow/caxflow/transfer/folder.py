"""Removing what is in an open folder, without ever following a symbolic link.

Runs at the far end too: Python 3.8, standard library only.
"""

# ruff: noqa: PTH118, PTH208 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import errno
import os
import stat
import time

from caxflow.errors import CaxflowError
from caxflow.files.folder import DIRECTORY, naming
from caxflow.files.listing import is_leftover, printable, to_text

_RELEASED = 0.5  # seconds within which a file that was closed is gone, where removed ones are only renamed

HELD_UP = 60  # seconds between two steps after which what allowed the first may hold no more


class Pace:
    """Calls that are to follow each other at once: each before what is to be done only then.

    Parameters
    ----------
    path : str
        What is removed, for the message.
    within : float, optional
        Seconds in which the first must come.
    since : float, optional
        Since when (monotonic clock); by default from now on.
    """

    def __init__(self, path: str, within=None, since=None):
        self._path, self._within = path, HELD_UP if within is None else within
        self._last = time.monotonic() if since is None else since

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last > self._within:
            late = now - self._last + HELD_UP - self._within
            raise CaxflowError(
                f"removing {printable(self._path)} was held up for {late:.0f} s",
                "the same call goes on, once it has seen whether it may",
            )
        self._last, self._within = now, HELD_UP


def remove_tree(path: bytes, alive, dir_fd: int | None = None, pace=None) -> None:
    """Remove a file or a directory and all below it; links are not followed, what is gone already is fine.

    A process that was stopped on the way goes no further: what let it remove this may have changed.

    Parameters
    ----------
    path : bytes
    alive : callable
        Called for each file, as it may take long.
    dir_fd : int, optional
        The open folder that `path` is relative to.
    pace : Pace, optional
        By default from now on.
    """
    pace = pace or Pace(to_text(path))
    try:
        is_directory = stat.S_ISDIR(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    if not is_directory:
        pace()
        os.unlink(path, dir_fd=dir_fd)
        return
    for folder, directories, files, fd in os.fwalk(path, topdown=False, onerror=_raise, dir_fd=dir_fd):
        for name in files:
            pace()
            _gone(os.unlink, folder, name, fd)
            alive()
        for name in directories:
            try:
                _gone(remove_directory, folder, name, fd)
            except NotADirectoryError:  # a link to one
                _gone(os.unlink, folder, name, fd)
    remove_directory(path, dir_fd=dir_fd)


def remove_directory(path: bytes, dir_fd: int | None = None) -> None:
    """Remove an empty directory; what is left of files that were open is waited for, a moment."""
    until = time.monotonic() + _RELEASED
    while True:
        try:
            os.rmdir(path, dir_fd=dir_fd)
        except OSError as error:
            full = error.errno in (errno.ENOTEMPTY, errno.EEXIST) and time.monotonic() < until
            if not full or not _has_leftovers_only(path, dir_fd):
                raise
            time.sleep(0.02)
        else:
            return


def _has_leftovers_only(path: bytes, dir_fd: int | None) -> bool:
    fd = os.open(path, DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        return all(map(is_leftover, os.listdir(fd)))
    finally:
        os.close(fd)


def _raise(error: OSError) -> None:
    error.filename = None  # a name in a folder that is not told: better that of the whole
    if not isinstance(error, FileNotFoundError):
        raise error


def _gone(remove, folder: bytes, name: bytes, fd: int) -> None:
    with naming(os.path.join(folder, name)):
        try:
            remove(name, dir_fd=fd)
        except FileNotFoundError:
            pass
