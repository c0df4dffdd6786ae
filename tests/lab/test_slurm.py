"""Processing on a real Slurm, by the profile of a site: what becomes of jobs that end badly."""

import contextlib
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest

import needs
from caxflow import batch
from caxflow.targets import Run, Target
from caxflow.workdir import journal
from experiment import Experiment, entry
from slurm import ACCOUNTING_PROGRAMS, PROGRAMS, OnSlurm, Slurm, on_slurm, processors


@pytest.fixture(scope="module")
def slurms(tmp_path_factory, require):
    """Two of them: one without accounts, and one that keeps them."""
    for program in (*PROGRAMS, *ACCOUNTING_PROGRAMS):
        require(program)
    needs.root()
    folder = tmp_path_factory.mktemp("slurm")
    with Slurm(folder / "plain") as plain, Slurm(folder / "accounted", accounting=True) as accounted:
        yield plain, accounted


@pytest.fixture
def experiments(tmp_path, slurms, require, database_uri):
    """One experiment on each Slurm."""
    require("sshd")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(on_slurm(tmp_path / s.folder.name, s, database_uri)) for s in slurms]


NAMES = {"good": "160315_1432", "failing": "160315_1433", "cancelled": "160315_1434"}
NAMES |= {"slow": "160315_1435", "hungry": "160315_1436"}


def test_jobs_that_end_badly_end_as_their_owner_wants(experiments):
    for experiment in experiments:
        for mood, name in NAMES.items():
            experiment.add_run(experiment.runs, name)
            (experiment.moods / name).write_text(mood)
    # Beside each other: most of it is waiting.
    with ThreadPoolExecutor(len(experiments)) as pool:
        said = list(pool.map(_work_off, experiments))
    for experiment, words in zip(experiments, said, strict=True):
        _as_wanted(experiment, words)
    _as_the_accounts_say(experiments[1].slurm)


def _work_off(experiment: OnSlurm) -> str:
    """Call for everything, and do to its jobs what their owner or their limits would."""
    process = experiment.start("all", processors=processors(experiment.moods))
    slurm = experiment.slurm
    slurm.run("scancel", _running(experiment, "cancelled", process))
    # The shortest limit; an end of "now" is refused when a second has gone by at the controller.
    slurm.run("scontrol", "update", f"JobId={_running(experiment, 'slow', process)}", "TimeLimit=1")
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 1, said
    assert "Traceback" not in said, said
    return said


def _running(experiment: OnSlurm, mood: str, process: subprocess.Popen) -> str:
    """Id of the job for a run once it is at work."""
    begun, deadline = experiment.moods / f"{NAMES[mood]}.tries", time.monotonic() + 600
    while not begun.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    if not begun.exists():
        process.kill()
        pytest.fail(f"no job for {NAMES[mood]}: {process.communicate()[0]}")
    (job,) = [job for job in experiment.slurm.jobs() if NAMES[mood] in job["about"]]
    return job["id"]


def _as_wanted(experiment: OnSlurm, said: str) -> None:
    runs, slurm = experiment.runs, experiment.slurm
    reasons = {mood: _failure(experiment, name) for mood, name in NAMES.items()}
    tries = {mood: int((experiment.moods / f"{name}.tries").read_text()) for mood, name in NAMES.items()}
    # What more memory or time mends is tried again, with more of it; nothing else is.
    assert tries == {"good": 1, "failing": 1, "cancelled": 1, "slow": 2, "hungry": 2}, said
    for mood in ("good", "slow", "hungry"):
        assert reasons[mood] is None
        assert entry(runs, "processed", "midway", NAMES[mood])["status"] == "transferred"
        assert experiment.work(f"midway/{NAMES[mood]}.processed.root").resolve().is_file()
    for mood, word in (("failing", "the electron lifetime is negative"), ("cancelled", "it was cancelled")):
        reason, log = reasons[mood]["reason"], experiment.work(f"logs/midway/{NAMES[mood]}.process_raw.log")
        assert word in reason
        assert word in said
        assert word in log.read_text()
        assert reasons[mood]["attempts"] == 1
        told = entry(runs, "processed", "midway", NAMES[mood])
        assert (told["status"], told["caxflow"]["error"]) == ("error", reason)
        assert not experiment.work(f"midway/{NAMES[mood]}.processed.done").exists()
    for mood, word in (("slow", "it ran out of time"), ("hungry", "it ran out of memory")):
        (line,) = [line for line in said.splitlines() if "FAILED" in line and NAMES[mood] in line]
        assert word in line
    # More memory the second time.
    asked = [job["memory"] for job in slurm.jobs() if NAMES["hungry"] in job["about"]]
    assert sorted(asked) == ["1600M", "800M"]
    # Only whole files stand under their names, and nothing beside them.
    folder = experiment.sites["midway"].root / "processed" / "pax_v6.11.2"
    whole = sorted(f"{NAMES[mood]}.root" for mood in ("good", "slow", "hungry"))
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == whole
    # Copies stayed with Snakemake, processing went to Slurm, which asked no database.
    assert {job["about"].partition(" ")[0] for job in slurm.jobs()} == {"process_raw"}
    assert not (experiment.folder / "asked").exists()


def _as_the_accounts_say(slurm: Slurm) -> None:
    """How the jobs ended is in the accounts, and read there once the controller has forgotten them."""
    mood_of = {
        job["id"]: mood for job in slurm.jobs() for mood, name in NAMES.items() if name in job["about"]
    }
    states: dict[str, list[str]] = {}
    for job, state in slurm.accounts().items():
        states.setdefault(mood_of[job], []).append(state)
    assert states["good"] == ["COMPLETED"]
    assert set(states["failing"]) == {"FAILED"}
    assert states["cancelled"][0] == "CANCELLED by 0"
    assert states["slow"] == ["TIMEOUT", "COMPLETED"]
    # Where there are control groups it is called OUT_OF_MEMORY.
    assert states["hungry"] == ["FAILED", "COMPLETED"]
    slurm.forget()
    assert slurm.jobs() == []
    accounts = slurm.accounts()
    with mock.patch.dict(os.environ, slurm.environment):
        found = batch.load("slurm").ask(list(accounts), slurm.folder)
    assert {job: each.phase for job, each in found.items()} == {
        job: "done" if state == "COMPLETED" else "failed" for job, state in accounts.items()
    }


def _failure(experiment: Experiment, name: str) -> dict | None:
    failed = journal.failure(experiment.work(), Target("midway", Run.parse(name), "processed.done"))
    return json.loads(json.dumps(failed))
