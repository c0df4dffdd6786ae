"""The demo from the first byte to processed files, as `make demo` runs it, checked by other programs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pymongo
import pytest

from caxflow.demo.database import DatabaseServer
from caxflow.demo.scene import RECIPES, SITES
from caxflow.simulate import Truth

RUNS = [str(recipe.run) for recipe in RECIPES]


def run_demo(home, root):
    environment = os.environ | {
        "CAXFLOW_HOME": str(home),
        "PYTHONPATH": str(root / "workflow"),
        "COLUMNS": "120",
    }
    return subprocess.run(
        [sys.executable, "-m", "caxflow.demo"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def processes_of(directory):
    """Command lines of living processes that speak of `directory`."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(directory) in line]


def files(directory):
    return {
        path.relative_to(directory): path.stat().st_mtime_ns
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory, pytestconfig, require):
    """The folder in which the demo ran once; its output is in ``output``."""
    for tool in ("sshd", "ssh", "xxhsum", "rsync"):
        require(tool)
    home = tmp_path_factory.mktemp("demo")
    done = run_demo(home, pytestconfig.rootpath)
    (home / "output").write_text(done.stdout)
    assert done.returncode == 0, done.stdout
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def data(home):
    return home / "demo-data"


def test_shows_every_copy_with_its_proof(home):
    table = (home / "output").read_text().partition("What is where")[2]
    for run in RUNS:
        assert run in table
    assert table.count(", read back ") == len(RUNS) * 4
    assert "snakemake --profile demo -n all" in table


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("site", ["midway", "tegner"])
def test_xxhsum_accepts_the_checksums(data, run, site):
    checksums = data / "work" / site / f"{run}.checksum"
    checked = subprocess.run(
        ["xxhsum", "-c", checksums],
        cwd=data / site / "raw" / run,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count(": OK") == len(list((data / "lngs" / "raw" / run).iterdir()))


@pytest.mark.parametrize("site", ["midway", "tegner"])
def test_rsync_finds_no_difference(data, site):
    compare = ["rsync", "-rnc", "--delete", "--itemize-changes", "--exclude=/.caxflow-root"]
    found = subprocess.run(
        [*compare, f"{data}/lngs/raw/", f"{data}/{site}/raw/"], capture_output=True, text=True, check=True
    )
    assert found.stdout == ""


@pytest.mark.parametrize("recipe", RECIPES, ids=RUNS)
def test_processed_files_hold_every_event(data, recipe):
    import uproot

    made = data / "work" / "midway" / f"{recipe.run}.processed.root"
    with uproot.open(made) as file:
        assert file["tree"]["event_number"].array(library="np").tolist() == list(range(recipe.events))
    received = list((data / "tegner" / "processed").rglob(f"{recipe.run}.root"))
    assert [path.read_bytes() == made.read_bytes() for path in received] == [True]


def test_processed_physics_is_what_was_simulated(data):
    import awkward as ak
    import uproot

    run = RUNS[0]
    truth = Truth.load(data / "truth" / f"{run}.npz")
    with uproot.open(data / "work" / "midway" / f"{run}.processed.root") as file:
        area = file["tree"]["peaks.area"].array()
        s2s = file["tree"]["s2s"].array()
    largest = ak.to_numpy(ak.fill_none(ak.max(area[s2s], axis=1), 0))
    has_s2 = np.isfinite(truth.s2_area) & ~truth.vetoed
    off = np.abs(largest[has_s2] / truth.s2_area[has_s2] - 1)
    assert np.mean(off < 0.05) >= 0.95


def test_other_programs_find_the_copies_in_the_database(data):
    with DatabaseServer(data / "rundb") as database, pymongo.MongoClient(database.uri) as client:
        for recipe in RECIPES:
            key = {"name": recipe.run.name, "detector": recipe.run.detector}
            entries = client.run.runs_new.find_one(key)["data"]
            raw = {entry["host"]: entry for entry in entries if entry["type"] == "raw"}
            assert {entry["status"] for entry in entries} == {"transferred"}
            assert len(raw) == len(SITES)
            assert len({entry["manifest"] for entry in raw.values()}) == 1
            for entry in entries:
                assert Path(entry["location"]).exists()
            processed = [entry for entry in entries if entry["type"] == "processed"]
            assert sorted(entry["host"] for entry in processed) == ["midway-login1", "tegner-login-1"]
            # hax takes the largest pax_version and globs for <name>.root below it.
            assert {Path(entry["location"]).name for entry in processed} == {f"{recipe.run}.root"}


def test_leaves_nothing_running(home, data):
    assert processes_of(home) == []


def test_second_demo_does_nothing_and_says_so(home, data, pytestconfig):
    kinds = [data / site / kind for site in SITES for kind in ("raw", "processed")]
    before = [files(kind) for kind in kinds] + [files(data / "work" / site) for site in SITES]
    again = run_demo(home, pytestconfig.rootpath)
    assert again.returncode == 0, again.stdout
    assert "nothing to do at midway" in again.stdout
    assert "simulating" not in again.stdout
    assert [files(kind) for kind in kinds] + [files(data / "work" / site) for site in SITES] == before
    assert processes_of(home) == []
