"""Receipts and failures are told to the runs database, once, in any order, and later if it is away."""

import datetime
import itertools
import json
import os
import time
from pathlib import Path

import pytest

from caxflow import __version__, receipts
from caxflow.config import RunDBAddress
from caxflow.demo.server import reserve_port
from caxflow.files.manifest import Entry, Manifest
from caxflow.planning import sync
from caxflow.rundb import Key, RunsDB
from caxflow.targets import Run, Target
from caxflow.workdir import journal
from operators import HOSTS, configured

RUN = Run("161101_1600")
HOST, ORIGIN = "midway-login1", "xe1t-datamanager"
PAST = datetime.datetime(2016, 11, 1, 18)
RAW = Manifest("xxh128", (Entry("a.zip", 12, "a" * 32),)).to_json()
ROOT = Manifest("xxh128", (Entry("161101_1600.root", 5, "b" * 32),)).to_json()


def target(stage, site="midway", run=RUN):
    return Target(site, run, stage)


@pytest.fixture
def runs(database):
    database.runs_new.insert_one(
        {
            "name": RUN.name,
            "detector": "tpc",
            "number": 7,
            "data": [
                {"type": "raw", "host": ORIGIN, "status": "transferred", "location": "/o/161101_1600"},
                {"type": "raw", "host": "else", "status": "error", "location": "/e", "checksum": "c"},
            ],
        }
    )
    return database.runs_new


@pytest.fixture
def rundb(database_uri, database):
    with RunsDB(RunDBAddress(database_uri, database=database.name)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Copies where receipts say that they are, at three sites of this machine."""
    configured(tmp_path / "sites")
    for site in HOSTS:
        raw = tmp_path / f"sites/{site}/raw/{RUN}"
        raw.mkdir(parents=True)
        (raw / "a.zip").write_text("x" * 12)
    made = tmp_path / f"sites/midway/processed/pax_v0.0.1/{RUN}.root"
    made.parent.mkdir(parents=True)
    made.write_text("x" * 5)
    monkeypatch.chdir(tmp_path)


def tell(database, work_dir, only=None, **settings):
    return sync.sync(database, configured(work_dir / "sites", **settings), work_dir, only)


def place(kind, host):
    site = next(site for site, known in HOSTS.items() if known == host)
    last = f"{kind}/{RUN}" if kind == "raw" else f"{kind}/pax_v0.0.1/{RUN}.root"
    return str(Path.cwd() / "sites" / site / last)


def entry(kind="raw", host=HOST, status="verifying", version=None):
    return {
        "kind": kind,
        "host": host,
        "version": version,
        "status": status,
        "location": place(kind, host),
    }


def state(work_dir, at, stated, manifest, size, announce=True):
    """Write a receipt as a job does."""
    if announce:
        journal.announce(work_dir, at)
    receipt = receipts.statement(at, location=stated["location"], bytes=size, entry=stated, manifest=manifest)
    receipts.write(work_dir / str(at), receipt)


def prove(work_dir, at):
    journal.announce(work_dir, at)
    receipts.write(work_dir / str(at), "aa  a.zip\n")
    os.utime(work_dir / str(at), (1478100000.1239, 1478100000.1239))


def work(work_dir):
    """A day's work at midway: every kind of receipt, and a failure."""
    state(work_dir, target("raw.done", "lngs"), entry(host=ORIGIN, status=None), RAW, 12)
    state(work_dir, target("raw.done"), entry(), RAW, 12)
    prove(work_dir, target("checksum"))
    journal.announce(work_dir, target("settings.json"))
    receipts.write(work_dir / str(target("settings.json")), {"run": str(RUN)})
    state(work_dir, target("processed.done"), entry("processed", version="v0.0.1"), ROOT, 5)
    prove(work_dir, target("processed.checksum"))
    journal.fail(work_dir, target("raw.done", "tegner"), "disk full", entry=entry(host="tegner-login-1"))


def everything(database):
    return {name: list(database[name].find().sort("_id", 1)) for name in database.list_collection_names()}


def found(runs, kind="raw", host=HOST):
    (one,) = [each for each in runs.find_one()["data"] if (each["type"], each["host"]) == (kind, host)]
    return one


def test_what_other_programs_read_afterwards(tmp_path, runs, rundb, database):
    work(tmp_path)
    done = tell(rundb, tmp_path)
    assert (done.problems, done.away, done.waiting) == ([], "", 0)
    copied = found(runs)
    note = copied.pop("caxflow")
    assert copied.pop("creation_time").microsecond % 1000 == 0
    assert copied == {
        "type": "raw",
        "host": HOST,
        "status": "transferred",
        "location": place("raw", HOST),
        "manifest": RAW["digest"],
        "checksum": None,
        "size": 12,
        "creation_place": receipts.who()["host"],
    }
    verified = datetime.datetime(2016, 11, 2, 15, 20, 0, 123000)
    assert note == {"verified": verified, "version": __version__}
    made = found(runs, "processed")
    assert (made["pax_version"], made["status"], made["size"]) == ("v0.0.1", "transferred", 5)
    assert found(runs, host=ORIGIN)["status"] == "transferred"
    assert found(runs, host=ORIGIN)["manifest"] == RAW["digest"]
    assert found(runs, host="tegner-login-1")["status"] == "error"
    assert found(runs, host="tegner-login-1")["caxflow"]["error"] == "disk full"
    assert found(runs, host="else") == {
        "type": "raw",
        "host": "else",
        "status": "error",
        "location": "/e",
        "checksum": "c",
    }
    assert runs.find_one()["raw_size_byte"] == 12
    assert {one["_id"] for one in database.caxflow_manifests.find()} == {RAW["digest"], ROOT["digest"]}
    assert list(journal.pending(tmp_path)) == []


def test_telling_twice_changes_nothing(tmp_path, runs, rundb, database):
    work(tmp_path)
    todo = list(journal.pending(tmp_path))
    assert tell(rundb, tmp_path).told > 0
    before = everything(database)
    assert tell(rundb, tmp_path).told == 0
    for one in todo:
        journal.announce(tmp_path, one)
    assert tell(rundb, tmp_path).told == 0
    assert everything(database) == before
    assert list(journal.pending(tmp_path)) == []


@pytest.mark.parametrize("order", list(itertools.permutations(["raw.done", "checksum"])))
def test_the_order_of_telling_does_not_matter(tmp_path, runs, rundb, order):
    state(tmp_path, target("raw.done"), entry(), RAW, 12)
    prove(tmp_path, target("checksum"))
    for stage in order:
        tell(rundb, tmp_path, [target(stage)])
    copied = found(runs)
    assert copied["status"] == "transferred"
    assert copied["caxflow"]["verified"].year == 2016


def test_a_copy_is_not_trusted_before_it_is_read_again(tmp_path, runs, rundb):
    state(tmp_path, target("raw.done"), entry(), RAW, 12)
    tell(rundb, tmp_path)
    assert found(runs)["status"] == "verifying"


def test_a_success_ends_the_claim_and_the_memory_of_failures(tmp_path, runs, rundb):
    runs.update_one(
        {}, {"$push": {"data": {"type": "raw", "host": HOST, "status": "error", "location": "/x"}}}
    )
    rundb.tell(RUN, Key("raw", HOST), {"caxflow.attempts": 3, "caxflow.error": "x", "caxflow.next": PAST})
    rundb.claim(RUN, Key("raw", HOST), place("raw", HOST), "midway", 30)
    state(tmp_path, target("raw.done"), entry(), RAW, 12)
    tell(rundb, tmp_path)
    assert set(found(runs)["caxflow"]) == {"owner", "by", "since", "version"}


def test_the_checksum_that_cax_wrote_is_kept(tmp_path, runs, rundb):
    runs.update_one({"data.host": ORIGIN}, {"$set": {"data.$.checksum": "c" * 128}})
    state(tmp_path, target("raw.done", "lngs"), entry(host=ORIGIN, status=None), RAW, 12)
    tell(rundb, tmp_path)
    assert found(runs, host=ORIGIN)["checksum"] == "c" * 128
    assert found(runs, host=ORIGIN)["manifest"] == RAW["digest"]


def test_an_entry_that_was_lost_is_made_again_whole(tmp_path, runs, rundb):
    runs.update_one({}, {"$set": {"data": []}})
    state(tmp_path, target("raw.done", "lngs"), entry(host=ORIGIN, status=None), RAW, 12)
    assert tell(rundb, tmp_path).problems == []
    made = found(runs, host=ORIGIN)
    assert made["status"] == "transferred"
    assert made["location"] == place("raw", ORIGIN)
    assert made["creation_time"]


# Failures.


@pytest.mark.parametrize(("attempts", "minutes"), [(1, 10), (2, 20), (5, 160), (9, 1440), (40, 1440)])
def test_a_failure_waits_longer_each_time_up_to_a_day(tmp_path, runs, rundb, attempts, minutes):
    made = {}
    for _ in range(attempts):
        made = journal.fail(tmp_path, target("raw.done"), "host away", entry=entry())
    tell(rundb, tmp_path)
    note = found(runs)["caxflow"]
    assert note["attempts"] == attempts
    at = datetime.datetime.fromisoformat(made["at"]).replace(tzinfo=None)
    assert note["next"] - at == datetime.timedelta(minutes=minutes)


def test_a_failure_that_is_nobodys_fault_leaves_the_entries_alone(tmp_path, runs, rundb):
    before = runs.find_one()
    journal.fail(tmp_path, target("raw.done"), "the site could not be reached")
    tell(rundb, tmp_path)
    assert runs.find_one() == before
    assert list(journal.pending(tmp_path)) == []


def test_a_failure_of_what_was_taken_over_is_not_told(tmp_path, runs, rundb):
    first = rundb.claim(RUN, Key("raw", HOST), place("raw", HOST), "midway", 1e-6)
    rundb.claim(RUN, Key("raw", HOST), place("raw", HOST), "tegner", 30)
    before = runs.find_one()
    journal.fail(tmp_path, target("raw.done"), "too slow", entry=entry(), token=first.token)
    tell(rundb, tmp_path)
    assert runs.find_one() == before


def test_a_failed_attempt_does_not_spoil_a_good_copy_but_evidence_does(tmp_path, runs, rundb):
    good = {
        "type": "processed",
        "host": HOST,
        "pax_version": "v0.0.1",
        "status": "transferred",
        "location": "/p",
    }
    runs.update_one({}, {"$push": {"data": good}})
    stated = entry("processed", version="v0.0.1")
    journal.fail(tmp_path, target("processed.done"), "no memory", entry=stated)
    tell(rundb, tmp_path)
    # It counts, and is tried again later; the copy stays what it is.
    told = runs.find_one()["data"][-1]
    note = told.pop("caxflow")
    assert (told, note["error"], note["attempts"]) == (good, "no memory", 1)
    assert isinstance(note["next"], datetime.datetime)
    journal.fail(tmp_path, target("processed.checksum"), "a byte differs", entry=stated, evidence=True)
    tell(rundb, tmp_path)
    assert found(runs, "processed")["status"] == "error"


def test_what_relied_on_a_bad_copy_is_looked_at_again(tmp_path, runs, rundb):
    runs.update_one({}, {"$set": {"caxflow": {"settled": {"tegner": "p"}, "revision": 4}}})
    journal.fail(tmp_path, target("checksum"), "a byte differs", entry=entry(host=ORIGIN), evidence=True)
    tell(rundb, tmp_path)
    assert "settled" not in runs.find_one()["caxflow"]


# Away, dry, damaged.


def test_while_the_database_is_away_everything_waits_and_is_told_later(tmp_path, runs, rundb):
    work(tmp_path)
    waiting = list(journal.pending(tmp_path))
    absent = RunDBAddress(f"mongodb://127.0.0.1:{reserve_port(pytest)}", timeout=0.1)
    with RunsDB(absent) as away:
        done = tell(away, tmp_path)
    assert done.waiting == len(waiting)
    assert f"{len(waiting)} facts wait for the runs database" in str(done)
    assert "\n" not in str(done)
    assert list(journal.pending(tmp_path)) == waiting
    assert tell(rundb, tmp_path).problems == []
    assert found(runs)["status"] == "transferred"


def test_a_dry_sync_tells_nothing_and_forgets_nothing(tmp_path, runs, database_uri, database):
    work(tmp_path)
    waiting, before = list(journal.pending(tmp_path)), everything(database)
    with RunsDB(RunDBAddress(database_uri, database=database.name), dry=True) as dry:
        assert tell(dry, tmp_path).told == 0
    assert everything(database) == before
    assert list(journal.pending(tmp_path)) == waiting


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"entry": {}}',
        '{"entry": {"kind": "raw"}}',
        '{"entry": 3}',
        json.dumps({"entry": entry(), "at": "yesterday", "manifest": RAW, "bytes": 1}),
        json.dumps({"entry": entry(), "at": "2016-11-01T00:00:00+00:00"}),
    ],
)
def test_a_damaged_receipt_is_a_problem_and_the_others_are_told(tmp_path, runs, rundb, text):
    work(tmp_path)
    damaged = target("raw.done", "lngs")
    (tmp_path / str(damaged)).write_text(text)
    done = tell(rundb, tmp_path)
    assert found(runs)["status"] == "transferred"
    if text != '{"entry": {}}':
        (problem,) = done.problems
        assert str(damaged) in problem
        assert "\n" not in problem
        assert list(journal.pending(tmp_path)) == [damaged]


def test_a_run_that_the_database_does_not_know_is_a_problem_of_its_own(tmp_path, runs, rundb):
    work(tmp_path)
    stranger = target("raw.done", run=Run("991231_2359"))
    state(tmp_path, stranger, entry(), RAW, 12)
    done = tell(rundb, tmp_path)
    (problem,) = done.problems
    assert "991231_2359 is not in the runs database" in problem
    assert found(runs)["status"] == "transferred"
    assert list(journal.pending(tmp_path)) == [stranger]


def test_a_mark_without_a_receipt_is_of_a_job_that_writes_it_or_died(tmp_path, runs, rundb):
    before = runs.find_one()
    journal.announce(tmp_path, target("raw.done"))
    tell(rundb, tmp_path)
    assert list(journal.pending(tmp_path)) == [target("raw.done")]
    mark = next((tmp_path / ".caxflow/pending").iterdir())
    an_hour_ago = time.time() - 3600
    os.utime(mark, (an_hour_ago, an_hour_ago))
    tell(rundb, tmp_path)
    assert runs.find_one() == before
    assert list(journal.pending(tmp_path)) == []


@pytest.mark.parametrize("way", ["removing", "moving"])
def test_of_what_is_on_its_way_a_receipt_tells_nothing(tmp_path, runs, rundb, way):
    state(tmp_path, target("raw.done"), entry(), RAW, 12)
    prove(tmp_path, target("checksum"))
    tell(rundb, tmp_path)
    note = {"data.$.caxflow": {"token": "t", way: {"to": "/raw/new"}}, "data.$.status": "transferring"}
    runs.update_one({"data.host": HOST}, {"$set": note})
    before = runs.find_one()
    journal.announce(tmp_path, target("raw.done"))
    journal.announce(tmp_path, target("checksum"))
    tell(rundb, tmp_path)
    assert runs.find_one() == before


def test_what_is_removed_while_it_is_told_does_not_come_back(tmp_path, runs, rundb, monkeypatch):
    state(tmp_path, target("raw.done"), entry(status="transferred"), RAW, 12)
    get, others = rundb.get, []

    def interrupted(run):
        document = get(run)
        if not others:
            at = datetime.datetime(2100, 1, 1)
            gone = {"type": "raw", "host": HOST, "pax_version": None, "at": at, "why": "removed"}
            others.append(gone)
            runs.update_one({}, {"$set": {"caxflow": {"gone": [gone], "revision": 9}}})
        return document

    monkeypatch.setattr(rundb, "get", interrupted)
    before = len(runs.find_one()["data"])
    tell(rundb, tmp_path)
    assert len(runs.find_one()["data"]) == before
    assert not (tmp_path / str(target("raw.done"))).exists()


def test_the_audit_knows_who_made_a_file_whatever_is_told_first(tmp_path, runs, rundb, database):
    made, checked = target("processed.done"), target("processed.checksum")
    state(tmp_path, made, entry("processed", version="v0.0.1"), ROOT, 5)
    prove(tmp_path, checked)
    for each in (checked, made, made):
        tell(rundb, tmp_path, [each])
    records = list(database.caxflow_audit.find())
    assert sorted(record["action"] for record in records) == ["made", "verified"]


def test_u4_the_audit_knows_when_it_was_done_and_when_that_was_told(runs, rundb, database, tmp_path):
    stated = entry() | {"since": "2016-11-01T12:00:00+00:00"}
    facts = {"location": stated["location"], "bytes": 12, "entry": stated, "manifest": RAW}
    journal.announce(tmp_path, target("raw.done"))
    made = receipts.statement(target("raw.done"), source="lngs", proof="hashed", **facts)
    receipts.write(tmp_path / str(target("raw.done")), made)
    prove(tmp_path, target("checksum"))
    tell(rundb, tmp_path)
    done = {each["action"]: each["done"] for each in database["caxflow_audit"].find()}
    assert done == {
        "copied": datetime.datetime(2016, 11, 1, 12),
        "verified": datetime.datetime(2016, 11, 2, 15, 20, 0, 123000),
    }
    assert all(each["at"] > datetime.datetime(2020, 1, 1) for each in database["caxflow_audit"].find())


# What a field of a receipt, or of the record of a failure, may hold after a fault.
ODD = [10**40, -1, 1.5, float("nan"), True, None, "x", "\ud800", [[5]], {"$set": {"a.b": 10**40}}]
ODD += ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]


def fields(content, *above):
    """Keys of all that a receipt says, at any depth."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield *above, key
        if isinstance(value, dict | list):
            yield from fields(value, *above, key)


def spoiled(content, keys, value):
    content = json.loads(json.dumps(content))
    at = content
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    return content


@pytest.mark.parametrize("stage", ["raw.done", "checksum", "processed.done", "failure"])
def test_b1_an_odd_value_in_a_receipt_is_told_of_its_run_and_spoils_nothing_else(
    runs, rundb, tmp_path, stage
):
    """Whatever one field holds: it counts, or one line names the receipt, and the others are told."""
    work(tmp_path)
    where = target("raw.done", "tegner") if stage == "failure" else target(stage)
    path = tmp_path / str(where)
    if stage == "failure":
        path = tmp_path / f".caxflow/failures/tegner.{RUN}.raw.done.json"
    if stage == "checksum":
        path = tmp_path / f".caxflow/proofs/midway.{RUN}.checksum.json"
        receipts.write(path, {"read": "2016-11-01T18:00:00.000", "receipt": "x", "clock": "server"})
    whole = json.loads(path.read_text())
    if stage == "raw.done":
        whole |= {"sent": 12, "source": "lngs", "proof": "copied"}
        whole["entry"] |= {"since": PAST.isoformat(), "after": "t"}
    if stage == "processed.done":
        whole |= {"correction_versions": {"AddGains": "6.0"}, "treemakers": ["Basics"]}
    other = target("raw.done", "lngs")
    wrong = {}
    for keys, value in itertools.product(fields(whole), ODD):
        path.write_text(json.dumps(spoiled(whole, keys, value)))
        journal.announce(tmp_path, other)
        journal.announce(tmp_path, where)
        done = tell(rundb, tmp_path)
        for said in [done.away, *done.problems]:
            if said and (str(RUN) not in said or "unexpected" in said or said == done.away):
                wrong[keys, str(value)] = said
        if journal.is_pending(tmp_path, other):
            wrong[keys, str(value)] = "the other waits"
        ours = found(runs) if stage != "failure" else found(runs, host="tegner-login-1")
        if isinstance(ours.get("size"), float) or (ours.get("size") or 0) < 0:
            wrong[keys, str(value)] = f"told: {ours}"
    assert not wrong, "\n".join(f"{key}: {said}" for key, said in wrong.items())
