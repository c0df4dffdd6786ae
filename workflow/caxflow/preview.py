"""Whether this process only looks: the one place that decides it, for ``-n`` and for ``dry: true``.

What reads the command line and the configuration sets it; all that changes data, a work directory or
the runs database asks here, whatever led to it.
"""

import threading

from caxflow.errors import CaxflowError

_ONLY_LOOKS = threading.Event()


def only_look(yes: bool) -> None:
    """Have this process change nothing from now on, or let it."""
    (_ONLY_LOOKS.set if yes else _ONLY_LOOKS.clear)()


def only_looks() -> bool:
    """Return whether nothing may be changed."""
    return _ONLY_LOOKS.is_set()


def refuse(what: str) -> None:
    """Raise a CaxflowError that names what is not done, where nothing may be changed."""
    if only_looks():
        raise CaxflowError(f"{what}: not done, nothing may be changed", "take -n, or dry: true, out")
