"""Interactions: pairs of an S1 and an S2 that may come from one place (pax's ``BuildInteractions``)."""

from dataclasses import dataclass

import numpy as np

from caxflow.mini.classify import TYPES
from caxflow.mini.parameters import Parameters
from caxflow.mini.peaks import Peaks
from caxflow.rawdata.detectors import DRIFT_TIME_GATE
from caxflow.rawdata.rawformat import SAMPLE_DURATION

N_S1 = 3
N_S2 = 5
MIN_S2_AREA = 70.0  # pe; smaller ones are single electrons


@dataclass(slots=True)
class Interactions:
    """Pairs, the event's best first; every array has one entry a pair.

    Parameters
    ----------
    event : int64
        Index of the event in the batch.
    s1, s2 : int64
        Indices into the event's peaks.
    drift_time : float64
        Between the highest samples of the two, in ns.
    x, y, z : float64
        In cm; z is negative, 0 at the gate.
    s2_lifetime_correction : float64
        Factor for the electrons that were lost on their way.
    s1_area_correction, s2_area_correction : float64
        Factors for the areas: none here for the S1, that of the lifetime for the S2.
    """

    event: np.ndarray
    s1: np.ndarray
    s2: np.ndarray
    drift_time: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    s2_lifetime_correction: np.ndarray
    s1_area_correction: np.ndarray
    s2_area_correction: np.ndarray


def ranked(peaks: Peaks, types: np.ndarray, kind: str) -> np.ndarray:
    """Indices (in the batch) of the peaks of a type, by event and the best first.

    S1s by coincidence, then area; S2s by area.
    """
    which = np.flatnonzero(types == TYPES[kind])
    keys = [-peaks.area[which]] + ([-peaks.tight_coincidence[which]] if kind == "s1" else [])
    return which[np.lexsort((*keys, peaks.event[which]))]


def pair(peaks: Peaks, s1s: np.ndarray, s2s: np.ndarray, parameters: Parameters, n_events: int):
    """Pair the best S1s and S2s of each event where the S2 comes later.

    Parameters
    ----------
    peaks : Peaks
    s1s, s2s : numpy.ndarray of int64
        As `ranked` gives them.

    Returns
    -------
    Interactions
        By event; in it the best S2 first with each S1.
    """
    first_peak = np.searchsorted(peaks.event, np.arange(n_events))
    s1s = _best(s1s, peaks, N_S1)
    s2s = _best(s2s[peaks.area[s2s] >= MIN_S2_AREA], peaks, N_S2)
    count = np.bincount(peaks.event[s1s], minlength=n_events)
    start = np.cumsum(count) - count
    partners = count[peaks.event[s2s]]
    s2 = np.repeat(s2s, partners)
    within = np.arange(len(s2)) - np.repeat(np.cumsum(partners) - partners, partners)
    s1 = s1s[start[peaks.event[s2]] + within]
    drift = (peaks.index_of_maximum[s2] - peaks.index_of_maximum[s1]) * float(SAMPLE_DURATION)
    s1, s2, drift = s1[drift >= 0], s2[drift >= 0], drift[drift >= 0]
    event = peaks.event[s2]
    lifetime = np.exp(drift / parameters.electron_lifetime)
    return Interactions(
        event=event,
        s1=s1 - first_peak[event],
        s2=s2 - first_peak[event],
        drift_time=drift,
        x=peaks.x[s2],
        y=peaks.y[s2],
        z=-parameters.drift_velocity * (drift - DRIFT_TIME_GATE),
        s2_lifetime_correction=lifetime,
        s1_area_correction=np.ones(len(drift)),
        s2_area_correction=lifetime,
    )


def _best(indices: np.ndarray, peaks: Peaks, n: int) -> np.ndarray:
    """The first `n` of each event."""
    event = peaks.event[indices]
    rank = np.arange(len(event)) - np.searchsorted(event, event)
    return indices[rank < n]
