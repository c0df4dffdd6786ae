"""What failed here and is not tried again yet, as far as run documents do not say so.

A copy or product that failed says in its document when it is tried again. That taking note of a copy, reading
it again or freezing settings failed, for a site that could not be reached say, only the journal of the work
directory knows; the same pauses hold for it: doubled each time, and after the last attempt it waits for a
human, who types its target.
"""

import datetime
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from caxflow import clock, targets, words
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.planning import refusal
from caxflow.planning.decisions import LONGEST_PAUSE, Decision
from caxflow.planning.facts import Facts
from caxflow.targets import Target
from caxflow.workdir import journal


@dataclass(frozen=True)
class Pause:
    """A target that failed; it is tried again after `until` (naive UTC), or not at all."""

    target: Target
    attempts: int
    reason: str
    until: datetime.datetime | None

    def __str__(self) -> str:
        times = words.count(self.attempts, "time")
        if self.until is None:
            return f"{self.target} failed {times}, the last time: {self.reason}"
        return f"{self.target} failed {times}, and is tried again at {self.until:%Y-%m-%d %H:%M} UTC"


class Pauses:
    """The pauses of a work directory; calling it takes the targets out of a decision that have one.

    Parameters
    ----------
    work_dir : Path
    settings : Settings
    now : datetime
        Naive UTC.
    """

    def __init__(self, work_dir: Path, settings: Settings, now: datetime.datetime):
        self.settings, self.now = settings, now
        self._of: dict[str, dict[Target, Pause]] = defaultdict(dict)
        self._refused: dict[str, dict[Target, dict]] = defaultdict(dict)
        for target in journal.failures(work_dir):
            try:
                failure = journal.failure(work_dir, target)
            except CaxflowError:
                continue  # a damaged record holds nothing up
            if failure and waits_for_change(failure, settings):
                self._refused[str(target.run)][target] = failure
                continue
            pause = _pause(target, failure, settings, now) if failure else None
            if pause and (pause.until is None or clock.is_ahead(pause.until, now, LONGEST_PAUSE)):
                self._of[str(target.run)][target] = pause

    def __call__(self, decision: Decision, over: Collection[Target] = ()) -> None:
        """What a pause takes out of a decision is waited for; what is `over` holds nothing up.

        Data that were refused, and have not changed since, are wrong until they do; those that are still
        being built are waited for.
        """
        for target, failure in self._refused.get(decision.facts.run, {}).items():
            if target not in over and refusal.stands(failure, decision.facts, self.settings, self.now):
                why = {target: " ".join(str(failure["reason"]).split())}
                told = decision.waits if is_passing(failure, self.settings) else decision.wrong
                hold_back(decision, self.settings, lambda needed, why=why: why.get(needed, ""), told)
        if pauses := self._of.get(decision.facts.run):
            open_ = {target: str(pause) for target, pause in pauses.items() if target not in over}
            hold_back(decision, self.settings, lambda target: open_.get(target, ""))


def hold_back(
    decision: Decision, settings: Settings, reason: Callable[[Target], str], told: list[str] | None = None
) -> None:
    """Take out of a decision the targets that wait, or need one that waits.

    Parameters
    ----------
    reason : callable
        Returns what a target waits for; empty if for nothing.
    told : list, optional
        Where that is added; by default to what the run waits for.
    """
    told = decision.waits if told is None else told
    for text in list(decision.targets):
        needed = needs(targets.parse(text), decision.facts, settings)
        if why := next(filter(None, map(reason, needed)), ""):
            decision.targets.remove(text)
            decision.passing = True
            if why not in told:
                told.append(why)


def next_attempt(failure: dict, settings: Settings, now: datetime.datetime) -> datetime.datetime | None:
    """When what failed is tried again, naive UTC; None: when a human asks for it."""
    at = clock.read(failure.get("at"))
    try:
        attempts = int(failure["attempts"])
    except (KeyError, TypeError, ValueError):
        return None
    if at is None or attempts >= settings.attempts or waits_for_change(failure, settings):
        return None
    return at + wait(settings.pause, attempts) if clock.past(at, now) else now


def waits_for_change(failure: Mapping, settings: Settings) -> bool:
    """Return whether data here were refused for what they are: they are looked at again once that changes."""
    return bool(failure.get("refused")) and failure.get("site") == settings.here.name


def is_passing(failure: Mapping, settings: Settings) -> bool:
    """Return whether what was refused here is waited for: it is still being built, and nothing has failed."""
    return waits_for_change(failure, settings) and bool(failure.get("passing"))


def wait(pause: float, attempts: int) -> datetime.timedelta:
    """Return how long it takes until the next attempt; `pause` is the first wait, in minutes.

    Before the first one that counts there is none.
    """
    if attempts < 1:
        return datetime.timedelta(0)
    # A damaged count must not become a number that no clock has.
    return min(datetime.timedelta(minutes=min(pause, 1e6)) * 2 ** min(attempts - 1, 30), LONGEST_PAUSE)


def needs(target: Target, facts: Facts, settings: Settings) -> Iterator[Target]:
    """A target and all that its jobs build upon, as the rules have it."""
    yield target
    for site, stage in _inputs(target, facts, settings):
        yield from needs(Target(site, target.run, stage), facts, settings)


# What a target builds upon at its own site.
_BELOW = {
    "checksum": ("raw.done",),
    "processed.root": ("processed.done",),
    "processed.checksum": ("processed.done",),
    "minitrees.done": ("processed.checksum",),
}


def _inputs(target: Target, facts: Facts, settings: Settings) -> Iterator[tuple[str, str]]:
    """Site and stage of what one target builds upon."""
    site, _, stage = target
    for below in _BELOW.get(stage, ()):
        yield site, below
    if stage == "raw.done" and (origin := facts.source["raw"].get(site)):
        yield origin, stage
    if stage == "processed.done" and settings.site(site).processed.make:
        yield from ((site, "settings.json"), (site, "checksum"))
    elif stage == "processed.done" and facts.source["processed"].get(site) == settings.here.name:
        yield settings.here.name, stage


def _pause(target: Target, failure: dict, settings: Settings, now: datetime.datetime) -> Pause | None:
    """The pause of a failure that its document does not know of."""
    if failure.get("entry"):
        return None
    reason = " ".join(str(failure.get("reason")).split())
    return Pause(target, int(failure.get("attempts", 1)), reason, next_attempt(failure, settings, now))
