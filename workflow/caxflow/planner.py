"""The main process' side of planning: asks the runs database once, freezes what the jobs need to know."""

import contextlib
import fcntl
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from caxflow import journal, plan, receipts, summary, sync, targets
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.plan import Facts, Plan
from caxflow.processors import Resources, resources
from caxflow.rundb import DatabaseAway, RunsDB
from caxflow.targets import Run


class Planner:
    """Answers what the input functions of the rules ask.

    Parameters
    ----------
    settings : Settings
    main : bool
        Whether this is the main process; the others read what it froze, and never ask the database.
    preview : callable
        Whether this is a preview (``-n``): then nothing is written anywhere.
    """

    def __init__(self, settings: Settings, main: bool, preview: Callable[[], bool]):
        self.settings = settings
        self.main = main
        self.preview = preview
        self.work_dir = Path.cwd()
        self._lock: int | None = None

    def lock(self) -> None:
        """Be the only workflow in this work directory; the lock ends with the process, even by ``kill -9``.

        Raises
        ------
        CaxflowError
            If another one is at work.
        """
        if self._lock is not None or not self.main or self.preview():
            return
        path = self.work_dir / journal.STATE / "lock"
        path.parent.mkdir(exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(handle, 200).decode(errors="replace") or "another host"
            os.close(handle)
            raise CaxflowError(
                f"another workflow is at work in {self.work_dir}: {owner}", "wait for it, or end it first"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, "{user}@{host}, process {pid}".format(**receipts.who()).encode(), 0)
        self._lock = handle

    @functools.cached_property
    def plan(self) -> Plan:
        """What is known so far."""
        return Plan(self.settings.here.name) if self.main else Plan.read(self.work_dir)

    @functools.cached_property
    def database(self) -> RunsDB:
        """The runs database; opened in the main process only."""
        return RunsDB(self.settings.rundb, dry=self.settings.dry or self.preview())

    def all(self) -> list[str]:
        """Targets of everything actionable at this site, by policy; says what it found."""
        self.lock()
        self.catch_up()
        self.plan = look(self.database, self.settings)
        self._void(self.plan.facts.values())
        wanted = [target for target in self.plan.targets if not self._is_there(target)]
        if len(wanted) < len(self.plan.targets):
            self.catch_up()
        self._freeze()
        say(*summary.lines(self.plan, wanted, self.settings))
        return wanted

    def facts(self, run: str) -> Facts:
        """What is known of a run; the main process asks the database where the plan does not know it."""
        if run not in self.plan.facts:
            if not self.main:
                raise CaxflowError(f"the plan does not know {run}", "start the workflow again")
            self.lock()
            document = self.database.get(Run.parse(run))
            decision = plan.decide(document, self.settings, plan.skip_function(), self.database.now())
            self.take_up([decision.facts])
        return self.plan.facts[run]

    def take_up(self, found: Iterable[Facts]) -> None:
        """Have the plan know these runs."""
        found = list(found)
        self._void(found)
        self.plan.facts |= {facts.run: facts for facts in found}
        self._freeze()

    def source(self, kind: str, run: str, site: str) -> str:
        """The site a copy comes from.

        Raises
        ------
        CaxflowError
            If no site has a good one.
        """
        facts = self.facts(run)
        if site not in facts.source[kind]:
            found = plan.source(facts, kind, self.settings.site(site), self.settings)
            if found is None:
                raise CaxflowError(
                    f"no site has a good {kind} copy of {run} for {site}",
                    f"ask the runs database why: caxflow why {run}",
                )
            facts.source[kind][site] = found
            self._freeze()
        return facts.source[kind][site]

    def copy_of_processed(self, run: str, site: str) -> list[str]:
        """Receipt that copying a processed file builds upon: only the own site's is made here."""
        source = self.source("processed", run, site)
        return [f"{source}/{run}.processed.done"] if source == self.settings.here.name else []

    def processing(self, run: str, site: str) -> Facts:
        """Facts of a run that is to be processed here.

        Raises
        ------
        CaxflowError
            If it is not this site's business, or the run cannot be processed.
        """
        if site != self.settings.here.name:
            raise CaxflowError(
                f"{run} at {site} is processed there", f"type it there: snakemake --profile {site}"
            )
        facts = self.facts(run)
        if facts.skip:
            raise CaxflowError(
                f"{run} is not processed: {facts.skip}", "mend the run document if that is wrong"
            )
        return facts

    def reservation(self, run: str, site: str, attempt: int = 1) -> Resources:
        """Cores, memory and time for processing a run."""
        where = self.settings.site(site)
        return resources(
            self.settings.processor(where),
            events=self.facts(run).events,
            cores=where.processed.cores,
            attempt=attempt,
        )

    def catch_up(self) -> None:
        """Tell the database what an earlier call could not."""
        if self.main and not self.preview():
            done = sync.sync(self.database, self.work_dir, pause=self.settings.pause)
            if done.told or done.problems or done.away:
                say(str(done), *done.problems)

    def _freeze(self) -> None:
        if self.main and not self.preview():
            self.plan.write(self.work_dir)

    def _void(self, found: Iterable[Facts]) -> None:
        """Take away receipts of copies that have gone since, and of the removal of copies that are back."""
        if not self.main or self.preview():
            return
        for facts in found:
            run = Run.parse(facts.run)
            for kind, sites in facts.gone.items():
                for site, at in sites.items():
                    sync.void(self.work_dir, site, run, kind, at)
            for site in facts.there["raw"]:
                (self.work_dir / targets.path(site, run, "raw.purged")).unlink(missing_ok=True)

    def _is_there(self, target: str) -> bool:
        """Whether the target stands already: then the database was not told, and is told (again)."""
        if not Path(target).exists():
            return False
        if not self.preview():
            parsed = targets.parse(target)
            if parsed.stage != "processed.root":
                journal.announce(self.work_dir, parsed)
        return True


def look(database: RunsDB, settings: Settings) -> Plan:
    """Look at every run that is not settled here, and mark those that are now."""
    here, policy = settings.here.name, plan.policy(settings)
    found = database.unsettled(settings.selection, here, policy)
    return plan.make(
        found,
        settings,
        plan.skip_function(),
        database.now(),
        lambda settled: database.settle(settled, here, policy),
    )


def say(*lines: str) -> None:
    """Lines for the user, beside Snakemake's own on standard error."""
    for line in lines:
        print(f"caxflow: {line}", file=sys.stderr, flush=True)  # noqa: T201


def work_dir(settings: Settings) -> str:
    """The folder where targets live.

    Raises
    ------
    CaxflowError
        If the site has none, or it cannot be made.
    """
    site = settings.here
    if site.work_dir is None:
        raise CaxflowError(f"site {site.name} has no work_dir", "workflows run where the site file names one")
    try:
        Path(site.work_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaxflowError(
            f"work_dir {site.work_dir} of site {site.name} cannot be made: {error.strerror}",
            "make it, or name another one in the site file",
        ) from error
    return site.work_dir


def one_of(names: Iterable[str]) -> str:
    """A pattern that matches exactly these names; nothing if there are none."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Let an error end the program with one line, where Snakemake would print a traceback."""
    try:
        yield
    except CaxflowError as error:
        sys.exit(f"caxflow: {error}")


def report(settings: Settings) -> None:
    """Tell the database what a finished call has proven; for ``onsuccess`` and ``onerror``."""
    try:
        with RunsDB(settings.rundb, dry=settings.dry) as database:
            done = sync.sync(database, Path.cwd(), pause=settings.pause)
    except DatabaseAway as error:
        done = sync.Synced(away=str(error), waiting=sum(1 for _ in journal.pending(Path.cwd())))
    if done.told or done.problems or done.away:
        say(str(done), *done.problems)
