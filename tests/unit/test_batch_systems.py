"""Batch systems by their commands: what these are asked, and how their answers are read."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from caxflow import batch
from caxflow.batch import gridengine, slurm, system
from caxflow.batch.queue import Limits, Queue
from caxflow.batch.system import DONE, FAILED, RUNS, WAITS, NoAnswer, NotTaken, Wanted
from caxflow.errors import CaxflowError
from caxflow.workdir import batchjobs

WANTED = Wanted(
    name="process_raw.160315_1432.0123456789ab",
    about="process_raw 160315_1432",
    cores=3,
    memory_mb=4000,
    minutes=95,
    queue="long",
    account="xenon",
)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """`tools(name, said, code=0)` puts a program on the PATH that notes its arguments and says something."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)

    def make(name, said, code=0):
        stream = "1" if code == 0 else "2"
        path = folder / name
        path.write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/{name}.words\nenv > {tmp_path}/{name}.env\n"
            f"cat >&{stream} <<'END'\n{said}\nEND\nexit {code}\n"
        )
        path.chmod(0o755)
        return lambda: (tmp_path / f"{name}.words").read_text().split("\n")[:-1]

    return make


SUBMITS = [
    (
        "slurm",
        "sbatch",
        "17;cluster",
        "17",
        {
            "--cpus-per-task=3",
            "--mem=4000",
            "--time=95",
            "--no-requeue",
            "--partition=long",
            "--account=xenon",
        },
    ),
    ("gridengine", "qsub", "17", "17", {"smp", "3", "h_rt=5700", "h_vmem=1334M", "long", "-P", "xenon"}),
    (
        "pbs",
        "qsub",
        "17.server",
        "17.server",
        {"select=1:ncpus=3:mem=4000mb", "walltime=01:35:00", "long", "-A", "xenon"},
    ),
    ("htcondor", "condor_submit", "17.0 - 17.0", "17", {"-terse"}),
]


@pytest.mark.parametrize(("name", "tool", "answer", "job", "words"), SUBMITS)
def test_a_job_asks_for_what_its_rule_reserves(tools, tmp_path, monkeypatch, name, tool, answer, job, words):
    monkeypatch.setenv("PYTHONPATH", "/lib")
    asked = tools(tool, f"a banner of the site\n{answer}")
    made = batch.load(name).submit(replace(WANTED, options=("-x",)), tmp_path / "job.sh", tmp_path / "logs")
    assert made == job
    assert words <= set(asked())
    if name == "htcondor":
        told = dict(
            line.split(" = ", 1) for line in Path(asked()[-1]).read_text().splitlines() if " = " in line
        )
        assert told["request_memory"] == "4000MB"
        assert told["request_cpus"] == "3"
        assert told["allowed_execute_duration"] == "5700"
        assert told["batch_name"] == WANTED.name
        assert "PYTHONPATH" in told["getenv"]
    else:
        assert asked()[-1] == str(tmp_path / "job.sh")
        assert "-x" in asked()


@pytest.mark.parametrize(("name", "tool", "answer", "job", "words"), SUBMITS)
def test_jobs_get_no_secret_and_nothing_of_the_job_that_submits_them(
    tools, tmp_path, monkeypatch, name, tool, answer, job, words
):
    for variable in ("MONGODB_PASSWORD", "SLACK_WEBHOOK", "SLURM_MEM_PER_CPU", "SBATCH_ARRAY_INX"):
        monkeypatch.setenv(variable, "hunter2")
    monkeypatch.setenv("RUNS", "mongodb://caxflow:hunter2@runs.example/runs")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    # Nothing of their names says what they are.
    monkeypatch.setenv("EDITOR", "hunter2")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/hunter2")
    asked = tools(tool, answer)
    batch.load(name).submit(WANTED, tmp_path / "job.sh", tmp_path / "logs")
    passed = (tmp_path / f"{tool}.env").read_text()
    assert "hunter2" not in passed
    assert "SLURM_CONF=/etc/slurm.conf" in passed
    if name != "slurm":  # whose jobs' environment nobody else can read
        named = " ".join(asked())
        if name == "htcondor":
            named = Path(asked()[-1]).read_text()
        assert "PATH" in named
        for variable in ("MONGODB", "RUNS", "EDITOR", "SSH_AUTH_SOCK", "SLURM_CONF"):
            assert variable not in named


REFUSED = [
    ("slurm", "sbatch", "sbatch: error: invalid partition specified: nosuch", "slurm_partition"),
    (
        "slurm",
        "sbatch",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination "
        "specified",
        "slurm_account",
    ),
    (
        "slurm",
        "sbatch",
        "sbatch: error: Memory specification can not be satisfied",
        "memory_mb_per_core of the processor",
    ),
    (
        "slurm",
        "sbatch",
        "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds "
        "some limit)",
        "runtime",
    ),
    (
        "slurm",
        "sbatch",
        "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates "
        "accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "lower jobs",
    ),
    (
        "gridengine",
        "qsub",
        'Unable to run job: Job was rejected because job requests unknown queue "x".',
        "queue",
    ),
    ("gridengine", "qsub", "error: commlib error: got select error (Connection refused)", "qstat -f"),
    ("pbs", "qsub", "qsub: Unknown queue", "queue"),
    ("pbs", "qsub", "qsub: Job exceeds queue and/or server resource limits", "what it asked for"),
    ("htcondor", "condor_submit", "ERROR: Can't find address of local schedd", "default-resources"),
]


@pytest.mark.parametrize(("name", "tool", "said", "key"), REFUSED)
def test_a_refusal_has_the_words_of_the_batch_system_and_the_key_that_fixes_it(
    tools, tmp_path, name, tool, said, key
):
    tools(tool, said, 1)
    with pytest.raises(NotTaken) as caught:
        batch.load(name).submit(WANTED, tmp_path / "job.sh", tmp_path / "logs")
    last = said.splitlines()[-1].partition(": ")[2] or said
    assert last.removeprefix("error: ") in caught.value.what
    assert key in caught.value.mend
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", batch.SYSTEMS)
def test_a_command_that_is_not_there_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    made = batch.load(name)
    with pytest.raises(NotTaken, match=rf"took no job: {made.programs[0]} not found -> log in where"):
        made.submit(WANTED, tmp_path / "job.sh", tmp_path / "logs")
    with pytest.raises(NoAnswer):
        made.ask(["17"], tmp_path)


def test_an_answer_that_was_lost_on_its_way_makes_no_second_job(tools, tmp_path):
    tools("sbatch", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", 1)
    tools("squeue", "23|PENDING|1:35:00|Priority")
    assert batch.load("slurm").submit(WANTED, tmp_path / "job.sh", tmp_path / "logs") == "23"


@pytest.mark.parametrize(
    "answer", [("Submitted batch job 23", 0), ("sbatch: error: Zero Bytes were transmitted", 1)]
)
def test_a_submission_whose_answer_says_nothing_is_looked_for(tools, tmp_path, answer):
    tools("sbatch", *answer)
    tools("squeue", "23|PENDING|1:35:00|Priority")
    assert batch.load("slurm").submit(WANTED, tmp_path / "job.sh", tmp_path / "logs") == "23"


def test_an_unknown_system_is_named_with_the_key():
    for name in (None, "lsf"):
        with pytest.raises(CaxflowError, match="caxflow-system in the profile, to one of slurm"):
            batch.load(name)


# All that squeue(1) of Slurm 24.11 lists as job states.
SLURM_ENDS = {
    "BOOT_FAIL": system.NODE,
    "CANCELLED": system.CANCELLED,
    "DEADLINE": system.TIME,
    "FAILED": "the batch system says FAILED",
    "LAUNCH_FAILED": system.NODE,
    "NODE_FAIL": system.NODE,
    "OUT_OF_MEMORY": system.MEMORY,
    "PREEMPTED": system.PREEMPTED,
    "RECONFIG_FAIL": system.NODE,
    "REVOKED": "another cluster took it",
    "TIMEOUT": system.TIME,
    "CANCELLED by 1000": system.CANCELLED,
    "CANCELLED+": system.CANCELLED,
}
SLURM_GO_ON = {
    **dict.fromkeys(
        ("COMPLETING", "RUNNING", "RESIZING", "SIGNALING", "STAGE_OUT", "UPDATE_DB", "NEWSTATE"), RUNS
    ),
    **dict.fromkeys(("STOPPED", "SUSPENDED"), RUNS),
    **dict.fromkeys(("CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "POWER_UP_NODE"), WAITS),
    **dict.fromkeys(("REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"), WAITS),
}


@pytest.mark.parametrize("state", SLURM_ENDS)
def test_every_state_in_which_a_job_of_slurms_has_ended_ends_it(state):
    found = slurm.report(state, "None")
    assert (found.phase, found.reason) == (FAILED, SLURM_ENDS[state])
    assert found.again == (not state.startswith("CANCELLED"))


@pytest.mark.parametrize("state", SLURM_GO_ON)
def test_every_other_state_of_slurms_goes_on_and_a_held_one_is_told(state):
    found = slurm.report(state, "None")
    assert found.phase == SLURM_GO_ON[state]
    held = ("STOPPED", "SUSPENDED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
    assert found.stuck == (state in held)


@pytest.mark.parametrize(
    ("reason", "stuck", "impossible"),
    [
        ("None", False, False),
        ("Priority", False, False),
        ("Resources", False, False),
        ("AssocGrpCpuLimit", False, False),
        ("QOSMaxJobsPerUserLimit", False, False),
        ("PartitionDown", True, False),
        ("JobHeldUser", True, False),
        ("ReqNodeNotAvail, UnavailableNodes:n1", True, False),
        ("launch failed requeued held", True, False),
        ("a reason of a later version", True, False),
        ("PartitionTimeLimit", True, True),
        ("DependencyNeverSatisfied", True, True),
        ("QOSMaxMemoryPerJob", True, True),
    ],
)
def test_why_a_job_of_slurms_waits(reason, stuck, impossible):
    found = slurm.report("PENDING", reason)
    assert (found.phase, found.stuck, found.impossible) == (WAITS, stuck, impossible)


@pytest.mark.parametrize(
    ("state", "logged", "words"),
    [
        ("FAILED", "slurmstepd: error: Exceeded job memory limit", system.MEMORY),
        ("CANCELLED", "slurmstepd-n1: error: *** STEP 2.0 CANCELLED AT x", system.CANCELLED),
        ("TIMEOUT", "out of memory", system.TIME),
        ("FAILED", "KeyError: 'PATH'", "the batch system says FAILED (KeyError: 'PATH')"),
    ],
)
def test_the_log_says_what_the_state_does_not(tools, tmp_path, state, logged, words):
    (tmp_path / "slurm.17.log").write_text(f"Building DAG of jobs...\n{logged}\n")
    (tmp_path / "slurm.117.log").write_text("node failed")
    tools("squeue", f"17|{state}|1:35:00|None")
    assert batch.load("slurm").ask(["17"], tmp_path)["17"].reason.startswith(words)


def test_accounts_are_asked_for_what_slurm_has_forgotten_and_are_not_believed_to_be_alive(tools, tmp_path):
    tools("squeue", "")
    tools("sacct", "17|COMPLETED\n18|RUNNING\n19|CANCELLED by 0")
    found = batch.load("slurm").ask(["17", "18", "19", "20"], tmp_path)
    assert {job: each.phase for job, each in found.items()} == {"17": DONE, "19": FAILED}
    tools("sacct", "Slurm accounting storage is disabled", 1)
    assert batch.load("slurm").ask(["17"], tmp_path) == {}


SGE_ROW = "job-ID  prior  name\n-----\n     17 0.55500 process_ra root  {} 11/30/2026 20:00:00"


@pytest.mark.parametrize(
    ("letters", "phase", "stuck", "impossible"),
    [
        ("qw", WAITS, False, False),
        ("hqw", WAITS, True, False),
        ("Eqw", WAITS, True, True),
        ("r", RUNS, False, False),
        ("Rr", RUNS, False, False),
        ("t", RUNS, False, False),
        ("dr", RUNS, False, False),
        ("s", RUNS, True, False),
        ("S", RUNS, True, False),
        ("T", RUNS, True, False),
    ],
)
def test_states_of_grid_engine(letters, phase, stuck, impossible):
    found = gridengine.report(letters, lambda: "can't chdir to /data")
    assert (found.phase, found.stuck, found.impossible) == (phase, stuck, impossible)
    assert ("chdir" in found.reason) == impossible


@pytest.mark.parametrize(
    ("failed", "code", "phase", "words"),
    [
        ("0", "0", DONE, ""),
        ("0", "1", FAILED, "the batch system says exit status 1"),
        ("100 : assumedly after job", "137                  (Killed)", FAILED, "signal 9 ended it"),
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137", FAILED, "it was cut off for its time"),
        ("21  : in recognizing job", "0", FAILED, system.NODE),
    ],
)
def test_ends_in_the_accounts_of_grid_engine(tools, tmp_path, failed, code, phase, words):
    tools("qstat", "")
    tools("qacct", f"jobnumber 17\nfailed       {failed}\nexit_status  {code}")
    found = batch.load("gridengine").ask(["17"], tmp_path)["17"]
    assert (found.phase, found.reason[: len(words)]) == (phase, words)


@pytest.mark.parametrize(
    ("fields", "phase", "words"),
    [
        ({"job_state": "Q", "comment": "Not Running: Insufficient amount of resource"}, WAITS, "Not Running"),
        ({"job_state": "Q", "comment": "Can Never Run: Insufficient resource: mem"}, WAITS, "Can Never"),
        ({"job_state": "H", "Hold_Types": "u"}, WAITS, "held: u"),
        ({"job_state": "R"}, RUNS, ""),
        ({"job_state": "S", "comment": "Suspended"}, RUNS, "Suspended"),
        ({"job_state": "F", "Exit_status": "0"}, DONE, ""),
        ({"job_state": "F", "Exit_status": "271"}, FAILED, "signal 15 ended it"),
        ({"job_state": "F", "Exit_status": "-29", "comment": "walltime 70 exceeded"}, FAILED, system.TIME),
        ({"job_state": "F", "Exit_status": "2"}, FAILED, "it exited with 2"),
        ({"job_state": "F"}, FAILED, "it was cancelled"),
    ],
)
def test_states_of_pbs(tools, tmp_path, fields, phase, words):
    told = "".join(f"    {key} = {value}\n" for key, value in fields.items())
    tools("qstat", f"Job Id: 17.server\n{told}Job Id: 171.server\n    job_state = R")
    found = batch.load("pbs").ask(["17.server", "18.server"], tmp_path)
    assert set(found) == {"17.server"}
    assert (found["17.server"].phase, found["17.server"].reason[: len(words)]) == (phase, words)
    assert found["17.server"].impossible == ("Never" in fields.get("comment", ""))


@pytest.mark.parametrize(
    ("attributes", "phase", "words"),
    [
        ({"JobStatus": 1}, WAITS, ""),
        ({"JobStatus": 2}, RUNS, ""),
        ({"JobStatus": 3, "RemoveReason": "via condor_rm"}, FAILED, "it was cancelled (via condor_rm)"),
        ({"JobStatus": 4, "ExitCode": 0}, DONE, ""),
        ({"JobStatus": 4, "ExitCode": 3}, FAILED, "it exited with 3"),
        ({"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9}, FAILED, "signal 9 ended it"),
        (
            {"JobStatus": 5, "HoldReasonCode": 34, "HoldReason": "cgroup limit"},
            FAILED,
            "it ran out of memory",
        ),
        (
            {"JobStatus": 5, "HoldReasonCode": 47, "HoldReason": "exceeded allowed execute duration"},
            FAILED,
            "it ran out of time",
        ),
        ({"JobStatus": 5, "HoldReasonCode": 1, "HoldReason": "via condor_hold"}, WAITS, "via condor_hold"),
        (
            {"JobStatus": 5, "HoldReasonCode": 13, "HoldReason": "Transfer of a file failed"},
            FAILED,
            "the batch system held it (Transfer of a file failed)",
        ),
        ({"JobStatus": 6}, RUNS, ""),
        ({"JobStatus": 7}, RUNS, ""),
    ],
)
def test_states_of_htcondor(tools, tmp_path, attributes, phase, words):
    tools("condor_q", json.dumps([{"ClusterId": 17} | attributes]))
    tools("condor_history", "")
    found = batch.load("htcondor").ask(["17", "18"], tmp_path)
    assert set(found) == {"17"}
    assert (found["17"].phase, found["17"].reason[: len(words)]) == (phase, words)


def test_what_has_left_the_queue_of_htcondor_is_in_its_history(tools, tmp_path):
    tools("condor_q", "[]")
    tools("condor_history", json.dumps([{"ClusterId": 17, "JobStatus": 4, "ExitCode": 0}]))
    assert batch.load("htcondor").ask(["17"], tmp_path)["17"].phase == DONE
    tools("condor_q", "not JSON")
    with pytest.raises(NoAnswer, match="cannot be read"):
        batch.load("htcondor").ask(["17"], tmp_path)


@pytest.mark.parametrize("name", batch.SYSTEMS)
def test_a_job_that_has_gone_can_be_cancelled(tools, name):
    made = batch.load(name)
    said = {
        "slurm": ("scancel", "scancel: error: Kill job error on job id 17: Invalid job id specified"),
        "gridengine": ("qdel", 'denied: job "17" does not exist'),
        "pbs": ("qdel", "qdel: Unknown Job Id 17.server"),
        "htcondor": ("condor_rm", "Couldn't find/remove all jobs in cluster 17"),
    }
    tools(said[name][0], said[name][1], 1)
    made.cancel(["17"])
    tools(said[name][0], "cannot reach the server", 1)
    with pytest.raises(NoAnswer, match="cannot reach the server"):
        made.cancel(["17"])


@pytest.fixture
def queue(tools, tmp_path):
    """A queue on a Slurm that is told what to say; its lines are in `queue.lines`."""

    def make(**limits):
        lines = []
        made = Queue(batch.load("slurm"), tmp_path, Limits(**limits), lines.append)
        made.lines = lines
        return made

    return make


def submit(queue, name=WANTED.name, output="midway/160315_1432.processed.done"):
    named, script = replace(WANTED, name=name), Path("job.sh")
    asked = {"rule": "process_raw", "output": [output], "runs": ["160315_1432"]}
    return queue.submit(named, script, script.touch, **asked)


def test_a_job_that_nobody_lists_is_given_up_after_its_time_and_not_before(tools, queue):
    tools("sbatch", "17")
    tools("squeue", "")
    tools("sacct", "disabled", 1)
    patient, hasty = queue(lost=3600), queue(lost=0)
    for made in (patient, hasty):
        submit(made)
    assert list(patient.look()) == []
    ((_, report),) = hasty.look()
    assert (report.phase, report.reason) == (FAILED, "Slurm does not know job 17 any more")


def test_what_a_job_made_counts_whatever_is_said_of_it_unless_it_was_there_before(tools, queue, tmp_path):
    tools("sbatch", "17")
    tools("squeue", "17|CANCELLED|1:35:00|None")
    made = queue()
    output = tmp_path / "midway/160315_1432.processed.done"
    output.parent.mkdir()
    output.write_text("an old one")
    submit(made)
    ((_, report),) = made.look()
    assert report.phase == FAILED
    submit(made)
    output.unlink()
    output.write_text("{}")
    ((_, report),) = made.look()
    assert report.phase == DONE


def test_silence_is_told_once_and_borne_for_its_time_only(tools, queue, tmp_path):
    tools("sbatch", "17")
    tools("squeue", "slurm_load_jobs error: Unable to contact slurm controller", 1)
    patient, hasty = queue(silence=3600), queue(silence=0)
    for made in (patient, hasty):
        submit(made)
    assert [list(patient.look()) for _ in range(3)] == [[], [], []]
    assert len(patient.lines) == 1
    assert "Unable to contact slurm controller" in patient.lines[0]
    ((watched, report),) = hasty.look()
    assert report.blameless
    assert not report.again
    # It may be there all the same: the next call asks.
    hasty.end(watched, report)
    hasty.settle(watched, report)
    assert [record.job for record in batchjobs.listed(tmp_path) if not record.ending] == ["17"]
    tools("squeue", "17|RUNNING|1:35:00|None")
    assert list(patient.look()) == []
    assert patient.lines[-1] == "Slurm answers again"


@pytest.mark.parametrize(
    ("row", "limits", "words", "began"),
    [
        ("17|PENDING|1:35:00|PartitionDown", {"waits": 0}, "did not begin within", False),
        ("17|PENDING|1:35:00|PartitionTimeLimit", {}, "PartitionTimeLimit", False),
        ("17|SUSPENDED|1:35:00|None", {"waits": 0}, "did not end within", True),
        ("17|COMPLETING|1:35:00|None", {"over": -95 * 60 - 1}, "did not end within", True),
    ],
)
def test_what_would_never_end_by_itself_is_cancelled(tools, queue, tmp_path, row, limits, words, began):
    tools("sbatch", "17")
    tools("squeue", row)
    cancelled = tools("scancel", "")
    made = queue(**limits)
    submit(made)
    ((watched, report),) = made.look()
    assert report.phase == FAILED
    assert words in report.reason
    assert cancelled()[-1] == "17"
    made.end(watched, report)
    (record,) = batchjobs.listed(tmp_path)
    assert record.ending["began"] == began


def test_a_job_that_stands_for_no_reason_is_told_by_its_state(tools, queue, tmp_path):
    tools("sbatch", "17")
    tools("squeue", "17|SUSPENDED|1:35:00|None")
    made = queue()
    submit(made)
    assert list(made.look()) == []
    assert made.lines == ["job 17 in Slurm (160315_1432): SUSPENDED"]
    (record,) = batchjobs.listed(tmp_path)
    assert str(record).startswith("its job 17 (process_raw) runs in Slurm: SUSPENDED, since 2")


def test_jobs_of_an_earlier_call_are_taken_up_and_others_for_the_same_files_cancelled(tools, queue, tmp_path):
    tools("sbatch", "17")
    tools("squeue", "17|RUNNING|1:35:00|None")
    submit(queue())
    tools("sbatch", "18")
    after = queue()
    assert submit(after).record.job == "17"
    assert after.lines == ["160315_1432 (process_raw) goes on as job 17 in Slurm"]
    cancelled = tools("scancel", "")
    changed = queue()
    assert submit(changed, name="process_raw.160315_1432.other").record.job == "18"
    assert cancelled()[-1] == "17"
    # One that the call before did not live to see accepted.
    tools("squeue", "19|PENDING|1:35:00|Priority")
    (record,) = batchjobs.listed(tmp_path)
    batchjobs.write(tmp_path, replace(record, job=""))
    assert submit(queue(), name=record.name).record.job == "19"
    # Those that have ended meanwhile are forgotten.
    tools("squeue", "19|COMPLETED|1:35:00|None")
    queue()
    assert list(batchjobs.listed(tmp_path)) == []


def test_where_it_cannot_be_known_whether_there_is_a_job_already_none_is_made(tools, queue, tmp_path):
    tools("sbatch", "17")
    tools("squeue", "17|RUNNING|1:35:00|None")
    submit(queue())
    (record,) = batchjobs.listed(tmp_path)
    batchjobs.write(tmp_path, replace(record, job=""))
    tools("squeue", "timed out", 1)
    asked = tools("sbatch", "18")
    (tmp_path / "sbatch.words").unlink()
    with pytest.raises(NotTaken, match="does not say whether it has a job already"):
        submit(queue())
    assert not (tmp_path / "sbatch.words").exists()
    assert asked


def test_after_one_submission_that_got_no_answer_the_others_do_not_wait_for_it(tools, queue, tmp_path):
    tools("squeue", "", 1)
    tools("sbatch", "sbatch: error: Batch job submission failed: Unable to contact slurm controller", 1)
    made = queue()
    with pytest.raises(NotTaken):
        submit(made)
    (tmp_path / "sbatch.words").unlink()
    with pytest.raises(NotTaken, match="Unable to contact"):
        submit(made, name="another")
    assert not (tmp_path / "sbatch.words").exists()


def test_a_submission_that_may_have_been_taken_is_looked_for_by_the_next_call(tools, queue, tmp_path):
    tools("squeue", "", 1)
    tools("sbatch", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", 1)
    output = ["midway/160315_1432.processed.done"]
    made = queue()
    with pytest.raises(NotTaken):
        submit(made)
    assert not batchjobs.ended(tmp_path, output).ending["began"]
    made.drop(output)
    ((_, record),) = batchjobs.alive(tmp_path)
    assert str(record).startswith("Slurm may have a job (process_raw): its submission got no answer")
    # The batch system does not answer yet: nothing is submitted, and the job is not forgotten.
    made = queue()
    with pytest.raises(NotTaken, match="whether it has a job already"):
        submit(made)
    assert not batchjobs.ended(tmp_path, output).ending["began"]
    made.drop(output)
    tools("squeue", "23|RUNNING|1:35:00|None")
    assert submit(queue()).record.job == "23"


def test_what_keeps_an_earlier_job_from_being_cancelled_is_no_failure_of_the_run(tools, queue, tmp_path):
    tools("sbatch", "17")
    tools("squeue", "17|RUNNING|1:35:00|None")
    submit(queue())
    tools("scancel", "timed out", 1)
    made = queue()
    with pytest.raises(NotTaken, match="still has job 17"):
        submit(made, name="another")
    ending = batchjobs.ended(tmp_path, ["midway/160315_1432.processed.done"]).ending
    assert (ending["began"], ending["again"]) == (False, False)
    made.drop(["midway/160315_1432.processed.done"])
    assert [record.job for record in batchjobs.listed(tmp_path)] == ["17"]


def test_time_that_a_job_was_given_more_or_stands_still_is_no_overrun(tools, queue, monkeypatch):
    hours = {"now": time.monotonic() / 3600}
    monkeypatch.setattr("caxflow.batch.queue.time.monotonic", lambda: 3600 * hours["now"])
    tools("sbatch", "17")
    tools("scancel", "")
    made = queue(over=3600)

    def after(passed, row):
        hours["now"] += passed
        tools("squeue", f"17|{row}")
        return [report.phase for _, report in made.look()]

    submit(made)
    assert after(0, "RUNNING|1:35:00|None") == []
    assert after(1, "SUSPENDED|1:35:00|None") == []
    assert after(20, "RUNNING|1:35:00|None") == []
    assert after(1.5, "RUNNING|1:35:00|None") == []
    assert after(5, "RUNNING|12:00:00|None") == []
    assert after(1, "PENDING|12:00:00|BeginTime") == []
    assert after(1, "RUNNING|12:00:00|None") == []
    assert after(12.9, "RUNNING|12:00:00|None") == []
    assert after(0.2, "RUNNING|12:00:00|None") == [FAILED]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": 1}', json.dumps({"name": "x", "system": None, "by": []}), "\x00" * 9]
)
def test_a_damaged_record_of_a_job_stops_nothing(tools, queue, tmp_path, text):
    tools("sbatch", "17")
    tools("squeue", "17|RUNNING|1:35:00|None")
    file = tmp_path / ".caxflow/batch/x.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert list(batchjobs.listed(tmp_path)) == []
    assert submit(queue()).record.job == "17"


@pytest.mark.parametrize("known", ["PENDING", "RUNNING"])
def test_what_is_cancelled_before_it_begins_is_no_failure_of_the_run(tools, queue, tmp_path, known):
    tools("sbatch", "17")
    tools("squeue", f"17|{known}|1:35:00|Priority")
    made = queue()
    submit(made)
    assert list(made.look()) == []
    tools("squeue", "17|CANCELLED|1:35:00|None")
    made.end(*next(made.look()))
    (record,) = batchjobs.listed(tmp_path)
    assert record.ending["began"] == (known == "RUNNING")
    if known == "PENDING":
        assert record.ending["what"] == "job 17 in Slurm never began: it was cancelled"


def test_records_that_cannot_be_kept_hold_up_no_job(tools, queue, tmp_path):
    tools("sbatch", "17")
    tools("squeue", "17|FAILED|1:35:00|None")
    made = queue()
    (tmp_path / ".caxflow").mkdir(exist_ok=True)
    (tmp_path / ".caxflow/batch").write_text("a file in the place of the folder")
    submit(made)
    ((watched, report),) = made.look()
    made.end(watched, report)
    made.settle(watched, report)
    tools("sbatch", "sbatch: error: invalid partition specified: nosuch", 1)
    with pytest.raises(NotTaken):
        submit(made)
    made.drop(["midway/160315_1432.processed.done"])


def test_a_script_that_cannot_be_written_is_no_failure_of_the_run(tools, queue, tmp_path):
    (tmp_path / "folder").mkdir()
    asked = {"rule": "process_raw", "output": ["midway/x"], "runs": []}
    with pytest.raises(NotTaken, match=r"Slurm was given no job: .*folder: Is a directory"):
        queue().submit(WANTED, tmp_path / "job.sh", lambda: (tmp_path / "folder").write_text(""), **asked)
    assert not batchjobs.ended(tmp_path, ["midway/x"]).ending["began"]


@pytest.mark.parametrize("key", ["lost", "silence", "waits"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 1e300])
def test_a_limit_that_is_none_is_refused(key, value):
    with pytest.raises(CaxflowError, match="check caxflow-l"):
        Limits(**{key: value})


def test_a_greeting_of_the_site_is_no_cause(tools, tmp_path):
    greeting = "\n".join(f"sbatch: warning: your account has {n} % of its memory left" for n in range(20))
    tools("sbatch", f"{greeting}\nsbatch: error: invalid partition specified: nosuch", 1)
    with pytest.raises(NotTaken) as caught:
        batch.load("slurm").submit(WANTED, tmp_path / "job.sh", tmp_path / "logs")
    assert caught.value.what == "Slurm took no job: invalid partition specified: nosuch"
    assert "check slurm_partition" in caught.value.mend


def test_a_command_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(system, "QUESTION", 0.2)
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        system.run([sys.executable, "-c", "import time; time.sleep(600)"], seconds=system.QUESTION)
    assert time.monotonic() - began < 300
