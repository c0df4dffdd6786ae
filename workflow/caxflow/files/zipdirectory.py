"""How large the directory of a zip file is, before anything is made of it.

Python reads a zip file's directory as a whole, and keeps a kilobyte for each of its entries, which may be 46
bytes. Runs at the far end too: Python 3.8, standard library only. See APPNOTE.TXT 4.3.16.
"""

import struct

# Bytes; of 1000 events it has 50,000.
MOST = 8 << 20

END = struct.Struct("<4s4H2LH")  # the record that an archive without a comment ends with
_LOCATOR = struct.Struct("<4sLQL")
_LARGE_END = struct.Struct("<4sQ2H2L4Q")  # of what has large numbers
MARK = b"PK\5\6"
_COMMENT = 0xFFFF


def size(file, length: int) -> int:
    """Return how many bytes an open zip file of that length says its directory has; 0 if it says nothing."""
    begin = max(0, length - END.size - _COMMENT)
    file.seek(begin)
    tail = file.read(END.size + _COMMENT)
    # As Python's zipfile finds it: at the very end, or else the last one that a comment may follow.
    plain = tail[-END.size :]
    at = len(tail) - END.size if plain[:4] == MARK and plain[-2:] == b"\0\0" else tail.rfind(MARK)
    if at < 0 or at + END.size > len(tail):
        return 0
    return _large(file, begin + at) or END.unpack_from(tail, at)[5]


def too_large(file, length: int) -> str:
    """Return, in words, that an open zip file of that length has too large a directory; empty if not."""
    return f"has a directory of more than {MOST} bytes" if size(file, length) > MOST else ""


def _large(file, at: int) -> int:
    """Return the size of a directory where large ones have it, before the end at this place; 0 for none."""
    if at < _LOCATOR.size:
        return 0
    file.seek(at - _LOCATOR.size)
    mark, _, place, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if mark != b"PK\6\7":
        return 0
    largest = 0
    # What precedes the archive moves it: readers look right before the locator, too.
    for position in (place, at - _LOCATOR.size - _LARGE_END.size):
        if 0 <= position < at:
            file.seek(position)
            record = file.read(_LARGE_END.size)
            if len(record) == _LARGE_END.size and record[:4] == b"PK\6\6":
                largest = max(largest, _LARGE_END.unpack(record)[8])
    return largest
