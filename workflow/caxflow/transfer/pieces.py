"""Sending and receiving pieces of files: the loops through which every byte goes.

A piece is a range of a file with a digest of its own, which the receiver computes too and compares.
Runs at the far end too: Python 3.8, standard library only.
"""

# ruff: noqa: B905 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import os

from caxflow.abilities import SIZES, attempt
from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.listing import os_error, printable, safe_path, unchanged
from caxflow.transfer.durable import Syncer
from caxflow.transfer.protocol import (
    BUFFER,
    DATA,
    FILE,
    HEADER,
    MOST_NAMED,
    SEAL,
    SMALL,
    frame_name,
    pack_name,
)

LONGEST_DIGEST = 64
_EACH = 500  # bytes of memory for each file beside its name, until all of them are on the disk


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

    def announce(self, index: int, path: str, file) -> None:
        """Tell the receiver the name, size and time of a file."""
        self._put(frame_name(index, path, file))

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
        head = pack_name(name, file.mtime_ns) if name else b""
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
        self._named = 0  # bytes of memory that their names take
        self._index, self._start, self._position = None, 0, 0
        self._hashers, self._fd = [], -1
        self._syncer = Syncer(folder)

    def announce(self, index: int, path: str, size: int, mtime_ns: int) -> None:
        """Accept data of a file from now on."""
        self._named += _EACH + len(path)
        if self._named > MOST_NAMED:
            raise CaxflowError("more files came than any dataset has", _STRANGE)
        self._files[index] = (safe_path(path), size, mtime_ns)

    def file(self, index: int, name_size: int, size: int) -> None:
        """Consume the body of a FILE frame."""
        if name_size:
            path, mtime_ns = self._stream.name(name_size)
            self.announce(index, path, size, mtime_ns)
        path, announced, mtime_ns = self._files.get(index, ("", -1, 0))
        if self._index is not None or announced != size or size > SMALL:
            raise CaxflowError("a file came that was not announced", _STRANGE)
        body = self._stream.view(size + self._digest_size)
        data = body[:size]
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
        self._syncer.put(fd, path, mtime_ns, 0, size, whole=True)
        found = {name: each.hexdigest() for name, each in zip(self._algorithms, hashers)}
        self._sealed(index, 0, size, found)

    def _begin(self, index: int, offset: int) -> None:
        if index not in self._files:
            raise CaxflowError(f"data came for file number {index}, which was not announced", _STRANGE)
        path, size, _ = self._files[index]
        self._fd = self._folder.open(path, os.O_WRONLY | os.O_CREAT)
        self._index, self._start, self._position = index, offset, offset
        self._hashers = [digests.hasher(name) for name in self._algorithms]
        if os.fstat(self._fd).st_size != size:
            attempt(SIZES, os.ftruncate, self._fd, size)  # else it grows as it is written

    def data(self, index: int, offset: int, length: int) -> None:
        """Consume the body of a DATA frame."""
        try:
            if self._index is None:
                self._begin(index, offset)
            path, size, _ = self._files[self._index]
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
        path, size, mtime_ns = self._files[self._index]
        if (index, offset, offset + length) != (self._index, self._start, self._position):
            raise CaxflowError(f"a piece of {printable(path)} came that was not announced", _STRANGE)
        if self._hashers[0].digest() != theirs:
            raise altered(path)
        whole = length == size
        self._syncer.put(self._fd, path, mtime_ns, offset, length, whole=whole)
        found = zip(self._algorithms if whole else self._algorithms[:1], self._hashers)
        self._index, self._fd = None, -1
        self._sealed(index, offset, length, {name: each.hexdigest() for name, each in found})

    def finish(self, alive) -> list:
        """Wait until all that was received is on the disk; what the file system lacks for that.

        `alive` is called now and then.
        """
        if self._index is not None:
            raise CaxflowError("the data ended in the middle of a piece", _STRANGE)
        return self._syncer.finish(alive)

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
