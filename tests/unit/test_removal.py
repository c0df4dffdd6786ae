"""Removal: only on evidence, and whatever crashes when, nothing is lost and the next attempt completes it."""

import contextlib
import datetime
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from caxflow import documents, processes
from caxflow.config import Selection
from caxflow.config.retention import Demand
from caxflow.copies import proof, quarantine
from caxflow.copies.hearing import Hearing
from caxflow.copies.moving import Move
from caxflow.copies.removal import Removal
from caxflow.copies.subject import OnDisk, Subject
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.planning import removals
from caxflow.planning.facts import gather
from caxflow.rundb import DatabaseAway, Held, RunsDB, audit, marks
from caxflow.targets import Run
from caxflow.transfer import Look, Place
from copies import FILES, SITES, Copies, Killed, just_read, now, two_names

RUN = Run("160315_1432")


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


def removal_of(copies, site="midway", demand=None, **how):
    return Removal(copies.subject(site, **how), demand or Demand(), "a test")


def refused(copies, *patterns, **how):
    """The removal is refused with these words, and nothing has changed."""
    before = copies.database.runs.find_one()
    with pytest.raises(CaxflowError) as caught:
        removal_of(copies, **how).perform()
    for pattern in patterns:
        assert pattern in str(caught.value)
    assert copies.whole("midway")
    assert copies.database.runs.find_one() == before
    return str(caught.value)


def where(begun):
    """What the copy consists of."""
    subject = begun.subject
    copy = subject.find(subject.database.get(RUN))
    expected = Manifest.from_json(subject.database.manifest(copy.manifest))
    return OnDisk(copy.location, expected)


def actions(copies):
    return [record["action"] for record in copies.database.audit(RUN)]


def test_a_copy_goes_and_the_audit_keeps_it(copies):
    copies.add()
    row = copies.row("midway")
    facts = removal_of(copies).perform()
    assert not copies.path("midway").exists()
    assert copies.row("midway") is None
    assert sorted(each["site"] for each in facts["evidence"]) == ["lngs", "tegner"]
    assert facts["bytes"] == row["size"]
    assert list((copies.folder / "midway/raw/.caxflow-trash").iterdir()) == []
    begun, done = copies.database.audit(RUN)
    assert (begun["action"], done["action"]) == ("removing", "removed")
    assert done["entry"] | {"status": row["status"], "caxflow": row["caxflow"]} == row
    assert done["grounds"] == "a test"
    assert {"host", "user", "pid"} <= set(done["by"])
    assert list(copies.database.removing(SITES["midway"])) == []
    copies.check()


def test_stale_evidence_is_renewed_by_reading(copies):
    copies.add(verified_days_ago=10)
    copies.note("lngs", verified=None)
    removal_of(copies).perform()
    assert any("again" in line for line in copies.said)
    for site in ("lngs", "tegner"):
        assert (copies.database.now() - copies.row(site)["caxflow"]["verified"]).total_seconds() < 3600
    copies.check()


def test_a_bad_witness_is_found_when_it_is_read_and_set_aside(copies):
    copies.add(verified_days_ago=10)
    copies.spoil("tegner")
    with pytest.raises(CaxflowError, match=r"2 other copies .* 1 found .*it is suspect"):
        removal_of(copies).perform()
    assert copies.whole("midway")
    assert copies.row("tegner")["status"] == "error"
    assert copies.row("tegner")["caxflow"]["suspect"]["files"] == [
        "a.zip has the right size but other contents"
    ]
    assert not copies.path("tegner").exists()
    assert len(list((copies.folder / "tegner/raw/.caxflow-quarantine").iterdir())) == 1


@pytest.mark.parametrize("cax", [False, True])
def test_good_copies_are_not_condemned_by_a_rotten_one(copies, cax):
    from caxflow.files import digests

    copies.add()
    checksum = digests.cax_sha512(copies.path("lngs")) if cax else None
    copies.spoil("midway")
    copies.set("midway", manifest=copies.entry("midway", str(RUN), 0.5)["manifest"])
    for site in ("lngs", "tegner"):
        copies.set(site, manifest=None, checksum=checksum, caxflow={})
    words = "it differs from this copy: find out which is right"
    words += r" \(it has the sha512 that cax recorded\)" if cax else ""
    with pytest.raises(CaxflowError, match=words):
        removal_of(copies, demand=Demand(copies=1)).perform()
    for site in ("lngs", "tegner"):
        assert copies.whole(site)
        assert copies.row(site)["status"] == "transferred"
        assert copies.row(site)["manifest"] is None
    assert actions(copies) == []


def test_a_copy_that_is_as_rotten_as_this_one_does_not_count(copies):
    from caxflow.files import digests

    copies.add(sites=["lngs", "midway"])
    checksum = digests.cax_sha512(copies.path("lngs"))
    for site in ("lngs", "midway"):
        copies.spoil(site)
        copies.set(site, manifest=copies.entry(site, str(RUN), 0.5)["manifest"])
    copies.set("lngs", manifest=None, checksum=checksum)
    with pytest.raises(CaxflowError, match="does not have the sha512 that cax recorded"):
        removal_of(copies, demand=Demand(copies=1)).perform()
    assert copies.row("lngs")["manifest"] is None


def test_a_witness_that_goes_while_it_is_read_does_not_come_back(copies, monkeypatch):
    copies.add(verified_days_ago=10)
    real = proof.read_again

    def slow(place, location, *rest):
        found = real(place, location, *rest)
        if place.site == "tegner":
            copies.database.runs.update_one(
                {}, {"$pull": {"data": {"host": SITES["tegner"]}}, "$inc": {"caxflow.revision": 1}}
            )
        return found

    monkeypatch.setattr(proof, "read_again", slow)
    with pytest.raises(CaxflowError, match="1 found"):
        removal_of(copies).perform()
    assert copies.row("tegner") is None


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda copies: copies.set("tegner", status="transferring"), "its status is transferring"),
        (lambda copies: copies.set("tegner", status="error"), "its status is error"),
        (lambda copies: copies.note("tegner", suspect={"files": ["a"]}), "it is suspect"),
        (lambda copies: copies.note("tegner", removing={"trash": "/x"}), "it is being removed"),
        (lambda copies: copies.set("tegner", manifest="xxh128:" + "0" * 32), "its manifest is another one"),
        (lambda copies: copies.set("tegner", location="/elsewhere/160315_1432"), "outside"),
        (lambda copies: (copies.path("tegner") / "b.zip").unlink(), "are not those of its manifest"),
        (lambda copies: copies.set("tegner", host="rucio-catalogue"), "1 found"),
    ],
    ids=["transferring", "error", "suspect", "leaving", "another", "outside", "file", "unknown host"],
)
def test_what_does_not_count(copies, spoil, why):
    copies.add()
    spoil(copies)
    refused(copies, "2 other copies", why)


@pytest.mark.parametrize("stale", [False, True])
def test_a_witness_that_is_not_there_does_not_count_and_is_told(copies, stale):
    copies.add(verified_days_ago=10 if stale else 0.5)
    (copies.path("tegner").parent / "another").mkdir()
    copies.path("tegner").rename(copies.folder / "away")
    with pytest.raises(CaxflowError, match=r"2 other copies .* 1 found"):
        removal_of(copies).perform()
    assert copies.whole("midway")
    row = copies.row("tegner")
    assert (row["status"], row["caxflow"]["suspect"]["files"]) == ("error", ["it is not there"])
    assert row["caxflow"]["suspect"]["quarantine"] is None


def test_the_last_copy_never_goes(copies):
    copies.add(sites=["midway"])
    refused(copies, "no other site has one", demand=Demand(copies=1))
    assert refused(copies, demand=Demand(copies=0))


def test_two_names_of_one_folder_are_one_copy(copies):
    copies.add(sites=["lngs", "midway"])
    shutil.rmtree(copies.path("tegner").parent)
    copies.path("tegner").parent.symlink_to(copies.path("midway").parent)
    document = copies.database.get(RUN)
    entry = copies.entry("tegner", str(RUN), 0.5)
    copies.database.runs.update_one({"_id": document["_id"]}, {"$push": {"data": entry}})
    refused(copies, "not tegner: it is the very files of this copy")
    copies.check()


def test_one_folder_of_two_sites_is_one_witness(copies):
    copies.add()
    shutil.rmtree(copies.path("tegner").parent)
    copies.path("tegner").parent.symlink_to(copies.path("lngs").parent)
    refused(copies, "it is the very files of")
    removal_of(copies, demand=Demand(copies=1)).perform()
    assert not copies.path("midway").exists()
    assert copies.whole("lngs")


def test_two_sites_that_count_each_other_do_not_both_remove(copies):
    copies.add()
    one, other = (
        removal_of(copies, demand=Demand(copies=2)),
        removal_of(copies, "tegner", here="tegner", demand=Demand(copies=2)),
    )
    document = copies.database.get(RUN)
    for each in (one, other):
        each.hearing.hear(each.subject.find(document))
    one.intend(one.subject.find(document))
    with pytest.raises(CaxflowError, match="what is known of its copies changed"):
        other.intend(other.subject.find(document))


def test_of_removals_at_the_same_time_enough_copies_stay(copies):
    copies.add()
    failed = []

    def remove(site):
        try:
            removal_of(copies, site, here=site).perform()
        except CaxflowError:
            failed.append(site)

    threads = [threading.Thread(target=remove, args=(site,)) for site in SITES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) >= 2
    copies.check()


def test_dry_removes_nothing(copies):
    copies.add()
    refused(copies, "dry", dry=True)


def test_nothing_is_removed_while_the_database_is_away(copies):
    copies.add()
    subject = copies.subject()
    subject.database = copies.connect(copies.settings(rundb={"uri": "mongodb://127.0.0.1:1", "timeout": 0.2}))
    with pytest.raises(DatabaseAway):
        Removal(subject, Demand(), "a test").perform()
    assert copies.whole("midway")


STEPS = ["hear", "intend", "move", "confirm", "commit", "empty", "forget_entry"]

CRASH = """
import os, signal, sys
from pathlib import Path
from caxflow import config
from caxflow.copies.hearing import Hearing
from caxflow.copies.removal import Removal
from caxflow.config.retention import Demand
from caxflow.rundb import Key, RunsDB
from caxflow.copies.subject import Subject
from caxflow.targets import Run

folder, step, when, count = sys.argv[1:]
its = Hearing if step in ("hear", "confirm") else Removal
own = getattr(its, step)

def dies(self, *arguments, **named):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    own(self, *arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(its, step, dies)
settings = config.load({"site": "midway"}, Path(folder) / "config")
subject = Subject(settings, RunsDB(settings.rundb), settings.here, Run("160315_1432"),
                  Key("raw", settings.here.host), Path(folder) / "work/midway", print)
Removal(subject, Demand(copies=int(count)), "a test").perform()
"""


def killed(world, step, when, copies=2):
    """A process that removes the copy is killed there; so many others it wants."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH, world.folder, step, when, str(copies)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_the_next_attempt_completes(copies, step, when):
    copies.add()
    killed(copies, step, when)
    copies.check()
    row = copies.row("midway")
    assert (
        row is None
        or row["status"] == "transferring"
        or step == "hear"
        or (step, when) == ("intend", "before")
    )
    facts = removal_of(copies).perform()
    assert not copies.path("midway").exists()
    assert copies.row("midway") is None
    assert list((copies.folder / "midway/raw/.caxflow-trash").iterdir()) == []
    assert sorted(each["site"] for each in facts["evidence"]) == ["lngs", "tegner"]
    assert sorted(set(actions(copies))) == ["removed", "removing"]
    copies.check()


def test_after_a_crash_the_copy_comes_back_if_the_evidence_is_gone(copies):
    copies.add()
    killed(copies, "move", "after")
    assert not copies.path("midway").exists()
    copies.note("tegner", suspect={"files": ["a.zip"]})
    with pytest.raises(CaxflowError, match="it is suspect"):
        removal_of(copies).perform()
    assert copies.whole("midway")
    assert copies.row("midway")["status"] == "transferred"
    assert "token" not in copies.row("midway")["caxflow"]
    assert list(copies.database.removing(SITES["midway"])) == []


def test_while_it_is_removed_the_copy_is_no_source_and_cannot_be_claimed(copies):

    copies.add()
    killed(copies, "intend", "after")
    facts = gather(copies.database.get(RUN), copies.settings("tegner"))
    assert set(facts.there["raw"]) == {"lngs", "tegner"}
    with pytest.raises(CaxflowError, match="its raw copy at midway-login1 is being removed by midway"):
        copies.database.claim(RUN, copies.subject().key, "/x", "lngs", 30)


def test_somebody_elses_claim_ends_a_removal_that_took_too_long(copies):
    copies.add()
    slow = removal_of(copies)
    copy = slow.subject.find(copies.database.get(RUN))
    slow.hearing.hear(copy)
    trash = slow.intend(copy)
    copies.note("midway", token="another")
    with pytest.raises(CaxflowError, match="taken over by somebody else"):
        slow.move(where(slow), trash)
    assert copies.whole("midway")


@pytest.mark.parametrize("fate", ["it came back", "it was kept"])
def test_who_was_stopped_for_longer_than_its_lease_takes_nothing_that_a_row_promises(
    copies, monkeypatch, fate
):
    copies.add()
    row, real = copies.row("midway"), Subject.bring

    def woken(*arguments, **named):
        """While it was stopped, right before it renames the copy, another process took the removal over."""
        monkeypatch.setattr(Subject, "bring", real)
        if fate == "it came back":
            removal_of(copies).perform()
            shutil.copytree(copies.path("lngs"), copies.path("midway"))
            copies.database.runs.update_one({}, {"$push": {"data": row}, "$inc": {"caxflow.revision": 1}})
        else:
            copies.note("lngs", suspect={"files": ["a.zip"]})
            with pytest.raises(CaxflowError, match="it is suspect"):
                removal_of(copies).perform()
        real(*arguments, **named)

    monkeypatch.setattr(Subject, "bring", woken)
    with pytest.raises(Held, match="taken over by somebody else"):
        removal_of(copies).perform()
    assert copies.row("midway")["status"] == "transferred"
    assert copies.whole("midway")
    assert list((copies.folder / "midway/raw/.caxflow-trash").iterdir()) == []


def test_who_was_stopped_leaves_the_trash_to_those_who_went_on(copies, monkeypatch):
    copies.add()
    moves = Removal.move

    def stopped(self, *arguments, **named):
        """While it was stopped, before it looked at its claim, another process came to empty the trash."""
        monkeypatch.setattr(Removal, "move", moves)
        copies.note("midway", lease=now() - datetime.timedelta(minutes=1))
        killed(copies, "empty", "before")
        return moves(self, *arguments, **named)

    monkeypatch.setattr(Removal, "move", stopped)
    with pytest.raises(Held, match="taken over by somebody else"):
        removal_of(copies).perform()
    assert not copies.path("midway").exists()
    assert len(list((copies.folder / "midway/raw/.caxflow-trash").iterdir())) == 1
    removal_of(copies).perform()
    assert list((copies.folder / "midway/raw/.caxflow-trash").iterdir()) == []


def test_what_was_never_there_cannot_be_removed(copies):
    copies.add(sites=["lngs", "tegner"])
    with pytest.raises(CaxflowError, match="not in the runs database"):
        removal_of(copies).perform()


def test_an_entry_that_points_outside_the_root_is_not_followed(copies):
    copies.add()
    outside = copies.folder / "precious"
    outside.mkdir()
    copies.set("midway", location=str(outside))
    refused(copies, "outside")
    assert outside.exists()


def test_a_folder_of_another_run_does_not_go(copies):
    copies.add()
    copies.add("160316_0000", sites=["midway"])
    copies.set("midway", location=str(copies.path("midway", "160316_0000")))
    refused(copies, "160316_0000, which is not called 160315_1432")
    assert copies.whole("midway", "160316_0000")


@pytest.mark.parametrize("where", ["160315_1432", "160315_1432/log", "."])
def test_what_another_entry_speaks_of_as_well_does_not_go(copies, where):
    copies.add()
    other = str(copies.path("midway").parent / where)
    entry = {"type": "processed", "host": SITES["midway"], "location": other + "/", "pax_version": "v1"}
    copies.database.runs.update_one({}, {"$push": {"data": entry}})
    refused(copies, "another entry of midway-login1 is in")


@pytest.mark.parametrize("name", ["notes.txt", "log/more"])
def test_a_file_that_no_manifest_knows_keeps_the_copy(copies, name):
    copies.add()
    extra = copies.path("midway") / name
    extra.write_text("the only notes of the shift")
    before = copies.row("midway")
    with pytest.raises(CaxflowError, match="are not those of its manifest"):
        removal_of(copies).perform()
    assert extra.exists()
    assert copies.row("midway") == before


def test_a_file_that_came_while_it_was_removed_keeps_the_copy(copies):
    copies.add()
    killed(copies, "intend", "after")
    extra = copies.path("midway") / "notes.txt"
    extra.write_text("the only notes of the shift")
    with pytest.raises(CaxflowError, match="are not those of its manifest"):
        removal_of(copies).perform()
    assert extra.exists()
    assert copies.row("midway")["status"] == "transferred"


def test_what_came_into_the_trash_is_not_deleted_and_what_half_went_goes(copies):
    copies.add()
    killed(copies, "empty", "before")
    (waiting,) = (copies.folder / "midway/raw/.caxflow-trash").iterdir()
    (waiting / "a.zip").unlink()
    (waiting / "notes.txt").touch()
    with pytest.raises(CaxflowError, match=r"is not emptied: its manifest does not know notes\.txt"):
        removal_of(copies).perform()
    assert (waiting / "b.zip").exists()
    (waiting / "notes.txt").unlink()
    removal_of(copies).perform()
    assert not waiting.exists()


@pytest.mark.parametrize("step", ["intend", "commit"])
@pytest.mark.parametrize("path", ["{precious}", "{raw}/.caxflow-trash", "{raw}/x.{token}", "{raw}", "/", 7])
def test_a_path_in_the_database_that_is_not_the_trash_is_never_emptied(copies, step, path):
    copies.add()
    copies.add("160316_0000", sites=["midway"])
    precious = copies.path("midway", "160316_0000")
    killed(copies, step, "after")
    removing = copies.row("midway")["caxflow"]["removing"]
    names = {"precious": precious, "raw": precious.parent, "token": removing["token"]}
    trash = path.format(**names) if isinstance(path, str) else path
    copies.note("midway", removing=removing | {"trash": trash})
    with pytest.raises(CaxflowError, match=r"is said to wait in .* not its place"):
        removal_of(copies).perform()
    assert copies.whole("midway", "160316_0000")
    assert step == "commit" or copies.whole("midway")


def test_a_tombstone_says_since_when_receipts_do_not_hold(copies):
    copies.add()
    removal_of(copies).perform()
    gone = documents.gone(copies.database.get(RUN), "raw", SITES["midway"])
    assert gone["why"] == "removed"
    assert abs((copies.database.now() - gone["at"]).total_seconds()) < 60


def test_a_preview_knows_what_was_begun_and_changes_nothing(copies):
    copies.add(verified_days_ago=0)
    killed(copies, "intend", "after")
    before = copies.database.get(RUN)
    verdict = removal_of(copies).preview()
    assert (verdict.begun, verdict.location) == (True, str(copies.path("midway")))
    # What was known when it was begun is not taken for granted.
    assert sorted(each.site for each in verdict.hoped) == ["lngs", "tegner"]
    assert copies.database.get(RUN) == before
    by = copies.row("midway")["caxflow"]["by"]
    copies.note("midway", by={"host": "lngs-login", "user": "xenon"})
    with pytest.raises(CaxflowError, match="is being removed by xenon@lngs-login"):
        removal_of(copies).preview()
    copies.note("midway", by=by)
    killed(copies, "empty", "before")
    (waiting,) = (copies.folder / "midway/raw/.caxflow-trash").iterdir()
    before = copies.database.get(RUN)
    verdict = removal_of(copies).preview()
    assert (verdict.begun, verdict.location) == (True, str(copies.path("midway")))
    assert sorted(each.site for each in verdict.hoped) == ["lngs", "tegner"]
    assert waiting.exists()
    assert copies.database.get(RUN) == before


def flip(path):
    """Change a byte of a file of a copy, without anybody being told."""
    content = bytearray((path / "a.zip").read_bytes())
    content[7] ^= 1
    (path / "a.zip").write_bytes(content)


def vanish(copies, site):
    shutil.rmtree(copies.path(site))
    (copies.path(site).parent / "other").mkdir()


# What can happen to the one witness before a removal that was interrupted goes on.
FATES = {
    "rotten, and told": lambda copies: copies.note("lngs", suspect={"files": ["a.zip"]}),
    "rotten, and not told": lambda copies: flip(copies.path("lngs")),
    "gone": lambda copies: vanish(copies, "lngs"),
    "its site is not mounted": lambda copies: copies.path("lngs").parent.rename(copies.folder / "away"),
    "its row is pulled": lambda copies: copies.database.runs.update_one(
        {}, {"$pull": {"data": {"host": SITES["lngs"]}}, "$inc": {"caxflow.revision": 1}}
    ),
    "being removed itself": lambda copies: copies.note("lngs", removing={"trash": "/x"}),
    "being moved": lambda copies: copies.set("lngs", status="transferring"),
    "its manifest is another": lambda copies: copies.set("lngs", manifest="xxh128:" + "0" * 32),
    "a link to the trash": lambda copies: (
        shutil.rmtree(copies.path("lngs")),
        copies.path("lngs").symlink_to(
            next((copies.folder / "midway/raw").glob(".caxflow-trash/*"), copies.path("midway"))
        ),
    ),
}


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("step", ["intend", "move", "confirm", "commit"])
def test_l1_a_removal_that_goes_on_asks_again_and_everything_goes_back(copies, step, fate):
    """`rm --copies 1`, killed; the only other copy is lost meanwhile; the same command again."""
    copies.add(sites=["lngs", "midway"], verified_days_ago=0)
    killed(copies, step, "after", copies=1)
    FATES[fate](copies)
    with pytest.raises(CaxflowError, match="is not removed"):
        removal_of(copies, demand=Demand(copies=1)).perform()
    assert copies.whole("midway")
    row = copies.row("midway")
    assert (row["status"], row["location"]) == ("transferred", str(copies.path("midway")))
    assert not {"removing", "token", "lease"} & set(row["caxflow"])
    assert list(copies.database.removing(SITES["midway"])) == []
    assert actions(copies)[-1] == "restored"
    waiting = copies.folder / "midway/raw/.caxflow-trash"
    assert not waiting.exists() or list(waiting.iterdir()) == []


# What nobody tells the database between the last look and the last question to it, no program can know.
TOLD = [
    "rotten, and told",
    "its row is pulled",
    "being removed itself",
    "being moved",
    "its manifest is another",
]


@pytest.mark.parametrize(
    ("step", "fate"),
    [(step, fate) for step in ("move", "confirm") for fate in FATES] + [("commit", fate) for fate in TOLD],
)
def test_l2_one_that_is_held_up_before_a_step_asks_again(copies, monkeypatch, step, fate):
    """`rm --copies 1` is stopped right before a step; the only other copy is lost; it goes on."""
    copies.add(sites=["lngs", "midway"], verified_days_ago=0)
    owner = Hearing if step == "confirm" else Removal
    real = getattr(owner, step)

    def held_up(self, *arguments, **named):
        FATES[fate](copies)
        return real(self, *arguments, **named)

    monkeypatch.setattr(owner, step, held_up)
    with pytest.raises(CaxflowError):
        removal_of(copies, demand=Demand(copies=1)).perform()
    assert copies.whole("midway")
    assert copies.row("midway")["status"] == "transferred"
    assert "removing" not in copies.row("midway")["caxflow"]


@pytest.mark.parametrize("lost", ["rotten, and not told", "gone"])
def test_what_was_half_deleted_stays_once_nothing_lets_it_go(copies, lost):
    copies.add(sites=["lngs", "midway"], verified_days_ago=0)
    killed(copies, "empty", "before", copies=1)
    (waiting,) = (copies.folder / "midway/raw/.caxflow-trash").iterdir()
    (waiting / "b.zip").unlink()
    FATES[lost](copies)
    for _ in range(2):
        with pytest.raises(CaxflowError, match="is not removed"):
            removal_of(copies, demand=Demand(copies=1)).perform()
        assert (waiting / "a.zip").read_bytes() == FILES["a.zip"]
        assert "removing" in copies.row("midway")["caxflow"]
    assert any("what is left of it waits in" in line for line in copies.said)


@pytest.mark.parametrize("step", ["move", "commit"])
def test_a_place_that_was_taken_meanwhile_is_left_alone(copies, step):
    """The copy waits in the trash; somebody puts something else in its place; nothing lets it go any more."""
    copies.add(sites=["lngs", "midway"])
    killed(copies, step, "after", copies=1)
    copies.path("midway").mkdir()
    (copies.path("midway") / "notes.txt").write_text("somebody else's")
    copies.note("lngs", suspect={"files": ["a.zip"]})
    with pytest.raises(CaxflowError, match="it is suspect"):
        removal_of(copies, demand=Demand(copies=1)).perform()
    assert (copies.path("midway") / "notes.txt").read_text() == "somebody else's"
    (waiting,) = (copies.folder / "midway/raw/.caxflow-trash").iterdir()
    assert (waiting / "a.zip").read_bytes() == FILES["a.zip"]
    assert "removing" in copies.row("midway")["caxflow"]
    copies.note("lngs", suspect=None)
    data = copies.database.get(RUN)["data"]
    data[0]["caxflow"].pop("suspect")
    copies.database.runs.update_one({}, {"$set": {"data": data}})
    removal_of(copies, demand=Demand(copies=1)).perform()
    assert (copies.path("midway") / "notes.txt").read_text() == "somebody else's"
    assert not waiting.exists()


def test_a_place_that_was_taken_before_the_copy_left_it_is_left_alone(copies):
    copies.add()
    killed(copies, "intend", "after")
    copies.path("midway").rename(copies.folder / "away")
    copies.path("midway").mkdir()
    (copies.path("midway") / "notes.txt").write_text("somebody else's")
    with pytest.raises(CaxflowError, match="are not those of its manifest"):
        removal_of(copies).perform()
    assert (copies.path("midway") / "notes.txt").read_text() == "somebody else's"
    assert "removing" in copies.row("midway")["caxflow"]  # which the copy is not back for


def test_an_unmounted_root_does_not_complete_a_removal(copies):
    copies.add()
    killed(copies, "commit", "after")
    root = copies.path("midway").parent
    root.rename(copies.folder / "unmounted")
    root.mkdir()
    with pytest.raises(CaxflowError, match="mount"):
        removal_of(copies).perform()
    assert copies.row("midway") is not None
    root.rmdir()
    (copies.folder / "unmounted").rename(root)
    removal_of(copies).perform()
    assert copies.row("midway") is None


def test_y1_a_copy_that_moves_while_witnesses_are_read_is_not_removed(copies, monkeypatch):
    """While `rm` reads a stale witness, `mv` of the same copy."""
    copies.add(verified_days_ago=10)
    new = copies.path("midway").parent / "sr0" / str(RUN)
    real = proof.read_again

    def slow(place, *rest):
        found = real(place, *rest)
        if not new.exists():
            Move(copies.subject(), str(new)).perform()
        return found

    monkeypatch.setattr(proof, "read_again", slow)
    with pytest.raises(CaxflowError, match="is not removed: what is known of its copies changed"):
        removal_of(copies).perform()
    row = copies.row("midway")
    assert (row["status"], row["location"]) == ("transferred", str(new))
    assert (new / "a.zip").read_bytes() == FILES["a.zip"]
    assert "removed" not in actions(copies)


def test_nothing_in_the_trash_is_no_removal(copies, monkeypatch):
    """Whatever took the copy away at the last moment: it was not this removal."""
    copies.add()
    real = Subject.bring

    def beaten(subject, old, new):
        if old == str(copies.path("midway")):
            copies.path("midway").rename(copies.folder / "elsewhere")
        real(subject, old, new)

    monkeypatch.setattr(Subject, "bring", beaten)
    with pytest.raises(CaxflowError, match="there is nothing at"):
        removal_of(copies).perform()
    assert "removed" not in actions(copies)
    assert copies.row("midway") is not None


def test_a_witness_that_changed_after_it_was_read_is_read_again(copies):
    """A byte is flipped at the only other copy, and no scrub was there since: the reading finds it."""
    copies.add(sites=["lngs", "midway"])
    copies.note("lngs", verified=just_read() - datetime.timedelta(seconds=10))
    flip(copies.path("lngs"))
    with pytest.raises(CaxflowError, match="it is suspect"):
        removal_of(copies, demand=Demand(copies=1)).perform()
    assert copies.whole("midway")
    assert copies.row("lngs")["status"] == "error"


def test_what_was_only_touched_counts_once_it_is_read_again(copies):
    copies.add(sites=["lngs", "midway"])
    before = just_read() - datetime.timedelta(seconds=10)
    copies.note("lngs", verified=before)
    (copies.path("lngs") / "a.zip").chmod(0o600)
    verdict = removal_of(copies, demand=Demand(copies=1)).preview()
    assert [each.site for each in verdict.hoped] == ["lngs"]
    assert "its files changed after they were read" in verdict.hoped[0].against
    removal_of(copies, demand=Demand(copies=1)).perform()
    assert copies.row("lngs")["caxflow"]["verified"] > before


def hard_links(own, other):
    shutil.copytree(own, other, copy_function=os.link)


def linked_above(own, other):
    shutil.rmtree(other.parent)
    other.parent.symlink_to(own.parent)


@pytest.mark.parametrize("alias", [hard_links, linked_above])
@pytest.mark.parametrize("of", ["midway", "lngs"])
def test_l6_two_names_of_the_same_files_are_one_copy(copies, alias, of):
    """The copy that is to go, or the witness, has another name at another site."""
    copies.add(sites=["lngs", "midway"])
    alias(copies.path(of), copies.path("tegner"))
    entry = copies.entry("tegner", str(RUN), 0)
    copies.database.runs.update_one({}, {"$push": {"data": entry}, "$inc": {"caxflow.revision": 1}})
    for site in SITES:
        copies.note(site, verified=just_read())  # a new link changes the times of the files
    refused(copies, "the very files of")
    removal_of(copies, demand=Demand(copies=1)).perform()
    assert copies.whole("lngs")


def test_y3_a_link_in_a_witness_place_is_no_witness_and_is_told(copies):
    copies.add()
    shutil.rmtree(copies.path("tegner"))
    copies.path("tegner").symlink_to(copies.path("lngs"))
    with pytest.raises(CaxflowError, match="1 found"):
        removal_of(copies).perform()
    row = copies.row("tegner")
    assert row["status"] == "error"
    assert "symbolic link" in row["caxflow"]["error"]
    assert copies.whole("midway")
    assert copies.whole("lngs")


def test_a_process_that_deletes_is_not_taken_over_while_it_is_there(copies):
    """One that was stopped while it deletes may go on at any time, whatever its lease says."""
    copies.add()
    killed(copies, "commit", "after")
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            started = processes.status(other.pid).started
            by = {"pid": other.pid, "started": started, "machine": processes.machine(), "user": "x"}
            copies.note("midway", by=by, lease=now() - datetime.timedelta(hours=1))
            with pytest.raises(Held, match=f"process {other.pid} of this machine -> .* or end it"):
                removal_of(copies).perform()
        finally:
            other.kill()
    removal_of(copies).perform()
    assert copies.row("midway") is None


def test_beacons_are_not_left_behind(copies):
    copies.add()
    removal_of(copies).perform()
    for site in SITES:
        root = copies.folder / site / "raw"
        assert {path.name for path in root.iterdir()} <= {str(RUN), ".caxflow-trash", ".caxflow-root"}


def test_one_that_was_stopped_after_the_last_question_asks_again(copies, monkeypatch):
    copies.add()
    monkeypatch.setattr("caxflow.copies.removal.HELD_UP", -1)
    with pytest.raises(CaxflowError, match="that was held up"):
        removal_of(copies).perform()
    assert copies.whole("midway")
    assert copies.row("midway")["status"] == "transferred"


def test_a_crash_while_a_copy_is_put_back_loses_nothing(copies, monkeypatch):
    """The trash says that it is emptied, the evidence is gone, the copy is back: and then it is killed."""
    copies.add(sites=["lngs", "midway"], verified_days_ago=0)
    killed(copies, "commit", "after", copies=1)
    flip(copies.path("lngs"))

    real = Subject.bring

    def dies(subject, old, new):
        real(subject, old, new)
        if new == str(copies.path("midway")):
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Subject, "bring", dies)
        with pytest.raises(Killed):
            removal_of(copies, demand=Demand(copies=1)).perform()
    assert copies.whole("midway")
    with pytest.raises(CaxflowError, match="it is suspect"):
        removal_of(copies, demand=Demand(copies=1)).perform()
    assert copies.whole("midway")
    assert copies.row("midway")["status"] == "transferred"
    assert "removed" not in actions(copies)


def test_half_a_copy_of_which_no_manifest_is_known_does_not_come_back_as_whole(copies):
    copies.add()
    killed(copies, "empty", "before")
    (waiting,) = (copies.folder / "midway/raw/.caxflow-trash").iterdir()
    (waiting / "a.zip").unlink()
    copies.database.manifests.delete_many({})
    with pytest.raises(CaxflowError):
        removal_of(copies).perform()
    assert waiting.exists()
    assert copies.row("midway")["status"] == "transferring"


@pytest.mark.parametrize("when", ["confirm", "commit"])
@pytest.mark.parametrize("what", ["a file comes", "it is taken away"])
def test_what_happens_in_the_trash_at_the_last_moment_is_seen(copies, monkeypatch, when, what):
    copies.add()
    owner = Hearing if when == "confirm" else Removal
    real = getattr(owner, when)
    trash = copies.folder / "midway/raw/.caxflow-trash"

    def meanwhile(self, *arguments):
        real(self, *arguments)
        (waiting,) = trash.iterdir()
        if what == "a file comes":
            (waiting / "notes.txt").write_text("the only notes of the shift")
        else:
            waiting.rename(copies.folder / "away")

    monkeypatch.setattr(owner, when, meanwhile)
    with pytest.raises(CaxflowError):
        removal_of(copies).perform()
    found = copies.folder / "away" if what == "it is taken away" else copies.path("midway")
    assert (found / "a.zip").exists()
    assert what == "it is taken away" or (found / "notes.txt").exists()
    assert copies.row("midway") is not None


def test_another_entry_that_came_meanwhile_keeps_the_copy(copies):
    copies.add()
    killed(copies, "intend", "after")
    entry = {"type": "processed", "host": SITES["midway"], "pax_version": "v1", "status": "transferred"}
    entry["location"] = str(copies.path("midway") / "log")
    copies.database.runs.update_one({}, {"$push": {"data": entry}, "$inc": {"caxflow.revision": 1}})
    with pytest.raises(CaxflowError, match="another entry of midway-login1 is in"):
        removal_of(copies).perform()
    assert copies.whole("midway")


@pytest.mark.parametrize("where", ["160316_0000", "160316_0000/160315_1432"])
def test_y4_a_witness_that_names_another_runs_place_does_not_count(copies, where):
    copies.add()
    place = copies.path("tegner").parent / where
    place.parent.mkdir(exist_ok=True)
    copies.path("tegner").rename(place)
    copies.set("tegner", location=str(place))
    refused(copies, "not tegner: it is said to be in")


def test_the_trash_of_another_removal_is_left_alone(copies):
    copies.add()
    killed(copies, "commit", "after")
    removing = copies.row("midway")["caxflow"]["removing"]
    other = copies.folder / f"midway/raw/.caxflow-trash/160316_0000.{removing['token']}"
    shutil.copytree(copies.path("lngs"), other)
    copies.note("midway", removing=removing | {"trash": str(other)})
    with pytest.raises(CaxflowError, match="is said to wait in"):
        removal_of(copies).perform()
    assert (other / "a.zip").exists()


def test_files_that_are_partly_shared_are_no_two_copies(copies):
    copies.add(sites=["lngs", "midway"])
    shutil.copytree(copies.path("lngs"), copies.path("tegner"), copy_function=os.link)
    (copies.path("tegner") / "b.zip").unlink()
    (copies.path("tegner") / "b.zip").write_bytes(FILES["b.zip"])
    entry = copies.entry("tegner", str(RUN), 0)
    copies.database.runs.update_one({}, {"$push": {"data": entry}, "$inc": {"caxflow.revision": 1}})
    copies.note("lngs", verified=just_read())
    refused(copies, "the very files of")


def test_an_entry_whose_copy_is_back_stays(copies, monkeypatch):
    copies.add(verified_days_ago=10)
    away = copies.folder / "away"
    copies.path("midway").rename(away)
    (copies.path("midway").parent / "other").mkdir()
    real = proof.read_again

    def back(*arguments):
        if away.exists():
            away.rename(copies.path("midway"))
        return real(*arguments)

    monkeypatch.setattr(proof, "read_again", back)
    with pytest.raises(CaxflowError, match="it is there again"):
        removal_of(copies).perform()
    assert copies.whole("midway")
    assert copies.row("midway")["status"] == "transferred"


def test_a_database_restored_to_the_middle_of_a_removal_has_a_way_out(copies):
    copies.add()
    killed(copies, "intend", "after")
    document = copies.database.get(RUN)
    removal_of(copies).perform()
    copies.database.runs.replace_one({}, document)
    removal_of(copies).perform()
    assert copies.row("midway") is None
    assert copies.whole("lngs")
    assert copies.whole("tegner")


def test_a_copy_of_which_a_move_left_files_is_not_removed(copies):
    copies.add()
    copies.note("midway", left={"path": "/old/160315_1432", "root": "/old"})
    refused(copies, "a move of it is not complete -> complete it: caxflow mv")


def test_files_that_have_both_names_after_a_crash_are_removed(copies, monkeypatch):
    """Killed after the link into the trash, where a file system has no other way to rename a file safely."""
    copies.add()
    copies.add_made("processed", copies.keep_processed())
    (file,) = copies.add_made("processed", "v0.0.0")
    removal = partial(removal_of, copies, kind="processed", version="v0.0.0", demand=Demand(copies=1))
    two_names(monkeypatch, lambda: removal().perform())
    assert file.stat().st_nlink == 2
    removal().perform()
    assert not file.exists()
    assert "v0.0.0" not in copies.made("processed")
    assert list((copies.folder / "midway/processed/.caxflow-trash").iterdir()) == []


@pytest.mark.parametrize("fate", ["it is completed", "it is undone"])
def test_another_removal_of_the_same_run_and_site_is_not_forgotten(copies, monkeypatch, fate):
    """That of the raw copy was interrupted; that of the minitrees ends; planning still finds the first."""
    copies.add()
    version = copies.keep_processed()
    copies.add_made("processed", version)
    copies.add_made("minitrees", version)
    killed(copies, "intend", "after")
    removal = removal_of(copies, kind="minitrees", version=version, demand=Demand(copies=1))
    if fate == "it is completed":
        removal.perform()
    else:

        def fails(*_):
            raise CaxflowError("the disk does not answer")

        with monkeypatch.context() as patched:
            patched.setattr(Hearing, "confirm", fails)
            with pytest.raises(CaxflowError, match="does not answer"):
                removal.perform()
        assert copies.made("minitrees")[version]["status"] == "transferred"
    assert [each["name"] for each in copies.database.removing(SITES["midway"])] == [str(RUN)]
    removal_of(copies).perform()
    assert list(copies.database.removing(SITES["midway"])) == []
    assert copies.row("midway") is None


class Away(BaseException):
    """Ends what is under way as a kill does."""


def dropping(copies):
    copies.path("midway").rename(copies.folder / "away")
    (copies.path("midway").parent / "other").mkdir()
    return removal_of(copies).perform


def forgetting(copies):
    return removal_of(copies).perform


def condemning(copies):
    copies.spoil("midway")
    seen = copies.subject().find(copies.database.get(RUN))
    wrong = ["a.zip has the right size but other contents"]
    return partial(quarantine.condemn, copies.subject(), seen.location, wrong, seen)


def telling(copies):
    return Move(copies.subject(), str(copies.path("midway").parent / "sr0" / str(RUN))).perform


DEEDS = [dropping, forgetting, condemning, telling]


def at_the_record(monkeypatch, actions, event):
    """Have an event between a record's making and the change that it is about, once."""
    real = audit.entry

    def entry(database, action, *arguments, **named):
        made = real(database, action, *arguments, **named)
        if action in actions:
            monkeypatch.setattr(audit, "entry", real)
            event()
        return made

    monkeypatch.setattr(audit, "entry", entry)


@pytest.mark.parametrize("deed", DEEDS)
def test_a_change_that_is_refused_leaves_no_record(copies, monkeypatch, deed):
    """Right before the change, the entry becomes another one."""
    copies.add()
    act = deed(copies)

    def taken_over():
        copies.note("midway", token="another", lease=now())
        copies.set("midway", creation_time=now(), manifest="another")
        copies.database.runs.update_one({}, {"$inc": {"caxflow.revision": 1}})

    at_the_record(monkeypatch, {"removed", "suspect", "moved"}, taken_over)
    with contextlib.suppress(CaxflowError):
        act()
    assert set(actions(copies)) <= {"removing"}
    assert copies.row("midway")["manifest"] == "another"


@pytest.mark.parametrize("deed", DEEDS)
def test_a_change_that_is_killed_after_it_was_made_loses_no_record(copies, monkeypatch, deed):
    """The next that happens to the run, or the next plan, brings it to the audit."""
    copies.add()
    act = deed(copies)
    wanted = {dropping: "removed", forgetting: "removed", condemning: "suspect", telling: "moved"}[deed]
    real = RunsDB._bring_records

    def killed_there(self, document, record=None):
        if record and record["action"] == wanted:
            raise Away
        real(self, document, record)

    with monkeypatch.context() as patched:
        patched.setattr(RunsDB, "_bring_records", killed_there)
        with pytest.raises(Away):
            act()
    assert wanted in actions(copies)
    kept = copies.database._database["caxflow_audit"]
    assert kept.find_one({"action": wanted}) is None
    (document,) = copies.database.unsettled(Selection(), "midway", "a policy")
    copies.database.settle([document | {"mark": marks.SETTLED, "until": now()}], "midway", "a policy")
    assert kept.find_one({"action": wanted})["run"] == str(RUN)
    assert "audit" not in copies.database.get(RUN)["caxflow"]
    assert len([each for each in actions(copies) if each == wanted]) == 1


def test_one_whose_trash_would_be_emptied_too_late_asks_again(copies, monkeypatch):
    copies.add(sites=["lngs", "midway"], verified_days_ago=0)
    with monkeypatch.context() as patched:
        patched.setattr("caxflow.copies.subject.HELD_UP", -1)
        with pytest.raises(CaxflowError, match="was held up"):
            removal_of(copies, demand=Demand(copies=1)).perform()
    assert "removing" in copies.row("midway")["caxflow"]
    flip(copies.path("lngs"))
    with pytest.raises(CaxflowError, match="it is suspect"):
        removal_of(copies, demand=Demand(copies=1)).perform()
    assert copies.whole("midway")
    assert copies.row("midway")["status"] == "transferred"


@pytest.mark.parametrize(
    ("read_before", "changed_before", "changed"),
    [(6.5, 6, True), (6.5, 7, False), (3600, 3599, True), (3600, 3601, False)],
)
@pytest.mark.parametrize("asked", [0, 5])
def test_what_changed_after_it_was_read_is_known_however_long_the_look_takes(
    read_before, changed_before, changed, asked
):
    """A copy that rots right after a reading, while the connection for the next look is being made."""
    now, seen = datetime.datetime(2017, 3, 1), time.monotonic() - asked
    found = Look("file", {"a": 1}, identity=[[1, 2]], changed=changed_before - asked, seen=seen)
    read = now - datetime.timedelta(seconds=read_before)
    assert proof.has_changed(found, read, lambda: now) is changed
    other = Look("file", {"a": 1}, identity=[[1, 3]])
    assert proof.has_changed(found, read, lambda: now, other) is changed
    assert proof.has_changed(found, read, lambda: now, found) is False
    unknown = Look("file", {"a": 1}, changed=changed_before - asked, seen=seen)
    assert proof.has_changed(unknown, read, lambda: now, unknown) is changed


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("step", ["_clear_links", "_finish"])
def test_killed_at_its_end_a_removal_of_minitrees_leaves_no_link_to_nothing(
    copies, monkeypatch, missing, step
):
    """Once the entry has gone, `rm` has nothing to go on with."""
    copies.add()
    version = copies.keep_processed()
    copies.add_made("processed", version)
    folder = copies.add_made("minitrees", version)[0].parent
    if missing:
        folder.rename(copies.folder / "away")
        (folder.parent / "160316_0000").mkdir()  # else the disk may not be there
    removal = partial(removal_of, copies, kind="minitrees", version=version, demand=Demand(copies=1))

    def killed_there(*_):
        raise Away

    with monkeypatch.context() as patched:
        patched.setattr(Removal, step, killed_there)
        with pytest.raises(Away):
            removal().perform()
    if copies.made("minitrees"):
        removal().perform()
    assert copies.made("minitrees") == {}
    assert [path for path in folder.parent.glob("*") if path.is_symlink()] == []


# Evidence that is read from here

READ = Demand(read=True)


def read_by_itself(copies):
    """Sites that were read for evidence since this was asked last."""
    found = [line.partition(" at ")[2].split()[0] for line in copies.said if line.startswith("reading ")]
    copies.said.clear()
    return sorted(site.rstrip(",") for site in found)


def test_rows_that_say_that_copies_were_read_do_not_suffice(copies):
    """A document may say anything: the bytes are not there, by the same names, sizes and times."""
    copies.add()
    for site in ("lngs", "tegner"):
        path = copies.path(site) / "a.zip"
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        flip(path.parent)
        os.utime(path, ns=times)
        copies.note(site, verified=just_read())
    with pytest.raises(CaxflowError, match=r"2 other copies read from here within 3 days wanted, 0 found"):
        removal_of(copies, demand=READ).perform()
    assert copies.whole("midway")
    assert copies.row("lngs")["status"] == copies.row("tegner")["status"] == "error"
    assert copies.row("midway")["status"] == "transferred"


def test_what_was_read_from_here_lets_a_copy_go(copies):
    copies.add()
    facts = removal_of(copies, demand=READ).perform()
    assert read_by_itself(copies) == ["lngs", "midway", "tegner"]
    assert [each["read"] for each in facts["evidence"]] == ["from here"] * 2
    assert not copies.path("midway").exists()
    assert list((copies.work("midway") / ".caxflow/witnessed").iterdir()) == []
    copies.check()


def test_what_was_read_from_here_is_not_read_again(copies):
    """Not by an attempt that follows, whatever the database says of the time of reading meanwhile."""
    copies.add()
    begun = removal_of(copies, demand=READ)
    begun.hearing.hear(begun.subject.find(copies.database.get(RUN)))
    assert read_by_itself(copies) == ["lngs", "tegner"]
    for site in ("lngs", "tegner"):
        copies.note(site, verified=now() - datetime.timedelta(days=1))
    again = removal_of(copies, demand=READ)
    again.hearing.hear(again.subject.find(copies.database.get(RUN)))
    assert read_by_itself(copies) == []
    assert "lngs (read from here " in str(again.hearing.sure[0])
    flip(copies.path("lngs"))  # which also changes its times
    with pytest.raises(CaxflowError, match=r"1 found .*not lngs: it is suspect"):
        removal_of(copies, demand=READ).perform()
    assert read_by_itself(copies) == ["lngs"]
    assert copies.whole("midway")


def test_another_place_or_manifest_was_not_read(copies, tmp_path):
    copies.add()
    begun = removal_of(copies, demand=READ)
    begun.hearing.hear(begun.subject.find(copies.database.get(RUN)))
    elsewhere = copies.path("tegner").parent / "sub" / str(RUN)
    elsewhere.parent.mkdir()
    copies.path("tegner").rename(elsewhere)
    copies.set("tegner", location=str(elsewhere))
    read_by_itself(copies)
    found = begun.hearing.witnesses(
        copies.database.get(RUN), begun.subject.find(copies.database.get(RUN)), copies.database.now()
    )
    assert {each.site: each.against for each in found} == {"lngs": "", "tegner": "it was not read from here"}


@pytest.mark.parametrize("damage", ["", "[]", '{"read": 7}', '{"read": "9999-01-01T00:00:00"}'])
def test_notes_of_readings_that_are_damaged_count_for_nothing(copies, damage):
    copies.add()
    begun = removal_of(copies, demand=READ)
    begun.hearing.hear(begun.subject.find(copies.database.get(RUN)))
    read_by_itself(copies)
    for note in (copies.work("midway") / ".caxflow/witnessed").iterdir():
        note.write_text(damage)
    removal_of(copies, demand=READ).perform()
    assert read_by_itself(copies) == ["lngs", "midway", "tegner"]


def test_a_copy_that_is_not_what_the_others_are_stays(copies):
    """Its manifest, too, is what a document says."""
    copies.add()
    flip(copies.path("midway"))
    with pytest.raises(
        CaxflowError, match=r"is not removed: its bytes are not those of the others: a\.zip has"
    ):
        removal_of(copies, demand=READ).perform()
    assert copies.path("midway").exists()
    assert copies.row("midway")["status"] == "transferred"
    assert actions(copies) == []


def test_a_site_that_cannot_be_reached_does_not_count_and_is_named(copies):
    copies.add()

    def way(site):
        if site.name == "tegner":
            return Place("tegner", "stream", host="127.0.0.1", port=1, timeout=5)
        return Place(site.name)

    begun = removal_of(copies, demand=READ)
    begun.subject.way = way
    with pytest.raises(
        CaxflowError, match=r"2 other copies read from here .* 1 found .*not tegner: tegner: "
    ):
        begun.perform()
    assert copies.whole("midway")


def test_a_preview_says_what_is_to_be_read_from_here(copies, caxflow):
    copies.add()
    code, out, _ = caxflow("rm", "-n", RUN, purge={"copies": 2, "evidence": "read"})
    assert code == 0
    for site in ("lngs", "tegner"):
        assert f"  {site}, if it is good: it would be read again first (it was not read from here)" in out
    code, out, _ = caxflow("rm", "-n", RUN, purge={"copies": 2, "evidence": "rows"})
    assert "lngs (read again " in out
    code, out, _ = caxflow("rm", RUN, "--because", "a test", purge={"copies": 2, "evidence": "read"})
    assert code == 0
    assert not copies.path("midway").exists()


def test_a_purge_says_on_which_evidence(copies):
    copies.add()
    policy = {"after_days": 1, "copies": 2, "evidence": "read"}
    settings = copies.settings(purge=policy)
    said, against = removals.describe(copies.database.get(RUN), settings, copies.database.now())
    assert against == ""
    for site in ("lngs", "tegner"):
        assert f"{site} (is read first: it was not read from here)" in said
    begun = removal_of(copies, demand=READ)
    begun.hearing.hear(begun.subject.find(copies.database.get(RUN)))
    said, _ = removals.describe(copies.database.get(RUN), settings, copies.database.now())
    assert said.count("(read from here ") == 2
    policy["evidence"] = "rows"
    said, _ = removals.describe(
        copies.database.get(RUN), copies.settings(purge=policy), copies.database.now()
    )
    assert said.count("(read again ") == 2
