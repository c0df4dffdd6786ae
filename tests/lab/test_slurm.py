"""Processing on a real Slurm, by the profile of a site: what becomes of jobs that end badly."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caxflow.targets import Run, Target
from caxflow.workdir import journal
from experiment import ROOT, Experiment, entry
from slurm import PROGRAMS, OnSlurm, Slurm

PAXER = (
    "--input {input} --output {output_stem} --config {configuration} --config_path {overrides}"
    " --input_type {input_type} --ignore_rundb"
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory, require):
    for program in PROGRAMS:
        require(program)
    with Slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def experiment(tmp_path, sites, slurm, database, database_uri):
    made = OnSlurm(tmp_path, sites, database_uri, database.name)
    made.slurm = slurm
    made.limits = ("process_raw:runtime=1",)
    made.site("midway", pull_from=["lngs"], processed={"version": "pax_v6.11.2", "cores": 1})
    return made


@pytest.fixture
def runs(database):
    return database["runs_new"]


def processors(folder: Path) -> dict:
    misbehave, paxer = ROOT / "tests/lab/misbehave.py", ROOT / "tests/standin_paxer.py"
    words = f"{sys.executable} {misbehave} {folder} {{run}} {paxer} {PAXER}"
    definition = {"kind": "command", "command": words, "conda": "", "memory_mb_per_core": 800}
    return {"pax_v6.11.2": definition}


def test_jobs_that_end_badly_end_as_their_owner_wants(experiment, runs, slurm):
    moods = experiment.folder / "moods"
    moods.mkdir()
    names = {"good": "160315_1432", "failing": "160315_1433", "cancelled": "160315_1434"}
    names |= {"slow": "160315_1435", "hungry": "160315_1436"}
    for mood, name in names.items():
        experiment.add_run(runs, name)
        (moods / name).write_text(mood)
    process = experiment.start("all", processors=processors(moods))
    _cancel_when_running(slurm, names["cancelled"], moods / f"{names['cancelled']}.tries", process)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 1, said
    assert "Traceback" not in said, said

    reasons = {mood: _failure(experiment, name) for mood, name in names.items()}
    tries = {mood: int((moods / f"{name}.tries").read_text()) for mood, name in names.items()}
    # What more memory or time mends is tried again, with more of it; nothing else is.
    assert tries == {"good": 1, "failing": 1, "cancelled": 1, "slow": 2, "hungry": 2}, said
    for mood in ("good", "slow", "hungry"):
        assert reasons[mood] is None
        assert entry(runs, "processed", "midway", names[mood])["status"] == "transferred"
        assert experiment.work(f"midway/{names[mood]}.processed.root").resolve().is_file()
    for mood, word in (("failing", "the electron lifetime is negative"), ("cancelled", "it was cancelled")):
        reason, log = reasons[mood]["reason"], experiment.work(f"logs/midway/{names[mood]}.process_raw.log")
        assert word in reason
        assert word in said
        assert word in log.read_text()
        assert reasons[mood]["attempts"] == 1
        told = entry(runs, "processed", "midway", names[mood])
        assert (told["status"], told["caxflow"]["error"]) == ("error", reason)
        assert not experiment.work(f"midway/{names[mood]}.processed.done").exists()
    for mood, word in (("slow", "it ran out of time"), ("hungry", "it ran out of memory")):
        (line,) = [line for line in said.splitlines() if "FAILED" in line and names[mood] in line]
        assert word in line
    # More memory the second time.
    asked = [job["memory"] for job in slurm.jobs() if names["hungry"] in job["about"]]
    assert sorted(asked) == ["1600M", "800M"]
    # Only whole files stand under their names, and nothing beside them.
    folder = experiment.sites["midway"].root / "processed" / "pax_v6.11.2"
    whole = sorted(f"{names[mood]}.root" for mood in ("good", "slow", "hungry"))
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == whole
    # Copies stayed with Snakemake, processing went to Slurm, which asked no database.
    assert {re.sub("_wildcards.*", "", job["about"]) for job in slurm.jobs()} == {"rule_process_raw"}
    assert not (experiment.folder / "asked").exists()


def _cancel_when_running(slurm: Slurm, name: str, begun: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 180
    while not begun.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    if not begun.exists():
        process.kill()
        pytest.fail(f"no job for {name}: {process.communicate()[0]}")
    (job,) = [job for job in slurm.jobs() if name in job["about"]]
    slurm.run("scancel", job["id"])


def _failure(experiment: Experiment, name: str) -> dict | None:
    failed = journal.failure(experiment.work(), Target("midway", Run.parse(name), "processed.done"))
    return json.loads(json.dumps(failed))


def test_the_same_through_scripts_for_batch_systems_without_a_plugin(experiment, runs, slurm):
    moods = experiment.folder / "moods"
    moods.mkdir()
    names = {"good": "160315_1442", "failing": "160315_1443"}
    for mood, name in names.items():
        experiment.add_run(runs, name)
        (moods / name).write_text(mood)
    calls = {
        f"cluster-generic-{verb}-cmd": f"{sys.executable} -m caxflow.batch.batchsystem slurm {verb}"
        for verb in ("submit", "status", "cancel")
    }
    experiment.generic = {"executor": "cluster-generic"} | calls
    experiment.limits = ()
    code, said = experiment.snakemake("all", processors=processors(moods))
    assert code == 1, said
    assert entry(runs, "processed", "midway", names["good"])["status"] == "transferred", said
    assert "the electron lifetime is negative" in _failure(experiment, names["failing"])["reason"]
    assert (moods / f"{names['failing']}.tries").read_text() == "1"
    assert (moods / f"{names['good']}.tries").read_text() == "1"
    assert not (experiment.folder / "asked").exists()
