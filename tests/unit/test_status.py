"""What is where: from documents, from receipts, and counted by the database."""

import datetime
import json

import pytest
from bson import Decimal128

from caxflow import cli, receipts
from caxflow.documents import Copy
from caxflow.monitoring import status
from caxflow.page import rows
from caxflow.planning import copystate
from caxflow.rundb import RunsDB
from copies import Copies
from operators import HOSTS, MANIFEST, NOW, RUN, configured, document, fail, raw, state

VERIFIED = {"verified": NOW}


@pytest.mark.parametrize(
    ("word", "note", "expected"),
    [
        ("transferred", {}, "copied"),
        ("transferred", VERIFIED, "proven"),
        ("transferred", VERIFIED | {"suspect": "a.zip differs"}, "suspect"),
        ("error", {"error": "disk full"}, "error"),
        ("verifying", {}, "verifying"),
        ("RSEreadable", {}, "RSEreadable"),
    ],
)
def test_state_of_a_copy(word, note, expected):
    assert copystate.state_of(Copy("raw", "midway-login1", word, "/x", note=note)) == expected


def test_copies_of_a_run_in_order_with_remarks(tmp_path):
    settings = configured(tmp_path)
    claim = {"owner": "tegner", "lease": NOW, "by": {"user": "joe", "host": "login", "pid": 7}}
    known = document(
        tmp_path,
        raw(tmp_path, "tegner", "transferring", caxflow=claim),
        {
            "type": "processed",
            "host": HOSTS["midway"],
            "status": "transferred",
            "location": "/x",
            "pax_version": "v1",
        },
        raw(tmp_path, "midway", caxflow=VERIFIED),
        {"type": "raw", "host": "rucio-catalogue", "status": "transferred", "location": "scope:raw"},
        {"type": "raw"},
    )
    found = status.of_run(RUN, known, settings, None)
    assert [(copy.site, copy.kind, copy.state) for copy in found.copies] == [
        ("lngs", "raw", "copied"),
        ("midway", "raw", "proven"),
        ("midway", "processed", "copied"),
        ("tegner", "raw", "transferring"),
        ("rucio-catalogue", "raw", "copied"),
    ]
    assert (
        found.copies[3].remark
        == "being made by tegner (joe@login, process 7), claimed until 2016-03-16 12:00 UTC"
    )
    assert found.copies[3].size is None
    assert found.copies[1].size == found.size == 41_234_567_890
    assert json.loads(json.dumps(status.plain(found)))["copies"][1]["verified"] == "2016-03-16T12:00:00Z"


def test_receipts_alone_tell_the_copies_and_the_failures(tmp_path):
    settings = configured(tmp_path)
    work = tmp_path / "work/midway"
    for stage in ("raw.done", "checksum"):
        state(work, tmp_path, "midway", stage)
    state(work, tmp_path, "lngs")
    fail(work, "tegner", "raw.done", "disk full -> free some", times=2)
    found = status.of_run(RUN, None, settings, work)
    assert [(copy.site, copy.state, copy.size) for copy in found.copies] == [
        ("lngs", "proven", MANIFEST.size),
        ("midway", "proven", MANIFEST.size),
    ]
    assert found.receipts == {"lngs": ["raw.done"], "midway": ["raw.done", "checksum"]}
    assert [(failure["reason"], failure["attempts"]) for failure in found.failures] == [
        ("disk full -> free some", 2)
    ]
    rows = status.count_receipts(work, settings)
    assert [(row.site, row.kind, row.state, row.copies) for row in rows] == [
        ("lngs", "raw", "proven", 1),
        ("midway", "raw", "proven", 1),
    ]


def test_minitrees_are_known_without_the_database(tmp_path):
    settings = configured(tmp_path)
    work = tmp_path / "work/midway"
    made = {"entry": {"kind": "minitrees", "version": "v6.8.0"}, "location": "/x/pax_v6.8.0", "bytes": 5}
    receipts.write(work / f"midway/{RUN}.minitrees.done", made)
    (copy,) = status.of_run(RUN, None, settings, work).copies
    assert (copy.kind, copy.version, copy.state, copy.size) == ("minitrees", "v6.8.0", "copied", 5)
    (row,) = status.count_receipts(work, settings)
    assert (row.site, row.kind, row.state, row.copies) == ("midway", "minitrees", "copied", 1)


def test_a_failure_here_counts_for_the_exit_code(tmp_path, database, database_uri, capsys):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add()
        of_all = ["status", "--profile", copies.profile()]
        assert [cli.main(call) for call in (of_all, [*of_all, str(RUN)])] == [0, 0]
        fail(copies.work(), "midway", "raw.done", "disk full")
        assert [cli.main(call) for call in (of_all, [*of_all, str(RUN)])] == [1, 1]
        assert f"failed here: {RUN}" in capsys.readouterr().out


def test_what_cannot_be_known_is_not_said(tmp_path, capsys):
    configured(tmp_path)
    rundb = "rundb={uri: 'mongodb://127.0.0.1:1', timeout: 0.1}"
    assert cli.main(["status", "--config", "site=midway", f"sites_dir={tmp_path}/config/sites", rundb]) == 1
    out = capsys.readouterr().out
    assert "no copies yet" not in out
    assert out.startswith("from the receipts here only: ")


def test_a_damaged_receipt_is_told_and_hides_nothing_else(tmp_path):
    settings = configured(tmp_path)
    work = tmp_path / "work/midway"
    state(work, tmp_path, "lngs")
    (work / "midway").mkdir()
    (work / f"midway/{RUN}.raw.done").write_text("{")
    found = status.of_run(RUN, None, settings, work)
    assert [copy.state for copy in found.copies] == ["proven", "unknown"]
    assert "is damaged" in found.copies[1].remark


def test_copies_and_bytes_are_counted(tmp_path, database, database_uri):
    settings = configured(tmp_path, database_uri, database.name)
    earlier = NOW - datetime.timedelta(days=3)
    for minute in range(4):
        run = type(RUN)(f"160315_140{minute}")
        note = {"verified": earlier if minute == 2 else NOW}
        size = [1000, 1000.0, Decimal128("1000"), "1000"][minute]
        copies = [raw(tmp_path, "midway", size=size, caxflow=note, run=run)]
        copies += [raw(tmp_path, "tegner", "error", caxflow={"error": "x"}, run=run)] if minute else []
        copies += [{"type": "untriggered", "host": "reader", "status": "transferred", "location": "x"}]
        database["runs_new"].insert_one(document(tmp_path, *copies, run=run))
    database["runs_new"].insert_one({"name": "no data at all", "detector": "tpc"})
    with RunsDB(settings.rundb) as rundb:
        rows = status.count(rundb.everything(status.COUNTED), settings)
    assert [(row.site, row.state, row.copies, row.bytes, row.oldest) for row in rows] == [
        ("lngs", "copied", 4, 4 * 41_234_567_890, None),
        ("midway", "proven", 4, 4000, earlier),
        ("tegner", "error", 3, 3 * 41_234_567_890, None),
    ]


@pytest.mark.parametrize(
    ("keys", "state"),
    [
        ({}, "copied"),  # cax's, of which nothing was read
        ({"manifest": "xxh128:00"}, "proven"),  # taken note of: every byte was read
        ({"manifest": "xxh128:00", "caxflow": {"owner": "midway"}}, "copied"),  # made, and not read again
        ({"manifest": "xxh128:00", "caxflow": {"owner": "midway", "verified": NOW}}, "proven"),
        ({"manifest": "xxh128:00", "caxflow": {"suspect": "differs"}}, "suspect"),
    ],
)
def test_one_word_for_a_state_wherever_it_is_told(tmp_path, keys, state):
    settings = configured(tmp_path)
    known = document(tmp_path, raw(tmp_path, "midway", **keys))
    ((copy,), (row,)) = (
        [copy for copy in status.of_run(RUN, known, settings, None).copies if copy.site == "midway"],
        [row for row in status.count([known], settings) if row.site == "midway"],
    )
    assert copy.state == row.state == state
    assert rows.letter_of(state) == {"copied": "c", "proven": "p", "suspect": "e"}[state]
