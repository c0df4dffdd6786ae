"""What is below a root, item by item, with sizes and ages.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import namedtuple

from caxflow.errors import CaxflowError
from caxflow.files import marker
from caxflow.files.folder import Folder, naming
from caxflow.files.listing import is_leftover, os_error, printable, to_bytes, to_text

Item = namedtuple("Item", "name kind size files newest unread", defaults=("",))
Item.__doc__ = """Something below a root.

`name` is relative to the root, `kind` ``file``, ``directory`` or ``other``; `size` in bytes and `files` count
all that is below it, `newest` is the latest time of modification (s since 1970). `unread` says what could not
be read of it, and why; empty where all was.
"""

Found = namedtuple("Found", "name mode size mtime")
Found.__doc__ = "A name in a folder; mode with type, size in bytes and time of modification of what has it."

# Folders of our own, whose items count one by one.
OWN = (".caxflow-trash", ".caxflow-quarantine")
# What file systems, and desktops, have in their uppermost folders, or in all.
_FURNITURE = re.compile(
    r"lost\+found|[.~]snapshots?|\.snap|\.ckpt|\.zfs|\.glusterfs|\.mm(SharedTmp|Lock)Dir"
    r"|a?quota\.(user|group)|\.Trash(-[0-9]+|es)?|System Volume Information|\$RECYCLE\.BIN|\.fseventsd"
)


def is_furniture(name: str) -> bool:
    """Return whether what has that name is the file system's own, as ``lost+found``: never data."""
    return _FURNITURE.fullmatch(name) is not None or is_leftover(name)


def census(root: str, depth: int = 1, report=None, roots=()) -> list:
    """List the items below a root, without its marker and what is the file system's own; follow no links.

    Parameters
    ----------
    root : str
    depth : int
        At which level the items are: 1 right below the root, 2 in its folders.
    report : callable, optional
        Called with 0 now and then, as it may take long.
    roots : sequence of str
        What it may be below, see `caxflow.files.folder.split`.

    Returns
    -------
    list of Item
    """
    try:
        with Folder(root, roots) as folder:

            def list_folder(path: str) -> list:
                return _list(folder, path[len(folder.root) :].strip("/"))

            return list(items(list_folder, folder.root, depth, report or (lambda _: None)))
    except OSError as error:
        raise os_error(error, root) from None


def _list(folder, path: str) -> list:
    """Return what is in a folder; what goes meanwhile may be left out."""
    listed = []
    try:
        fd = folder.directory(to_bytes(path))
    except CaxflowError:  # a link has come into its place
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
    with naming(f"{folder.root}/{path}"), os.scandir(fd) as found:
        for entry in found:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            name = to_text(os.fsencode(entry.name))
            listed.append(Found(name, status.st_mode, status.st_size, status.st_mtime))
    return listed


def items(list_folder, root: str, depth: int, report, below: str = ""):
    """Yield the items below a root; what cannot be read below it is said with the item it belongs to.

    Parameters
    ----------
    list_folder : callable
        Called with the path of a folder, returns a `Found` for each name in it.
    """
    for found in sorted(list_folder(_join(root, below)), key=lambda found: to_bytes(found.name)):
        if is_furniture(found.name) or (not below and found.name.startswith(marker.NAME)):
            continue
        name = _join(below, found.name)
        own = found.name in OWN
        if (own or (depth > 1 and not found.name.startswith("."))) and stat.S_ISDIR(found.mode):
            try:
                yield from items(list_folder, root, 1 if own else depth - 1, report, name)
            except OSError as error:
                yield Item(name, "directory", 0, 0, found.mtime, _why(error, _join(root, name)))
        else:
            yield Item(name, *_sum(list_folder, _join(root, name), found, report))


def _sum(list_folder, path: str, found, report) -> tuple:
    report(0)
    if not stat.S_ISDIR(found.mode):
        return ("file" if stat.S_ISREG(found.mode) else "other"), found.size, 1, found.mtime, ""
    size, files, newest, unread = 0, 0, found.mtime, ""
    try:
        for inner in list_folder(path):
            if not is_furniture(inner.name):
                _, more, count, time, why = _sum(list_folder, _join(path, inner.name), inner, report)
                size, files, newest = size + more, files + count, max(newest, time)
                unread = unread or why
    except FileNotFoundError:
        pass  # it has gone
    except OSError as error:
        unread = _why(error, path)
    return "directory", size, files, newest, unread


def _why(error: OSError, path: str) -> str:
    return f"{printable(path)}: {error.strerror or error}"


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder and name else folder or name
