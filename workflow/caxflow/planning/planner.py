"""The main process' side of planning: asks the runs database once, freezes what the jobs need to know."""

import contextlib
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from caxflow import documents, legible, preview, receipts, targets, versions
from caxflow.conditions import slowcontrol
from caxflow.conditions.corrections import Edition, Voltage, Waiting
from caxflow.config import Settings, calls
from caxflow.config.sources import Layer
from caxflow.copies import roots
from caxflow.errors import CaxflowError
from caxflow.planning import bygones, decisions, plan, summary, sync
from caxflow.planning.facts import Facts, source_of
from caxflow.planning.pauses import Pauses
from caxflow.planning.plan import Plan
from caxflow.planning.presence import Presence
from caxflow.planning.standing import Standings
from caxflow.planning.tidy import Tidy
from caxflow.processing import products
from caxflow.processing.processors import Processor, Resources, resources
from caxflow.rundb import PLANNING, RunsDB, TwoDocuments
from caxflow.targets import Run
from caxflow.workdir import guard, journal, lock, lost, underway


class Planner:
    """Answers what the input functions of the rules ask.

    Parameters
    ----------
    settings : Settings
    main : bool
        Whether this is the main process; the others read what it froze, and never ask the database.
    preview : callable
        Whether this is a preview (``-n``): then nothing is written anywhere.
    named : callable, optional
        Gives the targets and rules that were asked for by name.

    Attributes
    ----------
    without : str
        What becomes of things while the runs database does not answer, for messages.
    """

    def __init__(
        self,
        settings: Settings,
        main: bool,
        preview: Callable[[], bool],
        named: Callable[[], Iterable[str]] = tuple,
    ):
        self.settings = settings
        self.main = main
        self.preview = preview
        self.named = named
        self.work_dir = Path.cwd()
        self.tidy = Tidy(settings, self.work_dir)
        self._lock: int | None = None
        self._corrected: set[str] = set()
        self.without = RunsDB.without

    def lock(self) -> None:
        """Be the only workflow in this work directory; the lock ends with the process, even by ``kill -9``.

        Raises
        ------
        CaxflowError
            If another one is at work.
        """
        if self._lock is not None or not self.main:
            return
        self.check_dry()
        if self.preview():
            versions.check_work_dir(self.work_dir)
            return
        guard.check(self.work_dir)
        self._lock = lock.take(
            self.work_dir / journal.STATE / "lock",
            lambda owner: CaxflowError(
                f"another workflow is at work in {self.work_dir}: {owner}", "wait for it, or end it first"
            ),
        )
        versions.upgrade_work_dir(self.work_dir)
        underway.sweep(self.work_dir)
        with contextlib.suppress(CaxflowError):  # those who cannot do without the database say so
            roots.prepare(self.settings, self.database)

    def check_dry(self) -> None:
        """Have a preview change nothing.

        Raises
        ------
        CaxflowError
            If it is none, and ``dry: true`` lets nothing be done.
        """
        if self.preview():
            preview.only_look(True)
        elif self.settings.dry:
            raise CaxflowError(
                "dry: true in the configuration lets nothing be made, moved or removed",
                "add -n to see what would be done, or take dry out",
            )

    @functools.cached_property
    def plan(self) -> Plan:
        """What is known so far."""
        return Plan(self.settings.here.name) if self.main else Plan.read(self.work_dir)

    @functools.cached_property
    def _presence(self) -> Presence:
        return Presence(self.settings.here)

    @functools.cached_property
    def database(self) -> RunsDB:
        """The runs database; opened in the main process only."""
        dry = self.settings.dry or self.preview()
        database = RunsDB(self.settings.rundb, dry=dry, without=self.without)
        versions.upgrade_database(database)
        return database

    def all(self) -> list[str]:
        """Targets of everything actionable at this site, by policy; says what it found."""
        self.lock()
        self.catch_up()
        if not self.preview():
            products.remove_failed(self.work_dir, self.settings.keep_failed)
        tidy = self.tidy.check if self.preview() else self.tidy
        self.plan = look(self.database, self.settings, self.editions, self.voltage, tidy=tidy)
        for site, run, stage in map(targets.parse, list(self.plan.targets)):
            if site == self.settings.here.name and stage == "processed.root":
                self.correct(str(run))
        self._restore(self.plan.facts.values())
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
            document = self.database.get(Run.parse(run), PLANNING)
            self._see(document)
            decision = decisions.decide(
                document,
                self.settings,
                decisions.skip_function(self.settings),
                self.database.now(),
                editions=self.editions,
            )
            self.take_up([decision.facts])
        return self.plan.facts[run]

    def _see(self, document: Mapping) -> None:
        """See that what was asked for by name and is stated to be here lies in its place.

        Raises
        ------
        CaxflowError
            If it does not: where the receipt stands, Snakemake would have nothing to do.
        """
        run, here = documents.run_of(document), self.settings.here
        for word in self.named():
            if run.name not in word:
                continue
            try:
                target = targets.parse(word)
                key = bygones.key_of(target.stage, here, self.settings)
            except CaxflowError:
                continue  # the name of a rule
            states = target.stage.endswith(("done", "checksum", "root"))
            if (target.site, target.run) != (here.name, run) or not states:
                continue
            if not os.path.lexists(self.work_dir / word):
                continue
            copy = key and documents.find(document, key.kind, key.host, key.version)
            if copy and (fault := self._presence.fault(run, copy)):
                raise CaxflowError(f"{run}: {fault}")

    def correct(self, run: str) -> None:
        """Have the run's corrections written into its document before it is processed; once a call.

        What is decided then rests on what the document says, whatever could not be corrected.
        """
        if not self.main or self.preview() or not self.editions or run in self._corrected:
            return
        self._corrected.add(run)
        outcomes = self.database.correct(Run.parse(run), self.editions, self.voltage)
        document = self.database.get(Run.parse(run), PLANNING)
        wrong = [str(each) for each in outcomes if isinstance(each, CaxflowError)]
        told = [str(each) for each in outcomes if isinstance(each, Waiting)] + wrong

        def skip(document: Mapping) -> str | None:
            reason = decisions.skip_function(self.settings)(document)
            return f"{reason} ({'; '.join(told)})" if reason and told else reason

        decision = decisions.decide(document, self.settings, skip, self.database.now())
        self.plan.problems += wrong
        Pauses(self.work_dir, self.settings, self.database.now())(decision)
        self.plan.replace(decision)
        self.take_up([decision.facts])

    @functools.cached_property
    def editions(self) -> list[Edition]:
        """The configured corrections, as the runs database has them now."""
        if not self.main:
            return []
        found, problems = applied(self.database, self.settings)
        say(*(str(each) for each in problems))
        return found

    @functools.cached_property
    def voltage(self) -> Voltage:
        """Where the cathode voltage comes from."""
        return remembered(self.settings)

    def take_up(self, found: Iterable[Facts]) -> None:
        """Have the plan know these runs."""
        found = list(found)
        if self.main and not self.preview():
            for facts in found:
                try:
                    self.tidy.void(facts)
                    self.tidy.make_room(facts)
                except CaxflowError as error:
                    say(str(error))  # a job that needs the receipt says so, too
        self._restore(found)
        self.plan.facts |= {facts.run: facts for facts in found}
        self._freeze()

    def may_register(self, run: str, site: str) -> bool:
        """Whether there is a raw copy to take note of: a good one, or one at its origin to look at again."""
        facts = self.facts(run)
        return site in facts.there["raw"] or site in facts.registrable

    def source(self, kind: str, run: str, site: str) -> str:
        """The site a copy comes from.

        Raises
        ------
        CaxflowError
            If no site has a good one.
        """
        facts = self.facts(run)
        if site not in facts.source[kind]:
            found = source_of(facts, kind, self.settings.site(site), self.settings)
            if found is None:
                faults = facts.faults.items()
                wrong = "; ".join(f"at {name}: {fault}" for name, fault in faults if name != site)
                mend = f"ask the runs database why: caxflow why {run}"
                if kind == "raw" and (damaged := next(iter(facts.registrable), None)):
                    mend = f"once its files are back, have them read again: {damaged}/{run}.raw.done"
                what = f"no site has a good {kind} copy of {run} for {site}"
                raise CaxflowError(f"{what} ({wrong})" if wrong else what, mend)
            facts.source[kind][site] = found
            self._freeze()
        return facts.source[kind][site]

    def copy_of_processed(self, run: str, site: str) -> list[str]:
        """Receipt that copying a processed file builds upon: only the own site's is made here."""
        source = self.source("processed", run, site)
        made_here = [f"{source}/{run}.processed.done"] if source == self.settings.here.name else []
        return made_here + self.always_new(run, site)

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
        self.facts(run)
        self.correct(run)
        facts = self.facts(run)
        if facts.skip:
            raise CaxflowError(
                f"{run} is not processed: {facts.skip}", "mend the run document if that is wrong"
            )
        return facts

    def always_new(self, run: str, site: str) -> list[str]:
        """Input that makes a preview plan again what stands, but is outdated; the real call removes that."""
        if self.main and self.preview() and self.tidy.outdated(self.facts(run), site):
            return ["/proc/self/status"]  # is never older than a receipt
        return []

    def minitrees(self, run: str, site: str) -> None:
        """See to it that the minitrees of a run are this site's business.

        Raises
        ------
        CaxflowError
            If they are not.
        """
        if site != self.settings.here.name:
            raise CaxflowError(
                f"minitrees of {run} at {site} are made there", f"type it there: snakemake --profile {site}"
            )
        self.facts(run)

    def product(self, run: str, site: str) -> str | None:
        """The processed file of a run, if its receipt and it itself stand and are what is wanted."""
        done = self.work_dir / targets.path(site, Run.parse(run), "processed.done")
        if not done.exists():
            there = self._lost(self.facts(run)) if self.main and self.preview() else None
            return there["location"] if there else None
        if self.main and "processed.done" in self.tidy.outdated(self.facts(run), site):
            return None
        try:
            location = receipts.read(done).get("location")
        except CaxflowError:
            return None  # the job that needs it says so
        return location if isinstance(location, str) and Path(location).exists() else None

    def processed_here(self) -> list[str]:
        """Runs that were processed here and are selected by name or detector, the newest first, one batch."""
        self.check_dry()
        selection, site = self.settings.selection, self.settings.here.name
        found = []
        for path in sorted((self.work_dir / site).glob("*.processed.done"), reverse=True):
            run = targets.parse(f"{site}/{path.name}").run
            named = not selection.runs or str(run) in selection.runs
            if named and (not selection.detectors or run.detector in selection.detectors):
                found.append(str(run))
        return found[: self.settings.batch_size]

    def processor(self, site: str, version: str | None = None) -> Processor:
        """The processor whose files a site keeps, or the one of a version.

        Raises
        ------
        CaxflowError
            If none has that version.
        """
        if version is None:
            return self.settings.processor(self.settings.site(site))
        known = {each.pax_version: each for each in self.settings.processors.values()}
        if version not in known:
            raise CaxflowError(
                f"no processor has version {version}", f"the processors are {', '.join(known)}"
            )
        return known[version]

    def parts(self, run: str, site: str) -> int:
        """Over how many jobs the processing of a run is scattered; 0 where a single one does it all."""
        facts = self.facts(run)
        return self.processor(site).parts(facts.events, facts.events_per_file)

    def reservation(
        self, run: str, site: str, attempt: int = 1, *, version: str | None = None, part: bool = False
    ) -> Resources:
        """Cores, memory and time for processing a run, or one of its parts."""
        cores = self.settings.site(site).processed.cores
        events, parts = self.facts(run).events, 0 if version else self.parts(run, site)
        if parts and part:
            events = math.ceil(events / parts)
        elif parts:
            cores = 1  # to join the parts
        return resources(self.processor(site, version), events=events, cores=cores, attempt=attempt)

    def catch_up(self) -> None:
        """Tell the database what an earlier call could not; in a preview, what cannot be told."""
        if self.main and self.preview():
            say(*(why for _, why in sync.damage(self.work_dir)))
        elif self.main:
            done = sync.sync(self.database, self.settings, self.work_dir)
            if done.told or done.problems or done.away:
                say(str(done), *done.problems)
            if not done.away:
                say(*bygones.lines(bygones.forget(self.database, self.settings, self.work_dir)))

    def _freeze(self) -> None:
        if self.main and not self.preview():
            self.plan.write(self.work_dir)

    def _restore(self, found: Iterable[Facts]) -> None:
        """Write receipts of processed files here that have none, or none any more: the database states it.

        Those of raw copies are written by jobs of their own.
        """
        if not self.main or self.preview():
            return
        restored = []
        for facts in found:
            if (there := self._lost(facts)) and (known := self.database.manifest(there["manifest"])):
                lost.restore(self.work_dir, self.settings.here, Run.parse(facts.run), there, known)
                restored.append(facts.run)
        if restored:
            more = f" and {len(restored) - 3} more" if len(restored) > 3 else ""
            say(
                f"processed files here without a receipt are taken note of: {', '.join(restored[:3])}{more}; "
                "they are read again where that is needed"
            )

    def _lost(self, facts: Facts) -> dict | None:
        """What the database says of the processed file here, if that is there and its receipt is not."""
        here = self.settings.here
        there = facts.there["processed"].get(here.name)
        if facts.anew or not there or not there["manifest"] or not Path(there["location"]).exists():
            return None
        done = self.work_dir / targets.path(here.name, Run.parse(facts.run), "processed.done")
        return None if done.exists() else there

    def _is_there(self, target: str) -> bool:
        """Whether the target stands already: then the database was not told, and is told (again)."""
        if not Path(target).exists():
            return False
        parsed = targets.parse(target)
        if self.preview() and parsed.stage in self.tidy.outdated(self.facts(str(parsed.run)), parsed.site):
            return False
        if not self.preview() and parsed.stage != "processed.root":
            journal.announce(self.work_dir, parsed, again=True)
        return True


def standings(
    database: RunsDB,
    settings: Settings,
    editions: Sequence[Edition] | None = None,
    voltage: Voltage | None = None,
) -> Standings:
    """Return what says how runs stand at this site; parameters as those of `look`."""
    if editions is None:
        editions, _ = applied(database, settings)
    folder = settings.here.work_dir and Path(settings.here.work_dir)
    voltage, twice = voltage or remembered(settings), database.twice()
    return Standings(settings, database.now(), folder, editions=editions, voltage=voltage, twice=twice)


def remembered(settings: Settings) -> Voltage:
    """Where the cathode voltage comes from; each run is asked for once."""
    return slowcontrol.Remembered(slowcontrol.provider(**settings.corrections.slow_control))


def look(
    database: RunsDB,
    settings: Settings,
    editions: Sequence[Edition] | None = None,
    voltage: Voltage | None = None,
    *,
    tidy: Callable[[decisions.Decision], None] = lambda decision: None,
) -> Plan:
    """Look at every run that may have something to do here, and mark those that have not.

    Parameters
    ----------
    editions : sequence of Edition, optional
        The configured corrections; asked for where they are not given.
    voltage : callable, optional
        Where the cathode voltage comes from.
    tidy : callable, optional
        Sees to what the work directory states of a run that is looked at; its errors have the run passed by.
    """
    asked = standings(database, settings, editions, voltage)
    here, policy = settings.here.name, asked.policy
    found = database.unsettled(settings.selection, here, policy)
    asleep = database.asleep(settings.selection, here, policy)
    made = plan.make(
        found,
        settings,
        asked.decide,
        asked.now,
        settle=lambda marked: database.settle(marked, here, policy),
        waiting=asked.lacks,
        tidy=tidy,
    )
    made.problems += sorted(asked.unready)
    made.asleep = asleep
    if asked.work_dir:
        made.left_out = sorted(map(str, bygones.left_out(database, settings, asked.work_dir)))
    made.problems = list(dict.fromkeys([*made.problems, *(str(TwoDocuments(run)) for run in asked.twice)]))
    return made


def applied(database: RunsDB, settings: Settings) -> tuple[list[Edition], list[CaxflowError]]:
    """The corrections that are configured here, as the database has them now; and what is wrong with some."""
    wanted = settings.corrections.apply
    if not wanted:
        return [], []
    found, problems = database.editions()
    return [each for each in found if each.correction.name in wanted], problems


def say(*lines: str) -> None:
    """Lines for the user, beside Snakemake's own on standard error."""
    for line in lines:
        print(f"caxflow: {legible.line(line)}", file=sys.stderr, flush=True)  # noqa: T201


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
    path = Path(site.work_dir)
    top = Path(*path.parts[:2])
    if not top.exists():
        raise CaxflowError(
            f"work_dir {path} of site {site.name} cannot be made: there is no {top}",
            "mount its file system, or name another folder in the site file",
        )
    try:
        if not preview.only_looks():
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaxflowError(
            f"work_dir {site.work_dir} of site {site.name} cannot be made: {error.strerror}",
            "make it, or name another one in the site file",
        ) from error
    return site.work_dir


def use_library(folder: str) -> None:
    """Have the scripts use the library in `folder`, beside the Snakefile, whichever clone is installed.

    Raises
    ------
    CaxflowError
        If Snakemake cannot start them: it hands this Python's path to a shell as it is.
    """
    if not re.fullmatch(r"[\w@%+=:,./-]+", sys.executable):
        raise CaxflowError(
            f"Snakemake cannot start jobs by {sys.executable}, for the blanks or signs in its path",
            "have the environment elsewhere: python3 -m venv ~/caxflow-env, activate it, then `make install`",
        )
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([known] if known else [])])


def layers(workflow: Any, arguments: Mapping) -> list[Layer]:
    """Return the files of a call's configuration and its own words, by place.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    arguments : mapping
        As `modes.given` has them. A job has none: it is given what the main process has checked.
    """
    if arguments:
        own = arguments["workflow_profile"], arguments["snakefile"]
        _, words, where = calls.of_profiles(arguments["profile"] or (), Path.cwd(), *own)
        own = list(arguments["config"] or ())
        return calls.layers(arguments["configfile"], own, where if own == words else calls.TYPED)
    given = workflow.config_settings
    return [*calls.layers(given.configfiles, ()), (calls.TYPED, given.config)]


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
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error
        sys.exit(f"caxflow: {legible.line(what)} -> {receipts.MEND}")
