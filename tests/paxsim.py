"""``shared/pax_sim``: raw events that pax simulated, and the main signals that pax 6.11.2 found in them."""

import json
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

import needs
from caxflow.mini import process_run
from caxflow.mini.classify import TYPES
from caxflow.targets import Run

RUN = Run("161101_1230")


@dataclass
class Comparison:
    """Of the embedded processor with pax; each array has one entry an event.

    Parameters
    ----------
    found : numpy.ndarray of bool
        There is an interaction of an S1 and an S2, of which neither has another area by a tenth.
    area : numpy.ndarray of float64
        Relative difference of the areas, the larger one of S1 and S2; NaN without an interaction, as below.
    drift_time : numpy.ndarray of float64
        Difference in ns.
    """

    found: np.ndarray
    area: np.ndarray
    drift_time: np.ndarray


def process(output: Path) -> dict[str, int]:
    """Process the events with one process."""
    folder = needs.shared("pax_sim")
    document = json.loads((folder / f"{RUN}.run.json").read_text())
    return process_run(folder / str(RUN), output, settings=document, run=RUN, cores=1)


def compare(output: Path) -> Comparison:
    """Compare what `process` wrote with pax's answers."""
    rows = json.loads((needs.shared("pax_sim") / "pax_answer.json").read_text())["rows"]
    number, s1_area, s2_area, drift_time = np.array(rows).T
    with uproot.open(output) as file:
        tree = file["tree"].arrays()
    if ak.to_list(tree["event_number"]) != number.astype(int).tolist():
        raise ValueError(f"{output} has other events than pax's answer")

    def main(kind, column):
        which = ak.firsts(tree[f"interactions.{kind}"])
        values = ak.firsts(tree[f"peaks.{column}"][ak.local_index(tree[f"peaks.{column}"]) == which])
        return ak.to_numpy(ak.fill_none(values, np.nan))

    areas = np.abs([main("s1", "area") / s1_area - 1, main("s2", "area") / s2_area - 1])
    types = (main("s1", "type") == TYPES["s1"]) & (main("s2", "type") == TYPES["s2"])
    drift = ak.to_numpy(ak.fill_none(ak.firsts(tree["interactions.drift_time"]), np.nan))
    return Comparison(types & (areas < 0.1).all(axis=0), areas.max(axis=0), np.abs(drift - drift_time))
