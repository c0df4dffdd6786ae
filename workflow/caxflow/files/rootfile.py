"""Is a processed file whole? A ROOT file that was cut still opens, and reports every entry.

So everything is read: each branch that is numbers or lists of numbers through its type, any other (strings
and objects, which uproot does not always understand) as decompressed baskets, whose entries must add up.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from caxflow.errors import CaxflowError
from caxflow.files import unpacking

TREE = "tree"
METADATA = "pax_metadata"
_CHUNK_BYTES = 32_000_000
_MOST_EVENTS = 20_000_000  # of a run; ten times those of the longest
_MEND = "process the run again; if it was copied, compare it with its manifest first"


def check_root(
    path: str | Path,
    *,
    events_built: int | None = None,
    event_numbers: Sequence[int] | None = None,
    tree: str = TREE,
) -> int:
    """Read a processed file in full and compare it with what it should hold; memory is bounded.

    Parameters
    ----------
    path : path
        A file that pax or the embedded processor wrote.
    events_built : int, optional
        ``trigger.events_built`` of the run document.
    event_numbers : sequence of int, optional
        Numbers of the events in the raw zips, ascending.
    tree : str
        Name of the TTree.

    Returns
    -------
    int
        Number of events.

    Raises
    ------
    CaxflowError
        Names what is wrong.
    """
    path = Path(path)
    with opened(path) as file:
        _check_end(path, file)
        if tree not in file:
            raise CaxflowError(f"{path.name} has no tree {tree!r}", _MEND)
        tree_object = file[tree]
        entries = int(tree_object.num_entries)
        if events_built is not None and entries != events_built:
            raise CaxflowError(f"{path.name} has {entries} events, the trigger built {events_built}", _MEND)
        numbers = numbers_of(path, tree_object)
        _check_numbers(path, numbers, event_numbers)
        for branch in tree_object.itervalues(recursive=True):
            _check_branch(path, branch, entries)
    return entries


def read_metadata(path: str | Path) -> dict:
    """What the processor wrote about itself and its settings: pax's and the embedded one's ``pax_metadata``.

    Raises
    ------
    CaxflowError
        If there is none, or it is not JSON.
    """
    path = Path(path)
    with opened(path) as file:
        if METADATA not in file:
            raise CaxflowError(f"{path.name} does not say how it was made (no {METADATA})", _MEND)
        text = str(file[METADATA].member("fTitle"))
    try:
        metadata = json.loads(text)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        raise CaxflowError(f"{path.name}: its {METADATA} is not JSON", _MEND)
    return metadata


@contextmanager
def opened(path: str | Path) -> Iterator:
    """Open a ROOT file; whatever uproot trips over in it becomes one clear error."""
    import uproot

    path = Path(path)
    unpacking.bound()
    try:
        with uproot.open(path) as file:
            yield file
    except CaxflowError:
        raise
    except FileNotFoundError:
        raise CaxflowError(f"{path} does not exist", "process the run first") from None
    except PermissionError as error:
        raise CaxflowError(f"{path}: {error.strerror}", "check its permissions") from None
    except Exception as error:  # damaged bytes make uproot raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CaxflowError(f"{path.name} is damaged: {reason:.200}", _MEND) from None


def _check_end(path: Path, file) -> None:
    size, end = path.stat().st_size, int(file.file.fEND)
    if end != size:
        state = "was cut" if size < end else "has grown"
        raise CaxflowError(f"{path.name} {state}: {size} bytes, its header says {end}", _MEND)


def numbers_of(path: Path, tree):
    """Return the numbers of the events in a tree of a file that is open."""
    branches = [
        branch
        for branch in tree.itervalues(recursive=True)
        if branch.name.rsplit(".", 1)[-1] == "event_number"
    ]
    if not branches:
        raise CaxflowError(f"{path.name} has no event numbers", _MEND)
    if branches[0].num_entries > _MOST_EVENTS:
        raise CaxflowError(f"{path.name} says that it has {branches[0].num_entries} events", _MEND)
    return branches[0].array(library="np")


def _check_numbers(path: Path, numbers, expected) -> None:
    import numpy as np

    bad = np.flatnonzero(np.diff(numbers) <= 0)
    if len(bad):
        before, after = numbers[bad[0]], numbers[bad[0] + 1]
        raise CaxflowError(f"{path.name}: event {after} follows event {before}", _MEND)
    if expected is None:
        return
    expected = np.asarray(expected)
    if np.array_equal(numbers, expected):
        return
    missing, surplus = np.setdiff1d(expected, numbers), np.setdiff1d(numbers, expected)
    parts = [
        f"{len(some)} {text}, the first {some[0]}"
        for some, text in ((missing, "events are missing"), (surplus, "are not in the raw data"))
        if len(some)
    ]
    raise CaxflowError(f"{path.name}: {'; '.join(parts) or 'its events are out of order'}", _MEND)


def _check_branch(path: Path, branch, entries: int) -> None:
    """Read one branch in full."""
    if not branch.num_baskets and branch.branches:
        return  # only a name for the branches below it
    if int(branch.num_entries) != entries:
        raise CaxflowError(
            f"{path.name}: branch {branch.name} has {branch.num_entries} of {entries} entries", _MEND
        )
    try:
        if is_numbers(branch):
            for start, stop in steps([branch], entries, _CHUNK_BYTES):
                branch.array(entry_start=start, entry_stop=stop, library="ak")
        else:
            _read_baskets(branch, entries)
    except Exception as error:  # damaged bytes make uproot raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CaxflowError(
            f"{path.name}: branch {branch.name} cannot be read: {reason:.200}", _MEND
        ) from None


def is_numbers(branch) -> bool:
    """Return whether a branch holds a number, an array or a list of them for each event, and nothing else."""
    from uproot.interpretation.jagged import AsJagged
    from uproot.interpretation.numerical import AsDtype

    kind = branch.interpretation
    content = kind.content if type(kind) is AsJagged else kind
    return type(content) is AsDtype  # its subclass for objects guesses their layout, sometimes wrongly


def steps(branches: Iterable, entries: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield first entries, and those behind the last, of pieces whose baskets have about that many bytes.

    The baskets themselves are asked: what a branch says of its size may be anything.
    """
    import numpy as np

    known = []
    for branch in branches:
        sizes = [branch.basket_uncompressed_bytes(number) for number in range(branch.num_baskets)]
        offsets = np.clip(np.maximum.accumulate(branch.entry_offsets[: len(sizes) + 1]), 0, entries)
        known.append((offsets, np.concatenate([[0], np.cumsum(sizes)])))
    edges = np.unique(np.concatenate([[0, entries], *(offsets for offsets, _ in known)]))
    so_far = sum(np.interp(edges, offsets, bytes_) for offsets, bytes_ in known)
    inner = np.interp(np.arange(size, so_far[-1], size), so_far, edges)
    ends = np.unique(np.concatenate([[0, entries], np.ceil(inner)]).astype(np.int64)).tolist()
    return pairwise(ends)


def _read_baskets(branch, entries: int) -> None:
    read = sum(int(branch.basket(i).num_entries) for i in range(branch.num_baskets))
    if read != entries:
        raise ValueError(f"its baskets have {read} of {entries} entries")
