"""What lies at a site that no document knows, and entries that point at nothing.

Nothing is removed that is not named.
"""

import datetime
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from caxflow import documents, transfer
from caxflow.config import Selection, Settings, Site, reach
from caxflow.copies import evidence, proof, quarantine, removal, roots
from caxflow.copies.subject import sign_of
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.legible import printable
from caxflow.rundb import Key, RunsDB, audit
from caxflow.targets import Run

# At which level of its root the copies of a kind are.
DEPTH = {"raw": 1, "processed": 2, "minitrees": 2}

UNKNOWN, PART, TRASH, QUARANTINE = "no document knows it", "unfinished copy", "trash", "quarantine"
# Of these states an entry promises that the data are there.
_PROMISES = (documents.TRANSFERRED, documents.VERIFYING)
# Where an entry names paths.
_PATHS = (
    ("location",),
    ("caxflow", "moving", "from"),
    ("caxflow", "moving", "to"),
    ("caxflow", "left", "path"),
    ("caxflow", "removing", "trash"),
)

# Of these the old files may still be there, see `caxflow.copies.moving`.
_LEFT = (("caxflow", "moving", "from"), ("caxflow", "left", "path"))

UNREAD = "cannot be read"
MISSING, OUTSIDE, DEVIATES = "there is nothing", "outside the site's roots", "permissions"


@dataclass(frozen=True)
class Stray:
    """One thing that is not as it should be.

    Parameters
    ----------
    what : str
        One of the words of this module.
    kind : str
        Kind of data, of the root it was found in or of the entry.
    path : str
    size : int or None
        Bytes.
    changed : datetime or None
        Of what lies there, when anything of it was last changed, UTC; naive.
    run : str or None
        Of an entry, its run.
    note : str
        More words.
    """

    what: str
    kind: str
    path: str
    size: int | None = None
    changed: datetime.datetime | None = None
    run: str | None = None
    note: str = ""

    @property
    def removable(self) -> bool:
        """Whether it is data that may be removed by name."""
        return self.what in (UNKNOWN, PART, TRASH, QUARANTINE)


def find(database: RunsDB, settings: Settings, site: Site) -> list[Stray]:
    """Look at all of a site's roots, and at all entries of its host.

    Looking takes its time at a large site. What came or went meanwhile is not astray: a path is only that if
    no document knew it before, nor does after.
    """
    place = reach.place(settings, site)
    promised, known = _entries(database, site.host)
    listed: dict[str, list[transfer.Item]] = {}
    for kind, root in site.roots.items():
        if transfer.exists(place, root) is None:
            raise CaxflowError(f"{site.name}: {root} does not exist", f"make it, or mend roots.{kind}")
        listed[kind] = list(_census(place, root, DEPTH[kind], known, set().union(*map(_above, known))))
    now_promised, now_known = _entries(database, site.host)
    still = set(now_promised)
    known |= now_known
    found = [stray for kind, items in listed.items() for stray in lying(items, kind, site.roots[kind], known)]
    promised = [entry for entry in promised if entry in still]
    there = {posixpath.join(site.roots[kind], item.name) for kind, items in listed.items() for item in items}
    found = without_empty(place, found, there)
    # A copy may lie deeper than usual, inside of what was listed.
    deeper = [entry.path for entry in promised if entry.path not in there and _above(entry.path) & there]
    there |= {path for path in deeper if _may_be_there(place, path)}
    there |= set().union(*map(_above, there))
    wrong = [stray for entry in promised if (stray := pointing(entry, site, there))]
    for kind in {stray.kind for stray in wrong if stray.what == MISSING}:
        roots.check(settings, site, kind)
    return found + wrong


def _census(
    place: transfer.Place, root: str, depth: int, known: set[str], above: set[str]
) -> Iterator[transfer.Item]:
    """Yield what is below a root; of a folder in which a copy lies deeper than usual, what is in it."""
    for item in transfer.census(place, root, depth):
        path = posixpath.join(root, item.name)
        if item.kind == "directory" and path in above and path not in known:
            try:
                for inner in _census(place, path, 1, known, above):
                    yield inner._replace(name=posixpath.join(item.name, inner.name))
            except CaxflowError as error:
                yield item._replace(unread=error.what)
        else:
            yield item


def _may_be_there(place: transfer.Place, path: str) -> bool:
    """Return whether something is at a path, or no look is possible."""
    try:
        return transfer.exists(place, path) is not None
    except CaxflowError:
        return True


def lying(items: Iterable[transfer.Item], kind: str, root: str, known: set[str]) -> Iterator[Stray]:
    """What of a root's items belongs to no path that is `known`: is not at it, in it, nor around it."""
    around = known.union(*map(_above, known))
    for item in items:
        path = posixpath.join(root, item.name)
        if item.unread:
            yield Stray(UNREAD, kind, path, note=item.unread)
        if item.unread or path in around or (_above(path) | _owners(path, kind)) & known:
            continue
        changed = datetime.datetime.fromtimestamp(item.newest, datetime.UTC).replace(tzinfo=None)
        yield Stray(_what(item.name), kind, path, item.size, changed)


def pointing(entry: Stray, site: Site, there: set[str]) -> Stray | None:
    """What is wrong with the place that an entry names, if anything."""
    root = site.roots.get(entry.kind)
    if root is None:
        return None
    if not documents.inside(entry.path, root):
        return Stray(OUTSIDE, entry.kind, entry.path, run=entry.run, note=entry.note)
    if entry.path in there:
        return None
    return Stray(MISSING, entry.kind, entry.path, run=entry.run, note=entry.note)


def deviating(database: RunsDB, settings: Settings, site: Site) -> list[Stray]:
    """Copies whose owner, group, modes or lists are not those of the site's file."""
    place, found = reach.place(settings, site), []
    for document in database.holding(Selection(), site.host):
        for entry in _promises(document, site.host):
            wanted = site.permissions.get(entry.kind)
            if wanted and documents.inside(entry.path, site.roots[entry.kind]):
                wrong = transfer.permissions(place, entry.path, wanted, apply=False)
                if wrong:
                    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
                    found.append(Stray(DEVIATES, entry.kind, entry.path, run=entry.run, note=wrong[0] + more))
    return found


def remove(database: RunsDB, settings: Settings, site: Site, strays: list[Stray], paths: list[str]) -> int:
    """Remove strays by their full paths; the bytes removed.

    Raises
    ------
    CaxflowError
        If one of the paths is no stray, then nothing is removed; if one is known to its run by now, or no
        good copy of that run is elsewhere.
    """
    by_path = {stray.path: stray for stray in strays if stray.removable}
    for path in paths:
        if path not in by_path:
            raise CaxflowError(
                f"{printable(path)} is no stray at {site.name}", "name one that `caxflow strays` lists"
            )
    for kind in {by_path[path].kind for path in paths}:
        roots.check(settings, site, kind)
    size = 0
    for path in paths:
        stray = by_path[path]
        run = _run_of(path)
        _check_unchanged(database, settings, site, stray)
        size += stray.size or 0
        if database.dry:
            continue
        # The audit comes first: whatever happens, it says what was meant to go.
        facts = {"site": site.name, "path": path, "size": stray.size, "what": stray.what}
        audit.record(database, "stray", run, Key(stray.kind, site.host), grounds="named by hand", **facts)
        _remove(reach.place(settings, site), stray, site.roots[stray.kind])
    return size


def _run_of(path: str) -> Run | None:
    """The run that something is called after, whatever else its name says."""
    match = re.match(r"\.?([0-9]{6}_[0-9]{4}(?:_MV)?)(?![0-9A-Za-z])", posixpath.basename(path))
    return Run.parse(match[1]) if match else None


def _check_unchanged(database: RunsDB, settings: Settings, site: Site, stray: Stray) -> None:
    """Look once more, right before something goes, whether it is still what was listed, and a stray.

    Raises
    ------
    CaxflowError
        If it has changed, some document speaks of it by now, or it may be the last of a run.
    """
    _check_unknown(database, site, stray)
    own = transfer.look(reach.place(settings, site), [stray.path])[0]
    if not own.error and own.kind and sum(own.files.values()) != stray.size:
        what = f"{printable(stray.path)} has changed since it was listed"
        raise CaxflowError(what, "look at it: caxflow strays")
    names = [stray.path, *own.files] if own.kind == "directory" else [stray.path]
    runs = {_run_of(part) for name in names for part in name.split("/")} - {None}
    for run in sorted(runs, key=str):
        _check_may_go(database, settings, stray, own, run)
    _check_unknown(database, site, stray)


def _check_unknown(database: RunsDB, site: Site, stray: Stray) -> None:
    """See that no document speaks of a stray, of what is in it, or of a folder that holds or owns it."""
    around, fields = _above(stray.path) | _owners(stray.path, stray.kind), [".".join(keys) for keys in _PATHS]
    for document in database.naming(site.host, fields, stray.path, around | _left(stray.path)):
        known = set(_paths(document, site.host))
        inside = any(documents.inside(path, stray.path) for path in known)
        if inside or stray.path in known or around & known:
            what = f"{printable(stray.path)} is no stray: a document knows it by now"
            raise CaxflowError(what, "see caxflow strays")


def _check_may_go(database: RunsDB, settings: Settings, stray: Stray, own: transfer.Look, run: Run) -> None:
    """See that a good copy of a run is elsewhere: of raw data, or for a file made of them, of either."""
    document = database.find(run)
    if document is None:
        return
    made = stray.kind != "raw" and own.kind == "file"
    wrong = []
    for copy in documents.copies(document):
        other = settings.site_at(copy.host)
        if other and copy.kind in ("raw", *([stray.kind] if made else [])):
            why = _unlike_a_copy(database, settings, other, copy, own)
            if not why:
                return
            wrong.append(f"{other.name}: {why}")
    seen = "; ".join(wrong) or "the runs database knows of none"
    raise CaxflowError(
        f"{printable(stray.path)} is not removed: "
        f"it may be the last of {run}, no good copy is elsewhere ({seen})",
        "have a copy elsewhere read again, bring this one to safety, or remove it by hand",
    )


def _unlike_a_copy(database: RunsDB, settings: Settings, site: Site, copy: Copy, own: transfer.Look) -> str:
    """Why an entry is no good copy elsewhere; empty if it was read, is as it was then, and is not `own`."""
    stated, read = copy.manifest and database.manifest(copy.manifest), copy.verified
    if not evidence.good(copy) or stated is None or read is None:
        return "it is not known to be good"
    try:
        found = transfer.look(reach.place(settings, site), [copy.location], opened=True)[0]
    except CaxflowError as error:
        return error.what
    if wrong := proof.difference(found, copy.location, Manifest.from_json(stated)):
        return wrong
    if proof.has_changed(found, read, database.now):
        return "its files changed after they were read"
    return "the very same files" if proof.are_same_files(own, found) else ""


def _remove(place: transfer.Place, stray: Stray, root: str) -> None:
    folder, name = posixpath.split(stray.path)
    growing = re.fullmatch(r"\.(.+)\.part-caxflow", name)
    if not growing:
        transfer.remove_tree(place, stray.path, root=root)
    elif not transfer.remove_leftovers(place, folder, 0, growing[1]):
        what = f"{printable(stray.path)} is being written to"
        raise CaxflowError(what, "wait for that transfer, or end it")


def _above(path: str) -> set[str]:
    """All folders that hold a path."""
    return {str(folder) for folder in PurePosixPath(path).parents}


def _owners(path: str, kind: str) -> set[str]:
    """Return the folder of the run beside ``<run>_<treemaker>.root``, by which hax finds a minitree."""
    folder, name = posixpath.split(path)
    found = kind == "minitrees" and re.match(r"([0-9]{6}_[0-9]{4}(?:_MV)?)_", name)
    return {posixpath.join(folder, found[1])} if found else set()


def _left(path: str) -> set[str]:
    """Return where the old files may be of which a file shows that their disk is there."""
    folder, name = posixpath.split(path)
    found = re.fullmatch(r"\.([0-9]{6}_[0-9]{4}(?:_MV)?)\.part-left", name)
    return {posixpath.join(folder, found[1] + suffix) for suffix in ("", ".root")} if found else set()


def _what(name: str) -> str:
    *folders, last = name.split("/")
    if removal.TRASH in folders:
        return TRASH
    if quarantine.FOLDER in folders:
        return QUARANTINE
    return PART if last.startswith(".") and ".part-" in last else UNKNOWN


def without_empty(place: transfer.Place, found: list[Stray], there: set[str]) -> list[Stray]:
    """Leave out containers of copies that are published, in which nothing of data is left.

    They stay where nothing may be removed, and where a file system only renames what is open.
    """
    over = [each for each in found if each.what == PART and _published(each.path) in there]
    looks = transfer.look(place, [each.path for each in over]) if over else []
    empty = [
        each
        for each, look in zip(over, looks, strict=True)
        if not look.error and not any(name.startswith("data/") for name in look.files)
    ]
    return [each for each in found if each not in empty]


def _published(path: str) -> str | None:
    """Where a copy is once it is whole, of the path of the container in which it grows."""
    folder, name = posixpath.split(path)
    growing = re.fullmatch(r"\.(.+)\.part-([0-9a-f]+-)?caxflow", name, re.DOTALL)
    return posixpath.join(folder, growing[1]) if growing else None


def _entries(database: RunsDB, host: str) -> tuple[list[Stray], set[str]]:
    """Entries of a host that promise that data are there, and all paths that documents speak of there."""
    promised, known = [], set()
    for document in database.holding(Selection(), host):
        known |= set(_paths(document, host))
        promised += [entry for entry in _promises(document, host) if entry.note in _PROMISES]
    for document in database.removing(host):
        known |= set(_paths(document, host))
    return promised, known


def _promises(document: Mapping, host: str) -> Iterator[Stray]:
    """All entries of a host, with their status as the note."""
    run = _name(document)
    for copy in documents.copies(document):
        if copy.host == host:
            yield Stray("", copy.kind, copy.location.rstrip("/"), run=run, note=copy.status)


def _paths(document: Mapping, host: str) -> Iterator[str]:
    """Every path at a host that a document speaks of, however odd the entry: whose data they are is known.

    Beside the location: where a copy is moved from and to, what a move left behind, where what is removed
    waits.
    """
    entries = documents.value(document, "data", type_=list) or []
    for entry in entries:
        if documents.value(entry, "host") != host:
            continue
        for *keys, last in _PATHS:
            if path := documents.value(entry, *keys, last, type_=str):
                yield path.rstrip("/")
                if (*keys, last) in _LEFT:
                    yield sign_of(path, _name(document))


def _name(document: Mapping) -> str:
    return f"{document.get('name')}{'_MV' if document.get('detector') == 'muon_veto' else ''}"
