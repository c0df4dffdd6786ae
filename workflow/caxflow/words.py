"""Numbers as people say them."""

import datetime
import re
from collections.abc import Sequence


def size(count: float | None) -> str:
    """Bytes in decimal units: ``41.2 GB``."""
    if count is None:
        return "size unknown"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        text = f"{count:.0f}" if unit == "B" else f"{count:.1f}"
        if abs(float(text)) < 1000 or unit == "TB":
            return f"{text} {unit}"
        count /= 1000
    raise AssertionError


def count(number: int, noun: str) -> str:
    """A number and its noun: ``1 run``, ``1,200 runs``."""
    plural = noun[:-1] + "ies" if re.search("[^aeiou]y$", noun) else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: ``conda``, ``kind, command and conda``."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def duration(seconds: float) -> str:
    """Seconds in the two units that matter: ``12 s``, ``4 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    units = ((3600, 60, "min", 1, "s"), (86400, 3600, "h", 60, "min"), (float("inf"), 86400, "d", 3600, "h"))
    _, length, unit, part, below = next(row for row in units if left < row[0])
    rest = left % length // part
    return f"{left // length} {unit}" + (f" {rest} {below}" if rest else "")


def ago(then: datetime.datetime, now: datetime.datetime) -> str:
    """How long ago something was: ``4 min ago``, ``3 d ago``; what lies ahead: ``in 4 min``."""
    text = duration(abs((now - then).total_seconds())).split()
    short = " ".join(text[:2])
    return f"in {short}" if then > now else f"{short} ago"
