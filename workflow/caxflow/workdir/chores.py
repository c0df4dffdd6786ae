"""What is due from time to time, such as a scrub: when it was last done here."""

import datetime
from collections.abc import Mapping
from pathlib import Path

from caxflow import clock, receipts
from caxflow.errors import CaxflowError

FILE = ".caxflow/chores.json"
_SOONER = 4  # after a failure, a chore is due again after so small a part of its time


def due(work_dir: Path, periods: Mapping[str, datetime.timedelta], now: datetime.datetime) -> list[str]:
    """Names of the chores that are due, those first that have waited longest.

    Parameters
    ----------
    periods : mapping of str to timedelta
        How often each is due.
    now : datetime
        In UTC. What was last done later than that, by a clock that was wrong, is due.
    """
    last = _read(work_dir)
    found = []
    for name, period in periods.items():
        at, good = last.get(name, (None, True))
        wait = period if good else period / _SOONER
        if at is None or not -clock.SLACK <= now - at < wait:
            found.append((at.timestamp() if at else 0.0, name))
    return [name for _, name in sorted(found)]


def done(work_dir: Path, name: str, now: datetime.datetime, *, good: bool) -> None:
    """Take note that a chore was done, and whether all went well."""
    last = _read(work_dir) | {name: (now, good)}
    content = {each: {"at": at.isoformat(), "good": well} for each, (at, well) in last.items()}
    receipts.write(work_dir / FILE, content)


def _read(work_dir: Path) -> dict[str, tuple[datetime.datetime, bool]]:
    """What was last done when; a record that is not there or damaged makes everything due."""
    try:
        content = receipts.read(work_dir / FILE)
        found = {name: (clock.read(each["at"]), bool(each["good"])) for name, each in content.items()}
        return {name: (at.replace(tzinfo=datetime.UTC), good) for name, (at, good) in found.items() if at}
    except (CaxflowError, AttributeError, KeyError, TypeError, ValueError):
        return {}
