"""Light that the tubes see: scintillation, ionisation, drift, single electrons, dark counts.

Numbers are those of pax's simulation settings (``XENON1T.ini``, section WaveformSimulator) where it has them.
"""

from dataclasses import dataclass, fields

import numpy as np

from caxflow.rawdata.detectors import (
    DRIFT_TIME_GATE,
    ELECTRONICS,
    MUON_VETO_CHANNELS,
    MUON_VETO_GAINS,
    TPC_BOTTOM,
    TPC_CHANNELS,
    TPC_LENGTH,
    TPC_RADIUS,
    TPC_TOP,
    top_positions,
)
from caxflow.rawdata.rawformat import N_CHANNELS
from caxflow.simulate.truth import Truth

DETECTOR_OF = {"tpc": "tpc", "led": "tpc", "muon_veto": "muon_veto"}
EVENT_LENGTH = {"tpc": 1_100_000, "led": 10_000, "muon_veto": 10_000}  # ns
DRIFT_VELOCITY = 1.44e-4  # cm/ns
ELECTRON_LIFETIME = 452_000.0  # ns

_S1_TIME = 100_000.0  # ns after the event's start
_SINGLE_ELECTRON = 28.0  # pe that an electron makes in the gas
_SINGLE_ELECTRON_TIME = 500.0  # ns of light from one electron
_DIFFUSION = 22.8e-9  # cm²/ns, longitudinal
_S1_DECAY = 44.8  # ns
_GAS_DECAY = 120.0  # ns
_TRANSIT_SPREAD = 13.6  # ns
_DARK_COUNTS = 15.0  # per event


def gains(detector: str) -> np.ndarray:
    """Gains of a detector's tubes as simulated: anode electrons a photoelectron, 0 for a dead one."""
    if detector == "muon_veto":
        return np.array(MUON_VETO_GAINS)
    rng = np.random.default_rng(1604)
    values = np.full(N_CHANNELS["tpc"], 1e6)
    values[:TPC_CHANNELS] = np.round(2.6e6 * np.exp(rng.normal(0, 0.3, TPC_CHANNELS)), 1)
    values[rng.choice(TPC_CHANNELS, 30, replace=False)] = 0.0
    return values


@dataclass
class Light:
    """Photoelectrons: channel, time (ns since the event's start), charge (in units of the mean)."""

    channel: np.ndarray
    time: np.ndarray
    charge: np.ndarray

    @classmethod
    def join(cls, parts: list["Light"]) -> "Light":
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))


class Source:
    """Draws photoelectrons for one detector; dead tubes see nothing."""

    def __init__(self, rng: np.random.Generator, detector: str):
        self.rng = rng
        self.gains = gains(detector)
        self.electronics = ELECTRONICS[detector]
        self.alive = (self.gains > 0).astype(float)
        self.places = top_positions()

    def light(self, times: np.ndarray, weights: np.ndarray) -> Light:
        """Photoelectrons at these times, in channels drawn by weight, each with its spread."""
        cumulative = np.cumsum(weights * self.alive[: len(weights)])
        channel = np.searchsorted(cumulative / cumulative[-1], self.rng.random(len(times)), side="right")
        # Narrow enough that cutting at 0.1 moves the mean by less than 1 %.
        charge = np.maximum(self.rng.normal(1.0, 0.35, len(times)), 0.1)
        return Light(channel, times + self.rng.normal(0, _TRANSIT_SPREAD, len(times)), charge)

    def s1(self, time: float, mean_area: float) -> Light:
        weights = np.empty(TPC_CHANNELS)
        weights[TPC_TOP], weights[TPC_BOTTOM] = 0.25 / 127, 0.75 / 121
        count = self.rng.poisson(mean_area)
        return self.light(time + self.rng.exponential(_S1_DECAY, count), weights)

    def s2(self, times: np.ndarray, x: float, y: float) -> Light:
        """Light of electrons that reach the gas at `times`; the top array sees where."""
        distance2 = ((self.places - (x, y)) ** 2).sum(axis=1) / 8.0**2
        top = 0.05 / 127 + (1 + distance2) ** -1.5
        weights = np.empty(TPC_CHANNELS)
        weights[TPC_TOP], weights[TPC_BOTTOM] = 0.627 * top / top.sum(), 0.373 / 121
        photons = self.rng.poisson(_SINGLE_ELECTRON, len(times))
        emitted = np.repeat(times, photons)
        delay = self.rng.uniform(0, _SINGLE_ELECTRON_TIME, len(emitted))
        return self.light(emitted + delay + self.rng.exponential(_GAS_DECAY, len(emitted)), weights)

    def interaction(self, s1_time: float, electrons: float, depth: float, x: float, y: float) -> Light:
        """The S2 of electrons made `depth` cm below the gate, after loss and diffusion on their way."""
        drift = depth / DRIFT_VELOCITY
        survivors = max(1, self.rng.poisson(electrons * np.exp(-drift / ELECTRON_LIFETIME)))
        width = np.sqrt(2 * _DIFFUSION * drift) / DRIFT_VELOCITY
        times = s1_time + drift + DRIFT_TIME_GATE + self.rng.normal(0, width, survivors)
        # Light follows its electron, and an S1's its interaction: without these delays drift times are true.
        return self.s2(times - _SINGLE_ELECTRON_TIME / 2 - _GAS_DECAY + _S1_DECAY, x, y)


def tpc_light(source: Source, truth: Truth, i: int) -> Light:
    """All light of event `i` in the TPC; its truth is written down."""
    rng = source.rng
    radius, angle = TPC_RADIUS * 0.98 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    x, y, depth = radius * np.cos(angle), radius * np.sin(angle), rng.uniform(1.0, TPC_LENGTH - 1.0)
    electrons = np.exp(rng.uniform(np.log(80.0), np.log(2000.0)))
    s1 = source.s1(_S1_TIME, np.exp(rng.uniform(np.log(20.0), np.log(800.0))))
    s2 = source.interaction(_S1_TIME, electrons, depth, x, y)
    parts = [s1, s2]
    if rng.random() < 0.15:
        other = depth + rng.choice([-1, 1]) * rng.uniform(4.0, 30.0)
        if 1.0 < other < TPC_LENGTH - 1.0:
            share = rng.uniform(0.05, 0.3) * np.exp(-abs(other - depth) / DRIFT_VELOCITY / ELECTRON_LIFETIME)
            parts.append(source.interaction(_S1_TIME, electrons * share, other, x / 2, -y / 2))
    late = rng.poisson(min(0.0012 * s2.charge.sum(), 40))
    end = EVENT_LENGTH["tpc"] - 5000.0
    # Photo-ionised electrons arrive until the cathode's have drifted up; the first are clear of the S2.
    parts += [
        source.s2(np.array([time]), rng.uniform(-30, 30), rng.uniform(-30, 30))
        for time in s2.time.max() + 6000.0 + rng.uniform(0, 650_000.0, late)
        if time < end
    ]
    dark = rng.poisson(_DARK_COUNTS)
    parts.append(source.light(rng.uniform(2000.0, end, dark), np.ones(TPC_CHANNELS)))
    truth.s1_area[i], truth.s2_area[i] = s1.charge.sum(), s2.charge.sum()
    truth.drift_time[i] = np.average(s2.time, weights=s2.charge) - np.average(s1.time, weights=s1.charge)
    truth.x[i], truth.y[i], truth.z[i] = x, y, -depth
    return Light.join(parts)


def led_light(source: Source) -> Light:
    """One flash of the LED, about one photoelectron a tube."""
    rng = source.rng
    count = rng.poisson(1.2 * TPC_CHANNELS)
    return source.light(5000.0 + rng.uniform(0, 100.0, count), np.ones(TPC_CHANNELS))


def muon_light(source: Source) -> Light:
    """Cherenkov light of a muon, and dark counts."""
    rng = source.rng
    size = np.exp(rng.uniform(np.log(50.0), np.log(5000.0)))
    weights = rng.gamma(2.0, 1.0, MUON_VETO_CHANNELS)
    flash = source.light(4000.0 + rng.exponential(80.0, rng.poisson(size)), weights)
    dark = source.light(rng.uniform(500.0, 9000.0, rng.poisson(1.0)), np.ones(MUON_VETO_CHANNELS))
    return Light.join([flash, dark])
