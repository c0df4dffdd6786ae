"""Hits: stretches of a pulse that rise significantly above its baseline.

As in pax 6.11 (``PulseProperties``, ``HitFinder``): baseline from a pulse's first 47 samples, noise from the
samples below it, hits above max(6 sigma, 15 ADC counts), extended by 30 ns and 200 ns. All pulses of a batch
of events are treated at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from caxflow.rawdata.detectors import ELECTRONS_PER_COUNT
from caxflow.rawdata.rawformat import SAMPLE_DURATION, Event

BASELINE_SAMPLES = 47
THRESHOLD_SIGMA = 6
THRESHOLD_COUNTS = 15
LEFT_EXTENSION = 30 // SAMPLE_DURATION
RIGHT_EXTENSION = 200 // SAMPLE_DURATION


@dataclass(slots=True)
class Hits:
    """Hits of a batch of events, and the samples that they consist of.

    Parameters
    ----------
    event : numpy.ndarray of int64, shape (hits,)
        Index of the event in the batch.
    channel, left, right, maximum : numpy.ndarray of int64, shape (hits,)
        Channel; first, last and highest sample, counted from the event's start, bounds inclusive.
    area, height : numpy.ndarray of float64, shape (hits,)
        In pe and pe/sample.
    saturated : numpy.ndarray of int64, shape (hits,)
        Samples in which the digitizer was at its end.
    start : numpy.ndarray of int64, shape (hits,)
        Where the hit's first sample lies in `light`.
    light : numpy.ndarray of float64
        Samples of the hits above their baselines, in pe/sample.
    """

    event: np.ndarray
    channel: np.ndarray
    left: np.ndarray
    right: np.ndarray
    maximum: np.ndarray
    area: np.ndarray
    height: np.ndarray
    saturated: np.ndarray
    start: np.ndarray
    light: np.ndarray

    def __len__(self) -> int:
        return len(self.event)

    def take(self, which: np.ndarray) -> "Hits":
        """Some of the hits, by index or mask."""
        columns = (getattr(self, each.name)[which] for each in fields(self) if each.name != "light")
        return Hits(*columns, light=self.light)


def find_hits(events: Sequence[Event], gains: np.ndarray) -> Hits:
    """Find all hits of a batch of events.

    Parameters
    ----------
    events : sequence of Event
    gains : numpy.ndarray, shape (channels,)
        Pulses of channels with gain 0 are left out.
    """
    pulse_event = np.repeat(np.arange(len(events)), [len(event.channels) for event in events])
    channel = _joined([event.channels for event in events])
    left = _joined([event.lefts for event in events])
    length = _joined([event.lengths for event in events])
    samples = _joined([event.samples for event in events])
    start = np.cumsum(length) - length
    known = channel < len(gains)
    gain = np.where(known, gains[np.where(known, channel, 0)], 0.0)

    wave, threshold = _above_baseline(samples, start, length)
    threshold[gain == 0] = np.inf
    first, last, pulse, maximum = _intervals(wave, threshold, start, length)
    first, last = _extend(first, last, pulse, start, length)

    to_pe = np.divide(ELECTRONS_PER_COUNT, gain, out=np.zeros(len(gain)), where=gain > 0)[pulse]
    n_samples = last - first + 1
    light_start = np.cumsum(n_samples) - n_samples
    light = wave[ranges(first, n_samples)] * np.repeat(to_pe, n_samples)
    offset = left[pulse] - start[pulse]
    hits = Hits(
        event=pulse_event[pulse],
        channel=channel[pulse],
        left=first + offset,
        right=last + offset,
        maximum=maximum + offset,
        area=np.add.reduceat(light, light_start) if len(light) else light,
        height=wave[maximum] * to_pe,
        saturated=_count_saturated(samples, first, last),
        start=light_start,
        light=light,
    )
    # What lies outside the event belongs to none; a hit whose undershoot outweighs it tells nothing.
    n_samples = np.array([(e.stop_time - e.start_time) // e.sample_duration for e in events], np.int64)
    return hits.take((hits.area > 0) & (hits.maximum >= 0) & (hits.maximum < n_samples[hits.event]))


def ranges(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The integers of many ranges, one range after another."""
    ends = np.cumsum(length)
    return np.repeat(start - ends + length, length) + np.arange(ends[-1] if len(ends) else 0)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int64)


def _above_baseline(samples, start, length):
    """Turn ADC counts into counts above each pulse's baseline, and find each pulse's threshold."""
    if not len(samples):
        return np.empty(0, np.float32), np.full(len(start), np.inf)
    used = np.minimum(length, BASELINE_SAMPLES)
    first_samples = samples[ranges(start, used)]
    baseline = np.add.reduceat(first_samples, np.cumsum(used) - used, dtype=np.float64) / used
    wave = np.repeat(baseline.astype(np.float32), length)
    wave -= samples
    below = np.minimum(wave, 0)
    count = np.add.reduceat(below < 0, start, dtype=np.int32)
    sigma = np.sqrt(np.add.reduceat(below * below, start) / np.maximum(count, 1))
    return wave, np.floor(np.maximum(THRESHOLD_SIGMA * sigma.astype(np.float64), THRESHOLD_COUNTS))


def _intervals(wave, threshold, start, length):
    """Bounds (inclusive), pulse and highest sample of each stretch above its pulse's threshold."""
    candidates = np.flatnonzero(wave > THRESHOLD_COUNTS)
    pulse = np.searchsorted(start, candidates, side="right") - 1
    above = wave[candidates] > threshold[pulse]
    candidates, pulse = candidates[above], pulse[above]
    if not len(candidates):
        return candidates, candidates, pulse, candidates
    new = np.ones(len(candidates), bool)
    new[1:] = (np.diff(candidates) > 1) | (pulse[1:] != pulse[:-1])
    run = np.flatnonzero(new)
    first, last = candidates[run], candidates[np.append(run[1:], len(candidates)) - 1]
    height = wave[candidates]
    highest = np.maximum.reduceat(height, run)
    at = np.where(height == np.repeat(highest, last - first + 1), candidates, len(wave))
    return first, last, pulse[run], np.minimum.reduceat(at, run)


def _extend(first, last, pulse, start, length):
    """Lengthen intervals within their pulse; where two claim a sample, the earlier one has it."""
    if not len(first):
        return first, last
    end = start[pulse] + length[pulse] - 1
    same = pulse[1:] == pulse[:-1]
    limit = end.copy()
    limit[:-1][same] = first[1:][same] - 1
    new_last = np.minimum(last + RIGHT_EXTENSION, limit)
    limit = start[pulse]
    limit[1:][same] = new_last[:-1][same] + 1
    return np.maximum(first - LEFT_EXTENSION, limit), new_last


def _count_saturated(samples, first, last):
    ends = np.flatnonzero(samples <= 0)
    return np.searchsorted(ends, last, side="right") - np.searchsorted(ends, first, side="left")
