"""Simulated raw runs in the genuine format, with known truth: for the demo, the tests and the benchmarks.

The physics is simple but whole: scintillation and ionisation of one or two interactions an event, drift with
diffusion and loss, single electrons after large signals, dark counts, tubes with gains (some dead), spread of
photoelectrons, noise, self-triggered digitizers.
"""

import datetime
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from caxflow.errors import CaxflowError
from caxflow.rawdata.rawformat import SAMPLE_DURATION, ZipName
from caxflow.simulate.document import EVENT_RATE, run_document, start_of
from caxflow.simulate.electronics import Pulses, digitize, with_muon_trigger
from caxflow.simulate.encode import event_fields, pulse_fields, to_bson, to_pickle
from caxflow.simulate.files import stored_member, write_side_files
from caxflow.simulate.light import (
    DETECTOR_OF,
    DRIFT_VELOCITY,
    ELECTRON_LIFETIME,
    EVENT_LENGTH,
    Light,
    Source,
    gains,
    led_light,
    muon_light,
    tpc_light,
)
from caxflow.simulate.truth import Truth

__all__ = ["DRIFT_VELOCITY", "ELECTRON_LIFETIME", "Truth", "gains", "run_document", "simulate_run"]

_HIGH_ENERGY_VETO = 0.005  # share of events whose pulses were dropped
_MUON_TRIGGER = 0.05  # share of events in which the muon veto triggered, too


def simulate_run(
    directory: str | Path,
    name: str,
    *,
    kind: str = "tpc",
    number: int,
    events: int,
    events_per_file: int = 1000,
    seed: int = 0,
    encoding: str = "pickle",
) -> Truth:
    """Write a raw run as pax's event builder did.

    Parameters
    ----------
    directory : path
        The dataset's directory; made here, must not exist.
    name : str
        The run's start in UTC, ``yymmdd_HHMM``.
    kind : str
        ``"tpc"``, ``"led"`` (the TPC with every channel read out) or ``"muon_veto"``.
    number : int
        The run's number; the muon veto's files say 0 in any case.
    seed : int
        The same arguments write the same bytes.
    encoding : str
        ``"pickle"`` or ``"bson"``.

    Returns
    -------
    Truth
    """
    if kind not in DETECTOR_OF:
        raise CaxflowError(f"{kind!r} is not a kind of run", f"the kinds are {', '.join(DETECTOR_OF)}")
    encode = {"pickle": to_pickle, "bson": to_bson}.get(encoding)
    if encode is None:
        raise CaxflowError(f"{encoding!r} is not an encoding of raw events", "use pickle or bson")
    start = start_of(name)
    directory = Path(directory)
    directory.mkdir(parents=True)
    number = 0 if kind == "muon_veto" else number
    truth = Truth.blank(events)
    stream = _simulate_events(np.random.default_rng(seed), kind, name, truth)
    for first in range(0, events, events_per_file):
        last = min(first + events_per_file, events) - 1
        path = directory / str(ZipName(first, last, number, last - first + 1))
        with zipfile.ZipFile(path, "w") as archive:
            for event_number in range(first, last + 1):
                blob = zlib.compress(encode(*next(stream)), 4)
                archive.writestr(stored_member(str(event_number), start), blob)
    write_side_files(directory, detector=DETECTOR_OF[kind], number=number, start=start, events=events)
    return truth


def _simulate_events(
    rng: np.random.Generator, kind: str, name: str, truth: Truth
) -> Iterator[tuple[dict, list[dict]]]:
    """Yield each event's attributes and its pulses' attributes, and write down its truth."""
    source = Source(rng, DETECTOR_OF[kind])
    length = EVENT_LENGTH[kind]
    time = int(start_of(name).replace(tzinfo=datetime.UTC).timestamp()) * 10**9
    for i in range(len(truth.event_number)):
        time += length + int(rng.exponential(1e9 / EVENT_RATE[kind]))
        light = _light(source, kind, truth, i)
        truth.area[i] = light.charge.sum()
        pulses = digitize(source, light, length // SAMPLE_DURATION, every_channel=kind == "led")
        if kind == "tpc" and rng.random() < _MUON_TRIGGER:
            pulses = with_muon_trigger(pulses, rng)
        n_pulses = len(pulses.channels)
        if kind == "tpc" and rng.random() < _HIGH_ENERGY_VETO:
            truth.veto(i)
            pulses = Pulses.none()
        attributes = event_fields(
            number=i,
            time=time,
            length=length,
            detector=DETECTOR_OF[kind],
            name=name,
            n_pulses=n_pulses,
            vetoed=bool(truth.vetoed[i]),
        )
        yield attributes, pulse_fields(pulses, rng)


def _light(source: Source, kind: str, truth: Truth, i: int) -> Light:
    if kind == "tpc":
        return tpc_light(source, truth, i)
    return led_light(source) if kind == "led" else muon_light(source)
