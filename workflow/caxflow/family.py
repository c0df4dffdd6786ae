"""The processes that a process has begotten: how to keep them as one's own, and how to find them."""

import contextlib
import ctypes
import os
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def descendants() -> list[int]:
    """Process ids of all living descendants; `adopt_orphans` keeps those without a parent among them."""
    parents, zombies = {}, set()
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                # proc(5): pid (name) state ppid …, threads the 18th from there; the name may hold blanks and
                # brackets. One whose first thread has ended is a zombie with threads, and still a parent.
                fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
                parents[int(directory.name)] = int(fields[1])
                if fields[0] == b"Z" and int(fields[17]) < 2:
                    zombies.add(int(directory.name))
    family = [os.getpid()]
    for member in family:
        family += [pid for pid, parent in parents.items() if parent == member]
    return [pid for pid in family[1:] if pid not in zombies]
