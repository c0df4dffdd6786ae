"""Listing and reading the files of a dataset where they lie, walked from open folders: no link is followed.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
"""

from __future__ import annotations

import os
import stat

from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.folder import Folder, enter, naming, parent_of
from caxflow.files.listing import (
    FileStat,
    Listing,
    is_leftover,
    os_error,
    printable,
    safe_path,
    to_bytes,
    to_text,
    unchanged,
)

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


def scan(path: str, report=None, leftovers=None, roots=()) -> Listing:
    """List a dataset: regular files and directories only.

    Parameters
    ----------
    path : str
    report : callable, optional
        Called with 0 for each file, as it may take long.
    leftovers : list, optional
        Gets the paths of files that were left out, see `is_leftover`.
    roots : sequence of str
        What the dataset may be below, see `caxflow.files.folder.split`.

    Raises
    ------
    CaxflowError
        If there is nothing at `path`, it cannot be read, or it is or holds a symbolic link, a device, a
        socket or a named pipe: followed or opened, these could lead anywhere.
    """
    path = os.fspath(path)
    root = to_bytes(path)
    try:
        with parent_of(root, roots) as (above, name), naming(root):
            status = os.stat(name, dir_fd=above, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                holder, own = os.path.split(path)
                return Listing(holder or ".", True, (_file(own, status),), ())
            if not stat.S_ISDIR(status.st_mode):
                raise _irregular(root, status.st_mode)
            fd = enter(name, above, root, root)
        with Folder(path, fd=fd) as folder:
            return scan_folder(folder, report, leftovers)
    except OSError as error:
        raise os_error(error, path) from None


def scan_folder(folder: Folder, report=None, leftovers=None) -> Listing:
    """List the dataset in an open folder, as `scan` does."""
    found = _Found(to_bytes(folder.root), report or (lambda _: None), [] if leftovers is None else leftovers)
    found.descend(folder.fileno(), "")
    found.files.sort(key=lambda file: to_bytes(file.path))
    return Listing(folder.root, False, tuple(found.files), tuple(sorted(found.directories)))


def _file(path: str, status) -> FileStat:
    return FileStat(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _irregular(path: bytes, mode: int) -> CaxflowError:
    kind = next((text for test, text in _KINDS if test(mode)), "no regular file")
    return CaxflowError(
        f"{printable(to_text(path))} is {kind}",
        "a dataset holds only regular files and directories: remove or replace it",
    )


class _Found:
    """What is found below a directory."""

    def __init__(self, root: bytes, report, leftovers: list):
        self._root, self._report, self._leftovers = root, report, leftovers
        self.files, self.directories = [], []

    def descend(self, folder: int, below: str) -> None:
        """List an open folder, and those in it."""
        folders = []
        with naming(self._path(below)), os.scandir(folder) as found:
            for entry in found:
                name = entry.name if entry.name.isascii() else to_text(os.fsencode(entry.name))
                path = f"{below}/{name}" if below else name
                status = entry.stat(follow_symlinks=False)
                self._report(0)
                if stat.S_ISREG(status.st_mode):
                    file = _file(path, status)
                    if is_leftover(path):
                        self._leftovers.append(path)
                    else:
                        self.files.append(file)
                elif stat.S_ISDIR(status.st_mode):
                    folders.append((entry.name, path))
                else:
                    raise _irregular(self._path(path), status.st_mode)
        for name, path in folders:
            self.directories.append(safe_path(path))
            fd = enter(os.fsencode(name), folder, self._path(path), self._root)
            try:
                self.descend(fd, path)
            finally:
                os.close(fd)

    def _path(self, below: str) -> bytes:
        return self._root.rstrip(b"/") + b"/" + to_bytes(below) if below else self._root


def hash_listed(folder, file: FileStat, algorithms, drop_cache=False, progress=None, *, check=None) -> dict:
    """Digests of a file of a listing; an error if it is no longer the one that was listed.

    Parameters
    ----------
    folder : Folder
        What the listing is of.
    check : callable, optional
        Called with the file and its open descriptor; returns what else is to see the bytes.
    """
    try:
        fd = folder.open(file.path, os.O_RDONLY)
        try:
            if drop_cache:
                digests.drop_cache(fd)
            also = check(file, fd) if check else ()
            found, _ = digests.hash_fd(fd, algorithms, 0, file.size, progress, also=also)
            unchanged(file, os.fstat(fd))
        finally:
            os.close(fd)
    except OSError as error:
        raise os_error(error, folder.root + "/" + file.path) from None
    return found
