"""How a run stands at a site: its state, what comes next there, what it waits for, what is wrong.

`Standings` is what planning decides with and what all that people read is printed from: ``status``, ``why``,
the runs page, ``-n``, and by the plan of a call its metrics and messages.
"""

import datetime
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from caxflow import documents, processes
from caxflow.conditions import corrections
from caxflow.conditions.corrections import Edition, Voltage, Waiting
from caxflow.config import Settings
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.planning import bygones, copystate, decisions, pauses, plan, sync, troubles
from caxflow.planning.decisions import Decision
from caxflow.planning.facts import Facts
from caxflow.planning.pauses import Pauses
from caxflow.planning.presence import Presence
from caxflow.planning.tidy import Tidy
from caxflow.planning.troubles import Trouble
from caxflow.rundb import TwoDocuments, marks
from caxflow.rundb.selecting import excluded
from caxflow.targets import Run, Target
from caxflow.workdir import batchjobs, journal, underway
from caxflow.workdir.batchjobs import BatchJob

# The states of a run at a site.
SETTLED, TODO, BUSY, WAITS, FAILED, TAKING, EXCLUDED, PROBLEM = (
    "settled",
    "todo",
    "busy",
    "waits",
    "failed",
    "taking",
    "excluded",
    "problem",
)


WORDS = {
    SETTLED: "nothing remains to be done at {here}",
    TODO: "`all` at {here} works on it in its turn, the newest runs first",
    BUSY: "it is being worked on",
    WAITS: "it waits",
    FAILED: "something is wrong with it at {here}",
    TAKING: "it is still being taken",
    EXCLUDED: "{here} does not look after it",
    PROBLEM: "its document has a surprise, {here} leaves it alone",
}


# What is written to the root of a kind of data.
WRITES = {
    "raw.done": "raw",
    "settings.json": "processed",
    "processed.done": "processed",
    "minitrees.done": "minitrees",
}


@dataclass
class Standing:
    """How a run stands at the site that asks.

    Parameters
    ----------
    run : str
    state : str
        ``settled``: nothing remains to be done here; ``todo``: ``all`` makes `todo`, in the run's turn;
        ``busy``: it is being worked on; ``waits``: for `waits`; ``failed``: something here did, or the only
        copy is damaged; ``taking``: it is still being taken; ``excluded``: by the configuration;
        ``problem``: its document has a surprise.
    todo : list of str
        Targets that ``all`` asks for in the run's turn: a call takes the newest, `batch_size` runs.
    waits : list of str
        What it waits for, or why it is left out, beside what `troubles` and `claims` say.
    claims : list of str
        Copies that are being made, moved or removed, and until when the claim holds.
    troubles, elsewhere : list of Trouble
        What failed here and what failed at other sites, the newest last.
    underway : dict
        Jobs at work here, by target.
    missing : list of Copy
        Copies here that are not in their places.
    batch : list of BatchJob
        Its jobs on a batch system, as they were last known; `claims` or `waits` say it in words.
    """

    run: str
    state: str = SETTLED
    todo: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    elsewhere: list[Trouble] = field(default_factory=list)
    underway: dict[str, dict] = field(default_factory=dict)
    missing: list[Copy] = field(default_factory=list)
    batch: list[BatchJob] = field(default_factory=list)

    def in_words(self, here: str) -> str:
        """Return what its state at the site `here` means."""
        return WORDS[self.state].format(here=here)

    @property
    def well(self) -> bool:
        """Whether nothing is wrong here and nothing is waited for but work that goes on."""
        return self.state in (SETTLED, TODO, BUSY) and not self.troubles and not self.waits

    def state_of(self, copy: Copy) -> str:
        """Return the state of one of its copies in a word."""
        return copystate.state_of(copy, missing=copy in self.missing)


class Standings:
    """Says how runs stand at a site.

    Parameters
    ----------
    settings : Settings
    now : datetime
        The server's time, naive UTC.
    work_dir : Path, optional
        The site's work directory, where this machine has it: then it has the site's disks, too.
    editions : sequence of Edition
        The corrections that are configured here.
    voltage : callable, optional
        Where the cathode voltage comes from; without it no correction is looked at.
    twice : collection of Run
        Runs of which the runs database has two documents: each is a surprise, whatever the other says.
    """

    def __init__(
        self,
        settings: Settings,
        now: datetime.datetime,
        work_dir: Path | None = None,
        *,
        editions: Sequence[Edition] = (),
        voltage: Voltage | None = None,
        twice: Collection[Run] = (),
    ):
        self.settings, self.now, self.editions, self.twice = settings, now, editions, twice
        self.unready: set[str] = set()  # why disks here could not take what was decided upon
        self.work_dir = work_dir if work_dir and work_dir.is_dir() else None
        self._voltage = voltage
        self.policy = plan.policy(settings, editions)
        self._skip_reason = decisions.skip_function(settings)
        self._pauses = Pauses(self.work_dir, settings, now) if self.work_dir else None
        self._presence = Presence(settings.here) if self.work_dir else None
        self._failed: dict[Run, list[Target]] = defaultdict(list)
        for target in journal.failures(self.work_dir) if self.work_dir else ():
            self._failed[target.run].append(target)
        self._underway = underway_of(self.work_dir) if self.work_dir else {}
        self._batch = batch_of(self.work_dir) if self.work_dir else {}
        self._tidy = Tidy(settings, self.work_dir) if self.work_dir else None
        self._damaged: dict[Run, list[Trouble]] = defaultdict(list)
        for target, why in sync.damage(self.work_dir) if self.work_dir else ():
            self._damaged[target.run].append(Trouble(str(target), why))
        self._places = settings.batch_size  # in the next batch, for runs whose corrections can be made

    def decide(self, document: Mapping, lacks: Sequence[Waiting] = ()) -> Decision:
        """Decide what is to be done for one run; what failed lately is left for later.

        Parameters
        ----------
        lacks : sequence of Waiting
            Corrections that cannot be made yet.

        Raises
        ------
        CaxflowError
            If the document has a surprise, or there is another one of the run.
        """
        run = documents.run_of(document)
        if run in self.twice:
            raise TwoDocuments(run)
        decision = decisions.decide(
            document, self.settings, self._skip_reason, self.now, editions=self.editions, lacks=lacks
        )
        if self._pauses:
            self._pauses(decision, self._over(document))
        if self._presence:
            pauses.hold_back(decision, self.settings, lambda target: self._unready(target, decision.facts))
            faults = (self._presence.fault(run, copy) for copy in documents.copies(document))
            decision.wrong += filter(None, faults)
        return decision

    def lacks(self, document: Mapping) -> list[Waiting]:
        """Return the corrections of a run that cannot be made yet."""
        return corrections.waiting(document, self.editions, self._voltage) if self._voltage else []

    def of(self, document: Mapping) -> Standing:
        """Return how a run stands.

        Raises
        ------
        CaxflowError
            If the document is about no run.
        """
        run = documents.run_of(document)
        copies = list(documents.copies(document))
        standing = Standing(str(run), underway=self._underway.get(run, {}), batch=self._batch.get(run, []))
        self._look(standing, run, document, copies)
        if run not in self.twice and (reason := excluded(document, self.settings.selection)):
            standing.state, standing.waits = BUSY if standing.underway else EXCLUDED, [reason]
            return standing
        try:
            decision = self._next(document)
        except CaxflowError as error:
            standing.state, standing.waits = PROBLEM, [str(error)]
            return standing
        self._check(standing, decision)
        standing.todo = self._unstated(decision.targets)
        # What is being worked on is no reason to wait for anything.
        held = [troubles.copy_in_words(copy, self.settings) for copy in copies if self._is_held(copy)]
        at_work = tuple(f"{copy} is being " for copy in held)
        waits = [text for text in decision.waits if not text.startswith(at_work)]
        standing.waits = troubles.unsaid(waits, [*standing.troubles, *standing.elsewhere])
        stuck = [job for job in standing.batch if job.stuck and job.watched]
        standing.waits += map(str, stuck)
        standing.claims += [str(job) for job in standing.batch if job not in stuck]
        if documents.time_of(document.get("end")) is None:
            standing.state = TAKING
        elif standing.troubles or decision.wrong:
            standing.state = FAILED
        elif stuck:
            standing.state = WAITS
        elif standing.underway or held or any(job.watched for job in standing.batch):
            standing.state = BUSY
        elif standing.todo:
            standing.state = TODO
        elif waits:
            standing.state = WAITS
        return standing

    def _next(self, document: Mapping) -> Decision:
        """Return the decision of the next ``all``, which may not look at the run before some time."""
        decision = self.decide(document)
        if self._voltage and self._places and decisions.is_to_process(decision, self.settings):
            if lacks := self.lacks(document):
                decision = self.decide(document, lacks)
            else:
                self._places -= 1
        until = marks.until(document, self.settings.here.name, self.policy, self.now)
        if until is None or self.settings.selection.runs:
            return decision
        again = f"`all` looked at it, which does so again from {until:%Y-%m-%d %H:%M} UTC on"
        if decision.wrong:
            decision.waits.append(f"this has come since {again}; a scrub finds what is missing at once")
        elif decision.targets:
            decision.waits.append(
                f"its document has changed since {again}; `caxflow rundb init` has it look at once"
            )
        decision.targets = []
        return decision

    def _check(self, standing: Standing, decision: Decision) -> None:
        """Take the targets away that build upon a receipt that is damaged: `all` passes the run by."""
        try:
            if self._tidy:
                self._tidy.check(decision)
        except CaxflowError as error:
            decision.targets = []
            if str(error) not in {trouble.reason for trouble in standing.troubles}:
                standing.troubles.append(Trouble("what is stated of it here", str(error)))

    def _look(self, standing: Standing, run: Run, document: Mapping, copies: list[Copy]) -> None:
        """Add what is wrong, here and elsewhere, and what is being worked on."""
        if run in self._failed:
            found = troubles.of_journal(run, self.settings, self.work_dir, self.now, self._over(document))
            standing.troubles += found
        standing.troubles += self._damaged.get(run, [])
        reasons = {trouble.reason for trouble in standing.troubles}
        for copy in copies:
            fault = self._presence.fault(run, copy) if self._presence else ""
            if fault:
                standing.missing.append(copy)
            found = troubles.of_copy(copy, self.settings, self.now, fault)
            if found and found.reason not in reasons:
                (standing.troubles if self._concerns(copy) else standing.elsewhere).append(found)
            if copy.status == documents.TRANSFERRING:
                text = f"{troubles.copy_in_words(copy, self.settings)} is {copystate.remark(copy)}"
                standing.claims.append(text)

    def _unready(self, target: Target, facts: Facts) -> str:
        """Return why the disk here cannot take what a target is still to make; empty if it can."""
        kind = WRITES.get(target.stage)
        copied = target.stage != "raw.done" or target.site in facts.source["raw"]
        is_here = target.site == self.settings.here.name
        why = self._presence.unready(kind) if kind and copied and is_here else ""
        if not why or (self.work_dir / str(target)).exists():
            return ""
        self.unready.add(why)
        return why

    def _over(self, document: Mapping) -> list[Target]:
        """Return what failed here and was made good elsewhere since."""
        return [
            target
            for target in self._failed.get(documents.run_of(document), ())
            if bygones.is_over(document, target, self.settings, self.work_dir)
        ]

    def _concerns(self, copy: Copy) -> bool:
        """Whether a copy is this site's business: it is here, or was made from here."""
        here = self.settings.here
        return copy.host == here.host or copy.note.get("owner") == here.name

    def _is_held(self, copy: Copy) -> bool:
        """Whether a process works on a copy that this site has, makes, or brings to another."""
        if copy.status != documents.TRANSFERRING:
            return False
        partners = {self.settings.sites[name].host for name in self.settings.here.push_to}
        if copy.host not in partners and not self._concerns(copy):
            return False
        holds = documents.is_held(copy, self.now) and not documents.stalled(copy, self.now)
        return holds and not processes.has_ended(copy.by)

    def _unstated(self, wanted: list[str]) -> list[str]:
        """Return the targets that have no receipt yet; all of them where only the database is to be told."""
        if self.work_dir is None:
            return wanted
        return [target for target in wanted if not (self.work_dir / target).exists()] or wanted


def batch_of(work_dir: Path) -> dict[Run, list[BatchJob]]:
    """Return the jobs on a batch system that are known in a work directory, by run."""
    found: dict[Run, list[BatchJob]] = defaultdict(list)
    for run, job in batchjobs.alive(work_dir):
        found[run].append(job)
    return found


def underway_of(work_dir: Path) -> dict[Run, dict[str, dict]]:
    """Return the jobs that are at work in a work directory, by run and target, and how far each is."""
    found: dict[Run, dict[str, dict]] = defaultdict(dict)
    for target, state in underway.listed(work_dir):
        found[target.run][str(target)] = asdict(state)
    return found
