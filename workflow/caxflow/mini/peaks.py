"""Peaks: clusters of hits in time, and their properties.

As in pax 6.11 (``GapSizeClustering``, ``BasicProperties``): hits are clustered at gaps of 350 ns; what then
looks like an S1, or has fewer than 4 tubes, is set apart; the rest is clustered again at gaps of 3.5 us.
"""

from dataclasses import dataclass

import numpy as np

from caxflow.mini.hits import Hits, ranges
from caxflow.rawdata.detectors import TPC_TOP, top_positions
from caxflow.rawdata.rawformat import SAMPLE_DURATION

S1_GAP = 350 // SAMPLE_DURATION
GAP = 3500 // SAMPLE_DURATION
S1_RISE_TIME = 70.0  # ns
S1_WIDTH = 300.0  # ns
MIN_S2_CHANNELS = 4
COINCIDENCE = 50 // SAMPLE_DURATION
OUTLIER = 2.5  # times the mean distance of a tube from the light's centre

_FAR = 1 << 44  # samples between two events on the batch's axis; no event is longer
_FRACTIONS = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])


@dataclass(slots=True)
class Peaks:
    """Peaks of a batch of events, by event and then by time; every array has one entry a peak.

    Parameters
    ----------
    event : int64
        Index of the event in the batch.
    left, right, index_of_maximum : int64
        First, last and highest sample of the sum waveform, counted from the event's start.
    area, height, area_fraction_top : float64
        In pe, pe/sample and as a fraction.
    n_hits, n_contributing_channels, tight_coincidence, n_saturated_channels : int64
        The third: channels with a hit's maximum within 50 ns of the peak's.
    center_time, area_midpoint : float64
        Mean time of the light, and the time until which half of it came, in ns since the event's start.
    rise_time, range_50p_area, range_90p_area : float64
        From 10 % to 50 % of the area; width of the central 50 % and 90 %, in ns.
    x, y : float64
        Where the top array sees it, in cm; NaN if it does not.
    largest_hit_channel : int64
    """

    event: np.ndarray
    left: np.ndarray
    right: np.ndarray
    index_of_maximum: np.ndarray
    area: np.ndarray
    height: np.ndarray
    area_fraction_top: np.ndarray
    n_hits: np.ndarray
    n_contributing_channels: np.ndarray
    tight_coincidence: np.ndarray
    n_saturated_channels: np.ndarray
    center_time: np.ndarray
    area_midpoint: np.ndarray
    rise_time: np.ndarray
    range_50p_area: np.ndarray
    range_90p_area: np.ndarray
    x: np.ndarray
    y: np.ndarray
    largest_hit_channel: np.ndarray

    def __len__(self) -> int:
        return len(self.event)


def looks_like_s1(peaks) -> np.ndarray:
    """Fast rise and small width, by `rise_time` and `range_90p_area`; bool, shape (peaks,)."""
    return (peaks.rise_time < S1_RISE_TIME) & (peaks.range_90p_area < S1_WIDTH)


def find_peaks(hits: Hits) -> Peaks:
    """Cluster the hits of one detector and compute what the clusters look like."""
    axis = hits.event * _FAR + hits.maximum
    # Ties by channel: the result must not depend on the order of the pulses in the file.
    order = np.lexsort((hits.channel, axis))
    hits, axis = hits.take(order), axis[order]
    label = _cluster(axis, S1_GAP)
    fast = _is_fast(hits, label)[label] if len(hits) else np.zeros(0, bool)
    slow = ~fast
    label[slow] = len(axis) + _cluster(axis[slow], GAP)
    order = np.argsort(label, kind="stable")
    hits = hits.take(order)
    _, label = np.unique(label[order], return_inverse=True)
    return _sorted_by_time(_properties(hits, label))


def _cluster(axis: np.ndarray, gap: int) -> np.ndarray:
    """Number the groups of an ascending axis that are more than `gap` free samples apart."""
    new = np.zeros(len(axis), np.int64)
    new[1:] = np.diff(axis) - 1 > gap
    return np.cumsum(new)


def _is_fast(hits: Hits, label: np.ndarray) -> np.ndarray:
    """Which clusters are S1-like or too small to be anything else; labels ascend."""
    first = np.flatnonzero(np.diff(label, prepend=-1))
    few = _count_channels(hits.channel, label, len(first)) < MIN_S2_CHANNELS
    large = ~few[label]
    if not large.any():
        return few
    wave = _SumWaveform(hits.take(large), np.cumsum(np.diff(label[large], prepend=label[large][0]) != 0))
    rise, _, width90 = wave.widths()
    few[np.flatnonzero(~few)] = (rise < S1_RISE_TIME) & (width90 < S1_WIDTH)
    return few


def _count_channels(channel: np.ndarray, label: np.ndarray, n_peaks: int) -> np.ndarray:
    seen = np.unique(label << 16 | channel)
    return np.bincount(seen >> 16, minlength=n_peaks)


class _SumWaveform:
    """Sum of the hits' samples for each peak, one peak after another."""

    def __init__(self, hits: Hits, label: np.ndarray):
        first = np.flatnonzero(np.diff(label, prepend=-1))
        self.left = np.minimum.reduceat(hits.left, first)
        self.right = np.maximum.reduceat(hits.right, first)
        self.length = self.right - self.left + 1
        self.start = np.cumsum(self.length) - self.length
        n_samples = hits.right - hits.left + 1
        at = ranges(self.start[label] + hits.left - self.left[label], n_samples)
        light = hits.light[ranges(hits.start, n_samples)]
        self.samples = np.bincount(at, light, minlength=int(self.length.sum()))
        # Undershoot carries no time information, and the cumulated light must not fall.
        self.light = np.maximum(self.samples, 0)
        self.cumulated = np.concatenate([[0.0], np.cumsum(self.light)])

    def area_times(self) -> np.ndarray:
        """Samples from the peak's left until fractions of its light have come; shape (peaks, fractions)."""
        before = self.cumulated[self.start]
        total = self.cumulated[self.start + self.length] - before
        wanted = before[:, None] + total[:, None] * _FRACTIONS
        at = np.searchsorted(self.cumulated, wanted, side="left") - 1
        at = np.clip(at, self.start[:, None], (self.start + self.length - 1)[:, None])
        light = self.light[at]
        part = np.divide(wanted - self.cumulated[at], light, out=np.zeros_like(wanted), where=light > 0)
        return at + part - self.start[:, None]

    def widths(self):
        """Rise time and widths of the central 50 % and 90 % of the area, in ns."""
        t05, t10, t25, t50, t75, _, t95 = (self.area_times() * SAMPLE_DURATION).T
        return t50 - t10, t75 - t25, t95 - t05

    def center(self) -> np.ndarray:
        """Mean sample of the light, from the peak's left."""
        index = np.arange(len(self.light)) - np.repeat(self.start, self.length)
        total = np.add.reduceat(self.light, self.start)
        return np.add.reduceat(self.light * index, self.start) / total

    def maximum(self) -> tuple[np.ndarray, np.ndarray]:
        """Index from the peak's left, and height, of the highest sample (the first of equal ones)."""
        height = np.maximum.reduceat(self.samples, self.start)
        index = np.arange(len(self.samples)) - np.repeat(self.start, self.length)
        index[self.samples != np.repeat(height, self.length)] = np.iinfo(np.int64).max
        return np.minimum.reduceat(index, self.start), height


def _properties(hits: Hits, label: np.ndarray) -> Peaks:
    """Properties of peaks whose hits lie together, labelled 0, 1, ..."""
    if not len(hits):
        none, nothing = np.empty(0, np.int64), np.empty(0)
        return Peaks(*[none] * 4, *[nothing] * 3, *[none] * 4, *[nothing] * 7, none)
    first = np.flatnonzero(np.diff(label, prepend=-1))
    n_peaks = len(first)
    wave = _SumWaveform(hits, label)
    index, height = wave.maximum()
    maximum = wave.left + index
    rise, width50, width90 = wave.widths()
    area = np.bincount(label, hits.area)
    top = (hits.channel >= TPC_TOP.start) & (hits.channel < TPC_TOP.stop)
    tight = np.abs(hits.maximum - maximum[label]) <= COINCIDENCE
    saturated = hits.saturated > 0
    x, y = _positions(hits.take(top), label[top], n_peaks)
    by_area = np.lexsort((hits.area, label))
    return Peaks(
        event=hits.event[first],
        left=wave.left,
        right=wave.right,
        index_of_maximum=maximum,
        area=area,
        height=height,
        area_fraction_top=np.bincount(label[top], hits.area[top], n_peaks) / area,
        n_hits=np.bincount(label),
        n_contributing_channels=_count_channels(hits.channel, label, n_peaks),
        tight_coincidence=_count_channels(hits.channel[tight], label[tight], n_peaks),
        n_saturated_channels=_count_channels(hits.channel[saturated], label[saturated], n_peaks),
        center_time=(wave.left + wave.center()) * SAMPLE_DURATION,
        area_midpoint=(wave.left + wave.area_times()[:, 3]) * SAMPLE_DURATION,
        rise_time=rise,
        range_50p_area=width50,
        range_90p_area=width90,
        x=x,
        y=y,
        largest_hit_channel=hits.channel[by_area[np.append(first[1:], len(label)) - 1]],
    )


def _positions(hits: Hits, label: np.ndarray, n_peaks: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean place of the top tubes that saw a peak, weighted by area, twice without the far ones."""
    places = top_positions()[hits.channel]
    weight = hits.area.copy()
    for _ in range(3):
        total = np.bincount(label, weight, n_peaks)
        with np.errstate(invalid="ignore"):
            x = np.bincount(label, weight * places[:, 0], n_peaks) / total
            y = np.bincount(label, weight * places[:, 1], n_peaks) / total
            distance = np.hypot(places[:, 0] - x[label], places[:, 1] - y[label])
            typical = np.bincount(label, weight * distance, n_peaks) / total
        weight = np.where(distance <= OUTLIER * typical[label] + 1e-9, weight, 0.0)
    return x, y


def _sorted_by_time(peaks: Peaks) -> Peaks:
    order = np.lexsort((peaks.right, peaks.left, peaks.event))
    return Peaks(*(getattr(peaks, name)[order] for name in Peaks.__slots__))
