"""What a physicist wants to see of a processed run: its spectra, its counts, and where all of it comes from.

One HTML page a run, complete in itself, for ``snakemake --report``; made of the processed file and of the
receipts beside it.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow import __version__, words
from caxflow.conditions.runkind import LED, TPC
from caxflow.errors import CaxflowError
from caxflow.files import rootfile
from caxflow.legible import html
from caxflow.monitoring import histogram

if TYPE_CHECKING:
    import numpy as np

Rows = Sequence[tuple[str, str]]

_CHUNK_BYTES = 50_000_000
_BRANCHES = ("start_time", "stop_time", "peaks.area", "peaks.n_contributing_channels", "s1s", "s2s")
_INTERACTIONS = ("interactions.s1", "interactions.s2", "interactions.drift_time")

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1d2733; --soft: #5c6b7a; --line: #dfe5ea; --data: #1f6fb2; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --soft: #9aa8b5; --line: #333d47; --data: #64b0ea; --paper: #161b20 }
}
body { margin: 1.5rem auto; max-width: 62rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem }
h3 { font-size: .95rem; margin: 0 0 .2rem } p.about { color: var(--soft); margin: .2rem 0 1rem }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { color: var(--soft); font-size: .85rem }
svg { width: 100%; height: auto; display: block } svg text { font-size: 12px; fill: var(--soft) }
text.count, text.label { text-anchor: end } .cell { fill: var(--data) } text.tick { text-anchor: middle }
.grid { stroke: var(--line) } line.tick { stroke: var(--soft) }
.area { fill: var(--data); fill-opacity: .22; stroke: var(--data); stroke-width: 1.4 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0;
  border-top: 1px solid var(--line) }
th { font-weight: 500; color: var(--soft); width: 13rem } td { overflow-wrap: anywhere }
.bad { color: #c0392b; font-weight: 600 }
"""


@dataclass
class Spectra:
    """What is drawn and counted; every array has one entry an event, NaN where there is no value.

    Parameters
    ----------
    area : numpy.ndarray of float64
        All light of the event in pe.
    largest, channels : numpy.ndarray of float64
        Area of its largest peak in pe, and how many channels saw that.
    s1, s2 : numpy.ndarray of float64
        Area in pe of the main interaction's S1 and S2.
    drift_time : numpy.ndarray of float64
        In ns.
    peaks, s1s, s2s : int
        Numbers in the whole file.
    seconds : float
        From the start of the first event to the end of the last.
    """

    area: "np.ndarray"
    largest: "np.ndarray"
    channels: "np.ndarray"
    s1: "np.ndarray"
    s2: "np.ndarray"
    drift_time: "np.ndarray"
    peaks: int
    s1s: int
    s2s: int
    seconds: float


def read_spectra(path: str | Path) -> Spectra:
    """Read what is drawn out of a processed file, of pax or of the embedded processor, some events at a time.

    Raises
    ------
    CaxflowError
        If it cannot be read.
    """
    import awkward as ak
    import numpy as np

    columns: dict[str, list] = {
        name: [] for name in ("area", "largest", "channels", "s1", "s2", "drift_time")
    }
    counts = dict.fromkeys(("peaks", "s1s", "s2s"), 0)
    first, last = np.inf, -np.inf
    with rootfile.opened(path) as file:
        tree = file[rootfile.TREE]
        # Each by itself: what is asked for by several names at once, a file may hold as formulas, and
        # uproot has Python evaluate them.
        branches = {name: tree[name] for name in (*_BRANCHES, *_INTERACTIONS)}
        if odd := [name for name, branch in branches.items() if not rootfile.is_numbers(branch)]:
            raise CaxflowError(f"{path}: branch {odd[0]} does not hold numbers", "process the run again")
        for start, stop in rootfile.steps(branches.values(), int(tree.num_entries), _CHUNK_BYTES):
            events = {
                name: branch.array(entry_start=start, entry_stop=stop, library="ak")
                for name, branch in branches.items()
            }
            area = events["peaks.area"]
            columns["area"].append(np.asarray(ak.sum(area, axis=1), np.float64))
            largest = ak.argmax(area, axis=1, keepdims=True)
            columns["largest"].append(_first(area[largest]))
            columns["channels"].append(_first(events["peaks.n_contributing_channels"][largest]))
            for kind in ("s1", "s2"):
                columns[kind].append(_first(area[events[f"interactions.{kind}"][:, :1]]))
            columns["drift_time"].append(_first(events["interactions.drift_time"]))
            counts["peaks"] += int(ak.count(area))
            counts["s1s"] += int(ak.count(events["s1s"]))
            counts["s2s"] += int(ak.count(events["s2s"]))
            first = min(first, float(ak.min(events["start_time"])))
            last = max(last, float(ak.max(events["stop_time"])))
    joined = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in columns.items()}
    return Spectra(**joined, **counts, seconds=max(0.0, (last - first) / 1e9))


def page(spectra: Spectra, made: Mapping, settings: Mapping, receipts: Mapping[str, Mapping | None]) -> str:
    """The page of a run.

    Parameters
    ----------
    made, settings : mapping
        Its ``processed.done`` and ``settings.json``.
    receipts : mapping
        Others by stage, None where they are not there: ``raw.done``, ``minitrees.done``.
    """
    run, kind = made["run"], settings["kind"]
    about = [
        {"tpc": "physics run", "led": "LED run"}.get(kind, "muon veto"),
        f"number {settings['number']}",
        f"began {(settings.get('start') or 'at an unknown time').replace('T', ' ')} UTC",
        f"processed by {made.get('processor', 'another site')} at {made['site']}",
    ]
    sections = [
        f'<div class="figures">{"".join(_figures(spectra, kind, _unit(settings)))}</div>',
        "<h2>Events</h2>" + _table(_events(spectra, settings)),
        "<h2>Settings</h2>" + _table(list(_settings(settings))),
        "<h2>Where it comes from</h2>" + _table(list(_provenance(made, receipts))),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html(run)}</title><style>{_STYLE}</style></head>\n"
        f'<body><h1>{html(run)}</h1><p class="about">{html(", ".join(about))}</p>\n'
        + "\n".join(sections)
        + f'\n<p class="about">caxflow {__version__}</p></body></html>\n'
    )


def _first(jagged) -> "np.ndarray":
    import awkward as ak
    import numpy as np

    return np.asarray(ak.fill_none(ak.firsts(jagged), np.nan), np.float64)


def _unit(settings: Mapping) -> str:
    """What areas are counted in: an LED run, of which gains are measured, is processed with gains of 1."""
    gains = settings["processor"].get("DEFAULT", {}).get("gains") or [1]
    return "electrons" if settings["kind"] == LED and max(gains) == 1 else "pe"


def _figures(spectra: Spectra, kind: str, unit: str) -> Iterator[str]:
    label = f"area [{unit}]"
    if kind == TPC:
        drift = spectra.drift_time / 1000
        yield histogram.draw(spectra.s1, title="Main S1", label="area [pe]", log=True, of="pe")
        yield histogram.draw(spectra.s2, title="Main S2", label="area [pe]", log=True, of="pe")
        yield histogram.draw(drift, title="Drift time", label="[µs]", of="µs")
        labels = ("S1 area [pe]", "S2 area [pe]")
        yield histogram.draw_plane(spectra.s1, spectra.s2, title="S2 against S1", labels=labels)
        yield histogram.draw_plane(
            drift,
            spectra.s2,
            title="S2 against drift time",
            labels=("drift time [µs]", "S2 area [pe]"),
            log=(False, True),
        )
    else:
        yield histogram.draw(spectra.largest, title="Largest peak", label=label, log=True, of=unit)
        yield histogram.draw(spectra.channels, title="Channels that saw the largest peak", label="channels")
    yield histogram.draw(spectra.area, title="All light of an event", label=label, log=True, of=unit)


def _events(spectra: Spectra, settings: Mapping) -> Rows:
    found, built = len(spectra.area), settings["events_built"]
    same = f"{found:,}, all that the trigger built"
    paired = int((spectra.s1 == spectra.s1).sum())
    rate = found / spectra.seconds if spectra.seconds else 0
    rows = [
        ("events", same if found == built else f'<span class="bad">{found:,} of {built:,} built</span>'),
        ("rate", f"{rate:.3g} events a second, over {words.duration(spectra.seconds)}"),
        ("peaks", f"{spectra.peaks:,}; {spectra.peaks / max(found, 1):.1f} an event"),
    ]
    if settings["kind"] == TPC:
        rows.append(("signals", f"{words.count(spectra.s1s, 'S1')}, {words.count(spectra.s2s, 'S2')}"))
        rows.append(("with an interaction", f"{paired:,} events ({100 * paired / max(found, 1):.1f} %)"))
    return rows


def _settings(settings: Mapping) -> Iterator[tuple[str, str]]:
    default = settings["processor"].get("DEFAULT", {})
    yield "configuration", html(settings["configuration"])
    for name, unit, factor, label in (
        ("electron_lifetime_liquid", "µs", 1e-3, "electron lifetime"),
        ("drift_velocity_liquid", "km/s", 1e4, "drift velocity"),
    ):
        if isinstance(default.get(name), int | float):
            source = settings["sources"].get(f"DEFAULT.{name}", "")
            yield label, html(f"{default[name] * factor:.4g} {unit} ({source})")
    if gains := default.get("gains"):
        source = settings["sources"].get("DEFAULT.gains", "")
        yield "gains", html(f"{sum(gain > 0 for gain in gains)} of {len(gains)} tubes on ({source})")
    versions = settings["correction_versions"]
    yield "corrections", html(", ".join(f"{k} {v}" for k, v in versions.items()) or "none recorded")
    yield "frozen", html(_time(settings["frozen"]))


def _provenance(made: Mapping, receipts: Mapping[str, Mapping | None]) -> Iterator[tuple[str, str]]:
    if raw := receipts.get("raw.done"):
        source = f"copied from {html(raw['source'])}, " if raw.get("source") else ""
        yield "raw copy", f"{html(raw['location'])}<br>{source}{_bytes(raw)}, {html(raw['proof'])}"
    yield "processed file", f"{html(made['location'])}<br>{_bytes(made)}, {html(made['proof'])}"
    by = made["by"]
    seconds = f" in {words.duration(made['seconds'])}" if made.get("seconds") else ""
    yield (
        "made",
        html(f"{_time(made['at'])} by {by['user']}@{by['host']}{seconds}, caxflow {made['caxflow']}"),
    )
    if trees := receipts.get("minitrees.done"):
        names = ", ".join(f"{name} ({rows:,} rows)" for name, rows in trees["rows"].items())
        yield "minitrees", f"{html(trees['location'])}<br>{html(names)}"


def _bytes(receipt: Mapping) -> str:
    return html(f"{words.size(receipt['bytes'])}, {receipt['manifest']['digest']}")


def _time(text: str) -> str:
    return f"{datetime.datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"


def _table(rows: Rows) -> str:
    """A table; values are HTML."""
    return (
        "<table>" + "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows) + "</table>"
    )
