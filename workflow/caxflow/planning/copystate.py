"""The state of one copy in a word, and what is to be said of one that is not simply there."""

import datetime
from collections.abc import Mapping

from caxflow import clock, documents, legible, processes
from caxflow.documents import Copy
from caxflow.legible import printable

PROVEN, COPIED, SUSPECT, MISSING = "proven", "copied", "suspect", "missing"
REMOVING, MOVING = "removing", "moving"
BAD = (documents.ERROR, SUSPECT, MISSING)


def state_of(copy: Copy, *, missing: bool = False) -> str:
    """Return the state of a copy; see `caxflow.monitoring.status.CopyState`.

    Parameters
    ----------
    missing : bool
        Whether it was looked for in its place, and is not there.
    """
    suspect = "suspect" in copy.note
    return word(copy.status, suspect=suspect, read=copy.read, missing=missing, changing=changing(copy.note))


def changing(note: Mapping) -> str:
    """Return whether a copy with this note is on its way out or to another path, in a word."""
    return next((word for word in (REMOVING, MOVING) if word in note), "")


def word(status: str, *, suspect: bool, read: bool, missing: bool, changing: str) -> str:
    """Return the state as `state_of` does, from single facts."""
    if suspect:
        return SUSPECT
    if changing:
        return changing
    if missing:
        return MISSING
    if status == documents.TRANSFERRED:
        return PROVEN if read else COPIED
    return status


def remark(copy: Copy) -> str:
    """Return what is to be said about a copy that is not simply there."""
    if "suspect" in copy.note:
        suspect = copy.note["suspect"]
        aside = documents.value(copy.note, "suspect", "quarantine", type_=str)
        where = f"; set aside in {printable(aside)}" if aside else ""
        return f"suspect: {_line(suspect) or _line(copy.note.get('error'))}{where}"
    if copy.status == documents.ERROR:
        return _line(copy.note.get("error")) or "another program reported an error"
    if documents.stalled(copy, clock.now()):
        return left(copy)
    if copy.status == documents.TRANSFERRING:
        return f"being {_verb(copy)} by {_holder(copy)}"
    return ""


def left(copy: Copy) -> str:
    """Return in words that another program left a copy behind, and since when."""
    since = f"since {copy.created:%Y-%m-%d %H:%M} UTC" if copy.created else "nothing says since when"
    return f"{copy.status}, {since}, left by another program"


def _verb(copy: Copy) -> str:
    if REMOVING in copy.note:
        return "removed"
    to = documents.value(copy.note, MOVING, "to", type_=str)
    return f"moved to {to}" if to else "made"


def _holder(copy: Copy) -> str:
    by = copy.by
    owner = copy.note.get("owner", "another program")
    process = f"process {by.get('pid')}" + (", which is gone" if processes.has_ended(by) else "")
    who = f" ({by['user']}@{by['host']}, {process})" if {"user", "host"} <= by.keys() else ""
    until = held_until(copy)
    void = "" if documents.is_held(copy, clock.now()) else ", by a claim that does not hold"
    return f"{owner}{who}{f', claimed until {until:%Y-%m-%d %H:%M} UTC' if until else void}"


def held_until(copy: Copy) -> datetime.datetime | None:
    """Return when the claim on a copy ends, or ended, naive UTC; None where only a wrong clock can say so."""
    lease, now = documents.time_of(copy.note.get("lease")), clock.now()
    return lease if lease and (lease <= now or documents.is_held(copy, now)) else None


def _line(value: object) -> str:
    return legible.line(" ".join(value.split())) if isinstance(value, str) else ""
