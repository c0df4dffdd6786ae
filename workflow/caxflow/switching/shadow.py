"""Runs beside a cax daemon without touching anything, and says where the two would act differently.

What cax 5.2 would do is the model in `caxflow.switching.caxtasks`; what caxflow would do is its plan. Both
are reduced to the same words: pull, push, verify, process, remove. Where cax's own code raises, its process
ends, and whatever lies behind that is never done.
"""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from caxflow import documents, targets, words
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.planning import decisions, removals
from caxflow.rundb.selecting import excluded
from caxflow.switching.actions import Action, Death, Pass
from caxflow.switching.caxtasks import TASKS, Cax

EXAMPLES = 3


@dataclass
class Differences:
    """Where the two differ: runs by sentence; how often they agree, and where cax itself ends.

    Parameters
    ----------
    ends : list of str
        Where cax ends for all runs.
    problems : list of str
        Documents that caxflow does not take.
    """

    runs: int = 0
    agree: int = 0
    cases: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    ends: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """A report, the most frequent case first."""
        differing = {run for runs in self.cases.values() for run in runs}
        agree = words.count(self.agree, "action")
        yield f"{words.count(self.runs, 'run')}: both would do {agree}, and differ on {len(differing):,} runs"
        yield from self.ends
        for sentence, runs in sorted(self.cases.items(), key=lambda case: -len(case[1])):
            more = f" and {len(runs) - EXAMPLES:,} more" if len(runs) > EXAMPLES else ""
            yield f"{words.count(len(runs), 'run')}: {sentence} ({', '.join(runs[:EXAMPLES])}{more})"
        yield from self.problems


@dataclass(frozen=True)
class _Look:
    """What cax would do to a run; its actions with the place of their task."""

    run: str
    start: float
    looked: Pass
    submit: Death | None

    def at(self, task: str) -> tuple[int, float]:
        """Return when a daemon comes to this run with a task: task by task, the newest runs first."""
        return TASKS.index(task), -self.start

    @property
    def end(self) -> tuple[int, float] | None:
        """When a daemon ends at this run."""
        return self.at(self.looked.death.task) if self.looked.death else None

    def actions(self) -> dict[Action, tuple[Action, tuple[int, float]]]:
        """What it would do, each with when; a row that it forgets to begin anew is one that we take over."""
        found: dict[Action, tuple[Action, tuple[int, float]]] = {}
        for task, action in self.looked.steps:
            if action.verb != "forget":
                found.setdefault(action, (action, self.at(task)))
        return found


def compare(found: Iterable[Mapping], cax: Cax, settings: Settings, now: datetime.datetime) -> Differences:
    """Compare what both would do to each run; cax looks at all, caxflow at those that `select` admits.

    Parameters
    ----------
    found : iterable of mapping
        Run documents with all of their keys.
    now : datetime
        Naive UTC.
    """
    result, skip = Differences(), decisions.skip_function(settings)
    looks: list[tuple[_Look, dict[Action, Action], list[str]]] = []
    for document in found:
        looked = _look(document, cax, now)
        try:
            documents.run_of(document)
            ours, waits = ({}, ["caxflow's selection does not admit it"])
            if excluded(document, settings.selection) is None:
                made, waits = our_actions(document, settings, skip, now)
                ours = {action: action for action in made}
        except CaxflowError as error:
            result.problems.append(str(error))
            ours, waits = {}, ["it cannot be understood"]
        else:
            result.runs += 1
        looks.append((looked, ours, waits))
    ending = min((look for look, _, _ in looks if look.end), key=lambda look: look.end, default=None)
    behind = 0
    for looked, ours, waits in looks:
        theirs = looked.actions()
        result.agree += len(theirs.keys() & ours.keys())
        never = {action for action, (_, at) in theirs.items() if ending and at > ending.end}
        behind += len(never)
        for sentence in _differences(looked, theirs, ours, waits, never):
            result.cases[sentence].append(looked.run)
    result.ends += _ends([look for look, _, _ in looks], ending, behind)
    return result


def _look(document: Mapping, cax: Cax, now: datetime.datetime) -> _Look:
    try:
        run = str(documents.run_of(document))
    except CaxflowError:
        run = repr(document.get("name"))
    start = documents.time_of(document.get("start")) or datetime.datetime.min
    seconds = (start - datetime.datetime.min).total_seconds()
    return _Look(run, seconds, cax.one_pass(document, now), cax.submit(document))


def _differences(
    looked: _Look,
    theirs: Mapping[Action, tuple[Action, tuple[int, float]]],
    ours: Mapping[Action, Action],
    waits: list[str],
    never: set[Action],
) -> Iterator[str]:
    """Yield the ways in which the two differ on a run; those in `never` lie behind cax's end."""
    reason = _general("; ".join(waits), looked.run) or "it sees nothing to do"
    for action in [each for each in theirs if each not in ours]:
        why = theirs[action][0].why
        since = f", since {why}" if why else ""
        ended = ", had it not ended before" if action in never else ""
        yield f"only cax would {action}{since}{ended}; caxflow: {reason}"
    for action in [each for each in ours if each not in theirs]:
        why = f": {ours[action].why}" if ours[action].why else ""
        yield f"only caxflow would {action}{why}"
    if looked.looked.death:
        yield f"cax ends in {looked.looked.death}"


def _ends(looks: list[_Look], ending: _Look | None, behind: int) -> Iterator[str]:
    """Say where cax ends for all runs."""
    if ending:
        lost = words.count(behind, "action")
        yield f"cax as a daemon ends at {ending.run}, in {ending.looked.death}; never done after that: {lost}"
    submits = [look for look in looks if look.submit]
    if submits:
        newest = max(submits, key=lambda look: look.start)
        yield (
            f"massive-cax, which submits a job for each run, ends at {newest.run}: {newest.submit.error}; "
            "runs that began before get none"
        )


def our_actions(
    document: Mapping, settings: Settings, skip: object, now: datetime.datetime
) -> tuple[list[Action], list[str]]:
    """What caxflow's plan does to a run at once, and what it waits for."""
    decision = decisions.decide(document, settings, skip, now)
    actions, here = [], settings.here
    hosts = {site.name: site.host for site in settings.sites.values()}
    for target in map(targets.parse, decision.targets):
        site, _, stage = target
        kind = "processed" if stage.startswith("processed") else "raw"
        origin = decision.facts.source[kind].get(site)
        there = decision.facts.there["raw" if stage == "processed.root" else kind]
        if origin == here.name and here.name not in there:
            # It builds on what this call makes; cax would come to it in a later pass.
            continue
        if stage == "processed.root" and origin == here.name:
            actions.append(Action("process", kind))
        elif origin and site == here.name and origin != site:
            actions.append(Action("pull", kind, hosts[origin]))
        elif origin and origin != site:
            actions.append(Action("push", kind, hosts[site]))
        elif stage == "raw.done":
            actions.append(Action("verify", kind, why="it takes the manifest of what the event builder made"))
        elif stage == "checksum":
            actions.append(Action("verify", kind))
    if settings.purge:
        removal, against = removals.describe(document, settings, now, by_policy=True)
        if removal:
            actions.append(Action("remove", "raw"))
        elif against:
            decision.waits.append(f"not removed: {against}")
    return list(dict.fromkeys(actions)), decision.waits


def _general(text: str, run: str) -> str:
    """A reason without the run's own name, so that equal ones count together."""
    return text.replace(run, "it")
