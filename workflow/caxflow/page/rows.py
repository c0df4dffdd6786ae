"""What the table shows of a run: one row, its words coded, so that 100,000 rows stay small."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from caxflow import documents, legible
from caxflow.config import Settings
from caxflow.documents import TRANSFERRING, VERIFYING, Copy
from caxflow.planning import copystate, standing
from caxflow.planning.standing import Standing
from caxflow.targets import Run

# State of a run at the site that writes the page.
DONE, TODO, MOVING, WAITS, FAILED, TAKING, LEFT, ODD = "d", "a", "m", "w", "f", "t", "x", "o"
STATES = {
    standing.SETTLED: DONE,
    standing.TODO: TODO,
    standing.BUSY: MOVING,
    standing.WAITS: WAITS,
    standing.FAILED: FAILED,
    standing.TAKING: TAKING,
    standing.EXCLUDED: LEFT,
    standing.PROBLEM: ODD,
}
# State of one copy, the best first.
PROVEN, COPIED, CHECKING, COMING, BROKEN, NONE = "p", "c", "v", "m", "e", "-"
_LETTERS = {
    copystate.PROVEN: PROVEN,
    copystate.COPIED: COPIED,
    VERIFYING: CHECKING,
    TRANSFERRING: COMING,
    copystate.MOVING: COMING,
    copystate.REMOVING: COMING,
}

KINDS = ("raw", "processed", "minitrees")
MOST_HOSTS = 16  # columns; what else a database names is shown on the run's own page
LONGEST = 60  # characters of a word that is a filter


class Words:
    """Numbers for words, in the order in which they were met."""

    def __init__(self, first: tuple[str, ...] = ()):
        self.numbers = {word: number for number, word in enumerate(first)}

    def __call__(self, word: str) -> int:
        return self.numbers.setdefault(word[:LONGEST], len(self.numbers))

    def __iter__(self):
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass
class Codes:
    """The words of all rows: hosts (the configured sites' first), sources, tags, reasons of failures."""

    hosts: Words
    sources: Words = field(default_factory=Words)
    tags: Words = field(default_factory=Words)
    reasons: Words = field(default_factory=Words)

    @classmethod
    def of(cls, settings: Settings) -> "Codes":
        """Codes in which the sites come first, in the order of their files' names."""
        return cls(Words(tuple(site.host for site in settings.sites.values())))


def letter_of(word: str) -> str:
    """One letter for what `caxflow status` says of a copy in a word; what is suspect or missing is broken."""
    return _LETTERS.get(word, BROKEN)


def row(document: Mapping, run: Run, copies: list[Copy], stands: Standing, *, codes: Codes) -> list:
    """Name, number, source, tags, bytes, events, seconds, state, and two letters a host (raw, processed).

    Of a run that failed the reasons stand behind them.
    The order is known to ``assets/runs.js``.
    """
    start, end = (documents.time_of(document.get(key)) for key in ("start", "end"))
    source = documents.value(document, "source", "type", type_=str)
    reasons = [codes.reasons(reason_of(trouble.reason)) for trouble in stands.troubles]
    return [
        str(run),
        documents.value(document, "number", type_=int),
        codes.sources(source or "none"),
        [codes.tags(tag) for tag in documents.tags(document)],
        documents.value(document, "raw_size_byte", type_=int),
        documents.value(document, "trigger", "events_built", type_=int),
        round((end - start).total_seconds()) if start and end else None,
        STATES[stands.state],
        _where(copies, stands, codes),
        *([reasons] if reasons else []),
    ]


def _where(copies: list[Copy], stands: Standing, codes: Codes) -> str:
    cells: dict[int, str] = {}
    order = PROVEN + COPIED + CHECKING + COMING + BROKEN + NONE
    for copy in copies:
        if copy.kind not in ("raw", "processed"):
            continue
        if copy.host not in codes.hosts.numbers and len(codes.hosts) >= MOST_HOSTS:
            continue
        at = 2 * codes.hosts(copy.host) + (copy.kind == "processed")
        letter = letter_of(stands.state_of(copy))
        if order.index(letter) < order.index(cells.get(at, NONE)):
            cells[at] = letter
    return "".join(cells.get(at, NONE) for at in range(max(cells, default=-1) + 1))


def reason_of(error: object) -> str:
    """An error without what differs from run to run, so that equal failures count together."""
    text = legible.line(error).partition(" -> ")[0]
    text = re.sub(r"\d{6}_\d{4}(_MV)?", "RUN", text)
    text = re.sub(r"(?<![\w.])/\S+", "…", text)
    text = re.sub(r"\d+(\.\d+)?", "N", text)
    return re.sub(r"^RUN:? ?(\S+\.\w+ at \S+: )?", "", text).strip()[:120] or "no reason given"
