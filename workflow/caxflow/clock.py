"""The time, by the runs database's clock: the clocks of hosts may be wrong, and file servers have their own.

Every time that is kept is taken from `now`. One that lies in the future was told by a clock that was wrong
then: it counts as never, wherever times are compared (`past`, `is_ahead`, `age`).
"""

import datetime
import os
import tempfile
import time
from pathlib import Path

# Clocks that are right, and what they are read by, differ by less than this.
SLACK = datetime.timedelta(hours=1)

# What the server's clock said, and at which moment of this host's steady clock, which is never set.
_heard: list[tuple[datetime.datetime, float]] = []


def now() -> datetime.datetime:
    """Return the server's time, naive UTC; this host's until anything is known of the server's."""
    if not _heard:
        return _host()
    ((server, moment),) = _heard
    return server + datetime.timedelta(seconds=time.monotonic() - moment)


def hear(server: datetime.datetime) -> None:
    """Go by the time that the server has just told, naive UTC."""
    _heard[:] = [(server, time.monotonic())]


def lead() -> float:
    """Return by how many seconds the server's clock is ahead of this host's, for `follow` elsewhere."""
    return (now() - _host()).total_seconds()


def follow(seconds: float) -> None:
    """Go by a server whose clock is so far ahead of this host's, in a process that does not ask it."""
    hear(_host() + datetime.timedelta(seconds=seconds))


def read(text: object) -> datetime.datetime | None:
    """Return a time that was kept as text, naive UTC; None where it is none, or no clock has it."""
    try:
        return naive(datetime.datetime.fromisoformat(text)) if isinstance(text, str) else None
    except ValueError:
        return None


def naive(at: datetime.datetime) -> datetime.datetime | None:
    """Return a time in UTC, without its zone (one without is UTC already); None where no clock has it."""
    if not 1970 <= at.year < 9000:
        return None
    return at.astimezone(datetime.UTC).replace(tzinfo=None) if at.tzinfo else at


def past(at: datetime.datetime | None, at_most: datetime.datetime | None = None) -> datetime.datetime | None:
    """Return a time that is kept (naive UTC), or None if it is later than `at_most`, by default `now`."""
    return at if at is not None and at <= (at_most or now()) + SLACK else None


def is_ahead(until: datetime.datetime | None, at: datetime.datetime, longest: datetime.timedelta) -> bool:
    """Return whether a pause lasts beyond the time `at`; one that is longer than the longest is none."""
    return until is not None and at < until <= at + longest + SLACK


def age(path: Path) -> float | None:
    """Return how many seconds ago a file was written, by its file system's clock; None if never."""
    try:
        written = os.lstat(path).st_mtime
    except OSError:
        return None
    since = of_files(path.parent) - written
    return since if since >= 0 else None


def of_files(folder: Path) -> float:
    """Return the time by the clock of a folder's file system, in seconds since 1970."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()  # nothing can be written there


def _host() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
