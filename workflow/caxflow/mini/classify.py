"""What a peak is: pax's ad hoc classification of XENON1T (``ClassifyPeaks.AdHocClassification1T``)."""

import numpy as np

from caxflow.mini.clusters import MIN_S2_CHANNELS, looks_like_s1
from caxflow.mini.peaks import Peaks

TYPES = {"unknown": 0, "s1": 1, "s2": 2, "lone_hit": 3}
MIN_S1_CHANNELS = 2


def classify(peaks: Peaks, kind: str) -> np.ndarray:
    """Tell each peak's type.

    Parameters
    ----------
    peaks : Peaks
    kind : str
        S1 and S2 exist in ``"tpc"`` runs only.

    Returns
    -------
    numpy.ndarray of int64, shape (peaks,)
        Values of `TYPES`.
    """
    types = np.full(len(peaks), TYPES["unknown"])
    if kind == "tpc":
        fast = looks_like_s1(peaks.rise_time, peaks.range_90p_area)
        types[fast & (peaks.tight_coincidence >= MIN_S1_CHANNELS)] = TYPES["s1"]
        types[~fast & (peaks.n_contributing_channels >= MIN_S2_CHANNELS)] = TYPES["s2"]
    types[peaks.n_contributing_channels == 1] = TYPES["lone_hit"]
    return types
