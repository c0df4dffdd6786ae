"""The page of a processed run: what it shows of each kind."""

import re

import pytest

import nasty
from caxflow.conditions.settings import freeze
from caxflow.mini import process_run
from caxflow.monitoring import runreport
from caxflow.simulate import run_document, simulate_run
from caxflow.targets import Run

TITLES = {
    "tpc": ["Main S1", "Main S2", "Drift time", "S2 against S1", "S2 against drift time"],
    "muon_veto": ["Largest peak", "Channels that saw the largest peak"],
    "led": ["Largest peak", "Channels that saw the largest peak"],
}


@pytest.mark.parametrize("kind", TITLES)
def test_a_page_has_the_spectra_of_its_kind_in_their_unit(tmp_path, kind):
    run = Run("160315_1432", "muon_veto" if kind == "muon_veto" else "tpc")
    taken = {"kind": kind, "number": 0 if kind == "muon_veto" else 7, "events": 4}
    simulate_run(tmp_path / str(run), run.name, seed=1, **taken)
    settings = freeze(run_document(run.name, **taken), processor="mini_v1", pax_version="v0.0.1")
    process_run(tmp_path / str(run), tmp_path / "a.root", settings=settings, run=run, cores=1)
    made = {"run": str(run), "site": "midway", "location": "a.root", "bytes": 1, "proof": "read"}
    made |= {"manifest": {"digest": "xxh128:0"}, "by": {"user": "u", "host": "h"}, "caxflow": "1"}
    made["at"] = "2016-03-16T10:00:00+00:00"
    page = runreport.page(runreport.read_spectra(tmp_path / "a.root"), made, settings, {})
    raw = made | {"source": "<script>\x1b[31m\u202e", "location": "<b>\u202e"}
    foreign = runreport.page(runreport.read_spectra(tmp_path / "a.root"), made, settings, {"raw.done": raw})
    assert "<script>" not in foreign
    assert nasty.shown_effects(foreign.partition("</style>")[2].partition("Where it comes from")[2]) == []
    assert re.findall("<h3>(.*?)</h3>", page) == [*TITLES[kind], "All light of an event"]
    assert "4, all that the trigger built" in page
    assert "4 events, median" in page
    assert f"area [{'electrons' if kind == 'led' else 'pe'}]" in page
