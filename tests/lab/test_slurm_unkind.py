"""A Slurm that preempts, forgets, refuses, holds and falls silent: no job holds a call, no run is blamed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import needs
from caxflow.targets import Run, Target
from caxflow.workdir import batchjobs, journal
from experiment import entry
from slurm import PROGRAMS, Slurm, on_slurm, processors
from waiting import until

RUN, OTHER = "160315_1432", "160315_1433"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory, require):
    for program in PROGRAMS:
        require(program)
    needs.root()
    with Slurm(tmp_path_factory.mktemp("slurm") / "unkind", preempting=True) as made:
        yield made


@pytest.fixture
def experiment(tmp_path, slurm, require, database_uri):
    require("sshd")
    with on_slurm(tmp_path, slurm, database_uri) as made:
        yield made
        slurm.run("scancel", "--user=root")
        going = ("PENDING", "RUNNING", "COMPLETING")
        until(lambda: not [job for job in slurm.jobs() if job["state"] in going], "an end of all jobs")


def add(experiment, mood, name=RUN):
    experiment.add_run(experiment.runs, name)
    (experiment.moods / name).write_text(mood)


@contextlib.contextmanager
def call(experiment, **profile):
    """A call for everything that is at work; ended with the test, whatever happens."""
    experiment.changes = profile
    process = experiment.start("all", processors=processors(experiment.moods))
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if not process.stdout.closed:
            process.communicate()


def ended(process):
    said, _ = process.communicate(timeout=300)
    assert "Traceback" not in said, said
    return said


def in_state(experiment, *states, name=RUN):
    """Wait until a job for a run is in one of some states; its id."""
    found = []
    until(
        lambda: found.extend(job for job in experiment.slurm.of(name) if job["state"] in states) or found,
        f"a job for {name} that is {states}",
        300,
    )
    return found[0]["id"]


def at_work(experiment, attempt=1, name=RUN):
    """Wait until the program of a run's job has begun for so many times."""
    tries = experiment.moods / f"{name}.tries"
    until(lambda: tries.exists() and tries.read_text() == str(attempt), f"attempt {attempt} of {name}", 300)


def failure(experiment, name=RUN):
    return journal.failure(experiment.work(), Target("midway", Run.parse(name), "processed.done"))


def asked(experiment, *words):
    """What `caxflow` says, with the configuration of the calls."""
    profile = {"configfile": str(experiment.folder / "midway.config.yaml")}
    folder = experiment.write("asking/config.yaml", profile).parent
    done = subprocess.run(
        [sys.executable, "-m", "caxflow.cli", *words, "--profile", str(folder)],
        env=experiment.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def processed(experiment, name=RUN):
    assert entry(experiment.runs, "processed", "midway", name)["status"] == "transferred"
    assert experiment.work(f"midway/{name}.processed.root").resolve().is_file()
    assert failure(experiment, name) is None


def test_s1_s2_a_job_that_is_pushed_out_or_forgotten_is_made_again(experiment):
    add(experiment, "slow")
    add(experiment, "slow", OTHER)
    with call(experiment, **{"caxflow-lost-after": 1}) as process:
        at_work(experiment)
        at_work(experiment, name=OTHER)
        # One is cancelled and forgotten while nobody looks.
        os.kill(process.pid, signal.SIGSTOP)
        job = in_state(experiment, "RUNNING", name=OTHER)
        experiment.slurm.run("scancel", job)
        until(lambda: job not in {each["id"] for each in experiment.slurm.jobs()}, "Slurm to forget", 120)
        os.kill(process.pid, signal.SIGCONT)
        at_work(experiment, 2, OTHER)
        # The other one has to make room.
        until(lambda: not experiment.slurm.of(OTHER), f"an end of {OTHER}", 120)
        urgent = ["sbatch", "--parsable", "--partition=urgent", "--mem=7500", "--wrap=true"]
        experiment.slurm.run(*urgent, f"--output={experiment.folder}/urgent.log")
        said = ended(process)
    assert process.returncode == 0, said
    assert f"Slurm does not know job {job} any more" in said
    assert "it had to make room for others" in said
    processed(experiment)
    processed(experiment, OTHER)
    assert list(batchjobs.listed(experiment.work())) == []


def refused(experiment, **resources):
    """A call whose job Slurm does not take: the one line that says why."""
    experiment.changes = {"default-resources": {"slurm_partition": "xenon1t"} | resources}
    code, said = experiment.snakemake("all", processors=processors(experiment.moods))
    assert code == 1, said
    (line,) = [line for line in said.splitlines() if "FAILED" in line]
    assert line.count("Slurm took no job") == 1
    copies = [each["type"] for each in experiment.runs.find_one({"name": RUN})["data"]]
    assert "processed" not in copies
    assert failure(experiment)["attempts"] == 0
    assert not (experiment.moods / f"{RUN}.tries").exists()
    return line


def test_s3_what_never_began_is_no_failure_of_the_run(experiment):
    add(experiment, "good")
    line = refused(experiment, slurm_partition="nosuch")
    assert "invalid partition specified: nosuch" in line
    assert "check slurm_partition in default-resources of the profile, now nosuch" in line
    code, said = asked(experiment, "why", RUN)
    assert code == 1
    assert "Slurm took no job" in said
    experiment.changes = {}
    code, said = experiment.snakemake("all", processors=processors(experiment.moods))
    assert code == 0, said
    processed(experiment)


def test_s6_a_held_job_is_known_and_goes_on_whatever_ends_the_calls(experiment):
    add(experiment, "waiting")
    slurm = experiment.slurm
    slurm.run("scontrol", "update", "PartitionName=xenon1t", "State=DOWN")
    try:
        with call(experiment) as process:
            job = in_state(experiment, "PENDING")
            name = next(batchjobs.listed(experiment.work())).name
            until(lambda: batchjobs.read(experiment.work(), name).reason == "PartitionDown", "a look", 60)
            code, said = asked(experiment, "why", RUN)
            assert code == 1
            assert f"its job {job} (process_raw) waits in Slurm: PartitionDown, since 2" in said
            assert "it waits" in said
            assert f"its job {job} " in asked(experiment, "status", RUN)[1]
            told = json.loads(asked(experiment, "why", RUN, "--json")[1])
            assert [each["job"] for each in told[0]["batch"]] == [job]
            process.terminate()
            said = ended(process)
        assert f"job {job} in Slurm ({RUN}): PartitionDown" in said
        assert f"job {job} goes on in Slurm; the next call takes it up" in said
    finally:
        slurm.run("scontrol", "update", "PartitionName=xenon1t", "State=UP")
    assert "so it was last known" in asked(experiment, "why", RUN)[1]
    at_work(experiment)
    # The next call is killed, and so hard that it can say nothing.
    with call(experiment) as process:
        until(lambda: batchjobs.read(experiment.work(), name).by["pid"] == process.pid, "a second call", 120)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with call(experiment) as process:
        until(lambda: batchjobs.read(experiment.work(), name).by["pid"] == process.pid, "a third call", 120)
        code, said = asked(experiment, "why", RUN)
        assert code == 0, said
        assert f"its job {job} (process_raw) runs in Slurm, since 2" in said
        (experiment.moods / f"{RUN}.go").touch()
        said = ended(process)
    assert process.returncode == 0, said
    assert f"{RUN} (process_raw) goes on as job {job} in Slurm" in said
    assert (experiment.moods / f"{RUN}.tries").read_text() == "1"
    processed(experiment)


def test_sigterm_leaves_a_job_whose_submission_was_under_way(experiment):
    add(experiment, "waiting")
    asked, go = experiment.folder / "asked-sbatch", experiment.folder / "go-sbatch"
    late = experiment.slurm.folder / "bin/sbatch"
    waits = f"touch {asked}; while [ ! -e {go} ]; do sleep 0.1; done"
    late.write_text(f'#!/bin/sh\n{waits}\nexec {shutil.which("sbatch")} "$@"\n')
    late.chmod(0o755)
    try:
        with call(experiment) as process:
            until(asked.exists, "a submission", 120)
            process.terminate()
            go.touch()
            said = ended(process)
    finally:
        late.unlink()
    job = in_state(experiment, "RUNNING", "PENDING")
    assert f"job {job} goes on in Slurm; the next call takes it up" in said
    assert [record.job for record in batchjobs.listed(experiment.work())] == [job]


def test_sigterm_ends_a_call_though_the_controller_is_silent_and_ctrl_c_cancels(experiment):
    add(experiment, "waiting")
    with call(experiment) as process:
        at_work(experiment)
        with experiment.slurm.away():
            process.terminate()
            said = ended(process)
    assert "goes on in Slurm" in said
    with call(experiment) as process:
        job = in_state(experiment, "RUNNING")
        (record,) = batchjobs.listed(experiment.work())
        until(
            lambda: (batchjobs.read(experiment.work(), record.name) or record).by["pid"] == process.pid,
            "the next call",
            120,
        )
        os.killpg(process.pid, signal.SIGINT)
        said = ended(process)
    assert "interrupted" in said
    until(lambda: not [each for each in experiment.slurm.of(RUN) if each["state"] == "RUNNING"], "an end")
    assert job
    assert list(batchjobs.listed(experiment.work())) == []
    assert failure(experiment) is None
    assert Path(experiment.work("midway")).is_dir()
