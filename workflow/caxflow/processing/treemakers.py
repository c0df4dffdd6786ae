"""The embedded treemakers: hax's ``Basics`` and ``Fundamentals``, with its names and meanings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow.errors import CaxflowError
from caxflow.processing import branches
from caxflow.processing.branches import Branch

if TYPE_CHECKING:
    import awkward as ak
    import numpy as np

    Events = Mapping[str, ak.Array]

_TYPES = ("s1", "s2", "lone_hit", "unknown", "coincidence")
_DETECTORS = ("tpc", "veto")
_EVENT_NUMBER = Branch("event_number", lists=False, whole=True)
_TYPE = Branch("peaks.type", words=_TYPES)
_DETECTOR = Branch("peaks.detector", words=_DETECTORS)
_DECILES = Branch("peaks.range_area_decile", size=11)
_WIDTH = Branch("peaks.range_50p_area")


@dataclass(frozen=True)
class Treemaker:
    """How an embedded minitree is made.

    Parameters
    ----------
    version : str
        That of hax's definition that it follows.
    branches : tuple of Branch
        What it needs of any tree, beside the number of the event.
    compute : callable
        From the branches of some events to the minitree's columns.
    native, embedded : tuple of Branch
        What it needs besides of pax's tree, and of that of the embedded processor.
    """

    version: str
    branches: tuple[Branch, ...]
    compute: "Callable[[Events], Mapping[str, np.ndarray]]"
    native: tuple[Branch, ...] = ()
    embedded: tuple[Branch, ...] = ()


def rows(treemaker: str, processed: Path, number: int) -> "Iterator[dict[str, np.ndarray]]":
    """Make the rows of a minitree from a processed file, some events at a time.

    Parameters
    ----------
    treemaker : str
        One of `EMBEDDED`.
    processed : path
    number : int
        Number of the run.

    Yields
    ------
    dict
        Columns; the first is the number of the row, as in hax's own files.

    Raises
    ------
    CaxflowError
        If the file does not have what the treemaker needs.
    """
    import numpy as np

    recipe = EMBEDDED[treemaker]
    own = recipe.native if branches.is_native(processed) else recipe.embedded
    done = 0
    for events in branches.read(processed, (_EVENT_NUMBER, *recipe.branches, *own), treemaker):
        event_number = np.asarray(events["event_number"]).astype(np.int64)
        try:
            computed = recipe.compute(events)
        except CaxflowError as error:
            raise CaxflowError(f"{processed}: {error.what}", error.mend) from error
        yield {
            "index": np.arange(done, done + len(event_number)),
            "run_number": np.full(len(event_number), number, np.int64),
            "event_number": event_number,
            **computed,
        }
        done += len(event_number)


def _fundamentals(events: "Events") -> dict[str, "np.ndarray"]:
    import numpy as np

    start, stop = (np.asarray(events[name]).astype(np.int64) for name in ("start_time", "stop_time"))
    return {"event_time": start, "event_duration": stop - start}


def _basics(events: "Events") -> dict[str, "np.ndarray"]:
    """Properties of the main interaction (the first) and of the largest peaks outside it."""
    import awkward as ak
    import numpy as np

    area, types = events["peaks.area"], events["peaks.type"]
    # The embedded processor finds peaks in the detector alone that the run is of.
    detector = events.get("peaks.detector", ak.zeros_like(types))
    is_tpc, is_veto = (detector == _DETECTORS.index(name) for name in _DETECTORS)
    s1, s2 = (_main(events, name) for name in ("interactions.s1", "interactions.s2"))
    places = ak.local_index(area)
    other = ~_among(places, s1) & ~_among(places, s2) & (area > 0)

    def of(name: str, index: "ak.Array") -> "np.ndarray":
        return _first(events[name][index])

    def width(index: "ak.Array") -> "np.ndarray":
        deciles = events.get("peaks.range_area_decile")
        return of("peaks.range_50p_area", index) if deciles is None else _first(deciles[..., 5][index])

    def largest(mask: "ak.Array") -> "np.ndarray":
        return np.asarray(ak.fill_none(ak.max(area[mask & other], axis=1), 0.0), np.float64)

    def largest_of(kind: str) -> "np.ndarray":
        return largest(is_tpc & (types == _TYPES.index(kind)))

    return {
        "s1": of("peaks.area", s1),
        "s2": of("peaks.area", s2),
        "s1_area_fraction_top": of("peaks.area_fraction_top", s1),
        "s2_area_fraction_top": of("peaks.area_fraction_top", s2),
        "s1_range_50p_area": width(s1),
        "s2_range_50p_area": width(s2),
        "x_pax": _first(events["interactions.x"]),
        "y_pax": _first(events["interactions.y"]),
        "z": _first(events["interactions.z"]),
        "drift_time": _first(events["interactions.drift_time"]),
        "largest_other_s1": largest_of("s1"),
        "largest_other_s2": largest_of("s2"),
        "largest_veto": largest(is_veto & (types != _TYPES.index("lone_hit"))),
        "largest_unknown": largest_of("unknown"),
        "largest_coincidence": largest_of("coincidence"),
    }


def _main(events: "Events", name: str) -> "ak.Array":
    """Which peak is the S1, or S2, of each event's main interaction: a list of one, or of none."""
    import awkward as ak
    import numpy as np

    main = events[name][:, :1]
    peaks = ak.num(events["peaks.area"])
    wrong = np.flatnonzero(ak.any((main < 0) | (main >= peaks), axis=1))
    if len(wrong):
        at = wrong[0]
        raise CaxflowError(
            f"{name} of event {events['event_number'][at]} is {main[at, 0]}, of {peaks[at]} peaks",
            "process the run again",
        )
    return main


def _first(lists: "ak.Array") -> "np.ndarray":
    """First entry of each event as float64, NaN where there is none."""
    import awkward as ak
    import numpy as np

    return np.asarray(ak.fill_none(ak.firsts(lists), np.nan), np.float64)


def _among(places: "ak.Array", indices: "ak.Array") -> "ak.Array":
    """Whether each peak's place is one of the event's `indices`."""
    import awkward as ak

    return ak.any(places[:, :, None] == indices[:, None, :], axis=-1)


EMBEDDED: dict[str, Treemaker] = {
    "Basics": Treemaker(
        "0.3",
        (
            *(Branch(f"interactions.{name}", whole=True) for name in ("s1", "s2")),
            *(Branch(f"interactions.{name}") for name in ("x", "y", "z", "drift_time")),
            Branch("peaks.area"),
            Branch("peaks.area_fraction_top"),
            _TYPE,
        ),
        _basics,
        native=(_DETECTOR, _DECILES),
        embedded=(_WIDTH,),
    ),
    "Fundamentals": Treemaker(
        "0.1",
        tuple(Branch(name, lists=False, whole=True) for name in ("start_time", "stop_time")),
        _fundamentals,
    ),
}
