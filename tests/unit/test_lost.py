"""Receipts that are lost, and marks that do not hold any more, are told; nothing is made or moved twice."""

import json
import shutil

import pytest

from caxflow import cli, receipts
from caxflow.planning import planner
from caxflow.targets import Run, Target
from caxflow.workdir import lost
from copies import SITES, Copies

RUN = Run("160315_1432")


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        document = copies.add()
        copies.database.runs.update_one({"_id": document["_id"]}, {"$set": {"caxflow": {"revision": 1}}})
        yield copies


@pytest.fixture
def caxflow(copies, capsys):
    """The command; the exit code and what it printed."""

    def call(*words, **overrides):
        code = cli.main([*words, "--profile", copies.profile(**overrides)])
        return code, capsys.readouterr().out

    return call


@pytest.fixture
def settled(copies, caxflow):
    """The run is marked as settled at midway; which it is."""
    code, _ = caxflow("rundb", "init")
    assert code == 0
    assert "settled" in copies.database.runs.find_one()["caxflow"]
    return copies


def test_receipts_of_what_was_made_here_are_missed(settled, caxflow):
    shutil.rmtree(settled.work())
    code, out = caxflow("rundb", "check")
    assert (code, out.splitlines()[-1]) == (0, "no surprises")
    assert (
        f"receipts are not here: midway/{RUN}.raw.done, tegner/{RUN}.raw.done -> nothing need be done" in out
    )
    for site in ("midway", "tegner"):
        receipts.write(settled.work("midway", f"{site}/{RUN}.raw.done"), {"entry": None})
    code, out = caxflow("rundb", "check")
    assert (code, out) == (0, "no surprises\n")


def test_what_others_made_needs_no_receipts_here(settled):
    settled.note("midway", owner="lngs")
    settled.note("tegner", owner=None)
    assert lost.missing(settled.database.get(RUN), settled.settings(), settled.work()) == []


def test_a_mark_that_does_not_hold_is_told_and_taken_away(settled, caxflow):
    look = planner.look(settled.database, settled.settings())
    assert look.targets == []
    # As a person or another program does it, who knows nothing of revisions.
    data = [each for each in settled.database.get(RUN)["data"] if each["host"] != SITES["midway"]]
    settled.database.runs.update_one({}, {"$set": {"data": data}})
    assert planner.look(settled.database, settled.settings()).targets == []
    wanted = f"{RUN} is marked as settled or waiting at midway, and wants midway/{RUN}.checksum"
    for words in ((), ("--json",)):
        code, out = caxflow("rundb", "check", *words)
        assert (code, wanted in out) == (1, True)
    assert len(json.loads(out)) == 1
    code, out = caxflow("rundb", "init")
    assert code == 0
    assert "1 run to work on at midway" in out
    assert planner.look(settled.database, settled.settings()).targets == [f"midway/{RUN}.checksum"]


def test_a_receipt_that_is_written_again_says_what_the_database_knows(copies):
    version = copies.keep_processed()
    (file,) = copies.add_made("processed", version)
    settings, entry = copies.settings(), copies.made("processed")[version]
    there = {"location": str(file), "version": version, "manifest": entry["manifest"]}
    there["correction_versions"] = {"AddGains": "5.0"}
    known = copies.database.manifest(entry["manifest"])
    lost.restore(copies.work(), settings.here, RUN, there, known)
    receipt = receipts.read(copies.work("midway", str(Target("midway", RUN, "processed.done"))))
    assert (receipt["location"], receipt["bytes"]) == (str(file), file.stat().st_size)
    assert receipt["entry"] == {
        "kind": "processed",
        "host": SITES["midway"],
        "version": version,
        "location": str(file),
        "status": None,
    }
    assert receipt["correction_versions"] == {"AddGains": "5.0"}
    assert receipt["manifest"] == known
    assert lost.missing(copies.database.get(RUN), settings, copies.work()) == [
        Target("midway", RUN, "raw.done"),
        Target("tegner", RUN, "raw.done"),
    ]
