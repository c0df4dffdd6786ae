"""The marker of a data root: a file that says of which site, and of which kind, the data on this disk are.

A folder whose file system is not mounted has none, and another disk has another one. This module also runs at
the far end of a transfer, so it needs only Python 3.8 and the standard library.
"""

from __future__ import annotations

import json

from caxflow.errors import CaxflowError
from caxflow.files.listing import printable

NAME = ".caxflow-root"
LARGEST = 4096  # bytes


def path(root: str) -> str:
    """Return where the marker of a root is."""
    return f"{root.rstrip('/')}/{NAME}"


def parse(text: str | None, root: str, site: str = "") -> dict | None:
    """Return what a marker says, perhaps that of a `site`; None where there is none.

    Raises
    ------
    CaxflowError
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
        raise CaxflowError(
            f"{printable(path(root))}, which says whose data these are, is damaged",
            f"if it is the right disk: rm {printable(path(root))}; caxflow doctor --mark-roots {site}",
        )
    return found


def check(text: str | None, root: str, site: str, kind: str | None = None) -> dict:
    """Return what the marker of a root says, if it is that of a site, and of a kind of data if that is given.

    Raises
    ------
    CaxflowError
        If there is none or another one: the file system may not be mounted.
    """
    found = parse(text, root, site)
    if found is None:
        raise CaxflowError(
            f"{printable(root)} has no {NAME}: its file system may not be mounted",
            f"mount it; if this is the right disk: caxflow doctor --mark-roots {site}",
        )
    if found["site"] != site or kind not in (None, found["kind"]):
        raise CaxflowError(
            f"{printable(root)} is marked as that of the {found['kind']} data of site {found['site']}",
            f"mount the file system of site {site} there; if the site was renamed: rm "
            f"{printable(path(root))}; caxflow doctor --mark-roots {site}",
        )
    return found
