"""The main process' side of purge and scrub: what is removed and what is read again, by policy, in words."""

import contextlib
import dataclasses
import datetime
import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from caxflow import documents, receipts, targets, words
from caxflow.config import Selection, Settings, retention
from caxflow.copies import evidence, purging
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.planning import plan
from caxflow.planning.plan import Facts
from caxflow.planning.planner import Planner, say
from caxflow.targets import Run

SCRUB = ".caxflow/scrub.json"

_NAMED = 20  # runs of a plan that are said one by one
_EXAMPLES = 3  # runs that are named of those that stay for the same reason


@dataclass
class Removals:
    """What one purge would remove.

    `stay` counts the reasons of what stays, `examples` names a few runs of each; `later` counts what is left
    over.
    """

    facts: list[Facts] = field(default_factory=list)
    bytes: int = 0
    stay: Counter = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)
    later: int = 0


@dataclass(frozen=True)
class Reading:
    """A copy that is to be read again; the one that was not read for longest comes first."""

    verified: str
    run: str
    kind: str
    version: str | None
    size: int | None

    def __str__(self) -> str:
        when = (
            f"last read {self.verified[:16].replace('T', ' ')} UTC" if self.verified else "never read again"
        )
        return f"{self.kind} {self.run}, {words.size(self.size)}, {when}"


class Upkeep:
    """Plans what rules ``purge`` and ``scrub`` do.

    Parameters
    ----------
    planner : Planner
    """

    def __init__(self, planner: Planner):
        self.planner, self.settings = planner, planner.settings

    def purge(self) -> list[str]:
        """Targets of all raw copies here that the policy removes; says which, and on what evidence."""
        here, planner = self.settings.here, self.planner
        if self.settings.purge is None:
            raise CaxflowError(
                f"nothing says what may be removed at {here.name}",
                "add purge: {after_days: …} to config.yaml",
            )
        planner.lock()
        planner.catch_up()
        now = planner.database.now()
        oldest = dataclasses.replace(
            self.settings.selection,
            before=min(now - self.settings.purge.after, self.settings.selection.before or now),
        )
        database = planner.database
        # What was begun goes on whatever the policy, but never beyond the runs that were named.
        named = Selection(runs=self.settings.selection.runs)
        begun = {each["_id"]: each for each in database.removing(here.host, named)}
        others = (each for each in database.holding(oldest, here.host) if each["_id"] not in begun)
        made = select_removals(itertools.chain(begun.values(), others), self.settings, now)
        planner.take_up(made.facts)
        say(*summary(made, self.settings, listed=not planner.preview()))
        return [targets.path(here.name, Run.parse(facts.run), "raw.purged") for facts in made.facts]

    def removal(self, run: str, site: str) -> str:
        """What removing a run's raw copy means, in words; an error if the evidence cannot suffice."""
        planner, here = self.planner, self.settings.here.name
        if site != here:
            document = planner.database.get(Run.parse(run)) if planner.main else {}
            copy = documents.find(document, "raw", self.settings.site(site).host)
            if copy and "removing" in copy.note and copy.note.get("owner") == here:
                return f"go on removing {run} from {site}"
            raise CaxflowError(
                f"{run} at {site} is removed there", f"type it there: snakemake --profile {site}"
            )
        facts = planner.facts(run)
        if facts.removal is None:
            document = planner.database.get(Run.parse(run))
            removal, against = describe(document, self.settings, planner.database.now())
            if against:
                raise CaxflowError(f"{run} is not removed from {site}: {against}", "it stays where it is")
            facts.removal = removal
            planner.take_up([facts])
        return facts.removal

    def scrub(self) -> list[str]:
        """Write down what is to be read again, the longest unread first; says what."""
        planner = self.planner
        planner.lock()
        planner.catch_up()
        here, now = self.settings.here, planner.database.now()
        found = readings(planner.database.holding(self.settings.selection, here.host), self.settings)
        todo, oldest, count = select_readings(found, self.settings, now)
        planner.take_up([])  # jobs read in the plan whose they are
        if not planner.preview():
            receipts.write(planner.work_dir / SCRUB, [dataclasses.asdict(each) for each in todo])
        if oldest is None:
            say(f"no copy at {here.name} to read again")
            return []
        size = sum(each.size or 0 for each in todo)
        say(f"{words.count(len(todo), 'copy')} to read again at {here.name}, {words.size(size)}")
        if count > len(todo):
            say(f"{count - len(todo):,} more are due, for the next calls")
        say(*_first([str(each) for each in todo]))
        say(f"the longest unread copy: {oldest}")
        return []


def select_removals(found: Iterable[Mapping], settings: Settings, now: datetime.datetime) -> Removals:
    """Choose the oldest copies that may go, as far as the ceiling allows; memory grows with those only."""
    made, begun, count = Removals(), set(), 0

    def candidates() -> Iterator[tuple[bool, str, str, Mapping]]:
        nonlocal count
        for document in found:
            try:
                run = str(documents.run_of(document))
                removal, against = describe(document, settings, now, by_policy=True)
                if against:
                    why = against.partition(" (")[0]
                    made.stay[why] += 1
                    if made.stay[why] <= _EXAMPLES:
                        made.examples[why].append(run)
                if not removal or run in begun:
                    continue
                count += 1
                if is_begun(document, settings):
                    begun.add(run)
                yield run not in begun, run, removal, document
            except CaxflowError as error:
                made.problems.append(str(error))

    # What was begun comes first, then the oldest; no more of them are kept than may go.
    due = heapq.nsmallest(settings.purge.runs, candidates(), key=lambda each: each[:2])
    for new, _, removal, document in due:
        try:
            facts = _facts(document, settings, removal)
        except CaxflowError as error:
            made.problems.append(str(error))
            count -= 1
            continue
        if not new or made.bytes + facts.size <= settings.purge.bytes:
            made.facts.append(facts)
            made.bytes += facts.size
    made.later = count - len(made.facts)
    return made


def is_begun(document: Mapping, settings: Settings) -> bool:
    """Whether the raw copy here is on its way out."""
    copy = documents.find(document, "raw", settings.here.host)
    gone = documents.gone(document, "raw", settings.here.host)
    return "removing" in copy.note if copy else bool(gone and gone.get("trash"))


def describe(
    document: Mapping, settings: Settings, now: datetime.datetime, by_policy: bool = False
) -> tuple[str, str]:
    """What removing the raw copy here would mean, in words, and why it cannot be; one of both is empty.

    Both are empty where there is no copy here.
    """
    here, run = settings.here, documents.run_of(document)
    copy = documents.find(document, "raw", here.host)
    if is_begun(document, settings):
        return f"go on removing {run} from {here.name}", ""
    if copy is None:
        return ("", "") if by_policy else ("", "there is none in the runs database")
    against = {
        f"its status is {copy.status}": not evidence.good(copy),
        purging.not_due(document, here, settings, now) if by_policy else "": by_policy,
        "it has no manifest yet: scrub it": not copy.manifest,
        "its size is not known: scrub it": _size(document, copy) is None,
    }
    if why := next((why for why, holds in against.items() if why and holds), ""):
        return "", why
    demand = retention.demand(settings.purge)
    found = evidence.witnesses(document, copy, settings, demand, now)
    if sum(each.counts or each.renewable for each in found) < demand.copies:
        return "", evidence.wanting(found, demand)
    fresh = [str(each) for each in found if each.counts][: demand.copies]
    stale = [f"{each.site} (is read first: {each.against})" for each in found if each.renewable]
    known = ", ".join([*fresh, *stale[: demand.copies - len(fresh)]])
    return f"remove {run} from {here.name}, {words.size(_size(document, copy))}; good copies: {known}", ""


def readings(found: Iterable[Mapping], settings: Settings) -> Iterator[Reading]:
    """All copies here whose bytes can be judged."""
    here = settings.here
    for document in found:
        with contextlib.suppress(CaxflowError):
            run = documents.run_of(document)
            for kind in settings.kinds:
                key = evidence.key_of(kind, here, settings)
                copy = documents.find(document, kind, here.host, key.version) if key else None
                if evidence.good(copy):
                    verified = documents.time_of(copy.note.get("verified"))
                    yield Reading(
                        verified.isoformat() if verified else "",
                        str(run),
                        kind,
                        key.version if kind == "processed" else None,
                        _size(document, copy),
                    )


def select_readings(
    found: Iterable[Reading], settings: Settings, now: datetime.datetime, most: int = 10_000
) -> tuple[list[Reading], Reading | None, int]:
    """Choose the copies that were not read for longest, within the budget of bytes.

    Returns
    -------
    list of Reading
    Reading or None
        The copy that was not read for longest, due or not.
    int
        How many are due in all.
    """
    limit = (now - settings.scrub.every).isoformat()
    oldest: Reading | None = None
    count, due = 0, []
    for each in found:
        oldest = each if oldest is None else min(oldest, each, key=_order)
        if each.verified < limit:
            count += 1
            due.append(each)
    todo, size = [], 0
    for each in heapq.nsmallest(most, due, key=_order):
        if todo and size + (each.size or 0) > settings.scrub.bytes:
            break
        todo.append(each)
        size += each.size or 0
    return todo, oldest, count


def summary(made: Removals, settings: Settings, *, listed: bool = True) -> Iterator[str]:
    """A purge in words; the jobs of a preview list the removals themselves."""
    here = settings.here.name
    if not made.facts:
        yield f"nothing to remove at {here}"
    else:
        yield f"{words.count(len(made.facts), 'raw copy')} to remove at {here}, {words.size(made.bytes)}"
    if listed:
        yield from _first([facts.removal for facts in made.facts])
    if made.later:
        most = f"{settings.purge.runs} runs, {words.size(settings.purge.bytes)}"
        yield f"{words.count(made.later, 'more raw copy')} may go, by the next calls (at_most: {most})"
    for why, number in made.stay.most_common():
        named = ", ".join(made.examples[why]) + (", …" if number > _EXAMPLES else "")
        yield f"{words.count(number, 'raw copy')} here stay{'s' * (number == 1)} ({named}): {why}"
    yield from _first(made.problems)


def _first(lines: list[str]) -> Iterator[str]:
    yield from lines[:_NAMED]
    if len(lines) > _NAMED:
        yield f"and {len(lines) - _NAMED:,} more"


def _facts(document: Mapping, settings: Settings, removal: str) -> Facts:
    facts = plan.gather(document, settings)
    copy = documents.find(document, "raw", settings.here.host)
    return dataclasses.replace(facts, removal=removal, size=_size(document, copy) or 0 if copy else 0)


def _size(document: Mapping, copy: Copy) -> int | None:
    if copy.size is None and copy.kind == "raw":
        return documents.value(document, "raw_size_byte", type_=int, check=lambda size: size > 0)
    return copy.size


def _order(each: Reading) -> tuple[str, str, str]:
    return each.verified, each.run, each.kind
