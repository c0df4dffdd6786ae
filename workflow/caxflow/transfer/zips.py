"""What a zip file holds by its own directory, and whether its bytes agree while they go by.

Runs at the far end too: Python 3.8, standard library only. See APPNOTE.TXT 4.3.
"""

# ruff: noqa: B905 (this also runs under Python 3.8)

from __future__ import annotations

import errno
import struct
import zipfile
import zlib

from caxflow.files import zipdirectory

_MOST = 5  # faults of one kind that are named
_RANGES = 100  # pieces that numbers may be in; more, and no event builder numbered them
_HEADER = struct.Struct("<4s5H3L2H")  # a member's local header
_ENCRYPTED, _DESCRIBED = 1, 8  # flags: encrypted; sizes and checksum follow the data
_DESCRIPTORS = (12, 16, 20, 24)  # bytes of what then follows, by its kind
_LARGE = 0xFFFFFFFF  # a size that is kept elsewhere
_BLOCK = 1 << 20  # bytes that are unpacked at a time
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_PLAIN, _ZIP64 = (10, 20), 45  # versions that a reader must have: of plain members, of what has large numbers


class Archive:
    """The directory of an open zip file (binary, seekable), and what is wrong with it.

    Parameters
    ----------
    file : file object
    size : int
        Its size in bytes.

    Attributes
    ----------
    members : list of zipfile.ZipInfo
        In the order of the file.
    faults : list of str
        Why it cannot be what its writer made.
    oddities : list of str
        What does not belong into it, but harms nothing.
    """

    def __init__(self, file, size: int):
        self.members, self.faults, self.oddities = [], [], []
        self.end = 0  # of the members
        if why := zipdirectory.too_large(file, size):
            self.faults.append(why)
            return
        try:
            with zipfile.ZipFile(file) as archive:
                self._read(archive, file, size)
        except OSError as error:
            if error.errno != errno.EINVAL:  # that of a position before the file's begin
                raise
            self._unreadable()
        except (
            zipfile.BadZipFile,
            EOFError,
            ValueError,
            NotImplementedError,
            OverflowError,
            struct.error,
            RuntimeError,
        ):
            self._unreadable()

    def _unreadable(self) -> None:
        self.members, self.faults, self.oddities = [], ["cannot be read as a zip"], []

    def _read(self, archive: zipfile.ZipFile, file, size: int) -> None:
        members = sorted(archive.infolist(), key=lambda member: member.header_offset)
        self.end = archive.start_dir
        file.seek(size - zipdirectory.END.size)
        end = zipdirectory.END.unpack(file.read(zipdirectory.END.size))
        if archive.comment:
            self.oddities.append(f"has a comment of {len(archive.comment)} bytes")
        elif end[0] != zipdirectory.MARK or end[7]:
            self.oddities.append("has bytes after its end")
        elif {*end[1:3]} - {0, 0xFFFF} or {*end[3:5]} - {len(members), 0xFFFF}:
            self.faults.append(f"has another end than its {len(members)} members want")
        if members and members[0].header_offset:
            self.oddities.append(f"has {members[0].header_offset} bytes before its first member")
        self.members = members
        self._check_members()

    def _check_members(self) -> None:
        ends = [member.header_offset for member in self.members[1:]] + [self.end]
        bad, packed, overlap = [], [], []
        for member, end in zip(self.members, ends):
            if member.volume:
                bad.append(f"member {named(member)} is said to be in another file")
            elif member.flag_bits & _ENCRYPTED:
                bad.append(f"member {named(member)} is encrypted")
            elif member.compress_type not in _METHODS:
                bad.append(
                    f"member {named(member)} is compressed by the unknown method {member.compress_type}"
                )
            elif member.compress_type:
                packed.append(named(member))
            if member.header_offset < 0 or member.header_offset + _least(member) > end:
                overlap.append(f"member {named(member)} overlaps what follows")
        self.faults += _first(overlap) + _first(bad)
        if packed:
            self.oddities.append(f"has compressed members, as {packed[0]}")

    def contents(self) -> dict:
        """Return what it holds, as plain values.

        Returns
        -------
        dict
            ``numbers``: first and last of each range of numbers that members are called after, ascending, a
            number that two have in two ranges; ``others``: some names that are no numbers; ``faults`` and
            ``oddities``.
        """
        names = [member.orig_filename for member in self.members]
        numbers = sorted(int(name) for name in names if _is_number(name))
        others = [name for name in names if not _is_number(name)]
        places = [name for name in others if "/" in name or "\\" in name or "\0" in name or not name]
        faults = self.faults + _first([f"member {name[:60]!r} would be a path" for name in places])
        ranges = _ranges(numbers)
        if len(ranges) > _RANGES:
            faults.append(f"has numbers in {len(ranges)} pieces")
        return {
            "numbers": ranges[:_RANGES],
            "others": [ascii(name[:60]) for name in others[:_MOST]],
            "faults": faults,
            "oddities": self.oddities,
        }


class Checker:
    """Compares the members of a zip file with their checksums, and headers with the directory.

    Parameters
    ----------
    archive : Archive
        `update` then takes the bytes of the same file in their order.
    """

    def __init__(self, archive: Archive):
        ends = [member.header_offset for member in archive.members[1:]] + [archive.end]
        # What the directory alone shows to be wrong needs no look at the bytes.
        self._todo = [] if archive.faults else list(zip(archive.members, ends))
        self._todo.reverse()
        self._at = 0  # of the next byte
        self._left = 0  # bytes until `_next` is to be asked what comes
        self._next, self._take = self._begin, _ignore
        self._bad, self._gaps = [], []
        self._member, self._end = None, 0  # the one that is read, and where the next one begins
        self._head, self._crc, self._size, self._unpacker = bytearray(), 0, 0, None
        self._step()

    def update(self, data) -> None:
        """Take the next bytes of the file."""
        view = memoryview(data)
        while view:
            part, view = view[: self._left], view[self._left :]
            self._at += len(part)
            self._left -= len(part)
            self._take(part)
            self._step()

    def results(self) -> tuple:
        """Return what is wrong and what is odd, once all bytes have gone by."""
        if self._member:
            self._bad.append("ends before its last member does")
        return _first(self._bad), _first(self._gaps)

    def _step(self) -> None:
        while not self._left:
            self._next()

    def _wait(self, end: int, take, following) -> None:
        """Have the bytes until `end` taken, and go on with what follows then."""
        self._left, self._take, self._next = end - self._at, take, following

    def _begin(self) -> None:
        """Go to the next member's header."""
        self._member, self._end = self._todo.pop() if self._todo else (None, 0)
        if self._member is None:
            self._left, self._take = 1 << 63, _ignore  # what follows is the directory
            return
        self._wait(self._member.header_offset, _ignore, self._open)

    def _open(self) -> None:
        self._head.clear()
        self._wait(self._at + _HEADER.size, self._head.extend, self._read_header)

    def _read_header(self) -> None:
        sizes = _HEADER.unpack(self._head)[-2:]
        if self._at + sum(sizes) + self._member.compress_size > self._end:
            self._fail("has a damaged header")
        else:
            self._wait(self._at + sum(sizes), self._head.extend, self._read_names)

    def _read_names(self) -> None:
        if not _agree(self._member, bytes(self._head)):
            self._fail("has a header that is not as the directory says")
            return
        self._crc = self._size = 0
        self._unpacker = zlib.decompressobj(-15) if self._member.compress_type else None
        self._wait(self._at + self._member.compress_size, self._count, self._close)

    def _count(self, part) -> None:
        if self._unpacker is None:
            self._add(part)
            return
        try:
            while len(part) and self._size <= self._member.file_size:
                self._add(self._unpacker.decompress(part, _BLOCK))
                part = self._unpacker.unconsumed_tail
        except zlib.error:
            self._size, self._take = -1, _ignore

    def _add(self, data) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)

    def _close(self) -> None:
        member = self._member
        if self._unpacker and 0 <= self._size <= member.file_size:
            self._add(self._unpacker.flush(_BLOCK))
        if self._size != member.file_size or self._crc != member.CRC:
            self._fail("does not have its checksum (CRC)")
            return
        left = self._end - self._at
        if left and not (member.flag_bits & _DESCRIBED and left in _DESCRIPTORS):
            self._gaps.append(f"has {left} bytes after member {named(member)} that belong to none")
        self._begin()

    def _fail(self, why: str) -> None:
        self._bad.append(f"member {named(self._member)} {why}")
        self._begin()


def read(path: str, fd: int, size: int):
    """Return the directory of an open file if it is called a zip file, else None."""
    if not path.endswith(".zip"):
        return None
    with open(fd, "rb", closefd=False) as file:
        return Archive(file, size)


def named(member: zipfile.ZipInfo) -> str:
    """Return how messages call a member."""
    name = member.orig_filename
    return name if _is_number(name) else ascii(name[:60])


def _ignore(_) -> None:
    pass


def _first(found: list) -> list:
    more = len(found) - _MOST
    return found[:_MOST] + ([f"and {more} more members like the last one"] if more > 0 else [])


def _is_number(name: str) -> bool:
    """Return whether a name is a number as programs write one."""
    return name.isascii() and name.isdigit() and len(name) <= 12 and (name == "0" or name[0] != "0")


def _ranges(numbers: list) -> list:
    found = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def _least(member: zipfile.ZipInfo) -> int:
    return _HEADER.size + len(_name(member)) + member.compress_size


def _name(member: zipfile.ZipInfo) -> bytes:
    return member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")


def _agree(member: zipfile.ZipInfo, head: bytes) -> bool:
    """Return whether a local header says what the directory says of the member."""
    signature, version, flags, method, time, date, crc, packed, size, name, _ = _HEADER.unpack_from(head)
    year, month, day, hour, minute, second = member.date_time
    same = [
        (signature, b"PK\3\4"),
        (flags, member.flag_bits),
        (method, member.compress_type),
        (date, (year - 1980) << 9 | month << 5 | day),
        (time, hour << 11 | minute << 5 | second // 2),
        (head[_HEADER.size : _HEADER.size + name], _name(member)),
    ]
    if not flags & _DESCRIBED:
        same += [(crc, member.CRC)]
        same += [(packed, member.compress_size)] if packed != _LARGE else []
        same += [(size, member.file_size)] if size != _LARGE else []
    return _same_version(version, member) and all(one == other for one, other in same)


def _same_version(version: int, member: zipfile.ZipInfo) -> bool:
    """Return whether a local header asks for the reader that the directory asks for.

    What lies beyond 2 GB asks for more in the directory, which alone has its place.
    """
    said = member.extract_version | member.reserved << 8
    return version == said or (said == _ZIP64 and version in _PLAIN)
