"""Is a raw dataset whole? Told from its listing and its zips' central directories, without reading an event.

cax counted files and believed a run that had lost a zip; here every zip must be where the names of the others
and the number of events that the trigger built say it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from caxflow.errors import CaxflowError
from caxflow.rawdata.rawformat import SIDE_FILES, TEMPORARY_ZIP, TRIGGER_ZIP, ZipName


@dataclass(frozen=True)
class Verdict:
    """What a listing says about a raw dataset.

    Parameters
    ----------
    state : str
        ``"complete"``; ``"building"``: the event builder is, or seems to be, still writing; ``"broken"``.
    problems : tuple of str
        Why it is not complete, in words; empty if it is.
    """

    state: str
    problems: tuple[str, ...] = ()


def judge_raw(
    files: Mapping[str, int],
    zip_members: Mapping[str, int | None],
    *,
    detector: str,
    number: int | None,
    events_built: int | None,
) -> Verdict:
    """Tell a complete dataset from one that is still being built and from a broken one.

    Takes the arguments of `check_raw`. A ``temp.zip`` is what the event builder writes into; it also stays
    behind when the builder crashes, which only time can tell.
    """
    problems = tuple(
        check_raw(files, zip_members, detector=detector, number=number, events_built=events_built)
    )
    if not problems:
        return Verdict("complete")
    return Verdict("building" if not files or TEMPORARY_ZIP in files else "broken", problems)


def check_raw(
    files: Mapping[str, int],
    zip_members: Mapping[str, int | None],
    *,
    detector: str,
    number: int | None,
    events_built: int | None,
) -> list[str]:
    """List what is wrong with a raw dataset.

    Parameters
    ----------
    files : mapping
        Name to size in bytes of every file in the dataset's directory.
    zip_members : mapping
        Name to number of members of every zip of events, as `count_members` tells; None if it cannot be read.
    detector : str
        ``"tpc"`` or ``"muon_veto"``.
    number : int or None
        The run's number, if known; the muon veto's zips always say 0.
    events_built : int or None
        ``trigger.events_built`` of the run document.

    Returns
    -------
    list of str
        Problems in words; empty if the dataset is complete.
    """
    if not files:
        return ["there are no files yet"]
    problems = []
    if TEMPORARY_ZIP in files:
        problems.append(f"{TEMPORARY_ZIP} is there: the event builder is still writing, or crashed")
    problems += [f"{name} is missing" for name in SIDE_FILES[detector] if name not in files]
    problems += [
        f"{name} is empty" for name in sorted(files) if files[name] == 0 and name != "eventbuilder.log"
    ]
    names, unknown = _sort_zips(files)
    problems += unknown
    if not names:
        return [*problems, "there are no zips of events"]
    expected_number = 0 if detector == "muon_veto" else number
    for name in names:
        problems += _check_zip(name, zip_members.get(str(name)), expected_number)
    problems += _check_ranges(names)
    problems += _check_total(sum(_count(name, zip_members) for name in names), events_built)
    return problems


def count_members(path) -> int:
    """Count the members of a zip from its central directory; raises OSError or ``zipfile.BadZipFile``."""
    # Plain Python 3.8 that stands alone: its source also runs at sites where nothing is installed.
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return len(archive.infolist())


def _sort_zips(files: Mapping[str, int]) -> tuple[list[ZipName], list[str]]:
    names, problems = [], []
    for file in files:
        if file.endswith(".zip") and file not in (TEMPORARY_ZIP, TRIGGER_ZIP):
            try:
                names.append(ZipName.parse(file))
            except CaxflowError as error:
                problems.append(error.what)
    return sorted(names), sorted(problems)


def _check_zip(name: ZipName, members: int | None, number: int | None) -> list[str]:
    problems = []
    if number is not None and name.number != number:
        problems.append(f"{name} belongs to run number {name.number}, not {number}")
    length = name.last - name.first + 1
    if name.count is not None and name.count != length:
        problems.append(f"{name} says {name.count} events in a range of {length}")
    expected = length if name.count is None else name.count
    if members is None:
        problems.append(f"{name} cannot be read as a zip")
    elif members != expected:
        problems.append(f"{name} holds {members} events instead of {expected}")
    return problems


def _check_ranges(names: list[ZipName]) -> list[str]:
    problems, expected = [], 0
    for name in names:
        if name.first > expected:
            problems.append(f"events {expected} to {name.first - 1} are missing (no zip has them)")
        elif name.first < expected:
            problems.append(f"{name} repeats events before {expected}")
        expected = max(expected, name.last + 1)
    return problems


def _check_total(total: int, events_built: int | None) -> list[str]:
    if events_built is None:
        return ["the run document does not say how many events were built"]
    if total != events_built:
        return [f"the zips have {total} events, the trigger built {events_built}"]
    return []


def _count(name: ZipName, zip_members: Mapping[str, int | None]) -> int:
    if name.count is not None:
        return name.count
    return zip_members.get(str(name)) or 0
