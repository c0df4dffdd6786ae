"""The right disk: a data root is written to, and something is missing in it, only where it has its marker.

A folder whose file system is not mounted is as empty as a new disk. So each root has a marker
(`caxflow.files.marker`), made by ``caxflow doctor --mark-roots`` or with the first copy in an empty root of
which no document speaks. Reading needs none: what is read is compared with a manifest.
"""

import contextlib
import functools
import itertools
import json
import posixpath
import secrets
from collections.abc import Iterable, Iterator

from caxflow import __version__, documents, receipts, transfer
from caxflow.config import Selection, Settings, Site, reach
from caxflow.errors import CaxflowError, DiskAway
from caxflow.files import marker
from caxflow.rundb import RunsDB
from caxflow.transfer import Place, RootLook

# What an entry has, beside a status that promises data, where there are data of it.
_DATA = {"removing", "moving", "suspect", "left"}


def identity(place: Place, root: str) -> str | None:
    """Return the id in the marker of a root; None where there is no marker.

    Roots of two sites that have the same id are one storage.
    """
    found = _known(place, root)
    if found is None:
        _known.cache_clear()
    return found


@functools.cache
def _known(place: Place, root: str) -> str | None:
    found = marker.parse(transfer.root(place, root).marker, root, place.site)
    return found["id"] if found else None


def check(settings: Settings, site: Site, kind: str, folder: str | None = None) -> None:
    """See that the root of a site for a kind of data has its marker, now.

    Parameters
    ----------
    folder : str, optional
        A folder of the root in which there must be something: it may be a file system of its own.

    Raises
    ------
    DiskAway
        If the disk is not there, or is another one.
    """
    look = _look(settings, site, kind, folder)
    _check_marker(look, site, kind)
    if folder is not None and look.folder != "full":
        raise DiskAway(
            f"{site.name}: there is nothing in {folder}",
            "mount its file system; of what is gone, `caxflow rm` drops the entry",
        )


def ensure(settings: Settings, database: RunsDB, site: Site, kind: str, location: str | None = None) -> None:
    """See that a root may be written to; one that is empty and of which no document speaks gets its marker.

    Parameters
    ----------
    location : str, optional
        What is about to be made there.
    database : RunsDB
        Nothing is made where it is dry.

    Raises
    ------
    DiskAway
        If the disk is not there, or is another one; so may be the one of the folder that is to hold it.
    """
    root = site.roots[kind]
    folder = posixpath.dirname(location) if location else root
    look = _look(settings, site, kind, folder)
    if _is_new(database, site, kind, look):
        if database.dry:
            return
        make(reach.place(settings, site), root, site.name, kind)
        look = _look(settings, site, kind)
    _check_marker(look, site, kind)
    bare = look.folder == "empty" and folder != root
    if bare and (known := next(_named(database, site, kind, folder), "")):
        raise DiskAway(
            f"{site.name}: {folder} is empty, and the runs database knows {known}",
            f"mount its file system; if it is empty indeed: rmdir {folder}",
        )


def is_new(settings: Settings, database: RunsDB, site: Site, kind: str) -> bool:
    """Whether a root is empty, without a marker, and of no document: the first copy marks it."""
    return _is_new(database, site, kind, _look(settings, site, kind))


def prepare(settings: Settings, database: RunsDB) -> None:
    """Have the roots here that are empty and new marked before jobs begin, which may not ask the database."""
    for kind in settings.here.roots:
        try:
            ensure(settings, database, settings.here, kind)
        except CaxflowError:
            continue  # what is to be written there fails with the same words


def mark(settings: Settings, database: RunsDB, site: Site, kind: str, *, replaced: bool = False) -> bool:
    """Give a root its marker, if the data are there of which documents speak; whether it had none.

    Parameters
    ----------
    database : RunsDB
        Nothing is made where it is dry.
    replaced : bool
        Whether none of them need be there, as on a new disk.

    Raises
    ------
    CaxflowError
        If the root looks like one whose file system is not mounted, or has the marker of another one.
    """
    root, place = site.roots[kind], reach.place(settings, site)
    look = _look(settings, site, kind)
    if look.marker is None and not replaced:
        known = set(_named(database, site, kind, root))
        there = {posixpath.join(root, name) for name in transfer.names(place, root)}
        if known and not any(_head(path, root) in there for path in known):
            raise CaxflowError(
                f"{site.name}: nothing is in {root} of what the runs database knows there, as {min(known)}",
                "mount its file system; if the disk is a new one: caxflow doctor --mark-roots --replaced "
                f"{site.name}",
            )
    if look.marker is None and database.dry:
        return True
    made = look.marker is None and make(place, root, site.name, kind)
    check(settings, site, kind)
    return made


def shared(settings: Settings, sites: Iterable[Site]) -> Iterator[str]:
    """Say which marked roots of different sites are one storage, or one below the other."""
    own: dict[tuple[str, str], str] = {}
    others: dict[tuple[str, str], set[str]] = {}
    for site in sites:
        for kind, root in site.roots.items():
            with contextlib.suppress(CaxflowError):
                found = transfer.markers(reach.place(settings, site), root)
                ids = {folder: marker.parse(text, folder)["id"] for folder, text in found}
                if root in ids:
                    own[site.name, kind] = ids.pop(root)
                others[site.name, kind] = set(ids.values())
    for (one, its_id), (other, other_id) in itertools.permutations(own.items(), 2):
        here, there = (f"{settings.sites[name].roots[kind]} of site {name}" for name, kind in (one, other))
        if one[0] < other[0] and its_id == other_id:
            yield f"{here} and {there} are one storage"
        elif one[0] != other[0] and other_id in others[one] and its_id != other_id:
            yield f"{here} and {there} are one below the other"


def make(place: Place, root: str, site: str, kind: str) -> bool:
    """Make the marker of a root; False if it has one, whichever."""
    content = {"site": site, "kind": kind, "id": secrets.token_hex(16)}
    content |= {"created": receipts.now().isoformat(), "by": f"caxflow {__version__}"}
    return transfer.mark(place, root, json.dumps(content, indent=1) + "\n")


def _look(settings: Settings, site: Site, kind: str, folder: str | None = None) -> RootLook:
    """What a root is like; it must be a folder."""
    root = site.roots[kind]
    look = transfer.root(reach.place(settings, site), root, folder)
    if look.kind != "directory":
        wrong = "does not exist" if look.kind is None else "is no folder"
        what = f"{site.name}: {root}, which is to hold the {kind} data, {wrong}"
        raise DiskAway(what, "make it, or mount its file system")
    return look


def _is_new(database: RunsDB, site: Site, kind: str, look: RootLook) -> bool:
    empty = look.marker is None and look.empty
    return empty and not any(_named(database, site, kind, site.roots[kind]))


def _check_marker(look: RootLook, site: Site, kind: str) -> None:
    try:
        marker.check(look.marker, site.roots[kind], site.name, kind)
    except CaxflowError as error:
        raise DiskAway(f"{site.name}: {error.what}", error.mend) from None


def _named(database: RunsDB, site: Site, kind: str, folder: str) -> Iterator[str]:
    """Paths in a folder of a site where the runs database says that data are."""
    for document in database.holding(Selection(), site.host):
        for copy in documents.copies(document, kind, site.host):
            promised = copy.status in (documents.TRANSFERRED, documents.VERIFYING) or _DATA & set(copy.note)
            if promised and documents.inside(copy.location, folder):
                yield copy.location.rstrip("/")


def _head(path: str, root: str) -> str:
    """What holds a path, right below its root."""
    return posixpath.join(root, posixpath.relpath(path, root).partition("/")[0])
