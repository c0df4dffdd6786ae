"""Values that hold for a range of run numbers, as corrections and slow control list them."""

from collections.abc import Mapping, Sequence

from caxflow import values
from caxflow.errors import CaxflowError

MOST = 10_000  # ranges of a table


def read(table: Sequence[Mapping]) -> tuple[tuple[float, float, object], ...]:
    """Return the ranges of a table as the document has it: first number, the one after the last, value.

    Raises
    ------
    CaxflowError
        If the table is no list of ranges, or has too many.
    """
    if not isinstance(table, Sequence) or isinstance(table, str | bytes):
        raise CaxflowError(f"the table of run ranges is a {type(table).__name__}, not a list")
    if len(table) > MOST:
        raise CaxflowError(f"the table has {len(table)} run ranges; {MOST} are the most", "join some of them")
    found = []
    for index, entry in enumerate(table):
        if not isinstance(entry, Mapping) or "value" not in entry:
            raise CaxflowError(f"range {index} has no value", "write it as {min, max, value}")
        low, high = (values.number(entry.get(key), infinite=True) for key in ("min", "max"))
        if low is None or high is None:
            said = (values.said(entry.get(key)) for key in ("min", "max"))
            raise CaxflowError(
                f"range {index} runs from {' to '.join(said)}",
                "min and max are run numbers",
            )
        found.append((low, high, entry["value"]))
    return tuple(found)


def value_at(ranges: Sequence[tuple[float, float, object]], number: int) -> object | None:
    """Value of the first range with ``min <= number < max``; None where no range holds the run.

    Parameters
    ----------
    ranges : sequence of tuple
        As `read` gives them; max may be infinite.
    number : int
        Run number.
    """
    return next((value for low, high, value in ranges if low <= number < high), None)
