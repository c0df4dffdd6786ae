"""How clusters of hits are split and rid of noise, beside plain words for the same."""

import tracemalloc
from time import process_time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow.mini import splitting
from caxflow.mini.clusters import Clusters, without_noise
from caxflow.mini.hits import Hits
from caxflow.mini.waveform import SumWaveform, Windows


def some_hits(channel, left, waves, event=0) -> Hits:
    """Hits with these samples, in pe; a count is one."""
    length = np.array([len(wave) for wave in waves])
    counts = np.concatenate([np.asarray(wave, np.float32) for wave in waves])
    left = np.asarray(left)
    area = np.array([float(np.sum(wave)) for wave in waves])
    center = np.array([np.average(np.arange(len(wave)), weights=wave) for wave in waves])
    deviation = [
        np.average(np.abs(np.arange(len(wave)) - c), weights=wave)
        for wave, c in zip(waves, center, strict=True)
    ]
    return Hits(
        event=np.zeros(len(left), np.int64) + event,
        channel=np.asarray(channel),
        left=left,
        right=left + length - 1,
        maximum=left + np.array([int(np.argmax(wave)) for wave in waves]),
        area=area,
        height=np.array([np.max(wave) for wave in waves]),
        center=(left + center) * 10,
        deviation=np.array(deviation),
        saturated=np.zeros(len(left), np.int64),
        ceiling=np.full(len(left), np.inf),
        scale=np.ones(len(left)),
        start=np.cumsum(length) - length,
        counts=counts,
    )


def by_time(hits: Hits, label=None) -> Clusters:
    label = np.zeros(len(hits), np.int64) if label is None else np.asarray(label)
    order = np.lexsort((hits.maximum, label))
    return Clusters(hits.take(order), label[order])


# Natural breaks


def spread(hits):
    mean = sum(area * center for _, area, center, _ in hits) / sum(area for _, area, _, _ in hits)
    return sum(area * max(deviation, abs(center - mean)) for _, area, center, deviation in hits)


def naturally_broken(hits):
    """Split (maximum, area, center, deviation) of hits in time's order, recursively, gap by gap."""
    goodness = [
        (1 - (spread(hits[:i]) + spread(hits[i:])) / spread(hits), -i)
        for i in range(1, len(hits))
        if hits[i][0] - hits[i - 1][0] - 1 > 1
    ]
    if goodness:
        best, i = max(goodness)
        if best > np.interp(np.log10(sum(hit[1] for hit in hits)), *splitting.GOODNESS):
            return naturally_broken(hits[:-i]) + naturally_broken(hits[-i:])
    return [hits]


@pytest.mark.parametrize("at_once", [splitting._AT_ONCE, 50])
@given(st.data())
def test_natural_breaks_are_those_of_plain_recursion(at_once, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n_hits, label = rng.integers(1, 40, 4), []
    left, waves = [], []
    for cluster, count in enumerate(n_hits):
        groups = rng.integers(1, 4)
        at = 5000 * cluster + np.cumsum(rng.integers(5, 150, groups))
        left += (rng.choice(at, count) + rng.integers(0, rng.integers(2, 20), count)).tolist()
        waves += [rng.exponential(rng.choice([0.1, 3, 50]), rng.integers(1, 12)) + 0.01 for _ in range(count)]
        label += [cluster] * count
    clusters = by_time(some_hits(np.arange(len(left)) % 248, left, waves), label)
    hits, expected = clusters.hits, []
    for first, count in zip(clusters.first, n_hits, strict=True):
        rows = range(first, first + count)
        expected += naturally_broken(
            [(int(hits.maximum[i]), hits.area[i], hits.center[i], hits.deviation[i]) for i in rows]
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "_AT_ONCE", at_once)
        split = splitting._at_breaks(clusters)
    assert sorted(split.area) == pytest.approx(sorted(sum(hit[1] for hit in part) for part in expected))
    found = {tuple(sorted(split.hits.center[split.label == i])) for i in range(len(split))}
    assert found == {tuple(sorted(hit[2] for hit in part)) for part in expected}


def test_splitting_takes_as_long_as_there_are_hits():
    def cpu_of(n_hits):
        left = np.sort(np.random.default_rng(1).integers(0, 8 * n_hits, n_hits))
        clusters = by_time(some_hits(np.arange(n_hits) % 248, left, [[1.0, 3.0, 2.0]] * n_hits))
        begun = process_time()
        splitting._at_breaks(clusters)
        return process_time() - begun

    # 1 ms of single photons; pair by pair the second takes 64 times as long as the first.
    assert cpu_of(16_000) < 30 * cpu_of(2000)


# Minima and tails


@given(st.data())
def test_smoothing_fits_a_line_at_each_sample(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    length = int(rng.integers(20, 120))
    wave = rng.normal(10, 5, (length + 1) // 2)
    reach = np.ceil(30 / length * len(wave))
    x = 2.0 * np.arange(len(wave))
    smooth = splitting._smoothed(wave, length)
    for i in range(len(wave)):
        weight = (1 - np.minimum(np.abs(x - x[i]) / reach, 1) ** 3) ** 3
        seen = weight > 0
        slope, constant = np.polyfit(x[seen], wave[seen], 1, w=np.sqrt(weight[seen]))
        assert smooth[i] == pytest.approx(slope * x[i] + constant, abs=1e-6)


def bump(center, height, width=20.0, length=400):
    return height * np.exp(-(((np.arange(length) - center) / width) ** 2) / 2)


def test_a_peak_with_a_minimum_is_split_there_and_its_hits_are_cut():
    wave = bump(100, 60) + bump(220, 40)
    hits = some_hits([1, 2, 3], [1000, 1000, 1230], [wave / 2, wave / 2, bump(20, 3, 5, 40)])
    clusters = by_time(hits)
    split = splitting._at_points(clusters, SumWaveform(hits), splitting._minima)
    assert len(split) == 2
    # Between 100 and 220 the two are equal where their logarithms are, a little towards the smaller one.
    assert 1160 <= split.right[0] <= 1175
    assert split.left[1] == split.right[0] + 1
    assert split.area.sum() == pytest.approx(hits.area.sum(), rel=1e-6)
    assert np.bincount(split.label).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("wave", "channels"),
    [
        (bump(100, 60) + bump(220, 24), 2),  # the smaller one does not rise by 25 pe
        (bump(100, 20) + bump(220, 20), 2),  # nothing is higher than 25 pe
        (bump(100, 60) + bump(150, 60), 2),  # no minimum that is deep enough
        (bump(100, 60) + bump(220, 40), 1),  # a hit alone
    ],
)
def test_a_peak_without_two_high_maxima_is_not_split(wave, channels):
    hits = some_hits([1, channels], [1000, 1000], [wave / 2, wave / 2])
    clusters = by_time(hits)
    assert splitting._at_points(clusters, SumWaveform(hits), splitting._minima) is clusters


def test_splitting_at_many_points_takes_no_memory_of_each_hit_with_each_point():
    n_hits = 20_000
    left = np.sort(np.random.default_rng(1).integers(0, 40_000, n_hits))
    clusters = by_time(some_hits(np.arange(n_hits) % 248, left, [[20.0, 60.0, 40.0]] * n_hits))
    points = range(15, left.max() - left.min(), 20)
    tracemalloc.start()
    split = splitting._at_points(clusters, SumWaveform(clusters.hits), lambda wave: list(points))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # 320 MB a column else
    assert len(split) == len(points) + 1
    assert split.area.sum() == pytest.approx(120.0 * n_hits)
    # A sample falls to its left.
    part = np.searchsorted(np.array(points) + left.min(), split.hits.maximum)
    assert (np.diff(part[split.first]) > 0).all()
    assert (part == part[split.first][split.label]).all()


def test_what_comes_long_after_a_large_peak_is_its_tail():
    light = [*[np.concatenate([bump(60, 500, 15, 200), np.zeros(400)])] * 2, bump(5, 1, 3, 12)]
    hits = some_hits([1, 2, 3], [1000, 1000, 1500], light)
    clusters = by_time(hits)
    split = splitting._at_points(clusters, SumWaveform(hits), splitting._tail)
    # The amplitude is the area, of which a sample has less than 0.00005 from here on.
    assert len(split) == 2
    far = 15 * np.sqrt(-2 * np.log(0.00005 * 15 * np.sqrt(2 * np.pi)))
    assert split.right[0] == 1060 + np.ceil(far)
    cut = 60 + int(np.ceil(far)) + 1
    assert split.area[1] == pytest.approx(sum(each[cut:].sum() for each in light[:2]) + light[2].sum())


# Noise


def test_hits_of_noisy_channels_give_way_where_others_see_less():
    one = [0.5, 1.0, 0.5]
    # Channel 9: two pulses without hits, and a hit alone; channel 8: one less.
    noise = np.zeros((1, 248), np.int64)
    noise[0, [8, 9]] = 1, 2
    channel = [9, 8, 9, 1, 9, 1, 2, 9, 9]
    left = [100, 5000, 9000, 9000, 20_000, 20_000, 20_001, 200_000, 300_000]
    label = [0, 1, 2, 2, 3, 3, 3, 4, 5]
    clusters = by_time(some_hits(channel, left, [one] * 9), label)
    kept = without_noise(clusters, noise)
    # Three points: more than what channel 1 sees alone, less than it and channel 2 together. Hits alone after
    # the first millisecond give none, but go.
    remain = [(int(c), int(at)) for c, at in zip(kept.hits.channel, kept.hits.left, strict=True)]
    assert remain == [(8, 5000), (1, 9000), (9, 20_000), (1, 20_000), (2, 20_001)]
    assert kept.label.tolist() == [0, 1, 2, 2, 2]
    noise[0, 9] = 1
    assert without_noise(clusters, noise) is clusters


# Windows


@given(st.data())
def test_area_times_are_found_sample_by_sample(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    pieces = [rng.normal(1, rng.choice([0.3, 2]), rng.integers(1, 30)) for _ in range(4)]
    pieces = [piece if piece.sum() > 0.1 else piece - piece.sum() + 1 for piece in pieces]
    fractions = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.95])
    times = Windows(np.concatenate(pieces), np.array([len(piece) for piece in pieces])).area_times(fractions)
    for piece, found in zip(pieces, times, strict=True):
        for fraction, time in zip(fractions, found, strict=True):
            before, wanted = 0.0, fraction * piece.sum()
            samples = iter(enumerate(piece))
            i, value = next(samples)
            while before + value < wanted:
                before += value
                i, value = next(samples)
            assert time == pytest.approx(10 * (i + (wanted - before) / value), rel=1e-6, abs=1e-6)


def test_a_fraction_that_is_reached_exactly_is_reached_there():
    """Sums of counts are often just that; what other windows there are must not decide by its rounding."""
    fractions = np.array([0.05, 0.5, 0.95])
    peak = 0.0123 * np.array([1, 1, 30, 69, 25, 5, 2, 3, 3, 2, 3, 2, 3, 1, 1, 1, 0, 1, 1, 1, 3, 0, 1, 1])
    alone = Windows(peak, np.array([len(peak)])).area_times(fractions)
    for seed in range(50):
        before = np.random.default_rng(seed).exponential(30, 500)
        together = Windows(np.concatenate([before, peak]), np.array([500, len(peak)])).area_times(fractions)
        assert together[1] == pytest.approx(alone[0], rel=1e-6)
    assert alone[0, 2] == pytest.approx(160)
