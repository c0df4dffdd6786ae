"""What is where: rows about all copies, or about those of one run, out of documents and receipts."""

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from caxflow import documents, receipts, targets
from caxflow.config import Settings
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.planning import copystate
from caxflow.planning.copystate import COPIED, PROVEN
from caxflow.planning.presence import Presence
from caxflow.planning.standing import Standing, Standings, underway_of
from caxflow.planning.troubles import failures
from caxflow.targets import Run, Target
from caxflow.workdir import proofs

# What counting looks at; it takes every document, so not a key more.
COUNTED = dict.fromkeys(
    (
        "name",
        "detector",
        "raw_size_byte",
        "data.type",
        "data.host",
        "data.status",
        "data.location",
        "data.size",
        "data.manifest",
        "data.caxflow.owner",
        "data.caxflow.verified",
        "data.caxflow.suspect",
        "data.caxflow.removing",
        "data.caxflow.moving",
        "data.caxflow.treemakers",
    ),
    1,
)
KINDS = ("raw", "processed", "minitrees")
# The stages that prove copies of a kind; minitrees have none.
_PROOFS = {"raw": "checksum", "processed": "processed.checksum"}


@dataclass(frozen=True)
class Row:
    """Copies of a kind in a state at a site; `oldest` is when the one longest unread was last read."""

    site: str
    kind: str
    state: str
    copies: int
    bytes: int | None = None
    oldest: datetime.datetime | None = None


@dataclass(frozen=True)
class CopyState:
    """One copy of a run.

    Parameters
    ----------
    site : str
        Name of the site; of a host that is none of ours, the host's.
    kind, host, location, version
        As in the run document.
    state : str
        ``proven`` (caxflow read its bytes from disk, and they equal the origin's), ``copied`` (transferred,
        but not by caxflow or not read again), ``suspect``, ``missing`` (here, and not in its place),
        ``removing``, ``moving``, or cax's word for one that is not there yet.
    size : int or None
        Bytes.
    verified : datetime or None
        When the bytes were last read, naive UTC.
    remark : str
        Last error, or who makes it until when.
    """

    site: str
    kind: str
    state: str
    host: str
    location: str
    version: str | None = None
    size: int | None = None
    verified: datetime.datetime | None = None
    manifest: str | None = None
    remark: str = ""


@dataclass
class RunStatus:
    """Everything that is known of one run; `away` says why the database was not asked.

    `standing` is how it stands here; None where the database has no document of it.
    """

    run: str
    number: int | None = None
    start: datetime.datetime | None = None
    events: int | None = None
    size: int | None = None
    copies: list[CopyState] = field(default_factory=list)
    receipts: dict[str, list[str]] = field(default_factory=dict)
    failures: list[dict] = field(default_factory=list)
    underway: dict[str, dict] = field(default_factory=dict)
    away: str = ""
    here: str = ""
    standing: Standing | None = None

    @property
    def wrong(self) -> list[tuple[str, str]]:
        """What failed, and why: here, where its document is known."""
        if self.standing:
            return [(trouble.where, trouble.reason) for trouble in self.standing.troubles]
        return [(f"{each['site']} {each['stage']}", str(each.get("reason"))) for each in self.failures]


def count(found: Iterable[Mapping], settings: Settings, presence: Presence | None = None) -> list[Row]:
    """Numbers of copies by site, kind and state.

    Parameters
    ----------
    found : iterable of mapping
        Run documents with (at least) the keys of `COUNTED`; looked at one by one.
    presence : Presence, optional
        Tells which copies here are missing from their places.
    """
    # Copies, bytes, when the longest unread was read: a list each, since there are millions to add up.
    sums: dict[tuple, list] = {}
    for document in found:
        entries = document.get("data")
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, Mapping) or entry.get("type") not in KINDS:
                continue
            note = entry.get("caxflow")
            note = note if isinstance(note, Mapping) else {}
            verified = documents.verified(note)
            key = (
                str(entry.get("host")),
                entry["type"],
                str(entry.get("status")),
                "suspect" in note,
                documents.was_read(note, entry.get("manifest")),
                presence is not None and _is_missing(document, entry, presence),
                copystate.changing(note),
            )
            # A raw entry of other programs has no size of its own.
            size = documents.value(entry, "size", type_=int)
            if not size and entry["type"] == "raw":
                size = documents.value(document, "raw_size_byte", type_=int)
            one = sums.setdefault(key, [0, 0, None])
            one[0] += 1
            one[1] += size or 0
            if verified and (one[2] is None or verified < one[2]):
                one[2] = verified
    return _rows(sums, settings)


def _rows(sums: Mapping[tuple, list], settings: Settings) -> list[Row]:
    """Rows of sums, those of the same state added up."""
    names, rows = _names(settings), {}
    for (host, kind, status, suspect, read, missing, changing), (copies, size, oldest) in sums.items():
        site = names.get(host, host)
        state = copystate.word(status, suspect=suspect, read=read, missing=missing, changing=changing)
        before = rows.get((site, kind, state), Row(site, kind, state, 0))
        times = [time for time in (before.oldest, oldest) if time]
        total = (before.bytes or 0) + size or None
        rows[site, kind, state] = Row(
            site, kind, state, before.copies + copies, total, min(times, default=None)
        )
    return sorted(rows.values(), key=lambda row: (*_order(row.site, row.kind, settings), row.state))


def _is_missing(document: Mapping, entry: Mapping, presence: Presence) -> bool:
    location, note = entry.get("location"), entry.get("caxflow")
    if entry.get("host") != presence.site.host or not isinstance(location, str):
        return False
    note = note if isinstance(note, Mapping) else {}
    copy = Copy(entry["type"], entry["host"], str(entry.get("status")), location, note=note)
    try:
        return bool(presence.fault(documents.run_of(document), copy))
    except CaxflowError:
        return False


def count_receipts(work_dir: Path, settings: Settings) -> list[Row]:
    """The same from the names of the receipts in the work directory; sizes are not looked up."""
    found: Counter = Counter()
    for site in settings.sites:
        folder = work_dir / site
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for name in names:
            run, _, stage = name.partition(".")
            kind, _, done = stage.rpartition(".")
            if done == "done" and kind in KINDS:
                read = f"{run}.{_PROOFS.get(kind)}" in names or (
                    kind == "raw" and settings.sites[site].origin
                )
                found[site, kind, PROVEN if read else COPIED] += 1
    rows = [Row(*key, copies) for key, copies in found.items()]
    return sorted(rows, key=lambda row: _order(row.site, row.kind, settings))


def of_run(
    run: Run,
    document: Mapping | None,
    settings: Settings,
    work_dir: Path | None,
    standings: Standings | None = None,
) -> RunStatus:
    """Everything that document, receipts and journal know of a run.

    Parameters
    ----------
    document : mapping or None
        The run document; None where the database was not asked or has none.
    work_dir : Path or None
        None where no workflow has run yet.
    standings : Standings, optional
        Says how the run stands here.
    """
    status = RunStatus(str(run), here=settings.here.name)
    names = _names(settings)
    if document is not None:
        status.number = documents.value(document, "number", type_=int)
        status.start = documents.time_of(document.get("start"))
        status.events = documents.value(document, "trigger", "events_built", type_=int)
        status.size = documents.value(document, "raw_size_byte", type_=int)
        status.standing = standings.of(document) if standings else None
        status.copies = [
            _copy_state(copy, names, status.size, status.standing, settings)
            for copy in documents.copies(document)
        ]
        status.copies.sort(key=lambda copy: _order(copy.site, copy.kind, settings))
    if work_dir is not None:
        _add_work_dir(status, run, settings, work_dir)
    return status


def stated(work_dir: Path, run: Run, sites: Iterable[str]) -> dict[str, list[str]]:
    """By site, the stages whose receipts stand in the work directory."""
    found = {
        site: [stage for stage in targets.STAGES if (work_dir / targets.path(site, run, stage)).exists()]
        for site in sites
    }
    return {site: stages for site, stages in found.items() if stages}


def plain(status: Any) -> Any:
    """A row or a run's status as plain values for JSON; times are ISO 8601, in UTC."""
    if isinstance(status, datetime.datetime):
        return status.isoformat(timespec="seconds") + "Z"
    if isinstance(status, Mapping):
        return {str(key): plain(value) for key, value in status.items()}
    if isinstance(status, list | tuple):
        return [plain(value) for value in status]
    if hasattr(status, "__dataclass_fields__"):
        return plain(asdict(status))
    return status if status is None or isinstance(status, str | int | float | bool) else str(status)


def _copy_state(
    copy: Copy,
    names: Mapping[str, str],
    raw_size: int | None,
    standing: Standing | None,
    settings: Settings,
) -> CopyState:
    size = copy.size or (raw_size if copy.kind == "raw" else None)
    return CopyState(
        names.get(copy.host, copy.host),
        copy.kind,
        standing.state_of(copy) if standing else copystate.state_of(copy),
        copy.host,
        copy.location,
        copy.version,
        size if copy.status in (documents.TRANSFERRED, documents.VERIFYING) else None,
        copy.verified,
        copy.manifest,
        copystate.remark(copy) or _unread(copy, standing, settings),
    )


def _unread(copy: Copy, standing: Standing | None, settings: Settings) -> str:
    """Say of a copy that was not read again yet who does that, if anybody."""
    if copy.status != documents.VERIFYING or standing is None:
        return ""
    here, owner = settings.here.name, copy.note.get("owner")
    if owner not in (None, here):
        return f"not read again yet: that is for `all` at {owner}"
    if owner is None and copy.host != settings.here.host:
        return "not read again yet"
    run, site = Run.parse(standing.run), _names(settings).get(copy.host, copy.host)
    if targets.path(site, run, _PROOFS.get(copy.kind, "")) in standing.todo:
        return f"not read again yet: `all` at {here} does that"
    return f"not read again yet, and no `all` at {here} does that: caxflow why {standing.run} tells why"


def _add_work_dir(status: RunStatus, run: Run, settings: Settings, work_dir: Path) -> None:
    status.receipts = stated(work_dir, run, settings.sites)
    status.failures = failures(work_dir, run, settings.sites)
    status.underway = underway_of(work_dir).get(run, {})
    if not status.copies:
        status.copies = list(_copies_from_receipts(run, status.receipts, settings, work_dir))
        status.size = next((copy.size for copy in status.copies if copy.kind == "raw"), None)


def _copies_from_receipts(run: Run, stages: Mapping[str, list[str]], settings: Settings, work_dir: Path):
    """Copies as the receipts prove them, for when the database cannot be asked."""
    for site, there in stages.items():
        for kind in KINDS:
            if f"{kind}.done" not in there:
                continue
            try:
                receipt = receipts.read(work_dir / targets.path(site, run, f"{kind}.done"))
            except CaxflowError as error:
                yield CopyState(site, kind, "unknown", settings.sites[site].host, "", remark=str(error))
                continue
            read = _read_at(work_dir, site, run, kind)
            entry = receipt.get("entry") or {}
            yield CopyState(
                site,
                kind,
                PROVEN if read or (kind == "raw" and settings.sites[site].origin) else COPIED,
                settings.sites[site].host,
                str(receipt.get("location", "")),
                entry.get("version"),
                receipt.get("bytes"),
                read,
                documents.value(receipt, "manifest", "digest", type_=str),
            )


def _read_at(work_dir: Path, site: str, run: Run, kind: str) -> datetime.datetime | None:
    """When a copy was read again, by the receipt that says so; naive UTC."""
    if kind not in _PROOFS:
        return None
    proof = work_dir / targets.path(site, run, _PROOFS[kind])
    if not proof.exists():
        return None
    return proofs.read_at(work_dir, Target(site, run, _PROOFS[kind])).replace(microsecond=0)


def _names(settings: Settings) -> dict[str, str]:
    return {site.host: site.name for site in settings.sites.values()}


def _order(site: str, kind: str, settings: Settings) -> tuple:
    """Where data are born first, then our sites, then other hosts; raw before processed."""
    ours = settings.sites.get(site)
    return (ours is None, not (ours and ours.origin), site, kind != "raw", kind)
