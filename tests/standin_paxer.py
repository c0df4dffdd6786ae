"""A stand-in for pax's ``paxer``: its command line and its bad habits, with a processor of a few lines.

What it finds is crude (pulses in coincidence are a peak), but it is found in the raw data, with the gains and
the drift velocity that the configuration gives. The habits are those of pax 6.11.2:

* without ``--ignore_rundb`` it asks a runs database by itself;
* it compiles its event class in the working directory and leaves the files there;
* it writes straight to ``<output>.root``, over whatever is there, and leaves a partial file when it fails;
* it processes the zips it finds: missing ones are no error;
* without a configuration it prints its usage and exits with 0.
"""

import argparse
import ast
import configparser
import hashlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

import awkward as ak
import numpy as np
import uproot

from caxflow.rawdata import rawformat

VERSION = "6.11.2"
CONFIGURATIONS = {"XENON1T": 260, "XENON1T_LED": 260, "XENON1T_MV": 88}
PEAKS = ("area", "area_fraction_top", "n_contributing_channels", "largest_hit_channel", "left", "right")
INTERACTIONS = ("s1", "s2", "drift_time", "x", "y", "z")


def arguments():
    parser = argparse.ArgumentParser(prog="paxer")
    parser.add_argument("--input")
    parser.add_argument("--output")
    parser.add_argument("--config", nargs="+", default=[], choices=CONFIGURATIONS)
    parser.add_argument("--config_path", nargs="+", default=[])
    parser.add_argument("--input_type", choices=["zpickle", "zbson"], default="zpickle")
    parser.add_argument("--output_type", nargs="+", choices=["root"], default=["root"])
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--stop_after", type=int)
    parser.add_argument("--ignore_rundb", action="store_true")
    options = parser.parse_args()
    if not options.config and not options.config_path:
        print("You did not specify any configuration!")
        parser.print_usage()
        sys.exit()
    return options


def configuration(options):
    """Read the overrides as pax does; its ``eval`` is literal_eval here."""
    reader = configparser.ConfigParser(
        inline_comment_prefixes="#",
        interpolation=configparser.ExtendedInterpolation(),
        strict=True,
        default_section="there is none",
    )
    reader.optionxform = str
    for path in options.config_path:
        if not Path(path).is_file():
            raise ValueError(f"Configuration file {path} does not exist!")
        reader.read(path)
    channels = CONFIGURATIONS[options.config[0]]
    read = {
        name: {key: ast.literal_eval(reader[name][key]) for key in reader[name]} for name in reader.sections()
    }
    read["DEFAULT"] = {"gains": [1e6] * channels, "drift_velocity_liquid": 1.5e-4} | read.get("DEFAULT", {})
    return read


def compile_event_class():
    source = "class Event { public: int event_number; };\n"
    stem = f"pax_event_class-{hashlib.md5(source.encode()).hexdigest()}"
    Path(f"{stem}.cpp").write_text(source)
    Path(f"{stem}.so").write_bytes(b"\x7fELF")
    Path(f"{stem}.lock").write_text(str(os.getpid()))


def events(options):
    """All events of the zips that are there."""
    directory = Path(options.input)
    for name in rawformat.zip_names(directory):
        wanted = {"zpickle": "pickle", "zbson": "bson"}[options.input_type]
        if rawformat.encoding(directory / name) != wanted:
            raise ValueError(f"{name} cannot be decoded as {options.input_type}")
        yield from rawformat.iter_zip(directory / name)


def peaks_of(event, gains):
    """Area in pe, channels and extent of each group of pulses that are close in time."""
    if not len(event.lefts):
        return []
    order = np.argsort(event.lefts)
    starts = np.concatenate([[0], np.cumsum(event.lengths)])[:-1]
    areas = np.add.reduceat(rawformat.REFERENCE_BASELINE - event.samples.astype(float), starts)
    areas = areas * 2.25 / 2**14 / 50 / 10 / 1.602e-19 * 1e-8 / np.maximum(gains[event.channels], 1e5)
    lefts, rights = event.lefts[order], (event.lefts + event.lengths)[order]
    breaks = np.flatnonzero(lefts[1:] > np.maximum.accumulate(rights)[:-1] + 50) + 1
    peaks = []
    for group in np.split(order, breaks):
        channels, area = event.channels[group], areas[group]
        peaks.append(
            {
                "area": area.sum(),
                "area_fraction_top": area[channels < 127].sum() / max(area.sum(), 1e-9),
                "n_contributing_channels": len(np.unique(channels)),
                "largest_hit_channel": channels[np.argmax(area)],
                "left": event.lefts[group].min(),
                "right": (event.lefts + event.lengths)[group].max(),
            }
        )
    return peaks


def row(event, config):
    peaks = peaks_of(event, np.asarray(config["DEFAULT"]["gains"], float))
    wide = [i for i, peak in enumerate(peaks) if peak["right"] - peak["left"] > 200]
    narrow = [i for i, peak in enumerate(peaks) if i not in wide and peak["n_contributing_channels"] > 1]
    s2s, s1s = (sorted(which, key=lambda i: -peaks[i]["area"]) for which in (wide, narrow))
    found = []
    if s1s and s2s and peaks[s1s[0]]["left"] < peaks[s2s[0]]["left"]:
        drift = 10.0 * (peaks[s2s[0]]["left"] - peaks[s1s[0]]["left"])
        z = -config["DEFAULT"]["drift_velocity_liquid"] * drift
        found = [{"s1": s1s[0], "s2": s2s[0], "drift_time": drift, "x": 0.0, "y": 0.0, "z": z}]
    return peaks, found, s1s, s2s


def write(tree, batch, config):
    rows = [row(event, config) for event in batch]
    lists = {}
    for at, (name, keys) in enumerate({"peaks": PEAKS, "interactions": INTERACTIONS}.items()):
        counts = [len(each[at]) for each in rows]
        flat = {key: np.array([item[key] for each in rows for item in each[at]], float) for key in keys}
        lists[name] = ak.unflatten(ak.zip(flat), counts)
    for at, name in ((2, "s1s"), (3, "s2s")):
        counts = [len(each[at]) for each in rows]
        lists[name] = ak.unflatten(np.array([i for each in rows for i in each[at]], np.int32), counts)
    numbers = {
        key: np.array([getattr(event, key) for event in batch], np.int64)
        for key in ("event_number", "start_time", "stop_time", "n_pulses")
    }
    tree.extend(numbers | lists)


def records(keys):
    return f"var * {{{', '.join(f'{key}: float64' for key in keys)}}}"


def metadata(config):
    named = uproot.models.TNamed.Model_TNamed.empty()
    named._bases = [uproot.models.TObject.Model_TObject.empty()]
    content = {
        "run_number": config["DEFAULT"].get("run_number", 0),
        "tpc": "XENON1T",
        "file_builder_name": "pax",
        "file_builder_version": VERSION,
        "timestamp": time.time(),
        "configuration": config,
    }
    named._members.update(fName="pax_metadata", fTitle=json.dumps(content))
    return named


def main():
    options = arguments()
    if not options.ignore_rundb:
        raise ConnectionError("runs database: no servers found")
    config = configuration(options)
    compile_event_class()
    file = uproot.recreate(f"{options.output}.root", compression=uproot.ZLIB(1))
    file["pax_metadata"] = metadata(config)
    tree = file.mktree(
        "tree",
        dict.fromkeys(("event_number", "start_time", "stop_time", "n_pulses"), "int64")
        | {"peaks": records(PEAKS), "interactions": records(INTERACTIONS)}
        | {"s1s": "var * int32", "s2s": "var * int32"},
        field_name=lambda outer, inner: f"{outer}.{inner}" if outer else inner,
    )
    batch = []
    for done, event in enumerate(events(options)):
        if done == options.stop_after:
            break
        batch.append(event)
        if len(batch) == 10:
            write(tree, batch, config)
            print(f"{done + 1} events processed")
            batch = []
    if batch:
        write(tree, batch, config)
    file.close()


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(1)  # as after a crash: what was written so far stays
