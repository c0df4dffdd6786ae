"""Values that hold for a range of run numbers, as corrections and slow control list them."""

from collections.abc import Mapping, Sequence

from caxflow import values
from caxflow.errors import CaxflowError


def value_at(table: Sequence[Mapping], number: int) -> object | None:
    """Value of the first range with ``min <= number < max``; None where no range holds the run.

    Parameters
    ----------
    table : sequence of mappings
        Each with ``min``, ``max`` (may be infinite) and ``value``.
    number : int
        Run number.

    Raises
    ------
    CaxflowError
        If an entry of the table is not such a range.
    """
    if not isinstance(table, Sequence) or isinstance(table, str | bytes):
        raise CaxflowError(f"the table of run ranges is a {type(table).__name__}, not a list")
    found = None
    for index, entry in enumerate(table):
        if not isinstance(entry, Mapping) or "value" not in entry:
            raise CaxflowError(f"range {index} has no value", "write it as {min, max, value}")
        low, high = (values.number(entry.get(key), infinite=True) for key in ("min", "max"))
        if low is None or high is None:
            raise CaxflowError(
                f"range {index} runs from {entry.get('min')!r} to {entry.get('max')!r}",
                "min and max are run numbers",
            )
        if found is None and low <= number < high:
            found = entry
    return None if found is None else found["value"]
