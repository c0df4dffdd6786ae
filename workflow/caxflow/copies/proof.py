"""Reading a copy again from the disk and comparing it with what it must be."""

import datetime
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping

from caxflow import transfer
from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.manifest import Difference, Manifest, printable
from caxflow.rawdata.rawformat import is_raw_file
from caxflow.transfer import Look, Place, Progress

Glance = Callable[[Place, str], Look]


def read_again(
    place: Place,
    location: str,
    stated: Iterable[Mapping],
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Manifest, list[str]]:
    """Read a copy from its disk and compare it with a manifest.

    Parameters
    ----------
    place : Place
        Where it is; it is read there.
    location : str
    stated : iterable of mapping
        What it must be: manifests as JSON documents, by one or more digests, the preferred first.

    Returns
    -------
    Manifest
        What was found.
    list of str
        How each file differs; empty if all is right.

    Raises
    ------
    CaxflowError
        If it cannot be read; or is what it must be, with other files beside its own, which says nothing
        against these.
    """
    expected = [Manifest.from_json(document) for document in stated]
    algorithm = expected[0].algorithm
    size = max(manifest.size for manifest in expected)
    found = transfer.take_manifest(
        place, location, algorithm=algorithm, drop_cache=True, size=size, progress=progress
    )
    return found, compare(place, location, expected, found)


def compare(place: Place, location: str, expected: Iterable[Manifest], found: Manifest) -> list[str]:
    """Return how each file that was read differs from what was expected; empty if all is right.

    Raises
    ------
    CaxflowError
        As `read_again`, if all that differs is that there are other files, too.
    """
    for manifest in expected:
        if manifest.algorithm == found.algorithm:
            differences = manifest.differences(found)
            if differences and are_extra(differences):
                names = summary([printable(each.path) for each in differences])
                what = f"{place.site}: {location} has files that are not its own: {names}"
                raise CaxflowError(what, "move them away, then have it read again")
            return [str(difference) for difference in differences]
    raise CaxflowError(
        f"{location}: {place.site} computes {found.algorithm} only, and the source has no such digests",
        f"install xxhash for the Python at {place.site}",
    )


def are_extra(differences: Iterable[Difference]) -> bool:
    """Return whether all that differs is that there are other files, too."""
    return all(difference.kind == "extra" for difference in differences)


def unlike(digest: str | None, found: Manifest) -> str:
    """What is wrong with a copy by its manifest's digest, where that is all that is left of it; or empty."""
    known = digest and digest.startswith(f"{found.algorithm}:") and digest != found.digest
    return "its files are not those of its manifest, of which only the digest is known" if known else ""


def cax_checksum(found: Manifest, kind: str) -> str:
    """Return the checksum that cax has of a copy, from its manifest by sha512."""
    if kind == "processed":
        return found.entries[0].digest
    return digests.cax_reduce(entry.digest for entry in found.entries)


def agrees_with_cax(
    place: Place, location: str, checksum: str, progress: Callable[[Progress], None] | None = None
) -> bool:
    """Whether a copy has the checksum that cax recorded for it; see `is_as_cax_recorded`."""
    found = transfer.take_manifest(place, location, algorithm="sha512", drop_cache=False, progress=progress)
    if found.algorithm != "sha512":
        raise CaxflowError(f"{place.site} does not compute sha512", "check its Python")
    kind = "processed" if transfer.exists(place, location) == "file" else "raw"
    return has_cax_checksum(found, kind, checksum)


def has_cax_checksum(found: Manifest, kind: str, checksum: str) -> bool:
    """Return whether a copy has the checksum that cax recorded, by its manifest by sha512."""
    if kind == "processed":
        return found.entries[0].digest == checksum.lower()
    return is_as_cax_recorded(found, checksum)


def is_as_cax_recorded(found: Manifest, checksum: str) -> bool:
    """Return whether a folder's sha512 digests make the checksum that cax recorded.

    Files that came later say nothing against the others, so what is no raw data may be left out.
    """
    files = {entry.path: entry.digest for entry in found.entries}
    own = [digest for path, digest in files.items() if is_raw_file(path)]
    sums = digests.cax_sums(files) | ({digests.cax_reduce(own)} if own else set())
    return checksum.lower() in sums


def glance(place: Place, path: str) -> Look:
    """Look what is at a path."""
    return transfer.look(place, [path])[0]


class Album:
    """What was seen ahead, in one visit a site; what was not is looked at when it is asked for."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Place, str], Look | CaxflowError] = {}

    def see(self, place: Place, paths: Iterable[str]) -> None:
        """Look at paths; that a site cannot be reached is kept for who asks."""
        paths = list(dict.fromkeys(paths))
        try:
            looks: list[Look | CaxflowError] = list(transfer.look(place, paths))
        except CaxflowError as error:
            looks = [error] * len(paths)
        self._seen |= {(place, path): look for path, look in zip(paths, looks, strict=True)}

    def __call__(self, place: Place, path: str) -> Look:
        """What was seen at a path."""
        if (place, path) not in self._seen:
            self.see(place, [path])
        found = self._seen[place, path]
        if isinstance(found, CaxflowError):
            raise found
        return found


def same_files(
    place: Place, location: str, expected: Manifest, *, renamed: bool = False, look: Glance = glance
) -> str:
    """Look whether a copy is still there with its files and their sizes; why not, or an empty text.

    Parameters
    ----------
    renamed : bool
        Whether the copy waits under another name: that of a single file then tells nothing.
    look : callable
        How it is looked at.
    """
    return difference(look(place, location), location, expected, renamed=renamed)


def difference(found: Look, location: str, expected: Manifest, *, renamed: bool = False) -> str:
    """Return why what was seen at a path is not a copy by names and sizes; empty if it is."""
    if found.kind not in ("directory", "file"):
        seen = "nothing" if found.kind is None else "a symbolic link, or something else that is no data,"
        return f"there is {seen} at {location}"
    if found.error:
        return found.error
    if _sizes(found, expected, renamed) != {entry.path: entry.size for entry in expected.entries}:
        return f"files at {location} are not those of its manifest"
    return ""


def outline(found: Look) -> str | None:
    """Return a digest of what was seen of a copy, of its names and sizes; None if it cannot be one."""
    if found.kind not in ("directory", "file") or found.error:
        return None
    listed = json.dumps([found.kind, sorted(found.files.items())])
    return hashlib.sha256(listed.encode()).hexdigest()


def are_same_files(one: Look, other: Look) -> bool:
    """Return whether two looks saw any of the very same files, whatever called and wherever mounted."""
    ours, theirs = ({tuple(each) for each in look.identity} for look in (one, other))
    return bool(ours & theirs)


def has_changed(
    found: Look, read: datetime.datetime, now: Callable[[], datetime.datetime], earlier: Look | None = None
) -> bool:
    """Return whether files that were seen may have changed after they were read: no clock matters, but ages.

    What changed so shortly before it was read that a question takes as long, counts as changed; what changes
    while it is read, the reading finds.

    Parameters
    ----------
    read : datetime
        When the reading began, the server's time (naive UTC).
    now : callable
        Asks for the server's time.
    earlier : Look, optional
        A look that saw them as they were read: what has the same inodes and times of change is that still.
    """
    if found.changed is None or (
        earlier and found.identity and list(found.identity) == list(earlier.identity)
    ):
        return False
    age = found.changed + time.monotonic() - found.seen
    return age < (now() - read).total_seconds()


def is_all_there(place: Place, location: str, expected: Manifest | None) -> bool:
    """Return whether each file of a copy is at a path, renamed or not, with its size; others may be, too.

    Without a manifest, whether there is anything.
    """
    found = glance(place, location)
    if expected is None:
        return found.kind in ("directory", "file")
    sizes = _sizes(found, expected, True)
    return all(sizes.get(entry.path) == entry.size for entry in expected.entries)


def foreign_files(place: Place, location: str, expected: Manifest) -> list[str]:
    """Files of a renamed copy that its manifest does not know; others of it may be gone already."""
    known = {entry.path: entry.size for entry in expected.entries}
    found = glance(place, location)
    if found.error:
        return [found.error]
    return [path for path, size in _sizes(found, expected, True).items() if known.get(path) != size]


def _sizes(found: Look, expected: Manifest, renamed: bool) -> dict[str, int]:
    """Sizes of a copy's files by their paths; a single file that was renamed has its own name again."""
    if renamed and len(expected) == 1 and found.kind == "file":
        return dict(zip([expected.entries[0].path], found.files.values(), strict=True))
    return found.files


def summary(differences: list[str], most: int = 5) -> str:
    """The first differences in a line."""
    more = f" and {len(differences) - most} more" if len(differences) > most else ""
    return "; ".join(differences[:most]) + more
