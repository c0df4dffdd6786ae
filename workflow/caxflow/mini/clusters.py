"""Hits to clusters: by gaps, without those of noisy channels.

As in pax 6.11 (``BuildPeaks.GapSizeClustering``, ``RejectNoiseHits``): hits are clustered at gaps of 350 ns;
what then looks like an S1, or has fewer than 4 tubes, is set apart; the rest is clustered again at gaps of
3.5 us. Channels with several pulses without hits, or hits alone, are left out of clusters in which the other
channels see less than they do.
"""

import numpy as np

from caxflow.mini.hits import Hits
from caxflow.mini.waveform import FAR, GAP, SumWaveform, Windows
from caxflow.rawdata.rawformat import SAMPLE_DURATION

S1_GAP = 350 // SAMPLE_DURATION
S1_RISE_TIME = 70.0  # ns
S1_WIDTH = 300.0  # ns
MIN_S2_CHANNELS = 4
SUSPICIOUS = 3  # pulses without hits, and hits alone
COUNTED_BEFORE = 100_000  # sample; later hits alone follow a large S2
_CHANNELS = 256  # at least as many as there are tubes
_FRACTIONS = np.array([0.05, 0.1, 0.5, 0.95])


class Clusters:
    """Hits that belong together.

    Parameters
    ----------
    hits : Hits
        Cluster by cluster, each by the hits' maxima.
    label : numpy.ndarray of int64, shape (hits,)
        Number of the cluster; what it is in order does not matter.

    Attributes
    ----------
    first : numpy.ndarray of int64, shape (clusters,)
        Index of each cluster's first hit.
    event, left, right : numpy.ndarray of int64, shape (clusters,)
        Event; first sample of the hit with the first maximum, last sample of all hits.
    """

    def __init__(self, hits: Hits, label: np.ndarray):
        new = np.diff(label, prepend=-1) != 0
        self.hits, self.label, self.first = hits, np.cumsum(new) - 1, np.flatnonzero(new)
        self.event = hits.event[self.first]
        self.right = np.maximum.reduceat(hits.right, self.first) if len(label) else self.first
        # Of equal maxima the smallest hit comes first, as in pax.
        tied = np.flatnonzero(hits.maximum == hits.maximum[self.first][self.label])
        tied = tied[np.lexsort((hits.area[tied], self.label[tied]))]
        self.left = hits.left[tied[np.searchsorted(self.label[tied], np.arange(len(self.first)))]]

    @property
    def area(self) -> np.ndarray:
        """Area of each cluster, in pe."""
        return np.bincount(self.label, self.hits.area)

    def __len__(self) -> int:
        return len(self.first)

    def channels(self, which: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Number of channels in each cluster; of some of its hits only, if given."""
        place = self.label[which] * _CHANNELS + self.hits.channel[which]
        seen = np.bincount(place, minlength=len(self) * _CHANNELS)
        return np.count_nonzero(seen.reshape(-1, _CHANNELS), axis=1)

    def windows(self, wave: SumWaveform, which: np.ndarray | slice = slice(None)) -> Windows:
        """Cut out the sum waveform of each cluster, or of some."""
        return wave.windows(self.event[which], self.left[which], self.right[which])


def looks_like_s1(rise_time: np.ndarray, range_90p_area: np.ndarray) -> np.ndarray:
    """Fast rise and small width; bool."""
    return (rise_time < S1_RISE_TIME) & (range_90p_area < S1_WIDTH)


def by_gaps(hits: Hits, wave: SumWaveform) -> Clusters:
    """Cluster the hits of one detector by the gaps between their maxima."""
    axis = hits.event * FAR + hits.maximum
    order = np.argsort(axis, kind="stable")
    hits, axis = hits.take(order), axis[order]
    near = Clusters(hits, _groups(axis, S1_GAP))
    apart = near.channels() < MIN_S2_CHANNELS
    large = np.flatnonzero(~apart)
    t05, t10, t50, t95 = near.windows(wave, large).area_times(_FRACTIONS).T
    apart[large] = looks_like_s1(t50 - t10, t95 - t05)
    label = near.label.copy()
    rest = ~apart[label]
    label[rest] = len(near) + _groups(axis[rest], GAP)
    order = np.argsort(label, kind="stable")
    return Clusters(hits.take(order), label[order])


def _groups(axis: np.ndarray, gap: int) -> np.ndarray:
    """Number the groups of an ascending axis that are more than `gap` free samples apart."""
    new = np.zeros(len(axis), np.int64)
    new[1:] = np.diff(axis) - 1 > gap
    return np.cumsum(new)


def without_noise(clusters: Clusters, noise: np.ndarray) -> Clusters:
    """Leave out hits of noisy channels where the other channels see too little.

    Parameters
    ----------
    clusters : Clusters
    noise : numpy.ndarray of int64, shape (events, channels)
        Pulses without hits.
    """
    hits, label = clusters.hits, clusters.label
    lone = clusters.first[(clusters.channels() == 1) & (clusters.left < COUNTED_BEFORE)]
    n_channels = noise.shape[1]
    place = hits.event * n_channels + hits.channel
    penalty = noise.ravel() + np.bincount(place[lone], minlength=noise.size)
    suspicious = penalty[place] >= SUSPICIOUS
    witnessed = np.bincount(label, np.where(suspicious, 0.0, hits.area), minlength=len(clusters))
    kept = ~(suspicious & (penalty[place] > witnessed[label]))
    if kept.all():
        return clusters
    return Clusters(hits.take(kept), label[kept])
