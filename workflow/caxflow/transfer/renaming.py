"""Renaming that never replaces: by renameat2(2) where a file system knows it, else by a link.

Runs at the far end too: Python 3.8, standard library only.
"""

# ruff: noqa: PTH118, UP033 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys

from caxflow.abilities import LINKS, RENAMING, attempt

_HERE = -100  # AT_FDCWD, fcntl.h
_NOREPLACE = 1  # RENAME_NOREPLACE, linux/fs.h


def rename(old: bytes, new: bytes, old_folder: int | None = None, new_folder: int | None = None) -> None:
    """Rename a file or folder; names are relative to open folders, if these are given.

    A file that has both names, since an earlier call was killed after its link, keeps the new one. Where a
    file system knows neither that way to rename nor links, what appears right before the last step is
    replaced: a file by a file, an empty folder by a folder.

    Raises
    ------
    FileExistsError
        If something else has the new name.
    """
    here, there = (_HERE if each is None else each for each in (old_folder, new_folder))
    sys.audit("os.rename", old, new, here, there)  # as by Python's own
    code = _rename_exclusively(here, old, there, new)
    if code in RENAMING.numbers:
        code = _rename_otherwise(old, new, old_folder, new_folder)
    if code == errno.EEXIST and _is_one_file(old, new, old_folder, new_folder):
        code = _drop(old, new, old_folder, new_folder)
    if code:
        raise OSError(code, os.strerror(code), new if code == errno.EEXIST else old)


def publish(old: bytes, new: bytes, old_folder: int | None = None, new_folder: int | None = None) -> None:
    """Rename where the new name is all that matters: an old one that cannot be taken away is no failure."""
    try:
        rename(old, new, old_folder, new_folder)
    except FileExistsError:
        raise
    except OSError:
        if not _is_one_file(old, new, old_folder, new_folder):
            raise


def _rename_exclusively(here: int, old: bytes, there: int, new: bytes) -> int:
    """Rename by renameat2(2); the error's number, or 0."""
    call = _renameat2()
    if call is None:
        return errno.ENOSYS
    import ctypes

    return ctypes.get_errno() if call(here, old, there, new, _NOREPLACE) else 0


@functools.lru_cache(maxsize=None)
def _renameat2():
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call


def _rename_otherwise(old: bytes, new: bytes, old_folder, new_folder) -> int:
    """Rename without that call; the error's number, or 0. Folders replace nothing but empty ones anyway."""
    try:
        if stat.S_ISREG(os.lstat(old, dir_fd=old_folder).st_mode):
            folders = {"src_dir_fd": old_folder, "dst_dir_fd": new_folder}
            if not attempt(LINKS, os.link, old, new, **folders, follow_symlinks=False):
                return _drop(old, new, old_folder, new_folder)
        if _lookup(new, new_folder):
            return errno.EEXIST
        os.rename(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)
    except OSError as error:
        # Something came into the folder that was empty.
        return errno.EEXIST if error.errno == errno.ENOTEMPTY else error.errno
    return 0


def _drop(old: bytes, new: bytes, old_folder, new_folder) -> int:
    """Take the old name from a file that has both; the error's number, or 0.

    Another process may take away the new one at the same time, as where one that was stopped for long meets
    one that undoes what it did. So the old name is first hidden, and goes only if the file still has the new
    one: of two that do so, one sees what the other hid.
    """
    folder, name = os.path.split(old)
    hidden = os.path.join(folder, b".%s.part-%s" % (name.lstrip(b"."), os.urandom(8).hex().encode("ascii")))
    try:
        os.rename(old, hidden, src_dir_fd=old_folder, dst_dir_fd=old_folder)
    except FileNotFoundError:
        return 0 if _lookup(new, new_folder) else errno.ENOENT
    if _is_one_file(hidden, new, old_folder, new_folder):
        with contextlib.suppress(OSError):  # it is renamed
            os.unlink(hidden, dir_fd=old_folder)
        return 0
    os.link(hidden, old, src_dir_fd=old_folder, dst_dir_fd=old_folder)
    os.unlink(hidden, dir_fd=old_folder)
    return errno.EBUSY


def _is_one_file(old: bytes, new: bytes, old_folder, new_folder) -> bool:
    found, other = _lookup(old, old_folder), _lookup(new, new_folder)
    both = found is not None and other is not None
    return both and os.path.samestat(found, other) and stat.S_ISREG(found.st_mode)


def _lookup(name: bytes, folder):
    try:
        return os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return None
