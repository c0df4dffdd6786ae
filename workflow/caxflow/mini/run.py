"""Process a run, or some of its zips, and join the parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from caxflow.errors import CaxflowError
from caxflow.files.rootfile import read_metadata
from caxflow.mini.analysis import Columns, analyse
from caxflow.mini.classify import TYPES
from caxflow.mini.parameters import Parameters
from caxflow.mini.workers import ordered_map
from caxflow.mini.writer import TreeWriter, read_columns
from caxflow.rawdata import rawformat
from caxflow.rawdata.rawformat import TPC_NAME
from caxflow.targets import Run

NAME = "mini"
# Raised where results change. The version that folder and database carry is that of the configuration, under
# which older files stay what they are.
VERSION = 2

# What pax does with its configurations of XENON1T and this does not, as it stands in each file.
NOT_DONE = (
    "positions by neural net and pattern fits (NeuralNet, TopPatternFit): x and y are a mean of top tubes",
    "corrections of position and field distortion (RZCorrection)",
    "light yield maps (S2SpatialCorrection, s1_spatial_correction): areas are corrected for lifetime only",
    "saturation corrections by map (S2SaturationCorrection)",
    "hit pattern fits and spreads, S1AreaFractionTopProbability",
    "hits, pulses, waveforms and anything else by channel",
    "peaks in other channels than the tubes'",
    "pax's event class: branches are flat, types are numbers (peak_types), no arrays of fixed size",
)

# Events a task: a worker opens the zip anew for each, which costs as much as reading a few events.
_TASK_EVENTS = 100


def process_run(
    raw_directory: str | Path,
    output: str | Path,
    *,
    settings: Mapping,
    run: Run,
    cores: int,
    zips: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, int]:
    """Find the peaks and interactions of a run and write them to a ROOT file.

    Parameters
    ----------
    raw_directory : path
        The raw dataset.
    output : path
        The ROOT file; written beside itself as ``.part``, synced, then renamed. It holds a TTree ``tree``
        with one entry an event, and the TNamed ``pax_metadata``.
    settings : mapping
        The run's frozen settings: ``kind`` (tpc, led, muon_veto) and ``processor``, pax's overrides by
        section.
    run : Run
    cores : int
        Number of processes.
    zips : sequence of str, optional
        Names of the zips to process, in order; all of them if not given.
    progress : callable, optional
        Called with the number of events done so far.

    Returns
    -------
    dict
        Number of events, pulses, hits, peaks, s1s, s2s and interactions.

    Raises
    ------
    CaxflowError
        Names the zip and event that cannot be read, or the setting that is missing.
    """
    directory = Path(raw_directory)
    parameters = Parameters.from_settings(settings, run)
    names = _choose(directory, zips)
    counts = dict.fromkeys(("events", "pulses", "hits", "peaks", "s1s", "s2s", "interactions"), 0)
    with TreeWriter(output, _metadata(settings, run)) as writer:
        for batches in ordered_map(_process, _tasks(directory, names, parameters), cores):
            for columns in batches:
                writer.add(columns)
                _tally(counts, columns)
            if progress:
                progress(counts["events"])
    return counts


def merge(parts: Sequence[str | Path], output: str | Path) -> int:
    """Join processed parts of one run, given in order, into what a single pass would have written.

    Returns
    -------
    int
        Number of events.

    Raises
    ------
    CaxflowError
        If the parts are not of one run with the same settings, or their events are out of order.
    """
    if not parts:
        raise CaxflowError(f"{output}: there are no parts to merge", "process the run's zips first")
    metadata = read_metadata(parts[0])
    previous = -1
    with TreeWriter(output, metadata) as writer:
        for part in parts:
            if read_metadata(part) != metadata:
                raise CaxflowError(
                    f"{part} was made from another run or with other settings than {parts[0]}",
                    "process the parts again from one settings file",
                )
            for columns in read_columns(part):
                numbers = columns["events"]["event_number"]
                if numbers[0] <= previous:
                    raise CaxflowError(
                        f"{part}: event {numbers[0]} follows event {previous}", "give the parts in order"
                    )
                previous = int(numbers[-1])
                writer.add(columns)
    return writer.events


def _choose(directory: Path, zips: Sequence[str] | None) -> list[str]:
    names = rawformat.zip_names(directory)
    if zips is None:
        return names
    missing = sorted(set(zips) - set(names))
    if missing:
        raise CaxflowError(
            f"{directory} has no {missing[0]!r}", f"it has {len(names)} zips, {names[0]} first"
        )
    return [name for name in names if name in zips]


def _tasks(directory: Path, names: Sequence[str], parameters: Parameters) -> Iterator[tuple]:
    """Split each zip in the same way whoever asks: sums are then the same to the last bit."""
    for name in names:
        numbers = rawformat.event_numbers(directory / name)
        for first in range(0, len(numbers), _TASK_EVENTS):
            yield directory / name, numbers[first : first + _TASK_EVENTS], parameters


def _process(path: Path, numbers: Sequence[int], parameters: Parameters) -> list[Columns]:
    return list(analyse(rawformat.iter_zip(path, numbers), parameters))


def _tally(counts: dict[str, int], columns: Columns) -> None:
    events = columns["events"]
    counts["events"] += len(events["event_number"])
    counts["pulses"] += int(events["n_pulses"].sum())
    counts["hits"] += int(events["n_hits"].sum())
    for name in ("peaks", "s1s", "s2s", "interactions"):
        counts[name] += int(columns[name]["count"].sum())


def _metadata(settings: Mapping, run: Run) -> dict:
    """What pax writes about itself, under its keys, and what else explains the file."""
    processor = dict(settings.get("processor") or {})
    # The version that folder and database carry, as pax writes it: without the "v".
    version = (settings.get("made_for") or {}).get("pax_version") or f"v0.0.{VERSION}"
    versions = processor.pop("correction_versions", {})
    return {
        "file_builder_name": f"caxflow {NAME}",
        "file_builder_version": version.removeprefix("v"),
        "mini_version": VERSION,
        "tpc": TPC_NAME,
        "run": str(run),
        "run_number": settings.get("number"),
        "configuration": processor,
        "correction_versions": settings.get("correction_versions") or versions,
        "peak_types": TYPES,
        "not_done": list(NOT_DONE),
    }
