"""Clusters of hits split where they are several signals.

As in pax 6.11 (``LocalMinimumClustering``, ``LocalMinimumClustering.TailSeparation``,
``NaturalBreaksClustering``), with the settings of ``XENON1T.ini``: first at minima of the smoothed sum
waveform between two maxima that rise by 25 pe/sample; then where a tail begins; last at the gap between hits
whose two sides are so much narrower than the whole that chance does not explain it.
"""

from collections.abc import Callable, Iterator

import numpy as np

from caxflow.mini.clusters import Clusters
from caxflow.mini.hits import ranges
from caxflow.mini.waveform import SumWaveform

MIN_HEIGHT = 25.0  # pe/sample
SMOOTHING = 30  # samples
LONGEST = 5000  # samples; in more no minima are looked for
MARGIN = 500  # samples beside what is higher than MIN_HEIGHT
APART = 1000  # samples between what is, to look for minima separately
CENTRAL = 0.02  # of the height: what is higher counts for the shape of a peak without its tail
TAIL = 0.00005  # of the amplitude of that shape
MIN_BREAK = 1  # free samples
# Least goodness of a split by the logarithm of the area in pe.
GOODNESS = (
    (0.0, 1.477, 1.903, 2.0, 2.30, 2.60, 3.30, 4.30, 5.30),
    (1.0, 0.99, 0.97, 0.94, 0.82, 0.70, 0.56, 0.45, 0.45),
)
_FAR = 1 << 32  # samples between two clusters on an axis; no event is longer
_AT_ONCE = 1 << 20  # pairs of a range and a hit


def split(clusters: Clusters, wave: SumWaveform) -> Clusters:
    """Split clusters in all three ways, in pax's order."""
    clusters = _at_points(clusters, wave, _minima)
    clusters = _at_points(clusters, wave, _tail)
    return _at_breaks(clusters)


def _at_points(
    clusters: Clusters, wave: SumWaveform, points_of: Callable[[np.ndarray], list[int]]
) -> Clusters:
    """Split high clusters at samples, and the hits that lie across them; a sample falls to its left."""
    high = wave.heights_around(clusters.event, clusters.left) >= MIN_HEIGHT
    high = np.flatnonzero(high & (clusters.channels() > 1))
    windows = clusters.windows(wave, high)
    found = {high[i]: points_of(windows[i]) for i in np.flatnonzero(windows.heights() >= MIN_HEIGHT)}
    cluster = np.array([i for i, points in found.items() for _ in points], np.int64)
    if not len(cluster):
        return clusters
    sample = np.array([point for points in found.values() for point in points]) + clusters.left[cluster]
    hits, label = clusters.hits, clusters.label

    # Points on an axis of all clusters; each hit with those that lie in it.
    axis = cluster * _FAR + sample
    begin = np.searchsorted(axis, label * _FAR + hits.left)
    number = np.searchsorted(axis, label * _FAR + hits.right) - begin
    hits, origin = hits.cut(np.repeat(np.arange(len(label)), number), sample[ranges(begin, number)])
    label = label[origin]
    # Of all points before a hit those are of other clusters that come before its own's first.
    part = np.searchsorted(axis, label * _FAR + hits.maximum) - np.searchsorted(cluster, label)
    label = label * (len(axis) + 1) + part
    order = np.lexsort((hits.maximum, label))
    order = order[hits.area[order] > 0]
    return Clusters(hits.take(order), label[order])


def _minima(wave: np.ndarray) -> list[int]:
    """Minima of the smoothed waveform between maxima that rise high enough above them."""
    high = np.flatnonzero(wave > MIN_HEIGHT)
    if not len(high):
        return []
    return [
        point
        for some in np.split(high, np.flatnonzero(np.diff(high) > APART) + 1)
        for point in _minima_within(wave, max(some[0] - MARGIN, 0), min(some[-1] + MARGIN, len(wave)))
    ]


def _minima_within(wave: np.ndarray, begin: int, end: int) -> Iterator[int]:
    if end - begin > LONGEST:
        return
    smooth = _smoothed(wave[begin:end:2], end - begin)
    slope = np.diff(smooth)
    rises, rose = np.append(slope, -1.0) > 0, np.append(1.0, slope) > 0
    minima = np.flatnonzero(rises & ~rose)
    rises[-1], rose[0] = True, False
    maxima = np.flatnonzero(~rises & rose)
    if len(maxima) < 2:
        return
    minima = minima[(minima > maxima[0]) & (minima < maxima[-1])]
    before = np.maximum.accumulate(smooth[maxima])[:-1]
    depth = np.minimum(before, smooth[maxima[1:]]) - smooth[minima]
    yield from (begin + 2 * int(point) for point in minima[depth > MIN_HEIGHT])


def _smoothed(wave: np.ndarray, length: int) -> np.ndarray:
    """Fit straight lines locally (LOWESS with its tricubic weights) to every second of `length` samples."""
    reach = np.ceil(SMOOTHING / length * len(wave))
    half = int(np.ceil(reach / 2)) - 1
    distance = 2.0 * np.arange(-half, half + 1)
    weight = (1 - np.abs(distance / reach) ** 3) ** 3

    def moment(values, power):
        return np.convolve(np.pad(values, half), (weight * distance**power)[::-1], "valid")

    one = np.ones(len(wave))
    m0, m1, m2 = (moment(one, power) for power in range(3))
    determinant = m0 * m2 - m1 * m1
    fitted = moment(wave, 0) * m2 - moment(wave, 1) * m1
    return np.divide(fitted, determinant, out=wave.astype(np.float64), where=determinant > 0)


def _tail(wave: np.ndarray) -> list[int]:
    """Where the waveform, late enough, falls below what a Gaussian peak would have as its noise."""
    central = np.flatnonzero(wave > CENTRAL * wave.max())
    light = wave[central]
    mean = np.average(central, weights=light)
    sigma = np.sqrt(np.average((central - mean) ** 2, weights=light))
    if not sigma > 0:
        return []
    shape = np.exp(-(((central - mean) / sigma) ** 2) / 2) / (np.sqrt(2 * np.pi) * sigma)
    amplitude = (light * shape).sum() / (shape**2).sum()
    low = np.flatnonzero(wave < TAIL * amplitude)
    return low[low > mean + 2 * sigma][:1].tolist()


def _at_breaks(clusters: Clusters) -> Clusters:
    """Split clusters at the gap that separates best, and then their parts, as long as one is good enough."""
    hits, label = clusters.hits, clusters.label.copy()
    last = len(clusters)
    columns = (hits.maximum, hits.area, hits.center, hits.deviation)
    # Hits of the clusters that were split a moment ago; they lie together in time's order.
    where = np.arange(len(label))
    while len(where):
        split_at = where[_breaks(*(column[where] for column in columns), label[where])]
        number = np.full(last, -1)
        number[label[split_at]] = np.arange(len(split_at))
        which = number[label[where]]
        where, which = where[which >= 0], which[which >= 0]
        right = where >= split_at[which]
        label[where[right]] = last + which[right]
        last += len(split_at)
    order = np.argsort(label, kind="stable")
    return Clusters(hits.take(order), label[order])


def _breaks(maximum, area, center, deviation, label) -> np.ndarray:
    """Index of the hit before which each cluster is split, for those that are."""
    gap = np.flatnonzero((np.diff(label) == 0) & (np.diff(maximum) - 1 > MIN_BREAK)) + 1
    if not len(gap):
        return gap
    first = np.flatnonzero(np.diff(label, prepend=label[0] - 1))
    length = np.diff(np.append(first, len(label)))
    own = np.searchsorted(first, gap, side="right") - 1
    spread = _Spread(area, center, deviation, first, length)
    begin, end = first[own], first[own] + length[own]
    tested = np.unique(own)
    whole = np.zeros(len(first))
    whole[tested] = spread(tested, first[tested], first[tested] + length[tested])
    goodness = 1 - (spread(own, begin, gap) + spread(own, gap, end)) / whole[own]

    # The best of each cluster; of equal ones the first.
    order = np.lexsort((gap, -goodness, own))
    best = order[np.append(True, np.diff(own[order]) > 0)]
    least = np.interp(np.log10(np.add.reduceat(area, first)[own[best]]), *GOODNESS)
    return gap[best[goodness[best] > least]]


class _Spread:
    """Sum of absolute deviations from the means of ranges of hits; each range has at least one.

    Hits are in time's order but for what their light's mean lies beside its maximum: only those near the mean
    of a range are gone through, the others are sums. A long event with many hits would take hours else.
    """

    def __init__(self, area, center, deviation, first, length):
        cluster = np.repeat(np.arange(len(first)), length)
        self.area, self.deviation = area, deviation
        self.center = center - center[first][cluster]
        self.weight = np.concatenate([[0.0], np.cumsum(area)])
        self.weighted = np.concatenate([[0.0], np.cumsum(area * self.center)])
        # On an axis of all clusters: until where no hit up to this one matters, and from where none after it.
        margin = deviation + 1.0  # ns, for rounding
        self.step = 2 * (np.abs(self.center) + margin).max() + 1.0
        self.before = np.maximum.accumulate(cluster * self.step + self.center + margin)
        self.after = np.minimum.accumulate((cluster * self.step + self.center - margin)[::-1])[::-1]

    def __call__(self, cluster, begin, end):
        total = self.weight[end] - self.weight[begin]
        mean = (self.weighted[end] - self.weighted[begin]) / total
        low = np.searchsorted(self.before, cluster * self.step + mean, side="right").clip(begin, end)
        high = np.searchsorted(self.after, cluster * self.step + mean, side="left").clip(low, end)
        spread = mean * (self.weight[low] - self.weight[begin]) - self.weighted[low] + self.weighted[begin]
        spread += self.weighted[end] - self.weighted[high] - mean * (self.weight[end] - self.weight[high])
        chunk = np.cumsum(high - low) // _AT_ONCE
        for some in np.split(np.arange(len(mean)), np.flatnonzero(np.diff(chunk)) + 1):
            near = high[some] - low[some]
            index = ranges(low[some], near)
            distance = np.abs(self.center[index] - np.repeat(mean[some], near))
            np.maximum(distance, self.deviation[index], out=distance)
            distance *= self.area[index]
            spread[some] += np.bincount(np.repeat(np.arange(len(some)), near), distance, len(some))
        return spread
