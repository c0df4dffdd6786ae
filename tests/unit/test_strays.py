"""What nobody knows is found, named and only then removed; copies are removed and moved by name."""

import datetime
import json
import os
import shutil

import pytest
import yaml
from pymongo import monitoring

from caxflow import receipts
from caxflow.copies import moving, quarantine, removal, strays
from caxflow.errors import CaxflowError
from caxflow.planning import decisions, planner
from caxflow.planning.facts import gather
from caxflow.targets import Run
from caxflow.transfer.part import Part
from copies import SITES, Copies, just_read

RUN = Run("160315_1432")


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add()
        yield copies


def find(copies, site="midway"):
    settings = copies.settings()
    return {stray.path: stray for stray in strays.find(copies.database, settings, settings.sites[site])}


def make(path, content="12345"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return str(path)


def test_nothing_is_astray(copies, caxflow):
    assert find(copies) == {}
    assert caxflow("strays")[:2] == (0, "nothing is astray at midway\n")


def test_every_sort_of_stray_is_found_with_its_size(copies):
    raw, processed = copies.folder / "midway/raw", copies.folder / "midway/processed"
    make(raw / "test_run/a.zip")
    make(raw / f".{RUN}.part-caxflow/data/a.zip")
    make(raw / removal.TRASH / "160315_0000.ab/a.zip")
    make(raw / quarantine.FOLDER / "160315_0000.cd/a.zip")
    make(processed / "pax_v1/160315_0000.root")
    found = find(copies)
    assert {stray.what for stray in found.values()} == {
        strays.UNKNOWN,
        strays.PART,
        strays.TRASH,
        strays.QUARANTINE,
    }
    assert len(found) == 5
    assert {stray.size for stray in found.values()} == {5}
    assert found[str(processed / "pax_v1/160315_0000.root")].kind == "processed"


def test_minitrees_are_known_by_the_folder_of_their_run(copies):
    file = copies.folder / "config/sites/midway.yaml"
    document = yaml.safe_load(file.read_text())
    root = copies.folder / "midway/minitrees"
    document["roots"]["minitrees"] = str(root)
    file.write_text(yaml.safe_dump(document))
    folder = root / "pax_v6.8.0"
    entry = {
        "type": "minitrees",
        "host": SITES["midway"],
        "status": "transferred",
        "location": str(folder / str(RUN)),
        "pax_version": "v6.8.0",
    }
    copies.database.runs.update_one({"name": RUN.name}, {"$push": {"data": entry}})
    make(folder / f"{RUN}/{RUN}_Basics.root")
    (folder / f"{RUN}_Basics.root").symlink_to(f"{RUN}/{RUN}_Basics.root")
    astray = {
        make(folder / f"{RUN}_MV_Basics.root"),
        make(folder / "160315_0000_Basics.root"),
        make(folder / "notes"),
        make(root / f"pax_v6.6.0/{RUN}/{RUN}_Basics.root").rpartition("/")[0],
    }
    found = find(copies)
    assert set(found) == astray
    assert {stray.what for stray in found.values()} == {strays.UNKNOWN}
    shutil.rmtree(folder / str(RUN))
    assert find(copies)[str(folder / str(RUN))].what == strays.MISSING


def test_entries_that_point_at_nothing_or_elsewhere_are_found(copies):
    copies.path("midway").rename(copies.folder / "away")
    (stray,) = find(copies).values()
    assert (stray.what, stray.run) == (strays.MISSING, str(RUN))
    copies.set("midway", location="/etc")
    (stray,) = find(copies).values()
    assert (stray.what, stray.path) == (strays.OUTSIDE, "/etc")


@pytest.mark.parametrize("note", ["moving", "left"])
def test_what_is_on_its_way_is_not_astray(copies, note):
    """Crashed in the middle of a move, the data may be at either path."""
    old = copies.path("midway")
    new = old.rename(old.with_name("moved"))
    if note == "moving":
        copies.note("midway", moving={"from": str(old), "to": str(new)})
    else:
        old.mkdir()
        copies.set("midway", location=str(old))
        copies.note("midway", left={"path": str(new)})
    copies.set("midway", status="transferring")
    assert find(copies) == {}


def test_what_is_being_removed_is_not_astray(copies):
    subject = copies.subject()
    begun = removal.Removal(subject, removal.Demand(), "a test")
    copy = subject.find(copies.database.get(RUN))
    begun.hearing.hear(copy)
    trash = begun.intend(copy)
    assert find(copies) == {}
    subject.bring(str(copies.path("midway")), trash)
    assert find(copies) == {}


def test_what_came_or_went_during_the_look_is_not_astray(copies, monkeypatch):
    real = strays.transfer.census
    new = copies.path("midway").with_name("160316_0000")

    def slow(place, root, depth):
        """Right before the roots are listed, a copy is published, and another one is removed."""
        if not new.exists() and root == str(new.parent):
            copies.add(new.name, sites=["midway"])
            removal.Removal(copies.subject(), removal.Demand(), "a test").perform()
        return real(place, root, depth)

    monkeypatch.setattr(strays.transfer, "census", slow)
    assert find(copies) == {}


def test_the_data_of_an_entry_that_is_half_written_are_not_astray(copies):
    document = copies.database.get(RUN)
    (entry,) = [each for each in document["data"] if each["host"] == SITES["midway"]]
    for lacking in ("status", "type"):
        half = {key: value for key, value in entry.items() if key != lacking}
        copies.database.runs.update_one({"_id": document["_id"]}, {"$set": {"data": [half]}})
        assert find(copies) == {}


def test_an_unfinished_copy_goes_unless_it_is_being_written_to(copies, caxflow):
    path = copies.folder / f"midway/raw/.{RUN}.part-caxflow"
    part = Part(str(copies.path("midway")), "token")
    part.begin(wait=0)
    make(path / "data/a.zip")
    code, _, err = caxflow("strays", "--remove", str(path))
    assert code == 1
    assert "is being written to -> wait for that transfer" in err
    assert (path / "data/a.zip").exists()
    part.close()
    code, out, _ = caxflow("strays", "--remove", str(path), "-n")
    assert code == 0
    assert out.startswith("1 stray would be removed")
    assert (path / "data/a.zip").exists()
    assert caxflow("strays", "--remove", str(path))[0] == 0
    assert not path.exists()


def test_only_named_strays_are_removed(copies, caxflow):
    raw = copies.folder / "midway/raw"
    one, other = make(raw / "one/a.zip"), make(raw / "other/a.zip")
    code, _, err = caxflow("strays", "--remove", str(copies.path("midway")))
    assert code == 1
    assert "is no stray at midway" in err
    assert copies.whole("midway")
    code, out, _ = caxflow("strays", "--remove", str(raw / "one"))
    assert (code, out) == (0, "1 stray removed, 5 B\n")
    assert not (raw / "one").exists(), one
    assert (raw / "other/a.zip").exists(), other
    (record,) = copies.database._database["caxflow_audit"].find({"action": "stray"})
    assert record["path"] == str(raw / "one")
    code, out, _ = caxflow("strays", "--remove", str(raw / "other"), dry=True)
    assert (code, out) == (0, "1 stray would be removed, 5 B\n")
    assert (raw / "other/a.zip").exists()


def test_strays_as_json(copies, caxflow):
    make(copies.folder / "midway/raw/test_run/a.zip")
    code, out, _ = caxflow("strays", "--json")
    assert code == 1
    (stray,) = json.loads(out)["strays"]
    assert stray["size"] == 5
    assert stray["changed"].startswith("20")


def test_rm_goes_by_the_evidence(copies, caxflow):
    code, out, _ = caxflow("rm", "-n", str(RUN))
    assert code == 0
    assert "would remove" in out
    assert out.count("read again") == 2
    assert copies.whole("midway")
    assert caxflow("rm", str(RUN))[0] == 2  # no grounds
    copies.set("tegner", status="error")
    code, _, err = caxflow("rm", str(RUN), "--because", "disk full")
    assert code == 1
    assert "its status is error" in err
    assert copies.whole("midway")
    code, out, _ = caxflow("rm", str(RUN), "--because", "disk full", "--copies", "1")
    assert code == 0
    assert "good copies: lngs" in out
    assert not copies.path("midway").exists()
    assert copies.database.audit(RUN)[-1]["grounds"] == "disk full"
    assert list(copies.database.removing(SITES["midway"])) == []
    assert caxflow("rm", str(RUN), "--because", "x", "--copies", "0")[0] == 2


def test_rm_of_what_is_gone_removes_nothing_again(copies, caxflow):
    code, out, _ = caxflow("rm", str(RUN), "--because", "disk full")
    assert code == 0
    assert out.count("removed") == 1
    code, out, err = caxflow("rm", str(RUN), "--because", "disk full")
    assert (code, err) == (0, "")
    assert f"{RUN}: its raw copy at midway is gone already, since " in out
    assert "removed" not in out


def test_rm_of_what_was_not_verified_says_how(copies, caxflow):
    copies.set("midway", status="verifying")
    code, _, err = caxflow("rm", str(RUN), "--because", "disk full")
    assert code == 1
    assert (
        f"was not verified yet -> let it be read again first: snakemake --profile midway midway/{RUN}.ch"
        in err
    )
    assert copies.whole("midway")


def test_rm_looks_at_all_names_first(copies, caxflow):
    code, out, err = caxflow("rm", str(RUN), "160315_9999", "--because", "disk full")
    assert (code, out) == (1, "")
    assert "160315_9999" in err
    assert copies.whole("midway")


def test_rm_drops_an_entry_that_points_at_nothing(copies, caxflow):
    shutil.rmtree(copies.path("midway"))
    marker = copies.folder / "midway/raw/.caxflow-root"
    marker.rename(copies.folder / "marker")
    code, _, err = caxflow("rm", str(RUN), "--because", "lost")
    assert code == 1
    assert "midway/raw has no .caxflow-root: its file system may not be mounted -> mount it;" in err
    (copies.folder / "marker").rename(marker)
    before = copies.database.get(RUN)
    code, out, _ = caxflow("rm", "-n", str(RUN))
    assert (code, copies.database.get(RUN)) == (0, before)
    assert out.startswith("would remove the entry at midway: there is nothing at ")
    copies.note("tegner", suspect={"files": ["a"]})
    code, _, err = caxflow("rm", str(RUN), "--because", "lost")
    assert code == 1
    assert "2 other copies" in err
    assert "it is suspect" in err
    assert copies.row("midway")["status"] == "transferred"
    code, out, err = caxflow("rm", str(RUN), "--because", "lost", "--copies", "1")
    assert (code, err) == (0, "")
    assert "was not there; its entry is removed" in out
    assert copies.row("midway") is None
    record = copies.database.audit(RUN)[-1]
    assert record["action"] == "removed"
    assert record["entry"]["host"] == SITES["midway"]
    assert record["grounds"].startswith("lost; there was nothing at ")
    assert [each["site"] for each in record["evidence"]] == ["lngs"]
    code, out, _ = caxflow("rm", str(RUN), "--because", "lost")
    assert code == 0
    assert "is gone already" in out


def test_rm_drops_the_entry_of_what_was_found_bad_and_set_aside(copies, caxflow):
    copies.spoil("midway")
    quarantine.condemn(copies.subject(), str(copies.path("midway")), ["a.zip has other contents"])
    code, _, err = caxflow("rm", str(RUN), "--because", "damaged")
    assert (code, err) == (0, "")
    assert copies.row("midway") is None
    assert len(list((copies.folder / "midway/raw/.caxflow-quarantine").iterdir())) == 1


def test_rm_of_what_is_bad_and_there_says_so(copies, caxflow):
    copies.note("midway", suspect={"files": ["a"]})
    copies.set("midway", status="error")
    for words in (["-n"], ["--because", "damaged"]):
        code, _, err = caxflow("rm", str(RUN), *words)
        assert code == 1
        assert "is not removed: it is suspect" in err
    assert copies.whole("midway")


def test_an_entry_stays_where_the_site_cannot_be_looked_at(copies, caxflow):
    shutil.rmtree(copies.folder / "midway/raw")
    for words in (["-n"], ["--because", "lost"]):
        code, _, err = caxflow("rm", str(RUN), *words)
        assert code == 1
        assert "midway/raw, which is to hold the raw data, does not exist" in err
    path = copies.folder / "config/sites/tegner.yaml"
    access = "access: {method: stream, host: 127.0.0.1, port: 1, timeout: 5}\n"
    path.write_text(path.read_text() + access)
    shutil.rmtree(copies.path("tegner"))
    code, _, err = caxflow("rm", str(RUN), "--at", "tegner", "--because", "lost", "--copies", "1")
    assert code == 1, err
    assert "tegner" in err
    assert copies.row("tegner")["status"] == "transferred"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda copies: make(copies.path("midway") / "notes.txt"), "are not those of its manifest"),
        (lambda copies: copies.set("midway", manifest=None), "has no manifest"),
        (lambda copies: copies.set("midway", status="transferring"), "it is said to be transferring"),
        (lambda copies: (copies.path("tegner") / "b.zip").unlink(), "are not those of its manifest"),
        (lambda copies: copies.note("tegner", suspect={"files": ["a"]}), "it is suspect"),
        (lambda copies: copies.path("lngs").parent.rename(copies.folder / "away"), "there is nothing at"),
    ],
    ids=["a file more", "no manifest", "being made", "witness cut", "witness suspect", "witness gone"],
)
def test_a_preview_finds_what_the_removal_would_find(copies, caxflow, spoil, why):
    spoil(copies)
    said = []
    for words in (["-n"], ["--because", "disk full"]):
        code, _, err = caxflow("rm", str(RUN), *words)
        assert code == 1
        said.append(err)
    assert why in said[0]
    assert said[0] == said[1]
    assert copies.path("midway").exists()


def test_without_the_database_rm_and_mv_say_what_that_means(copies, caxflow):
    away = ["--config", "rundb={uri: 'mongodb://127.0.0.1:1', timeout: 0.2}"]
    code, _, err = caxflow("rm", str(RUN), "--because", "x", *away)
    assert (code, "does not answer" in err, "nothing is removed without it" in err) == (1, True, True)
    code, _, err = caxflow("mv", str(RUN), *away)
    assert (code, "does not answer" in err, "nothing is moved without it" in err) == (1, True, True)


def test_rm_at_another_site(copies, caxflow):
    code, _, _ = caxflow("rm", str(RUN), "--at", "tegner", "--because", "disk full")
    assert code == 0
    assert not copies.path("tegner").exists()
    copies.check()


def test_mv_moves_data_entry_and_receipts(copies, caxflow):
    receipt = copies.work("midway", f"midway/{RUN}.raw.done")
    make(receipt)
    new = copies.folder / "midway/raw/sr0" / str(RUN)
    assert caxflow("mv", "-n", str(RUN), "--to", str(new))[0] == 0
    assert copies.whole("midway")
    code, out, _ = caxflow("mv", str(RUN), "--to", str(new))
    assert (code, out) == (0, f"moved {copies.path('midway')} to {new}\n")
    row = copies.row("midway")
    assert (row["location"], row["status"]) == (str(new), "transferred")
    assert "verified" in row["caxflow"]
    assert not receipt.exists()
    assert find(copies) == {}
    code, out, _ = caxflow("mv", str(RUN))
    assert code == 0
    assert copies.whole("midway")
    code, out, _ = caxflow("mv", str(RUN))
    assert (code, out) == (0, f"{copies.path('midway')} is already where it should be\n")
    assert caxflow("mv", str(RUN), "--to", "/etc/cron.d")[0] == 1
    assert copies.whole("midway")


@pytest.mark.parametrize("step", ["try_rename", "entry"])
def test_mv_that_was_interrupted_is_completed(copies, monkeypatch, step):
    class Crash(BaseException):
        pass

    def crash(*_, **__):
        raise Crash

    new = str(copies.folder / f"midway/raw/moved/{RUN}")
    where = moving.transfer if step == "try_rename" else moving.audit
    with monkeypatch.context() as patched:
        patched.setattr(where, step, crash)
        with pytest.raises(Crash):
            moving.Move(copies.subject(), new).perform()
    assert copies.row("midway")["status"] == "transferring"
    with pytest.raises(CaxflowError):
        copies.database.claim(RUN, copies.subject().key, "/x", "midway", 30)
    assert moving.Move(copies.subject(), new).perform() == str(copies.path("midway"))
    assert copies.row("midway")["location"] == new
    assert copies.row("midway")["status"] == "transferred"
    assert "moving" not in copies.row("midway")["caxflow"]


def test_a_root_that_changed(copies):
    old = copies.folder / "old"
    old.mkdir()
    copies.path("midway").rename(old / str(RUN))
    copies.set("midway", location=str(old / str(RUN)))
    new = str(copies.path("midway"))
    with pytest.raises(CaxflowError, match=r"outside .* name its root: --from FOLDER"):
        moving.Move(copies.subject(), new).perform()
    moving.Move(copies.subject(), new, str(old)).perform()
    assert copies.whole("midway")
    copies.check()


def test_a_superseded_version_goes_when_its_successor_is_good(copies, caxflow):
    version = copies.keep_processed()
    (kept,) = copies.add_made("processed", version, caxflow={})
    (old,) = copies.add_made("processed", "v0.0.0")
    words = ("rm", str(RUN), "--kind", "processed", "--because", "superseded")
    code, _, err = caxflow(*words, "--version", version)
    assert code == 1
    assert "no other site has one" in err
    code, out, err = caxflow(*words, "--version", "v0.0.0", "-n")
    assert (code, err) == (0, "")
    assert "midway, if it is good: it would be read again first (it was never read again from disk)" in out
    assert old.exists()
    code, _, err = caxflow(*words, "--version", "v0.0.0")
    assert (code, err) == (0, "")
    assert not old.exists()
    assert kept.exists()
    assert list(copies.made("processed")) == [version]
    assert "verified" in copies.made("processed")[version]["caxflow"]  # it was read again first


@pytest.mark.parametrize("slash", ["", "/"])
def test_minitrees_go_if_the_file_they_are_made_of_is_good(copies, caxflow, slash):
    version = copies.keep_processed()
    other = copies.folder / f"midway/minitrees/pax_{version}/160316_0000/160316_0000_Basics.root"
    make(other)
    files = copies.add_made("minitrees", version)
    data = copies.database.get(RUN)["data"]
    data[-1]["location"] += slash
    copies.database.runs.update_one({}, {"$set": {"data": data}})
    words = ("rm", str(RUN), "--kind", "minitrees", "--because", "wrong cuts")
    code, _, err = caxflow(*words)
    assert code == 1
    assert f"there is no processed file of {version} at midway" in err
    (processed,) = copies.add_made("processed", version)
    code, out, _ = caxflow(*words, "-n")
    assert (code, out.splitlines()[0]) == (0, f"would remove {files[0].parent}{slash} at midway, 62 B")
    assert all(file.exists() for file in files)
    code, _, err = caxflow(*words)
    assert (code, err) == (0, "")
    assert not any(file.exists() for file in files)
    assert other.exists()
    assert [path.name for path in other.parent.parent.iterdir()] == ["160316_0000"]  # no links either
    assert processed.exists()
    assert copies.made("minitrees") == {}
    assert list((copies.folder / "midway/minitrees/.caxflow-trash").iterdir()) == []
    # They are not made again unless somebody asks for them.
    path = copies.folder / "config/sites/midway.yaml"
    path.write_text(path.read_text() + "minitrees: {make: [Basics]}\n")
    settings = copies.settings(kinds=["minitrees"])
    document, now = copies.database.get(RUN), copies.database.now()
    assert decisions.decide(document, settings, lambda _: None, now).settled
    copies.database.runs.update_one({}, {"$unset": {"caxflow.gone": ""}})
    decision = decisions.decide(copies.database.get(RUN), settings, lambda _: None, now)
    assert decision.targets == [f"midway/{RUN}.minitrees.done"]


def test_minitrees_of_a_document_that_names_other_files_do_not_go(copies, caxflow):
    version = copies.keep_processed()
    copies.add_made("processed", version)
    files = copies.add_made("minitrees", version)
    digest = copies.made("processed")[version]["manifest"]
    data = copies.database.get(RUN)["data"]
    data[-1]["manifest"] = digest
    copies.database.runs.update_one({}, {"$set": {"data": data}})
    code, _, err = caxflow("rm", str(RUN), "--kind", "minitrees", "--because", "x")
    assert code == 1
    assert f"files at {files[0].parent} are not those of its manifest" in err
    assert all(file.exists() for file in files)


def test_a_copy_that_another_site_moved_is_not_looked_for_where_it_was(copies, monkeypatch):
    monkeypatch.chdir(copies.work())
    settings = copies.settings()
    planned = planner.Planner(settings, main=True, preview=lambda: False)
    for site in SITES:
        for stage in ("raw.done", "checksum"):
            entry = {"kind": "raw", "version": None, "location": str(copies.path(site)) + "/"}
            receipts.write(copies.work("midway", f"{site}/{RUN}.{stage}"), {"entry": entry})

    def standing():
        planned.tidy.void(gather(copies.database.get(RUN), settings))
        return {str(path.relative_to(copies.work())) for path in copies.work().glob(f"*/{RUN}.*")}

    before = standing()
    assert len(before) == 6
    moving.Move(
        copies.subject("lngs", here="lngs"), str(copies.path("lngs").parent / "2016" / str(RUN))
    ).perform()
    assert before - standing() == {f"lngs/{RUN}.raw.done", f"lngs/{RUN}.checksum"}


@pytest.fixture
def stray(copies):
    """A whole copy of a run that no entry speaks of any more, such as one whose row was pulled."""
    copies.database.runs.update_one({}, {"$pull": {"data": {"host": SITES["midway"]}}})
    return copies.path("midway")


def lost(copies, *sites):
    for site in sites:
        copies.database.runs.update_one({}, {"$pull": {"data": {"host": SITES[site]}}})


# Why none of the entries elsewhere is a reason to remove what may be the last copy.
NO_REASON = {
    "no entry": lambda copies: lost(copies, "lngs", "tegner"),
    "suspect": lambda copies: (lost(copies, "tegner"), copies.note("lngs", suspect={"files": ["a"]})),
    "being removed": lambda copies: (lost(copies, "tegner"), copies.note("lngs", removing={"trash": "/x"})),
    "in error": lambda copies: (lost(copies, "tegner"), copies.set("lngs", status="error")),
    "not there": lambda copies: (lost(copies, "tegner"), copies.path("lngs").rename(copies.folder / "away")),
    "the same files": lambda copies: (
        lost(copies, "tegner"),
        shutil.rmtree(copies.path("lngs")),
        shutil.copytree(copies.path("midway"), copies.path("lngs"), copy_function=os.link),
    ),
    "a link": lambda copies: (
        lost(copies, "tegner"),
        shutil.rmtree(copies.path("lngs")),
        copies.path("lngs").symlink_to(copies.path("midway")),
    ),
    "of an unknown host": lambda copies: (lost(copies, "tegner"), copies.set("lngs", host="elsewhere")),
}


@pytest.mark.parametrize("why", NO_REASON)
def test_what_may_be_the_last_copy_is_no_stray_to_remove(copies, stray, caxflow, why):
    NO_REASON[why](copies)
    code, _, err = caxflow("strays", "--remove", str(stray))
    assert code == 1
    assert f"{stray} is not removed: it may be the last of {RUN}" in err
    assert (stray / "a.zip").exists()


@pytest.mark.parametrize(
    "where", [f".caxflow-trash/{RUN}.ab", f".caxflow-quarantine/{RUN}.cd", f".{RUN}.part-x"]
)
def test_what_waits_aside_may_be_the_last_copy_too(copies, stray, caxflow, where):
    path = stray.parent / where
    path.parent.mkdir(exist_ok=True)
    stray.rename(path)
    lost(copies, "lngs", "tegner")
    code, _, err = caxflow("strays", "--remove", str(path))
    assert code == 1
    assert f"{path} is not removed: it may be the last of {RUN}" in err
    assert (path / "a.zip").exists()


def test_a_stray_goes_if_a_good_copy_is_elsewhere(copies, stray, caxflow):
    code, out, _ = caxflow("strays", "--remove", str(stray), "-n")
    assert (code, stray.exists()) == (0, True)
    code, out, _ = caxflow("strays", "--remove", str(stray))
    assert (code, "1 stray removed" in out) == (0, True)
    assert not stray.exists()


def test_what_a_document_knows_by_now_is_no_stray(copies, stray, caxflow, monkeypatch):
    """Between the list and the removal the copy is registered."""
    real, entry = strays.find, copies.entry("midway", str(RUN), 0)

    def slow(*arguments):
        found = real(*arguments)
        copies.database.runs.update_one({}, {"$push": {"data": entry}})
        return found

    monkeypatch.setattr(strays, "find", slow)
    code, _, err = caxflow("strays", "--remove", str(stray))
    assert code == 1
    assert f"{stray} is no stray: a document knows it by now" in err
    assert copies.whole("midway")


def test_the_link_by_which_hax_finds_a_minitree_is_no_stray_once_its_folder_is_known(copies, caxflow):
    """Between the list and the removal the minitrees are told."""
    (file,) = copies.add_made("minitrees", copies.keep_processed())[:1]
    link = file.parent.parent / file.name
    document = copies.database.runs.find_one()
    copies.database.runs.update_one({}, {"$set": {"data": []}})
    settings = copies.settings()
    found = strays.find(copies.database, settings, settings.here)
    copies.database.runs.update_one({}, {"$set": {"data": document["data"]}})
    with pytest.raises(CaxflowError, match="is no stray: a document knows it by now"):
        strays.remove(copies.database, settings, settings.here, found, [str(link)])
    assert link.is_symlink()


# How an entry may name a stray {it}, or what is around it.
NAMED = {
    "as its place": {"location": "{it}"},
    "with a slash": {"location": "{it}//"},
    "as a place in it": {"location": "{it}/a.zip"},
    "as a folder that holds it": {"location": "{root}/"},
    "as where it is moved from": {"location": "/x", "caxflow": {"moving": {"from": "{it}", "to": "/y"}}},
    "as where it is moved to": {"location": "/x", "caxflow": {"moving": {"from": "/y", "to": "{it}"}}},
    "as left": {"location": "/x", "caxflow": {"left": {"path": "{it}"}}},
    "as trash": {"location": "/x", "caxflow": {"removing": {"trash": "{it}"}}},
    "not at all": {"location": "{it}.other"},
    "as that of another host": {"location": "{it}", "host": "elsewhere"},
}


def test_right_before_it_goes_only_the_documents_that_name_a_stray_are_read(copies, stray):
    """Each way in which an entry names it keeps it; of the many others none is asked for."""
    answers = []

    class Listener(monitoring.CommandListener):
        def started(self, event):
            pass

        failed = started

        def succeeded(self, event):
            if event.command_name == "find":
                answers.append(event.reply["cursor"]["firstBatch"])

    for minute in range(20):
        copies.add(f"170315_10{minute:02}", sites=["midway"])
    stray = stray.rename(stray.with_name("odd (1) +[a-z].*"))
    settings = copies.settings()
    (found,) = strays.find(copies.database, settings, settings.here)
    monitoring.register(Listener())
    database = copies.connect(settings)
    for how, entry in NAMED.items():
        text = json.dumps({"type": "raw", "host": SITES["midway"], "status": "transferred"} | entry)
        text = text.replace("{it}", str(stray)).replace("{root}", str(stray.parent))
        copies.database.runs.update_one({"name": RUN.name}, {"$push": {"data": json.loads(text)}})
        answers.clear()
        if how in ("not at all", "as that of another host"):
            continue
        with pytest.raises(CaxflowError, match="is no stray: a document knows it by now"):
            strays.remove(database, settings, settings.here, [found], [found.path])
        assert [len(batch) for batch in answers] == [1], how
        copies.database.runs.update_one({"name": RUN.name}, {"$pop": {"data": 1}})
    assert strays.remove(database, settings, settings.here, [found], [found.path]) == found.size
    assert all(len(batch) <= 1 for batch in answers)
    assert not stray.exists()


RUINS = {
    "a file is missing": lambda copies: (copies.path("lngs") / "a.zip").unlink(),
    "a file is cut short": lambda copies: (copies.path("lngs") / "a.zip").write_bytes(b"f"),
    "a byte was flipped since": lambda copies: copies.spoil("lngs"),
    "it was never read": lambda copies: copies.note("lngs", verified=None),
    "it was read in the future": lambda copies: copies.note("lngs", verified=datetime.datetime(2036, 1, 1)),
    "its manifest is lost": lambda copies: copies.database.manifests.delete_many({}),
    "only a processed file is told": lambda copies: copies.set("lngs", type="processed", pax_version="v1"),
}


@pytest.mark.parametrize("ruin", RUINS)
def test_a_ruin_elsewhere_is_no_reason_to_remove_a_stray(copies, stray, caxflow, ruin):
    lost(copies, "tegner")
    # Flipped right after the reading began, it would be the reading's to find.
    early = datetime.timedelta(seconds=10 if "flipped" in ruin else 0)
    copies.note("lngs", verified=just_read() - early)
    RUINS[ruin](copies)
    previewed = caxflow("strays", "--remove", str(stray), "-n")
    code, _, err = caxflow("strays", "--remove", str(stray))
    assert (code, previewed[0]) == (1, 1)
    assert f"{stray} is not removed: it may be the last of {RUN}" in err
    assert (stray / "a.zip").exists()


@pytest.mark.parametrize("where", ["raw/old_backup/{run}", "raw/sr1/deep/{run}", "processed/pax_v1/{run}"])
def test_a_folder_that_holds_the_last_copy_is_no_stray_to_remove(copies, stray, caxflow, where):
    path = copies.folder / "midway" / where.format(run=RUN)
    path.parent.mkdir(parents=True)
    stray.rename(path)
    lost(copies, "lngs", "tegner")
    shown = copies.folder / "midway" / "/".join(where.split("/")[:2])
    shown = path if where.startswith("processed") else shown
    code, _, err = caxflow("strays", "--remove", str(shown))
    assert code == 1
    assert f"{shown} is not removed: it may be the last of {RUN}" in err
    assert (path / "a.zip").exists()


def test_what_came_into_a_stray_since_it_was_listed_keeps_it(copies, stray, caxflow, monkeypatch):
    real = strays.find

    def slow(*arguments):
        found = real(*arguments)
        (stray / "notes.txt").write_text("the only notes of the shift")
        return found

    monkeypatch.setattr(strays, "find", slow)
    code, _, err = caxflow("strays", "--remove", str(stray))
    assert (code, "has changed since it was listed" in err) == (1, True)
    assert (stray / "notes.txt").exists()


def test_minitrees_whose_row_names_the_folder_of_all_runs_are_there_and_not_astray(copies):
    """Rows as they were before each run had a folder."""
    (file, _) = copies.add_made("minitrees", copies.keep_processed())
    folder = file.parent.parent
    for each in file.parent.iterdir():
        (folder / each.name).unlink()
        each.rename(folder / each.name)
    file.parent.rmdir()
    data = copies.database.get(RUN)["data"]
    data[-1]["location"] = str(folder)
    copies.database.runs.update_one({}, {"$set": {"data": data}})
    assert find(copies) == {}


def test_what_shows_that_the_disk_of_old_files_is_there_is_not_astray(copies):
    new = copies.path("midway").with_name("new") / str(RUN)
    shutil.copytree(copies.path("midway"), new)
    sign = make(copies.path("midway").parent / f".{RUN}.part-left")
    copies.set("midway", location=str(new))
    assert sign in find(copies)
    copies.note("midway", left={"path": str(copies.path("midway"))})
    assert find(copies) == {}


def test_what_lies_beside_a_copy_that_is_deeper_than_usual_is_found(copies):
    folder = copies.path("midway").with_name("sr0") / "calibration"
    folder.mkdir(parents=True)
    copies.path("midway").rename(folder / str(RUN))
    copies.set("midway", location=str(folder / str(RUN)))
    assert find(copies) == {}
    astray = {
        make(folder.parent / "160316_0000" / "a.zip").rpartition("/")[0],
        make(folder / "160317_0000" / "a.zip").rpartition("/")[0],
        make(folder / "notes"),
    }
    assert set(find(copies)) == astray


def test_one_damaged_receipt_does_not_keep_those_of_other_copies_that_moved(copies, monkeypatch):
    monkeypatch.chdir(copies.work())
    settings = copies.settings()
    for site in SITES:
        entry = {"kind": "raw", "host": SITES[site], "version": None, "status": "transferred"}
        stated = {"location": str(copies.path(site)), "entry": entry, "at": "2017-03-01T00:00:00+00:00"}
        receipts.write(copies.work(target=f"{site}/{RUN}.raw.done"), stated)
    new = copies.path("midway").with_name("sr0") / str(RUN)
    new.parent.mkdir()
    copies.path("midway").rename(new)
    copies.set("midway", location=str(new))
    for damaged in ("lngs", "tegner"):
        copies.work(target=f"{damaged}/{RUN}.raw.done").write_text("{")
    planned = planner.Planner(settings, main=True, preview=lambda: False)
    with pytest.raises(CaxflowError, match=r"raw\.done is damaged"):
        planned.tidy.void(gather(copies.database.get(RUN), settings))
    assert not copies.work(target=f"midway/{RUN}.raw.done").exists()
