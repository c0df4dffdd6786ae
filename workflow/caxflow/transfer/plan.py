"""Which pieces of which files have to be moved, and over how many connections."""

import math
from itertools import pairwise
from typing import NamedTuple

from caxflow.files.listing import FileStat

# One SSH channel carries at most its window in a round trip: 2 MiB, fixed in OpenSSH's sshd and client.
WINDOW = 2 << 20
MOST = 8  # logins that a server surely accepts at the same time: sshd's MaxStartups begins at 10
DEFAULT_RATE = 125e6  # bytes/s of a 1 Gb/s link
SMALLEST, LARGEST = 4 << 20, 1 << 30  # bytes of a piece


class Piece(NamedTuple):
    """A range of a file: its number, the file as listed, offset and length in bytes."""

    index: int
    file: FileStat
    offset: int
    length: int

    @property
    def whole(self) -> bool:
        """Whether it is the whole file."""
        return self.length == self.file.size


def wanted(round_trip: float, rate: float | None) -> int:
    """Return the number of connections that a link can use.

    Parameters
    ----------
    round_trip : float
        Seconds.
    rate : float or None
        What the link is thought or allowed to carry, bytes/s.
    """
    return min(MOST, max(2, math.ceil(1.2 * (rate or DEFAULT_RATE) * round_trip / WINDOW)))


def worth(round_trip: float, size: int) -> int:
    """Return the number of connections that pay for `size` bytes.

    A further connection costs a login and a helper, some 0.1 s of both ends' CPU time and some ten round
    trips; it pays where it has at least as much to carry as the first carries meanwhile.
    """
    carried = WINDOW / round_trip if round_trip > WINDOW / DEFAULT_RATE else DEFAULT_RATE
    return max(1, math.ceil(size / (carried * (1.5 + 5 * round_trip))))


def pieces(files, missing: dict, count: int, split: bool) -> list[Piece]:
    """What has to be moved, in the order in which to begin it: large files first.

    Parameters
    ----------
    files : sequence of FileStat
    missing : dict of int to list of (int, int)
        Ranges (offset, length) that are missing, of files of which an earlier attempt brought something.
    count : int
        Number of connections.
    split : bool
        Whether a file that nothing is there of may be divided.
    """
    ranges = {index: missing.get(index, [(0, file.size)]) for index, file in enumerate(files)}
    total = sum(length for each in ranges.values() for _, length in each)
    step = min(max(total // (8 * count), SMALLEST), LARGEST) if split else 1 << 62
    found = []
    for index in sorted(ranges, key=lambda index: (-files[index].size, index)):
        for offset, length in ranges[index]:
            parts = max(1, round(length / step))
            # Parts end at multiples of a page, so that no two connections write to the same one.
            edges = [
                offset + (length * part // parts & -4096 if part < parts else length)
                for part in range(parts + 1)
            ]
            found += [Piece(index, files[index], begin, end - begin) for begin, end in pairwise(edges)]
    return found


def missing_ranges(size: int, block: int, there: list, wanted: list) -> list[tuple[int, int]]:
    """Ranges of a file whose block digests `there` are not those `wanted`, adjoining ones joined."""
    found = []
    for number, digest in enumerate(wanted):
        if number < len(there) and there[number] == digest:
            continue
        begin, end = number * block, min(size, (number + 1) * block)
        if found and sum(found[-1]) == begin:
            found[-1] = (found[-1][0], end - found[-1][0])
        else:
            found.append((begin, end - begin))
    return found
