"""The checker of the random rounds finds each kind of wrong, and nothing where all is right."""

import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import checker
from checker import Books, Checker, Site, Watcher

RUN = "160315_1432"
FILES = {"a.zip": b"first", "log/b.log": b"second"}
DIGESTS = {"a.zip": "1" * 32, "log/b.log": "2" * 32}
EARLIER = checker.utc() - datetime.timedelta(hours=1)


class World:
    """Two sites with a copy of one run each, rows and receipts about them."""

    def __init__(self, folder: Path, database):
        self.folder, self.runs = folder, database["runs_new"]
        self.sites = {
            name: Site(f"{name}-host", {"raw": folder / name / "raw"}, folder / "work" / name)
            for name in ("one", "two")
        }
        for name in self.sites:
            fill(self.place(name))
        self.books = Books({RUN: checker.content(self.place("one"))})
        self.runs.insert_one(
            {"name": RUN, "detector": "tpc", "data": [self.row(name) for name in self.sites]}
        )
        self.checker = Checker(database, self.sites, self.books)
        self.receipt("one", "two")

    def place(self, name: str) -> Path:
        return self.folder / name / "raw" / RUN

    def row(self, name: str) -> dict:
        where = {"host": f"{name}-host", "location": str(self.place(name))}
        return {"type": "raw", "status": "transferred", "caxflow": {"verified": EARLIER}} | where

    def receipt(self, here: str, site: str, **changes) -> Path:
        path = self.sites[here].work / site / f"{RUN}.raw.done"
        path.parent.mkdir(parents=True, exist_ok=True)
        files = [[file, len(data), DIGESTS[file]] for file, data in FILES.items()]
        said = {"run": RUN, "site": site, "location": str(self.place(site)), "at": f"{EARLIER}+00:00"}
        said["manifest"] = {"algorithm": "xxh128", "files": files}
        path.write_text(json.dumps(said | changes))
        sums = "".join(f"{digest}  {file}\n" for file, digest in DIGESTS.items())
        path.with_name(f"{RUN}.checksum").write_text(sums)
        return path

    def set(self, name: str, **changes) -> None:
        host = self.sites[name].host
        data = [row | changes if row["host"] == host else row for row in self.data()]
        self.runs.update_one({}, {"$set": {"data": data}})

    def data(self) -> list[dict]:
        return self.runs.find_one()["data"]

    def pull(self, name: str) -> None:
        data = [row for row in self.data() if row["host"] != f"{name}-host"]
        self.runs.update_one({}, {"$set": {"data": data}})

    def rot(self, name: str, *, told: bool = False) -> None:
        (self.place(name) / "a.zip").write_bytes(b"rotten")
        if told:
            self.books.damaged(RUN, f"{name}-host")


def fill(place: Path) -> None:
    for file, data in FILES.items():
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_bytes(data)


@pytest.fixture
def world(tmp_path, database):
    return World(tmp_path, database)


def test_nothing_is_wrong_where_all_is_right(world):
    world.books.plant(world.place("one").with_name("notes.txt"))
    world.checker.check()
    world.checker.check(calm=True)
    assert list(world.checker.unknown([])) == []


def rotten(world):
    world.rot("two")


def rotten_but_read_since(world):
    world.rot("two", told=True)
    world.set("two", caxflow={"verified": checker.utc() + datetime.timedelta(seconds=1)})


def gone(world):
    shutil.rmtree(world.place("two"))


def more_than_it_was(world):
    (world.place("two") / "core.1").touch()


def a_link_in_its_place(world):
    shutil.rmtree(world.place("two"))
    world.place("two").symlink_to(world.place("one"))


def two_rows_for_one_copy(world):
    world.set("two", location=str(world.place("one")))


def a_second_row(world):
    world.runs.update_one({}, {"$push": {"data": world.row("two")}})


def the_last_is_lost(world):
    for name in world.sites:
        world.rot(name, told=True)


def foreign_file_changed(world):
    path = world.place("one").with_name("notes.txt")
    world.books.plant(path)
    path.write_text("other")


def foreign_file_gone(world):
    path = world.place("one").with_name("notes.txt")
    world.books.plant(path)
    path.unlink()


def receipt_without_row(world):
    world.pull("two")


def receipt_of_another_place(world):
    world.receipt("one", "two", location="/elsewhere")


def receipt_of_other_bytes(world):
    world.receipt("one", "two", manifest={"algorithm": "xxh128", "files": [["a.zip", 5, "1" * 32]]})


def receipts_that_differ(world):
    files = [[file, len(data), "3" * 32] for file, data in FILES.items()]
    world.receipt("two", "two", manifest={"algorithm": "xxh128", "files": files})


def proof_of_other_files(world):
    (world.sites["one"].work / "two" / f"{RUN}.checksum").write_text(f"{'1' * 32}  a.zip\n")


def removal_on_its_own_evidence(world):
    path = world.sites["one"].work / "two" / f"{RUN}.raw.purged"
    evidence = [{"host": "two-host"}]
    path.write_text(json.dumps({"run": RUN, "site": "two", "location": "/gone", "evidence": evidence}))


def removal_of_what_is_there(world):
    world.pull("two")
    shutil.rmtree(world.sites["one"].work / "two")
    (world.sites["one"].work / "two").mkdir()
    path = world.sites["one"].work / "two" / f"{RUN}.raw.purged"
    said = {
        "run": RUN,
        "site": "two",
        "location": str(world.place("two")),
        "evidence": [{"host": "one-host"}],
    }
    path.write_text(json.dumps(said))


def audit_of_a_removal_that_was_none(world):
    world.pull("two")
    entry = {"location": str(world.place("two"))}
    record = {"action": "removed", "kind": "raw", "run": RUN, "host": "two-host", "entry": entry}
    world.runs.database["caxflow_audit"].insert_one(record)


WRONG = {
    audit_of_a_removal_that_was_none: "is there, and the audit says that it was removed",
    rotten: "differs from the origin in ['a.zip']",
    rotten_but_read_since: "differs from the origin in ['a.zip']",
    gone: "is not there",
    more_than_it_was: "differs from the origin in ['core.1']",
    a_link_in_its_place: "is a link",
    two_rows_for_one_copy: "is the same as",
    a_second_row: "has a second row",
    the_last_is_lost: "NO WHOLE COPY IS LEFT",
    foreign_file_changed: "is of somebody else, and was changed",
    foreign_file_gone: "is of somebody else, and was taken away",
    receipt_without_row: "the database has no such copy",
    receipt_of_another_place: "it says /elsewhere, and the row",
    receipt_of_other_bytes: "its manifest is not that of the origin",
    receipts_that_differ: "it has another digest of a.zip than other receipts",
    proof_of_other_files: "it names other files than the origin has",
    removal_on_its_own_evidence: "it rests on ['two-host']",
    removal_of_what_is_there: "it states a removal, and",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_what_is_wrong_is_found(world, wrong):
    world.checker.check()
    wrong(world)
    with pytest.raises(AssertionError) as caught:
        world.checker.check(calm=wrong is receipt_of_another_place)
    assert WRONG[wrong] in str(caught.value)


def test_what_the_test_broke_excuses_a_row_until_all_was_read_again(world):
    world.rot("two", told=True)
    world.checker.check()
    with pytest.raises(AssertionError, match="differs from the origin"):
        world.checker.check(calm=True)
    world.set("two", status="error")
    world.checker.check(calm=True)


def test_a_copy_that_nobody_knows_is_found_unless_it_was_told(world):
    fill(world.place("one").with_name(f"{RUN}.moved"))
    (found,) = world.checker.unknown([])
    assert f"{RUN}.moved is in no row" in found
    assert list(world.checker.unknown([str(world.place("one").with_name(f"{RUN}.moved"))])) == []


def test_a_run_that_no_row_calls_good_is_found_in_the_calm(world):
    for name in world.sites:
        world.set(name, status="transferring")
    world.checker.check()
    with pytest.raises(AssertionError, match="no row says that it is good"):
        world.checker.check(calm=True)


def test_a_processed_file_that_changes_is_found(world, tmp_path):
    file = tmp_path / f"{RUN}.root"
    file.write_text("as made")
    row = {"type": "processed", "host": "one-host", "status": "transferred", "location": str(file)}
    world.runs.update_one({}, {"$push": {"data": row | {"manifest": "xxh128:1", "pax_version": "v1"}}})
    world.checker.check()
    file.write_text("other")
    with pytest.raises(AssertionError, match="other bytes than when its row was first seen"):
        world.checker.check()


def test_a_process_that_runs_on_is_found(monkeypatch):
    monkeypatch.setenv("CHECKER_TEST", "found by this")
    look = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(look, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        running = lambda: checker.running("CHECKER_TEST=found by this")  # noqa: E731
        assert list(running()) == [process.pid]
        assert process.pid in checker.below(os.getpid())
        assert list(checker.left_running(running, 0))
        assert not checker.running("CHECKER_TEST=found by this", process.pid)
        process.communicate(b"\n")
        assert list(checker.left_running(running, 10)) == []


@pytest.fixture
def watched(world):
    """A root that is watched, the folder beside it, and what the watch finds."""
    root = world.sites["one"].roots["raw"]
    shutil.rmtree(world.place("one"))
    watcher = Watcher({root: "one-host"}, world.books)
    ended: list[list[str]] = []

    def end() -> list[str]:
        if not ended:
            ended.append(watcher.close())
        return ended[0]

    yield root, watcher, end
    end()


def test_a_name_that_appears_whole_is_right(world, watched):
    root, watcher, end = watched
    fill(root / ".part")
    (root / ".part").rename(root / RUN)
    assert end() == []
    assert watcher.seen == 1


@pytest.mark.parametrize("how", ["renamed", "created"])
def test_a_name_that_appears_by_half_is_found(world, watched, how):
    root, _, end = watched
    half = root / (".part" if how == "renamed" else RUN)
    half.mkdir()
    (half / "a.zip").write_bytes(b"first")
    if how == "renamed":
        half.rename(root / RUN)
    (found,) = end()
    assert f"{RUN} appeared ({how}) without" in found


def test_a_name_that_the_test_itself_made_is_none_of_its_business(world, watched):
    root, _, end = watched
    world.books.plant(root / f"{RUN}.moved" / "file")
    assert end() == []
