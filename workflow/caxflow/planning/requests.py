"""Says in a line what Snakemake tells at length: a word that no rule makes, a disk that is full."""

import difflib
import logging
import re
from collections.abc import Callable, Iterable

from caxflow import receipts, targets
from caxflow.config import Settings, Site
from caxflow.errors import CaxflowError
from caxflow.targets import Run, Target

TOGETHER = ("all", "purge", "scrub", "report")  # rules that are asked for by name

_MISSING = re.compile(
    r"MissingRuleException:\s+No rule to produce (.+?) \(if you use input functions", re.DOTALL
)
_UNDRAWN = re.compile(r"WorkflowError:\s+File (\S+) marked for report but does not exist")
_WILDCARDS = re.compile(r"WorkflowError:\s+Target rules may not contain wildcards")
# What Snakemake says of a disk that is full or can only be read.
_DISK = re.compile(
    r"Traceback .*\n\s*\w+Error: \[Errno \d+\] (?P<why>[^:\n]+)(?:: '(?P<file>[^'\n]+)')?.*$", re.DOTALL
)
_FILE = re.compile(r"(?:.*/)?(?P<site>[^/]+)/(?P<run>[^/.]+)\.(?P<stage>[^/]+)")


class InOurWords:
    """A filter for Snakemake's logger: where no rule makes a word, it says why, and what may be meant.

    Parameters
    ----------
    settings : Settings
    rules : callable
        Gives the names of all rules.
    """

    def __init__(self, settings: Settings, rules: Callable[[], Iterable[str]]):
        self.settings = settings
        self.rules = rules

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the record in other words; it is shown in any case."""
        said, wrong = record.getMessage(), None
        if found := _MISSING.match(said):
            wrong = explain(found[1], self.rules(), self.settings)
        elif _WILDCARDS.match(said):
            mend = f"name a file, as {_example(self.settings)}, or a part of all: all --until copy_raw"
            wrong = CaxflowError("a rule for one run is no target", mend)
        elif found := _UNDRAWN.match(said):
            mend = "make the pages first: `report` without --report"
            wrong = CaxflowError(f"there is no {found[1]} yet", mend)
        elif found := _DISK.match(said):
            wrong = CaxflowError(f"{found['file'] or 'the work directory'}: {found['why']}", receipts.MEND)
        if wrong:
            record.msg, record.args = f"caxflow: {wrong}", ()
        return True


def explain(word: str, rules: Iterable[str], settings: Settings) -> CaxflowError:
    """Why there is no rule for a word, and what may be meant by it.

    Parameters
    ----------
    word : str
        A target, or a rule's name, as snakemake was given it.
    rules : iterable of str
        Names of all rules.
    settings : Settings
    """
    try:
        target = targets.parse(word)
    except CaxflowError:
        return CaxflowError(f"no rule makes {word!r}", _meant(word, rules, settings))
    kind, made = _kind(target.stage)
    others = [
        str(target._replace(site=site.name)) for site in settings.sites.values() if _has(site, kind, made)
    ]
    verb = "makes" if made else "keeps"
    return CaxflowError(
        f"there is no {target}: {target.site} {verb} no {kind} data",
        f"ask for {' or '.join(others)}" if others else f"no site {verb} any; config/README.md has the keys",
    )


def _kind(stage: str) -> tuple[str, bool]:
    """Kind of data that a stage is about, and whether only sites that make them have it."""
    if stage in ("settings.json", "report.html") or stage.startswith("pax_"):
        return "processed", True
    head = stage.partition(".")[0]
    return (head if head in ("processed", "minitrees") else "raw"), head == "minitrees"


def _has(site: Site, kind: str, made: bool) -> bool:
    if kind == "minitrees":
        return site.minitrees is not None
    return kind == "raw" or (site.processed is not None and (site.processed.make or not made))


def _meant(word: str, rules: Iterable[str], settings: Settings) -> str:
    """What a word may mean, or what targets look like."""
    example = _example(settings)
    if re.fullmatch(targets.RUN, word):
        return f"a target has a site and a stage: {_example(settings, word)}"
    if match := _FILE.fullmatch(word):
        return _meant_file(match["site"], match["run"], match["stage"], settings)
    if close := _closest(word, [*TOGETHER, *rules]):
        return f"did you mean {close}?"
    return f"targets are {', '.join(TOGETHER)} and files, as {example}"


def _meant_file(site: str, run: str, stage: str, settings: Settings) -> str:
    if not re.fullmatch(targets.RUN, run):
        return f"{run!r} is not the name of a run: those are like 160315_1432, or 160315_1432_MV"
    known = _closest(site, settings.sites)
    if known is None:
        return f"the sites are {', '.join(settings.sites)}"
    meant = _closest(stage, targets.STAGES)
    if meant is None:
        return f"the stages are {', '.join(targets.STAGES)}"
    return f"did you mean {Target(known, Run.parse(run), meant)}?"


def _closest(word: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, list(known), 1, 0.5)), None)


def _example(settings: Settings, run: str = "160315_1432") -> str:
    here = settings.here
    return f"{here.name}/{run}.{'processed.root' if here.processed else 'checksum'}"
