"""Marks in run documents: what a site need not look at, and until when.

``caxflow.settled.<site>`` is ``<policy> settled <time>`` once nothing remains to be done there, and
``<policy> waits <time>`` where only a change of the document can bring what the run waits for. Until that
time (ISO, UTC) planning passes the document over. Whatever caxflow changes in a document takes the marks of
all sites away; other programs leave them alone, and what those change is seen when the time has come. Another
policy makes every mark void.

All of it is one text, so that one index answers each question as a range of it. What is no text, or a text
out of the ranges, is no mark: its document is looked at.
"""

import datetime
import zlib
from collections.abc import Mapping

from caxflow import clock, documents

MARK = "caxflow.settled"
SETTLED, WAITS = "settled", "waits"

_DAY, _MONTH = datetime.timedelta(days=1), datetime.timedelta(days=30)
_YOUNG = datetime.timedelta(days=7)  # a run whose wait planning looks at each time
# What `next_look` says at most; a mark that holds for longer was made by a clock that was wrong.
_LONGEST = {SETTLED: _MONTH * 1.25 + clock.SLACK, WAITS: _DAY * 1.25 + clock.SLACK}


def key(site: str) -> str:
    """Where a document carries the mark of a site."""
    return f"{MARK}.{site}"


def text(policy: str, kind: str, until: datetime.datetime) -> str:
    """A mark; `kind` is `SETTLED` or `WAITS`, `until` naive UTC."""
    return f"{policy} {kind} {until.isoformat(timespec='seconds')}"


def due(site: str, policy: str, now: datetime.datetime) -> list[dict]:
    """Conditions that each hold for some of the documents that `site` is to look at; together for all.

    They leave out the `_spans` of texts, and nothing else.
    """
    place = key(site)
    (low, high), (other_low, other_high) = sorted(_spans(policy, now).values())
    between = {"$lte": low}, {"$gt": high, "$lte": other_low}, {"$gt": other_high}
    return [{place: {"$not": {"$gte": ""}}}, *({place: some} for some in between)]


def asleep(site: str, policy: str, now: datetime.datetime) -> dict:
    """The condition for documents of runs that wait, and are not looked at yet."""
    low, high = _spans(policy, now)[WAITS]
    return {key(site): {"$gt": low, "$lte": high}}


def spared(document: Mapping, site: str, policy: str, now: datetime.datetime) -> str | None:
    """Return the kind of mark for which `site` does not look at a document now; None where it is `due`."""
    found = [each for each in documents.reached(document, *key(site).split(".")) if isinstance(each, str)]
    for kind, (low, high) in _spans(policy, now).items():
        if found and all(low < each <= high for each in found):
            return kind
    return None


def until(document: Mapping, site: str, policy: str, now: datetime.datetime) -> datetime.datetime | None:
    """Return when a document is looked at again at `site` at the latest, naive UTC; None if it is `due`."""
    kind = spared(document, site, policy, now)
    if kind is None:
        return None
    mark = documents.value(document, "caxflow", "settled", site, type_=str) or ""
    return clock.read(mark.removeprefix(f"{policy} {kind} ")) or now + _LONGEST[kind]


def _spans(policy: str, now: datetime.datetime) -> dict[str, tuple[str, str]]:
    """Return by kind behind which text and up to which one a mark spares a document."""
    ends = {kind: (now, now + longest) for kind, longest in _LONGEST.items()}
    return {kind: (text(policy, kind, low), text(policy, kind, high)) for kind, (low, high) in ends.items()}


def next_look(document: Mapping, kind: str, now: datetime.datetime) -> datetime.datetime | None:
    """When a document is to be looked at again though caxflow did not change it; None for each time.

    A settled one after a tenth of the run's age, at least a day and at most 30; one that waits after a day,
    once the run is a week old. Spread by a quarter, so that what was marked together does not come together.
    """
    begun = documents.time_of(document.get("start"))
    age = now - begun if begun else _MONTH
    if kind == WAITS and age < _YOUNG:
        return None
    pause = _DAY if kind == WAITS else min(max(age / 10, _DAY), _MONTH)
    spread = zlib.crc32(str(document.get("name")).encode()) / 2**32
    return now + pause * (0.75 + spread / 2)
