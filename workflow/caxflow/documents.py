"""Reads run documents as other programs write them: with missing keys, wrong types and surprises.

The schema is cax's (one entry of ``data`` a copy); ``checksum`` of an entry is the sha512 that cax computes.
What caxflow adds stands in new keys: in an entry ``manifest`` (the named digest of the copy's manifest) and
``caxflow`` (claim, last error, when it was verified); in the document ``caxflow`` (which sites need nothing
more, which copies were taken away).
"""

import contextlib
import datetime
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson.datetime_ms import DatetimeMS

from caxflow import cax, clock, values
from caxflow.errors import CaxflowError
from caxflow.targets import Run

TRANSFERRING, VERIFYING, TRANSFERRED, ERROR = "transferring", "verifying", "transferred", "error"
STATUSES = (TRANSFERRING, VERIFYING, TRANSFERRED, ERROR)
STALLED = datetime.timedelta(days=1)
_LONGEST_WORD = 4096
LONGEST_LEASE = datetime.timedelta(minutes=100_000)  # that the configuration takes

# A host may have several versions of these. Entries of type minitrees are caxflow's own: cax told nobody of
# its minitrees, and other programs pass over types that they do not know.
VERSIONED = ("processed", "minitrees")

_READERS = {int: values.whole, bool: values.truth, str: values.text}

time_of = values.time


@dataclass(frozen=True)
class Copy:
    """One entry of ``data``: a kind of data of a run at a host.

    Parameters
    ----------
    kind, host, status : str
        As in the entry: ``raw`` or ``processed``; name of the host; one of cax's status words.
    location : str
        Absolute path of the dataset's directory or of the processed file.
    version : str or None
        ``pax_version`` of a processed file.
    manifest : str or None
        Named digest of the copy's manifest, where caxflow has proven it.
    checksum : str or None
        What the entry says: cax's sha512 of the copy, see `is_cax_checksum`, if it is known.
    size : int or None
        Bytes.
    note : mapping
        The entry's ``caxflow`` key: ``owner``, ``token``, ``lease`` of a claim; ``error``, ``attempts``,
        ``next`` of a failure; ``verified``, when the last reading of the bytes began; ``restored``, when the
        entry was made again from a receipt; ``suspect``, that they are not the origin's; ``removing``, that
        the copy is on its way out; ``abandoned``, that another program had begun it; ``moving``, that it is
        on its way to another path; ``left``, the path where it was before and may still lie; ``version``, of
        the caxflow that proved it.
    """

    kind: str
    host: str
    status: str
    location: str
    version: str | None = None
    manifest: str | None = None
    checksum: str | None = None
    created: datetime.datetime | None = None
    size: int | None = None
    note: Mapping[str, Any] = field(default_factory=dict)

    @property
    def read(self) -> bool:
        """Whether caxflow read every byte from disk: again after copying, or to take the manifest."""
        return was_read(self.note, self.manifest)

    @property
    def verified(self) -> datetime.datetime | None:
        """When its bytes were last read, naive UTC."""
        return verified(self.note)

    @property
    def by(self) -> Mapping[str, Any]:
        """The process that claimed the copy, as `caxflow.receipts.who` described it; empty if not known."""
        return value(self.note, "by", type_=Mapping) or {}


def was_read(note: Mapping[str, Any], manifest: str | None) -> bool:
    """As `Copy.read`: a copy that nobody made (it has no owner) got its manifest from its own bytes."""
    return verified(note) is not None or (bool(manifest) and "owner" not in note)


def verified(note: Mapping[str, Any]) -> datetime.datetime | None:
    """When a copy with this note was last read, naive UTC; a time in the future is none."""
    return clock.past(time_of(note.get("verified")))


def run_of(document: Mapping) -> Run:
    """The run a document is about; refuses names that are not of the vocabulary."""
    name, detector = document.get("name"), document.get("detector")
    if values.text(name) is None or values.text(detector) is None:
        raise CaxflowError(
            f"run document {document.get('_id')!s:.60} has name {name!r:.60} and detector {detector!r:.60}",
            "correct the document",
        )
    return Run(name, detector)


def copies(document: Mapping, kind: str | None = None, host: str | None = None) -> Iterator[Copy]:
    """All copies that a document's ``data`` speaks of, or those of a `kind` at a `host`.

    What is no entry at all is passed over.
    """
    entries = document.get("data")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping):
            continue
        # Before the rest is looked at: planning asks this some ten times a run.
        if kind is not None and (entry.get("type") != kind or entry.get("host") != host):
            continue
        words = [_word(entry.get(key)) for key in ("type", "host", "status", "location")]
        if None in words:
            continue
        note = entry.get("caxflow")
        yield Copy(
            *words,
            version=_text(entry.get("pax_version")),
            manifest=_text(entry.get("manifest")),
            checksum=_text(entry.get("checksum")),
            created=time_of(entry.get("creation_time")),
            size=value(entry, "size", type_=int),
            note=note if isinstance(note, Mapping) else {},
        )


def find(document: Mapping, kind: str, host: str, version: str | None = None) -> Copy | None:
    """The copy of that kind at that host (and of that version).

    Raises
    ------
    CaxflowError
        If two entries claim to be that copy, or one that does has no status or location.
    """
    found = list(copies(document, kind, host))
    if kind in VERSIONED:
        found = [copy for copy in found if copy.version == version]
    if len(found) > 1:
        raise CaxflowError(
            f"{run_of(document)}: {len(found)} entries for its {kind} copy at {host}",
            "remove the wrong one from the document's data",
        )
    if not found and _half_written(document, kind, host, version):
        raise CaxflowError(
            f"{run_of(document)}: the entry for its {kind} copy at {host} has no status or location",
            "mend it, or remove it from the document's data",
        )
    return found[0] if found else None


def raw_entry(document: Mapping, copy: Copy) -> Mapping:
    """Return the entry of a copy that `find` has found, as it stands in the document."""
    words = _identity(copy.kind, copy.host, copy.version)
    return next(_entries(document, words | {"status": copy.status, "location": copy.location}))


def sharing(document: Mapping, copy: Copy) -> Iterator[str]:
    """Locations of other entries of the copy's host that are its own, lie in it, or hold it."""
    own = copy.location.rstrip("/")
    itself = _identity(copy.kind, copy.host, copy.version)
    for entry in _entries(document, {"host": copy.host}):
        if all(entry.get(key) == word for key, word in itself.items()):
            continue
        other = _text(entry.get("location"))
        if other is None:
            continue
        place = posixpath.normpath(other)
        if place == own or inside(place, own) or inside(own, place):
            yield other


def _half_written(document: Mapping, kind: str, host: str, version: str | None) -> bool:
    """Whether an entry speaks of that copy, though `copies` passes over it."""
    return any(True for _ in _entries(document, _identity(kind, host, version)))


def _identity(kind: str, host: str, version: str | None) -> dict[str, str | None]:
    """Return what says which copy an entry speaks of."""
    return {"type": kind, "host": host} | ({"pax_version": version} if kind in VERSIONED else {})


def _entries(document: Mapping, words: Mapping[str, str | None]) -> Iterator[Mapping]:
    """Yield the entries of a document that have these values."""
    listed = document.get("data")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and all(entry.get(key) == word for key, word in words.items()):
            yield entry


def is_cax_checksum(checksum: object) -> bool:
    """Return whether an entry's checksum is the bare sha512 that cax computes."""
    return isinstance(checksum, str) and len(checksum) == 128 and ":" not in checksum


def is_old_checksum(checksum: object, manifest: object) -> bool:
    """Return whether an entry's checksum is a manifest's digest, as earlier versions of caxflow wrote it."""
    ours = isinstance(checksum, str) and checksum.startswith(("xxh128:", "sha256:", "sha512:"))
    return ours and bool(manifest)


def cax_checksum(document: Mapping, kind: str, version: str | None, manifest: str | None) -> str | None:
    """Return cax's checksum of the copies with a manifest: equal manifests prove equal contents.

    None where no entry has one, or two have different ones.
    """
    found = {
        copy.checksum
        for copy in copies(document)
        if manifest and (copy.kind, copy.manifest, copy.status) == (kind, manifest, TRANSFERRED)
        if (kind not in VERSIONED or copy.version == version) and is_cax_checksum(copy.checksum)
    }
    return found.pop() if len(found) == 1 else None


def lacks_checksum(document: Mapping, copy: Copy) -> bool:
    """Return whether a good copy has no checksum for cax, which wants one: as a master, or another one has.

    cax compares them, and stops where they differ.
    """
    if copy.status != TRANSFERRED or copy.kind not in ("raw", "processed") or is_cax_checksum(copy.checksum):
        return False
    return (copy.kind, copy.host) in cax.MASTERS or any(
        (other.kind, other.status) == (copy.kind, TRANSFERRED) and is_cax_checksum(other.checksum)
        for other in copies(document)
        if copy.kind not in VERSIONED or other.version == copy.version
    )


def gone(document: Mapping, kind: str, host: str, version: str | None = None) -> Mapping[str, Any] | None:
    """What is known of a copy that was there and was taken away; None where there was none.

    ``caxflow.gone`` of the document lists them: ``type``, ``host``, ``pax_version``; ``at``, the server's
    time (naive UTC), before which no receipt about that copy holds any more; ``why``, ``removed`` or
    ``suspect``; ``token``.
    """
    listed = value(document, "caxflow", "gone", type_=list) or []
    for each in reversed(listed):
        if isinstance(each, Mapping) and (each.get("type"), each.get("host")) == (kind, host):
            if kind in VERSIONED and each.get("pax_version") != version:
                continue
            return each
    return None


def leaving(document: Mapping, host: str) -> Iterator[tuple[str, str | None]]:
    """Kind and version of each copy at a host whose removal was begun and is not completed."""
    for copy in copies(document):
        if copy.host == host and "removing" in copy.note:
            yield copy.kind, copy.version if copy.kind in VERSIONED else None


def with_gone(
    document: Mapping, kind: str, host: str, version: str | None = None, **facts: Any
) -> list[Mapping[str, Any]]:
    """``caxflow.gone`` of a document with `facts` in the place of what it says about that copy."""
    listed = value(document, "caxflow", "gone", type_=list) or []
    old = gone(document, kind, host, version)
    new = {"type": kind, "host": host, "pax_version": version} | facts
    return [each for each in listed if each is not old] + [new]


def stalled(copy: Copy, now: datetime.datetime) -> bool:
    """Whether another program began a copy, or was to check it, and left it: cax's measure counts, a day.

    Those programs write when they began: an entry without a time that can be read is of none that works.
    """
    if has_lease(copy) or not (copy.status == TRANSFERRING or is_unchecked(copy)):
        return False
    # Of a time in the future nothing is known, but that other programs' clocks may be off by some hours.
    return copy.created is None or abs(now - copy.created) > STALLED


def is_unchecked(copy: Copy) -> bool:
    """Return whether another program says that a copy is there, and that it is to be checked."""
    return copy.status == VERIFYING and "owner" not in copy.note and not copy.manifest


def has_lease(copy: Copy) -> bool:
    """Return whether a copy has a lease, as our claims do; it may be a time that no clock can have."""
    lease = copy.note.get("lease")
    return isinstance(lease, datetime.datetime | DatetimeMS) or time_of(lease) is not None


def is_held(copy: Copy, now: datetime.datetime) -> bool:
    """Return whether a claim on the copy lasts: its lease is not over, and no clock that was wrong began it.

    One without a lease is another program's.
    """
    lease, since = (time_of(copy.note.get(name)) for name in ("lease", "since"))
    if lease is None:
        return not has_lease(copy)
    return clock.is_ahead(lease, now, LONGEST_LEASE) and (since is None or clock.past(since, now) is not None)


def inside(location: str, root: str) -> bool:
    """Whether `location` lies below `root`; an entry that points elsewhere is never followed."""
    folder = location.rstrip("/")
    normal = posixpath.normpath(folder) == folder and folder.isprintable()
    return normal and folder.startswith(root.rstrip("/") + "/")


def misplaced(kind: str, run: Run, location: str, root: str) -> str:
    """Return why data at a location are not a run's own, by the names on the way; empty if they may be."""
    names = location.removeprefix(root).strip("/").split("/")
    wanted = {"raw": str(run), "minitrees": str(run), "processed": f"{run}.root"}.get(kind, names[-1])
    if names[-1] != wanted:
        return f"which is not called {wanted}"
    for name in names[:-1]:
        with contextlib.suppress(CaxflowError):
            return f"in the folder of {Run.parse(name)}"
    return ""


def value(document: Mapping, *keys: str, type_: type = object) -> Any:
    """A nested value, or None where a key is missing or the value is none of that type.

    Numbers and truth values are those that `caxflow.values` reads, however they are written.
    """
    at: Any = document
    for key in keys:
        at = at.get(key) if isinstance(at, Mapping) else None
    read = _READERS.get(type_)
    return read(at) if read else at if isinstance(at, type_) else None


def reached(document: Mapping, *keys: str) -> Iterator[Any]:
    """Yield the values that a condition of MongoDB on the dotted key sees: it looks into lists, too."""
    found: list = [document]
    for key in keys:
        inside = [each[key] for each in found if isinstance(each, Mapping) and key in each]
        found = [item for each in inside for item in (each if isinstance(each, list) else [each])]
    yield from found


def ended(document: Mapping) -> datetime.datetime | None:
    """Return when a run ended, naive UTC; None while it is being taken.

    Raises
    ------
    CaxflowError
        Naming the run, if that cannot be read.
    """
    found = document.get("end")
    at = time_of(found)
    if at is None and found:
        raise CaxflowError(
            f"{run_of(document)}: end is {values.said(found)}, not a time", "correct the run document"
        )
    return at


def tags(document: Mapping) -> list[str]:
    """Names of a run's tags, whatever else is among them."""
    return [name for name in reached(document, "tags", "name") if values.text(name)]


def _text(found: object) -> str | None:
    return _word(found) or None


def _word(found: object) -> str | None:
    """Return a text that is no longer than a path may be."""
    text = values.text(found)
    return text if text is not None and len(text) <= _LONGEST_WORD else None
