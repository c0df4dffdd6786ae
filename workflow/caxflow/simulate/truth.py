"""What was simulated, event by event."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np


@dataclass
class Truth:
    """What was simulated; every array has one entry an event, NaN where it means nothing.

    Parameters
    ----------
    event_number : numpy.ndarray of int64
    vetoed : numpy.ndarray of bool
        The high-energy veto dropped the event's pulses.
    s1_area, s2_area : numpy.ndarray of float64
        Photoelectrons of the main S1 and S2, as charge at the tubes' anodes. The main S2 is the largest.
    drift_time : numpy.ndarray of float64
        From the mean time of the S1's photoelectrons to that of the main S2's, in ns.
    x, y, z : numpy.ndarray of float64
        Place of the main interaction in cm; z is negative, 0 at the gate.
    area : numpy.ndarray of float64
        All photoelectrons of the event; of LED runs and the muon veto the only truth.
    """

    event_number: np.ndarray
    vetoed: np.ndarray
    s1_area: np.ndarray
    s2_area: np.ndarray
    drift_time: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    area: np.ndarray

    @classmethod
    def blank(cls, events: int) -> "Truth":
        numbers, vetoed = np.arange(events), np.zeros(events, bool)
        return cls(numbers, vetoed, *(np.full(events, np.nan) for _ in fields(cls)[2:]))

    def veto(self, i: int) -> None:
        """Event `i` lost its pulses: nothing can be found in it."""
        self.vetoed[i] = True
        for each in fields(self)[2:]:
            getattr(self, each.name)[i] = np.nan

    def save(self, path: str | Path) -> None:
        """Write it as ``.npz``; keep it out of the dataset, which it does not belong to."""
        np.savez_compressed(path, **{each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> "Truth":
        with np.load(path) as arrays:
            return cls(**arrays)
