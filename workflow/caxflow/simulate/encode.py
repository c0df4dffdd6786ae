"""Events as pax stored them: pickles with the names of Python 3.4's time, or BSON."""

import pickle

import numpy as np

from caxflow.rawdata.rawformat import N_CHANNELS, SAMPLE_DURATION
from caxflow.simulate.electronics import Pulses

_TRIGGER_SIGNAL = np.dtype(
    [
        ("area", "f8"),
        ("left_time", "i8"),
        ("n_contributing_channels", "i8"),
        ("n_pulses", "i8"),
        ("right_time", "i8"),
        ("time_mean", "f8"),
        ("time_rms", "f8"),
        ("trigger", "?"),
        ("type", "i8"),
    ]
)


class Event:
    """Stands in for ``pax.datastructure.Event`` while it is pickled: a bare set of attributes."""


class Pulse:
    """Stands in for ``pax.datastructure.Pulse`` while it is pickled: a bare set of attributes."""


def event_fields(
    *, number: int, time: int, length: int, detector: str, name: str, n_pulses: int, vetoed: bool
) -> dict:
    """Attributes of an event but its pulses; `time` and `length` in ns."""
    n_channels = N_CHANNELS[detector]
    signal = np.zeros(1, _TRIGGER_SIGNAL)
    signal["n_pulses"], signal["trigger"] = n_pulses, True
    signal["left_time"], signal["right_time"] = length // 10, length // 2
    attributes = {
        "interactions": [],
        "peaks": [],
        "sum_waveforms": [],
        "pulses": [],
        "n_channels": n_channels,
        "start_time": time,
        "stop_time": time + length,
        "sample_duration": SAMPLE_DURATION,
        "event_number": number,
        "block_id": -1,
        "dataset_name": name,
        "trigger_signals": signal,
        "is_channel_suspicious": np.zeros(n_channels, bool),
    }
    for column in ("n_pulses_per_channel", "noise_pulses_in", "n_hits_rejected"):
        attributes[column] = np.zeros(n_channels, np.int16)
    for column in ("lone_hits_per_channel_before", "lone_hits_per_channel"):
        attributes[column] = np.zeros(n_channels, np.int16)
    if vetoed:
        attributes["n_pulses"] = n_pulses
    return attributes


def pulse_fields(pulses: Pulses, rng: np.random.Generator) -> list[dict]:
    """Attributes of each pulse, shuffled: readers must not count on an order."""
    stops = np.cumsum(pulses.lengths)
    rows = [
        {
            "left": left,
            "raw_data": pulses.samples[stop - length : stop],
            "channel": channel,
            "right": left + length - 1,
        }
        for channel, left, length, stop in zip(
            pulses.channels.tolist(),
            pulses.lefts.tolist(),
            pulses.lengths.tolist(),
            stops.tolist(),
            strict=True,
        )
    ]
    return [rows[i] for i in rng.permutation(len(rows))]


def to_pickle(event: dict, pulses: list[dict]) -> bytes:
    """Pickle an event as Python 3.4 with the numpy of the time did: protocol 3, and the old names."""
    record = Event()
    record.__dict__.update(event)
    for attributes in pulses:
        pulse = Pulse()
        pulse.__dict__ = attributes
        record.pulses.append(pulse)
    data = pickle.dumps(record, protocol=3)
    # Each global is spelled once, where it is first met; after that the pickle refers to it by number.
    for name in (b"Event", b"Pulse"):
        data = data.replace(b"c%s\n%s\n" % (__name__.encode(), name), b"cpax.datastructure\n%s\n" % name, 1)
    return data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)


def to_bson(event: dict, pulses: list[dict]) -> bytes:
    import bson

    def plain(attributes):
        return {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in attributes.items()}

    return bson.encode(plain(event) | {"pulses": [plain(each) for each in pulses]})
