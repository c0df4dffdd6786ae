"""Whose a file or folder is, and whether others may write to it: what is not ours alone is not trusted.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat

_OTHERS = 0o022  # of a mode: that group or others may write


def mask() -> None:
    """Have none but this account write to what this process and its children make.

    What the account's umask lets others read, they may still read.
    """
    os.umask(os.umask(0o077) | _OTHERS)


def strange(status, *, sticky: bool = False) -> str:
    """Return why what has that status is not this account's alone, in words; empty if it is.

    Parameters
    ----------
    sticky : bool
        Whether folders will do in which others may make files, and rename or remove only their own.
    """
    return foreign(status) or shared(status, sticky=sticky)


def foreign(status) -> str:
    """Return whose it is, in words, if not this account's; root may write everywhere, and counts as it."""
    if status.st_uid in (os.geteuid(), 0) or status.st_uid == _unmapped():
        return ""
    return f"belongs to {_account(status.st_uid)}"


def shared(status, *, sticky: bool = False) -> str:
    """Return which others may write to what has that status, in words; `sticky` as for `strange`."""
    mode = stat.S_IMODE(status.st_mode)
    if not mode & _OTHERS or (sticky and mode & stat.S_ISVTX and stat.S_ISDIR(status.st_mode)):
        return ""
    who = "all accounts" if mode & 0o002 else f"group {_group(status.st_gid)}"
    return f"may be written by {who} (mode {mode:04o})"


def open_own(path, flags: int) -> int:
    """Open a file that this account alone writes, or make it, and return its descriptor.

    A pipe in its place is not waited for, and nothing is cut.

    Raises
    ------
    OSError
        If it is a link, no file, has another name elsewhere, belongs to another account or may be written by
        others.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    found = os.fstat(fd)
    odd = "it is no file" if not stat.S_ISREG(found.st_mode) else "it has other names" * (found.st_nlink > 1)
    if odd or (odd := strange(found)):
        os.close(fd)
        raise OSError(errno.EPERM, odd if odd.startswith("it ") else f"it {odd}", path)
    return fd


def not_own(fd: int, folder: int, why=strange) -> str:
    """Return why an open folder is not this account's alone, in words; empty if it is.

    Some file systems give all files another owner or mode than what makes them asks for: then a file is made
    beside it, to compare.

    Parameters
    ----------
    fd : int
    folder : int
        The open folder that it is in.
    why : callable
        What tells that by its status.
    """
    found = os.fstat(fd)
    said = why(found)
    if said:
        name = b".caxflow-%s" % os.urandom(8).hex().encode("ascii")
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            own = os.fstat(made)
        finally:
            os.close(made)
            os.unlink(name, dir_fd=folder)
        if own.st_uid == found.st_uid and not found.st_mode & ~own.st_mode & _OTHERS:
            return ""
    return said


def _unmapped() -> int:
    """Return the number that stands for accounts without one in this container; -1 where all have one."""
    try:
        with open("/proc/self/uid_map") as file:  # noqa: PTH123
            lines = [line.split() for line in file]
        if any(int(count) > 1 << 31 for _, _, count in lines):
            return -1
        with open("/proc/sys/kernel/overflowuid") as file:  # noqa: PTH123
            return int(file.read())
    except (OSError, ValueError):
        return -1


def _account(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"account {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
