"""Why a job ended that could not say so itself: killed by its batch system, or before it had begun.

A job that fails keeps its reason in the journal. One that is cut off for its time or memory, cancelled, on a
node that dies, or that no batch system took, does not; then all that is known is what `caxflow.batch.queue`
has noted. Snakemake's records of jobs pass here in the main process, and what is known goes into the journal.
"""

import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from caxflow import joblogs, receipts, targets
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.processing import minitrees
from caxflow.targets import Run, Target
from caxflow.workdir import batchjobs, journal, underway

# How a job ended that no batch system speaks of.
_KILLED = {"what": "killed, or cut off for its time or memory", "began": True, "again": True}
_PART = re.compile(rf"parts/({targets.SITE})/({targets.RUN})\..+")


class LastWords(logging.Filter):
    """Lets every record pass, and keeps the reason of jobs that ended without a word.

    A filter sees records before any handler does, so that whoever shows a failure finds its reason.

    Parameters
    ----------
    settings : Settings
    work_dir : Path
    give_up : callable, optional
        Is told the number of a job that failed for good, before Snakemake decides whether to restart it.
    """

    def __init__(self, settings: Settings, work_dir: Path, give_up: Callable[[int], None] = lambda job: None):
        super().__init__()
        self.settings, self.work_dir, self._give_up = settings, work_dir, give_up
        self._before: dict[int, dict | None] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Look at a record of Snakemake's."""
        event = getattr(getattr(record, "event", None), "value", None)
        if event == "job_info":
            self._before[record.jobid] = self._failure(target_of(record.output))
        elif event == "job_error":
            self._ended(record.jobid, record.output, record.log)
        return True

    def _ended(self, job: int, output: Sequence[str], logs: Sequence[str]) -> None:
        target = target_of(output)
        if target is None:
            return
        known = self._failure(target)
        ended = batchjobs.ended(self.work_dir, _names(output))
        said = known != self._before.get(job)
        if not said and (ended or not _was_interrupted(logs[:1])):
            try:
                known = self._note(target, ended.ending if ended else _KILLED, logs)
            except CaxflowError:
                return  # a full disk; whoever shows the failure says what Snakemake knows
        self._before[job] = known
        # Neither more memory nor more time mends it, and a restart would begin its log anew.
        if known and known.get("final") and known.get("call") == journal.call_of(receipts.who()):
            self._give_up(job)

    def _note(self, target: Target, ending: Mapping[str, Any], logs: Sequence[str]) -> dict:
        """Keep how a job ended; what says nothing of the run is no attempt, and is not told of its copy."""
        what, fix = str(ending["what"]), str(ending.get("fix") or "")
        if ending["began"]:
            both = dict.fromkeys(filter(None, [*logs[:1], str(ending.get("log") or "")]))
            what = f"its job ended without a word of its own: {what}"
            fix = f"see {' and '.join(both)}" if both else ""
        reason = str(CaxflowError(f"{target}: {what}", fix))
        counts = not ending.get("blameless")
        facts = told(self.settings, target) if counts else {"call": journal.call_of(receipts.who())}
        found = journal.fail(self.work_dir, target, reason, final=not ending["again"], counts=counts, **facts)
        if logs and ending["began"]:
            with contextlib.suppress(OSError, CaxflowError):
                joblogs.end(self.work_dir, Path(logs[0]), reason)
        return found

    def _failure(self, target: Target | None) -> dict | None:
        try:
            return journal.failure(self.work_dir, target) if target else None
        except CaxflowError:
            return None


def target_of(output: Sequence[str]) -> Target | None:
    """The target under which a job's failures are kept: its receipt; for a part, the whole run's."""
    for name in reversed(_names(output)):
        if match := _PART.fullmatch(name):
            return Target(match[1], Run.parse(match[2]), "processed.done")
        try:
            return targets.parse(name)
        except CaxflowError:
            continue
    return None


def _names(output: Sequence[str]) -> list[str]:
    """Return the names of files, without what Snakemake's records add to them."""
    return [str(each).split(" ")[0] for each in output]


def told(settings: Settings, target: Target) -> dict:
    """What the runs database is told about a job that made something on a batch system."""
    site, stage = settings.sites[target.site], target.stage
    if not site.processed:
        return {}
    processor = settings.processor(site)
    if stage.startswith("pax_"):
        version = stage.removeprefix("pax_").removesuffix(".done")
        known = {each.pax_version: each for each in settings.processors.values()}
        processor = known.get(version)
    if processor and (stage == "processed.done" or stage.startswith("pax_")) and site.processed.make:
        kind, location = "processed", processor.product_path(site.roots["processed"], target.run)
    elif stage == "minitrees.done" and site.minitrees:
        kind, name = "minitrees", site.minitrees.treemakers[0]
        path = minitrees.minitree_path(site.roots["minitrees"], processor.pax_version, target.run, name)
        location = path.parent
    else:
        return {}
    entry = {"kind": kind, "host": site.host, "version": processor.pax_version, "location": str(location)}
    return {"entry": entry, "call": journal.call_of(receipts.who())}


def _was_interrupted(logs: Sequence[str]) -> bool:
    with contextlib.suppress(OSError):
        return any(joblogs.last_line(Path(log)).endswith(underway.INTERRUPTED) for log in logs)
    return False
