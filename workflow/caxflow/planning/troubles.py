"""What failed and was not made good since, by the journal here, by run documents, and by the disks."""

import datetime
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from caxflow import clock, documents, targets
from caxflow.config import Settings
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.planning import copystate, pauses
from caxflow.planning.decisions import LONGEST_PAUSE
from caxflow.targets import Run, Target
from caxflow.workdir import journal


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
        When the last one failed and when the next is due, naive UTC; no next: it waits for a human, or for a
        change.
    log : str
        Path of the log, where it is here.
    watched : bool
        Whether `all` looks at it again once what was refused has changed.
    """

    where: str
    reason: str
    attempts: int = 0
    at: datetime.datetime | None = None
    next: datetime.datetime | None = None
    log: str = ""
    watched: bool = False


def failures(work_dir: Path, run: Run, sites: Iterable[str]) -> list[dict]:
    """Return the last failure of each stage of a run that has not succeeded since, the newest last."""
    found = []
    for site in sites:
        for stage in targets.STAGES:
            try:
                failure = journal.failure(work_dir, Target(site, run, stage))
            except CaxflowError as error:
                failure = {"stage": stage, "site": site, "reason": str(error), "at": ""}
            if failure:
                found.append(failure)
    return sorted(found, key=lambda failure: str(failure.get("at", "")))


def of_journal(
    run: Run, settings: Settings, work_dir: Path, now: datetime.datetime, over: Collection[Target] = ()
) -> Iterator[Trouble]:
    """Yield what failed here and is not `over`, nor waited for."""
    for failure in failures(work_dir, run, settings.sites):
        target = Target(failure["site"], run, failure["stage"])
        if target in over or pauses.is_passing(failure, settings):
            continue
        yield Trouble(
            str(target),
            str(failure.get("reason")),
            int(failure.get("attempts", 1)),
            clock.past(clock.read(failure.get("at")), now),
            pauses.next_attempt(failure, settings, now),
            _log(work_dir, target),
            pauses.waits_for_change(failure, settings),
        )


def of_copy(copy: Copy, settings: Settings, now: datetime.datetime, fault: str = "") -> Trouble | None:
    """Return what is wrong with a copy by its entry, or its place, by the `fault` that `Presence` found."""
    where = copy_in_words(copy, settings)
    attempts = documents.value(copy.note, "attempts", type_=int) or 0
    again = next_attempt(copy) or now if attempts < settings.attempts else None
    if copy.status == documents.ERROR or "suspect" in copy.note:
        return Trouble(where, copystate.remark(copy), attempts, next=again)
    if fault:
        return Trouble(where, fault)
    if copy.status == documents.TRANSFERRED and attempts:
        return Trouble(f"{where}, made anew", str(copy.note.get("error")), attempts, next=again)
    return None


def next_attempt(copy: Copy) -> datetime.datetime | None:
    """Return when a copy that failed is tried again, naive UTC, as far as its entry says so."""
    return clock.past(documents.time_of(copy.note.get("next")), clock.now() + LONGEST_PAUSE)


def copy_in_words(copy: Copy, settings: Settings) -> str:
    """Return how messages call a copy."""
    names = {site.host: site.name for site in settings.sites.values()}
    return f"its {copy.kind} copy at {names.get(copy.host, copy.host)}"


def unsaid(waits: Iterable[str], found: Sequence[Trouble]) -> list[str]:
    """Return, of what a run waits for, what its troubles do not say themselves."""
    told = tuple(f"{trouble.where} failed " for trouble in found)
    reasons = tuple(f": {trouble.reason}" for trouble in found)
    same = {trouble.reason for trouble in found}
    return [text for text in waits if not (text in same or text.startswith(told) or text.endswith(reasons))]


def _log(work_dir: Path, target: Target) -> str:
    """Return the log of a run at a site that was written to last."""
    logs = list((work_dir / "logs" / target.site).glob(f"{target.run}.*.log"))
    return str(max(logs, key=lambda log: log.stat().st_mtime)) if logs else ""
