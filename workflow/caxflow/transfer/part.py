"""Where a copy grows until it is whole.

Beside the destination ``<parent>/<name>`` stands ``<parent>/.<name>.part-caxflow/`` with ``lock`` and
``data/``. The name is always the same, so that the next attempt finds what the last one left. Whoever
writes holds ``lock`` shared and finds its own token in it; a new attempt takes it exclusively first, thus
waits until the last writer of an earlier attempt is dead. Publishing is one rename.

Runs at the far end too: Python 3.8, standard library only.
"""

# ruff: noqa: PTH102, PTH106, PTH108, PTH110, PTH118, PTH121, PTH208 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import fcntl
import os
import re
import stat
import time

from caxflow import abilities
from caxflow.errors import CaxflowError
from caxflow.files.listing import os_error, printable, scan, to_bytes, to_text
from caxflow.threads import do_all
from caxflow.transfer import renaming
from caxflow.transfer.durable import sync_files, sync_folders
from caxflow.transfer.folder import Folder, remove_directory, remove_tree

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
    whose : str, optional
        Whose copies these are: what others have left is not taken over then.
    """

    def __init__(self, destination: str, token: str, whose: str | None = None):
        self.destination = to_bytes(destination)
        self.parent, self.name = os.path.split(self.destination)
        if not self.name or self.name in (b".", b".."):
            raise CaxflowError(f"{printable(destination)} cannot be the name of a copy", "give a full path")
        self.container = os.path.join(self.parent, b"." + self.name + SUFFIX)
        self.data = os.path.join(self.container, b"data")
        self._lock_path = os.path.join(self.container, b"lock")
        self._token = token.encode("ascii")
        self._whose = whose
        self._lock = -1
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
            return os.path.exists(f"/proc/{process[8:]}")
        return abs(time.time() - _last_written(self.container)) < max(quiet, _QUIET)

    def _holder(self) -> list:
        """Return the lock's lines: the token of who began last, its process, and whose the copy is.

        The first two are empty once that has ended, the last one where that was not said.
        """
        lines = os.pread(self._lock, 400, 0).decode("ascii", "replace").split("\n")
        return [*map(str.strip, lines), "", "", ""][:3]

    def _belongs_to_another(self) -> bool:
        found = self._holder()
        return self._whose not in (None, found[2]) and (any(found) or os.path.lexists(self.data))

    def _still_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._lock), os.lstat(self._lock_path))
        except FileNotFoundError:
            return False

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
        while True:
            self._make(self.container, 0o700)
            try:
                self._lock = os.open(
                    self._lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
                )
            except FileNotFoundError:
                continue  # the other one just published and removed the container
            free = self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB) and self._still_there()
            if free and not self._is_written(wait):
                break
            holder = self._holder()[1]
            self.close()
            if time.monotonic() > deadline:
                raise CaxflowError(
                    f"{printable(to_text(self.destination))} is being written by another transfer ({holder})",
                    "wait for it, or end it there",
                )
            if alive:
                alive()
            time.sleep(0.2)
        if self._belongs_to_another():
            self.close()
            raise CaxflowError(
                f"{printable(to_text(self.container))} was left by another account or key",
                "at that site: caxflow strays, whose --remove takes it away",
            )
        os.ftruncate(self._lock, 0)
        who = f"process {os.getpid()} on {os.uname().nodename}\n{self._whose or ''}"
        os.pwrite(self._lock, self._token + b"\n" + who.encode("ascii", "replace") + b"\n", 0)
        self._began = True
        self._share()
        self._make(self.data, 0o777)

    def join(self) -> None:
        """Write to a container that this attempt has begun."""
        self._lock = os.open(self._lock_path, _LOCK_FLAGS)
        self._share()

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

    @staticmethod
    def _make(path: bytes, mode: int) -> None:
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise

    def allocated(self, report) -> int:
        """Bytes on the disk that the growing copy takes already."""
        files = scan(to_text(self.data), report).files
        found = [os.lstat(os.path.join(self.data, to_bytes(file.path))) for file in files]
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
        for folder, names, files in os.walk(self.data, topdown=False):
            below = os.path.relpath(folder, self.data)
            for name in files + names:
                path = name if below == b"." else os.path.join(below, name)
                status = os.lstat(os.path.join(folder, name))
                alive()
                # A file with a second name may be published under that: nothing is written to it any more.
                own = stat.S_ISREG(status.st_mode) and status.st_nlink < 2
                size = sizes.get(to_text(path), -1)
                if status.st_size > size >= 0 and own:
                    cut = os.path.join(folder, name), size
                    own = not abilities.attempt(abilities.SIZES, os.truncate, *cut)
                if own and size >= 0:
                    left.append((to_text(path), min(size, status.st_size)))
                elif not stat.S_ISDIR(status.st_mode):
                    os.unlink(os.path.join(folder, name))
                elif path not in wanted:
                    os.rmdir(os.path.join(folder, name))
        folder = Folder(to_text(self.data))
        try:
            for directory in directories:
                folder.make(directory)
        finally:
            folder.close()
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
        there = {file.path: file for file in scan(to_text(self.data), lambda _: alive()).files}
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
        folder = Folder(to_text(self.data))
        try:
            lacking = sync_files(folder, unsure, alive)
            lacking += sync_folders(folder, reversed(("", *directories)), alive)
        finally:
            folder.close()
        if not lacking and any(self._has_other_time(path, at) for path, at in unsure.items()):
            lacking.append("its file system keeps other times of modification than it is given")
        inner = to_bytes(files[0][0]) if single else b""
        self._rename(inner)
        return list(dict.fromkeys([*lacking, *filter(None, [self._lockless]), *self._tidy_up(inner, alive)]))

    def _has_other_time(self, path: str, mtime_ns: int) -> bool:
        return abs(os.lstat(os.path.join(self.data, to_bytes(path))).st_mtime_ns - mtime_ns) > _COARSE

    def _rename(self, single: bytes) -> None:
        try:
            renaming.publish(os.path.join(self.data, single) if single else self.data, self.destination)
        except FileExistsError:
            raise CaxflowError(
                f"{printable(to_text(self.destination))} appeared while it was being copied",
                "find out who writes there, then start again",
            ) from None

    def _tidy_up(self, single: bytes, alive) -> list:
        """Remove the container of what is published, as far as that goes; what failed."""
        failed = []
        try:
            do_all([lambda _: failed.append(abilities.sync_folder(self.parent or b"."))], alive)
        except OSError as error:
            where = printable(to_text(self.parent))
            failed.append(f"{where} could not be brought to the disk: {os.strerror(error.errno)}")
        # First the lock, then its file is closed: who waits for it must not get it.
        for remove, path in (
            *(((os.unlink, os.path.join(self.data, single)), (os.rmdir, self.data)) if single else ()),
            (os.unlink, self._lock_path),
            (lambda _: self.close(), self._lock_path),
            # Not empty where open files are only renamed (FUSE, NFS), while others have the lock open.
            (remove_directory, self.container),
        ):
            try:
                remove(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                failed.append(f"{printable(to_text(path))} could not be removed: {os.strerror(error.errno)}")
        return list(filter(None, failed))

    def discard_empty(self) -> None:
        """Remove the container if nothing has arrived in it, or nothing but what is published already."""
        try:
            for folder, _, files in os.walk(self.data, topdown=False):
                for file in files:
                    if os.path.samefile(os.path.join(folder, file), self.destination):
                        os.unlink(os.path.join(folder, file))
                os.rmdir(folder)
            os.unlink(self._lock_path)
            os.rmdir(self.container)
        except OSError:
            pass  # it holds something worth keeping

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock >= 0:
            if self._began and self._lockless and self.held():
                # What shows others that nothing is written any more.
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, f"\n\n{self._whose or ''}\n".encode("ascii", "replace"), 0)
            os.close(self._lock)
            self._lock = -1


def remove_leftovers(
    parent: str, older_than: float, only: str | None = None, alive=lambda: None, whose: str | None = None
) -> list:
    """Remove what transfers left unfinished below a directory and nobody writes to any more.

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
    whose : str, optional
        Whose they must be; by default all are looked at.

    Returns
    -------
    list of str
        Paths removed.
    """
    removed = []
    root = to_bytes(parent)
    try:
        matches = [match for match in map(_LEFTOVER.fullmatch, sorted(os.listdir(root))) if match]
    except OSError as error:
        raise os_error(error, parent) from None
    for match in matches:
        own, container = match[1], os.path.join(root, match[0])
        if (only is not None and own != to_bytes(only)) or not stat.S_ISDIR(os.lstat(container).st_mode):
            continue
        if older_than and time.time() - _last_written(container) < older_than:
            continue
        if whose is not None and match[2]:
            continue  # whose it is, is not said
        part = Part(to_text(os.path.join(root, own)), "cleaner", whose)
        try:
            if not match[2]:
                part.begin(wait=0)
            remove_tree(container, alive)
            removed.append(to_text(container))
        except CaxflowError:
            continue  # somebody writes to it
        except OSError as error:
            raise os_error(error, to_text(container)) from None
        finally:
            part.close()
    return removed


def _last_written(container: bytes) -> float:
    newest = os.lstat(container).st_mtime
    for folder, names, files in os.walk(container):
        for name in names + files:
            newest = max(newest, os.lstat(os.path.join(folder, name)).st_mtime)
    return newest
