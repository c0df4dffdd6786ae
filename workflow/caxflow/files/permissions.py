"""Whose files are, and who may read them: owner, group, mode and access control list of a copy.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
Access control lists are written as the extended attribute that Linux keeps them in (its
``posix_acl_xattr.h``: a version word, then tag, permissions and id of each entry, little-endian).
"""

# ruff: noqa: PTH118 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import struct
from collections import namedtuple

from caxflow.errors import CaxflowError
from caxflow.files.folder import READ, entries, naming, parent_of
from caxflow.files.listing import DEEPEST, os_error, printable, to_bytes, to_text

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"

_VERSION = struct.pack("<I", 2)
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NOBODY = 0xFFFFFFFF

Wanted = namedtuple("Wanted", "owner group directories files acl")
Wanted.__doc__ = """What a site wants; None leaves a thing as it is.

`directories` and `files` are modes; `acl` is a sequence of ``(who, name, permissions)`` such as
``("group", "xenon-ops", "r-X")``.
"""


def read(keys, where: str) -> Wanted:
    """Read the keys of a site file; modes are octal digits.

    Raises
    ------
    CaxflowError
        If the owner of the files could not read them any more.
    """
    modes = {name: int(keys[name], 8) if name in keys else None for name in ("directories", "files")}
    for name, least in (("directories", 0o700), ("files", 0o400)):
        mode = modes[name]
        if mode is not None and mode & least != least:
            raise CaxflowError(
                f"{where}.{name}: {keys[name]!r} shuts out the owner", f"let it have at least {least:04o}"
            )
    acl = tuple(tuple(entry.split(":")) for entry in keys.get("acl", ()))
    return Wanted(keys.get("owner"), keys.get("group"), modes["directories"], modes["files"], acl)


def deviations(path: str, wanted: Wanted, apply: bool = False, report=None, roots=()) -> list:
    """What of a copy is not as wanted.

    Parameters
    ----------
    path : str
        A directory, with all below it, or a file; symbolic links are passed over.
    wanted : Wanted
    apply : bool
        Whether to make it so.
    report : callable, optional
        Called with 0 for each file, as it may take long.
    roots : sequence of str
        What the copy may be below, see `caxflow.files.folder.split`.

    Returns
    -------
    list of str
        For each file or directory that is (or was) different: its path and how.

    Raises
    ------
    CaxflowError
        If an account or group does not exist there, or the account that runs this may not change it.
    """
    wanted = Wanted(*wanted)
    user = _id(pwd.getpwnam, "pw_uid", "account", wanted.owner)
    group = _id(grp.getgrnam, "gr_gid", "group", wanted.group)
    named = [_named(*entry) for entry in wanted.acl]
    found = []

    def look(fd: int, path: bytes) -> None:
        wrong = _one(fd, path, (user, group), wanted, named, apply=apply)
        if report:
            report(0)
        if wrong:
            found.append(f"{printable(to_text(path))}: {', '.join(wrong)}")

    path = to_bytes(path)
    try:
        with parent_of(path, roots) as (folder, name):
            _visit(folder, name, path, look)
    except OSError as error:
        raise _explained(error, path) from None
    return found


def passed_on(path) -> str:
    """Return, in words, that others may write to what is made in a folder; empty if its list does not say so.

    Where a folder has a default list, the kernel passes the umask over.
    """
    try:
        value = os.getxattr(path, DEFAULT)
    except OSError:  # it has none, or its file system keeps none
        return ""
    most = _mask(value)
    own = _USER_OBJ, _MASK
    shared = (bits & (7 if tag == _OTHER else most) for tag, bits, _ in _listed(value) if tag not in own)
    if any(bits & 2 for bits in shared):
        return "has a default access list by which others may write to what is made in it"
    return ""


def _visit(folder: int, name: bytes, path: bytes, look, depth: int = 0) -> None:
    """Open what has a name in an open folder, and all below it; a link is passed over.

    What is looked at is what is changed, wherever its path leads meanwhile. A directory comes after what it
    holds, for it may shut us out.
    """
    if depth > DEEPEST:
        raise CaxflowError(
            f"{printable(to_text(path))} goes more than {DEEPEST} folders deep", "find out what made it"
        )
    try:
        with naming(path):
            fd = os.open(name, READ, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return
        raise
    try:
        with naming(path):
            names = sorted(entries(fd)) if stat.S_ISDIR(os.fstat(fd).st_mode) else ()
        for inner in names:
            _visit(fd, inner, os.path.join(path, inner), look, depth + 1)
        with naming(path):
            look(fd, path)
    finally:
        os.close(fd)


def _one(fd: int, path: bytes, owner, wanted: Wanted, named: list, *, apply: bool) -> list:
    user, group = owner
    status = os.fstat(fd)
    directory = stat.S_ISDIR(status.st_mode)
    wrong, changes = [], []
    if (user is not None and user != status.st_uid) or (group is not None and group != status.st_gid):
        wrong.append("owner or group")
        changes.append((os.fchown, fd, -1 if user is None else user, -1 if group is None else group))
    mode = wanted.directories if directory else wanted.files
    if mode is None:
        # With the owner of a file the kernel takes its set-id bits away.
        mode = stat.S_IMODE(status.st_mode) & ~(0o6000 if changes and not directory else 0)
    lists = _lists(mode, named, directory)
    # With a list, the bits of the group are its mask.
    shown = mode if not named else mode & ~0o070 | _mask(lists[ACCESS]) << 3
    if stat.S_IMODE(status.st_mode) != shown:
        wrong.append(f"mode {stat.S_IMODE(status.st_mode):04o} instead of {shown:04o}")
    if stat.S_IMODE(status.st_mode) != shown or (changes and mode & 0o6000):
        changes.append((os.fchmod, fd, mode))
    for name, value in lists.items():
        if _attribute(fd, name) != value:
            wrong.append("access control list")
            changes.append((os.setxattr, fd, name, value))
    if apply and changes:
        if not directory and status.st_nlink > 1:
            names = f"{printable(to_text(path))} has {status.st_nlink} names"
            raise CaxflowError(
                f"{names}: what changes here changes under all, wherever they are",
                "put a copy of it in its place, then start again",
            )
        for change, *arguments in changes:
            change(*arguments)
    return wrong


def _lists(mode: int, named: list, directory: bool) -> dict:
    """The attributes that `named` entries make beside a mode; directories pass theirs on."""
    if not named:
        return {}
    own = [(tag, _bits(letters, directory), number) for tag, number, letters in named]
    mask = mode >> 3 & 7
    for _, bits, _ in own:
        mask |= bits
    entries = [
        (_USER_OBJ, mode >> 6 & 7, _NOBODY),
        (_GROUP_OBJ, mode >> 3 & 7, _NOBODY),
        (_OTHER, mode & 7, _NOBODY),
        (_MASK, mask, _NOBODY),
        *own,
    ]
    value = _VERSION + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries, key=_order))
    return {ACCESS: value, DEFAULT: value} if directory else {ACCESS: value}


def _order(entry):
    return entry[0], entry[2]


def _mask(value: bytes) -> int:
    """Return what a list lets all but the owner and others have at most."""
    return next((bits for tag, bits, _ in _listed(value) if tag == _MASK), 7)


def _listed(value: bytes):
    return struct.iter_unpack("<HHI", value[4:])


def _bits(letters: str, directory: bool) -> int:
    execute = letters[2] == "x" or (letters[2] == "X" and directory)
    return 4 * (letters[0] == "r") + 2 * (letters[1] == "w") + execute


def _named(who: str, name: str, letters: str) -> tuple:
    if who == "user":
        return _USER, _id(pwd.getpwnam, "pw_uid", "account", name), letters
    return _GROUP, _id(grp.getgrnam, "gr_gid", "group", name), letters


def _id(look_up, field: str, what: str, name):
    if name is None:
        return None
    try:
        return getattr(look_up(name), field)
    except KeyError:
        raise CaxflowError(
            f"there is no {what} {name!r} on {os.uname().nodename}", "mend permissions in the site's file"
        ) from None


def _attribute(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise


def _explained(error: OSError, path: bytes) -> CaxflowError:
    at = error.filename if isinstance(error.filename, bytes) else path
    where = printable(to_text(at))
    if error.errno == errno.EPERM:
        return CaxflowError(
            f"{where}: this account may not change its owner, group or mode",
            "run as the owner, as a member of the group, or leave it out of permissions in the site's file",
        )
    if error.errno == errno.EOPNOTSUPP:
        return CaxflowError(
            f"{where}: its file system keeps no access control lists", "leave acl out of the site's file"
        )
    return os_error(error, to_text(path))
