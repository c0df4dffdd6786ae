"""The runs database's document of a simulated run."""

import datetime
from collections.abc import Mapping

from caxflow.errors import CaxflowError
from caxflow.simulate.light import DETECTOR_OF, DRIFT_VELOCITY, ELECTRON_LIFETIME, gains

EVENT_RATE = {"tpc": 8.0, "led": 100.0, "muon_veto": 5.0}  # per second


def run_document(
    name: str,
    *,
    kind: str = "tpc",
    number: int,
    events: int,
    events_per_file: int = 1000,
    locations: Mapping[str, str] | None = None,
    raw_size_byte: int | None = None,
    tags: tuple[str, ...] = (),
    source: str = "none",
) -> dict:
    """Make the runs database's document of a simulated run.

    Parameters
    ----------
    name, kind, number, events, events_per_file
        As given to `simulate_run`.
    locations : mapping, optional
        Host to directory of the raw copies that exist.
    raw_size_byte : int, optional
        Size of the dataset in bytes.

    Returns
    -------
    dict
        As pymongo takes it; times are naive UTC.
    """
    start = start_of(name)
    end = start + datetime.timedelta(seconds=max(60, round(events / EVENT_RATE[kind])))
    detector = DETECTOR_OF[kind]
    trigger = {"Zip": {"events_per_file": events_per_file}}
    reader_name = {"tpc": "background_stable", "led": "LED_gain", "muon_veto": "muon_veto_stable"}[kind]
    document = {
        "name": name,
        "number": 0 if detector == "muon_veto" else number,
        "detector": detector,
        "user": "simulator",
        "start": start,
        "end": end,
        "source": {"type": "LED" if kind == "led" else source},
        "tags": [{"name": tag, "user": "simulator", "date": end} for tag in tags],
        "reader": {
            "self_trigger": kind != "led",
            "ini": {"name": reader_name, "write_mode": 2, "trigger_config_override": trigger},
        },
        "trigger": {"events_built": events, "status": "deleted", "ended": True},
        "data": [
            {
                "type": "raw",
                "host": host,
                "status": "transferred",
                "location": str(location),
                "checksum": None,
                "creation_time": end,
            }
            for host, location in (locations or {}).items()
        ],
    }
    if kind == "tpc":
        document["processor"] = {
            "DEFAULT": {
                "gains": gains(detector).tolist(),
                "drift_velocity_liquid": DRIFT_VELOCITY,
                "electron_lifetime_liquid": ELECTRON_LIFETIME,
            },
            "correction_versions": {
                "AddGains": "5.0",
                "AddDriftVelocity": "1.0.0",
                "AddElectronLifetime": "2.1",
            },
        }
    if raw_size_byte is not None:
        document["raw_size_byte"] = raw_size_byte
    return document


def start_of(name: str) -> datetime.datetime:
    """Start of a run from its name, in naive UTC as the database keeps it."""
    try:
        return datetime.datetime.strptime(name, "%y%m%d_%H%M")
    except ValueError:
        raise CaxflowError(f"{name!r} is not the name of a run", "names look like 160315_1432") from None
