"""What is below a root, item by item, with sizes and ages.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
"""

# ruff: noqa: PTH118 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import os
import stat
from collections import namedtuple

from caxflow.files import marker
from caxflow.files.listing import os_error, to_bytes, to_text

Item = namedtuple("Item", "name kind size files newest")
Item.__doc__ = """Something below a root.

`name` is relative to the root, `kind` ``file``, ``directory`` or ``other``; `size` in bytes and `files` count
all that is below it, `newest` is the latest time of modification (s since 1970).
"""

# Folders of our own, whose items count one by one.
OWN = (b".caxflow-trash", b".caxflow-quarantine")
_MARKER = to_bytes(marker.NAME)


def census(root: str, depth: int = 1, report=None) -> list:
    """List the items below a root, without its own marker; links are not followed.

    Parameters
    ----------
    root : str
    depth : int
        At which level the items are: 1 right below the root, 2 in its folders.
    report : callable, optional
        Called with 0 now and then, as it may take long.

    Returns
    -------
    list of Item
    """
    try:
        return [Item(*item) for item in _items(to_bytes(root), b"", depth, report or (lambda _: None))]
    except OSError as error:
        raise os_error(error, root) from None


def _items(root: bytes, below: bytes, depth: int, report):
    with os.scandir(os.path.join(root, below)) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    if not below:
        entries = [entry for entry in entries if not entry.name.startswith(_MARKER)]
    for entry in entries:
        name = os.path.join(below, entry.name)
        own = not below and entry.name in OWN
        deeper = depth > 1 and not entry.name.startswith(b".")
        if (own or deeper) and entry.is_dir(follow_symlinks=False):
            yield from _items(root, name, 1 if own else depth - 1, report)
        else:
            yield (to_text(name), *_sum(entry, report))


def _sum(entry, report) -> tuple:
    report(0)
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        regular = stat.S_ISREG(status.st_mode)
        return ("file" if regular else "other"), status.st_size, 1, status.st_mtime
    size, files, newest = 0, 0, status.st_mtime
    with os.scandir(entry.path) as found:
        for inner in found:
            _, more, count, time = _sum(inner, report)
            size, files, newest = size + more, files + count, max(newest, time)
    return "directory", size, files, newest
