"""Failures that are over are forgotten, all others are kept."""

import datetime

import pytest

from caxflow.config.retention import Demand
from caxflow.copies.removal import Removal
from caxflow.planning import bygones
from caxflow.targets import Run, Target
from caxflow.workdir import journal
from copies import SITES, Copies, now

RUN = Run("160315_1432")


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add(reader={"self_trigger": True, "ini": {"write_mode": 2}}, trigger={"events_built": 5})
        version = copies.keep_processed()
        copies.add_made("processed", version)
        yield copies


def fail(copies, stage, site="midway", run=RUN, told=True):
    target = Target(site, run, stage)
    journal.fail(copies.work(), target, "it broke")
    if told:
        journal.settle(copies.work(), target)
    return target


def left(copies, **overrides):
    """What is still a failure after a look."""
    bygones.forget(copies.database, copies.settings(**overrides), copies.work())
    return [target.stage for target in journal.failures(copies.work())]


STAGES = ["raw.done", "checksum", "settings.json", "processed.root", "processed.checksum", "pax_v0.0.1.done"]


def test_what_was_done_since_is_over(copies):
    for stage in STAGES:
        fail(copies, stage)
    fail(copies, "raw.done", site="tegner")
    assert left(copies) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda copies: copies.set("midway", status="error"),
        lambda copies: copies.set("midway", status="verifying"),
        lambda copies: copies.set("midway", manifest=None),
        lambda copies: copies.note("midway", suspect={"files": ["a"]}),
        lambda copies: copies.note("midway", attempts=2),
        lambda copies: copies.note("midway", removing={"trash": "x"}),
    ],
    ids=["error", "verifying", "not proven", "suspect", "failed to be made anew", "leaving"],
)
def test_what_is_not_done_is_kept(copies, spoil):
    spoil(copies)
    fail(copies, "raw.done")
    assert left(copies) == ["raw.done"]


def test_a_proof_that_failed_is_over_when_there_is_one(copies):
    data = copies.database.get(RUN)["data"]
    data[1]["caxflow"].pop("verified")
    copies.database.runs.update_one({}, {"$set": {"data": data}})
    fail(copies, "checksum")
    assert left(copies) == ["checksum"]
    copies.note("midway", verified=now())
    assert left(copies) == []


def test_what_was_removed_on_purpose_is_over(copies):
    fail(copies, "checksum")
    Removal(copies.subject(), Demand(), "a test").perform()
    assert left(copies) == []


def test_what_is_not_to_be_processed_any_more_is_over(copies):
    copies.database.runs.update_one({}, {"$pull": {"data": {"type": "processed"}}})
    fail(copies, "processed.done")
    gains = {"DEFAULT": {"gains": [1], "drift_velocity_liquid": 1, "electron_lifetime_liquid": 1}}
    copies.database.runs.update_one({}, {"$set": {"processor": gains}})
    assert left(copies) == ["processed.done"]
    copies.database.runs.update_one({}, {"$set": {"tags": [{"name": "donotprocess"}]}})
    assert left(copies) == []


def test_a_removal_that_failed_is_remembered_for_a_day(copies):
    target = fail(copies, "raw.purged")
    assert left(copies) == ["raw.purged"]
    path = copies.work() / f".caxflow/failures/midway.{RUN}.raw.purged.json"
    at = journal.failure(copies.work(), target)["at"]
    yesterday = datetime.datetime.fromisoformat(at) - datetime.timedelta(days=1, minutes=1)
    path.write_text(path.read_text().replace(at, yesterday.isoformat()))
    assert left(copies) == []
    fail(copies, "pax_v0.0.0.purged")
    assert left(copies) == []


def test_runs_and_sites_that_there_are_not_any_more(copies):
    fail(copies, "raw.done", run=Run("160316_0000"))
    fail(copies, "raw.done", site="nikhef")
    assert left(copies) == []


def test_what_was_not_told_and_what_a_dry_call_finds_is_kept(copies):
    fail(copies, "raw.done", told=False)
    assert left(copies) == ["raw.done"]
    journal.settle(copies.work(), Target("midway", RUN, "raw.done"))
    settings = copies.settings(dry=True)
    over = bygones.forget(copies.connect(settings), settings, copies.work())
    assert list(bygones.lines(over)) == [f"failures that are over: midway/{RUN}.raw.done"]
    assert left(copies) == []


def test_documents_with_surprises_tell_nothing(copies):
    fail(copies, "raw.done")
    entry = {"type": "raw", "host": SITES["midway"], "status": "error", "location": "/x"}
    copies.database.runs.update_one({}, {"$push": {"data": entry}})
    assert left(copies) == ["raw.done"]
