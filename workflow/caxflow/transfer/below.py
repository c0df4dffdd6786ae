"""Renaming and removing what lies strictly below a root, walked from a descriptor of the root.

The root itself may be a symbolic link; below it none is followed, neither on the way nor at the end. Runs at
the far end too: Python 3.8, standard library only.
"""

# ruff: noqa: PTH118, PTH120 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress

from caxflow.errors import CaxflowError
from caxflow.files.folder import joined, names_below, naming, parent_of
from caxflow.files.listing import printable, to_bytes, to_text
from caxflow.transfer import renaming
from caxflow.transfer.folder import remove_tree


def rename(old: str, new: str, root: str, new_root: str) -> bool:
    """Rename `old`, below `root`, to `new`, below `new_root`, where nothing may be; make its folders.

    Returns
    -------
    bool
        False if the two are on different file systems, and nothing was done.
    """
    made: list = []
    try:
        with _folder_of(old, root) as here, _folder_of(new, new_root, made) as there, naming(to_bytes(old)):
            (source, name), (folder, new_name) = here, there
            renaming.rename(name, new_name, source, folder)
    except (OSError, CaxflowError) as error:
        for folder_made in reversed(made):
            prune(to_text(folder_made), new_root)
        if getattr(error, "errno", None) == errno.EXDEV:
            return False
        if isinstance(error, FileExistsError):
            raise CaxflowError(f"{printable(new)} exists", "choose another name") from None
        raise
    return True


def prune(path: str, root: str) -> None:
    """Remove the folder `path`, and those above it strictly below `root`, as far as they are empty."""
    names = names_below(path, root)
    for depth in range(len(names), 0, -1):
        at = joined(root, names[:depth])
        try:
            with _folder_of(at, root) as (folder, name):
                os.rmdir(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except (OSError, CaxflowError):
            return  # something is in it, or it is no folder of that root


def remove(path: str, root: str, alive, pace=None) -> None:
    """Remove a file, link or directory below `root`; it may be gone already.

    `alive` and `pace` as for `caxflow.transfer.folder.remove_tree`.
    """
    try:
        with _folder_of(path, root) as (folder, name):
            remove_tree(name, alive, folder, pace)
    except FileNotFoundError:
        return
    except OSError as error:
        if isinstance(error.filename, bytes):
            error.filename = os.path.join(os.path.dirname(to_bytes(path)), error.filename)
        raise


def touch(path: str, root: str) -> None:
    """Make an empty file below `root` that is not there yet."""
    with _folder_of(path, root) as (folder, name), naming(to_bytes(path)):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(name, flags, 0o644, dir_fd=folder))


def link(path: str, target: str, root: str) -> bool:
    """Make a symbolic link with the text `target`; False if something else is there."""
    with _folder_of(path, root) as (folder, name), naming(to_bytes(path)):
        try:
            os.symlink(to_bytes(target), name, dir_fd=folder)
        except FileExistsError:
            return _text_of(name, folder) == to_bytes(target)
    return True


def unlink(path: str, target: str, root: str) -> None:
    """Remove the symbolic link with the text `target`, and nothing else."""
    with suppress(FileNotFoundError), _folder_of(path, root) as (folder, name), naming(to_bytes(path)):
        if _text_of(name, folder) == to_bytes(target):
            os.unlink(name, dir_fd=folder)


def _text_of(name: bytes, folder: int) -> bytes | None:
    """Return the text of a symbolic link; None if there is none."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


@contextmanager
def _folder_of(path: str, root: str, made=None):
    """Open the folder that holds `path`, strictly below `root`, as `caxflow.files.folder.parent_of` does."""
    names_below(path, root)
    with parent_of(path, (root,), made) as found:
        yield found
