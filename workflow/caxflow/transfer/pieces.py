"""Sending and receiving pieces of files: the loops through which every byte goes.

A piece is a range of a file with a digest of its own, which the receiver computes too and compares.
Runs at the far end too: Python 3.8, standard library only.
"""

# ruff: noqa: B905 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import os
import queue
import threading

from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.listing import os_error, printable, safe_path, to_bytes, to_text, unchanged
from caxflow.transfer.folder import Folder
from caxflow.transfer.protocol import BUFFER, DATA, FILE, HEADER, NAME, SEAL, SMALL

LONGEST_DIGEST = 64


class Sender:
    """Reads pieces and writes them to a stream, many small ones or a part of a large one per write.

    Parameters
    ----------
    folder : Folder
        Where the files are.
    stream : Stream
        Where they go.
    algorithms : sequence of str
        Digests to compute; the first travels with each piece.
    before_write : callable, optional
        Called with the number of bytes that are about to be written, to hold them back.
    """

    def __init__(self, folder, stream, algorithms, before_write=None):
        self._folder, self._stream, self._algorithms = folder, stream, tuple(algorithms)
        self._before_write = before_write
        self._buffer = memoryview(bytearray(BUFFER))
        self._used = 0
        self._file, self._fd = None, -1

    def flush(self) -> None:
        """Write what is in the buffer."""
        if self._used:
            if self._before_write:
                self._before_write(self._used)
            self._stream.write(self._buffer[: self._used])
            self._used = 0

    def _put(self, frame: bytes) -> None:
        if self._used + len(frame) > BUFFER:
            self.flush()
        self._buffer[self._used : self._used + len(frame)] = frame
        self._used += len(frame)

    def announce(self, index: int, path: str, size: int) -> None:
        """Tell the receiver the name and size of a file."""
        name = to_bytes(path)
        self._put(HEADER.pack(NAME, index, size, len(name)) + name)

    def piece(self, index: int, file, offset: int, length: int) -> dict:
        """Send ``file[offset:offset + length]``.

        Parameters
        ----------
        index : int
            By which the receiver knows the file.
        file : FileStat
            The file as it was listed.

        Returns
        -------
        dict of str to str
            The piece's digests by algorithm: all of them if it is the whole file, else only the first.

        Raises
        ------
        CaxflowError
            If the file cannot be read, or is not what was listed.
        """
        try:
            return self._piece(index, file, offset, length)
        except OSError as error:
            raise os_error(error, self._folder.root + "/" + file.path) from None

    def small(self, index: int, file, name: str = "") -> dict:
        """Send a whole file of at most `SMALL` bytes, with its `name` unless the receiver knows that.

        Returns and raises as `piece` does.
        """
        head = to_bytes(name)
        hashers = [digests.hasher(each) for each in self._algorithms]
        begin = HEADER.size + len(head)
        if self._used + begin + file.size + LONGEST_DIGEST > BUFFER:
            self.flush()
        begin += self._used
        end = begin + file.size
        room = self._buffer[begin:end]
        try:
            fd = self._folder.open(file.path, os.O_RDONLY)
            try:
                done = 0
                while done < file.size and (count := os.preadv(fd, [room[done:]], done)):
                    done += count
                unchanged(file, os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise os_error(error, self._folder.root + "/" + file.path) from None
        for each in hashers:
            each.update(room)
        HEADER.pack_into(self._buffer, self._used, FILE, index, len(head), file.size)
        self._buffer[begin - len(head) : begin] = head
        self._used = end
        self._put(hashers[0].digest())
        return {name: each.hexdigest() for name, each in zip(self._algorithms, hashers)}

    def _piece(self, index: int, file, offset: int, length: int) -> dict:
        if file != self._file:
            self.close()
            self._fd = self._folder.open(file.path, os.O_RDONLY)
            self._file = file
        algorithms = self._algorithms if length == file.size else self._algorithms[:1]
        hashers = [digests.hasher(name) for name in algorithms]
        done = 0
        while done < length:
            if BUFFER - self._used <= 2 * HEADER.size:
                self.flush()
            begin = self._used + HEADER.size
            room = self._buffer[begin : min(BUFFER, begin + length - done)]
            count = os.preadv(self._fd, [room], offset + done)
            if not count:
                break
            for each in hashers:
                each.update(room[:count])
            HEADER.pack_into(self._buffer, self._used, DATA, index, offset + done, count)
            self._used = begin + count
            done += count
        unchanged(file, os.fstat(self._fd))
        self._put(HEADER.pack(SEAL, index, offset, length) + hashers[0].digest())
        return {name: each.hexdigest() for name, each in zip(algorithms, hashers)}

    def close(self) -> None:
        """Close the file that is held open."""
        if self._fd >= 0:
            os.close(self._fd)
        self._file, self._fd = None, -1


class Receiver:
    """Writes pieces below a folder and compares their digests.

    Parameters
    ----------
    folder : Folder
        Where the files are written.
    stream : Stream
        Where they come from.
    algorithms : sequence of str
        Digests to compute; the first is the one that comes with each piece.
    sealed : callable
        Called with ``(index, offset, length, digests)`` for each piece that was written and agreed.
    """

    def __init__(self, folder, stream, algorithms, sealed):
        self._folder, self._stream, self._algorithms = folder, stream, tuple(algorithms)
        self._digest_size = len(digests.hasher(self._algorithms[0]).digest())
        self._sealed = sealed
        self._files = {}
        self._index, self._start, self._position = None, 0, 0
        self._hashers, self._fd = [], -1
        self._syncer = _Syncer(folder.root)

    def announce(self, index: int, path: str, size: int) -> None:
        """Accept data of a file from now on."""
        self._files[index] = (safe_path(path), size)

    def file(self, index: int, name_size: int, size: int) -> None:
        """Consume the body of a FILE frame."""
        if name_size:
            self.announce(index, to_text(self._stream.name(name_size)), size)
        if self._index is not None or self._files.get(index, ("", -1))[1] != size or size > SMALL:
            raise CaxflowError("a file came that was not announced", _STRANGE)
        body = self._stream.view(size + self._digest_size)
        data, path = body[:size], self._files[index][0]
        hashers = [digests.hasher(name) for name in self._algorithms]
        for each in hashers:
            each.update(data)
        if hashers[0].digest() != body[size:]:
            raise altered(path)
        try:
            fd = self._folder.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                written = 0
                while written < size:
                    written += os.pwrite(fd, data[written:], written)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise os_error(error, self._folder.root + "/" + path) from None
        self._syncer.put(fd, path, True, size)
        found = {name: each.hexdigest() for name, each in zip(self._algorithms, hashers)}
        self._sealed(index, 0, size, found)

    def _begin(self, index: int, offset: int) -> None:
        if index not in self._files:
            raise CaxflowError(f"data came for file number {index}, which was not announced", _STRANGE)
        path, size = self._files[index]
        self._fd = self._folder.open(path, os.O_WRONLY | os.O_CREAT)
        self._index, self._start, self._position = index, offset, offset
        self._hashers = [digests.hasher(name) for name in self._algorithms]
        if os.fstat(self._fd).st_size != size:
            os.ftruncate(self._fd, size)

    def data(self, index: int, offset: int, length: int) -> None:
        """Consume the body of a DATA frame."""
        try:
            if self._index is None:
                self._begin(index, offset)
            path, size = self._files[self._index]
            if index != self._index or offset != self._position or offset + length > size:
                raise CaxflowError(f"data of {printable(path)} came that were not announced", _STRANGE)
            while length:
                view = self._stream.some(length)
                for each in self._hashers:
                    each.update(view)
                written = 0
                while written < len(view):
                    written += os.pwrite(self._fd, view[written:], self._position + written)
                self._position += written
                length -= written
        except OSError as error:
            raise os_error(error, self._folder.root + "/" + self._files[index][0]) from None

    def seal(self, index: int, offset: int, length: int) -> None:
        """Consume a SEAL frame: compare, and let the disk have the piece."""
        theirs = self._stream.body(self._digest_size)
        if self._index is None:  # a piece without bytes: an empty file
            self.data(index, offset, 0)
        path, size = self._files[self._index]
        if (index, offset, offset + length) != (self._index, self._start, self._position):
            raise CaxflowError(f"a piece of {printable(path)} came that was not announced", _STRANGE)
        if self._hashers[0].digest() != theirs:
            raise altered(path)
        self._syncer.put(self._fd, path, length == size, size)
        whole = length == size
        found = zip(self._algorithms if whole else self._algorithms[:1], self._hashers)
        self._index, self._fd = None, -1
        self._sealed(index, offset, length, {name: each.hexdigest() for name, each in found})

    def finish(self, alive) -> None:
        """Wait until all that was received is on the disk; `alive` is called now and then."""
        if self._index is not None:
            raise CaxflowError("the data ended in the middle of a piece", _STRANGE)
        self._syncer.finish(alive)

    def close(self) -> None:
        """Give up: close files, write nothing more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._syncer.abandon()


def altered(path: str) -> CaxflowError:
    """What arrived of a file does not have the digest that came with it."""
    return CaxflowError(
        f"file {printable(path)}: what arrived is not what was sent (digests differ)",
        "try again; if it happens again, a machine on the way has faulty memory",
    )


_STRANGE = "the other end does not behave: run the same version of caxflow, and ask the site's manager"


class _Syncer:
    """Brings files to the disk without stopping the stream.

    An fsync waits for a commit of the file system's journal, whatever the file's size. So while data come,
    files are only begun to be written out; at the end all are synced, by a few threads that share commits.
    """

    def __init__(self, root: str):
        self._root = root
        self._paths = set()
        self._queue = queue.Queue(16)
        self._error = None
        self._thread = None

    def put(self, fd: int, path: str, whole: bool, size: int) -> None:
        """Take over an open file of which a piece, or the whole, was written."""
        if self._error:
            raise self._error
        self._paths.add(path)
        if whole and size <= BUFFER:
            _write_out(fd, whole)  # faster than to wake a thread
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
        """Sync all files that were taken over."""
        self._stop()
        paths = iter(sorted(self._paths))
        lock = threading.Lock()

        def sync():
            folder = Folder(self._root)
            try:
                while self._error is None:
                    with lock:
                        path = next(paths, None)
                    if path is None:
                        return
                    self._sync(folder, path)
                    alive()
            except Exception as error:
                self._error = self._error or error
            finally:
                folder.close()

        threads = [threading.Thread(target=sync) for _ in range(min(4, len(self._paths)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error:
            raise self._error

    @staticmethod
    def _sync(folder, path: str) -> None:
        try:
            fd = folder.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise os_error(error, folder.root + "/" + path) from None

    def _stop(self) -> None:
        if self._thread:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def abandon(self) -> None:
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
