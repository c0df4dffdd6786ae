"""Jobs that ended without a word of their own: what is understood of their end, and where it is kept."""

import logging
import re
from types import SimpleNamespace

import pytest

from caxflow import receipts
from caxflow.batch import lastwords
from caxflow.targets import Run, Target
from caxflow.workdir import batchjobs, journal, underway
from caxflow.workdir.batchjobs import BatchJob

RUN = "160315_1432"
OUTPUT = [f"midway/{RUN}.processed.root", f"midway/{RUN}.processed.done"]
DONE = Target("midway", Run.parse(RUN), "processed.done")


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


def ended(work_dir, **ending):
    """Have a batch system's job for the target have ended so."""
    facts = {"what": "it ran out of time", "began": True, "again": True, "blameless": False} | ending
    names = ("name", "system", "rule", "submitted")
    made = BatchJob(**dict.fromkeys(names, "x"), output=OUTPUT, runs=[RUN], by={}, ending=facts)
    batchjobs.write(work_dir, made)


def test_a_job_that_said_why_is_believed_and_one_that_did_not_is_noted(words, tmp_path):
    log = tmp_path / "logs" / "a.log"
    assert words.filter(Record("job_info"))
    journal.fail(tmp_path, DONE, "the zip is cut")
    ended(tmp_path, what="the batch system says FAILED")
    words.filter(Record("job_error", log=[str(log)]))
    assert journal.failure(tmp_path, DONE)["reason"] == "the zip is cut"
    # Its further attempt is killed.
    words.filter(Record("job_info"))
    ended(tmp_path)
    words.filter(Record("job_error", log=[str(log)]))
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
        ended(tmp_path)
        words.filter(Record("job_error", log=[str(log)]))
    assert re.findall("event . *|ran out of time|earlier", log.read_text()) == [
        *("event 2", "ran out of time", "earlier", "event 1", "ran out of time", "earlier")
    ]
    assert f"see {log}" in journal.failure(tmp_path, DONE)["reason"]


@pytest.mark.parametrize(
    ("ending", "final", "attempts"),
    [
        ({"what": "it was cancelled", "again": False}, True, 1),
        ({"what": "it had to make room for others", "blameless": True}, False, 0),
        ({"what": "Slurm took no job: no", "began": False, "again": False, "blameless": True}, True, 0),
    ],
)
def test_what_is_made_of_the_end_of_a_job(words, tmp_path, ending, final, attempts):
    log = tmp_path / "a.log"
    log.write_text(f"{underway.INTERRUPTED}\n")  # an earlier call's
    words.filter(Record("job_info"))
    ended(tmp_path, **ending)
    words.filter(Record("job_error", log=[str(log)]))
    noted = journal.failure(tmp_path, DONE)
    assert (noted["final"], noted["attempts"]) == (final, attempts)
    assert ending["what"] in noted["reason"]
    assert ("without a word" in noted["reason"]) == ending.get("began", True)


def test_a_job_of_this_machine_that_was_killed_is_noted(words, tmp_path):
    words.filter(Record("job_info"))
    words.filter(Record("job_error"))
    assert "killed, or cut off" in journal.failure(tmp_path, DONE)["reason"]


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
