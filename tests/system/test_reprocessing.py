"""What is made of a run again, or beside: other versions, newer corrections, several jobs for one run."""

import datetime
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caxflow.targets import Run, Target
from caxflow.workdir import journal
from caxrows import checksum
from experiment import ROOT, entry

RUN = "160315_1432"
MINI = {"mini_v1": {"kind": "mini"}, "mini_v2": {"kind": "mini"}}


@pytest.fixture
def experiment(experiment):
    """One site that processes, and makes minitrees."""
    _keep(experiment, "mini_v1")
    return experiment


def _keep(experiment, version, **keys):
    (experiment.sites["midway"].root / "minitrees").mkdir(exist_ok=True)
    experiment.site(
        "midway",
        roots=("raw", "processed", "minitrees"),
        pull_from=["lngs"],
        processed={"version": version, "cores": 1},
        minitrees={"make": ["Basics", "Fundamentals"]},
        **keys,
    )


def content(path):
    """Every branch of a processed file, as lists."""
    import uproot

    with uproot.open(path) as file:
        return {name: branch.array().tolist() for name, branch in file["tree"].items()}


def preview(experiment, target, **config):
    """What ``snakemake -n`` says."""
    words = experiment.command(target, **config)
    words.insert(words.index("--"), "-n")
    done = subprocess.run(
        words, cwd=ROOT, env=experiment.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_another_version_stands_beside_the_one_that_the_site_keeps(experiment, runs):
    experiment.add_run(runs)
    code, said = experiment.snakemake("all", processors=MINI)
    assert code == 0, said
    folder = experiment.sites["midway"].root / "processed"
    code, said = experiment.snakemake(f"midway/pax_v0.0.2/{RUN}.root", processors=MINI)
    assert code == 0, said
    link = experiment.work(f"midway/pax_v0.0.2/{RUN}.root")
    assert link.resolve() == folder / "pax_v0.0.2" / f"{RUN}.root"
    kept = experiment.work(f"midway/{RUN}.processed.root")
    assert kept.resolve() == folder / "pax_v0.0.1" / f"{RUN}.root"
    versions = [each["pax_version"] for each in runs.find_one()["data"] if each["type"] == "processed"]
    assert versions == ["v0.0.1", "v0.0.2"]
    assert {each["status"] for each in runs.find_one()["data"]} == {"transferred"}
    code, said = experiment.snakemake("all", processors=MINI)
    assert "nothing to do at midway" in said
    code, said = experiment.snakemake(f"midway/pax_v9.9/{RUN}.root", processors=MINI)
    assert code == 1
    assert "no processor has version v9.9" in said


def test_a_new_version_in_the_site_file_makes_new_files_and_moves_the_links(experiment, runs):
    experiment.add_run(runs)
    code, said = experiment.snakemake("all", processors=MINI)
    assert code == 0, said
    link, folder = experiment.work(f"midway/{RUN}.processed.root"), experiment.sites["midway"].root
    first = link.resolve()
    _keep(experiment, "mini_v2")
    said = preview(experiment, "all", processors=MINI)
    assert f"process {RUN} at midway" in said
    assert f"make the minitrees of {RUN}" in said
    assert link.resolve() == first
    for again in (1, 2):
        code, said = experiment.snakemake(f"midway/{RUN}.processed.root", "all", processors=MINI)
        assert code == 0, said
        assert link.resolve() == folder / "processed" / "pax_v0.0.2" / f"{RUN}.root", again
    assert "process_raw" not in said
    assert first.is_file()
    # The old receipt is that version's own now, and its link stands beside it.
    assert experiment.work(f"midway/pax_v0.0.1/{RUN}.root").resolve() == first
    assert experiment.work(f"midway/pax_v0.0.1/{RUN}.done").is_file()
    minitrees = sorted(path.parent.name for path in (folder / "minitrees").glob("*/*_Basics.root"))
    assert minitrees == ["pax_v0.0.1", "pax_v0.0.2"]  # where hax looks for them
    # And back: nothing is processed again, only the link moves.
    made = first.stat().st_mtime_ns
    _keep(experiment, "mini_v1")
    code, said = experiment.snakemake(f"midway/{RUN}.processed.root", processors=MINI)
    assert code == 0, said
    assert link.resolve() == first
    assert first.stat().st_mtime_ns == made


def test_several_jobs_make_of_a_run_what_one_does(experiment, runs):
    experiment.add_run(runs, events=20, events_per_file=4)
    code, said = experiment.snakemake(
        f"midway/{RUN}.processed.root", processors={"mini_v1": {"kind": "mini", "scatter": 2}}
    )
    assert code == 0, said
    assert [f"process part {number:04d}-of-0003 of {RUN}" in said for number in (1, 2, 3)] == [True] * 3
    code, said = experiment.snakemake(f"midway/pax_v0.0.2/{RUN}.root", processors=MINI)
    assert code == 0, said
    scattered = content(experiment.work(f"midway/{RUN}.processed.root"))
    # As text: there are NaNs.
    assert repr(scattered) == repr(content(experiment.work(f"midway/pax_v0.0.2/{RUN}.root")))
    assert scattered["event_number"] == list(range(20))
    assert not list(experiment.work("parts").rglob("*.root"))


def _gains(database, version, value):
    day = datetime.datetime(2017, 1, 1) + datetime.timedelta(days=float(version))
    database["gains"].insert_one(
        {"version": version, "calculation_time": day, "function": f"{value} + 0*pmt"}
    )


CORRECTIONS = {"apply": ["AddGains", "AddDriftVelocity"]}


def test_corrections_are_written_before_processing_and_newer_ones_make_a_file_stale(
    experiment, runs, database
):
    experiment.add_run(runs)
    runs.update_one(
        {}, {"$unset": {"processor.DEFAULT.gains": 1, "processor.DEFAULT.drift_velocity_liquid": 1}}
    )
    runs.update_one({}, {"$unset": {"processor.correction_versions": 1}})
    _gains(database, "6.0", 2e6)
    database["drift_velocity"].insert_one(
        {"version": "1.1", "calculation_time": datetime.datetime(2017, 1, 1), "function": "1.4 + 0.001*v"}
    )
    before = runs.find_one()
    # Without slow control the run waits, whatever else could be done.
    preview(experiment, "all", corrections=CORRECTIONS)
    assert runs.find_one() == before
    code, said = experiment.snakemake("all", corrections=CORRECTIONS)
    assert code == 0, said
    assert "waiting for slow control" in said
    assert not experiment.work(f"midway/{RUN}.processed.root").exists()
    assert experiment.work(f"midway/{RUN}.checksum").exists()
    # Nothing is written into the document of a run that is not about to be processed.
    assert "correction_versions" not in runs.find_one()["processor"]

    known = CORRECTIONS | {"slow_control": {"ranges": [{"min": 0, "max": 10_000, "value": 12.0}]}}
    code, said = experiment.snakemake("all", corrections=known)
    assert code == 0, said
    processor = runs.find_one()["processor"]
    assert processor["correction_versions"] == {"AddGains": "6.0", "AddDriftVelocity": "1.1"}
    assert processor["DEFAULT"]["drift_velocity_liquid"] == pytest.approx(1.412e-4)
    made = entry(runs, "processed", "midway")
    assert made["caxflow"]["correction_versions"] == {"AddGains": "6.0", "AddDriftVelocity": "1.1"}
    first = content(experiment.work(f"midway/{RUN}.processed.root"))

    _gains(database, "7.0", 4e6)
    code, said = experiment.snakemake("all", corrections=known)
    assert code == 0, said
    assert "its processed file is stale (AddGains 6.0, now 7.0)" in said
    assert entry(runs, "processed", "midway")["manifest"] == made["manifest"]
    assert runs.find_one()["processor"]["correction_versions"]["AddGains"] == "6.0"

    code, said = experiment.snakemake("all", corrections=known | {"reprocess": True})
    assert code == 0, said
    assert entry(runs, "processed", "midway")["caxflow"]["correction_versions"]["AddGains"] == "7.0"
    assert entry(runs, "processed", "midway")["status"] == "transferred"
    assert entry(runs, "processed", "midway")["checksum"] != made["checksum"]
    second = content(experiment.work(f"midway/{RUN}.processed.root"))
    total = [sum(map(sum, each["peaks.area"])) for each in (first, second)]
    assert total[1] == pytest.approx(total[0] / 2, rel=0.01)
    code, said = experiment.snakemake("all", corrections=known | {"reprocess": True})
    assert "nothing to do at midway" in said


def test_what_is_made_anew_reaches_the_sites_that_keep_copies(experiment, runs, database):
    experiment.add_run(runs)
    _gains(database, "6.0", 2e6)
    newest = {"corrections": {"apply": ["AddGains"], "reprocess": True}}
    _keep(experiment, "mini_v1", push_to=["tegner"])
    kept = experiment.sites["tegner"].root / "processed" / "pax_v0.0.1" / f"{RUN}.root"
    code, said = experiment.snakemake("all", **newest)
    assert code == 0, said
    first = entry(runs, "processed", "tegner")
    assert first["caxflow"]["correction_versions"]["AddGains"] == "6.0"

    _gains(database, "7.0", 4e6)
    assert f"push processed {RUN} to tegner" in preview(experiment, "all", **newest)
    code, said = experiment.snakemake("all", **newest)
    assert code == 0, said
    _is_the_same_as_at_midway(experiment, runs, kept, "7.0")
    assert entry(runs, "processed", "tegner")["manifest"] != first["manifest"]

    # A site that fetches for itself finds it, too.
    _gains(database, "8.0", 8e6)
    _keep(experiment, "mini_v1")
    for site in ("midway", "tegner"):
        code, said = experiment.snakemake("all", site=site, **newest)
        assert code == 0, said
    _is_the_same_as_at_midway(experiment, runs, kept, "8.0")
    code, said = experiment.snakemake("all", site="tegner", **newest)
    assert "nothing to do at tegner" in said
    assert database["caxflow_audit"].count_documents({"action": "replaced"}) == 2


def _is_the_same_as_at_midway(experiment, runs, kept, version):
    here, there = (entry(runs, "processed", site) for site in ("midway", "tegner"))
    for each in (here, there):
        assert each["status"] == "transferred"
        assert each["caxflow"]["correction_versions"]["AddGains"] == version
        assert each["caxflow"]["verified"]
    assert there["manifest"] == here["manifest"]
    assert there["checksum"] == here["checksum"] == checksum(Path(there["location"]))
    assert kept.read_bytes() == Path(here["location"]).read_bytes()
    # The old one went through the trash, and nothing else lies about.
    root = experiment.sites["tegner"].root / "processed"
    assert [path for path in root.rglob("*") if path.is_file() and path.name != ".caxflow-root"] == [kept]


PAXER = (
    " --input {input} --output {output_stem} --config {configuration} --config_path {overrides}"
    " --input_type {input_type} --ignore_rundb"
)


def test_a_file_that_could_not_be_made_anew_stays_good_and_the_failure_counts(experiment, runs, database):
    experiment.add_run(runs)
    _gains(database, "6.0", 2e6)
    mood = experiment.folder / "moods" / RUN
    mood.parent.mkdir()
    mood.write_text("good")
    program = [sys.executable, ROOT / "tests/lab/misbehave.py", mood.parent, "{run}"]
    words = " ".join(map(str, [*program, ROOT / "tests/standin_paxer.py"])) + PAXER
    config = {
        "processors": {"pax_v6.11.2": {"kind": "command", "command": words, "conda": ""}},
        "corrections": {"apply": ["AddGains"], "reprocess": True},
        "pause": 60,
    }
    experiment.site("midway", pull_from=["lngs"], processed={"version": "pax_v6.11.2", "cores": 1})
    code, said = experiment.snakemake("all", **config)
    assert code == 0, said
    good = entry(runs, "processed", "midway")
    mood.write_text("failing")
    _gains(database, "7.0", 4e6)
    code, said = experiment.snakemake("all", **config)
    assert code == 1, said
    told = entry(runs, "processed", "midway")
    same = ("status", "manifest", "location", "checksum")
    assert [told[name] for name in same] == [good[name] for name in same]
    assert told["caxflow"]["attempts"] == 1
    assert "the electron lifetime is negative" in told["caxflow"]["error"]
    # It waits out its pause, and says so.
    tries = mood.with_name(f"{RUN}.tries")
    assert tries.read_text() == "2"
    code, said = experiment.snakemake("all", **config)
    assert code == 0, said
    assert "making processed data at midway anew is tried again at" in said
    assert tries.read_text() == "2"
    assert Path(told["location"]).is_file()
    mood.write_text("good")
    runs.update_one(
        {"data.type": "processed"}, {"$unset": {"data.$.caxflow.next": 1}, "$inc": {"caxflow.revision": 1}}
    )
    code, said = experiment.snakemake("all", **config)
    assert code == 0, said
    note = entry(runs, "processed", "midway")["caxflow"]
    assert note["correction_versions"]["AddGains"] == "7.0"
    assert not {"error", "attempts", "next"} & set(note)


def test_l8_minitrees_hold_each_event_and_their_row_names_no_others(experiment, runs):
    import uproot

    experiment.add_run(runs)
    code, said = experiment.snakemake("all")
    assert code == 0, said
    made = entry(runs, "minitrees", "midway")
    assert (made["status"], made["pax_version"]) == ("transferred", "v0.0.1")
    for name in ("Basics", "Fundamentals"):
        with uproot.open(f"{made['location']}/{RUN}_{name}.root") as file:
            assert file[name]["event_number"].array().tolist() == list(range(8))
    # cax's PurgeProcessed removes what a row names, a folder with all that is in it: that of one run.
    other = Path(made["location"]).parent / "160316_0000" / "160316_0000_Basics.root"
    other.parent.mkdir()
    other.touch()
    assert Path(made["location"]).is_dir()
    assert all(path.name.startswith(f"{RUN}_") for path in Path(made["location"]).iterdir())
    shutil.rmtree(made["location"])
    assert other.exists()
    # One more treemaker without a command is refused before anything is done.
    experiment.site(
        "midway",
        roots=("raw", "processed", "minitrees"),
        processed={"version": "mini_v1"},
        minitrees={"make": ["Basics", "Proximity"]},
    )
    code, said = experiment.snakemake("all")
    assert code == 1
    assert "treemaker Proximity is not embedded" in said
    assert journal.failure(experiment.work(), Target("midway", Run.parse(RUN), "minitrees.done")) is None
