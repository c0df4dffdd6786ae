"""Where a copy grows until it is whole.

Beside the destination ``<parent>/<name>`` stands ``<parent>/.<name>.part-caxflow/`` with ``lock`` and
``data/``. The name is always the same, so that the next attempt finds what the last one left. Whoever
writes holds ``lock`` shared and finds its own token in it; a new attempt takes it exclusively first, thus
waits until the last writer of an earlier attempt is dead. Publishing is one rename.

Runs at the far end too: Python 3.8, standard library only.
"""

# ruff: noqa: PTH118 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from contextlib import suppress

from caxflow import abilities
from caxflow.errors import CaxflowError
from caxflow.files.folder import (
    DIRECTORY,
    PASS,
    Folder,
    enter,
    entries,
    make_folder,
    naming,
    open_folder,
    sync_folder,
)
from caxflow.files.listing import os_error, printable, to_bytes, to_text
from caxflow.files.reading import scan_folder
from caxflow.owners import foreign, not_own
from caxflow.threads import do_all
from caxflow.transfer import renaming
from caxflow.transfer.durable import sync_files, sync_folders
from caxflow.transfer.folder import remove_directory, remove_tree

SUFFIX = b".part-caxflow"
# Method scp, which cannot lock, has a token in each attempt's name.
_LEFTOVER = re.compile(rb"\.(.+)\.part-(?:([0-9a-f]+)-)?caxflow", re.DOTALL)
_LOCK_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_QUIET = 75.0  # seconds without a write after which a writer elsewhere counts as dead, where no lock tells
_COARSE = 2 * 10**9  # ns; some file systems keep times of even seconds


class Part:
    """A growing copy, locked.

    Parameters
    ----------
    destination : str
        The path under which the copy will be published.
    token : str
        Names the attempt; its writers are those who know it.
    roots : sequence of str
        What the copy may be below, see `caxflow.files.folder.split`.
    whose : str, optional
        Whose copies these are: what others have left is not taken over then.
    """

    def __init__(self, destination: str, token: str, roots=(), whose: str | None = None):
        self.destination = to_bytes(destination)
        self.parent, self.name = os.path.split(self.destination)
        if not self.name or self.name in (b".", b".."):
            raise CaxflowError(f"{printable(destination)} cannot be the name of a copy", "give a full path")
        self._hidden = b"." + self.name + SUFFIX
        self.container = os.path.join(self.parent, self._hidden)
        self.data = os.path.join(self.container, b"data")
        self._token = token.encode("ascii")
        self._roots, self._whose = roots, whose
        # Open, so that what is written goes there, whatever others rename meanwhile.
        self._above = self._inside = self._lock = -1
        self._left = set()  # paths of files that an earlier attempt left
        self._began = False
        self._lockless = ""  # what the file system lacks, where it has no locks

    def _flock(self, how: int) -> bool:
        """Lock as far as the file system can; False if another one has the lock."""
        try:
            self._lockless = abilities.attempt(abilities.LOCKS, fcntl.flock, self._lock, how)
        except BlockingIOError:
            return False
        return True

    def _is_written(self, quiet: float) -> bool:
        """Return whether another attempt seems to write, by its process or files, where locks are lacking."""
        if not self._lockless:
            return False
        token, holder, _ = self._holder()
        if not token:
            return False
        process, _, host = holder.partition(" on ")
        if host == os.uname().nodename and process[8:].isdigit():
            return _lives(int(process[8:]))
        return abs(time.time() - _last_written(self._inside)) < max(quiet, _QUIET)

    def _holder(self) -> list:
        """Return the lock's lines: the token of who began last, its process, and whose the copy is.

        The first two are empty once that has ended, the last one where that was not said.
        """
        lines = os.pread(self._lock, 400, 0).decode("ascii", "replace").split("\n")
        return [*map(str.strip, lines), "", "", ""][:3]

    def _check_owner(self) -> None:
        """Raise a CaxflowError if what is there was begun by another, and is not to be taken over."""
        found = self._holder()
        if self._whose not in (None, found[2]) and (any(found) or b"data" in entries(self._inside)):
            self.close()
            raise CaxflowError(
                f"{printable(to_text(self.container))} was left by another account or key",
                "at that site: caxflow strays, whose --remove takes it away",
            )

    def _still_there(self) -> bool:
        names = ((self._above, self._hidden, self._inside), (self._inside, b"lock", self._lock))
        try:
            return all(
                os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=folder, follow_symlinks=False))
                for folder, name, fd in names
            )
        except FileNotFoundError:
            return False

    def _enter(self, *, made: bool) -> None:
        """Open the container, which none but this account may write to; `made` by this attempt, or before."""
        with naming(self.container):
            self._inside = enter(self._hidden, self._above, self.container, self.parent)
            if not made and (why := not_own(self._inside, self._above)):
                raise CaxflowError(
                    f"{printable(to_text(self.container))}, which is to hold an unfinished copy, {why}",
                    f"remove it: rm -r {printable(to_text(self.container))}; the copy then begins anew",
                )

    def begin(self, wait: float, alive=None) -> None:
        """Make the container, or take over the one that an earlier attempt left.

        Parameters
        ----------
        wait : float
            Seconds to wait for writers of an earlier attempt to end.
        alive : callable, optional
            Called now and then while waiting.
        """
        deadline = time.monotonic() + wait
        self._above = open_folder(self.parent, self._roots, PASS)
        while True:
            with naming(self.container):
                made = make_folder(self._hidden, self._above, 0o700)
            try:
                self._enter(made=made)
                self._open_lock(os.O_CREAT)
            except FileNotFoundError:
                self._let_go()
                continue  # the other one just published and removed the container
            free = self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB) and self._still_there()
            if free and not self._is_written(wait):
                break
            holder = self._holder()[1]
            self._let_go()
            if time.monotonic() > deadline:
                raise CaxflowError(
                    f"{printable(to_text(self.destination))} is being written by another transfer ({holder})",
                    "wait for it, or end it there",
                )
            if alive:
                alive()
            time.sleep(0.2)
        self._check_owner()
        os.ftruncate(self._lock, 0)
        who = f"process {os.getpid()} on {os.uname().nodename}\n{self._whose or ''}"
        os.pwrite(self._lock, self._token + b"\n" + who.encode("ascii", "replace") + b"\n", 0)
        self._began = True
        self._share()
        with naming(self.data):
            make_folder(b"data", self._inside, 0o777)

    def join(self) -> None:
        """Write to a container that this attempt has begun."""
        self._above = open_folder(self.parent, self._roots, PASS)
        self._enter(made=False)
        self._open_lock()
        self._check_owner()
        self._share()

    def _open_lock(self, flags: int = 0) -> None:
        with naming(os.path.join(self.container, b"lock")):
            self._lock = os.open(b"lock", _LOCK_FLAGS | flags, 0o600, dir_fd=self._inside)

    def folder(self) -> Folder:
        """Open the growing copy."""
        return Folder(to_text(self.data), fd=enter(b"data", self._inside, self.data, self.container))

    def _share(self) -> None:
        # Between exclusive and shared a flock is not held: the token tells whether somebody slipped in.
        if not self._flock(fcntl.LOCK_SH | fcntl.LOCK_NB) or not self.held():
            self.close()
            raise CaxflowError(
                f"another transfer to {printable(to_text(self.destination))} began", "let that one finish"
            )

    def alone(self) -> bool:
        """Return whether none else takes part in the copy any more; from then on none can."""
        if self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            return True
        self._flock(fcntl.LOCK_SH | fcntl.LOCK_NB)  # which is gone where the other is not had
        return False

    def held(self) -> bool:
        """Whether the container is still this attempt's."""
        token = os.pread(self._lock, len(self._token) + 1, 0)
        return token == self._token + b"\n" and self._still_there()

    def allocated(self, report) -> int:
        """Bytes on the disk that the growing copy takes already."""
        with self.folder() as folder:
            found = [folder.stat(file.path) for file in scan_folder(folder, report).files]
        # Some file systems do not say what files take.
        return sum(each.st_blocks * 512 for each in found) or sum(each.st_size for each in found)

    def keep_only(self, sizes: dict, directories, alive=lambda: None) -> list:
        """Remove what does not belong to the dataset; make its directories.

        Parameters
        ----------
        sizes : dict of str to int
            Size in bytes of each file by path.
        directories : sequence of str
            Sub-directories, parents first.
        alive : callable, optional
            Called for each file.

        Returns
        -------
        list of (str, int)
            Path and present size of files that an earlier attempt left.
        """
        wanted = {to_bytes(name) for name in directories}
        left = []
        for below, names, files, fd in os.fwalk(b"data", topdown=False, dir_fd=self._inside):
            for name in files + names:
                path = os.path.join(below, name)[len(b"data/") :]
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                alive()
                # A file with a second name may be published under that: nothing is written to it any more.
                own = stat.S_ISREG(status.st_mode) and status.st_nlink < 2
                size = sizes.get(to_text(path), -1)
                if status.st_size > size >= 0 and own:
                    own = not abilities.attempt(abilities.SIZES, _cut, name, size, fd)
                if own and size >= 0:
                    left.append((to_text(path), min(size, status.st_size)))
                elif not stat.S_ISDIR(status.st_mode):
                    os.unlink(name, dir_fd=fd)
                elif path not in wanted:
                    os.rmdir(name, dir_fd=fd)
        with self.folder() as folder:
            for directory in directories:
                folder.make(directory)
        self._left = {path for path, _ in left}
        return left

    def publish(self, files, directories, single: bool, alive=lambda: None) -> list:
        """Check names and sizes, set times, bring files and directories to the disk, rename.

        Parameters
        ----------
        files : sequence of (str, int, int)
            Path, size in bytes and time of modification (ns) of every file.
        directories : sequence of str
            Sub-directories, parents first.
        single : bool
            Whether the copy is the one file and not the directory.
        alive : callable, optional
            Called now and then.

        Returns
        -------
        list of str
            What the file system lacks, and what failed after the rename: nothing that the copy needs.
        """
        if not self.held():
            raise CaxflowError(
                f"{printable(to_text(self.destination))} was taken over by another transfer", "start again"
            )
        with self.folder() as folder:
            return self._publish(folder, files, directories, single=single, alive=alive)

    def _publish(self, folder: Folder, files, directories, *, single: bool, alive) -> list:
        there = {file.path: file for file in scan_folder(folder, lambda _: alive()).files}
        wanted = {(path, size) for path, size, _ in files}
        differing = wanted ^ {(file.path, file.size) for file in there.values()}
        if differing:
            names = ", ".join(map(printable, sorted({path for path, _ in differing})[:4]))
            raise CaxflowError(
                f"files in {printable(to_text(self.container))} are others than were written: {names}",
                "let nothing write there; where capitals or accents do not tell names apart, copy elsewhere",
            )
        # Those who wrote files have synced them; what an earlier attempt left may be in the page cache only.
        unsure = {
            path: mtime_ns
            for path, _, mtime_ns in files
            if path in self._left or there[path].mtime_ns != mtime_ns
        }
        lacking = sync_files(folder, unsure, alive)
        lacking += sync_folders(folder, reversed(("", *directories)), alive)
        others = (abs(folder.stat(path).st_mtime_ns - at) > _COARSE for path, at in unsure.items())
        if not lacking and any(others):
            lacking.append("its file system keeps other times of modification than it is given")
        inner = to_bytes(files[0][0]) if single else b""
        self._rename(folder, inner)
        return list(dict.fromkeys([*lacking, *filter(None, [self._lockless]), *self._tidy_up(inner, alive)]))

    def _rename(self, folder: Folder, single: bytes) -> None:
        if b"/" in single:
            raise CaxflowError(
                f"{printable(to_text(single))}, in a folder, is no copy of a single file",
                "the other end does not behave: run the same version of caxflow",
            )
        old, source = (single, folder.fileno()) if single else (b"data", self._inside)
        try:
            with naming(self.destination):
                renaming.publish(old, self.name, source, self._above)
        except FileExistsError:
            raise CaxflowError(
                f"{printable(to_text(self.destination))} appeared while it was being copied",
                "find out who writes there, then start again",
            ) from None

    def _tidy_up(self, single: bytes, alive) -> list:
        """Remove the container of what is published, as far as that goes; what failed."""
        failed = []
        try:
            do_all([lambda _: failed.append(sync_folder(self._above))], alive)
        except OSError as error:
            where = printable(to_text(self.parent))
            failed.append(f"{where} could not be brought to the disk: {os.strerror(error.errno)}")
        # First the lock, then its file is closed: who waits for it must not get it.
        steps = [
            ("lock", lambda: os.unlink(b"lock", dir_fd=self._inside)),
            ("", self._let_go),
            # Not empty where open files are only renamed (FUSE, NFS), while others have the lock open.
            ("", lambda: remove_directory(self._hidden, self._above)),
        ]
        if single:
            steps.insert(0, ("data", lambda: self._remove_data(single)))
        for name, remove in steps:
            path = to_text(os.path.join(self.container, to_bytes(name)).rstrip(b"/"))
            try:
                remove()
            except FileNotFoundError:
                pass
            except OSError as error:
                failed.append(f"{printable(path)} could not be removed: {os.strerror(error.errno)}")
        self.close()
        return list(filter(None, failed))

    def _remove_data(self, name: bytes) -> None:
        """Remove the folder of a single file that is published, under whose old name it may still be."""
        with self.folder() as folder, suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder.fileno())
        os.rmdir(b"data", dir_fd=self._inside)

    def discard_empty(self) -> None:
        """Remove the container if nothing has arrived in it, or nothing but what is published already."""
        try:
            published = os.stat(self.name, dir_fd=self._above, follow_symlinks=False)
        except OSError:
            published = None
        try:
            for _, folders, files, fd in os.fwalk(b"data", topdown=False, dir_fd=self._inside):
                for name in files:
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if published and os.path.samestat(found, published):
                        os.unlink(name, dir_fd=fd)
                for name in folders:
                    os.rmdir(name, dir_fd=fd)
            os.rmdir(b"data", dir_fd=self._inside)
            os.unlink(b"lock", dir_fd=self._inside)
            os.rmdir(self._hidden, dir_fd=self._above)
        except OSError:
            pass  # it holds something worth keeping

    def close(self) -> None:
        """Let go of the lock, and of all that is held open."""
        self._let_go()
        if self._above >= 0:
            os.close(self._above)
            self._above = -1

    def _let_go(self) -> None:
        if self._lock >= 0 and self._began and self._lockless and self.held():
            # What shows others that nothing is written any more.
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"\n\n{self._whose or ''}\n".encode("ascii", "replace"), 0)
        for fd in (self._lock, self._inside):
            if fd >= 0:
                os.close(fd)
        self._lock = self._inside = -1


def _lives(process: int) -> bool:
    """Return whether there is a process of that number; `/proc` may hide it."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another account's
    return True


def _cut(name: bytes, size: int, folder: int) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)


def remove_leftovers(
    parent: str, older_than: float, only=None, alive=lambda: None, *, roots=(), whose: str | None = None
) -> list:
    """Remove what transfers left unfinished below a directory and nobody writes to any more.

    What belongs to another account stays.

    Parameters
    ----------
    parent : str
        The directory that holds the copies.
    older_than : float
        Age in seconds since anything was last written to them.
    only : str, optional
        Name of a copy; by default all are looked at.
    alive : callable, optional
        Called for each file that goes.
    roots : sequence of str
        What the directory may be below, see `caxflow.files.folder.split`.
    whose : str, optional
        Whose they must be; by default all are looked at.

    Returns
    -------
    list of str
        Paths removed.
    """
    removed = []
    try:
        with Folder(parent, roots) as folder:
            for name in sorted(entries(folder.fileno())):
                match = _LEFTOVER.fullmatch(name)
                if match and (only is None or match[1] == to_bytes(only)):
                    removed += _remove_leftover(folder, match, older_than, alive, roots=roots, whose=whose)
    except OSError as error:
        raise os_error(error, parent) from None
    return removed


def _remove_leftover(folder: Folder, match, older_than: float, alive, *, roots, whose) -> list:
    """Remove what an attempt left, if none writes to it; its path, or nothing."""
    name, root = match[0], to_bytes(folder.root)
    if whose is not None and match[2]:
        return []  # whose it is, is not said
    container = os.path.join(root, name)
    try:
        fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=folder.fileno())
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        young = older_than and time.time() - _last_written(fd) < older_than
        if young or not_own(fd, folder.fileno(), foreign):
            return []
    finally:
        os.close(fd)
    part = Part(to_text(os.path.join(root, match[1])), "cleaner", roots, whose)
    try:
        if not match[2]:
            part.begin(wait=0)
        with naming(container):
            remove_tree(name, alive, folder.fileno())
    except CaxflowError:
        return []  # somebody writes to it
    finally:
        part.close()
    return [to_text(container)]


def _last_written(container: int) -> float:
    newest = os.fstat(container).st_mtime
    for _, names, files, fd in os.fwalk(b".", dir_fd=container):
        for name in names + files:
            newest = max(newest, os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime)
    return newest
