"""The sum waveform of a batch of events, and what it looks like within windows of samples.

As in pax 6.11 (``SumWaveform``, ``BasicProperties.SumWaveformProperties``): it is that of all hits, so that
windows of peaks that overlap share it.
"""

import numpy as np

from caxflow.mini.hits import Hits, ranges
from caxflow.rawdata.rawformat import SAMPLE_DURATION

GAP = 3500 // SAMPLE_DURATION  # samples without a hit's maximum at which peaks end at the latest
FAR = 1 << 44  # samples between two events on the batch's axis; no event is longer

_ROUNDING = 1e-7  # of an area


class SumWaveform:
    """Sum of all hits, in pe/sample; where nothing is for long, there are no samples.

    Parameters
    ----------
    hits : Hits
        By event; of one detector.
    """

    def __init__(self, hits: Hits):
        begin = hits.event * FAR + hits.left
        end = hits.event * FAR + hits.right
        order = np.argsort(begin, kind="stable")
        begin, end = begin[order], np.maximum.accumulate(end[order])
        # A peak has gaps up to that between the maxima of its hits, less than that between the hits.
        new = np.ones(len(order), bool)
        new[1:] = begin[1:] - end[:-1] > GAP + 2
        first = np.flatnonzero(new)
        length = end[np.append(first[1:], len(order)) - 1] - begin[first] + 1 if len(first) else first
        start = np.cumsum(length) - length
        self._begin, self._shift = begin[first], start - begin[first]
        at = ranges(self._place(hits.event, hits.left), hits.right - hits.left + 1)
        self.samples = np.bincount(at, hits.light(), minlength=int(length.sum()))
        self._heights = np.maximum.reduceat(self.samples, start) if len(start) else start

    def _island(self, position: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._begin, position, side="right") - 1

    def _place(self, event: np.ndarray, sample: np.ndarray) -> np.ndarray:
        position = event * FAR + sample
        return position + self._shift[self._island(position)]

    def heights_around(self, event: np.ndarray, sample: np.ndarray) -> np.ndarray:
        """Height that no window with the sample in it can exceed."""
        return self._heights[self._island(event * FAR + sample)]

    def windows(self, event: np.ndarray, left: np.ndarray, right: np.ndarray) -> "Windows":
        """Cut out what lies within bounds (inclusive) that hits of one peak have."""
        length = right - left + 1
        return Windows(self.samples[ranges(self._place(event, left), length)], length)


class Windows:
    """Pieces of a waveform, one after another.

    Parameters
    ----------
    samples : numpy.ndarray of float64
    length : numpy.ndarray of int64, shape (windows,)
    """

    def __init__(self, samples: np.ndarray, length: np.ndarray):
        self.samples, self.length = samples, length
        self.start = np.cumsum(length) - length

    def __len__(self) -> int:
        return len(self.length)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.samples[self.start[index] : self.start[index] + self.length[index]]

    def heights(self) -> np.ndarray:
        """Highest sample of each window."""
        return np.maximum.reduceat(self.samples, self.start) if len(self) else np.empty(0)

    def maxima(self) -> np.ndarray:
        """Index of the highest sample from the window's first; of equal ones the first."""
        highest = np.flatnonzero(self.samples == np.repeat(self.heights(), self.length))
        return highest[np.searchsorted(highest, self.start)] - self.start

    def lights(self) -> tuple[np.ndarray, np.ndarray]:
        """Sum of each window's light, and its mean sample from the window's first.

        Undershoot counts as nothing.
        """
        light = np.maximum(self.samples, 0)
        index = np.arange(len(light)) - np.repeat(self.start, self.length)
        total = np.add.reduceat(light, self.start)
        return total, np.add.reduceat(light * index, self.start) / np.where(total > 0, total, 1.0)

    def area_times(self, fractions: np.ndarray) -> np.ndarray:
        """Nanoseconds from the window's first sample until fractions of its area have come.

        Returns
        -------
        numpy.ndarray of float64, shape (windows, fractions)
            The sample in which one is reached counts in part.
        """
        if not len(self):
            return np.empty((0, len(fractions)))
        cumulated = np.concatenate([[0.0], np.cumsum(self.samples)])
        before = cumulated[self.start]
        total = cumulated[self.start + self.length] - before
        total[total == 0] = 1.0
        # With undershoot the sum falls, too: a fraction is reached where it is first. Windows are kept apart
        # by more than their sums can differ.
        reached = (cumulated[1:] - np.repeat(before, self.length)) / np.repeat(total, self.length)
        step = 2.0 * np.arange(len(self))
        reached = np.maximum.accumulate(np.clip(reached, -0.5, 1.0) + np.repeat(step, self.length))
        # Exactly so, as sums of counts often are, it is reached there, whatever was rounded on the way.
        at = np.searchsorted(reached, step[:, None] + fractions - _ROUNDING, side="left")
        at = np.minimum(at, (self.start + self.length - 1)[:, None])
        light = self.samples[at]
        wanted = before[:, None] + total[:, None] * fractions
        part = np.divide(wanted - cumulated[at], light, out=np.zeros_like(wanted), where=light != 0)
        return (at + part - self.start[:, None]) * SAMPLE_DURATION
