"""Hits: stretches of a pulse that rise significantly above its baseline.

As in pax 6.11 (``PulseProperties``, ``CheckPulses``, ``HitFinder``): baseline from a pulse's first 47
samples, noise from the samples below it, hits above max(6 sigma, 15 ADC counts), long ones split where their
smoothed waveform has a minimum, extended by 30 ns and 200 ns. All pulses of a batch of events are treated at
once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from caxflow.mini.saturation import Pulses, desaturate
from caxflow.rawdata.rawformat import REFERENCE_BASELINE, SAMPLE_DURATION, Event

BASELINE_SAMPLES = 47
THRESHOLD_SIGMA = 6
THRESHOLD_COUNTS = 15
LEFT_EXTENSION = 30 // SAMPLE_DURATION
RIGHT_EXTENSION = 200 // SAMPLE_DURATION
LONG = 350  # samples; a longer hit is split
SMOOTHING = 100  # samples


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
    center : numpy.ndarray of float64, shape (hits,)
        Mean time of the light in ns since the event's start.
    deviation : numpy.ndarray of float64, shape (hits,)
        Mean distance of the light from it, in samples.
    saturated : numpy.ndarray of int64, shape (hits,)
        Samples in which the digitizer was at its end.
    ceiling : numpy.ndarray of float64, shape (hits,)
        What is higher is such a sample, in counts.
    scale : numpy.ndarray of float64, shape (hits,)
        Photoelectrons that a count stands for.
    start : numpy.ndarray of int64, shape (hits,)
        Where the hit's first sample lies in `counts`.
    counts : numpy.ndarray of float32
        Samples of the hits above their baselines; in counts, which are exact, so that
        no light and little light differ.
    """

    event: np.ndarray
    channel: np.ndarray
    left: np.ndarray
    right: np.ndarray
    maximum: np.ndarray
    area: np.ndarray
    height: np.ndarray
    center: np.ndarray
    deviation: np.ndarray
    saturated: np.ndarray
    ceiling: np.ndarray
    scale: np.ndarray
    start: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.event)

    def take(self, which: np.ndarray) -> "Hits":
        """Some of the hits, by index or mask."""
        columns = (getattr(self, each.name)[which] for each in fields(self) if each.name != "counts")
        return Hits(*columns, counts=self.counts)

    def light(self) -> np.ndarray:
        """Samples of all hits, one hit after another, in pe/sample."""
        n_samples = self.right - self.left + 1
        return self.counts[ranges(self.start, n_samples)] * np.repeat(self.scale, n_samples)

    def cut(self, which: np.ndarray, last: np.ndarray) -> tuple["Hits", np.ndarray]:
        """Cut hits apart.

        Parameters
        ----------
        which : numpy.ndarray of int64, shape (cuts,)
            Hit of each cut, ascending.
        last : numpy.ndarray of int64, shape (cuts,)
            Sample after which it is cut, inside of the hit; ascending in each hit.

        Returns
        -------
        Hits
            The hits in their order, a cut one's pieces in its place.
        numpy.ndarray of int64
            Index of the hit that each was, or is a piece of.
        """
        pieces = 1 + np.bincount(which, minlength=len(self))
        origin = np.repeat(np.arange(len(self)), pieces)
        new = self.take(origin)
        cut = (
            np.cumsum(pieces)[which] - pieces[which] + (np.arange(len(which)) - np.searchsorted(which, which))
        )
        new.right[cut] = last
        new.left[cut + 1] = last + 1
        new.start += new.left - self.left[origin]
        part = np.flatnonzero(pieces[origin] > 1)
        some = new.take(part)
        length = some.right - some.left + 1
        shape = _Shape(some.counts[ranges(some.start, length)], length)
        new.area[part], new.height[part] = shape.area * some.scale, shape.height * some.scale
        new.maximum[part] = some.left + shape.maximum()
        new.center[part] = (some.left + shape.center) * SAMPLE_DURATION
        new.deviation[part] = shape.deviation
        new.saturated[part] = shape.count(some.ceiling)
        return new, origin


class _Shape:
    """What hits look like, whose samples follow one another; all in counts and samples."""

    def __init__(self, counts: np.ndarray, length: np.ndarray):
        self.counts, self.length = counts, length
        self.first = np.cumsum(length) - length
        self.area = self._sums(counts)
        self.height = np.maximum.reduceat(counts, self.first) if len(length) else np.empty(0)
        # A hit whose undershoot outweighs it is left out later, its centre means nothing.
        area = np.where(self.area > 0, self.area, 1.0)
        at = (np.arange(len(counts)) - np.repeat(self.first, length)).astype(counts.dtype)
        self.center = self._sums(counts * at) / area
        at -= np.repeat(self.center.astype(counts.dtype), length)
        self.deviation = self._sums(counts * np.abs(at, out=at)) / area

    def maximum(self) -> np.ndarray:
        """Index of the highest sample from the hit's first; of equal ones the first."""
        highest = self.counts == np.repeat(self.height, self.length)
        at = np.where(highest, np.arange(len(self.counts)), len(self.counts))
        return np.minimum.reduceat(at, self.first) - self.first if len(self.length) else self.first

    def count(self, above: np.ndarray) -> np.ndarray:
        """Samples of each hit that are higher."""
        return self._sums(self.counts > np.repeat(above, self.length)).astype(np.int64)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        if not len(self.length):
            return np.empty(0)
        return np.add.reduceat(values, self.first, dtype=np.float64)


def joined(event: Event) -> Event:
    """Join pulses of a channel that follow one another without a gap, as pax does in the muon veto."""
    order = np.lexsort((event.lefts, event.channels))
    channels, lefts, lengths = event.channels[order], event.lefts[order], event.lengths[order]
    new = np.ones(len(order), bool)
    new[1:] = (channels[1:] != channels[:-1]) | (lefts[1:] != lefts[:-1] + lengths[:-1])
    if new.all():
        return event
    start = np.cumsum(event.lengths) - event.lengths
    return replace(
        event,
        channels=channels[new],
        lefts=lefts[new],
        lengths=np.add.reduceat(lengths, np.flatnonzero(new)),
        samples=event.samples[ranges(start[order], lengths)],
    )


def find_hits(
    events: Sequence[Event], photoelectrons: np.ndarray, *, desaturated: bool = False
) -> tuple[Hits, np.ndarray]:
    """Find all hits of a batch of events.

    Parameters
    ----------
    events : sequence of Event
    photoelectrons : numpy.ndarray, shape (channels,)
        What a count stands for; pulses of channels with 0 are left out.
    desaturated : bool
        Correct saturated pulses first; see `caxflow.mini.saturation`.

    Returns
    -------
    Hits
    numpy.ndarray of int64, shape (events, channels)
        Pulses without hits.
    """
    n_channels = len(photoelectrons)
    pulse_event = np.repeat(np.arange(len(events)), [len(event.channels) for event in events])
    channel = _joined([event.channels for event in events])
    left = _joined([event.lefts for event in events])
    length = _joined([event.lengths for event in events])
    samples = _joined([event.samples for event in events])
    start = np.cumsum(length) - length
    known = channel < n_channels
    scale = np.where(known, photoelectrons[np.where(known, channel, 0)], 0.0)

    wave, baseline, threshold = _above_baseline(samples, start, length)
    threshold[scale == 0] = np.inf
    ends = np.flatnonzero(samples <= 0)
    saturated = np.zeros(len(start), bool)
    saturated[np.searchsorted(start, ends, side="right") - 1] = True
    duration = np.array([(e.stop_time - e.start_time) // e.sample_duration for e in events], np.int64)
    left, start, length = _within(left, start, length, duration[pulse_event], wave)
    if desaturated and len(ends):
        desaturate(Pulses(pulse_event, channel, left, start, length, scale, wave), saturated, ends)
    first, last, pulse = _intervals(wave, threshold, start, length)
    quiet = (length > 0) & (scale > 0)
    quiet[pulse] = False
    first, last = _extend(first, last, pulse, start, length)

    n_samples = last - first + 1
    shape = _Shape(wave[ranges(first, n_samples)], n_samples)
    offset, scale = left[pulse] - start[pulse], scale[pulse]
    ceiling = baseline[pulse] + REFERENCE_BASELINE - 0.5
    hits = Hits(
        event=pulse_event[pulse],
        channel=channel[pulse],
        left=first + offset,
        right=last + offset,
        maximum=first + offset + shape.maximum(),
        area=shape.area * scale,
        height=shape.height * scale,
        center=(first + offset + shape.center) * SAMPLE_DURATION,
        deviation=shape.deviation,
        saturated=shape.count(ceiling) if len(ends) else np.zeros(len(pulse), np.int64),
        ceiling=ceiling,
        scale=scale,
        start=shape.first,
        counts=shape.counts,
    )
    noise = np.bincount(pulse_event[quiet] * n_channels + channel[quiet], minlength=len(events) * n_channels)
    # A hit whose undershoot outweighs it tells nothing.
    return hits.take(hits.area > 0), noise.reshape(len(events), n_channels)


def ranges(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The integers of many ranges, one range after another."""
    ends = np.cumsum(length)
    return np.repeat(start - ends + length, length) + np.arange(ends[-1] if len(ends) else 0)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int64)


def _above_baseline(samples, start, length):
    """Turn ADC counts into counts above each pulse's baseline, and find each pulse's threshold."""
    if not len(samples):
        return np.empty(0, np.float32), np.zeros(len(start)), np.full(len(start), np.inf)
    used = np.minimum(length, BASELINE_SAMPLES)
    first_samples = samples[ranges(start, used)]
    baseline = np.add.reduceat(first_samples, np.cumsum(used) - used, dtype=np.float64) / used
    baseline -= REFERENCE_BASELINE
    # Around the reference the counts are small numbers, which float32 holds exactly.
    wave = np.repeat(baseline.astype(np.float32), length)
    wave += np.subtract(REFERENCE_BASELINE, samples, dtype=np.float32)
    below = np.minimum(wave, 0)
    count = np.add.reduceat(below < 0, start, dtype=np.int32)
    sigma = np.sqrt(np.add.reduceat(below * below, start) / np.maximum(count, 1))
    threshold = np.floor(np.maximum(THRESHOLD_SIGMA * sigma.astype(np.float64), THRESHOLD_COUNTS))
    return wave, baseline, threshold


def _within(left, start, length, duration, wave):
    """Cut off what lies outside of the event; baselines are those of the whole pulses."""
    before = np.clip(-left, 0, length)
    after = np.clip(left + length - duration, 0, length - before)
    for cut, at in ((before, start), (after, start + length - after)):
        wave[ranges(at[cut > 0], cut[cut > 0])] = 0
    return left + before, start + before, length - before - after


def _intervals(wave, threshold, start, length):
    """Bounds (inclusive) and pulse of each stretch above its pulse's threshold."""
    candidates = np.flatnonzero(wave > THRESHOLD_COUNTS)
    # A pulse that lost all of its samples starts where the next one does.
    some = np.flatnonzero(length > 0)
    pulse = some[np.searchsorted(start[some], candidates, side="right") - 1] if len(some) else candidates
    above = wave[candidates] > threshold[pulse]
    candidates, pulse = candidates[above], pulse[above]
    if not len(candidates):
        return candidates, candidates, pulse
    new = np.ones(len(candidates), bool)
    new[1:] = (np.diff(candidates) > 1) | (pulse[1:] != pulse[:-1])
    run = np.flatnonzero(new)
    first, last = candidates[run], candidates[np.append(run[1:], len(candidates)) - 1]
    pulse = pulse[run]
    for long in np.flatnonzero(last - first > LONG)[::-1]:
        ends = _minima(wave[first[long] : last[long]].astype(np.float64)) + first[long]
        first = np.insert(first, long + 1, ends + 1)
        last = np.insert(last, long, ends)
        pulse = np.insert(pulse, long, np.full(len(ends), pulse[long]))
    return first, last, pulse


def _minima(wave: np.ndarray) -> np.ndarray:
    """Samples at which the smoothed waveform stops falling."""
    slope = np.diff(np.convolve(wave, np.full(SMOOTHING, 1 / SMOOTHING), "same"))
    return np.flatnonzero((np.append(slope, -1) > 0) & (np.append(1, slope) <= 0))


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
