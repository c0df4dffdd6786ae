"""What the simulator and the embedded processor know of XENON1T: channels, places of the tubes, electronics.

Source: the configuration of pax 6.11 (``XENON1T.ini``, ``_base.ini``).
"""

from caxflow.rawdata.rawformat import ADC_MAX, ADC_RANGE, SAMPLE_DURATION

TPC_TOP = slice(0, 127)
TPC_BOTTOM = slice(127, 248)
TPC_CHANNELS = 248  # top and bottom arrays; veto, sum waveform and DAQ signals follow
MUON_TRIGGER_CHANNEL = 259

TPC_LENGTH = 96.9  # cm
TPC_RADIUS = 47.9  # cm
DRIFT_TIME_GATE = 1700.0  # ns that the electrons of an event at z = 0 need from the gate to the gas

_RINGS = ((36, 47.70), (30, 39.75), (24, 31.80), (18, 23.85), (12, 15.90), (6, 7.95), (1, 0.0))

_LOAD = 50.0  # Ohm
_AMPLIFICATION = 10.0
_ELECTRON_CHARGE = 1.602176634e-19  # C

# Electrons from a tube that one ADC count in one sample stands for; over the tube's gain: photoelectrons.
ELECTRONS_PER_COUNT = (SAMPLE_DURATION * 1e-9 * ADC_RANGE) / (
    (ADC_MAX + 1) * _LOAD * _AMPLIFICATION * _ELECTRON_CHARGE
)


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
