import hashlib
import json
import pickle
import zipfile
import zlib

import bson
import numpy as np
import pytest

from caxflow import simulate
from caxflow.errors import CaxflowError
from caxflow.rawdata import rawformat
from caxflow.simulate import Truth, run_document, simulate_run

NAME = "160315_1432"


def digest(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_run(tmp_path / name, NAME, number=7, events=3, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a") != digest(tmp_path / "c")


@pytest.mark.parametrize(("kind", "side_files"), [("tpc", 4), ("led", 4), ("muon_veto", 3)])
def test_a_run_has_the_files_that_the_event_builder_leaves(kind, side_files, tmp_path):
    directory = tmp_path / NAME
    simulate_run(directory, NAME, kind=kind, number=7, events=5, events_per_file=2)
    zips = rawformat.zip_names(directory)
    assert len(list(directory.iterdir())) == len(zips) + side_files
    number = 0 if kind == "muon_veto" else 7
    assert zips[-1] == f"XENON1T-{number}-000000004-000000004-000000001.zip"
    info = json.loads((directory / "pax_info.json").read_text())
    assert info["run_number"] == number
    with zipfile.ZipFile(directory / zips[0]) as archive:
        assert archive.namelist() == ["0", "1"]
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
    with zipfile.ZipFile(directory / "trigger_monitor_data.zip") as archive:
        batch = bson.decode(zlib.decompress(archive.read("batch_info=000000000000")))
    assert batch["events_built"] == 5
    if kind != "muon_veto":
        with (directory / "acquisition_monitor_data.pickles").open("rb") as stream:
            assert isinstance(pickle.load(stream), str)
            assert pickle.load(stream)["module"] == 165


def test_events_are_those_of_the_detectors(tmp_path):
    for kind, n_channels in (("tpc", 260), ("led", 260), ("muon_veto", 88)):
        simulate_run(tmp_path / kind, NAME, kind=kind, number=7, events=4)
        events = list(rawformat.iter_run(tmp_path / kind))
        assert {event.n_channels for event in events} == {n_channels}
        starts = [event.start_time for event in events]
        assert all(before.stop_time < after for before, after in zip(events, starts[1:], strict=False))
        for event in events:
            assert event.samples.min() >= 0
            assert event.samples.max() <= rawformat.ADC_MAX
            assert abs(np.median(event.samples) - 16000) < 30
            n_samples = (event.stop_time - event.start_time) // 10
            assert ((event.lefts >= 0) & (event.lefts + event.lengths <= n_samples)).all()
            if kind == "led":
                assert sorted(event.channels) == list(range(260))
                assert set(event.lengths) == {1000}


def test_dead_tubes_see_nothing_and_pulses_come_in_no_order(tmp_path):
    simulate_run(tmp_path / NAME, NAME, number=7, events=4)
    dead = np.flatnonzero(simulate.gains("tpc") == 0)
    assert len(dead) == 30
    for event in rawformat.iter_run(tmp_path / NAME):
        assert not np.isin(event.channels, dead).any()
        assert (np.diff(event.channels) < 0).any()


def test_vetoed_events_say_what_they_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(simulate, "_HIGH_ENERGY_VETO", 1.0)
    truth = simulate_run(tmp_path / NAME, NAME, number=7, events=2)
    assert truth.vetoed.all()
    assert np.isnan(truth.s2_area).all()
    for event in rawformat.iter_run(tmp_path / NAME):
        assert len(event.channels) == 0
        assert event.n_pulses > 50


def test_truth_is_kept_and_makes_sense(tmp_path):
    truth = simulate_run(tmp_path / NAME, NAME, number=7, events=40, seed=3)
    truth.save(tmp_path / "truth.npz")
    again = Truth.load(tmp_path / "truth.npz")
    good = ~truth.vetoed
    assert np.array_equal(again.s2_area, truth.s2_area, equal_nan=True)
    assert (np.hypot(truth.x, truth.y)[good] < 47.9).all()
    assert ((truth.z[good] < 0) & (truth.z[good] > -96.9)).all()
    expected = -truth.z / simulate.DRIFT_VELOCITY + 1700
    # Diffusion moves the mean arrival of few electrons.
    assert (np.abs(truth.drift_time - expected)[good] < 1000).all()
    assert abs(np.mean((truth.drift_time - expected)[good])) < 150
    assert (truth.area[good] > truth.s1_area[good] + truth.s2_area[good]).all()


@pytest.mark.parametrize("kind", ["tpc", "led", "muon_veto"])
def test_the_document_is_one_of_the_runs_database(kind):
    document = run_document(
        NAME, kind=kind, number=7, events=50, locations={"xe1t-datamanager": "/data/raw/x"}, raw_size_byte=9
    )
    assert bson.decode(bson.encode(document))["trigger"]["events_built"] == 50
    assert document["start"].strftime("%y%m%d_%H%M") == NAME
    assert document["start"].tzinfo is None
    assert document["end"] > document["start"]
    assert document["reader"]["self_trigger"] is (kind != "led")
    assert document["reader"]["ini"]["write_mode"] == 2
    assert (document["detector"], document["number"]) == {
        "tpc": ("tpc", 7),
        "led": ("tpc", 7),
        "muon_veto": ("muon_veto", 0),
    }[kind]
    (entry,) = document["data"]
    assert (entry["type"], entry["host"], entry["status"]) == ("raw", "xe1t-datamanager", "transferred")
    if kind == "tpc":
        assert document["processor"]["DEFAULT"]["gains"] == simulate.gains("tpc").tolist()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CaxflowError, match="not a kind of run"):
        simulate_run(tmp_path / "a", NAME, kind="neutron_veto", number=1, events=1)
    with pytest.raises(CaxflowError, match="not the name of a run"):
        simulate_run(tmp_path / "a", "yesterday", number=1, events=1)
    with pytest.raises(CaxflowError, match="not an encoding"):
        simulate_run(tmp_path / "a", NAME, number=1, events=1, encoding="json")
    assert not (tmp_path / "a").exists()
