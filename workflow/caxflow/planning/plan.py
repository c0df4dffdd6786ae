"""The plan of a call: the newest runs that can be acted on, and what was learned of them.

The main process plans once; what it learned (where each copy is and comes from, sizes) is frozen in a file of
the work directory, since the input functions of the rules run again inside every batch job, and those never
ask the database.
"""

import dataclasses
import datetime
import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caxflow import clock, documents, errors, receipts, targets
from caxflow.conditions.corrections import Edition, Waiting
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.planning.decisions import Decision, is_to_process
from caxflow.planning.facts import Facts
from caxflow.rundb import DatabaseAway
from caxflow.targets import Run, Target
from caxflow.workdir import journal

FILE = ".caxflow/plan.json"
_MEND = "look at its document and receipts: caxflow rundb check"
FORMAT = 1


@dataclass
class Plan:
    """All decisions of one call; `main` is the process that made it.

    `clock` is what `caxflow.clock.lead` said there. `more` is the number of runs left out, `asleep` of those
    that wait and were not looked at this time.
    `surveyed`: all selected runs were looked at, and not only those that were named. `left_out`: runs with
    failures here that `select` leaves out.
    """

    here: str
    facts: dict[str, Facts] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    more: int = 0
    asleep: int = 0
    left_out: list[str] = field(default_factory=list)
    main: dict = field(default_factory=receipts.who)
    surveyed: bool = False
    clock: float = 0

    def replace(self, decision: Decision) -> None:
        """Take another decision on one of the runs."""
        run = decision.facts.run
        mine = [target for target in self.targets if str(targets.parse(target).run) == run]
        if mine == decision.targets or not mine:
            return
        self.targets = [target for target in self.targets if target not in mine] + decision.targets
        self.waiting.pop(run, None)
        if decision.waits:
            self.waiting[run] = "; ".join(decision.waits)

    def write(self, work_dir: Path) -> None:
        """Freeze what was learned for the jobs."""
        content = {
            "format": FORMAT,
            "here": self.here,
            "main": self.main,
            "clock": clock.lead(),
            **(self._survey() if self.surveyed else survey(work_dir)),
            "runs": {n: dataclasses.asdict(f) for n, f in self.facts.items()},
        }
        receipts.write(work_dir / FILE, content)

    def _survey(self) -> dict:
        counts = {
            "actionable": len({targets.parse(target).run for target in self.targets}),
            "left": self.more,
            "waiting": len(self.waiting) + self.asleep,
            "problems": len(self.problems),
        }
        return {"counts": counts, "problems": self.problems[:50], "left_out": self.left_out}

    @classmethod
    def read(cls, work_dir: Path) -> "Plan":
        """Read what the main process froze."""
        path = work_dir / FILE
        try:
            content = receipts.read(path)
            with receipts.intact(path):
                facts = {name: Facts(**facts) for name, facts in content["runs"].items()}
                return cls(content["here"], facts, main=dict(content["main"]), clock=float(content["clock"]))
        except CaxflowError as error:
            again = "start the workflow again; its main process writes the plan"
            raise CaxflowError(f"no plan: {error.what}", again) from error


def survey(work_dir: Path) -> dict:
    """Return what the last call for `all` found, as far as known: ``counts``, ``problems``, ``left_out``."""
    try:
        known = receipts.read(work_dir / FILE)
    except CaxflowError:
        return {}
    lists = {key: documents.value(known, key, type_=list) or [] for key in ("problems", "left_out")}
    return {
        "counts": documents.value(known, "counts", type_=dict) or {},
        **{key: [each for each in listed if isinstance(each, str)] for key, listed in lists.items()},
    }


def failures(work_dir: Path) -> Iterator[Target]:
    """Yield what failed here and is this site's business, by what the last call for `all` found."""
    known = set(survey(work_dir).get("left_out", ()))
    yield from (target for target in journal.failures(work_dir) if str(target.run) not in known)


def policy(settings: Settings, editions: Sequence[Edition] = ()) -> str:
    """Fingerprint of what makes a run settled here; another policy looks at every run once more."""
    here = settings.here
    decisive = [
        FORMAT,
        here.name,
        settings.kinds,
        settings.verify,
        settings.attempts,
        settings.masters,
        settings.purge,
        settings.corrections.reprocess,
        here.minitrees and here.minitrees.treemakers,
        sorted(map(str, editions)),
        [
            (
                site.name,
                site.host,
                site.roots,
                site.origin,
                site.pull_from,
                site.push_to,
                site.processed and (settings.processor(site).pax_version, site.processed.make),
            )
            for site in settings.sites.values()
        ],
    ]
    return hashlib.sha256(json.dumps(decisive, default=str).encode()).hexdigest()[:12]


def make(
    found: Iterable[Mapping],
    settings: Settings,
    decide: Callable[..., Decision],
    now: datetime.datetime,
    *,
    settle: Callable[[list[Mapping]], None] = lambda documents: None,
    waiting: Callable[[Mapping], Sequence[Waiting]] = lambda document: (),
    tidy: Callable[[Decision], None] = lambda decision: None,
) -> Plan:
    """Plan from documents: at most ``batch_size`` runs that can be acted on, the newest first.

    Parameters
    ----------
    found : iterable of mapping
        Run documents in any order; they are looked at one by one, so memory does not grow with their number.
    decide : callable
        Decides what is to be done for the run of a document, and is given, where there are any, the
        corrections that cannot be made yet: `caxflow.planning.standing.Standings.decide`.
    now : datetime
        The server's time, naive UTC.
    settle : callable
        Is given what `RunsDB.settle` takes of documents that need not be looked at for a while, as they are
        found, a thousand at a time.
    waiting : callable
        Tells which corrections cannot be made yet for a document's run; asked only of those that would have a
        place in the batch, which goes to others then.
    tidy : callable
        Sees to what the work directory states of a run; its errors have the run passed by.
    """
    plan, marked = Plan(settings.here.name, surveyed=True), []
    newest = _Newest(settings.batch_size)
    unseen = set(settings.selection.runs)
    for document in found:
        try:
            run = documents.run_of(document)
            unseen.discard(str(run))
            with errors.about(str(run), _MEND):
                decision = decide(document)
                if is_to_process(decision, settings) and newest.takes(run) and (lacks := waiting(document)):
                    decision = decide(document, lacks)
                tidy(decision)
        except DatabaseAway:
            raise
        except CaxflowError as error:
            plan.problems.append(str(error))
            continue
        if mark := decision.mark(document, now):
            marked.append(mark)
            if len(marked) == 1000:
                settle(marked)
                marked = []
        if decision.waits:
            plan.waiting[str(run)] = "; ".join(decision.waits)
        plan.problems += [why if why.startswith(str(run)) else f"{run}: {why}" for why in decision.wrong]
        if decision.targets:
            newest.add(run, decision)
    settle(marked)
    for decision in newest.decisions():
        plan.facts[decision.facts.run] = decision.facts
        plan.targets += decision.targets
    plan.problems += [_unseen(run) for run in sorted(unseen)]
    plan.more = newest.more
    return plan


def _unseen(run: str) -> str:
    what = f"{run} is not in the runs database, or what `select` demands does not hold for it"
    return str(CaxflowError(what, f"check the name, or ask: caxflow why {run}"))


class _Newest:
    """The newest decisions, at most `size` of them; counts how many `more` there are."""

    def __init__(self, size: int):
        self.size, self.more = size, 0
        self._heap: list[tuple[str, str, Decision]] = []
        self._added: set[str] = set()

    def takes(self, run: Run) -> bool:
        """Whether there is a place for this run, or one that an older run has."""
        return len(self._heap) < self.size or self._heap[0][:2] < (run.name, run.detector)

    def add(self, run: Run, decision: Decision) -> None:
        if str(run) in self._added:
            return  # the same document may be found twice while others write
        self._added.add(str(run))
        entry = (run.name, run.detector, decision)
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)
            self.more += 1

    def decisions(self) -> Iterator[Decision]:
        """The newest first."""
        for _, _, decision in sorted(self._heap, key=lambda item: item[:2], reverse=True):
            yield decision
