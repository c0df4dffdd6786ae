"""Why a run is where it is: what it waits for, what went wrong, and what happens next, seen from one site."""

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caxflow import documents
from caxflow.conditions.corrections import Edition, Voltage
from caxflow.config import Settings
from caxflow.monitoring import consistency, status
from caxflow.planning import troubles
from caxflow.planning.standing import (
    BUSY,
    EXCLUDED,
    FAILED,
    PROBLEM,
    SETTLED,
    TAKING,
    TODO,
    WAITS,
    Standing,
    Standings,
    batch_of,
    underway_of,
)
from caxflow.targets import Run
from caxflow.workdir import journal

__all__ = [
    "BUSY",
    "EXCLUDED",
    "FAILED",
    "PROBLEM",
    "SETTLED",
    "TAKING",
    "TODO",
    "UNASKED",
    "UNKNOWN",
    "WAITS",
    "Answer",
    "Deed",
    "answer",
]

# Beside the states of a run that has a document.
UNKNOWN, UNASKED = "unknown", "unasked"


@dataclass(frozen=True)
class Deed:
    """What was done to a copy, as the audit has it.

    Parameters
    ----------
    at : datetime or None
        The server's time, naive UTC.
    action : str
        As in `caxflow.rundb.audit`.
    copy : str
        Kind, version and site.
    by : str
        User, host and version of caxflow.
    grounds : str
    """

    at: datetime.datetime | None
    action: str
    copy: str
    by: str
    grounds: str


@dataclass
class Answer(Standing):
    """How a run stands at a site, and what else is known of it there.

    Parameters
    ----------
    here : str
    verdict : str
        The state of `Standing`, or ``unknown``: nothing is known of the run; ``unasked``: the runs database
        does not answer (`away`), what is here is known.
    removed : list of str
        Copies that were taken away on purpose: when, by whom and on what grounds.
    untold : list of str
        Targets that the runs database has yet to be told about.
    receipts : dict
        By site, the stages that are proven here.
    odd : list of str
        Values of its document that cannot be read.
    history : list of Deed
        All that was done to its copies, in the order in which it was done.
    """

    here: str = ""
    verdict: str = UNKNOWN
    away: str = ""
    removed: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    receipts: dict[str, list[str]] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)
    history: list[Deed] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether the run is known and nothing is wrong with it here."""
        return self.verdict == self.state and not self.away and super().well


def answer(
    run: Run,
    document: Mapping | None,
    settings: Settings,
    work_dir: Path | None,
    *,
    now: datetime.datetime,
    away: str = "",
    audit: Iterable[Mapping] = (),
    editions: Sequence[Edition] = (),
    voltage: Voltage | None = None,
    twice: Collection[Run] = (),
) -> Answer:
    """Say why a run is where it is.

    Parameters
    ----------
    document : mapping or None
        The run document; None where the database has none, or does not answer (`away` says why).
    work_dir : Path or None
        None where no workflow has run yet.
    now : datetime
        The server's time, naive UTC.
    audit : iterable of mapping
        What the audit has about the run.
    editions : sequence of Edition
        The corrections that are configured here.
    voltage : callable, optional
        Where the cathode voltage comes from.
    twice : collection of Run
        As `RunsDB.twice` has them.
    """
    here = settings.here.name
    if document is not None:
        standing = Standings(settings, now, work_dir, editions=editions, voltage=voltage, twice=twice).of(
            document
        )
        found = Answer(**vars(standing), here=here, away=away, verdict=standing.state)
        found.removed = list(_removed(document, settings, audit))
        found.odd = list(consistency.unreadable(document, settings))
    else:
        found = Answer(str(run), here=here, away=away, verdict=UNASKED if away else UNKNOWN)
    if work_dir is not None:
        found.receipts = status.stated(work_dir, run, settings.sites)
        found.untold = [str(target) for target in journal.pending(work_dir) if target.run == run]
        if document is None:
            _add_what_is_here(found, run, settings, work_dir, now)
    found.history = list(_history(audit, settings))
    return found


def _add_what_is_here(
    found: Answer, run: Run, settings: Settings, work_dir: Path, now: datetime.datetime
) -> None:
    """Add what a work directory knows of a run whose document is not known."""
    found.underway = underway_of(work_dir).get(run, {})
    found.batch = batch_of(work_dir).get(run, [])
    found.claims += map(str, found.batch)
    found.troubles = list(troubles.of_journal(run, settings, work_dir, now))
    if found.underway or any(job.watched for job in found.batch):
        found.state = found.verdict = BUSY
    elif not found.away and (found.receipts or found.troubles or found.untold):
        found.verdict = WAITS
        found.waits.append("it is not in the runs database, though receipts here speak of it")


def _removed(document: Mapping, settings: Settings, audit: Iterable[Mapping]) -> Iterator[str]:
    """Copies that were removed and are not there again, in words."""
    records = {record.get("_id"): record for record in audit}
    names = {site.host: site.name for site in settings.sites.values()}
    there = {(copy.kind, copy.host, copy.version) for copy in documents.copies(document)}
    for gone in documents.value(document, "caxflow", "gone", type_=list) or []:
        if not isinstance(gone, Mapping) or gone.get("why") != "removed":
            continue
        kind, host, version = (
            documents.value(gone, key, type_=str) for key in ("type", "host", "pax_version")
        )
        if kind is None or host is None or (kind, host, version) in there:
            continue
        record = records.get(f"{gone.get('token')}.removed", {})
        at, by = documents.time_of(gone.get("at")), documents.value(record, "by", type_=Mapping)
        when = f", {at:%Y-%m-%d %H:%M} UTC" if at else ""
        who = f", by {by.get('user')}@{by.get('host')}" if by else ""
        grounds = f": {record['grounds']}" if record.get("grounds") else ""
        what = f"{kind} copy {version}" if version else f"{kind} copy"
        yield f"its {what} at {names.get(host, host)} was removed{when}{who}{grounds}"


def _history(audit: Iterable[Mapping], settings: Settings) -> Iterator[Deed]:
    """Yield the records of the audit in the order in which things were done, not in that of their telling."""
    names = {site.host: site.name for site in settings.sites.values()}
    for record in sorted(audit, key=lambda record: _done(record) or datetime.datetime.min):
        kind, host, version, action, grounds = (
            documents.value(record, key, type_=str) or ""
            for key in ("kind", "host", "pax_version", "action", "grounds")
        )
        by = documents.value(record, "by", type_=Mapping) or {}
        who = f"{by.get('user', '?')}@{by.get('host', '?')}, caxflow {record.get('caxflow', '?')}"
        copy = " ".join(each for each in (kind, version, "at", names.get(host, host)) if each)
        yield Deed(_done(record), action, copy, who, grounds)


def _done(record: Mapping) -> datetime.datetime | None:
    return documents.time_of(record.get("done")) or documents.time_of(record.get("at"))
