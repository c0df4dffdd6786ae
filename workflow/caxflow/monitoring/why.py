"""Why a run is where it is: what it waits for, what went wrong, and what happens next, seen from one site."""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from caxflow import documents, targets
from caxflow.conditions.corrections import Edition
from caxflow.config import Selection, Settings
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.monitoring import status
from caxflow.planning import decisions, pauses
from caxflow.targets import Run, Target
from caxflow.workdir import journal, underway

SETTLED, TODO, BUSY, WAITS, EXCLUDED, PROBLEM, UNKNOWN, UNASKED = (
    "settled",
    "todo",
    "busy",
    "waits",
    "excluded",
    "problem",
    "unknown",
    "unasked",
)


@dataclass(frozen=True)
class Trouble:
    """A failure that has not been made good.

    Parameters
    ----------
    where : str
        The target, or the copy.
    reason : str
    attempts : int
        How many have failed in a row.
    at, next : datetime or None
        When the last one failed and when the next is due, naive UTC; no next: it waits for a human.
    log : str
        Path of the log, where it is here.
    """

    where: str
    reason: str
    attempts: int = 0
    at: datetime.datetime | None = None
    next: datetime.datetime | None = None
    log: str = ""


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
class Answer:
    """Why a run is where it is.

    Parameters
    ----------
    run, here : str
    verdict : str
        ``settled``: nothing remains to be done here; ``todo``: the next ``all`` makes `todo`; ``busy``: jobs
        are at work; ``waits``: for `waits`; ``excluded``: by the configuration, see `waits`; ``problem``:
        its document has surprises, see `waits`; ``unknown``: nothing is known of it; ``unasked``: the runs
        database does not answer (`away`), what is here is known.
    todo : list of str
        Targets that the next ``all`` would ask for.
    waits : list of str
    claims : list of str
        Copies that somebody is making, and until when the claim holds.
    troubles : list of Trouble
        The newest last.
    underway : dict
        Jobs at work here, by target.
    removed : list of str
        Copies that were taken away on purpose: when, by whom and on what grounds.
    untold : list of str
        Targets that the runs database has yet to be told about.
    receipts : dict
        By site, the stages that are proven here.
    history : list of Deed
        All that was done to its copies, in the order of time.
    """

    run: str
    here: str
    verdict: str = UNKNOWN
    away: str = ""
    todo: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    underway: dict[str, dict] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    receipts: dict[str, list[str]] = field(default_factory=dict)
    history: list[Deed] = field(default_factory=list)


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
    """
    found = Answer(str(run), settings.here.name, away=away)
    if work_dir is not None:
        _look_here(found, run, settings, work_dir)
    found.troubles = list(troubles(run, document, settings, work_dir))
    if document is not None:
        found.claims = list(_claims(document, settings))
        _look_ahead(found, document, settings, work_dir, now=now, editions=editions)
        found.removed = list(_removed(document, settings, audit))
    found.history = list(_history(audit, settings))
    if found.underway:
        found.verdict = BUSY
    elif document is None:
        known = found.receipts or found.troubles or found.untold
        found.verdict = UNASKED if away else WAITS if known else UNKNOWN
        if known and not away:
            found.waits.append("it is not in the runs database, though receipts here speak of it")
    return found


def troubles(
    run: Run, document: Mapping | None, settings: Settings, work_dir: Path | None
) -> Iterator[Trouble]:
    """What failed and was not made good since, by the journal here, then by the document.

    Parameters
    ----------
    document, work_dir
        None where they are not to be looked at.
    """
    told = set()
    for failure in status.failures(work_dir, run, settings.sites) if work_dir is not None else ():
        at, again = _time(failure.get("at")), pauses.next_attempt(failure, settings)
        attempts = int(failure.get("attempts", 1))
        where = targets.path(failure["site"], run, failure["stage"])
        told.add(reason := str(failure.get("reason")))
        yield Trouble(where, reason, attempts, at, again, _log(work_dir, failure["site"], run))
    for copy in documents.copies(document) if document is not None else ():
        reason = status.remark(copy)
        if reason in told or not (copy.status == documents.ERROR or "suspect" in copy.note):
            continue
        attempts = documents.value(copy.note, "attempts", type_=int) or 0
        again = documents.time_of(copy.note.get("next")) if attempts < settings.attempts else None
        yield Trouble(_of(copy, settings), reason, attempts, next=again)


def unsaid(waits: Iterable[str], found: Sequence[Trouble]) -> list[str]:
    """Of what a run waits for, what its troubles do not say themselves."""
    told = tuple(f"{trouble.where} failed " for trouble in found)
    reasons = tuple(f": {trouble.reason}" for trouble in found)
    return [text for text in waits if not (text.startswith(told) or text.endswith(reasons))]


def excluded(document: Mapping, selection: Selection) -> str | None:
    """Which condition of the configuration keeps a run out, in words; None if it is looked after."""
    return next(_excluding(document, selection), None)


def _look_here(found: Answer, run: Run, settings: Settings, work_dir: Path) -> None:
    """What receipts and journal know."""
    found.receipts = status.stated(work_dir, run, settings.sites)
    found.untold = [str(target) for target in journal.pending(work_dir) if target.run == run]
    for site in settings.sites:
        for stage in targets.STAGES:
            target = Target(site, run, stage)
            state = underway.read(work_dir, target)
            if state:
                found.underway[str(target)] = asdict(state)


def _claims(document: Mapping, settings: Settings) -> Iterator[str]:
    """Who makes which copy."""
    for copy in documents.copies(document):
        if copy.status == documents.TRANSFERRING:
            yield f"{_of(copy, settings)} is {status.remark(copy)}"


def _of(copy: Copy, settings: Settings) -> str:
    names = {site.host: site.name for site in settings.sites.values()}
    return f"its {copy.kind} copy at {names.get(copy.host, copy.host)}"


def _look_ahead(
    found: Answer,
    document: Mapping,
    settings: Settings,
    work_dir: Path | None,
    *,
    now: datetime.datetime,
    editions: Sequence[Edition],
) -> None:
    """What planning makes of the run."""
    reason = excluded(document, settings.selection)
    if reason:
        found.verdict, found.waits = EXCLUDED, [reason]
        return
    try:
        decision = decisions.decide(document, settings, decisions.skip_function(), now, editions=editions)
    except CaxflowError as error:
        found.verdict, found.waits = PROBLEM, [str(error)]
        return
    if work_dir is not None:
        pauses.Pauses(work_dir, settings, now)(decision)
    found.waits = unsaid(decision.waits, found.troubles)
    found.todo = [
        target for target in decision.targets if work_dir is None or not (work_dir / target).exists()
    ]
    found.verdict = TODO if decision.targets else WAITS if decision.waits else SETTLED


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
    names = {site.host: site.name for site in settings.sites.values()}
    for record in audit:
        kind, host, version, action, grounds = (
            documents.value(record, key, type_=str) or ""
            for key in ("kind", "host", "pax_version", "action", "grounds")
        )
        by = documents.value(record, "by", type_=Mapping) or {}
        who = f"{by.get('user', '?')}@{by.get('host', '?')}, caxflow {record.get('caxflow', '?')}"
        copy = " ".join(each for each in (kind, version, "at", names.get(host, host)) if each)
        yield Deed(documents.time_of(record.get("at")), action, copy, who, grounds)


def _excluding(document: Mapping, selection: Selection) -> Iterator[str]:
    run = documents.run_of(document)
    number = documents.value(document, "number", type_=int)
    start = documents.time_of(document.get("start"))
    source = documents.value(document, "source", "type", type_=str)
    listed = documents.value(document, "tags", type_=list) or []
    tags = {documents.value(tag, "name", type_=str) for tag in listed}
    if selection.runs and str(run) not in selection.runs:
        yield "it is not among the configured runs"
    if selection.detectors and run.detector not in selection.detectors:
        yield f"select.detectors does not name {run.detector}"
    for bound, wrong, word in (
        (selection.first, lambda bound: number is None or number < bound, "first"),
        (selection.last, lambda bound: number is None or number > bound, "last"),
    ):
        if bound is not None and wrong(bound):
            yield f"its number is {number}, and select.numbers.{word} is {bound}"
    if selection.after and (start is None or start < selection.after):
        yield f"it started before select.start.after, {selection.after}"
    if selection.before and (start is None or start >= selection.before):
        yield f"it did not start before select.start.before, {selection.before}"
    if selection.sources and source not in selection.sources:
        yield f"its source is {source}, and select.sources has {', '.join(selection.sources)}"
    if selection.tags and not tags & set(selection.tags):
        yield f"it has none of the tags in select.tags: {', '.join(selection.tags)}"
    for tag in sorted(tags & set(selection.without_tags)):
        yield f"it is tagged {tag}, which select.without_tags keeps out"


def _log(work_dir: Path, site: str, run: Run) -> str:
    """The log of a run at a site that was written to last."""
    logs = list((work_dir / "logs" / site).glob(f"{run}.*.log"))
    return str(max(logs, key=lambda log: log.stat().st_mtime)) if logs else ""


def _time(text: object) -> datetime.datetime | None:
    try:
        at = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at.astimezone(datetime.UTC).replace(tzinfo=None) if at.tzinfo else at
