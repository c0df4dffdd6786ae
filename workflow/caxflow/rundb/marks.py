"""Marks in run documents: what a site need not look at, and until when.

``caxflow.settled.<site>`` is ``<policy> settled <time>`` once nothing remains to be done there, and
``<policy> waits <time>`` where only a change of the document can bring what the run waits for. Until that
time (ISO, UTC) planning passes the document over. Whatever caxflow changes in a document takes the marks of
all sites away; other programs leave them alone, and what those change is seen when the time has come. Another
policy makes every mark void.

All of it is one text, so that one index answers each question as a range of it; not every server answers
``$ne`` from an index.
"""

import datetime
import zlib
from collections.abc import Mapping

from caxflow import clock, documents

MARK = "caxflow.settled"
SETTLED, WAITS = "settled", "waits"

_DAY, _MONTH = datetime.timedelta(days=1), datetime.timedelta(days=30)
_YOUNG = datetime.timedelta(days=7)  # a run whose wait planning looks at each time
_LAST = "~"  # sorts behind all that a mark may have
# What `next_look` says at most; a mark that holds for longer was made by a clock that was wrong.
_LONGEST = {SETTLED: _MONTH * 1.25 + clock.SLACK, WAITS: _DAY * 1.25 + clock.SLACK}


def key(site: str) -> str:
    """Where a document carries the mark of a site."""
    return f"{MARK}.{site}"


def text(policy: str, kind: str, until: datetime.datetime) -> str:
    """A mark; `kind` is `SETTLED` or `WAITS`, `until` naive UTC."""
    return f"{policy} {kind} {until.isoformat(timespec='seconds')}"


def due(site: str, policy: str, now: datetime.datetime) -> list[dict]:
    """Conditions that each hold for some of the documents that `site` is to look at; together for all."""
    place = key(site)
    over = []
    for kind in (SETTLED, WAITS):
        last = text(policy, kind, now + _LONGEST[kind])
        over.append({place: {"$gt": f"{policy} {kind}", "$lte": text(policy, kind, now)}})
        over.append({place: {"$gt": last, "$lt": f"{policy} {kind}{_LAST}"}})
    return [{place: None}, {place: {"$lte": policy}}, *over, {place: {"$gt": f"{policy}{_LAST}"}}]


def asleep(site: str, policy: str, now: datetime.datetime) -> dict:
    """The condition for documents of runs that wait, and are not looked at yet."""
    last = text(policy, WAITS, now + _LONGEST[WAITS])
    return {key(site): {"$gt": text(policy, WAITS, now), "$lte": last}}


def is_settled(document: Mapping, site: str, policy: str) -> bool:
    """Whether a document is marked as one where nothing remains to be done at `site`."""
    mark = documents.value(document, "caxflow", "settled", site, type_=str) or ""
    return mark.startswith(f"{policy} {SETTLED}")


def until(document: Mapping, site: str, policy: str, now: datetime.datetime) -> datetime.datetime | None:
    """Return when a document is looked at again at `site`, naive UTC; None where no mark of it holds."""
    mark = (documents.value(document, "caxflow", "settled", site, type_=str) or "").split()
    if len(mark) != 3 or mark[0] != policy or mark[1] not in _LONGEST:
        return None
    end = clock.read(mark[2])
    return end if end is not None and now < end <= now + _LONGEST[mark[1]] else None


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
