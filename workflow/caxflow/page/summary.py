"""What the overview says: sums over all runs, taken while they pass by."""

import datetime
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from caxflow import documents
from caxflow.config import Settings
from caxflow.documents import Copy
from caxflow.page import rows
from caxflow.planning.standing import Standing
from caxflow.targets import Run

DAYS = 60  # of copies a day


@dataclass
class Summary:
    """Sums over all runs; days are dates in UTC.

    Parameters
    ----------
    settings : Settings
    now : datetime
        Naive UTC.
    """

    settings: Settings
    now: datetime.datetime
    runs: int = 0
    bytes: int = 0
    states: Counter = field(default_factory=Counter)
    added: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    copies: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    backlog: Counter = field(default_factory=Counter)
    reasons: Counter = field(default_factory=Counter)
    unverified: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    oldest: dict[str, tuple[datetime.datetime, str]] = field(default_factory=dict)

    def __post_init__(self):
        self.sites = {site.host: site.name for site in self.settings.sites.values()}

    def add(self, document: Mapping, run: Run, copies: list[Copy], stands: Standing) -> None:
        """Count one run, its copies and what failed."""
        size = documents.value(document, "raw_size_byte", type_=int) or 0
        self.runs += 1
        self.bytes += size
        self.states[rows.STATES[stands.state]] += 1
        self.reasons.update(rows.reason_of(trouble.reason) for trouble in stands.troubles)
        here, arrived = self.settings.here.host, None
        for copy in copies:
            if copy.kind not in rows.KINDS:
                continue
            letter = rows.letter_of(stands.state_of(copy))
            if letter not in (rows.PROVEN, rows.COPIED, rows.CHECKING) or copy.host not in self.sites:
                continue
            if copy.kind == "raw":
                self._raw(copy, run, size, letter)
                arrived = copy.created if copy.host == here else arrived
            if copy.created:
                self.copies[copy.kind][copy.created.date()] += 1
        self._backlog(document, copies, arrived)

    def _raw(self, copy: Copy, run: Run, size: int, letter: str) -> None:
        site = self.sites[copy.host]
        if copy.created:
            self.added[site][copy.created.date()] += size
        if letter != rows.PROVEN and not self.settings.sites[site].origin:
            self.unverified[site]["runs"] += 1
            self.unverified[site]["bytes"] += size
            since = copy.created
            if since and (site not in self.oldest or since < self.oldest[site][0]):
                self.oldest[site] = (since, str(run))

    def _backlog(self, document: Mapping, copies: list[Copy], arrived: datetime.datetime | None) -> None:
        """Runs that had ended and were not here yet; one whose copy has no date counts as never missing."""
        ended = documents.time_of(document.get("end"))
        here = self.settings.here.host
        if ended is None or self.settings.here.origin:
            return
        if arrived is None and any((copy.kind, copy.host) == ("raw", here) for copy in copies):
            moving = any(
                copy.status != documents.TRANSFERRED
                for copy in copies
                if (copy.kind, copy.host) == ("raw", here)
            )
            if not moving:
                return
        self.backlog[ended.date()] += 1
        if arrived:
            self.backlog[max(arrived, ended).date()] -= 1

    def growth(self) -> dict[str, list[tuple[datetime.date, float]]]:
        """By site, the bytes of raw data it has at the end of each month, and now."""
        lines = {}
        for site in sorted(self.added):
            months: Counter = Counter()
            for day, size in self.added[site].items():
                months[day.replace(day=1)] += size
            line = [(min(months), 0.0)]
            for month in sorted(months):
                after = (month + datetime.timedelta(days=31)).replace(day=1)
                line.append((min(after, self.now.date()), line[-1][1] + months[month]))
            line.append((self.now.date(), line[-1][1]))
            lines[site] = line
        return lines

    def a_day(self) -> dict[str, list[tuple[datetime.date, float]]]:
        """By kind of data, copies made on each of the last days."""
        days = [self.now.date() - datetime.timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
        return {kind: [(day, self.copies[kind][day]) for day in days] for kind in sorted(self.copies)}

    def waiting_here(self) -> list[tuple[datetime.date, float]]:
        """Runs that had ended and whose raw data were not here, at the end of each of the last days."""
        first = self.now.date() - datetime.timedelta(days=DAYS - 1)
        level = sum(step for day, step in self.backlog.items() if day < first)
        line = []
        for ahead in range(DAYS):
            day = first + datetime.timedelta(days=ahead)
            level += self.backlog[day]
            line.append((day, level))
        return line
