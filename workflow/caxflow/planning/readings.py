"""Which copies here a scrub reads again: those that were not read for longest, within its budget."""

import contextlib
import dataclasses
import datetime
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from caxflow import clock, documents, errors, words
from caxflow.config import Settings
from caxflow.copies import evidence
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.planning.presence import Presence

FILE = ".caxflow/scrub.json"


@dataclass(frozen=True)
class Reading:
    """A copy that is to be read again.

    First comes what is missing and what has no checksum for cax, though others have; then what was not read
    for longest.
    """

    verified: str
    run: str
    kind: str
    version: str | None
    size: int | None
    missing: bool = False
    unsummed: bool = False

    @property
    def since(self) -> str:
        """When it was last known to be good; empty for never, and for what is due at once."""
        return "" if self.missing or self.unsummed else self.verified

    def __str__(self) -> str:
        when = (
            f"last read {self.verified[:16].replace('T', ' ')} UTC" if self.verified else "never read again"
        )
        gone = ", not in its place" if self.missing else ""
        return f"{self.kind} {self.run}, {words.size(self.size)}, {when}{gone}"


def readings(found: Iterable[Mapping], settings: Settings) -> Iterator[Reading]:
    """All copies here whose bytes can be judged; of processed files, those of all versions.

    One that is not in its place is due at once, whenever it was read, and so is one without a checksum that
    cax wants. Raw data at their origin that were not registered are not read: registering them says more of
    them than that they are what they are.
    """
    here, presence = settings.here, Presence(settings.here)
    kinds = {"raw", "processed"} & set(settings.kinds) & set(here.roots)
    for document in found:
        with contextlib.suppress(CaxflowError), errors.about("a run document"):
            run = documents.run_of(document)
            for copy in documents.copies(document):
                if copy.host != here.host or copy.kind not in kinds or not evidence.good(copy):
                    continue
                if copy.kind == "raw" and here.origin and not copy.manifest:
                    continue
                version = copy.version if copy.kind == "processed" else None
                documents.find(document, copy.kind, copy.host, version)  # of two, nobody knows which is meant
                if copy.kind == "raw" or version:
                    verified = documents.time_of(copy.note.get("verified"))
                    when = verified.isoformat() if verified else ""
                    missing = bool(presence.fault(run, copy))
                    unsummed = documents.lacks_checksum(document, copy)
                    size = size_of(document, copy)
                    yield Reading(when, str(run), copy.kind, version, size, missing, unsummed)


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
    limit, last = ((now + some).isoformat() for some in (-settings.scrub.every, clock.SLACK))
    oldest: Reading | None = None
    count, due = 0, []
    for stated in found:
        each = stated if stated.verified <= last else dataclasses.replace(stated, verified="")
        oldest = each if oldest is None else min(oldest, each, key=_order)
        if each.since < limit:
            count += 1
            due.append(each)
    todo, size = [], 0
    for each in heapq.nsmallest(most, due, key=_order):
        if todo and size + (each.size or 0) > settings.scrub.bytes:
            break
        todo.append(each)
        size += each.size or 0
    return todo, oldest, count


def size_of(document: Mapping, copy: Copy) -> int | None:
    """Bytes of a copy, if its document knows."""
    if copy.size is None and copy.kind == "raw":
        return documents.value(document, "raw_size_byte", type_=int) or None
    return copy.size


def _order(each: Reading) -> tuple[str, str, str]:
    return each.since, each.run, each.kind
