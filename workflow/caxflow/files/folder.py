"""Folders that are held open: what is reached through them is below them, and no symbolic link is followed.

Others may write below a root, and exchange a folder for a link at any moment. So every path there is walked
from a descriptor of the root, name by name; the root itself, and what is above it, may be links. Runs at the
far end too: Python 3.8, standard library only.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager

from caxflow import abilities
from caxflow.errors import CaxflowError
from caxflow.files.listing import printable, safe_path, to_bytes, to_text

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# On the way, or to make something there, a folder need not be one that may be read.
PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# A pipe in a file's place must not block.
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_OPEN_AT_ONCE = 64


def split(path, roots=()) -> tuple:
    """Return the folder from which a path is walked, and the names that lead from there to it, as bytes.

    Parameters
    ----------
    path : str or bytes
    roots : sequence of str
        The roots that it may be below; the innermost counts. Of a path that is below none, the folder is the
        one that holds it, and only the last name is no link.

    Raises
    ------
    CaxflowError
        If the path leads upwards from a root.
    """
    path = path if isinstance(path, bytes) else to_bytes(path)
    root = _root_of(path, roots)
    if root is None:
        path = path.rstrip(b"/") or path[:1]
        folder, name = os.path.split(path)
        return folder or b".", [name] if name else []
    names = [name for name in path[len(root) :].split(b"/") if name not in (b"", b".")]
    if b".." in names:
        raise not_below(to_text(path), to_text(root))
    return root, names


def _root_of(path: bytes, roots):
    """Return the innermost root that a path is strictly below, with a slash; None if there is none."""
    above = [each for each in map(_prefix, roots) if path.startswith(each) and path[len(each) :].strip(b"/")]
    return max(above, key=len) if above else None


def _prefix(root: str) -> bytes:
    return to_bytes(root).rstrip(b"/") + b"/"


def names_below(path: str, root: str) -> list:
    """Return the names that lead from `root` to `path`, as bytes.

    Raises
    ------
    CaxflowError
        If `path` does not lie strictly below `root`, or is not written plainly.
    """
    whole, above = to_bytes(path), _prefix(root)
    names = whole[len(above) :].rstrip(b"/").split(b"/")
    if not whole.startswith(above) or any(name in (b"", b".", b"..") for name in names):
        raise not_below(path, root)
    return names


def joined(root: str, names) -> str:
    """Return the path to which names lead from a root."""
    return to_text(b"/".join([to_bytes(root).rstrip(b"/"), *names])) or "/"


@contextmanager
def parent_of(path, roots=(), made=None):
    """Open the folder that holds `path`; yield its descriptor, and the name of `path` in it.

    Parameters
    ----------
    path : str or bytes
    roots : sequence of str
        As for `split`.
    made : list of bytes, optional
        Takes the paths of the folders that were missing and are made; without it they must exist.

    Raises
    ------
    CaxflowError
        If a folder on the way, below the root, is a symbolic link.
    """
    root, names = split(path, roots)
    fd = _walk(root, names[:-1], PASS, made)
    try:
        yield fd, names[-1] if names else b"."
    finally:
        os.close(fd)


def open_folder(path, roots=(), flags: int = DIRECTORY) -> int:
    """Open the folder `path` and return its descriptor; roots as for `split`, errors as of `parent_of`.

    A root itself, and what is below none, may be a symbolic link.
    """
    path = path if isinstance(path, bytes) else to_bytes(path)
    root, names = (path or b".", []) if _root_of(path, roots) is None else split(path, roots)
    return _walk(root, names, flags)


def _walk(root: bytes, names, flags: int, made=None) -> int:
    """Open what is below a root, folder by folder, the last one by `flags`; `made` as for `parent_of`."""
    at = root.rstrip(b"/")
    with naming(at or root):
        fd = os.open(root, PASS if names else flags)
    try:
        for number, name in enumerate(names, 1):
            at += b"/" + name
            if made is not None and not _is_there(name, fd):
                with naming(at):
                    made += [at] if make_folder(name, fd) else []
            fd, last = enter(name, fd, at, root, PASS if number < len(names) else flags), fd
            os.close(last)
    except BaseException:
        os.close(fd)
        raise
    return fd


def enter(name: bytes, folder: int, path, root, flags: int = DIRECTORY) -> int:
    """Open the folder `name` of an open one, and return its descriptor.

    Parameters
    ----------
    path, root : bytes
        Where it is, and what it is to be below, for the message.

    Raises
    ------
    CaxflowError
        If it is a symbolic link.
    """
    with naming(path):
        try:
            return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and is_link(name, folder):
                raise not_below(to_text(path), to_text(root), ": it is a symbolic link") from None
            raise


def is_link(name: bytes, folder: int) -> bool:
    """Return whether a name in an open folder is that of a symbolic link."""
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _is_there(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def make_folder(name: bytes, folder: int, mode: int = 0o777) -> bool:
    """Make a folder in an open one; False if something has the name already."""
    try:
        os.mkdir(name, mode, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def sync_folder(folder: int) -> str:
    """Bring the entries of an open folder to the disk; what is lacking for that, see `caxflow.abilities`."""

    def sync():
        fd = os.open(b".", DIRECTORY, dir_fd=folder)  # the open one may be for passing only
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    return abilities.attempt(abilities.SYNC_FOLDERS, sync)


def not_below(path: str, root: str, why: str = "") -> CaxflowError:
    """Return the error that a path does not lie below a root, and why."""
    above = root.rstrip("/") or "/"
    return CaxflowError(f"{printable(path)} is not below {printable(above)}{why}", "name a path that is")


def entries(folder: int) -> list:
    """Return the names in an open folder, as bytes, unsorted."""
    return [os.fsencode(name) for name in os.listdir(folder)]


@contextmanager
def naming(path):
    """An error about a name in an open directory knows the whole path."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


class Folder:
    """A directory that is held open; what is opened through it is below it, whatever the names say.

    For use by one thread.

    Parameters
    ----------
    root : str
        Its path.
    roots : sequence of str
        What it is below, as for `split`.
    fd : int, optional
        The directory, open already; it is taken over.
    """

    def __init__(self, root: str, roots=(), fd: int | None = None):
        self.root = os.fspath(root)
        self._fd = open_folder(self.root, roots) if fd is None else fd
        self._known = {}

    def again(self) -> Folder:
        """Return another one of the same directory, for another thread."""
        return Folder(self.root, fd=os.dup(self._fd))

    def fileno(self) -> int:
        """The descriptor of the directory itself."""
        return self._fd

    def close(self) -> None:
        """Close what is held open."""
        self._forget()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _forget(self) -> None:
        for fd in self._known.values():
            os.close(fd)
        self._known.clear()

    def directory(self, path: bytes = b"") -> int:
        """Return the descriptor of a sub-directory, which holds until the next one is asked for."""
        if not path:
            return self._fd
        if path not in self._known:
            if len(self._known) >= _OPEN_AT_ONCE:
                self._forget()
            above, _, name = path.rpartition(b"/")
            folder = self.directory(above)
            self._known[path] = enter(name, folder, to_bytes(self.root) + b"/" + path, to_bytes(self.root))
        return self._known[path]

    def open(self, path: str, flags: int) -> int:
        """Open the file `path` (checked by `caxflow.files.listing.safe_path`) and return its descriptor."""
        above, _, name = to_bytes(safe_path(path)).rpartition(b"/")
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe put in a file's place must not block
        try:
            return os.open(name, flags, 0o666, dir_fd=self.directory(above))
        except OSError as error:
            error.filename = f"{self.root}/{path}"  # as `naming` does, which takes time
            raise

    def make(self, directory: str) -> None:
        """Make a sub-directory whose parent exists; it may exist already."""
        above, _, name = to_bytes(safe_path(directory)).rpartition(b"/")
        with naming(f"{self.root}/{directory}"):
            if not make_folder(name, self.directory(above)):
                self.directory(to_bytes(directory))

    def stat(self, path: str) -> os.stat_result:
        """Return the status of what is at `path`, not following a link."""
        above, _, name = to_bytes(safe_path(path)).rpartition(b"/")
        with naming(f"{self.root}/{path}"):
            return os.stat(name, dir_fd=self.directory(above), follow_symlinks=False)

    def set_mtime(self, path: str, mtime_ns: int) -> str:
        """Set a file's time of modification; what is lacking for that, see `caxflow.abilities`."""
        above, _, name = to_bytes(safe_path(path)).rpartition(b"/")
        with naming(f"{self.root}/{path}"):
            folder, times = self.directory(above), (mtime_ns, mtime_ns)
            return abilities.attempt(
                abilities.TIMES, os.utime, name, ns=times, dir_fd=folder, follow_symlinks=False
            )

    def sync_file(self, path: str) -> str:
        """Bring a file's content to the disk, quick where it is there already; what is lacking for that."""
        fd = self.open(path, os.O_RDONLY)
        try:
            return abilities.sync_file(fd)
        finally:
            os.close(fd)

    def sync_directory(self, directory: str = "") -> str:
        """Bring a directory's entries to the disk; what is lacking for that."""
        with naming(f"{self.root}/{directory}".rstrip("/")):
            folder = self.directory(to_bytes(directory))
            return abilities.attempt(abilities.SYNC_FOLDERS, os.fsync, folder)
