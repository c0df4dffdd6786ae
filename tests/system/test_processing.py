"""Three runs, TPC, muon veto and LED, from the simulator through Slurm to processed files and minitrees."""

import subprocess

import numpy as np
import pytest

import needs
from caxflow.simulate import run_document, simulate_run
from experiment import HOSTS, ROOT, entry, written
from slurm import PROGRAMS, OnSlurm, Slurm

RUNS = {"tpc": "160315_1432", "muon_veto": "160315_1432_MV", "led": "160315_1608"}
EVENTS = {"tpc": 120, "muon_veto": 30, "led": 20}
PER_FILE = {"tpc": 40, "muon_veto": 30, "led": 20}
# No number of a document is an int, as where the mongo shell or people wrote it.
WRITTEN = {"tpc": "decimals", "muon_veto": "texts", "led": "doubles"}


@pytest.fixture(scope="module")
def processed(tmp_path_factory, require, database_uri):
    """The experiment in which ``all`` was called once at midway, the truth of each run, and what was said."""
    import uuid

    import pymongo

    from caxflow.demo.sshd import SshSites

    for program in (*PROGRAMS, "sshd", "xxhsum"):
        require(program)
    needs.root()
    folder = tmp_path_factory.mktemp("processing")
    name = f"test_{uuid.uuid4().hex[:12]}"
    with (
        Slurm(folder / "slurm") as slurm,
        SshSites(folder / "sites", ["lngs", "midway", "tegner"], embedded=False) as sites,
        pymongo.MongoClient(database_uri) as client,
    ):
        made = OnSlurm(folder, sites, database_uri, name)
        made.slurm, made.runs = slurm, client[name]["runs_new"]
        (sites["midway"].root / "minitrees").mkdir()
        made.site(
            "midway",
            roots=("raw", "processed", "minitrees"),
            pull_from=["lngs"],
            processed={"version": "mini_v1", "cores": 2},
            minitrees={"make": ["Basics", "Fundamentals"]},
        )
        made.truth = {kind: _take(made, kind) for kind in RUNS}
        # The TPC's run is shared by three jobs, one a zip.
        # Bounds of `select` hold for numbers and starts that are texts, too.
        bounds = {"numbers": {"first": 0, "last": 1608}, "start": {"after": "2016-03-15"}}
        how = {"processors": {"mini_v1": {"kind": "mini", "scatter": 1}}, "select": bounds}
        code, made.said = made.snakemake("all", **how)
        assert code == 0, made.said
        yield made
        client.drop_database(name)


def _take(experiment, kind):
    run, number = RUNS[kind], 1432 if kind != "led" else 1608
    settings = {"kind": kind, "number": number, "events": EVENTS[kind], "events_per_file": PER_FILE[kind]}
    raw = experiment.raw("lngs", run)
    truth = simulate_run(raw, run[:11], seed=number, **settings)
    document = run_document(run[:11], **settings, locations={HOSTS["lngs"]: str(raw)})
    experiment.runs.insert_one(written(document, WRITTEN[kind]))
    return truth


def tree(experiment, kind):
    import uproot

    with uproot.open(experiment.work(f"midway/{RUNS[kind]}.processed.root")) as file:
        return file["tree"].arrays()


def test_slurm_did_the_processing_and_asked_no_database(processed):
    rules = [job["about"].partition(" ")[0] for job in processed.slurm.jobs()]
    assert {rule: rules.count(rule) for rule in rules} == {
        "process_part": 3,
        "process_raw": 3,
        "make_minitrees": 3,
    }
    assert not (processed.folder / "asked").exists()


@pytest.mark.parametrize("kind", RUNS)
def test_each_fact_is_told_and_holds(processed, kind):
    run = RUNS[kind]
    key = {"name": run[:11], "detector": "muon_veto" if kind == "muon_veto" else "tpc"}
    for what in ("raw", "processed", "minitrees"):
        found = entry(processed.runs, what, "midway", *key.values())
        assert found["status"] == "transferred"
        assert found["manifest"].startswith("xxh128:")
    product = processed.work(f"midway/{run}.processed.root").resolve()
    for sums, folder in (("checksum", processed.raw("midway", run)), ("processed.checksum", product.parent)):
        path = processed.work(f"midway/{run}.{sums}")
        checked = subprocess.run(
            ["xxhsum", "-c", path], cwd=folder, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
    assert tree(processed, kind)["event_number"].tolist() == list(range(EVENTS[kind]))


def test_signals_are_those_that_were_simulated(processed):
    import awkward as ak

    truth, events = processed.truth["tpc"], tree(processed, "tpc")

    def main(name, column):
        values = events[f"peaks.{column}"][events[f"interactions.{name}"][:, :1]]
        return ak.to_numpy(ak.fill_none(ak.firsts(values), np.nan))

    s1, s2 = main("s1", "area"), main("s2", "area")
    # The truth has mean times; pax's drift time is that between the highest samples.
    drift = main("s2", "center_time") - main("s1", "center_time")
    good = np.isfinite(truth.s2_area) & ~truth.vetoed
    assert good.sum() > 0.9 * EVENTS["tpc"]
    assert np.mean(np.abs(s2[good] / truth.s2_area[good] - 1) < 0.05) >= 0.95
    assert np.mean(np.abs(s1[good] / truth.s1_area[good] - 1) < 0.10) >= 0.95
    assert np.mean(np.abs(drift[good] - truth.drift_time[good]) < 100) >= 0.95


def test_minitrees_say_what_the_processed_file_says(processed):
    import uproot

    events = tree(processed, "tpc")
    folder = entry(processed.runs, "minitrees", "midway")["location"]
    with uproot.open(f"{folder}/{RUNS['tpc']}_Basics.root") as file:
        basics = file["Basics"].arrays(library="np")
    assert basics["event_number"].tolist() == list(range(EVENTS["tpc"]))
    assert set(basics["run_number"]) == {1432}
    first = [row[0] if len(row) else np.nan for row in events["interactions.drift_time"].tolist()]
    assert np.array_equal(basics["drift_time"], first, equal_nan=True)
    with uproot.open(f"{folder}/{RUNS['tpc']}_Fundamentals.root") as file:
        times = file["Fundamentals"]["event_time"].array().tolist()
    assert times == events["start_time"].tolist()


def test_the_report_shows_each_run(processed, tmp_path):
    code, said = processed.snakemake("report")
    assert code == 0, said
    for kind, run in RUNS.items():
        page = processed.work(f"midway/{run}.report.html").read_text()
        assert f"{EVENTS[kind]:,}, all that the trigger built" in page
        assert ("Drift time" in page) == (kind == "tpc")
        assert (
            entry(
                processed.runs,
                "processed",
                "midway",
                run[:11],
                *(["muon_veto"] if kind == "muon_veto" else []),
            )["manifest"]
            in page
        )
    words = processed.command("report")
    words[words.index("--") : words.index("--")] = ["--report", str(tmp_path / "report.html")]
    done = subprocess.run(
        words, cwd=ROOT, env=processed.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    whole = (tmp_path / "report.html").read_text()
    assert [whole.count(f"{run}.report.html") > 0 for run in RUNS.values()] == [True] * 3
