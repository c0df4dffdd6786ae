"""The page of a processed run: what it shows of each kind."""

import re

import numpy as np
import pytest
import uproot
from uproot.serialization import _serialize_object_any, numbytes_version
from uproot.writing import _cascadetree
from uproot.writing.identify import to_TList

import nasty
from caxflow.conditions.settings import freeze
from caxflow.errors import CaxflowError
from caxflow.mini import process_run
from caxflow.mini.writer import _named
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


def test_formulas_of_a_file_are_not_evaluated(tmp_path, monkeypatch):
    # TTree::SetAlias keeps them, which uproot does not write.
    build, trace = _cascadetree.Tree._build_out, tmp_path / "trace"
    formula = f"[event_number, (event_number + 0).layout.data.tofile({str(trace)!r})][0]"
    names = (*runreport._BRANCHES, *runreport._INTERACTIONS)

    def with_formula(tree):
        parts, formulas = build(tree), []
        _serialize_object_any(formulas, to_TList([_named(name, formula) for name in names]), None)
        parts[-1] = b"".join(formulas) + parts[-1][4:]
        parts[0] = numbytes_version(sum(map(len, parts[1:])), 20)
        return parts

    monkeypatch.setattr(_cascadetree.Tree, "_build_out", with_formula)
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("tree", {"event_number": "int64"})
        file["tree"].extend({"event_number": np.arange(3)})
    with uproot.open(tmp_path / "a.root") as file:
        assert file["tree"].aliases == dict.fromkeys(names, formula)
    with pytest.raises(CaxflowError, match=r"a\.root"):
        runreport.read_spectra(tmp_path / "a.root")
    assert not trace.exists()
