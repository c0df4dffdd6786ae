"""Jobs that ended without a word of their own: what is understood of their end, and where it is kept."""

import logging
import re
from types import SimpleNamespace

import pytest

from caxflow import receipts
from caxflow.batch import lastwords
from caxflow.targets import Run, Target
from caxflow.workdir import journal

RUN = "160315_1432"
OUTPUT = [f"midway/{RUN}.processed.root", f"midway/{RUN}.processed.done"]
DONE = Target("midway", Run.parse(RUN), "processed.done")


def slurm(state):
    return f"SLURM-job '17' failed, SLURM status is: '{state}'. Detailed failure reason unavailable"


def condor(end):
    return f"Job 3 with HTCondor Cluster ID 17 {end}For further error details see the cluster/cloud log"


@pytest.mark.parametrize(
    ("said", "logged", "words"),
    [
        (slurm("TIMEOUT"), "", "it ran out of time"),
        (slurm("OUT_OF_MEMORY"), "", "it ran out of memory"),
        (slurm("CANCELLED"), "slurmstepd-n1: error: *** STEP 2.0 CANCELLED AT x", "it was cancelled"),
        (slurm("CANCELLED"), "slurmstepd: error: Exceeded job memory limit", "it ran out of memory"),
        (slurm("NODE_FAIL"), "", "its node failed"),
        (slurm("FAILED"), "", "the batch system says FAILED"),
        ("job held: memory usage exceeded request_memory", "", "it ran out of memory"),
        ("", "", "killed, or cut off for its time or memory"),
        (condor("was removed/aborted."), "", "it was cancelled"),
        (
            condor("is held: Job has gone over cgroup memory limit of 800"),
            "",
            "it ran out of memory (Job has",
        ),
        (
            condor("has been held. Hold reason: The job exceeded allowed execute duration of 1:00"),
            "",
            "it ran out of time (The job exceeded allowed execute duration of 1:00)",
        ),
        (
            condor("is held: Transfer of a file failed"),
            "",
            "the batch system held it (Transfer of a file failed)",
        ),
        (
            condor("completed but failed with ExitCode 1."),
            "KeyError: 'PATH'",
            "it exited with 1 (KeyError: 'PATH')",
        ),
        (condor("was terminated by signal 9."), "", "signal 9 ended it"),
    ],
)
def test_how_a_job_ended(tmp_path, said, logged, words):
    log = tmp_path / "17.log"
    log.write_text(f"Building DAG of jobs...\n{logged}\n")
    assert lastwords.how(said, [str(log), str(tmp_path / "none")]).startswith(words)


@pytest.mark.parametrize(
    "kept",
    ["batch_logs/17.log", "batch_logs/caxflow-process_raw.o17", "htcondor/process_raw/process_raw-3_17.err"],
)
def test_what_the_batch_system_kept_of_a_job_is_found_by_its_id(words, tmp_path, kept):
    log = tmp_path / ".snakemake" / kept
    log.parent.mkdir(parents=True)
    log.write_text("slurmstepd: error: *** JOB 17 ON n1 CANCELLED DUE TO TIME LIMIT ***\n")
    (log.parent / log.name.replace("17", "117")).write_text("out of memory")
    words.filter(Record("job_info"))
    words.filter(Record("job_error", external_jobid=17, log=[str(tmp_path / "logs/a.log")]))
    assert "it ran out of time" in journal.failure(tmp_path, DONE)["reason"]


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (OUTPUT, DONE),
        ([f"parts/midway/{RUN}.0002-of-0003.root"], DONE),
        ([f"midway/pax_v6.8.0/{RUN}.root", f"midway/pax_v6.8.0/{RUN}.done"], "pax_v6.8.0.done"),
        (["elsewhere/file"], None),
    ],
)
def test_under_which_target_a_failure_is_kept(output, target):
    found = lastwords.target_of(output)
    assert (found.stage if isinstance(target, str) else found) == target


class Record(logging.LogRecord):
    def __init__(self, event, **more):
        super().__init__("snakemake", logging.INFO, "", 0, "", (), None)
        self.event = SimpleNamespace(value=event)
        self.__dict__ |= {"jobid": 3, "output": OUTPUT, "rule_msg": None, "log": []} | more


@pytest.fixture
def words(tmp_path):
    settings = SimpleNamespace(sites={"midway": SimpleNamespace(processed=None)})
    return lastwords.LastWords(settings, tmp_path)


def test_a_job_that_said_why_is_believed_and_one_that_did_not_is_noted(words, tmp_path):
    log = tmp_path / "logs" / "a.log"
    assert words.filter(Record("job_info"))
    journal.fail(tmp_path, DONE, "the zip is cut")
    words.filter(Record("job_error", rule_msg=slurm("FAILED"), log=[str(log)]))
    assert journal.failure(tmp_path, DONE)["reason"] == "the zip is cut"
    # Its further attempt is killed.
    words.filter(Record("job_info"))
    words.filter(Record("job_error", rule_msg=slurm("TIMEOUT"), log=[str(log)]))
    noted = journal.failure(tmp_path, DONE)
    assert "it ran out of time" in noted["reason"]
    assert noted["times"] == 2
    assert not noted["final"]
    assert "it ran out of time" in log.read_text()


def test_u3_a_job_that_was_killed_leaves_its_words_to_the_log_of_the_next(words, tmp_path):
    log = tmp_path / "logs" / "a.log"
    for number in (1, 2):
        words.filter(Record("job_info"))
        log.unlink(missing_ok=True)  # as Snakemake does
        log.parent.mkdir(exist_ok=True)
        log.write_text(f"event {number}")
        words.filter(Record("job_error", rule_msg=slurm("TIMEOUT"), log=[str(log)]))
    assert re.findall("event . *|ran out of time|earlier", log.read_text()) == [
        *("event 2", "ran out of time", "earlier", "event 1", "ran out of time", "earlier")
    ]
    assert f"see {log}" in journal.failure(tmp_path, DONE)["reason"]


def test_a_cancelled_job_is_not_wanted_back(words, tmp_path):
    words.filter(Record("job_info"))
    words.filter(Record("job_error", rule_msg=slurm("CANCELLED")))
    assert journal.failure(tmp_path, DONE)["final"]


@pytest.mark.parametrize(
    ("facts", "given_up"),
    [
        ({"final": True}, [3]),
        ({"final": False}, []),
        ({}, []),
        ({"final": True, "call": "another"}, []),
    ],
)
def test_u3_what_failed_for_good_gets_no_further_attempt(tmp_path, facts, given_up):
    found = []
    words = lastwords.LastWords(SimpleNamespace(sites={}), tmp_path, found.append)
    words.filter(Record("job_info"))
    journal.fail(tmp_path, DONE, "it divides by zero", **{"call": journal.call_of(receipts.who())} | facts)
    words.filter(Record("job_error"))
    assert found == given_up


def test_attempts_of_one_call_count_once(tmp_path):
    for call, attempts in (("a 1", 1), ("a 1", 1), ("a 2", 2), (None, 3), (None, 4)):
        facts = {"call": call} if call else {}
        assert journal.fail(tmp_path, DONE, "no", **facts)["attempts"] == attempts
