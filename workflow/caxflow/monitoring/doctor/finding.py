"""What one check found, and how errors become that."""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from caxflow import words
from caxflow.errors import CaxflowError

GOOD, DOUBTFUL, BAD = "ok", "look", "FAIL"
LITTLE = {"raw": 1e12, "processed": 1e11, "minitrees": 1e10}  # bytes; raw: what a day brings
_SKEW = datetime.timedelta(minutes=1).total_seconds()


@dataclass(frozen=True)
class Finding:
    """What one check found; `mend` is a command or what else to do."""

    about: str
    verdict: str
    said: str
    mend: str = ""


def guarded(about: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Return what a check finds; an error is a finding, and the other checks go on."""
    found = []
    try:
        found.extend(check())
    except CaxflowError as error:
        found.append(Finding(about, BAD, error.what, error.mend))
    return found


def clock(about: str, off: float, whose: str) -> Finding:
    """Return what a clock that is `off` by so many seconds means."""
    if off > _SKEW:
        said = f"{words.duration(off)} off {whose}: leases hold all the same, times in receipts are wrong"
        return Finding(about, DOUBTFUL, said, "timedatectl set-ntp true")
    return Finding(about, GOOD, f"within {max(1, round(off))} s of {whose}")


def space(about: str, root: str, kind: str, free: float | None, *, found: str, look: str) -> Finding:
    """Return whether the free space of a root will do; `look` is a command that shows it."""
    if free is not None and free < LITTLE[kind]:
        said = f"{root} {found}, but only {words.size(free)} are free"
        return Finding(about, DOUBTFUL, said, f"{look}; free some, or name another folder")
    return Finding(about, GOOD, f"{root} {found}, {in_words(free)}")


def in_words(free: float | None) -> str:
    """Return how much space is free, in words."""
    return f"{words.size(free)} free" if free is not None else "its free space is not told"
