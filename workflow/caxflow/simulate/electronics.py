"""From light to what the digitizers keep: tube pulses, noise, baselines, self-triggered readout."""

from dataclasses import dataclass

import numpy as np

from caxflow.rawdata.detectors import MUON_TRIGGER_CHANNEL
from caxflow.rawdata.rawformat import ADC_MAX, REFERENCE_BASELINE, SAMPLE_DURATION
from caxflow.simulate.light import Light, Source

_NOISE = 2.2  # ADC counts
_SELF_TRIGGER = 15  # ADC counts
_PADDING = 50  # samples that a digitizer keeps before and after what crossed its threshold


def _pulse_template() -> np.ndarray:
    """Share of a photoelectron's charge in each 10 ns sample, by its phase in ns; float64, shape (10, 24)."""
    time = np.arange(0.0, 240.0)
    shape = (1 - np.exp(-time / 3.0)) * (np.exp(-time / 9.0) + 0.02 * np.exp(-time / 50.0))
    shape /= shape.sum()
    delayed = [np.concatenate([np.zeros(phase), shape])[: len(shape)] for phase in range(10)]
    return np.array([each.reshape(-1, 10).sum(axis=1) for each in delayed])


_TEMPLATE = _pulse_template()


@dataclass
class Pulses:
    """Pulses side by side: channel, first sample, number of samples; then all their ADC counts."""

    channels: np.ndarray
    lefts: np.ndarray
    lengths: np.ndarray
    samples: np.ndarray

    @classmethod
    def none(cls) -> "Pulses":
        return cls(*(np.empty(0, np.int64) for _ in range(3)), np.empty(0, "<i2"))


def _self_triggered(light: Light, n_samples: int) -> tuple[Pulses, np.ndarray]:
    """Bounds of the pulses that contain all light, and the pulse of each photoelectron (light is sorted)."""
    sample = (light.time // SAMPLE_DURATION).astype(np.int64)
    new = np.ones(len(sample), bool)
    reach = 2 * _PADDING + _TEMPLATE.shape[1]
    new[1:] = (light.channel[1:] != light.channel[:-1]) | (np.diff(sample) > reach)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(new)) - 1 if len(first) else first
    lefts = np.maximum(sample[first] - _PADDING, 0)
    rights = np.minimum(sample[last] + _TEMPLATE.shape[1] + _PADDING, n_samples - 1)
    return Pulses(light.channel[first], lefts, rights - lefts + 1, np.empty(0)), np.cumsum(new) - 1


def digitize(source: Source, light: Light, n_samples: int, *, every_channel: bool) -> Pulses:
    """Turn light into what the digitizers keep."""
    rng = source.rng
    order = np.lexsort((light.time, light.channel))
    light = Light(light.channel[order], light.time[order], light.charge[order])
    if every_channel:
        channels = np.arange(len(source.gains))
        pulses = Pulses(channels, np.zeros_like(channels), np.full_like(channels, n_samples), np.empty(0))
        pulse_of = light.channel
    else:
        pulses, pulse_of = _self_triggered(light, n_samples)
    if not len(pulses.lengths):
        return Pulses.none()
    starts = np.cumsum(pulses.lengths) - pulses.lengths
    total = int(pulses.lengths.sum())
    # Flooring first keeps sample and phase together where a rounding error would part them.
    nanosecond = light.time.astype(np.int64)
    at = starts[pulse_of] + nanosecond // SAMPLE_DURATION - pulses.lefts[pulse_of]
    height = light.charge * source.gains[light.channel] / source.electronics.electrons_per_count
    shape = _TEMPLATE[nanosecond % SAMPLE_DURATION] * height[:, None]
    index = np.minimum(at[:, None] + np.arange(_TEMPLATE.shape[1]), total - 1)
    signal = np.bincount(index.ravel(), shape.ravel(), minlength=total)
    signal -= _NOISE * rng.standard_normal(total, dtype=np.float32)
    baselines = REFERENCE_BASELINE + rng.uniform(-15, 15, len(source.gains))
    if not every_channel:
        seen = np.maximum.reduceat(signal, starts) > _SELF_TRIGGER
        signal = signal[np.repeat(seen, pulses.lengths)]
        pulses = Pulses(pulses.channels[seen], pulses.lefts[seen], pulses.lengths[seen], pulses.samples)
    level = np.repeat(baselines[pulses.channels], pulses.lengths)
    pulses.samples = np.clip(np.rint(level - signal), 0, ADC_MAX).astype("<i2")
    return pulses


def with_muon_trigger(pulses: Pulses, rng: np.random.Generator) -> Pulses:
    """Add the rectangular pulse by which the muon veto tells the TPC's digitizers that it triggered."""
    wave = np.full(200, REFERENCE_BASELINE, "<i2")
    wave[60:140] -= 3000
    left = int(rng.integers(0, 10_000))
    return Pulses(
        np.append(pulses.channels, MUON_TRIGGER_CHANNEL),
        np.append(pulses.lefts, left),
        np.append(pulses.lengths, len(wave)),
        np.concatenate([pulses.samples, wave]),
    )
