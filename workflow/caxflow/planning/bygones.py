"""Failures in the journal that are over: the run has been done since, or there is nothing left to be done.

A target's own success takes its failure away at once. These are the others: somebody else made the copy, it
was removed on purpose, the run is not to be processed any more, or its document has gone.
"""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path

from caxflow import clock, documents, receipts, targets
from caxflow.config import Settings, Site
from caxflow.copies import evidence
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.planning import decisions, pauses
from caxflow.rundb import Key, RunsDB
from caxflow.rundb.selecting import excluded
from caxflow.targets import Run, Target
from caxflow.workdir import journal

_PROCESSING = ("settings.json", "processed.root", "processed.done", "processed.checksum")
_REMEMBERED = datetime.timedelta(days=1)  # a removal that failed and left the copy good


def forget(database: RunsDB, settings: Settings, work_dir: Path) -> list[Target]:
    """Forget the failures that are over; which they were."""
    failed: dict[Run, list[Target]] = {}
    for target in journal.failures(work_dir):
        failed.setdefault(target.run, []).append(target)
    if not failed:
        return []
    found = {documents.run_of(each): each for each in database.of_runs(failed)}
    over = [
        target
        for run, those in failed.items()
        for target in those
        if is_over(found.get(run), target, settings, work_dir)
    ]
    if database.dry:
        return over
    for target in list(over):
        try:
            journal.succeed(work_dir, target)
        except CaxflowError:
            over.remove(target)  # it is still shown with the failures
    return over


def left_out(database: RunsDB, settings: Settings, work_dir: Path) -> set[Run]:
    """Return the runs with failures here that `select` leaves out: no one is to care about those now.

    That others are named in a call leaves no failure out.
    """
    selection = dataclasses.replace(settings.selection, runs=())
    failed = {target.run for target in journal.failures(work_dir)}
    return {documents.run_of(each) for each in database.of_runs(failed) if excluded(each, selection)}


def is_over(document: Mapping | None, target: Target, settings: Settings, work_dir: Path) -> bool:
    """Return whether nothing remains of a failure, by what the document says.

    Of what has yet to be told, the record is still needed.
    """
    if journal.is_pending(work_dir, target):
        return False
    return document is None or _is_made_up_for(document, target, settings, work_dir)


def _is_made_up_for(document: Mapping, target: Target, settings: Settings, work_dir: Path) -> bool:
    site = settings.sites.get(target.site)
    if site is None:
        return True
    try:
        key = key_of(target.stage, site, settings)
        if key is None or (key.kind, key.version) in documents.leaving(document, key.host):
            return False
        copy = documents.find(document, key.kind, key.host, key.version)
        skipped = target.stage in _PROCESSING and decisions.skip_function(settings)(document)
    except CaxflowError:
        return False  # a document with surprises tells nothing
    if target.stage.endswith(".purged"):
        return copy is None or (evidence.good(copy) and _is_old(work_dir, target))
    if copy is None:
        gone = documents.gone(document, key.kind, key.host, key.version)
        return bool(skipped) or (gone is not None and gone.get("why") == "removed")
    done = _is_done(copy, target.stage, settings)
    return bool(skipped) or (done and not _is_still_wanted(document, target, settings, work_dir))


def _is_still_wanted(document: Mapping, target: Target, settings: Settings, work_dir: Path) -> bool:
    """Return whether a good copy could not be taken note of here, for its site cannot be reached, say."""
    try:
        if target.stage != "raw.done" or (journal.failure(work_dir, target) or {}).get("entry"):
            return False
        now = receipts.now().replace(tzinfo=None)
        decision = decisions.decide(document, settings, decisions.skip_function(settings), now)
    except CaxflowError:
        return False
    wanted = map(targets.parse, decision.targets)
    return any(target in pauses.needs(each, decision.facts, settings) for each in wanted)


def _is_done(copy: Copy, stage: str, settings: Settings) -> bool:
    """Whether a copy is there that makes up for a failed stage."""
    proven = copy.verified is not None or not settings.verify or not stage.endswith("checksum")
    # Attempts at a good copy are those to make it anew.
    return evidence.good(copy) and bool(copy.manifest) and proven and "attempts" not in copy.note


def _is_old(work_dir: Path, target: Target) -> bool:
    try:
        failed = datetime.datetime.fromisoformat(journal.failure(work_dir, target)["at"])
        return not -clock.SLACK <= receipts.now() - failed <= _REMEMBERED
    except (CaxflowError, KeyError, TypeError, ValueError):
        return True  # nobody can read it


def key_of(stage: str, site: Site, settings: Settings) -> Key | None:
    """Which entry a stage is about; None where it is about none."""
    if stage.startswith("pax_"):
        return Key("processed", site.host, stage[4:].rpartition(".")[0].removesuffix(".settings"))
    kind = "raw" if stage == "checksum" else stage.partition(".")[0]
    kind = "processed" if stage == "settings.json" else kind
    return evidence.key_of(kind, site, settings) if kind in ("raw", "processed", "minitrees") else None


def lines(over: list[Target]) -> Iterator[str]:
    """What was forgotten, in words."""
    if over:
        more = f" and {len(over) - 3} more" if len(over) > 3 else ""
        named = ", ".join(map(str, over[:3]))
        yield f"failures that are over: {named}{more}"
