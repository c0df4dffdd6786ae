"""Bringing what was written to the disk, with its times of modification.

An fsync waits for a commit of the file system's journal, whatever the file's size, and a commit takes in all
that was changed before it. So while data come, files are only begun to be written out; at the end the times
of those that came in pieces are set, which is a change too, and then all are synced: many at once with their
file system, where that can be trusted, else by a few threads that share the commits.

Runs at the far end too: Python 3.8, standard library only.
"""

# ruff: noqa: PTH123, UP031, UP033 (this also runs under Python 3.8)

from __future__ import annotations

import functools
import os
import queue

from caxflow.abilities import TIMES, attempt
from caxflow.errors import CaxflowError
from caxflow.files.listing import os_error
from caxflow.threads import do_all, start

_AT_ONCE = 1 << 20  # bytes of a file up to which beginning to write it out takes less than waking a thread
_THREADS = 4
_MANY = 100  # files from which on the whole file system is synced, if it may be
_MOST_WAITING = 256 << 20  # bytes; about a second of a disk
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h


def sync_files(folder, times: dict, alive) -> None:
    """Set times of files and bring the files to the disk; quick where they are there already.

    Parameters
    ----------
    folder : Folder
        What the files are below, opened before they were written.
    times : dict of str to int or None
        Time of modification (ns) of each file, by path; None where it has it already.
    alive : callable
        Called now and then.

    Returns
    -------
    list of str
        What the file system lacks for that.

    Raises
    ------
    CaxflowError
        If the disk did not take something.
    """
    paths, lacking, whole = sorted(times), set(), []
    timeless = [path for path in paths if times[path] is not None]
    _each(folder, lambda path: folder.set_mtime(path, times[path]), timeless, alive, lacking)
    if len(paths) >= _MANY:
        do_all([lambda _: whole.append(sync_file_system(folder.fileno()))], alive)
    if not any(whole):
        shares = [paths[turn::_THREADS] for turn in range(min(_THREADS, len(paths)))]
        do_all([functools.partial(_sync, folder, share, lacking) for share in shares], alive)
    return sorted(lacking)


def sync_folders(folder, paths, alive) -> list:
    """Bring the entries of sub-directories to the disk; what the file system lacks for that."""
    lacking = set()
    do_all([lambda goes_on: _each(folder, folder.sync_directory, paths, goes_on, lacking)], alive)
    return sorted(lacking)


def _sync(folder, paths, lacking: set, goes_on) -> None:
    with folder.again() as own:
        _each(own, own.sync_file, paths, goes_on, lacking)


def _each(folder, do, paths, goes_on, lacking: set) -> None:
    """Call ``do(path)`` for each path, and keep what it says that the file system lacks."""
    for path in paths:
        try:
            lacking.add(do(path))
        except OSError as error:
            raise os_error(error, folder.root + "/" + path) from None
        goes_on()
    lacking.discard("")


def begin_to_write_out(fd: int, offset: int, length: int) -> None:
    """Have the kernel begin to write a range of a file to the disk, where it can be asked to.

    Not by POSIX_FADV_DONTNEED, which does so too: it then tries to drop the pages and, as these are under
    way, waits until every core has looked for them; where cores are busy, longer than to make the file took.
    """
    call = _sync_file_range()
    if call:
        call(fd, offset, length, _SYNC_FILE_RANGE_WRITE)  # a hint: whether it was taken, an fsync will tell


@functools.lru_cache(maxsize=None)
def _sync_file_range():
    try:
        import ctypes

        call = ctypes.CDLL(None).sync_file_range
    except (ImportError, OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


def sync_file_system(fd: int) -> bool:
    """Sync all of the file system that a directory is on, if that proves as much as an fsync of each file.

    It does on ext4 and XFS under Linux 5.8 or newer, where syncfs(2) reports every failed write since the
    directory was opened. It is not tried while so much of others waits to be written that they would be
    waited for.

    Returns
    -------
    bool
        Whether all is on the disk; otherwise each file must be synced.
    """
    try:
        import ctypes

        version = tuple(int(part) for part in os.uname().release.split(".")[:2])
        if version < (5, 8) or _kind(fd) not in ("ext4", "xfs") or _waiting() > _MOST_WAITING:
            return False
        return ctypes.CDLL(None).syncfs(fd) == 0
    except (ImportError, OSError, ValueError, AttributeError):
        return False


def _kind(fd: int) -> str:
    """Type of the file system of an open file, or "" (proc_pid_mountinfo(5))."""
    device = os.fstat(fd).st_dev
    number = "%d:%d" % (os.major(device), os.minor(device))
    with open("/proc/self/mountinfo", errors="replace") as mounts:
        for mount in mounts:
            fields = mount.split()
            if fields[2] == number:
                return fields[fields.index("-") + 1]
    return ""


def _waiting() -> int:
    """Bytes in this machine's memory that wait to be written to disks (proc_meminfo(5))."""
    with open("/proc/meminfo") as lines:
        found = dict(line.split(":") for line in lines)
    return sum(int(found[name].split()[0]) * 1024 for name in ("Dirty", "Writeback"))


class Syncer:
    """Takes over files that were written, and brings them to the disk without stopping the stream.

    Parameters
    ----------
    folder : Folder
        What the files are below.
    """

    def __init__(self, folder):
        self._folder = folder
        self._times = {}
        self._queue = queue.Queue(16)
        self._error = None
        self._thread = None
        self._lacking = set()

    def put(self, fd: int, path: str, mtime_ns: int, offset: int, length: int, *, whole: bool) -> None:
        """Take over an open file of which a piece, or the whole, was written."""
        if self._error:
            raise self._error
        if whole:
            self._times[path] = None
        else:
            self._times[path] = mtime_ns  # once the last piece is written
        job = fd, path, mtime_ns if whole else None, offset, length
        if (whole and length <= _AT_ONCE) or not self._has_thread():
            self._end(*job)
        else:
            self._queue.put(job)

    def _has_thread(self) -> bool:
        if self._thread is None:
            self._thread = start(self._run)
        return self._thread is not None

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            try:
                self._end(*job)
            except BaseException as error:  # the next file that comes tells
                self._error = error

    def _end(self, fd: int, path: str, mtime_ns, offset: int, length: int) -> None:
        """Set the time, begin to write out, close."""
        try:
            try:
                if mtime_ns is not None:
                    self._lacking.add(attempt(TIMES, os.utime, fd, ns=(mtime_ns, mtime_ns)))
                begin_to_write_out(fd, offset, length)
            finally:
                os.close(fd)
        except OSError as error:
            raise os_error(error, self._folder.root + "/" + path) from None

    def finish(self, alive) -> list:
        """Sync all files that were taken over, as `sync_files` does; what the file system lacks."""
        self._stop()
        if self._error:
            raise self._error
        return sorted({*sync_files(self._folder, self._times, alive), *self._lacking} - {""})

    def _stop(self) -> None:
        if self._thread:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def abandon(self) -> None:
        """Give up: nothing more is written."""
        self._error = self._error or CaxflowError("given up")
        self._stop()
