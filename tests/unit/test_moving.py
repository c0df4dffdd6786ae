"""Copies move to another path, on one file system or to another; whatever crashes when, nothing is lost."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from caxflow import documents
from caxflow.copies import evidence, moving, proof
from caxflow.copies.moving import Move
from caxflow.errors import CaxflowError
from caxflow.targets import Run
from copies import FILES, Copies, Killed, mark, names, two_names

RUN = Run("160315_1432")


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add()
        yield copies


@pytest.fixture
def volume(copies):
    """A folder on another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert Path(folder).stat().st_dev != copies.folder.stat().st_dev
        yield Path(folder)


@pytest.fixture
def moved_away(copies, volume):
    """The copy at midway lies on the other file system, where the root was before; its path."""
    old = volume / "raw" / "sr0" / str(RUN)
    old.parent.mkdir(parents=True)
    shutil.move(copies.path("midway"), old)
    copies.set("midway", location=str(old))
    return old


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def actions(copies):
    return [record["action"] for record in copies.database.audit(RUN)]


def moved(copies, old, volume):
    """The copy is where the site's file wants it, the entry says so, and nothing is left behind."""
    row = copies.row("midway")
    assert (row["status"], row["location"]) == ("transferred", str(copies.path("midway")))
    assert not {"moving", "left", "token", "lease", "since"} & set(row["caxflow"])
    assert copies.whole("midway")
    assert not old.exists()
    assert list((volume / "raw").iterdir()) == []
    assert names(copies.path("midway").parent) == [str(RUN)]
    copies.check()


def test_to_another_file_system(copies, volume, moved_away, caxflow, monkeypatch):
    words = ("mv", RUN, "--from", volume / "raw")
    before = copies.database.get(RUN)
    code, out, _ = caxflow(*words, "-n")
    assert (code, out) == (0, f"would move {moved_away} to {copies.path('midway')}\n")
    assert copies.database.get(RUN) == before
    assert contents(moved_away) == FILES
    read = []
    real = proof.read_again

    def seen(place, location, *rest):
        # It is proven before the old one goes.
        assert contents(moved_away) == FILES
        read.append(location)
        return real(place, location, *rest)

    monkeypatch.setattr(proof, "read_again", seen)
    code, out, err = caxflow(*words)
    assert (code, err) == (0, "")
    assert out.endswith(f"moved {moved_away} to {copies.path('midway')}\n")
    assert read == [str(copies.path("midway"))]
    moved(copies, moved_away, volume)
    assert actions(copies) == ["moved"]
    assert copies.row("midway")["caxflow"]["verified"] == before["data"][1]["caxflow"]["verified"]


def test_without_a_manifest_it_is_compared_with_what_was_read(copies, volume, moved_away):
    copies.set("midway", manifest=None, checksum=None)
    Move(copies.subject(), str(copies.path("midway")), str(volume / "raw")).perform()
    moved(copies, moved_away, volume)
    assert copies.row("midway")["manifest"] is None  # nothing more is known of it than before


def test_what_is_not_what_it_must_be_does_not_move(copies, volume, moved_away):
    file = moved_away / "a.zip"
    file.write_bytes(b"other" * 1000)
    with pytest.raises(CaxflowError, match=r"a\.zip"):
        Move(copies.subject(), str(copies.path("midway")), str(volume / "raw")).perform()
    row = copies.row("midway")
    assert (row["status"], row["location"]) == ("transferred", str(moved_away))
    assert not {"moving", "token", "lease"} & set(row["caxflow"])
    assert file.exists()
    assert not copies.path("midway").exists()


def test_what_reads_differently_is_not_kept(copies, volume, moved_away, monkeypatch):
    monkeypatch.setattr(proof, "read_again", lambda *_: (None, ["a.zip has other contents"]))
    with pytest.raises(CaxflowError, match=r"reads differently: a\.zip has other contents -> it was removed"):
        Move(copies.subject(), str(copies.path("midway")), str(volume / "raw")).perform()
    assert copies.row("midway")["location"] == str(moved_away)
    assert copies.row("midway")["status"] == "transferred"
    assert contents(moved_away) == FILES
    assert not copies.path("midway").exists()


def test_what_came_to_the_old_path_meanwhile_is_not_removed(copies, volume, moved_away, caxflow, monkeypatch):
    real = moving.Move.clear

    def clear(self, copy):
        (moved_away / "notes.txt").write_text("the only notes of the shift")
        real(self, copy)

    with monkeypatch.context() as patched:
        patched.setattr(moving.Move, "clear", clear)
        code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert code == 1
    assert "its manifest does not know notes.txt" in err
    assert copies.whole("midway")
    assert evidence.good(copies.subject().find(copies.database.get(RUN)))
    assert (moved_away / "notes.txt").exists()
    (moved_away / "notes.txt").unlink()
    code, _, err = caxflow("mv", RUN)
    assert code == 1
    assert "name the root that it was moved out of: --from FOLDER" in err
    code, out, _ = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, out.splitlines()[-1]) == (0, f"{copies.path('midway')} is already where it should be")
    moved(copies, moved_away, volume)


STEPS = ["intend", "transport", "copy", "tell", "clear"]
CRASH = """
import os, signal, sys
from pathlib import Path
from caxflow import config
from caxflow.copies.moving import Move
from caxflow.copies.subject import Subject
from caxflow.rundb import Key, RunsDB
from caxflow.targets import Run

folder, volume, step, when = sys.argv[1:]
own = getattr(Move, step)

def dies(self, *arguments, **named):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    own(self, *arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(Move, step, dies)
settings = config.load({"site": "midway"}, Path(folder) / "config")
run = Run("160315_1432")
subject = Subject(settings, RunsDB(settings.rundb), settings.here, run,
                  Key("raw", settings.here.host), Path(folder) / "work/midway", print)
Move(subject, settings.here.raw_path(run), f"{volume}/raw").perform()
"""


def killed(copies, volume, step, when):
    """A process that moves the copy is killed there."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH, copies.folder, volume, step, when],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_the_same_command_completes(copies, volume, moved_away, caxflow, step, when):
    killed(copies, volume, step, when)
    row = copies.row("midway")
    if row["status"] == "transferred":
        assert contents(Path(row["location"])) == FILES
    assert FILES in (contents(moved_away), contents(copies.path("midway")))
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, err) == (0, "")
    moved(copies, moved_away, volume)
    assert set(actions(copies)) == {"moved"}


def test_two_do_not_move_the_same_copy(copies, volume, moved_away, caxflow):
    subject = copies.subject()
    begun = Move(subject, str(copies.path("midway")), str(volume / "raw"), old=str(moved_away))
    seen = documents.find(copies.database.get(subject.run), "raw", subject.key.host)
    begun.claim = subject.hold(begun.intend(seen))
    copies.note("midway", by={"host": "elsewhere", "user": "somebody", "pid": 1})
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert code == 1
    assert "is being moved by somebody@elsewhere -> let it finish; its claim ends at" in err
    copies.note("midway", token="another")
    with pytest.raises(CaxflowError, match="was taken over by somebody else"):
        begun.tell(copied=False)
    assert contents(moved_away) == FILES


def test_who_was_stopped_while_another_undid_the_move_undoes_it_too(copies, monkeypatch):
    new, real = str(copies.path("midway").parent / "sr0" / str(RUN)), moving.transfer.try_rename

    def broken(*_, **__):
        raise CaxflowError("the disk fails")

    def woken(*arguments, **named):
        """While it was stopped, right before it renames the copy, another process took the move over."""
        monkeypatch.setattr(moving.transfer, "try_rename", broken)
        with pytest.raises(CaxflowError, match="the disk fails"):
            Move(copies.subject(), new).perform()
        monkeypatch.setattr(moving.transfer, "try_rename", real)
        return real(*arguments, **named)

    monkeypatch.setattr(moving.transfer, "try_rename", woken)
    with pytest.raises(CaxflowError, match="was taken over by somebody else"):
        Move(copies.subject(), new).perform()
    assert copies.row("midway")["location"] == str(copies.path("midway"))
    copies.check()


def test_minitrees_and_processed_files_move_and_leave_no_empty_folder(copies, caxflow, volume):
    version = copies.keep_processed()
    copies.add_made("processed", version)
    minitrees = copies.add_made("minitrees", version)
    roots = {kind: copies.folder / "midway" / kind for kind in ("processed", "minitrees")}
    for number, old in enumerate((copies.folder / "old", volume)):
        # The roots change, and the data follow.
        site = copies.folder / "config/sites/midway.yaml"
        text = site.read_text()
        for kind, root in roots.items():
            new = old / f"{kind}{number}"
            new.mkdir(parents=True)
            text = text.replace(f"{kind}: {root}\n", f"{kind}: {new}\n")
            site.write_text(text)
            code, _, err = caxflow("mv", RUN, "--kind", kind, "--from", root)
            assert (code, err) == (0, "")
            assert not (root / f"pax_{version}").exists()
            roots[kind] = new
        folder = roots["minitrees"] / f"pax_{version}/{RUN}"
        assert {path.name for path in folder.iterdir()} == {file.name for file in minitrees}
        assert copies.made("minitrees")[version]["location"] == str(folder)
        for file in minitrees:  # hax finds them
            assert (folder.parent / file.name).resolve() == (folder / file.name).resolve()
        assert (
            copies.made("processed")[version]["location"] == f"{roots['processed']}/pax_{version}/{RUN}.root"
        )
        assert copies.made("minitrees")[version]["status"] == "transferred"


@pytest.mark.parametrize("began", [False, True])
def test_after_a_failure_the_same_command_can_be_given_again(
    copies, volume, moved_away, caxflow, monkeypatch, began
):
    """Nothing of it stays at the new path, where it would be in the way."""
    if began:
        killed(copies, volume, "copy", "after")
        assert copies.whole("midway")

    def fails(*_):
        raise CaxflowError("midway: the disk does not answer", "mount it")

    with monkeypatch.context() as patched:
        patched.setattr(proof, "read_again", fails)
        _, _, err = caxflow("mv", RUN, "--from", volume / "raw")
        assert "the disk does not answer -> mount it" in err
    assert (copies.row("midway")["status"], copies.row("midway")["location"]) == (
        "transferred",
        str(moved_away),
    )
    assert contents(moved_away) == FILES
    assert not copies.path("midway").exists()
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, err) == (0, "")
    moved(copies, moved_away, volume)


def flip(folder):
    content = bytearray((folder / "a.zip").read_bytes())
    content[7] ^= 1
    (folder / "a.zip").write_bytes(content)


def test_l3_what_was_left_stays_if_the_new_copy_rotted(copies, volume, moved_away, caxflow):
    """`mv` to another disk is killed before the old files go; a byte flips in the new copy; again."""
    killed(copies, volume, "clear", "before")
    flip(copies.path("midway"))
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert code == 1
    assert "is damaged there: a.zip has the right size but other contents" in err
    assert f"it is in {moved_away} again, where it is good; the damaged one is in" in err
    assert contents(moved_away) == FILES
    row = copies.row("midway")
    assert (row["status"], row["location"]) == ("transferred", str(moved_away))
    assert "left" not in row["caxflow"]
    assert actions(copies)[-1] == "restored"
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, err) == (0, "")
    assert copies.whole("midway")
    assert not moved_away.exists()
    (damaged,) = (copies.path("midway").parent / ".caxflow-quarantine").iterdir()
    assert set(contents(damaged)) == set(FILES)


@pytest.mark.parametrize("away", ["the copy", "its file system"])
def test_l3_what_was_left_stays_if_the_new_copy_is_not_there(copies, volume, moved_away, caxflow, away):
    killed(copies, volume, "clear", "before")
    new, lost = copies.path("midway"), copies.folder / "lost"
    if away == "the copy":
        new.rename(lost)
        (new.parent / "other").mkdir()
    else:
        new.parent.rename(lost)
        new.parent.mkdir()
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert code == 1
    assert contents(moved_away) == FILES
    if away == "the copy":
        assert f"it is in {moved_away} again" in err
    else:
        assert "mount" in err
        assert copies.row("midway")["location"] == str(new)


def test_l3_nothing_is_removed_if_both_are_damaged(copies, volume, moved_away, caxflow):
    killed(copies, volume, "clear", "before")
    for folder in (moved_away, copies.path("midway")):
        flip(folder)
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert code == 1
    assert "is damaged, and so is what it left in" in err
    assert moved_away.exists()
    assert copies.path("midway").exists()


@pytest.mark.parametrize("step", ["intend", "transport", "copy", "tell"])
@pytest.mark.parametrize("where", ["old", "new"])
def test_l4_what_somebody_put_at_one_of_the_paths_stays(copies, volume, moved_away, caxflow, step, where):
    """`mv` is killed; somebody puts a folder at the new path, or at the old one; the same command again."""
    killed(copies, volume, step, "after")
    taken = moved_away if where == "old" else copies.path("midway")
    other = copies.path("midway") if where == "old" else moved_away
    if taken.exists():
        shutil.move(taken, copies.folder / "ours")
    taken.mkdir()
    (taken / "notes.txt").write_text("somebody else's")
    caxflow("mv", RUN, "--from", volume / "raw")
    assert contents(taken) == {"notes.txt": b"somebody else's"}
    row = copies.row("midway")
    if row["status"] == "transferred" and row["location"] != str(taken):
        assert contents(Path(row["location"])) == FILES
    if other.exists():
        assert contents(other) == FILES


def test_l4_what_came_to_the_new_path_while_it_was_copied_stays(
    copies, volume, moved_away, caxflow, monkeypatch
):
    real = moving.transfer.copy

    def beaten(*arguments, **named):
        copies.path("midway").mkdir()
        (copies.path("midway") / "notes.txt").write_text("somebody else's")
        return real(*arguments, **named)

    monkeypatch.setattr(moving.transfer, "copy", beaten)
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert code == 1
    assert "exists already" in err or "differs" in err
    assert contents(copies.path("midway")) == {"notes.txt": b"somebody else's"}
    assert contents(moved_away) == FILES
    assert copies.row("midway")["location"] == str(moved_away)
    assert copies.row("midway")["status"] == "transferred"


@pytest.mark.parametrize("preview", [[], ["-n"]])
@pytest.mark.parametrize("through", ["plainly", "a link", "the root itself", "another run", "its own copy"])
def test_l7_a_path_of_a_document_leads_nowhere(copies, caxflow, preview, through):
    """A document says that a move left a folder of the account behind, with files of its manifest."""
    mine = copies.folder / "home" / str(RUN)
    shutil.copytree(copies.path("midway"), mine)
    root = copies.path("midway").parent
    left = {"path": str(mine), "root": str(mine.parent), "manifest": copies.row("midway")["manifest"]}
    if through == "a link":
        (root / "deep").symlink_to(mine.parent)
        left["path"] = str(root / "deep" / str(RUN))
    elif through == "the root itself":
        left["path"] = str(root)
    elif through == "another run":
        copies.add("160316_0000", sites=["midway"])
        left["path"] = str(copies.path("midway", "160316_0000"))
    elif through == "its own copy":
        left["path"] = str(copies.path("midway") / "log")
    copies.note("midway", left=left)
    before = copies.database.runs.find_one({"name": str(RUN)})
    code, out, err = caxflow("mv", RUN, *preview)
    if through != "a link" or not preview:
        assert code == 1, out
        assert any(words in err for words in ("left", "symbolic link", "is not called"))
    assert contents(mine) == FILES
    assert copies.whole("midway")
    assert through != "another run" or copies.whole("midway", "160316_0000")
    assert copies.database.runs.find_one({"name": str(RUN)})["data"] == before["data"] or through == "a link"


def test_l7_a_preview_of_a_move_that_was_begun_touches_nothing(copies, volume, moved_away, caxflow):
    killed(copies, volume, "clear", "before")
    before = copies.database.runs.find_one()
    code, out, err = caxflow("mv", RUN, "--from", volume / "raw", "-n")
    assert (code, err) == (0, "")
    assert f"would read {copies.path('midway')}, and remove what is left in {moved_away} if it is good" in out
    assert contents(moved_away) == FILES
    assert copies.database.runs.find_one() == before


@pytest.mark.parametrize(
    "where", ["{raw}/160316_0000", "{raw}/160316_0000/160315_1432", "{raw}/160316_0000_MV"]
)
def test_y4_a_row_that_names_another_place_moves_nothing(copies, caxflow, where):
    for run in ("160316_0000", "160316_0000_MV"):
        copies.add(run, sites=["midway"])
    if where.endswith(f"/{RUN}"):
        shutil.copytree(copies.path("midway"), copies.path("midway", "160316_0000") / str(RUN))
    copies.set("midway", location=str(copies.path("midway").parent / where))
    code, _, err = caxflow("mv", RUN)
    assert code == 1
    assert "is not called 160315_1432" in err or "in the folder of 160316_0000" in err
    assert copies.path("midway", "160316_0000").exists()
    assert copies.whole("midway", "160316_0000_MV")


@pytest.mark.parametrize("told", [True, False])
def test_what_happens_to_the_new_copy_before_the_old_files_go_keeps_them(
    copies, volume, moved_away, caxflow, monkeypatch, told
):
    """Between the reading of the new copy and the removal of the old one a byte flips, and may be found."""
    real = moving.Move.clear

    def held_up(self, copy):
        flip(copies.path("midway"))
        if told:
            copies.set("midway", status="error")
            copies.note("midway", suspect={"files": ["a.zip"]})
        real(self, copy)

    monkeypatch.setattr(moving.Move, "clear", held_up)
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, "is not removed" in err) == (1, True)
    assert contents(moved_away) == FILES


def test_a_document_cannot_have_another_runs_data_moved(copies, caxflow):
    copies.add("160316_0000", sites=["midway"])
    other, new = copies.path("midway", "160316_0000"), copies.path("midway").parent / "sr1" / str(RUN)
    for moving_ in ({"from": str(other), "to": str(new)}, {"to": str(new)}, {"from": 7, "to": str(new)}):
        copies.set("midway", status="transferring")
        copies.note("midway", moving=moving_)
        code, _, err = caxflow("mv", RUN, "--to", str(new))
        assert (code, "and said to be moved from" in err) == (1, True)
        assert copies.whole("midway", "160316_0000")
        assert copies.whole("midway")


def test_what_came_into_a_published_copy_is_not_deleted_when_it_is_put_back(
    copies, volume, moved_away, caxflow, monkeypatch
):
    def fails(*_):
        (copies.path("midway") / "notes.txt").write_text("the only notes of the shift")
        raise CaxflowError("midway: the disk does not answer", "mount it")

    monkeypatch.setattr(proof, "read_again", fails)
    code, _, _ = caxflow("mv", RUN, "--from", volume / "raw")
    assert code == 1
    assert (copies.path("midway") / "notes.txt").exists()
    assert contents(moved_away) == FILES


def test_a_file_that_has_both_names_after_a_crash_is_moved(copies, caxflow, monkeypatch):
    version = copies.keep_processed()
    (old,) = copies.add_made("processed", version)
    new = old.parents[1] / "sr0" / old.name
    words = ("mv", RUN, "--kind", "processed", "--to", new)
    two_names(monkeypatch, lambda: caxflow(*words))
    assert old.samefile(new)
    code, _, err = caxflow(*words)
    assert (code, err) == (0, "")
    assert new.read_text() == f"{version} {old.name}"
    assert not old.exists()
    assert copies.made("processed")[version]["location"] == str(new)


@pytest.mark.parametrize("there", ["the rest", "nothing"])
@pytest.mark.parametrize("half", ["the new path", "the old path"])
def test_half_a_copy_of_which_no_manifest_is_known_is_not_taken_as_moved(
    copies, volume, moved_away, caxflow, half, there
):
    """Its move is killed; then only half of it is at one of the paths, the rest at the other one or lost."""
    copies.set("midway", manifest=None, checksum=None)
    killed(copies, volume, "intend", "after")
    taken, rest = copies.path("midway"), moved_away
    shutil.move(moved_away, copies.folder / "ours")
    if half == "the old path":
        taken, rest = rest, taken
    shutil.copytree(copies.folder / "ours", taken)
    (taken / "a.zip").unlink()
    if there == "the rest":
        rest.mkdir()
        shutil.copy(copies.folder / "ours" / "a.zip", rest)
    before = {path: contents(path) for path in (taken, rest)}
    for _ in range(2):
        code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
        assert (code, "is not moved" in err) == (1, True)
        row = copies.row("midway")
        assert (row["status"], row["location"]) == ("transferring", str(moved_away))
        assert {path: contents(path) for path in (taken, rest)} == before
    for path in (taken, rest):
        shutil.rmtree(path, ignore_errors=True)
    shutil.move(copies.folder / "ours", taken)
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, err) == (0, "")
    moved(copies, moved_away, volume)


@pytest.mark.parametrize("step", STEPS)
def test_killed_without_a_manifest_the_same_command_completes(copies, volume, moved_away, caxflow, step):
    copies.set("midway", manifest=None, checksum=None)
    killed(copies, volume, step, "before")
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, err) == (0, "")
    moved(copies, moved_away, volume)


@pytest.mark.parametrize(
    "what", ["an empty mount point", "no mount point", "another site's disk", "a folder of it"]
)
def test_what_was_left_is_remembered_while_its_file_system_is_not_there(
    copies, volume, moved_away, caxflow, what
):
    killed(copies, volume, "clear", "before")
    root = volume / "raw"
    gone = root / "sr0" if what == "a folder of it" else root
    if what == "a folder of it":
        mark("midway", {"raw": str(root)})
    away = gone.rename(volume / "away")
    if what != "no mount point":
        gone.mkdir()
    if what == "another site's disk":
        mark("tegner", {"raw": str(root)})
    code, _, err = caxflow("mv", RUN, "--from", root)
    assert code == 1
    assert f"what it left in {moved_away} cannot be looked at: " in err
    assert "mount its file system" in err
    assert copies.row("midway")["caxflow"]["left"]["path"] == str(moved_away)
    assert f"was moved, and {moved_away} is still there" in caxflow("why", RUN)[1]
    shutil.rmtree(gone, ignore_errors=True)
    away.rename(gone)
    code, _, err = caxflow("mv", RUN, "--from", root)
    assert (code, err) == (0, "")
    assert not moved_away.exists()
    assert "left" not in copies.row("midway")["caxflow"]
    assert list(root.rglob("*")) == ([root / ".caxflow-root"] if what == "a folder of it" else [])


def test_what_was_left_is_forgotten_once_the_disk_is_seen_without_it(copies, volume, moved_away, caxflow):
    """Killed after the old files went, before the entry says so; then on a disk that only the user knows."""
    killed(copies, volume, "clear", "before")
    document = copies.database.get(RUN)
    shutil.rmtree(moved_away)
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, err) == (0, "")
    moved(copies, moved_away, volume)
    copies.database.runs.replace_one({}, document)
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert code == 1
    folder, sign = err.rpartition("mkdir -p ")[2].strip().split("; touch ")
    Path(folder).mkdir(parents=True)
    Path(sign).touch()
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, err) == (0, "")
    moved(copies, moved_away, volume)


def test_a_move_that_is_undone_leaves_no_sign_beside_the_old_files(
    copies, volume, moved_away, caxflow, monkeypatch
):
    """It was killed right before it told what it leaves there; the next one fails, and undoes it."""

    class Crash(BaseException):
        pass

    def crash(*_, **__):
        raise Crash

    words = ("mv", RUN, "--from", volume / "raw")
    with monkeypatch.context() as patched:
        patched.setattr(copies.database.__class__, "keep_manifest", crash)
        with pytest.raises(Crash):
            caxflow(*words)
    assert sorted(path.name for path in moved_away.parent.iterdir()) == [f".{RUN}.part-left", str(RUN)]
    with monkeypatch.context() as patched:
        patched.setattr(proof, "read_again", lambda *_: (None, ["a.zip has other contents"]))
        assert caxflow(*words)[0] == 1
    assert [path.name for path in moved_away.parent.iterdir()] == [str(RUN)]
    assert copies.row("midway")["location"] == str(moved_away)


def test_one_that_was_stopped_while_another_completed_the_move_leaves_no_sign(
    copies, volume, moved_away, caxflow, monkeypatch
):
    words, real = ("mv", RUN, "--from", volume / "raw"), moving.Move._show_left

    def woken(self):
        monkeypatch.setattr(moving.Move, "_show_left", real)
        assert caxflow(*words)[0] == 0
        moved_away.parent.mkdir()
        (moved_away.parent / "other").touch()
        real(self)

    monkeypatch.setattr(moving.Move, "_show_left", woken)
    code, _, err = caxflow(*words)
    assert (code, "was taken over by somebody else" in err) == (1, True)
    assert [path.name for path in moved_away.parent.iterdir()] == ["other"]
    assert copies.whole("midway")


# The last steps of a move by renaming, and of one by copying.
LATE = [(False, step) for step in ("tell", "_clear_links", "_prune", "_put_links")]
LATE += [(True, step) for step in ("tell", "clear", "_clear_links", "_prune", "_put_links")]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("copied", "step"), LATE)
def test_killed_at_its_end_a_move_of_minitrees_leaves_no_link_to_nothing(
    copies, caxflow, monkeypatch, copied, step, moment
):
    """hax follows them: the same command leaves those alone that lead to the files."""
    version = copies.keep_processed()
    files = copies.add_made("minitrees", version)
    new = files[0].parents[2] / "sr0" / str(RUN)
    words = ("mv", RUN, "--kind", "minitrees", "--to", new)
    real = getattr(Move, step)

    def killed_there(*arguments, **named):
        if moment == "after":
            real(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patched:
        if copied:
            patched.setattr(moving.transfer, "try_rename", lambda *_, **__: False)
        patched.setattr(Move, step, killed_there)
        with pytest.raises(Killed):
            caxflow(*words)
    code, _, err = caxflow(*words)
    assert (code, err) == (0, "")
    links = [path for path in files[0].parents[2].rglob("*") if path.is_symlink()]
    assert sorted(links) == sorted(new.parent / file.name for file in files)
    assert all(path.exists() for path in links)


def test_a_sign_that_cannot_be_removed_hides_no_failure_and_holds_nothing(
    copies, volume, moved_away, caxflow, monkeypatch
):
    """A move fails, and so does the removal of the file that shows where something is left."""

    def fails(*_, **__):
        raise CaxflowError("there is no space")

    real = moving.transfer.remove_tree

    def refused(place, path, **named):
        if path.endswith(".part-left"):
            raise CaxflowError("read-only file system")
        real(place, path, **named)

    monkeypatch.setattr(moving.transfer, "remove_tree", refused)
    with monkeypatch.context() as patched:
        patched.setattr(Move, "copy", fails)
        code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, "there is no space" in err) == (1, True)
    assert copies.row("midway")["status"] == "transferred"
    code, _, err = caxflow("mv", RUN, "--from", volume / "raw")
    assert (code, err) == (0, "")
    assert not moved_away.exists()
    assert "left" not in copies.row("midway")["caxflow"]
