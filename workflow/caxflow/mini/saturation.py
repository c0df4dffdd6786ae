"""Pulses that drove their digitizer to its end, corrected by what other tubes saw.

As in pax 6.11 (``DesaturatePulses``): from where a pulse is saturated, its waveform is the sum of the pulses
that are not, scaled by what both saw in the microsecond before, up to where that sum rises again.
"""

from dataclasses import dataclass

import numpy as np

from caxflow.rawdata.detectors import TPC_CHANNELS

REFERENCE = 100  # samples before the first saturated one
MIN_REFERENCE = 10  # of them with more than 1 pe, in the pulse and in the sum
MAX_RATIO = 1.0  # of the pulse to the sum
SMOOTHING = 100  # samples
RISE = 2.0  # pe/sample in a sample of the smoothed sum
# Tubes with many afterpulses, which tell nothing about others (pax's ``_base.ini``).
AFTERPULSING = (2, 21, 23, 28, 31, 48, 61, 66, 71, 78, 85, 87, 117, 119, 142, 157, 203, 205, 217)


@dataclass(slots=True)
class Pulses:
    """Pulses of a batch of events, whose samples lie in one waveform.

    Parameters
    ----------
    event, channel, left, start, length : numpy.ndarray of int64, shape (pulses,)
        Event, channel, first sample in the event and in `wave`, number of samples.
    scale : numpy.ndarray of float64, shape (pulses,)
        Photoelectrons that a count stands for.
    wave : numpy.ndarray of float32
        Counts above the baselines; corrections are made in place.
    """

    event: np.ndarray
    channel: np.ndarray
    left: np.ndarray
    start: np.ndarray
    length: np.ndarray
    scale: np.ndarray
    wave: np.ndarray

    def light(self, pulse: int) -> np.ndarray:
        """Waveform of a pulse in pe/sample."""
        start = self.start[pulse]
        return self.wave[start : start + self.length[pulse]] * self.scale[pulse]

    def sum_over(self, pulse: int, others: np.ndarray) -> np.ndarray:
        """Sum of other pulses in the samples of one."""
        left, length = self.left[pulse], self.length[pulse]
        total = np.zeros(length)
        for other in others:
            offset = self.left[other] - left
            begin, end = max(offset, 0), min(offset + self.length[other], length)
            total[begin:end] += self.light(other)[begin - offset : end - offset]
        return total


def desaturate(pulses: Pulses, saturated: np.ndarray, ends: np.ndarray) -> None:
    """Correct the saturated pulses of the TPC's tubes.

    Parameters
    ----------
    saturated : numpy.ndarray of bool, shape (pulses,)
    ends : numpy.ndarray of int64
        Samples of the waveform at which a digitizer was at its end, ascending.
    """
    witness = ~saturated & (pulses.channel < TPC_CHANNELS) & (pulses.scale > 0) & (pulses.length > 0)
    witness &= ~np.isin(pulses.channel, AFTERPULSING)
    right = pulses.left + pulses.length - 1
    for pulse in np.flatnonzero(saturated & (pulses.channel < TPC_CHANNELS) & (pulses.length > 0)):
        start, length = pulses.start[pulse], pulses.length[pulse]
        at = ends[np.searchsorted(ends, start) : np.searchsorted(ends, start + length)] - start
        others = witness & (pulses.event == pulses.event[pulse])
        others &= (pulses.left < right[pulse]) & (right > pulses.left[pulse])
        if not len(at) or not others.any():
            continue
        light = pulses.light(pulse).astype(np.float64)
        _correct(light, pulses.sum_over(pulse, np.flatnonzero(others)), at)
        if pulses.scale[pulse] > 0:
            pulses.wave[start : start + length] = light / pulses.scale[pulse]


def _correct(light: np.ndarray, total: np.ndarray, at: np.ndarray) -> None:
    """Put the scaled sum where the light is saturated, at these samples and thereafter."""
    stretches = np.split(at, np.flatnonzero(np.diff(at) > REFERENCE) + 1)
    for stretch, following in zip(stretches, [*stretches[1:], None], strict=True):
        first, last = stretch[0], stretch[-1]
        before = slice(max(0, first - REFERENCE), first)
        seen = min(np.count_nonzero(total[before] > 1), np.count_nonzero(light[before] > 1))
        # So it is in S2s only: S1s rise too fast.
        if seen < MIN_REFERENCE or not (ratio := light[before].sum() / total[before].sum()) < MAX_RATIO:
            continue
        end = len(light) if following is None else following[0] - REFERENCE
        slope = np.diff(np.convolve(np.full(SMOOTHING, 1 / SMOOTHING), total[last:end], "same"))
        rises = np.flatnonzero((np.append(slope, -10) > RISE) & (np.append(10, slope) <= RISE))
        if len(rises):
            end = min(last + rises[0], len(light))
        light[first:end] = np.maximum(total[first:end] * ratio, 0)
