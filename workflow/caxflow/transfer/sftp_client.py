"""SFTP over any channel: requests that run ahead of their answers.

Version 3 of the protocol (draft-ietf-secsh-filexfer-02) and OpenSSH's extensions to it (its file PROTOCOL,
section 4). Paths are as in `caxflow.listing`: bytes that are not UTF-8 are kept.
"""

import errno
import os
import re
import stat
import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from caxflow.errors import CaxflowError
from caxflow.files.listing import safe_path, to_bytes, to_text
from caxflow.transfer.protocol import LostError, Stream

_INIT, _OPEN, _CLOSE, _READ, _WRITE = 1, 3, 4, 5, 6
_LSTAT, _FSTAT, _SETSTAT, _OPENDIR, _READDIR = 7, 8, 9, 11, 12
_REMOVE, _MKDIR, _RMDIR, _REALPATH, _STAT, _RENAME, _READLINK, _SYMLINK = range(13, 21)
_STATUS, _EXTENDED = 101, 200

READ, WRITE, CREATE, NEW = 1, 2, 8, 40  # how a file is opened; one that is NEW must not be there
_SIZE, _OWNER, _MODE, _TIMES = 1, 2, 4, 8  # which attributes there are

_ERRORS = {2: errno.ENOENT, 3: errno.EACCES, 5: errno.EINVAL, 8: errno.EOPNOTSUPP}
_FAILURE = errno.EIO  # whatever the reason: SFTP has one code for a full disk, a quota and all else
_END = 1

_WINDOW = 2 << 20  # bytes on their way: as much as OpenSSH's channels take
_REQUEST = 1 << 15  # bytes that any server reads or writes at once
_LARGEST = 1 << 20  # bytes of an answer
_NOISE = 1 << 17  # bytes that start-up files may print
MOST_NAMES = 500_000  # that are held at a time; no dataset has so many, nor do folders of datasets
# The whole answer to INIT: its length, its type and the version, before the names of extensions.
_GREETING = re.compile(rb"\0[\0-\x03]..\x02\0\0\0\x03\Z", re.DOTALL)


class Attributes(NamedTuple):
    """Of a file: size in bytes, mode with the file's type, seconds of its last modification, its owner."""

    size: int
    mode: int
    mtime: int
    owner: int | None = None


class Room(NamedTuple):
    """Of a file system: bytes and files that it takes (None: not told); whether it is read-only; its id."""

    size: int | None
    files: int | None
    read_only: bool
    of: int


class _Fields:
    """The fields of an answer, one after the other."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    def number(self, code: str = "I") -> int:
        (value,) = struct.unpack_from(f">{code}", self._data, self._at)
        self._at += struct.calcsize(f">{code}")
        return value

    def string(self) -> bytes:
        length = self.number()
        value = self._data[self._at : self._at + length]
        if len(value) != length:
            raise struct.error("a string ends early")
        self._at += length
        return value

    def attributes(self) -> Attributes:
        flags = self.number()
        size = self.number("Q") if flags & _SIZE else 0
        owner, _ = (self.number(), self.number()) if flags & _OWNER else (None, None)
        mode = self.number() if flags & _MODE else 0
        _, mtime = (self.number(), self.number()) if flags & _TIMES else (0, 0)
        if flags & 0x80000000:
            for _ in range(2 * self.number()):
                self.string()
        return Attributes(size, mode, mtime, owner)

    @property
    def more(self) -> bool:
        return self._at < len(self._data)


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


class SftpClient:
    """An SFTP session over a channel; for use by one thread.

    Operations raise an OSError where the server refuses, `LostError` when the connection is gone.
    """

    def __init__(self, channel):
        self._stream = Stream(channel)
        self._number = 0
        self._asked: set[int] = set()
        self._answers: dict[int, tuple[int, _Fields]] = {}
        self._extensions: dict[bytes, bytes] = {}
        self._at_once = _REQUEST
        self._held = 0  # names that were listed

    def greet(self) -> None:
        """Agree on the version; what the login prints before is skipped.

        Raises
        ------
        LostError
            With what the far end said instead.
        """
        self._stream.write(memoryview(struct.pack(">IBI", 5, _INIT, 3)))
        seen = b""
        while not _GREETING.search(seen[-9:]):
            try:
                seen += self._stream.body(1)
            except LostError as error:
                text = seen.decode("utf-8", "replace").strip()
                raise LostError(text or str(error), self._stream) from None
            if len(seen) > _NOISE:
                raise LostError(f"the far end prints {_NOISE} bytes but starts no SFTP", self._stream)
        length = struct.unpack(">I", seen[-9:-5])[0] - 5
        if length < 0:
            raise LostError("an SFTP server with an odd greeting", self._stream)
        fields = _Fields(self._stream.body(length))
        while fields.more:
            name, version = fields.string(), fields.string()
            self._extensions[name] = version
        if b"limits@openssh.com" in self._extensions:
            limits = self._request(_EXTENDED, _string(b"limits@openssh.com"))
            _, reads, writes, _ = (limits.number("Q") for _ in range(4))
            self._at_once = max(_REQUEST, min(reads, writes, _WINDOW // 8))

    # Requests and answers

    def _ask(self, kind: int, *fields: bytes) -> int:
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._asked.add(self._number)
        body = b"".join(fields)
        self._stream.write(memoryview(struct.pack(">IBI", len(body) + 5, kind, self._number) + body))
        return self._number

    def _answer(self, number: int, path: str = "") -> _Fields | None:
        """The answer to a request, None at the end of what was asked for; errors are raised."""
        while number not in self._answers:
            length = struct.unpack(">I", self._stream.body(4))[0]
            if not 5 <= length <= _LARGEST:
                raise LostError(f"an SFTP answer of {length} bytes", self._stream)
            kind, of = struct.unpack(">BI", self._stream.body(5))
            if of not in self._asked:
                raise LostError("an SFTP server that answers what nobody asked", self._stream)
            self._asked.remove(of)
            self._answers[of] = (kind, _Fields(self._stream.body(length - 5)))
        kind, fields = self._answers.pop(number)
        if kind != _STATUS:
            return fields
        code = fields.number()
        if code <= _END:
            return None if code else fields
        said = to_text(fields.string()) if fields.more else ""
        known = _ERRORS.get(code)
        raise OSError(known or _FAILURE, os.strerror(known) if known else said or "failure", path or None)

    def _request(self, kind: int, *fields: bytes, path: str = "") -> _Fields:
        answer = self._answer(self._ask(kind, *fields), path)
        if answer is None:
            raise OSError(_FAILURE, "an unexpected end", path or None)
        return answer

    def _path(self, kind: int, path: str, *more: bytes) -> _Fields:
        return self._request(kind, _string(to_bytes(path)), *more, path=path)

    # Files and directories by path

    def lstat(self, path: str) -> Attributes:
        """Attributes of a file, or of the link that is in its place."""
        return self._path(_LSTAT, path).attributes()

    def stat(self, path: str) -> Attributes:
        """Attributes of a file, links followed."""
        return self._path(_STAT, path).attributes()

    def kind(self, path: str) -> str | None:
        """``file``, ``directory``, ``other``, or None if nothing is there."""
        try:
            mode = self.lstat(path).mode
        except FileNotFoundError:
            return None
        return "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else "other"

    def listing(self, path: str) -> list[tuple[str, Attributes]]:
        """Names in a directory, with their attributes; links are not followed."""
        handle = self._path(_OPENDIR, path).string()
        found = []
        try:
            while (answer := self._answer(self._ask(_READDIR, _string(handle)), path)) is not None:
                for _ in range(answer.number()):
                    name, _ = to_text(answer.string()), answer.string()
                    attributes = answer.attributes()
                    if name not in (".", ".."):
                        found.append((safe_path(name), attributes))
                        self._hold(1)
        finally:
            self.close(handle)
        return found

    def each(self, path: str) -> Iterator[tuple[str, Attributes]]:
        """Yield names in a directory, as `listing` has them, which are not held beyond that."""
        found = self.listing(path)
        yield from found
        self._hold(-len(found))

    def let_go(self) -> None:
        """Take note that what was listed so far is not held any more."""
        self._held = 0

    def _hold(self, count: int) -> None:
        self._held += count
        if self._held > MOST_NAMES:
            raise CaxflowError(
                f"more than {MOST_NAMES} names came", "ask the site's manager what is there, or what answers"
            )

    def make(self, path: str, mode: int = 0o755) -> None:
        """Make a directory, which others may not write to whatever the server's umask is."""
        self._path(_MKDIR, path, struct.pack(">II", _MODE, mode))

    def set_mtime(self, path: str, seconds: int) -> None:
        """Set a file's time of modification, as near as SFTP's 32 bits allow: from 1970 to 2106."""
        seconds = max(0, min(seconds, 0xFFFFFFFF))
        self._path(_SETSTAT, path, struct.pack(">III", _TIMES, seconds, seconds))

    def resolve(self, path: str) -> str:
        """The path without links, ``.`` and ``..``."""
        answer = self._path(_REALPATH, path)
        answer.number()
        return to_text(answer.string())

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link at `path`; as with OpenSSH's server, `target` comes first on the wire."""
        self._path(_SYMLINK, target, _string(to_bytes(path)))

    def target(self, path: str) -> str:
        """The text of a symbolic link."""
        answer = self._path(_READLINK, path)
        answer.number()
        return to_text(answer.string())

    def rename(self, old: str, new: str) -> None:
        """Rename, which the protocol refuses where the new name exists.

        OpenSSH's server links files, where its file system has links; an empty folder may be replaced. Where
        it gives up since a link is refused, it is asked to rename what has no name there yet.
        """
        names = _string(to_bytes(old)), _string(to_bytes(new))
        try:
            self._request(_RENAME, *names, path=old)
        except OSError:
            if b"posix-rename@openssh.com" not in self._extensions or self.kind(new):
                raise
            self._request(_EXTENDED, _string(b"posix-rename@openssh.com"), *names, path=old)

    def remove(self, path: str) -> None:
        """Remove a file, or with `remove_directory` an empty directory."""
        self._path(_REMOVE, path)

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        self._path(_RMDIR, path)

    def remove_tree(self, path: str, alive=lambda: None, check=lambda path: None) -> None:
        """Remove a file, or a directory with all that is below; links are not followed.

        Parameters
        ----------
        alive : callable
            Called for each file, as it may take long.
        check : callable
            Called with the path of each directory before what is in it is removed; may raise.
        """
        kind = self.kind(path)
        alive()
        if kind == "directory":
            check(path)
            for name, _ in self.each(path):
                self.remove_tree(f"{path}/{name}", alive, check)
            check(path)
            self.remove_directory(path)
        elif kind:
            self.remove(path)

    def room(self, path: str) -> Room:
        """What may still be written where `path` is; an OSError if the server cannot tell."""
        answer = self._path_extended(b"statvfs@openssh.com", path)
        numbers = (answer.number("Q") for _ in range(11))
        block, part, total, _, blocks, files, _, free, own, flags, _ = numbers
        size = (part or block) * blocks if total else None
        return Room(size, free if files else None, bool(flags & 1), own)

    def _path_extended(self, extension: bytes, path: str) -> _Fields:
        if extension not in self._extensions:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        return self._request(_EXTENDED, _string(extension), _string(to_bytes(path)), path=path)

    # Open files

    def open(self, path: str, how: int = READ) -> bytes:
        """Open a file and return its handle; `how` adds READ, WRITE, and CREATE or NEW.

        Others may not write to what is made, whatever the server's umask is.
        """
        attributes = struct.pack(">II", _MODE, 0o644) if how & CREATE else struct.pack(">I", 0)
        return self._path(_OPEN, path, struct.pack(">I", how), attributes).string()

    def close(self, handle: bytes) -> None:
        """Close a file or directory."""
        self._request(_CLOSE, _string(handle))

    def status(self, handle: bytes) -> Attributes:
        """Attributes of an open file."""
        return self._request(_FSTAT, _string(handle)).attributes()

    def sync(self, handle: bytes) -> None:
        """Bring an open file to the disk, where the server knows how to."""
        if b"fsync@openssh.com" in self._extensions:
            self._request(_EXTENDED, _string(b"fsync@openssh.com"), _string(handle))

    def read(self, handle: bytes, offset: int, length: int):
        """Yield the bytes of a range, fewer if the file ends before; asked for ahead."""
        asked, end, sizes = deque(), offset + length, 0
        while asked or offset < end:
            while offset < end and sizes < _WINDOW:
                size = min(self._at_once, end - offset)
                asked.append((self._ask_read(handle, offset, size), offset, size))
                offset, sizes = offset + size, sizes + size
            number, begin, size = asked.popleft()
            answer = self._answer(number)
            data = answer.string() if answer else b""
            sizes -= size
            if len(data) > size:
                raise LostError("an SFTP server that sends more than it is asked for", self._stream)
            if not data:  # the end: whoever reads will notice; answers to what else was asked are for nobody
                for number, _, _ in asked:
                    self._answer(number)
                return
            yield data
            if len(data) < size:
                left = size - len(data)
                asked.appendleft((self._ask_read(handle, begin + len(data), left), begin + len(data), left))
                sizes += left

    def _ask_read(self, handle: bytes, offset: int, size: int) -> int:
        return self._ask(_READ, _string(handle), struct.pack(">QI", offset, size))

    def write(self, handle: bytes, offset: int, chunks) -> None:
        """Write chunks one after the other from `offset` on; returns when the server has taken all."""
        asked, sizes = deque(), 0
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                part, view = view[: self._at_once], view[self._at_once :]
                where = struct.pack(">QI", offset, len(part))
                asked.append((self._ask(_WRITE, _string(handle), where, part), len(part)))
                offset, sizes = offset + len(part), sizes + len(part)
                while sizes >= _WINDOW:
                    sizes -= self._written(asked)
        while asked:
            self._written(asked)

    def _written(self, asked: deque) -> int:
        number, size = asked.popleft()
        self._answer(number)
        return size
