"""The files of a raw dataset that hold no events, and the zips' members."""

import datetime
import json
import pickle
import zipfile
import zlib
from pathlib import Path

from caxflow.rawdata.rawformat import N_CHANNELS, TPC_NAME, TRIGGER_ZIP

_BUILDER_VERSION = "6.11.2"


def stored_member(name: str, start: datetime.datetime) -> zipfile.ZipInfo:
    """A stored member whose time is the run's, so that the same seed gives the same bytes."""
    info = zipfile.ZipInfo(name, start.timetuple()[:6])
    info.external_attr = 0o600 << 16
    return info


def write_side_files(
    directory: Path, *, detector: str, number: int, start: datetime.datetime, events: int
) -> None:
    """Write what accompanies the zips of events."""
    import bson

    timestamp = start.replace(tzinfo=datetime.UTC).timestamp()
    info = {
        "run_number": number,
        "tpc": TPC_NAME,
        "file_builder_name": "pax",
        "file_builder_version": _BUILDER_VERSION,
        "timestamp": timestamp,
        "configuration": {"DEFAULT": {"tpc_name": TPC_NAME, "n_channels": N_CHANNELS[detector]}},
    }
    (directory / "pax_info.json").write_text(json.dumps(info, sort_keys=True))
    batch = {"data_type": "batch_info", "events_built": events, "timestamp": timestamp, "is_last_data": True}
    lone = {"data_type": "count_of_lone_pulses", "data": [3] * N_CHANNELS[detector]}
    with zipfile.ZipFile(directory / TRIGGER_ZIP, "w") as archive:
        for document in (lone, batch):
            blob = zlib.compress(bson.encode(document))
            archive.writestr(stored_member(f"{document['data_type']}={0:012d}", start), blob)
    if detector == "tpc":
        pulse = {"module": 165, "channel": 7, "time": 123_456, "data": zlib.compress(bytes(400))}
        monitor = [f"simulated run {start:%y%m%d_%H%M}", pulse]
        (directory / "acquisition_monitor_data.pickles").write_bytes(
            b"".join(pickle.dumps(each, protocol=3) for each in monitor)
        )
    (directory / "eventbuilder.log").write_text(
        f"{start:%Y-%m-%d %H:%M:%S} event-builder INFO: built {events} events\n"
    )
