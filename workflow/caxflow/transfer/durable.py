"""Bringing what was written to the disk, with its times of modification.

An fsync waits for a commit of the file system's journal, whatever the file's size, and a commit takes in all
that was changed before it. So while data come, files are only begun to be written out; at the end the times
of all are set, which is a change too, and then all are synced, by a few threads that share the commits.

Runs at the far end too: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import queue
import threading

from caxflow.errors import CaxflowError
from caxflow.files.listing import os_error
from caxflow.transfer.folder import Folder

_AT_ONCE = 1 << 20  # bytes of a file up to which beginning to write it out takes less than waking a thread
_THREADS = 4


def sync_files(root: str, times: dict, alive) -> None:
    """Set times of files and bring the files to the disk; quick where they are there already.

    Parameters
    ----------
    root : str
        Directory that the files are below.
    times : dict of str to int
        Time of modification (ns) of each file, by path.
    alive : callable
        Called now and then.

    Raises
    ------
    CaxflowError
        If the disk did not take something.
    """
    paths = sorted(times)
    errors: list = []
    _each(root, lambda folder, path: folder.set_mtime(path, times[path]), paths, alive, errors)
    if not errors:
        threads = [
            threading.Thread(
                target=_each, args=(root, Folder.sync_file, paths[turn::_THREADS], alive, errors)
            )
            for turn in range(min(_THREADS, len(paths)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def _each(root: str, do, paths, alive, errors: list) -> None:
    """Call ``do(folder, path)`` for each path until one fails, here or in another thread."""
    folder = Folder(root)
    try:
        for path in paths:
            if errors:
                return
            try:
                do(folder, path)
            except OSError as error:
                raise os_error(error, root + "/" + path) from None
            alive()
    except Exception as error:
        errors.append(error)
    finally:
        folder.close()


class Syncer:
    """Takes over files that were written, and brings them to the disk without stopping the stream.

    Parameters
    ----------
    root : str
        Directory that the files are below.
    """

    def __init__(self, root: str):
        self._root = root
        self._times = {}
        self._queue = queue.Queue(16)
        self._error = None
        self._thread = None

    def put(self, fd: int, path: str, mtime_ns: int, whole: bool, length: int) -> None:
        """Take over an open file of which a piece of `length` bytes, or the whole, was written."""
        if self._error:
            raise self._error
        self._times[path] = mtime_ns
        if whole and length <= _AT_ONCE:
            _write_out(fd, whole)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._queue.put((fd, path, whole))

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            fd, path, whole = job
            try:
                _write_out(fd, whole)
            except OSError as error:
                self._error = os_error(error, self._root + "/" + path)

    def finish(self, alive) -> None:
        """Sync all files that were taken over; `alive` is called now and then."""
        self._stop()
        if self._error:
            raise self._error
        sync_files(self._root, self._times, alive)

    def _stop(self) -> None:
        if self._thread:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def abandon(self) -> None:
        """Give up: nothing more is written."""
        self._error = self._error or CaxflowError("given up")
        self._stop()


def _write_out(fd: int, whole: bool) -> None:
    try:
        if not whole:
            os.fdatasync(fd)
        elif hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # Linux begins to write out dirty pages
    finally:
        os.close(fd)
