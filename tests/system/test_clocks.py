"""B2, S11: a clock that is wrong, of a host now or of the database once, costs nothing."""

import datetime
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

import mortal
import needs
from copies import SITES, Copies
from invariants import tree

RUN, NEXT = "160315_1432", "160316_1432"
FAR = datetime.datetime(2036, 1, 1)
KEPT = {"purge": {"after_days": 1, "copies": 2, "processed": False}, "scrub": {"every_days": 0}}


def shift(monkeypatch, by):
    """Have the clocks of programs that are started from now on be wrong by that."""
    words = [needs.tool("faketime"), "-f", by, "printenv", "LD_PRELOAD"]
    library = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    for name, text in {"LD_PRELOAD": library, "FAKETIME": by, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}.items():
        monkeypatch.setenv(name, text)


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


@pytest.fixture
def perform(tmp_path, copies, monkeypatch):
    """Perform a call on a host whose clock is wrong by so much."""
    started = []

    def perform(target, by=None, **more):
        if by:
            shift(monkeypatch, by)
        started.append(mortal.Zygote(tmp_path, "onecall"))
        for name in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
            monkeypatch.delenv(name, raising=False)
        done = started[-1].call("perform", target, copies.overrides(**more))
        assert done["status"] == 0, done["said"]
        return done["out"] + done["said"]

    yield perform
    for zygote in started:
        zygote.close()


def condemn(copies, run, at):
    gone = {"type": "raw", "host": SITES["midway"], "pax_version": None, "why": "suspect", "token": "t"}
    copies.set("midway", run, status="error", caxflow={"error": "bad", "suspect": {"token": "t"}})
    change = {"$set": {"caxflow.gone": [gone | {"at": at}]}, "$unset": {"caxflow.settled": ""}}
    copies.database.runs.update_one({"name": run}, change)


def done(copies):
    """Data and receipts, by which a copy that is made anew would be seen."""
    receipts = [copies.work("midway", site) for site in SITES]
    return tree(*(copies.path(site).parent for site in SITES), *receipts)


WRONG = ["-3h", "+3h", "-3d", "+400d"]


@pytest.mark.parametrize("by", WRONG)
def test_b2_the_clock_of_a_host_is_wrong(copies, perform, by):
    """Host clock 3 h behind: copy, prove, condemn, copy anew, call again, scrub."""
    copies.add(RUN, sites=["lngs"])
    perform("all", by)
    for site in ("midway", "tegner"):
        row = copies.row(site)
        assert copies.whole(site)
        assert abs(copies.database.now() - row["caxflow"]["verified"]) < datetime.timedelta(minutes=5)
        assert abs(copies.database.now() - row["creation_time"]) < datetime.timedelta(minutes=5)
    condemn(copies, RUN, copies.database.now())
    perform("all", by)
    assert copies.row("midway")["status"] == "transferred"
    before = done(copies)
    for _ in range(2):
        assert "nothing to do at midway" in perform("all", by)
    assert done(copies) == before
    began = copies.database.now()
    perform("scrub", by, **KEPT)
    verified = copies.row("midway")["caxflow"]["verified"]
    assert began - datetime.timedelta(seconds=2) <= verified <= copies.database.now()


@pytest.mark.parametrize("at", [datetime.timedelta(days=2), datetime.timedelta(days=4000)])
def test_b2_the_databases_clock_was_ahead_once(copies, perform, at):
    """A copy was condemned, failed, claimed, and settled by a clock two days ahead; then it was set right."""
    copies.add(RUN, sites=["lngs"])
    perform("all")
    future = copies.database.now() + at
    condemn(copies, RUN, future)
    perform("all")
    assert copies.row("midway")["status"] == "transferred"
    before = done(copies)
    perform("all")
    perform("all")
    assert done(copies) == before
    # What was written then, in all places where a time is kept.
    note = {"error": "away", "attempts": 1, "next": future}
    copies.set("tegner", status="error", caxflow=note)
    copies.add(NEXT, sites=["lngs"])
    claim = {"owner": "tegner", "token": "x", "since": future, "lease": future + datetime.timedelta(hours=1)}
    entry = {"type": "raw", "host": SITES["midway"], "status": "transferring", "caxflow": claim}
    entry |= {"location": str(copies.path("midway", NEXT)), "creation_time": future}
    copies.database.runs.update_one({"name": NEXT}, {"$push": {"data": entry}})
    for document in copies.database.runs.find():
        mark = copies.database.runs.find_one({"_id": document["_id"]}).get("caxflow", {}).get("settled", {})
        for site, text in mark.items():
            policy, kind, _ = text.split()
            settled = f"{policy} {kind} {FAR.isoformat()}"
            copies.database.runs.update_one(
                {"_id": document["_id"]}, {"$set": {f"caxflow.settled.{site}": settled}}
            )
    perform("all")
    assert copies.whole("midway", NEXT)
    assert copies.row("midway", NEXT)["status"] == "transferred"
    assert copies.row("tegner")["status"] == "transferred"
    copies.note("midway", verified=future)
    assert f"raw {RUN}" in perform("scrub", **KEPT)
    assert copies.row("midway")["caxflow"]["verified"] <= copies.database.now()
    copies.note("tegner", verified=future)
    perform("purge", **KEPT)
    assert copies.row("midway") is None
    assert copies.row("tegner")["caxflow"]["verified"] <= copies.database.now()


def test_s11_times_of_files_that_lie_in_the_future(copies, perform):
    """Receipts, marks, records of failures, chores and messages that a clock of 2036 wrote."""
    copies.add(RUN, sites=["lngs"])
    perform("all")
    work = copies.work("midway")
    far = FAR.replace(tzinfo=datetime.UTC)
    for path in work.rglob("*"):
        os.utime(path, (far.timestamp(), far.timestamp()), follow_symlinks=False)
    for path in [*work.glob("*/*.raw.done"), *work.glob(".caxflow/proofs/*.json")]:
        content = json.loads(path.read_text()) | {"at": far.isoformat()}
        path.write_text(json.dumps(content | ({"read": FAR.isoformat()} if "read" in content else {})))
        os.utime(path, (far.timestamp(), far.timestamp()))
    failures = work / ".caxflow/failures"
    failures.mkdir(exist_ok=True)
    record = {"reason": "away", "attempts": 1, "at": far.isoformat()}
    (failures / f"midway.{NEXT}.raw.done.json").write_text(json.dumps(record))
    mark = work / f".caxflow/pending/midway.{NEXT}.raw.done"
    mark.touch()
    os.utime(mark, (far.timestamp(), far.timestamp()))
    copies.add(NEXT, sites=["lngs"])
    copies.database.runs.update_many({}, {"$unset": {"caxflow.settled": ""}})
    perform("all")
    assert copies.whole("tegner", NEXT)
    assert copies.whole("tegner", RUN)
    assert not mark.exists()
    perform("all")
    assert copies.row("midway")["status"] == "transferred"


def test_b2_snakemake_takes_receipts_of_a_clock_that_was_ahead(copies):
    """`snakemake all` on a host whose clock has been set back three hours since the origin's receipt."""
    copies.add(RUN, sites=["lngs"])
    profile = copies.profile()
    (Path(profile) / "config.yaml").write_text("configfile: caxflow.yaml\ncores: 1\nrerun-triggers: mtime\n")
    command = ["snakemake", "--profile", profile, "--nolock", "--drop-metadata"]
    root = Path(__file__).parents[2]

    def call(*words):
        done = subprocess.run([*command, *words], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    call(f"lngs/{RUN}.raw.done")
    later = time.time() + 3 * 3600
    os.utime(copies.work("midway", f"lngs/{RUN}.raw.done"), (later, later))
    said = call("all")
    assert "clock skew" not in said
    assert "latency" not in said
    assert copies.whole("tegner")
    assert "nothing to do at midway" in call("all")
