"""What a dataset holds, as it was listed: files, folders, and the members of zip files."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contents:
    """What a zip file holds by its directory.

    Parameters
    ----------
    numbers : list of [int, int]
        First and last of each range of numbers that its members are called after, ascending; a number that
        two have is in two of them.
    others : list of str
        Some names that are no numbers.
    faults : list of str
        Why it cannot be what its writer made.
    oddities : list of str
        What does not belong into it, but harms nothing.
    """

    numbers: list[list[int]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Inventory:
    """What a dataset holds: files with their sizes in bytes, folders, and what its zip files hold.

    `leftovers` are files that are no part of it, see `caxflow.files.listing.is_leftover`.
    """

    files: dict[str, int]
    directories: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    zips: dict[str, Contents] = field(default_factory=dict)
