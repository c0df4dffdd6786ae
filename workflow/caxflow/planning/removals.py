"""What a purge removes here, by policy: which copies, on what evidence, in words."""

import dataclasses
import datetime
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caxflow import documents, errors, targets, words
from caxflow.config import Settings, retention
from caxflow.config.retention import Demand
from caxflow.copies import evidence, purging
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.planning.facts import gather
from caxflow.planning.readings import size_of
from caxflow.rundb import Key
from caxflow.targets import Run

_NAMED = 20  # lines of a plan that are said one by one
_EXAMPLES = 3  # runs that are named of those that stay for the same reason
_NOUNS = {"raw": "raw copy", "processed": "processed file"}


@dataclass(frozen=True)
class Planned:
    """A copy that is to be removed here, and what that means in words; `begun`: a removal that goes on."""

    run: Run
    key: Key
    words: str
    size: int
    begun: bool
    document: Mapping = field(repr=False, compare=False)

    @property
    def stage(self) -> str:
        """The stage that states the removal."""
        return stage_of(self.key)

    @property
    def target(self) -> tuple[Run, str]:
        """What tells it from others."""
        return self.run, self.stage


@dataclass
class Removals:
    """What one purge would remove.

    `stay` counts the reasons of what stays, by kind; `examples` names a few runs of each; `later` counts, by
    kind, what is left over.
    """

    planned: list[Planned] = field(default_factory=list)
    stay: Counter = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)
    later: Counter = field(default_factory=Counter)

    @property
    def bytes(self) -> int:
        """How much goes."""
        return sum(each.size for each in self.planned)

    def keep(self, run: Run, kind: str, why: str) -> None:
        """Take note of a copy that stays."""
        why = why.partition(" (")[0]
        self.stay[kind, why] += 1
        if self.stay[kind, why] <= _EXAMPLES:
            self.examples[kind, why].append(str(run))


def stage_of(key: Key) -> str:
    """The stage that states the removal of a copy."""
    return "raw.purged" if key.kind == "raw" else f"pax_{key.version}.purged"


def key_of_stage(stage: str, host: str) -> Key:
    """Which entry a removal's stage is about; the inverse of `stage_of`."""
    return Key("raw", host) if stage == "raw.purged" else Key("processed", host, stage[4:].rpartition(".")[0])


def demand(key: Key, settings: Settings) -> Demand:
    """What is demanded of others before a copy goes; an old version has one successor."""
    wanted, kept = retention.demand(settings.purge), evidence.key_of("processed", settings.here, settings)
    return wanted if key.kind == "raw" or key == kept else dataclasses.replace(wanted, copies=1)


def select(found: Iterable[Mapping], settings: Settings, now: datetime.datetime) -> Removals:
    """Choose the oldest copies that may go, as far as the ceiling allows; memory grows with those only."""
    made, count = Removals(), Counter()
    # What was begun comes first, then the oldest; no more of them are kept than may go.
    due = heapq.nsmallest(
        settings.purge.runs,
        _candidates(found, settings, now, made, count),
        key=lambda each: (not each.begun, str(each.run), each.stage),
    )
    size = 0
    for each in due:
        try:
            gather(each.document, settings)  # as it will be frozen for the jobs
        except CaxflowError as error:
            made.problems.append(str(error))
            count[each.key.kind] -= 1
            continue
        if each.begun or size + each.size <= settings.purge.bytes:
            made.planned.append(each)
            size += each.size
    made.later = count - Counter(each.key.kind for each in made.planned)
    return made


def _candidates(
    found: Iterable[Mapping], settings: Settings, now: datetime.datetime, made: Removals, count: Counter
) -> Iterator[Planned]:
    """Copies that may go, each once; `made` is told of the others, and `count` counts them all."""
    begun: set[tuple[Run, str]] = set()
    for document in found:
        try:
            with errors.about(f"run document {document.get('_id')}"):
                for each in _of_run(document, settings, now, made):
                    if each.target in begun:
                        continue
                    if each.begun:
                        begun.add(each.target)
                    count[each.key.kind] += 1
                    yield each
        except CaxflowError as error:
            made.problems.append(str(error))


def _of_run(
    document: Mapping, settings: Settings, now: datetime.datetime, made: Removals
) -> Iterator[Planned]:
    run = documents.run_of(document)
    for key in _keys(document, settings):
        removal, against = describe(document, settings, now, key, by_policy=True)
        if against:
            made.keep(run, key.kind, against)
        elif removal:
            yield planned(document, key, settings, removal)


def planned(document: Mapping, key: Key, settings: Settings, removal: str) -> Planned:
    """The removal of a copy, `removal` being what it means in words."""
    copy = documents.find(document, key.kind, key.host, key.version)
    size = size_of(document, copy) if copy else None
    begun = is_begun(document, key)
    return Planned(documents.run_of(document), key, removal, size or 0, begun, document)


def _keys(document: Mapping, settings: Settings) -> Iterator[Key]:
    """Copies here that a purge looks at: the raw one, processed files that are old or on their way out."""
    here, policy = settings.here, settings.purge
    begun = set(documents.leaving(document, here.host))
    if policy.after is not None or ("raw", None) in begun:
        yield Key("raw", here.host)
    leaving, old = {version for kind, version in begun if kind == "processed"}, set()
    if policy.superseded is not None:
        copies = documents.copies(document, "processed", here.host)
        old = {copy.version for copy in copies if purging.is_superseded(copy, here, settings)}
    for version in sorted(leaving | old, key=str):
        if targets.is_stage(f"pax_{version}.purged"):
            yield Key("processed", here.host, version)


def is_begun(document: Mapping, key: Key) -> bool:
    """Whether a copy is on its way out."""
    return (key.kind, key.version) in documents.leaving(document, key.host)


def describe(
    document: Mapping,
    settings: Settings,
    now: datetime.datetime,
    key: Key | None = None,
    *,
    by_policy: bool = False,
) -> tuple[str, str]:
    """What removing a copy here would mean, in words, and why it cannot be; one of both is empty.

    Both are empty where there is no copy here. Without a `key` it is the raw copy.
    """
    here, run = settings.here, documents.run_of(document)
    key = key or Key("raw", here.host)
    what = str(run) if key.kind == "raw" else f"processed {run} of {key.version}"
    if is_begun(document, key):
        return f"go on removing {what} from {here.name}", ""
    copy = documents.find(document, key.kind, key.host, key.version)
    if copy is None:
        return ("", "") if by_policy else ("", "there is none in the runs database")
    if why := _against(document, copy, settings, now, by_policy):
        return "", why
    wanted = demand(key, settings)
    if key.kind == "raw":
        found = evidence.witnesses(document, copy, settings, wanted, now)
    else:
        found = evidence.successors(document, copy, here, settings, wanted, now=now)
    if here.work_dir:
        found = evidence.read_from_here(found, run, wanted, now, Path(here.work_dir))
    if sum(each.counts or each.renewable for each in found) < wanted.copies:
        nobody = "no other site has one" if key.kind == "raw" else "there is no newer one here"
        return "", evidence.wanting(found, wanted, nobody)
    fresh = [str(each) for each in found if each.counts][: wanted.copies]
    stale = [f"{each.site} (is read first: {each.against})" for each in found if each.renewable]
    known = ", ".join([*fresh, *stale[: wanted.copies - len(fresh)]])
    good = "good copies" if key.kind == "raw" else f"its successor {found[0].copy.version}"
    return f"remove {what} from {here.name}, {words.size(size_of(document, copy))}; {good}: {known}", ""


def _against(
    document: Mapping, copy: Copy, settings: Settings, now: datetime.datetime, by_policy: bool
) -> str:
    """Why a copy stays whatever is known of others; empty if nothing is against its going."""
    if not evidence.good(copy):
        return f"its status is {copy.status}"
    if by_policy and copy.kind == "raw":
        why = purging.not_due(document, settings.here, settings, now)
    elif by_policy:
        why = purging.not_superseded_for_long(document, copy, settings.here, settings, now)
    else:
        why = ""
    if why or (copy.manifest and size_of(document, copy) is not None):
        return why
    return "its size is not known: scrub it" if copy.manifest else "it has no manifest yet: scrub it"


def summary(made: Removals, settings: Settings, *, listed: bool = True) -> Iterator[str]:
    """A purge in words; the jobs of a preview list the removals themselves."""
    here = settings.here.name
    if made.planned:
        count = _counted(Counter(each.key.kind for each in made.planned))
        yield f"{count} to remove at {here}, {words.size(made.bytes)}"
    else:
        yield f"nothing to remove at {here}"
    if listed:
        yield from first([each.words for each in made.planned])
    if left := +made.later:
        most = f"{settings.purge.runs} copies, {words.size(settings.purge.bytes)}"
        yield f"{_counted(left, 'more ')} may go, by the next calls (at_most: {most})"
    for (kind, why), number in made.stay.most_common():
        named = ", ".join(made.examples[kind, why]) + (", …" if number > _EXAMPLES else "")
        yield f"{words.count(number, _NOUNS[kind])} here stay{'s' * (number == 1)} ({named}): {why}"
    yield from first(made.problems)


def first(lines: list[str]) -> Iterator[str]:
    """The first lines, and how many more there are."""
    yield from lines[:_NAMED]
    if len(lines) > _NAMED:
        yield f"and {len(lines) - _NAMED:,} more"


def _counted(numbers: Counter, more: str = "") -> str:
    return " and ".join(
        words.count(numbers[kind], f"{more}{noun}") for kind, noun in _NOUNS.items() if numbers[kind]
    )
