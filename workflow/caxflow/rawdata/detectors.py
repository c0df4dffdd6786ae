"""What the simulator and the embedded processor know of XENON1T: channels, places of the tubes, electronics.

Source: the configuration of pax 6.11 (``XENON1T.ini``, ``XENON1T_MV.ini``, ``XENON1T_LED.ini`` and
``_base.ini``).
"""

from dataclasses import dataclass

from caxflow.rawdata.rawformat import ADC_MAX, SAMPLE_DURATION

TPC_TOP = slice(0, 127)
TPC_BOTTOM = slice(127, 248)
TPC_CHANNELS = 248  # top and bottom arrays; veto, sum waveform and DAQ signals follow
MUON_VETO_CHANNELS = 84  # tubes; trigger signals follow
TUBES = {"tpc": TPC_CHANNELS, "muon_veto": MUON_VETO_CHANNELS}
MUON_TRIGGER_CHANNEL = 259

TPC_LENGTH = 96.9  # cm
TPC_RADIUS = 47.9  # cm
DRIFT_TIME_GATE = 1700.0  # ns that the electrons of an event at z = 0 need from the gate to the gas

_RINGS = ((36, 47.70), (30, 39.75), (24, 31.80), (18, 23.85), (12, 15.90), (6, 7.95), (1, 0.0))

_LOAD = 50.0  # Ohm
_ELECTRON_CHARGE = 1.602176634e-19  # C


@dataclass(frozen=True)
class Electronics:
    """From a tube's anode to a count of its digitizer.

    Parameters
    ----------
    volts : float
        All of the digitizer's range.
    amplification : float
    """

    volts: float
    amplification: float

    @property
    def electrons_per_count(self) -> float:
        """Electrons that one count in one sample stands for; over the tube's gain: photoelectrons."""
        charge = SAMPLE_DURATION * 1e-9 * self.volts / ((ADC_MAX + 1) * _LOAD * self.amplification)
        return charge / _ELECTRON_CHARGE


ELECTRONICS = {"tpc": Electronics(2.25, 10.0), "muon_veto": Electronics(0.5, 1.0)}

# Anode electrons a photoelectron, where nothing else is said; the last four of the muon veto are no tubes.
MUON_VETO_GAINS = (6e6,) * 84 + (0.0,) * 2 + (6e6,) * 2
LED_GAIN = 1.0  # an LED run is what gains are measured from


def top_positions():
    """Places of the top array's tubes, x and y in cm; float64, shape (127, 2).

    The first of each ring stands at 105°, the others follow clockwise.
    """
    import numpy as np

    places = []
    for count, radius in _RINGS:
        angle = np.deg2rad(105.0) - 2 * np.pi * np.arange(count) / count
        places.append(radius * np.column_stack([np.cos(angle), np.sin(angle)]))
    return np.concatenate(places)
