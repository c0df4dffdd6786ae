"""The marker of a data root: a file that says of which site, and of which kind, the data on this disk are.

A folder whose file system is not mounted has none, and another disk has another one. This module also runs at
the far end of a transfer, so it needs only Python 3.8 and the standard library.
"""

from __future__ import annotations

import json
import os
import stat

from caxflow.errors import DiskAway
from caxflow.files.folder import READ, parent_of
from caxflow.files.listing import printable, to_bytes

NAME = ".caxflow-root"
LARGEST = 4096  # bytes


def path(root: str) -> str:
    """Return where the marker of a root is."""
    return f"{root.rstrip('/')}/{NAME}"


def read(root: str, site: str = "", roots=()) -> str | None:
    """Return the text of a root's marker, perhaps that of a `site`; None where there is none.

    A folder that is no root may be below one of `roots`: no link leads to it.

    Raises
    ------
    DiskAway
        If something else has its name, or it cannot be read.
    """
    name = to_bytes(path(root))
    try:
        with parent_of(name, roots) as (folder, last):
            check_mode(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode, root, site)
            fd = os.open(last, READ, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise unreadable(root, error) from None
    try:
        return os.read(fd, LARGEST).decode("utf-8", "replace")
    finally:
        os.close(fd)


def check_mode(mode: int, root: str, site: str = "") -> None:
    """Raise a DiskAway if what has the name of a root's marker is no file; a link is none."""
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a symbolic link" if stat.S_ISLNK(mode) else "no file"
        raise _odd(root, site, f"is {kind}")


def unreadable(root: str, error: OSError) -> DiskAway:
    """Return what is to be said of a marker that this account may not read."""
    place = printable(path(root))
    return DiskAway(
        f"{place}, which says whose data these are, cannot be read: {error.strerror}",
        f"as its owner: chmod a+r {place}; and see that {printable(root)} may be entered",
    )


def _odd(root: str, site: str, what: str) -> DiskAway:
    place = printable(path(root))
    command = f"rm -r {place}; caxflow doctor --mark-roots {site}".rstrip()
    return DiskAway(
        f"{place}, which says whose data these are, {what}", f"if it is the right disk: {command}"
    )


def parse(text: str | None, root: str, site: str = "") -> dict | None:
    """Return what a marker says, perhaps that of a `site`; None where there is none.

    Raises
    ------
    DiskAway
        If it is damaged.
    """
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(
        isinstance(found.get(key), str) for key in ("site", "kind", "id")
    ):
        raise _odd(root, site, "is damaged")
    return found


def check(text: str | None, root: str, site: str, kind: str | None = None) -> dict:
    """Return what the marker of a root says, if it is that of a site, and of a kind of data if that is given.

    Raises
    ------
    DiskAway
        If there is none or another one: the file system may not be mounted.
    """
    found = parse(text, root, site)
    if found is None:
        raise DiskAway(
            f"{printable(root)} has no {NAME}: its file system may not be mounted",
            f"mount it; if this is the right disk: caxflow doctor --mark-roots {site}",
        )
    if found["site"] != site or kind not in (None, found["kind"]):
        raise DiskAway(
            f"{printable(root)} is marked as that of the {found['kind']} data of site {found['site']}",
            f"mount the file system of site {site} there; if the site was renamed: rm "
            f"{printable(path(root))}; caxflow doctor --mark-roots {site}",
        )
    return found
