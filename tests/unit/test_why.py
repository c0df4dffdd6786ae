"""Why a run is where it is, also when nobody can be asked."""

import datetime

import pytest

from caxflow import __version__, cli, receipts
from caxflow.config import Selection
from caxflow.config.retention import Demand
from caxflow.copies.removal import Removal
from caxflow.monitoring import why
from caxflow.planning.troubles import Trouble
from caxflow.rundb.selecting import excluded
from caxflow.targets import Target
from caxflow.workdir import journal
from copies import Copies
from operators import NOW, RUN, configured, document, fail, raw, state

LATER = NOW + datetime.timedelta(minutes=5)


@pytest.fixture
def settings(tmp_path):
    return configured(tmp_path)


@pytest.fixture
def ask(tmp_path, settings):
    """Ask with the work directory of midway."""

    def ask(known, away="", **overrides):
        chosen = configured(tmp_path, **overrides) if overrides else settings
        return why.answer(RUN, known, chosen, tmp_path / "work/midway", now=NOW, away=away)

    return ask


def test_the_next_all_does_it(tmp_path, ask):
    found = ask(document(tmp_path))
    assert found.verdict == why.TODO
    assert f"midway/{RUN}.checksum" in found.todo
    assert f"tegner/{RUN}.checksum" in found.todo


def test_somebody_else_is_making_it(tmp_path, ask):
    claim = {"owner": "tegner", "lease": LATER, "by": {"user": "joe", "host": "login", "pid": 7}}
    entry = raw(tmp_path, "tegner", "transferring", caxflow=claim)
    found = ask(document(tmp_path, raw(tmp_path, "midway"), entry), kinds=["raw"])
    assert (found.verdict, found.waits, found.well) == (why.BUSY, [], True)
    assert found.claims == [
        "its raw copy at tegner is being made by tegner (joe@login, process 7), "
        "claimed until 2016-03-16 12:05 UTC"
    ]


def test_a_removal_is_told_until_the_copy_is_there_again(tmp_path, settings):
    gone = {"type": "raw", "host": "midway-login1", "why": "removed", "at": NOW, "token": "ab"}
    entries = [raw(tmp_path, "tegner"), raw(tmp_path, "midway")]
    by = {"user": "joe", "host": "login", "pid": 7}
    audit = [{"_id": "ab.removed", "by": by, "grounds": "disk full"}]
    told = [
        why.answer(
            RUN,
            document(tmp_path, *there) | {"caxflow": {"gone": [gone]}},
            settings,
            None,
            now=NOW,
            audit=audit,
        ).removed
        for there in (entries[:1], entries)
    ]
    assert told == [
        ["its raw copy at midway was removed, 2016-03-16 12:00 UTC, by joe@login: disk full"],
        [],
    ]


def test_the_history_is_what_the_audit_has_even_without_a_document(tmp_path, database, database_uri, capsys):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add()
        Removal(copies.subject(), Demand(), "disk full").perform()
        copies.database.runs.delete_many({})
        assert cli.main(["why", "--profile", copies.profile(), str(RUN), "--history"]) == 1
    said = capsys.readouterr().out.splitlines()[-2:]
    by = "{user}@{host}, caxflow {version}".format(**receipts.who(), version=__version__)
    assert [line.partition(" UTC: ")[2] for line in said] == [
        f"{action} raw at midway, by {by}: disk full" for action in ("removing", "removed")
    ]


def test_what_was_removed_as_nobody_writes_it_is_passed_over(tmp_path, ask):
    gone = [{"type": ["raw"], "host": "midway-login1", "why": "removed"}, {"type": "raw", "why": "removed"}]
    odd = document(tmp_path, raw(tmp_path, "lngs")) | {"caxflow": {"gone": gone}, "tags": [{"name": ["a"]}]}
    assert ask(odd, select={"tags": ["a"]}).removed == []


def test_a_claim_of_a_process_that_is_gone_says_so(tmp_path, ask):
    by = receipts.who() | {"user": "joe", "pid": 2**30}
    claim = {"owner": "midway", "lease": LATER, "by": by}
    found = ask(document(tmp_path, raw(tmp_path, "midway", "transferring", caxflow=claim)), kinds=["raw"])
    assert "process 1073741824, which is gone), claimed until" in found.claims[0]


def test_it_failed_and_is_tried_again_later(tmp_path, ask):
    note = {"error": "disk full", "attempts": 2, "next": LATER}
    found = ask(document(tmp_path, raw(tmp_path, "midway", "error", caxflow=note)), kinds=["raw"])
    assert found.troubles == [Trouble("its raw copy at midway", "disk full", attempts=2, next=LATER)]
    assert any("tried again at 2016-03-16 12:05" in line for line in found.waits)


def test_it_failed_too_often(tmp_path, ask):
    note = {"error": "disk full", "attempts": 5, "next": LATER}
    found = ask(document(tmp_path, raw(tmp_path, "midway", "error", caxflow=note)), kinds=["raw"])
    assert found.verdict == why.FAILED
    (trouble,) = found.troubles
    assert (trouble.attempts, trouble.next) == (5, None)


def test_what_only_the_journal_knows_has_its_pause_as_all_keeps_it(tmp_path, ask):
    fail(tmp_path / "work/midway", "lngs", "raw.done", "lngs: no route -> check the network")
    found = ask(document(tmp_path), kinds=["raw"])
    assert (found.verdict, found.todo, found.waits) == (why.FAILED, [], [])
    assert found.troubles[0].next == found.troubles[0].at + datetime.timedelta(minutes=10)


def test_nothing_remains(tmp_path, ask):
    copies = [raw(tmp_path, site) for site in ("midway", "tegner")]
    assert ask(document(tmp_path, *copies), kinds=["raw"]).verdict == why.SETTLED


def test_a_surprise_in_the_document(tmp_path, ask):
    entry = raw(tmp_path, "midway") | {"location": "/etc/passwd"}
    found = ask(document(tmp_path, entry))
    assert found.verdict == why.PROBLEM
    assert "/etc/passwd" in found.waits[0]


def test_without_the_database_the_journal_speaks(tmp_path, ask):
    work = tmp_path / "work/midway"
    journal.announce(work, state(work, tmp_path, "midway"))
    fail(work, "tegner", "raw.done", "tegner: no route -> check the network", times=2)
    log = work / f"logs/tegner/{RUN}.copy_raw.log"
    log.parent.mkdir(parents=True)
    log.touch()
    found = ask(None, away="the runs database does not answer")
    assert found.verdict == why.UNASKED
    assert found.receipts == {"midway": ["raw.done"]}
    assert found.untold == [f"midway/{RUN}.raw.done", f"tegner/{RUN}.raw.done"]
    (trouble,) = found.troubles
    assert (trouble.where, trouble.attempts) == (f"tegner/{RUN}.raw.done", 2)
    assert trouble.reason == "tegner: no route -> check the network"
    assert trouble.next - trouble.at == datetime.timedelta(minutes=20)
    assert trouble.log == str(log)


def test_of_an_unknown_run_it_says_so(ask):
    assert ask(None).verdict == why.UNKNOWN
    assert ask(None, away="away").verdict == why.UNASKED


def test_receipts_of_a_run_that_the_database_has_lost(tmp_path, ask):
    state(tmp_path / "work/midway", tmp_path, "midway")
    found = ask(None)
    assert found.verdict == why.WAITS
    assert "not in the runs database" in found.waits[0]


def test_a_job_at_work_is_seen(tmp_path, ask):
    from caxflow.workdir.underway import Teller

    teller = Teller(tmp_path / "work/midway", Target("midway", RUN, "raw.done"))
    teller.tell("moving", 10, 100, 5.0)
    found = ask(document(tmp_path))
    assert found.verdict == why.BUSY
    assert found.underway[f"midway/{RUN}.raw.done"]["done"] == 10
    teller.end()
    assert ask(document(tmp_path)).verdict == why.TODO


@pytest.mark.parametrize(
    ("selection", "word"),
    [
        ({"runs": ("160315_1433",)}, "configured runs"),
        ({"detectors": ("muon_veto",)}, "select.detectors"),
        ({"first": 1433}, "select.numbers.first"),
        ({"last": 1431}, "select.numbers.last"),
        ({"after": datetime.datetime(2016, 3, 16)}, "select.start.after"),
        ({"before": datetime.datetime(2016, 3, 15, 14, 32)}, "select.start.before"),
        ({"sources": ("Kr83m",)}, "select.sources"),
        ({"tags": ("_sciencerun0",)}, "select.tags"),
        ({"without_tags": ("bad",)}, "tagged bad"),
    ],
)
def test_the_condition_that_keeps_a_run_out_is_named(tmp_path, selection, word):
    known = document(tmp_path, tags=[{"name": "bad"}, "no tag"])
    assert word in excluded(known, Selection(**selection))


def test_every_condition_that_holds_lets_it_in(tmp_path):
    selection = Selection(
        runs=(str(RUN),),
        detectors=("tpc",),
        first=1432,
        last=1432,
        after=datetime.datetime(2016, 3, 15, 14, 32),
        before=datetime.datetime(2016, 3, 16),
        tags=("a",),
        without_tags=("b",),
        sources=("none",),
    )
    assert excluded(document(tmp_path, tags=[{"name": "a"}]), selection) is None


def test_the_query_and_the_words_agree_about_who_is_let_in(tmp_path, database, database_uri):
    """What planning asks the database and what `why` says are one and the same condition."""
    from caxflow.rundb import select

    database["runs_new"].insert_one(document(tmp_path, tags=[{"name": "a"}]))
    for selection in (
        Selection(),
        Selection(first=1432, tags=("a", "z")),
        Selection(last=1431),
        Selection(without_tags=("a",)),
        Selection(before=datetime.datetime(2016, 3, 15, 14, 32)),
        Selection(after=datetime.datetime(2016, 3, 15, 14, 32), sources=("none",)),
        Selection(detectors=("muon_veto",)),
        Selection(runs=("160315_1433",)),
    ):
        found = database["runs_new"].count_documents(select(selection))
        known = database["runs_new"].find_one()
        assert (found == 1) == (excluded(known, selection) is None), selection
