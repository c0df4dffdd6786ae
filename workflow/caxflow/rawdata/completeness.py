"""Is a raw dataset what it should be, and nothing else? Told from what it holds, without reading an event.

cax counted files and believed a run that had lost a zip; here every event must be where the names of the zips
and the number of events that the trigger built say it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from caxflow.errors import CaxflowError
from caxflow.files.contents import Contents, Inventory
from caxflow.files.listing import printable
from caxflow.rawdata.rawformat import SIDE_FILES, TEMPORARY_ZIP, TRIGGER_ZIP, ZipName

_MAY_BE_EMPTY = "eventbuilder.log"
_OTHER = "is no file of a raw dataset"


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a raw dataset, in words; nothing is if all are empty.

    Parameters
    ----------
    damage : tuple of str
        What is missing, doubled or cannot be read: evidence against the dataset.
    unclear : tuple of str
        What cannot be judged, as the run document is odd.
    foreign : tuple of str
        What does not belong there, but harms nothing.
    building : str
        Why the event builder is, or seems to be, still writing: only time can tell whether it crashed.
    """

    damage: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    building: str = ""


def judge_raw(found: Inventory, *, detector: str, number: int | None, events_built: int | None) -> Verdict:
    """Say what is wrong with a raw dataset.

    Parameters
    ----------
    found : Inventory
        What it holds.
    detector : str
        ``"tpc"`` or ``"muon_veto"``.
    number : int or None
        The run's number, if known; the muon veto's zips always say 0.
    events_built : int or None
        ``trigger.events_built`` of the run document, if that can be read.
    """
    if not found.files and not found.directories:
        return Verdict(building="there are no files in it")
    names = _zip_names(found.files)
    side, own = SIDE_FILES[detector], {TEMPORARY_ZIP, *SIDE_FILES[detector], *names}
    damage = [f"{name} is missing" for name in side if name not in found.files]
    damage += [
        f"{name} is empty"
        for name in sorted(own & found.files.keys())
        if not found.files[name] and name not in (_MAY_BE_EMPTY, TEMPORARY_ZIP)
    ]
    foreign = [f"{printable(path)} {_OTHER}" for path in sorted(found.files.keys() - own)]
    foreign += [f"{printable(path)} is a folder" for path in sorted(found.directories)]
    for name in sorted(own & found.files.keys()):
        if found.files[name] and name.endswith(".zip") and name != TEMPORARY_ZIP:
            contents = found.zips.get(name, Contents(faults=["was not looked into"]))
            damage += [f"{name} {fault}" for fault in contents.faults]
            foreign += [f"{name} {oddity}" for oddity in contents.oddities]
            damage += _check_members(name, names[name], contents) if name in names else []
    damage += _check_ranges(names)
    wrong, unclear = _check_document(names, 0 if detector == "muon_veto" else number, events_built)
    there = TEMPORARY_ZIP in found.files
    building = f"{TEMPORARY_ZIP} is there, which the event builder writes into" if there else ""
    return Verdict(tuple(damage + wrong), tuple(unclear), tuple(foreign), building)


def _zip_names(files: Mapping[str, int]) -> dict[str, ZipName]:
    """Return what the names of zips of events say, by name, in the order of their events."""
    found = {}
    for file in files:
        if file not in (TEMPORARY_ZIP, TRIGGER_ZIP):
            try:
                found[file] = ZipName.parse(file)
            except CaxflowError:
                continue
    return dict(sorted(found.items(), key=lambda item: item[1].order))


def _check_members(file: str, name: ZipName, contents: Contents) -> list[str]:
    if contents.faults:
        return []
    problems = [f"{file} holds {other}, which is no event's number" for other in contents.others]
    expected = name.first
    for first, last in contents.numbers:
        if first > expected <= name.last:
            problems.append(f"{file} lacks {_events(expected, min(first - 1, name.last))}")
        if first < name.first or last > name.last:
            outside = first if first < name.first or first > name.last else name.last + 1
            problems.append(f"{file} holds event {outside}, which is none of its own")
        elif first < expected:
            problems.append(f"{file} holds event {first} twice")
        expected = max(expected, last + 1)
    if expected <= name.last:
        problems.append(f"{file} lacks {_events(expected, name.last)}")
    return problems


def _check_ranges(names: Mapping[str, ZipName]) -> list[str]:
    problems, expected, before = [], 0, ""
    for file, name in names.items():
        length = name.last - name.first + 1
        if length < 1 or name.count not in (None, length):
            count = f"{name.count} events" if name.count is not None else "events"
            problems.append(f"{file} says {count} in a range of {length}")
        if name.first > expected:
            problems.append(f"no zip has {_events(expected, name.first - 1)}")
        elif name.first < expected:
            repeated = _events(name.first, min(name.last, expected - 1))
            problems.append(f"{file} repeats {repeated}, which {before} has")
        if name.last >= expected:
            expected, before = name.last + 1, file
    return problems


def _check_document(
    names: Mapping[str, ZipName], number: int | None, events_built: int | None
) -> tuple[list[str], list[str]]:
    """Compare with the run document: what is wrong with the dataset, and what with the document."""
    damage, unclear = [], []
    numbers = sorted({name.number for name in names.values()})
    if len(numbers) > 1:
        damage.append(f"its zips belong to runs number {' and '.join(map(str, numbers[:5]))}")
    elif numbers and number not in (None, numbers[0]):
        unclear.append(f"its zips belong to run number {numbers[0]}, the run document says {number}")
    total = _distinct(names)
    if events_built is None:
        unclear.append("the run document does not say how many events were built")
    elif total < events_built:
        zips = f"the zips have {total} events" if names else "there are no zips of events"
        damage.append(f"{zips}, the trigger built {events_built}")
    elif total > events_built:
        unclear.append(f"the zips have {total} events, by the run document the trigger built {events_built}")
    return damage, unclear


def _distinct(names: Mapping[str, ZipName]) -> int:
    total = end = 0
    for name in names.values():
        total += max(0, name.last + 1 - max(name.first, end))
        end = max(end, name.last + 1)
    return total


def _events(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"
