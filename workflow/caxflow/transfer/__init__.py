"""Moving datasets between sites, verified.

A dataset is a directory or a single file. What `copy` publishes is byte for byte what was read at the
source: it is hashed while it is read and again where it arrives, the digests are compared, the files are on
the disk before the last step, which is one rename. Empty files and empty directories are copied, times of
modification kept; permissions follow the umask of the account that writes. Symbolic links, devices, sockets
and named pipes in a dataset are refused.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from caxflow import preview
from caxflow.errors import CaxflowError
from caxflow.files.census import Item
from caxflow.files.contents import Contents, Inventory
from caxflow.files.manifest import Manifest, printable
from caxflow.files.permissions import Wanted
from caxflow.transfer.place import Place
from caxflow.transfer.progress import Copied, Progress
from caxflow.transfer.restriction import Restriction

__all__ = [
    "Contents",
    "Copied",
    "Examination",
    "Inventory",
    "Item",
    "Look",
    "Place",
    "Progress",
    "RootLook",
    "allowed",
    "census",
    "copy",
    "examine",
    "exists",
    "free_space",
    "have_one_file_system",
    "inventory",
    "link",
    "look",
    "mark",
    "markers",
    "names",
    "permissions",
    "prune",
    "remove_leftovers",
    "remove_tree",
    "rename",
    "root",
    "take_manifest",
    "take_manifests",
    "touch",
    "try_rename",
    "unlink",
]

_LATEST = 253402300799  # s since 1970: what no date can be written of has a file seldom, or a far end invents


def copy(
    source: Place,
    source_path: str,
    destination: Place,
    destination_path: str,
    *,
    expected: Manifest | None = None,
    progress: Callable[[Progress], None] | None = None,
    extra_algorithms: tuple[str, ...] = (),
    allow_existing: bool = True,
    root: str | None = None,
) -> Copied:
    """Copy a dataset and publish it under `destination_path` once it is whole.

    Parameters
    ----------
    source, destination : Place
        Both may be remote; the bytes then pass through here.
    source_path, destination_path : str
        A directory or a single file, and what it will be called; the directory that is to hold it is made,
        the one above must exist.
    expected : Manifest, optional
        What the source must hold.
    progress : callable, optional
        Called a few times a second from the calling thread; an exception it raises ends the transfer.
    extra_algorithms : tuple of str
        Digests to take in the same pass, see `caxflow.files.digests`.
    allow_existing : bool
        Whether an identical copy that is already there is read, compared and taken over.
    root : str, optional
        The destination's data root, which is never made, and must have the site's marker: its file system may
        not be mounted.

    Returns
    -------
    Copied

    Raises
    ------
    CaxflowError
        In one line. Nothing is published; what has arrived is kept, hidden, for the next attempt. It is a
        BadSource if the source is not what is expected.
    """
    from caxflow.transfer.job import Job
    from caxflow.transfer.task import attend

    preview.refuse(f"copying to {destination_path}")
    job = Job(
        source,
        source_path,
        destination,
        destination_path,
        expected=expected,
        extra_algorithms=extra_algorithms,
        allow_existing=allow_existing,
        root=root,
    )
    return attend(job, progress)


def take_manifest(
    place: Place,
    path: str,
    *,
    algorithm: str = "xxh128",
    drop_cache: bool = True,
    size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Manifest:
    """Read a dataset where it is and make its manifest.

    Parameters
    ----------
    place : Place
    path : str
    algorithm : str
        Digest wanted; where that cannot be computed there, sha256 is taken: `Manifest.algorithm` tells.
    drop_cache : bool
        Drop what the machine has cached of the files first, so that the disk is read.
    size : int, optional
        Bytes that it must hold, where that is known: no site is waited for that says to read ever more.
    progress : callable, optional
        Called a few times a second; an exception it raises ends the reading.

    Raises
    ------
    CaxflowError
        In one line, if something cannot be read or changes meanwhile.
    """
    found = take_manifests(place, path, [algorithm], drop_cache=drop_cache, size=size, progress=progress)
    return found[algorithm]


def take_manifests(
    place: Place,
    path: str,
    algorithms: Sequence[str],
    *,
    drop_cache: bool = True,
    size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Manifest]:
    """Read a dataset once, as `take_manifest` does, and make its manifests by several digests."""
    arguments = {"path": path, "algorithms": list(algorithms), "drop_cache": drop_cache}
    found = _visit(place, "manifests", progress, path, size, **arguments)
    return {name: Manifest.from_json(found.get(name) or found["sha256"]) for name in algorithms}


def inventory(place: Place, path: str) -> Inventory:
    """List a dataset; of its zip files only the directories are read."""
    found = _visit(place, "inventory", path=path)
    zips = {
        name: Contents(each["numbers"], each["others"], each["faults"], each["oddities"])
        for name, each in found["zips"].items()
    }
    return Inventory(found["files"], found["directories"], found["leftovers"], zips)


@dataclass(frozen=True)
class Examination:
    """What reading a dataset has shown.

    Parameters
    ----------
    manifests : dict of str to Manifest
        By algorithm; where one that was asked for cannot be computed there, sha256 is in its place.
    faults, oddities : list of str
        How its zip files differ from their own checksums, and what is in them that belongs to no member.
    """

    manifests: dict[str, Manifest]
    faults: list[str]
    oddities: list[str]


def examine(
    place: Place,
    path: str,
    *,
    algorithms: Sequence[str] = ("xxh128",),
    progress: Callable[[Progress], None] | None = None,
) -> Examination:
    """Read a dataset once: make its manifests, and compare its zip files with their own checksums."""
    found = _visit(place, "examine", progress, path, path=path, algorithms=list(algorithms))
    faults, oddities = (
        [f"{printable(name)} {text}" for name, each in sorted(found["zips"].items()) for text in each[which]]
        for which in (0, 1)
    )
    manifests = {name: Manifest.from_json(each) for name, each in found["manifests"].items()}
    for entry in next(iter(manifests.values())).entries:
        if entry.path.endswith(".zip") and entry.path not in found["zips"]:
            raise CaxflowError(
                f"{place.site}: says nothing of {printable(entry.path)}, which it was to examine",
                "ask the site's manager what answers in the place of python there",
            )
    return Examination(manifests, faults, oddities)


@dataclass(frozen=True)
class Look:
    """What is at a path.

    Parameters
    ----------
    kind : str or None
        See `exists`.
    files : dict
        Of a dataset, sizes in bytes by path.
    error : str
        Why it is no dataset that could be listed, or opened; empty if it is one, or nothing is there.
    identity : sequence of (int, int)
        Inode and time of change (ns) of each file, which are the same wherever its file system is mounted;
        empty where they are not told.
    changed : float or None
        Seconds since any of its files was last changed, by the clock of that machine.
    seen : float
        When that was answered, by the monotonic clock of this machine.
    """

    kind: str | None
    files: dict[str, int]
    error: str = ""
    identity: Sequence[Sequence[int]] = field(default=(), compare=False)
    changed: float | None = field(default=None, compare=False)
    seen: float = field(default_factory=time.monotonic, compare=False)


def look(place: Place, paths: Sequence[str], *, opened: bool = False) -> list[Look]:
    """Look what is at each path, in one visit.

    Parameters
    ----------
    opened : bool
        Whether some files of each are opened, too: of what was taken away a network file system may
        remember names and sizes for a while.
    """
    return [Look(**each) for each in _visit(place, "look", paths=list(paths), opened=opened)]


def names(place: Place, folder: str) -> list[str]:
    """Names of what is right in a folder."""
    return _visit(place, "names", folder=folder)


def census(place: Place, root: str, depth: int = 1) -> list[Item]:
    """List what is below a root, with sizes and ages; see `caxflow.files.census.census`."""
    items = [Item(*item) for item in _visit(place, "census", root=root, depth=depth)]
    return [item._replace(newest=min(max(item.newest, 0), _LATEST)) for item in items]


def permissions(place: Place, path: str, wanted: Wanted, *, apply: bool) -> list[str]:
    """How owner, group, modes and access control lists below `path` deviate; `apply` mends them.

    See `caxflow.files.permissions.deviations`.
    """
    return _visit(place, "permissions", path=path, wanted=list(wanted), apply=apply)


def exists(place: Place, path: str) -> str | None:
    """What is at `path`: ``file``, ``directory``, ``other`` (a symbolic link, a device, …) or None."""
    return _visit(place, "kind", path=path)


def free_space(place: Place, path: str) -> int | None:
    """Return the bytes that may still be written to the file system on which `path` is or will be.

    None where that is not told.

    Raises
    ------
    CaxflowError
        If no look is possible.
    """
    return _visit(place, "free_space", path=path)


def have_one_file_system(place: Place, one: str, other: str) -> bool:
    """Return whether two folders are on one file system, within which files can be renamed."""
    return _visit(place, "have_one_file_system", one=one, other=other)


def allowed(place: Place) -> Restriction | None:
    """Return what our key may do at a place, if that is less than all: see `caxflow.transfer.serve`."""
    from caxflow.transfer.task import Greeting, attend

    return attend(Greeting(place))


def must_allow(place: Place, operation: str, path: str) -> None:
    """Raise a CaxflowError if our key may not do something at a place, so that nothing is done for it."""
    found = allowed(place) if place.remote else None
    if found is None:
        return
    try:
        found.check(operation, path)
    except CaxflowError as error:
        from caxflow.transfer.ends import at

        raise at(place.site, error) from None


def remove_leftovers(place: Place, parent: str, older_than: float, name: str | None = None) -> list[str]:
    """Remove what unfinished transfers left in a directory and none writes to any more.

    Parameters
    ----------
    place : Place
    parent : str
        The directory that holds the copies.
    older_than : float
        Seconds since anything was last written to them; 0 takes all, whatever their times say.
    name : str, optional
        Of the one copy to look at; by default all.

    Returns
    -------
    list of str
        Paths removed.
    """
    return _visit(place, "leftovers", parent=parent, older_than=older_than, only=name)


@dataclass(frozen=True)
class RootLook:
    """What a data root is like: its `kind` (see `exists`; a link is followed), and the text of its `marker`.

    `empty` says whether nothing is in it; `folder`, of a folder in it, ``empty``, ``full``, or None if it is
    not there; `others`, in words, which others may write to it.
    """

    kind: str | None
    marker: str | None
    empty: bool
    folder: str | None
    others: str = ""


def root(place: Place, path: str, folder: str | None = None) -> RootLook:
    """Look at the data root `path`, and at a `folder` in it, in one visit."""
    return RootLook(**_visit(place, "root", root=path, folder=folder or path, site=place.site))


def markers(place: Place, path: str) -> list[tuple[str, str]]:
    """Folder and text of the markers at the data root `path`, above it, and right in it."""
    return [(folder, text) for folder, text in _visit(place, "markers", root=path)]


def mark(place: Place, path: str, text: str) -> bool:
    """Give the data root `path` its marker, see `caxflow.files.marker`; False if it has one already."""
    return _visit(place, "mark", root=path, text=text)


def rename(place: Place, old: str, new: str, *, root: str) -> None:
    """Rename a copy within `root`, which has the site's marker; nothing may be at the new path."""
    if not try_rename(place, old, new, root=root, new_root=root):
        raise CaxflowError(
            f"{place.site}: {old} and {new} are on different file systems, and nothing is copied there",
            "move it by hand, or keep what is in one folder on one file system",
        )


def try_rename(place: Place, old: str, new: str, *, root: str, new_root: str) -> bool:
    """Rename a copy from below `root` to below `new_root`; False where that is another file system.

    Raises
    ------
    CaxflowError
        If the new root has no marker of the site, as where its file system is not mounted.
    """
    return _visit(place, "rename", old=old, new=new, root=root, new_root=new_root, site=place.site)


def touch(place: Place, path: str, *, root: str) -> None:
    """Make an empty file strictly below `root`, which is not there yet."""
    _visit(place, "touch", path=path, root=root)


def link(place: Place, path: str, target: str, *, root: str) -> bool:
    """Make a symbolic link strictly below `root` that leads to `target`; False if something else is there."""
    return _visit(place, "link", path=path, target=target, root=root)


def unlink(place: Place, path: str, target: str, *, root: str) -> None:
    """Remove the symbolic link strictly below `root` that leads to `target`; anything else stays."""
    _visit(place, "unlink", path=path, target=target, root=root)


def prune(place: Place, path: str, *, root: str) -> None:
    """Remove a folder strictly below `root`, and those above it, as far as they are empty."""
    _visit(place, "prune", path=path, root=root)


def remove_tree(place: Place, path: str, *, root: str, begin_by: float | None = None) -> None:
    """Remove a file or directory strictly below `root`; it may be gone already.

    Parameters
    ----------
    begin_by : float, optional
        Until when that must begin, there (monotonic clock of this machine); each file that follows goes soon
        after the last one, or stays. Where no program of ours runs (``scp``), one request may be late.

    Raises
    ------
    CaxflowError
        If it was held up: what had let it go may hold no more.
    """
    _visit(place, "remove_tree", path=path, root=root, begin_by=begin_by)


def _visit(place: Place, operation: str, progress=None, total=None, size=None, **arguments):
    import os

    from caxflow.transfer.session import CHANGES
    from caxflow.transfer.task import Visit, attend

    # `leftovers` removes what attempts have left; `permissions` changes something if it is to apply them.
    if operation in CHANGES or operation == "leftovers" or arguments.get("apply"):
        preview.refuse(f"{operation.replace('_', ' ')} at {place.site}")
    # Whatever paths are given as, the far end gets text.
    plain = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in arguments.items()
    }
    return attend(Visit(place, operation, total and os.fspath(total), size, **plain), progress)
