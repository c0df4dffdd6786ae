"""Frames between the two ends of a transfer.

A frame is a header (kind, index of a file, offset, length) and, for some kinds, a body:

====  =====================  ======================================================================
kind  index, offset, length  body
====  =====================  ======================================================================
J     0, 0, bytes of body    JSON: a request, a result, an error, progress
N     file, its size, bytes  time of modification and path: announces a file to the end that writes
F     file, of name, bytes   a whole small file: time and path unless these are known, data, digest
D     file, offset, bytes    data of the piece that is under way, in order
S     file, offset, bytes    digest of the piece (offset and bytes are those of the whole piece)
A     0, pieces, bytes       none: so many more were written and their digests agreed
====  =====================  ======================================================================

Nobody waits for an ``A``. Runs at the far end too: Python 3.8, standard library only.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import struct
import threading
import time

from caxflow.errors import CaxflowError
from caxflow.files.listing import to_bytes, to_text

MAGIC = b"\0caxflow-helper-1\n"  # ends whatever a login shell may print before the helper speaks
_ANY_MAGIC = re.compile(rb"\0caxflow-helper-(\d{1,9})\n")
HEADER = struct.Struct(">cIQQ")
_TIME = struct.Struct(">q")  # ns since 1970
JSON, NAME, FILE, DATA, SEAL, ACK = b"J", b"N", b"F", b"D", b"S", b"A"
BUFFER = 1 << 20
SMALL = 1 << 18  # bytes of a file that goes as one frame
LARGEST_JSON = 64 << 20
LARGEST_NAME = 4096
MOST_VALUES = 2_000_000  # in a message: as many as a listing of 300,000 files has
MOST_NAMED = 256 << 20  # bytes of memory for what is announced over a connection
_OTHER = "ask the site's manager what answers in the place of python there"


class LostError(Exception):
    """The other end is gone, or does not speak this protocol; `stream` is the one that leads there."""

    def __init__(self, what: str, stream=None):
        super().__init__(what)
        self.stream = stream


class OtherVersionError(LostError):
    """The other end speaks another version of this protocol."""


def _whole(text: str) -> int:
    if len(text) > 20:  # more than 64 bits; and of very many digits, Python makes a number in hours
        raise ValueError("a number that counts nothing")
    return int(text)


def _real(text: str) -> float:
    if len(text) > 40 or not math.isfinite(float(text)):  # NaN and Infinity come this way, too
        raise ValueError("a number that measures nothing")
    return float(text)


_read_json = json.JSONDecoder(parse_int=_whole, parse_float=_real, parse_constant=_real).decode


class FdChannel:
    """A pair of pipes; the interface that `Stream` needs."""

    def __init__(self, read_fd: int, write_fd: int):
        self._read, self._write = read_fd, write_fd
        for fd in (read_fd, write_fd):
            try:
                fcntl.fcntl(fd, 1031, BUFFER)  # F_SETPIPE_SZ: fewer switches between us and ssh
            except OSError:
                pass  # no pipe, or the user's allowance of pipe memory is spent

    def read_into(self, view) -> int:
        """Read what there is, at least one byte; 0 at the end."""
        return os.readv(self._read, [view])

    def write_some(self, view) -> int:
        """Write as much as goes, at least one byte; return how much."""
        return os.write(self._write, view)


class Stream:
    """Frames over a channel; one reader, any number of writers.

    `blocked_since` is the monotonic time at which a read or a write began that has not ended, else None:
    what a watchdog looks at.

    Parameters
    ----------
    channel : FdChannel or the like
    largest : int
        Bytes of the largest message that is taken; may be set anew for what comes next.
    """

    def __init__(self, channel, largest: int = LARGEST_JSON):
        self._channel, self.largest = channel, largest
        self._buffer = memoryview(bytearray(BUFFER))
        self._start = self._end = 0
        self._writing = threading.Lock()
        self.blocked_since = None
        self.received = 0

    def _fill(self) -> None:
        self.blocked_since = time.monotonic()
        try:
            count = self._channel.read_into(self._buffer[self._end :])
        except OSError as error:
            raise LostError(str(error), self) from None
        self.blocked_since = None
        if not count:
            raise LostError("connection closed", self)
        self._end += count
        self.received += count

    def _need(self, size: int) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        if self._start + size > len(self._buffer):
            left = bytes(self._buffer[self._start : self._end])
            self._buffer[: len(left)] = left
            self._start, self._end = 0, len(left)
        while self._end - self._start < size:
            self._fill()

    def skip_noise(self, limit: int = 1 << 17) -> bytes:
        """Read up to and including the magic; return what came before it."""
        seen = b""
        while MAGIC not in seen:
            if len(seen) > limit:
                raise LostError(f"the far end prints {limit} bytes but starts no helper", self)
            try:
                self._need(1)
            except LostError as error:
                text = seen.decode("utf-8", "replace").strip()
                raise LostError(text or str(error), self) from None
            seen += bytes(self._buffer[self._start : self._end])
            self._start = self._end
            if (other := _ANY_MAGIC.search(seen)) and other[0] != MAGIC:
                spoken = other[1].decode("ascii")
                raise OtherVersionError(f"caxflow speaks version {spoken} of its protocol, not ours", self)
        noise, _, rest = seen.partition(MAGIC)
        self._start = self._end - len(rest)
        return noise

    def header(self) -> tuple:
        """The next frame's ``(kind, index, offset, length)``; its body must be consumed before the next."""
        self._need(HEADER.size)
        header = HEADER.unpack_from(self._buffer, self._start)
        self._start += HEADER.size
        return header

    @property
    def buffered(self) -> bool:
        """Whether there are bytes that can be had without waiting for the channel."""
        return self._end > self._start

    def some(self, most: int):
        """A view of between 1 and `most` bytes of the body, valid until the next call."""
        if self._start == self._end:
            self._start = self._end = 0
            self._fill()
        view = self._buffer[self._start : min(self._end, self._start + most)]
        self._start += len(view)
        return view

    def view(self, size: int):
        """A view of the next `size` bytes, at most `BUFFER`; valid until the next call."""
        self._need(size)
        view = self._buffer[self._start : self._start + size]
        self._start += size
        return view

    def body(self, size: int) -> bytes:
        """`size` bytes of the body."""
        found = bytearray()  # one, as what comes byte by byte would be millions
        while len(found) < size:
            found += self.some(size - len(found))
        return bytes(found)

    def name(self, length: int) -> tuple:
        """The body of a NAME frame: path and time of modification (ns)."""
        if not _TIME.size <= length <= _TIME.size + LARGEST_NAME:
            raise LostError("a name longer than any file system takes", self)
        body = self.view(length)
        return to_text(bytes(body[_TIME.size :])), _TIME.unpack_from(body)[0]

    def json(self, length: int) -> dict:
        """The body of a JSON frame.

        Raises
        ------
        CaxflowError
            If it would take more memory than any that is meant.
        """
        if length > self.largest:
            raise CaxflowError(f"a message of {length} bytes came, of at most {self.largest}", _OTHER)
        body = self.body(length)
        # Before it is read: a value of three bytes may take a hundred.
        if (count := sum(map(body.count, (b",", b"[", b"{", b":")))) > MOST_VALUES:
            raise CaxflowError(f"a message of {count} values came, of at most {MOST_VALUES}", _OTHER)
        try:
            text = body.decode("utf-8")
            del body
            message = _read_json(text)
        except (ValueError, RecursionError):
            raise LostError("a message that is not JSON", self) from None
        if not isinstance(message, dict):
            raise LostError("a message that is no object", self)
        return message

    def write(self, view) -> None:
        """Write whole frames."""
        with self._writing:
            try:
                while view:
                    self.blocked_since = time.monotonic()
                    view = view[self._channel.write_some(view) :]
            except OSError as error:
                raise LostError(str(error), self) from None
            self.blocked_since = None

    def send(self, message) -> None:
        """Write one JSON frame."""
        self.write(memoryview(frame_json(message)))


def pack_name(path: str, mtime_ns: int) -> bytes:
    """The body of a NAME frame, which `Stream.name` reads."""
    return _TIME.pack(mtime_ns) + to_bytes(path)


def frame_name(index: int, path: str, file) -> bytes:
    """A NAME frame: the file of a listing will be written to `path`."""
    name = pack_name(path, file.mtime_ns)
    return HEADER.pack(NAME, index, file.size, len(name)) + name


def frame_json(message) -> bytes:
    """A JSON frame."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return HEADER.pack(JSON, 0, 0, len(body)) + body
