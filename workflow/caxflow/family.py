"""The processes that a process has begotten: how to keep them as one's own, and how to find them."""

import contextlib
import os
from pathlib import Path

from caxflow import processes

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, where Python has ``ctypes`` for that."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def bury() -> bool:
    """Collect the children that have ended; whether any child is left.

    With `adopt_orphans`, no child means no descendant: the kernel says so, where a look at ``/proc``,
    which is never of one moment, may miss one.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def descendants() -> list[int]:
    """Process ids of all descendants, ended ones that nobody collected among them.

    `adopt_orphans` keeps those whose parent has ended in the family.
    """
    found = ((int(entry.name), processes.status(int(entry.name))) for entry in Path("/proc").glob("[0-9]*"))
    parents = {pid: status.parent for pid, status in found if status}
    family = [os.getpid()]
    for member in family:
        family += [pid for pid, parent in parents.items() if parent == member]
    return family[1:]
