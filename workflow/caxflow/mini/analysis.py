"""From raw events to the columns of the output tree, a batch at a time."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from caxflow.mini.classify import classify
from caxflow.mini.hits import find_hits, joined
from caxflow.mini.interactions import Interactions, pair, ranked
from caxflow.mini.parameters import Parameters
from caxflow.mini.peaks import Peaks, find_peaks
from caxflow.rawdata.detectors import TUBES
from caxflow.rawdata.rawformat import Event

# Types of the tree's columns: one value an event, and lists of values. Names that pax has are of pax's types.
EVENT_COLUMNS = {
    "event_number": "int32",
    "start_time": "int64",
    "stop_time": "int64",
    "sample_duration": "int32",
    "n_channels": "int32",
    "n_pulses": "int32",
    "n_hits": "int32",
}
PEAK_COLUMNS = {
    "area": "float32",
    "area_fraction_top": "float32",
    "hits_fraction_top": "float32",
    "left": "int32",
    "right": "int32",
    "index_of_maximum": "int32",
    "height": "float32",
    "n_hits": "int32",
    "n_contributing_channels": "int32",
    "n_contributing_channels_top": "int32",
    "tight_coincidence": "int32",
    "n_saturated_channels": "int32",
    "n_saturated_samples": "int32",
    "largest_hit_area": "float32",
    "largest_hit_channel": "int32",
    "lone_hit_channel": "int32",
    "center_time": "float32",
    "area_midpoint": "float32",
    "hit_time_mean": "float32",
    "hit_time_std": "float32",
    # Not pax's: it has them in arrays, places by algorithm, and types as text.
    "rise_time": "float32",
    "range_50p_area": "float32",
    "range_90p_area": "float32",
    "x": "float32",
    "y": "float32",
    "type": "int16",
}
INTERACTION_COLUMNS = {
    "s1": "int32",
    "s2": "int32",
    "drift_time": "float32",
    "x": "float32",
    "y": "float32",
    "z": "float32",
    "s2_lifetime_correction": "float32",
    "s1_area_correction": "float32",
    "s2_area_correction": "float32",
}

# Enough for numpy to work in long strides, small enough for a core's cache and for any machine's memory.
_BATCH_SAMPLES = 400_000
_BATCH_EVENTS = 64

Columns = dict[str, dict[str, np.ndarray]]


def analyse(events: Iterable[Event], parameters: Parameters) -> Iterator[Columns]:
    """Process events in order; memory is that of one batch.

    Yields
    ------
    dict
        ``"events"``: columns with one entry an event. ``"peaks"``, ``"interactions"``, ``"s1s"``, ``"s2s"``:
        columns one after another for all events, with ``"count"``, the number that belongs to each event.
    """
    for batch in _batches(events):
        yield _analyse_batch(batch, parameters)


def _batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    batch, size = [], 0
    for event in events:
        batch.append(event)
        size += len(event.samples)
        if size >= _BATCH_SAMPLES or len(batch) >= _BATCH_EVENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _analyse_batch(events: Sequence[Event], parameters: Parameters) -> Columns:
    n_events = len(events)
    if parameters.kind == "muon_veto":
        events = [joined(event) for event in events]
    hits, noise = find_hits(events, parameters.photoelectrons, desaturated=parameters.kind == "tpc")
    n_hits = np.bincount(hits.event, minlength=n_events)
    tubes = TUBES["muon_veto" if parameters.kind == "muon_veto" else "tpc"]
    peaks = find_peaks(hits.take(hits.channel < tubes), noise, parameters.kind)
    types = classify(peaks, parameters.kind)
    s1s, s2s = ranked(peaks, types, "s1"), ranked(peaks, types, "s2")
    first_peak = np.searchsorted(peaks.event, np.arange(n_events))

    def indices(which: np.ndarray) -> dict[str, np.ndarray]:
        event = peaks.event[which]
        return {"count": _count(event, n_events), "": (which - first_peak[event]).astype("int32")}

    return {
        "events": {
            name: n_hits.astype(kind)
            if name == "n_hits"
            else np.array([getattr(event, name) for event in events], kind)
            for name, kind in EVENT_COLUMNS.items()
        },
        "peaks": _columns(peaks, PEAK_COLUMNS, n_events, type=types),
        "interactions": _columns(pair(peaks, s1s, s2s, parameters, n_events), INTERACTION_COLUMNS, n_events),
        "s1s": indices(s1s),
        "s2s": indices(s2s),
    }


def _columns(table: Peaks | Interactions, types: dict[str, str], n_events: int, **others) -> dict:
    columns = {
        name: (others[name] if name in others else getattr(table, name)).astype(kind)
        for name, kind in types.items()
    }
    return {"count": _count(table.event, n_events)} | columns


def _count(event: np.ndarray, n_events: int) -> np.ndarray:
    return np.bincount(event, minlength=n_events).astype("int64")
