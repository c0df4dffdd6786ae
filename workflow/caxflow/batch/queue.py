"""The jobs of a call on a batch system: submitted, or taken up from an earlier call, and watched to the end.

No job holds a call for ever. One that is no longer listed, that cannot begin, that waits or stays longer
than it may, or whose batch system is silent, is given up, each after a time of its own (`Limits`).
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from caxflow import receipts, words
from caxflow.batch.system import DONE, FAILED, RUNS, WAITS, NoAnswer, NotTaken, Report, System, Wanted
from caxflow.errors import CaxflowError
from caxflow.workdir import batchjobs
from caxflow.workdir.batchjobs import BatchJob

LOGS, SCRIPTS = Path(".snakemake/batch_logs"), Path(".snakemake/batch_scripts")
_KEEP = 30 * 86400  # s
_LONGEST = 366 * 86400  # s
_AWAY = 60  # s in which a batch system that did not answer one submission is not asked for the next one
_SAY_AGAIN = 3600  # s between two lines about a batch system that is silent


# How a job ended that never began.
_UNBEGUN = {"began": False, "again": False, "blameless": True}


@dataclass(frozen=True)
class Limits:
    """How long is waited, in seconds.

    Parameters
    ----------
    lost : float
        For a job that is no longer listed.
    silence : float
        For a batch system that does not answer.
    waits : float
        For a job to begin, or to go on where it is held.
    over : float
        For the end of a job whose time has run out.
    """

    lost: float = 120
    silence: float = 6 * 3600
    waits: float = 7 * 86400
    over: float = 3600

    @classmethod
    def of_profile(
        cls, lost_after: float = 120, longest_silence: float = 6, longest_wait: float = 168
    ) -> "Limits":
        """Return the limits that a profile names: the first in seconds, the others in hours."""
        return cls(lost_after, longest_silence * 3600, longest_wait * 3600)

    def __post_init__(self) -> None:
        keys = ("caxflow-lost-after", "caxflow-longest-silence", "caxflow-longest-wait")
        for key, value in zip(keys, (self.lost, self.silence, self.waits), strict=True):
            if not 0 <= value <= _LONGEST:
                raise CaxflowError(f"{key} is not from 0 to a year", f"check {key} in the profile")


@dataclass
class Watched:
    """A job that is watched; `record` is what others are shown of it."""

    record: BatchJob
    wanted: Wanted
    submitted: float = field(default_factory=time.monotonic)
    began: float | None = None
    stood: float | None = None
    missing: float | None = None

    @property
    def made(self) -> bool:
        """Whether all that it makes is there, and is not what was there before."""
        return all(identity(each) not in (None, self.record.before.get(each)) for each in self.record.output)


class Queue:
    """Jobs on a batch system.

    Parameters
    ----------
    system : System
    work_dir : Path
        Also the working directory.
    limits : Limits
    say : callable
        Takes a line for the user.
    """

    def __init__(
        self, system: System, work_dir: Path, limits: Limits = Limits(), say: Callable[[str], None] = print
    ):
        self.system, self.work_dir, self.limits, self.say = system, work_dir, limits, say
        self.logs = work_dir / LOGS
        self._watched: dict[str, Watched] = {}
        self._silent: float | None = None
        self._said: dict[str, float] = {}
        self._refused: tuple[float, NotTaken] | None = None
        self._left = self._take_stock()

    def submit(
        self,
        wanted: Wanted,
        script: Path,
        write: Callable[[], None],
        *,
        rule: str,
        output: Sequence[str],
        runs: Sequence[str],
    ) -> Watched:
        """Submit a job, or take up the same one of an earlier call.

        Parameters
        ----------
        write : callable
            Writes the script.

        Raises
        ------
        NotTaken
        """
        known = BatchJob(
            name=wanted.name,
            system=self.system.title,
            rule=rule,
            output=list(output),
            runs=list(runs),
            submitted=batchjobs.now(),
            by=receipts.who(),
            before={each: identity(each) for each in output},
        )
        left = self._left.pop(wanted.name, None)
        try:
            if left and left.job:
                return self._take_up(left, known, wanted)
            if self._is_away():
                before = self._refused[1]
                raise NotTaken(before.what, before.mend, away=left is not None)
            if left and (job := self._find(wanted.name)):
                return self._take_up(replace(left, job=job, state="", reason=""), known, wanted)
            self._cancel_others(output)
            self._note(known)
            job = self._submit(wanted, script, write)
        except NotTaken as error:
            if error.away and not self._is_away():
                self._refused = time.monotonic(), error
            ending = {"what": error.what, "fix": error.mend, "unclear": error.away}
            self._note(replace(known, ending=_UNBEGUN | ending))
            raise
        watched = Watched(replace(known, job=job, since=known.submitted), wanted)
        self._keep(watched)
        return watched

    def look(self) -> Iterator[tuple[Watched, Report]]:
        """Ask once, and yield the jobs that have ended, or are given up."""
        watched = list(self._watched.values())
        if not watched:
            return
        now = time.monotonic()
        try:
            found = self.system.ask([each.record.job for each in watched], self.logs)
        except NoAnswer as error:
            yield from self._bear_silence(watched, error, now)
            return
        if self._silent is not None:
            self.say(f"{self.system.title} answers again")
            self._silent = None
        for each in watched:
            report = self._judge(each, found.get(each.record.job), now)
            if report.phase in (DONE, FAILED):
                del self._watched[each.record.name]
                yield each, report
            else:
                self._keep(replace(each, record=batchjobs.seen(each.record, report)))
        self._tell_of_stuck()

    def end(self, watched: Watched, report: Report) -> None:
        """Keep how a job ended for `caxflow.batch.lastwords`; forgotten by `settle`."""
        log = self.system.log(watched.record.job, LOGS)
        # A log is there from when a job begins, or, of PBS, from when it has ended.
        waited = watched.began is None and watched.record.phase == WAITS and not log
        if report.impossible:
            what = f"{self.system.title} took no job: {report.reason}"
            ending = _UNBEGUN | {"what": what, "fix": self.system.fix(report.reason, watched.wanted)}
        elif waited and not report.again and not report.blameless:
            what = f"job {watched.record.job} in {self.system.title} never began: {report.reason}"
            ending = _UNBEGUN | {"what": what, "fix": "the next call tries again"}
        else:
            ending = {"what": report.reason, "began": True, "again": report.again}
            ending |= {"blameless": report.blameless}
            ending |= {"log": str(log or "")}
        self._note(replace(watched.record, ending=ending))

    def settle(self, watched: Watched, report: Report) -> None:
        """Forget a job that has ended, and the log of one that went well; one that may be there is kept."""
        if report.lingers:
            self._note(watched.record)
            return
        batchjobs.remove(self.work_dir, watched.record.name)
        if report.phase == DONE and (log := self.system.log(watched.record.job, self.logs)):
            with contextlib.suppress(OSError):
                log.unlink()

    def drop(self, output: Sequence[str]) -> None:
        """Forget the job that was to make some files and was not taken.

        One that may be there all the same, as no answer came, is looked for by the next call.
        """
        record = batchjobs.ended(self.work_dir, output)
        if record and record.ending.get("unclear"):
            self._note(replace(record, ending={}, reason="its submission got no answer"))
        elif record:
            batchjobs.remove(self.work_dir, record.name)

    def cancel(self) -> None:
        """Have all jobs cancelled; those that a silent batch system keeps are taken up by the next call."""
        watched = list(self._watched.values())
        if not watched:
            return
        try:
            self.system.cancel([each.record.job for each in watched])
        except NoAnswer as error:
            self.say(f"{self._listed(watched)} could not be cancelled, and may run on: {error}")
        else:
            for each in watched:
                batchjobs.remove(self.work_dir, each.record.name)
        self._watched.clear()

    def leave(self) -> list[Watched]:
        """Watch no job any longer; they go on, and the next call takes them up."""
        watched = list(self._watched.values())
        self._watched.clear()
        if watched:
            verb = "goes" if len(watched) == 1 else "go"
            it = "it" if len(watched) == 1 else "them"
            self.say(f"{self._listed(watched)} {verb} on in {self.system.title}; the next call takes {it} up")
        return watched

    def _take_up(self, left: BatchJob, known: BatchJob, wanted: Wanted) -> Watched:
        watched = Watched(replace(left, by=known.by), wanted)
        self._keep(watched)
        runs = " ".join(left.runs)
        self.say(f"{runs} ({left.rule}) goes on as job {left.job} in {self.system.title}")
        return watched

    def _is_away(self) -> bool:
        """Whether it was just now that a submission got no answer."""
        return self._refused is not None and time.monotonic() - self._refused[0] < _AWAY

    def _submit(self, wanted: Wanted, script: Path, write: Callable[[], None]) -> str:
        try:
            write()
            return self.system.submit(wanted, script, self.logs)
        except OSError as error:
            what = f"{error.filename or script}: {error.strerror}"
            raise NotTaken(f"{self.system.title} was given no job: {what}", receipts.MEND) from error

    def _judge(self, watched: Watched, report: Report | None, now: float) -> Report:
        """Return what is made of what the batch system says of a job, or of its saying nothing."""
        if (report is None or report.phase == FAILED) and watched.made:
            # It was ended once all was done: where a receipt stands, the fact holds.
            return Report(DONE, report.state if report else "made")
        if report is None:
            return self._miss(watched, now)
        watched.missing = None
        if report.phase == FAILED and report.stuck:
            return self._give_up(watched, report, again=report.again)  # it would stay in the queue
        self._clock(watched, report, now)
        if report.phase == WAITS and report.impossible:
            return self._give_up(watched, replace(report, reason=report.reason or report.state))
        return self._bound(watched, report, now)

    def _miss(self, watched: Watched, now: float) -> Report:
        title, job = self.system.title, watched.record.job
        watched.missing = watched.missing if watched.missing is not None else now
        if now - watched.missing < self.limits.lost:
            return Report(RUNS, "unknown", f"{title} does not list it any more")
        return Report(FAILED, "lost", f"{title} does not know job {job} any more")

    def _clock(self, watched: Watched, report: Report, now: float) -> None:
        """Take the time that a job runs, without what it stands still; begun anew, it has its own."""
        if report.phase == WAITS:
            watched.began = watched.stood = None
        if report.phase != RUNS:
            return
        if watched.began is None:
            watched.began = now
        if report.stuck:
            watched.stood = now if watched.stood is None else watched.stood
        elif watched.stood is not None:
            watched.began += now - watched.stood
            watched.stood = None

    def _bound(self, watched: Watched, report: Report, now: float) -> Report:
        """Give a job up that has not begun, or not ended, when it should have."""
        job, since = watched.record.job, watched.stood or watched.began or watched.submitted
        waited = now - since
        was = f"its state was {report.state}" + (f" ({report.reason})" if report.reason else "")
        if report.phase == WAITS and now - watched.submitted >= self.limits.waits:
            why = f"job {job} did not begin within {words.duration(waited)}, {was}"
            return self._give_up(watched, replace(report, reason=why, impossible=True))
        given = max(watched.wanted.minutes, report.minutes or 0)
        most = self.limits.waits if report.stuck else 60 * given + self.limits.over
        if report.phase == RUNS and waited >= most:
            why = f"job {job} did not end within {words.duration(waited)}, {was}"
            return self._give_up(watched, replace(report, reason=why))
        return report

    def _give_up(self, watched: Watched, report: Report, *, again: bool = False) -> Report:
        try:
            self.system.cancel([watched.record.job])
        except NoAnswer as error:
            self.say(f"job {watched.record.job} could not be cancelled: {error}")
            report = replace(report, lingers=True)
        return replace(report, phase=FAILED, again=again and not report.lingers)

    def _bear_silence(
        self, watched: list[Watched], error: NoAnswer, now: float
    ) -> Iterator[tuple[Watched, Report]]:
        for each in watched:
            if each.made:
                del self._watched[each.record.name]
                yield each, Report(DONE, "made")
        if self._silent is None:
            self._silent = now
        for_ = words.duration(now - self._silent)
        if self._may_say("silence", now):
            self.say(f"{self.system.title} does not answer: {error}; its jobs are waited for")
        if now - self._silent >= self.limits.silence:
            for each in list(self._watched.values()):
                del self._watched[each.record.name]
                why = f"{self.system.title} has not answered for {for_}; job {each.record.job} may run on"
                yield each, Report(FAILED, "unknown", why, again=False, blameless=True, lingers=True)

    def _tell_of_stuck(self) -> None:
        """Say once which jobs need a human, by what they wait for."""
        why: dict[str, list[Watched]] = {}
        for each in self._watched.values():
            if each.record.stuck:
                why.setdefault(each.record.reason or each.record.state, []).append(each)
        for reason, jobs in why.items():
            key = f"{reason} {sorted(each.record.name for each in jobs)}"
            if key not in self._said:
                self._said[key] = time.monotonic()
                runs = " ".join(dict.fromkeys(run for each in jobs for run in each.record.runs))
                self.say(f"{self._listed(jobs)} in {self.system.title} ({runs}): {reason}")

    def _may_say(self, what: str, now: float) -> bool:
        if now - self._said.get(what, -_SAY_AGAIN) < _SAY_AGAIN:
            return False
        self._said[what] = now
        return True

    def _listed(self, jobs: Sequence[Watched]) -> str:
        ids = ", ".join(each.record.job for each in jobs[:10])
        more = f" and {len(jobs) - 10} more" if len(jobs) > 10 else ""
        return f"{'job' if len(jobs) == 1 else 'jobs'} {ids}{more}"

    def _keep(self, watched: Watched) -> None:
        before = self._watched.get(watched.record.name)
        self._watched[watched.record.name] = watched
        if before is None or before.record != watched.record:
            self._note(watched.record)

    def _note(self, record: BatchJob) -> None:
        """Write a record; where a full disk cannot take it, the job is watched all the same."""
        with contextlib.suppress(CaxflowError):
            batchjobs.write(self.work_dir, record)

    def _find(self, name: str) -> str:
        try:
            return self.system.find(name)
        except NoAnswer as error:
            what = f"{self.system.title} does not say whether it has a job already: {error}"
            raise NotTaken(what, "the next call tries again", away=True) from error

    def _take_stock(self) -> dict[str, BatchJob]:
        """Return the jobs that an earlier call left and that have not ended; forget the others."""
        left = {}
        for record in batchjobs.listed(self.work_dir):
            if record.ending or record.system != self.system.title:
                batchjobs.remove(self.work_dir, record.name)
            else:
                left[record.name] = record
        self._clear_folders(left)
        named = [record.job for record in left.values() if record.job]
        if not named:
            return left
        try:
            found = self.system.ask(named, self.logs)
        except NoAnswer:
            return left
        for record in [each for each in left.values() if each.job]:
            report = found.get(record.job)
            if report is None or report.phase in (DONE, FAILED):
                batchjobs.remove(self.work_dir, record.name)
                del left[record.name]
            else:
                left[record.name] = batchjobs.seen(record, report)
        return left

    def _cancel_others(self, output: Iterable[str]) -> None:
        """Cancel what an earlier call left that would make the same in another way."""
        wanted = set(output)
        for record in [each for each in self._left.values() if wanted & set(each.output)]:
            job = record.job or self._find(record.name)
            if job:
                try:
                    self.system.cancel([job])
                except NoAnswer as error:
                    what = f"{self.system.title} still has job {job}, which would make the same: {error}"
                    raise NotTaken(what, "the next call tries again") from error
                where = f"job {job} in {self.system.title}, of an earlier call,"
                self.say(f"{where} was cancelled: what it makes is made otherwise now")
            batchjobs.remove(self.work_dir, record.name)
            del self._left[record.name]

    def _clear_folders(self, left: Container[str]) -> None:
        """Remove old logs, and old scripts but those of jobs that are left."""
        oldest = time.time() - _KEEP
        for folder in (self.logs, self.work_dir / SCRIPTS):
            with contextlib.suppress(OSError):
                for file in folder.iterdir():
                    if file.stat().st_mtime < oldest and file.stem not in left:
                        file.unlink()


def identity(path: str) -> list[int] | None:
    """Return what tells a file from the one that has its name later; None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return [found.st_ino, found.st_mtime_ns, found.st_size]


def name_of(rule: str, runs: Sequence[str], what: str, inputs: Iterable[str]) -> str:
    """Return a name that only the same job has: what it does, and the receipts that this builds upon."""
    digest = hashlib.sha256(what.encode())
    # Receipts are named as targets are; what else is there as an input says nothing of the job.
    for each in sorted(map(Path, inputs)):
        digest.update(f"\0{each}\0".encode())
        with contextlib.suppress(OSError):
            if not each.is_absolute():
                digest.update(each.read_bytes())
    return f"{rule}.{runs[0] if runs else 'runs'}.{digest.hexdigest()[:12]}"
