"""Jobs on a batch system: small files in the work directory, each from before the submission to the end.

``.caxflow/batch/<name>.json`` is written by the main process, which by it takes up the jobs of an earlier
call, and read by everything that says how a run stands.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from caxflow import clock, processes, receipts
from caxflow.errors import CaxflowError
from caxflow.targets import Run
from caxflow.workdir import journal

# What JSON has of each type.
_KINDS = {str: str, bool: bool, Sequence[str]: list, Mapping[str, Any]: dict}


@dataclass(frozen=True)
class BatchJob:
    """A job as it was last known.

    Parameters
    ----------
    name : str
        Its name in the batch system, which no other job has.
    system : str
        The batch system, as messages call it.
    rule : str
    output : sequence of str
        Files that it makes.
    runs : sequence of str
        Runs that it is for.
    submitted : str
        When, as receipts have it.
    by : mapping
        The main process that looks after it, see `caxflow.receipts.who`.
    job : str
        Its id; empty until the batch system has named one.
    phase, state, reason : str
        As `caxflow.batch.system.Report` has them.
    stuck : bool
    since : str
        Since when it is known to be in that state.
    before : mapping
        What tells the files that were there before from those that it makes.
    ending : mapping
        How it ended: ``what``, ``fix``, ``began``, ``again``, ``blameless``, ``log``; empty until it has.
    """

    name: str
    system: str
    rule: str
    output: Sequence[str]
    runs: Sequence[str]
    submitted: str
    by: Mapping[str, Any]
    job: str = ""
    phase: str = "waits"
    state: str = ""
    reason: str = ""
    stuck: bool = False
    since: str = ""
    before: Mapping[str, Any] = field(default_factory=dict)
    ending: Mapping[str, Any] = field(default_factory=dict)

    @property
    def watched(self) -> bool:
        """Whether the process that looks after it may still be there."""
        return not processes.has_ended(self.by)

    def __str__(self) -> str:
        verb = "waits" if self.phase == "waits" else "runs"
        if not self.job:
            if self.watched and not self.reason:
                return f"a job ({self.rule}) is being submitted to {self.system}"
            why = self.reason or "its call ended while it was submitted"
            return f"{self.system} may have a job ({self.rule}): {why}; the next `all` looks for it"
        detail = f": {self.reason or self.state}" if self.stuck or self.phase == "waits" else ""
        at = clock.read(self.since)
        since = f", since {at:%Y-%m-%d %H:%M} UTC" if at else ""
        last = "" if self.watched else "; so it was last known, and the next `all` goes on with it"
        return f"its job {self.job} ({self.rule}) {verb} in {self.system}{detail}{since}{last}"


def write(work_dir: Path, job: BatchJob) -> None:
    """Keep what is known of a job."""
    receipts.write(_path(work_dir, job.name), asdict(job))


def read(work_dir: Path, name: str) -> BatchJob | None:
    """Return what is known of the job of a name; None if nothing can be read."""
    try:
        with receipts.intact(_path(work_dir, name)):
            found = BatchJob(**receipts.read(_path(work_dir, name)))
            for each in fields(found):
                if not isinstance(getattr(found, each.name), _KINDS[each.type]):
                    raise TypeError(f"of {each.name}")
            if not all(isinstance(each, str) for each in (*found.output, *found.runs)):
                raise TypeError("of a name")
            return found
    except CaxflowError:
        return None


def remove(work_dir: Path, name: str) -> None:
    """Forget a job."""
    with contextlib.suppress(CaxflowError):
        receipts.remove(_path(work_dir, name))


def listed(work_dir: Path) -> Iterator[BatchJob]:
    """Yield all jobs that are known, those that have ended and not been taken note of, too."""
    folder = work_dir / journal.STATE / "batch"
    for name in receipts.names(folder):
        if name.endswith(".json") and (found := read(work_dir, name.removesuffix(".json"))):
            yield found


def alive(work_dir: Path) -> Iterator[tuple[Run, BatchJob]]:
    """Yield the runs for which jobs wait or run, and each job.

    Of a call that has ended, without those whose files are there: they have ended, too.
    """
    for job in listed(work_dir):
        made = not job.watched and all((work_dir / each).exists() for each in job.output)
        if not job.ending and not made:
            for name in job.runs:
                with contextlib.suppress(CaxflowError):
                    yield Run.parse(name), job


def ended(work_dir: Path, output: Sequence[str]) -> BatchJob | None:
    """Return the job that made a file, if it has ended and that was not taken note of, as far as known."""
    wanted = set(output)
    try:
        return next((job for job in listed(work_dir) if job.ending and wanted & set(job.output)), None)
    except CaxflowError:
        return None


def now() -> str:
    """Return the time as records keep it."""
    return receipts.now().isoformat()


def seen(job: BatchJob, report: Any) -> BatchJob:
    """Return a job as a report has it; `since` stays where that says what is known."""
    told = {name: getattr(report, name) for name in ("phase", "state", "reason", "stuck")}
    same = all(getattr(job, name) == value for name, value in told.items())
    return job if same and job.since else replace(job, **told, since=now())


def _path(work_dir: Path, name: str) -> Path:
    return work_dir / journal.STATE / "batch" / f"{name}.json"
