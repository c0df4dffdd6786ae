"""Identity of processes: which one did something, and whether it has ended.

A number alone says little: the kernel gives it to another process, or a thread, in time; a process that has
ended keeps it until its parent collects it; and each machine and container counts for itself. So a process is
its number, the time at which it started, and the boot and namespaces in which that number counts.
"""

import os
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from caxflow import values

# RLIMIT_LOCKS, which Linux keeps for each process and has not used since 2.4.
_MARK = 10


class Status(NamedTuple):
    """What the kernel tells of a process, as in proc(5).

    Parameters
    ----------
    state : str
        One letter; ``Z`` for a process that has ended and was not collected yet.
    parent : int
        Process id.
    threads : int
        Threads that have not been collected; a main thread may end before the others.
    started : int
        Clock ticks from the boot to the start.
    """

    state: str
    parent: int
    threads: int
    started: int


def status(pid: int) -> Status | None:
    """Return what ``/proc`` tells of a process; None if nothing does."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # pid (name) state ppid …; the name may hold blanks and brackets.
    fields = line.rpartition(b")")[2].split()
    return Status(fields[0].decode(), int(fields[1]), int(fields[17]), int(fields[19]))


def mark() -> None:
    """Mark this process and all that it starts from now on; none of them can take the mark off."""
    resource.setrlimit(_MARK, (0, 0))


def is_marked(pid: int) -> bool:
    """Return whether a process has the mark; so has one that does not let this one see."""
    try:
        return resource.prlimit(pid, _MARK)[1] == 0
    except OSError:
        return True


def machine() -> str | None:
    """Return a name of the boot and the namespaces in which numbers and times of processes count here.

    None where it cannot be known, as with a ``/proc`` that shows the processes of another namespace.
    """
    try:
        # The numbers of this process in each namespace from that of /proc down to its own.
        told = re.search(rb"^NSpid:(.*)$", Path("/proc/self/status").read_bytes(), re.MULTILINE)
        numbers = told[1].split() if told else [Path("/proc/self").readlink().name]  # before Linux 4.1
        if [int(number) for number in numbers] != [os.getpid()]:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        spaces = [Path("/proc/self/ns", name) for name in ("pid", "time")]  # time: Linux 5.6 and newer
        return "/".join([boot, *(str(space.stat().st_ino) for space in spaces if space.exists())])
    except OSError:
        return None


def identify() -> dict[str, int | str]:
    """Return what tells this process from all others: ``pid``, ``started`` and ``machine``.

    Only ``pid`` where the kernel does not tell the rest.
    """
    pid = os.getpid()
    where, now = machine(), status(pid)
    return {"pid": pid} | ({"started": now.started, "machine": where} if where and now else {})


def is_this(process: Mapping) -> bool:
    """Return whether `process`, as `identify` described it, is known to be this one."""
    own = identify()
    return "machine" in own and all(process.get(key) == value for key, value in own.items())


def is_here(process: Mapping) -> bool:
    """Return whether `process`, as `identify` described it, is another of this machine that has not ended."""
    where = process.get("machine")
    return where is not None and where == machine() and not is_this(process) and not has_ended(process)


def has_ended(process: Mapping) -> bool:
    """Return whether `process`, as `identify` described it, is known to have ended.

    False where that cannot be known: of another machine or container, of the time before a reboot, or where
    the description is incomplete.
    """
    pid, started = (values.whole(process.get(key)) for key in ("pid", "started"))
    where = process.get("machine")
    if not pid or started is None or where is None or where != machine():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass  # another user's
    now = status(pid)
    if now is None:
        return False  # hidden by the options of /proc, or collected just now
    return now.started != started or (now.state in "ZX" and now.threads <= 1)
