"""A plan in a few lines."""

from collections import defaultdict
from collections.abc import Iterator

from caxflow import targets, words
from caxflow.config import Settings
from caxflow.planning.facts import Facts
from caxflow.planning.plan import Plan
from caxflow.targets import Target

MOST = 5  # lines of a kind
_ORDER = ("process", "register", "pull", "push", "relay", "verify", "make", "remove")


def lines(made: Plan, wanted: list[str], settings: Settings) -> Iterator[str]:
    """Lines that say what the `wanted` targets mean, what waits and what is wrong."""
    here = settings.here.name
    if not wanted:
        yield f"nothing to do at {here}"
    else:
        runs = {str(targets.parse(target).run) for target in wanted}
        yield f"{words.count(len(runs), 'run')} to work on at {here}: {', '.join(_work(made, wanted, here))}"
    if made.more:
        left = words.count(made.more, "older run")
        yield f"{left} left for the next calls (batch_size {settings.batch_size})"
    yield from _inherited(wanted, settings)
    yield from _waiting(made)
    yield from made.problems[:MOST]
    if len(made.problems) > MOST:
        yield f"{len(made.problems) - MOST:,} more runs have problems: caxflow page lists them"


def _inherited(wanted: list[str], settings: Settings) -> Iterator[str]:
    """What a command that another file gives runs in, all the same."""
    if any(targets.parse(target).stage == "processed.root" for target in wanted):
        processor = settings.processor(settings.here)
        if processor.inherits:
            yield f"the command of {processor.name} inherits {processor.inherits}, which null takes out"


def _work(made: Plan, wanted: list[str], here: str) -> Iterator[str]:
    """What is to be done, in the order in which it happens: ``pull 3 raw from lngs (1.2 GB)``."""
    sizes: dict[tuple, dict[str, int]] = defaultdict(dict)
    for target in map(targets.parse, wanted):
        facts = made.facts[str(target.run)]
        sizes[_verb(facts, target, here)][facts.run] = facts.size or 0
    # A product is read again after it was made or copied: that goes without saying.
    for verb, kind, _ in list(sizes):
        if verb == "verify" and any(other != "verify" and k == kind for other, k, _ in sizes):
            sizes.pop((verb, kind, ""), None)
    for verb, kind, where in sorted(sizes, key=lambda key: (key[1] != "raw", _ORDER.index(key[0]), key)):
        runs = sizes[verb, kind, where]
        size = f" ({words.size(sum(runs.values()))})" if kind == "raw" and any(runs.values()) else ""
        what = "" if verb == "process" else f" {kind}"
        yield f"{verb} {len(runs):,}{what}{where}{size}"


def _verb(facts: Facts, target: Target, here: str) -> tuple[str, str, str]:
    """What a target means: verb, kind of data, and from or to where."""
    site, _, stage = target
    if stage == "minitrees.done":
        return "make", "minitrees", ""
    kind = "processed" if stage.startswith(("processed", "pax_")) else "raw"
    if stage.endswith(".purged"):
        return "remove", kind, ""
    origin = facts.source[kind].get(site)
    if stage == "processed.root":
        return "process", kind, ""
    if origin is None:
        return "register" if stage == "raw.done" else "verify", kind, ""
    if site == here:
        return "pull", kind, f" from {origin}"
    return ("push", kind, f" to {site}") if origin == here else ("relay", kind, f" from {origin} to {site}")


def _waiting(made: Plan) -> Iterator[str]:
    """What runs wait for, a line a reason: ``3 runs wait (161101_1600, …): no site has a copy``."""
    runs: dict[str, list[str]] = defaultdict(list)
    for run, why in made.waiting.items():
        runs[why.replace(run, "RUN")].append(run)
    reasons = sorted(runs, key=lambda why: -len(runs[why]))
    for why in reasons[:MOST]:
        named = sorted(runs[why], reverse=True)
        if len(named) == 1:
            yield f"{named[0]} waits: {why.replace('RUN', named[0])}"
        else:
            newest = ", ".join(named[:2] + ["…"] * (len(named) > 2))
            yield f"{words.count(len(named), 'run')} wait ({newest}): {why}"
    if len(reasons) > MOST:
        left = sum(len(runs[why]) for why in reasons[MOST:])
        yield f"{words.count(left, 'more run')} for other reasons: caxflow page lists them"
    if made.asleep:
        verb = "waits" if made.asleep == 1 else "wait"
        asleep = f"{words.count(made.asleep, 'older run')} {verb} as before"
        yield f"{asleep}, each looked at once a day: caxflow page lists them"
