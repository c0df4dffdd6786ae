"""Numbers, times, truth values and texts as they stand in documents: one reader for each.

Other programs and people have written them in every type: the mongo shell makes each number a double, and
there are Decimal128, texts, and lists of times. What cannot be read is None, as if it were missing: it is no
evidence of anything.
"""

import datetime
import math
import re
from decimal import Decimal

from caxflow import clock

_NUMBER = re.compile(
    r"\s*[+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:e[+-]?\d{1,4})?\s*", re.ASCII | re.IGNORECASE
)
_BEYOND = 1 << 63  # what whole numbers of a database stay below
_SECONDS = (10**9, 10**10)  # from 2001 to 2286


def number(found: object, *, infinite: bool = False) -> int | float | None:
    """Return a finite number (or, if asked for, an `infinite` one) of any type; a truth value is none."""
    exact = _exact(found)
    if isinstance(exact, Decimal):
        exact = int(exact) if whole(exact) is not None else float(exact)
    endless = isinstance(exact, float) and math.isinf(exact)
    return None if endless and not infinite else exact


def whole(found: object) -> int | None:
    """Return a number without a fraction, from 0 on, of any type: a count, or the number of a run."""
    exact = _exact(found)
    if exact is None or not 0 <= exact < _BEYOND:
        return None
    return int(exact) if exact == int(exact) else None


def truth(found: object) -> bool | None:
    """Return a truth value; 1 and 0 are, and so are true and false as texts."""
    if isinstance(found, str):
        found = {"true": True, "false": False}.get(found.strip().lower(), found)
    return found if isinstance(found, bool) else {1: True, 0: False}.get(whole(found))


def time(found: object) -> datetime.datetime | None:
    """Return a time that a clock can have, naive UTC.

    It may be a date, a text (ISO 8601) or a number of seconds since 1970; of a list of them the last counts.
    """
    if isinstance(found, list):
        found = found[-1] if found else None
    if isinstance(found, datetime.datetime):
        return clock.naive(found)
    if isinstance(found, str) and (at := clock.read(found.strip())):
        return at
    seconds = number(found)
    if seconds is None or not _SECONDS[0] <= seconds < _SECONDS[1]:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)


def text(found: object) -> str | None:
    """Return a text; a piece of code, which is one for Python but cannot be looked up, is none."""
    return found if isinstance(found, str) and found.__hash__ else None


def said(found: object) -> str:
    """Return what a document has, in a word for messages."""
    return "not set" if found is None else repr(found)[:60]


def _exact(found: object) -> int | float | Decimal | None:
    """Return what is a number, without loss."""
    if hasattr(found, "to_decimal"):  # a Decimal128; some processes that import this have no bson
        found = found.to_decimal()
    elif isinstance(found, str) and _NUMBER.fullmatch(found):
        found = Decimal(found)
    if isinstance(found, Decimal):
        return None if found.is_nan() else found
    if isinstance(found, int) and not isinstance(found, bool):
        return int(found)
    return float(found) if isinstance(found, float) and not math.isnan(found) else None
