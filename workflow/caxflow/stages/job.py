"""What every stage is given, and what becomes of it: a receipt, or one line that says why not."""

import contextlib
import dataclasses
import datetime
import functools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from caxflow import clock, config, joblogs, legible, processes, receipts, targets, transfer, words
from caxflow.config import Settings, Site, reach
from caxflow.copies import roots
from caxflow.copies.subject import Subject
from caxflow.errors import BadCopy, CaxflowError, DiskAway, Overrun
from caxflow.files.manifest import Manifest
from caxflow.planning import interrupts, sync
from caxflow.planning.facts import Facts
from caxflow.planning.plan import Plan
from caxflow.rundb import Claim, Key, RunsDB
from caxflow.targets import Run, Target
from caxflow.threads import explained
from caxflow.transfer import Place, Progress, kept
from caxflow.workdir import journal, underway


@dataclass
class Job:
    """One stage of one run at one site.

    Parameters
    ----------
    stage : str
        The target's stage, such as ``raw.done``.
    output : Path
        The target's file.
    threads : int
        Cores to use.
    log : text stream
        The rule's log.
    entry : dict or None
        Which entry of the run document the job is about.
    making : bool
        Whether the job makes that copy, so that its failure is the copy's.
    refused : str or None
        If data are refused for what they are, what `caxflow.planning.refusal.sign` said of them.
    passing : bool
        Whether what is refused may become right by itself.
    resources : mapping
        What Snakemake has given to the job.
    """

    settings: Settings
    stage: str
    site: Site
    run: Run
    output: Path
    log: TextIO
    threads: int = 1
    work_dir: Path = field(default_factory=Path.cwd)
    entry: dict[str, Any] | None = None
    making: bool = False
    refused: str | None = None
    passing: bool = False
    resources: Mapping[str, int] = field(default_factory=dict)
    claim: Claim | None = None
    _said: float = 0

    @functools.cached_property
    def teller(self) -> underway.Teller:
        """Where others look how far this job is."""
        return underway.Teller(self.work_dir, self.target)

    @property
    def target(self) -> Target:
        """What this job is to make true."""
        return Target(self.site.name, self.run, self.stage)

    @functools.cached_property
    def database(self) -> RunsDB:
        """The runs database; only for jobs that run beside the main process."""
        return RunsDB(self.settings.rundb, dry=self.settings.dry)

    @functools.cached_property
    def plan(self) -> Plan:
        """What the main process froze."""
        return Plan.read(self.work_dir)

    @property
    def call(self) -> str:
        """Which call this job belongs to."""
        return journal.call_of(self.plan.main)

    @property
    def facts(self) -> Facts:
        """What the plan knows of the run."""
        if str(self.run) not in self.plan.facts:
            raise CaxflowError(f"the plan does not know {self.run}", "start the workflow again")
        return self.plan.facts[str(self.run)]

    def place(self, site: Site) -> Place:
        """How to reach a site from here, within what all jobs together may take."""
        place = reach.place(self.settings, site)
        wanted = reach.connections(site)
        given = self.resources.get(reach.resource(site), wanted)
        return dataclasses.replace(
            place,
            connections=given if given < wanted else place.connections,
            ledger=reach.ledger(self.work_dir, site),
        )

    def subject(self, key: Key) -> Subject:
        """The copy this job is about, as something that is worked upon."""
        return Subject(
            settings=self.settings,
            database=self.database,
            site=self.site,
            run=self.run,
            key=key,
            work_dir=self.work_dir,
            say=self.say,
            progress=self.report,
            way=self.place,
        )

    def permit(self, kind: str, location: str) -> None:
        """Give what was published the owner, group, modes and lists that the site wants, where that goes.

        It is published whatever comes of this, and ``caxflow strays --permissions`` names what is otherwise.
        """
        wanted = self.site.permissions.get(kind)
        if not wanted:
            return
        try:
            changed = transfer.permissions(self.place(self.site), location, wanted, apply=True)
        except CaxflowError as error:
            self.say(f"{location} is published; its permissions are not what they should be: {error}")
        else:
            self.say(f"{location}: permissions set, of {words.count(len(changed), 'path')}")

    def check_root(self, kind: str) -> None:
        """See that the disk is there for what is made here, as `caxflow.copies.roots.check` does."""
        roots.check(self.settings, self.site, kind)

    def path(self, stage: str) -> Path:
        """Another target about this run at this site."""
        return self.work_dir / targets.path(self.site.name, self.run, stage)

    def receipt(self, site: Site, stage: str) -> dict:
        """A receipt that this stage builds upon; a manifest in it must have its own digest."""
        path = self.work_dir / targets.path(site.name, self.run, stage)
        content = receipts.read(path)
        try:
            if content.get("manifest"):
                Manifest.from_json(content["manifest"])
        except CaxflowError as error:
            raise CaxflowError(f"receipt {path} is damaged: {error.what}", receipts.REMOVE) from error
        return content

    def take_claim(self, key: Key, location: str, instead: str | None = None) -> None:
        """Claim the copy that this job makes, `instead` of one whose manifest has that digest."""
        since = self.database.now().replace(tzinfo=datetime.UTC).isoformat()
        self.entry = {"kind": key.kind, "host": key.host, "version": key.version, "location": location}
        self.entry["since"] = since
        self.claim = self.database.claim(
            self.run, key, location, self.settings.here.name, self.settings.lease, instead=instead
        )
        self.making = True

    def report(self, progress: Progress) -> None:
        """Renew the claim, tell whoever watches, and write a line to the log every ten seconds."""
        if self.claim:
            self.claim.renew()
        self.teller.tell(progress.phase, progress.done, progress.total, progress.rate)
        if time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            left = f", {words.duration(progress.remaining)} left" if progress.remaining else ""
            moved = f"{words.size(progress.done)} of {words.size(progress.total)}"
            self.say(f"{progress.phase}: {moved}, {words.size(progress.rate)}/s{left}")

    def say(self, text: str) -> None:
        """A line in the log; a disk that cannot take it is no reason to fail."""
        joblogs.say(self.log, text)

    def state(self, content: Mapping[str, Any] | str) -> None:
        """Write the receipt, last of all, and have the database told."""
        journal.announce(self.work_dir, self.target)
        receipts.write(self.output, content if isinstance(content, str) else dict(content))
        self.clear(lambda: journal.succeed(self.work_dir, self.target))

    def clear(self, act: Callable[[], None]) -> None:
        """Take away what is untrue now; that this failed is said, and fails nothing that is done."""
        try:
            act()
        except CaxflowError as error:
            self.say(str(error))

    def statement(self, manifest: Manifest, location: str, status: str | None, **facts: Any) -> dict:
        """A receipt about a copy: which entry of the database it proves, and its manifest."""
        entry = self.entry or {"kind": "raw", "host": self.site.host, "version": None, "location": location}
        # What went before this was written does not make it void, whatever the clocks say.
        gone = self.facts.gone.get(entry["kind"], {}).get(self.site.name)
        if gone and gone["token"] and gone["version"] == entry["version"]:
            entry = entry | {"after": gone["token"]}
        return receipts.statement(
            self.target,
            location=location,
            bytes=manifest.size,
            entry=entry | {"status": status},
            **facts,
            manifest=manifest.to_json(),
        )


def run(
    work: Callable[[Job], None],
    stage: str,
    *,
    overrides: Mapping[str, Any],
    site: str,
    run: str,
    output: str,
    log: str,
    threads: int = 1,
    attempt: int = 1,
    reports: bool = True,
    resources: Mapping[str, int] | None = None,
) -> None:
    """Do the work of one rule; a failure is one line on standard error, kept for ``why``, and told.

    Parameters
    ----------
    work : callable
        The stage.
    stage : str
        The target's stage.
    overrides : mapping
        Snakemake's config: what the command line says over ``config.yaml``.
    attempt : int
        Counts from 1 in each call; a further one is for want of memory or time, not to hear the same again.
    reports : bool
        Whether the job may talk to the runs database; batch jobs do not.
    resources : mapping, optional
        What Snakemake has given to the job.
    """
    with logging_to(Path(log)) as stream:
        try:
            settings = config.load(overrides)
            where = settings.site(site), Run.parse(run), Path(output)
            job = Job(settings, stage, *where, stream, threads, resources=resources or {})
            clock.follow(job.plan.clock)
        except CaxflowError as error:
            sys.exit(f"caxflow: {error}")
        if reports:
            end_with(job.plan.main)
        try:
            with kept.connections():
                failed = (attempt > 1 and _final(job)) or _attempt(work, job, batch=not reports)
        except KeyboardInterrupt:
            # Once is enough: another one would spoil the end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # Nobody's fault: nothing is counted or told, and the next call goes on where this one was.
            job.say(underway.INTERRUPTED)
            _keep(job, joblogs.recall)
            sys.exit(130)
        finally:
            job.teller.end()
        if reports:
            _tell(job)
    if failed:
        # A display that shows the reason, from the journal, beside what it is about says it once.
        sys.exit(1 if underway.SHOWN in os.environ else f"caxflow: {failed}")


@contextlib.contextmanager
def logging_to(log: Path) -> Iterator[TextIO]:
    """Open a rule's log; what keeps it from being written ends the job in a line."""
    try:
        interrupts.hear()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            yield stream
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"caxflow: {legible.line(error.filename or log)}: {error.strerror} -> {receipts.MEND}")


def end_with(main: Mapping[str, Any]) -> None:
    """End when the main process is gone: what it started must not work on beside its successor's jobs."""

    def watch() -> None:
        while not processes.has_ended(main):
            if interrupts.was(Path.cwd(), main):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _final(job: Job) -> str:
    """The reason why an earlier attempt of this call failed, if that does not depend on memory or time."""
    before = None
    with contextlib.suppress(CaxflowError):  # a damaged record says nothing
        before = journal.failure(job.work_dir, job.target)
    if before and before.get("final") and before.get("call") == job.call:
        # Snakemake, which restarts a group as a whole, has begun the log anew.
        job.say(f"not tried again: {before['reason']}")
        _keep(job, joblogs.recall)
        told = {name: before[name] for name in ("entry", "token", "evidence") if name in before}
        job.clear(
            lambda: journal.fail(
                job.work_dir, job.target, before["reason"], call=job.call, final=True, **told
            )
        )
        return before["reason"]
    return ""


def _attempt(work: Callable[[Job], None], job: Job, batch: bool) -> str:
    """Do the work; return the reason if it failed."""
    evidence = final = away = False
    try:
        work(job)
    except CaxflowError as error:
        reason, evidence, final = str(error), isinstance(error, BadCopy), not isinstance(error, Overrun)
        away = isinstance(error, DiskAway)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        what = f"{job.run} {job.stage} at {job.site.name}: {where}{error.strerror or error}"
        reason, final = str(CaxflowError(what, f"mend it, then ask again; see {job.log.name}")), True
    except Exception as error:
        # The user gets one line, the log the rest.
        job.log.write(legible.lines(traceback.format_exc()))
        where, known = f"{job.run} {job.stage} at {job.site.name}", explained(error)
        reason = f"{where}: unexpected {type(error).__name__}: {error}"
        reason = f"{' '.join(reason.split())} -> see {job.log.name}"
        reason = legible.line(f"{where}: {known}" if known is not error else reason)
        final = not isinstance(error, MemoryError)
    else:
        _keep(job, joblogs.forget)
        return ""
    job.say(reason)
    _keep(job, joblogs.end)
    token = job.claim.token if job.claim else None
    # A copy is not bad because its site could not be reached.
    told = {"entry": job.entry, "token": token} if job.entry and (job.making or evidence) else {}
    if batch:
        told |= {"call": job.call, "final": final}
    told |= {"refused": job.refused, "passing": job.passing} if job.refused else {}
    told |= {"evidence": evidence, "counts": not away}
    job.clear(lambda: journal.fail(job.work_dir, job.target, reason, **told))
    return reason


def _keep(job: Job, act: Callable[[Path, Path], None]) -> None:
    """Keep, show or forget what earlier attempts said; a disk that cannot take it is no reason to fail."""
    with contextlib.suppress(OSError, CaxflowError):
        act(job.work_dir, Path(job.log.name))


def _tell(job: Job) -> None:
    """Tell the database at once; if it is away, the next sync does."""
    try:
        done = sync.sync(job.database, job.settings, job.work_dir, [job.target])
        for line in (str(done), *done.problems):
            job.say(line)
        job.database.close()
    except CaxflowError as error:
        job.say(str(error))
