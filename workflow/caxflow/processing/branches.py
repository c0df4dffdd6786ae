"""Branches of a processed tree, as pax and the embedded processor write them: found by name, checked, read.

pax's native tree has the size of a fixed array in its branch's name (``peaks.range_area_decile[11]``), and
ROOT's strings for texts; uproot reads only the first one of each event. The embedded processor writes numbers
in their place, and says in its metadata what they stand for.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow.errors import CaxflowError
from caxflow.files import rootfile

if TYPE_CHECKING:
    import awkward as ak

# The key of the metadata with names and numbers of the types, for a tree that has numbers.
_TYPES_KEY = "peak_types"

_SIZES = re.compile(r"(\[\d+\])+$")
_CHUNK_BYTES = 20_000_000
_TEXTS = ("TString", "TString[]")
# Below it, a byte of a text's branch is a length, from it on a character.
_FIRST_CHARACTER = 32


@dataclass(frozen=True)
class Branch:
    """A branch that something is made of.

    Parameters
    ----------
    name : str
        As in pax's tree, without sizes.
    lists : bool
        A list for each event, else one number.
    size : int
        How many numbers an item of it is; 0 if it is one number and no array.
    whole : bool
        Integers alone.
    words : tuple of str
        It is texts: they are read as indices into these, all others as -1.
    """

    name: str
    lists: bool = True
    size: int = 0
    whole: bool = False
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}[{self.size}]" if self.size else self.name

    def meant(self) -> str:
        """Say what it has to hold."""
        item = "text" if self.words else "integer" if self.whole else "number"
        if self.size:
            item = f"array of {self.size} {item}s"
        return f"a list of {item}s for each event" if self.lists else f"one {item} for each event"


def is_native(path: str | Path) -> bool:
    """Whether a processed file has pax's own tree, and not the flat one of the embedded processor."""
    return _TYPES_KEY not in rootfile.read_metadata(path)


def read(path: str | Path, branches: Sequence[Branch], what: str) -> Iterator[dict[str, "ak.Array"]]:
    """Read branches of a processed tree, some events at a time.

    Parameters
    ----------
    path : path
    branches : sequence of Branch
    what : str
        What is made of them, for messages.

    Yields
    ------
    dict
        Awkward arrays by `Branch.name`.

    Raises
    ------
    CaxflowError
        If there is no such branch, or it does not hold what is meant: naming it, the file and `what`.
    """
    metadata = rootfile.read_metadata(path)
    with rootfile.opened(path) as file:
        tree = file[rootfile.TREE]
        found = _find(path, tree, branches, what, metadata)
        readers = [_reader(path, branch, found[branch.name], what, metadata) for branch in branches]
        for start, stop in rootfile.steps(found.values(), int(tree.num_entries), _CHUNK_BYTES):
            events = {
                branch.name: reader(start, stop) for branch, reader in zip(branches, readers, strict=True)
            }
            _check_counts(path, events)
            yield events


def _find(path, tree, branches: Sequence[Branch], what: str, metadata: Mapping) -> dict:
    there = {_SIZES.sub("", each.name): each for each in tree.itervalues(recursive=True)}
    if missing := [branch for branch in branches if branch.name not in there]:
        names = ", ".join(map(str, missing))
        made_by = f"{metadata.get('file_builder_name')} {metadata.get('file_builder_version')}"
        raise CaxflowError(
            f"{path}, written by {made_by}, has no branch {names}: {what} cannot be made of it",
            f"process the run with a version that writes {'them' if len(missing) > 1 else 'it'}, "
            f"or take {what} out of minitrees.make",
        )
    return {branch.name: there[branch.name] for branch in branches}


def _reader(path, branch: Branch, found, what: str, metadata: Mapping):
    """Choose how a branch is read, by what it holds."""
    from uproot.interpretation.jagged import AsJagged
    from uproot.interpretation.numerical import AsDtype

    kind = found.interpretation
    content = kind.content if type(kind) is AsJagged else kind
    numbers = type(content) is AsDtype and content.to_dtype.base.kind in "iuf"
    if branch.words and found.typename in _TEXTS:
        as_bytes = AsJagged(AsDtype("u1"))

        def read_it(start: int, stop: int) -> "ak.Array":
            return _coded(_array(path, found, start, stop, as_bytes), branch, path)

    elif numbers and _fits(branch, type(kind) is AsJagged, content):
        codes = _codes(path, branch, metadata) if branch.words else None

        def read_it(start: int, stop: int) -> "ak.Array":
            values = _array(path, found, start, stop)
            return _translated(values, codes) if codes else values

    else:
        raise CaxflowError(
            f"{path}: branch {found.name} holds {found.typename}; {what} is made of {branch.meant()}",
            "process the run with a version that writes it so",
        )
    return read_it


def _fits(branch: Branch, lists: bool, content) -> bool:
    shape = content.to_dtype.shape
    return (
        lists == branch.lists
        and shape == ((branch.size,) if branch.size else ())
        and (content.to_dtype.base.kind != "f" or not (branch.whole or branch.words))
    )


def _array(path, found, start: int, stop: int, interpretation=None) -> "ak.Array":
    try:
        return found.array(interpretation, entry_start=start, entry_stop=stop, library="ak")
    except Exception as error:  # damaged bytes make uproot raise anything
        raise _unreadable(path, found.name, str(error).strip() or type(error).__name__) from None


def _unreadable(path, name: str, reason: str) -> CaxflowError:
    return CaxflowError(
        f"{path}: branch {name} cannot be read: {reason.splitlines()[0]:.200}",
        "verify the file, or process the run again",
    )


def _coded(raw: "ak.Array", branch: Branch, path) -> "ak.Array":
    """Turn ROOT's strings, each a byte with its length and its characters, into indices of words."""
    import awkward as ak
    import numpy as np

    data = np.asarray(ak.flatten(raw), np.uint8)
    ends = np.cumsum(np.asarray(ak.num(raw), np.int64))
    starts = np.flatnonzero(data < _FIRST_CHARACTER)
    lengths = data[starts].astype(np.int64)
    follow = np.append(starts, len(data))
    # Each begins where the one before ends, the first at the begin, and an event with a text of its own.
    if follow[0] or not np.array_equal(follow[1:], starts + lengths + 1) or not np.isin(ends, follow).all():
        raise _unreadable(path, branch.name, "its bytes are no texts")
    codes = np.full(len(starts), -1, np.int64)
    for code, word in enumerate(branch.words):
        same = np.flatnonzero(lengths == len(word))
        for place, character in enumerate(word.encode()):
            same = same[data[starts[same] + 1 + place] == character]
        codes[same] = code
    return ak.unflatten(codes, np.diff(np.searchsorted(follow, ends), prepend=0))


def _codes(path, branch: Branch, metadata: Mapping) -> dict[int, int]:
    """Which word each number of a branch stands for."""
    known = metadata.get(_TYPES_KEY)
    if not isinstance(known, dict) or not all(type(number) is int for number in known.values()):
        raise CaxflowError(
            f"{path}: branch {branch.name} has numbers, and the metadata do not say by {_TYPES_KEY} "
            "what they stand for",
            "process the run again",
        )
    return {number: branch.words.index(word) for word, number in known.items() if word in branch.words}


def _translated(values: "ak.Array", codes: Mapping[int, int]) -> "ak.Array":
    import awkward as ak
    import numpy as np

    flat = np.asarray(ak.flatten(values))
    result = np.full(len(flat), -1, np.int64)
    for number, code in codes.items():
        result[flat == number] = code
    return ak.unflatten(result, np.asarray(ak.num(values)))


def _check_counts(path, events: Mapping[str, "ak.Array"]) -> None:
    """Lists of one group, as ``peaks``, are of one length in each event."""
    import awkward as ak
    import numpy as np

    groups: dict[str, tuple[str, np.ndarray]] = {}
    for name, values in events.items():
        group, dot, _ = name.partition(".")
        if dot:
            first, count = groups.setdefault(group, (name, np.asarray(ak.num(values))))
            if not np.array_equal(count, np.asarray(ak.num(values))):
                raise _unreadable(path, name, f"its lists are not as long as those of {first}")
