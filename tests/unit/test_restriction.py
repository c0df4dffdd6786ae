"""What a restricted key may do: by name for each operation, below its roots, whatever a path looks like."""

import inspect
import json
import re
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow.errors import CaxflowError
from caxflow.transfer import guard as guards
from caxflow.transfer.guard import Guard
from caxflow.transfer.restriction import ADDS, CHANGES, READS, Restriction
from caxflow.transfer.session import OPERATIONS, Session
from copies import mark

MODES = {"read-only": (True, False), "no-delete": (False, True), "all": (False, False)}


def public(kind) -> set:
    """Names of what may be called of a class."""
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


def test_every_operation_is_classified():
    """A new one must be named, or nothing restricted can be asked to do it."""
    not_by_name = {"folder"}  # what the helper calls
    assert public(Session) - not_by_name == OPERATIONS == READS | ADDS | CHANGES
    assert len(OPERATIONS) == len(READS) + len(ADDS) + len(CHANGES)


@pytest.fixture
def tree(tmp_path):
    """A root with a copy and links that lead out of it, and what is outside."""
    root = tmp_path / "raw"
    (root / "run" / "sub").mkdir(parents=True)
    (root / "run" / "a.zip").write_bytes(b"a")
    (root / "run" / "sub" / "b").write_bytes(b"b")
    (tmp_path / "out" / "folder").mkdir(parents=True)
    (tmp_path / "out" / "secret").write_text("never to be seen")
    (tmp_path / "raw2").mkdir()
    mark("here", {"raw": str(root)})
    (root / "link").symlink_to(tmp_path / "out")
    (root / "run" / "link").symlink_to(tmp_path / "out")
    (root / "file-link").symlink_to(tmp_path / "out" / "secret")
    return root


def guard(root, mode="all", log=None, name="midway") -> Guard:
    told = (lambda *about: log.append(about)) if log is not None else (lambda *_: None)
    return Guard(lambda _: None, Restriction((str(root),), *MODES[mode], "1"), told, name)


def arguments(operation: str, path: str, root: str) -> dict:
    """Arguments with which the operation is about a path."""
    given = {
        "files": [["secret", 16]], "directories": [], "algorithms": ["sha256"], "wait": 0, "token": "1",
        "older_than": 0, "only": None, "drop_cache": False, "opened": True, "depth": 1, "text": "{}",
        "wanted": [None, None, 0o777, 0o666, []], "apply": False, "single": False, "site": "", "within": None,
        "paths": [path], "target": "run", "new": f"{root}/new", "new_root": root, "other": path,
    }  # fmt: skip
    names = inspect.signature(getattr(Session, operation)).parameters
    found = {name: given.get(name, path) for name in names if name != "self"}
    if operation in ("touch", "link", "unlink", "prune", "remove_tree", "rename", "begin"):
        found["root"] = root
    return found


def outside(root) -> dict:
    """What is beside the root."""
    found = {}
    for path in sorted(root.parent.rglob("*")):
        if root not in (path, *path.parents):
            status = path.lstat()
            found[path] = (status.st_mode, status.st_mtime_ns, path.is_file() and path.read_bytes())
    return found


HOSTILE = [
    "{root}/../out/secret", "{root}/run/../../out/secret", "{root}/./../out", "{out}/secret", "{out}",
    "{root}/link/secret", "{root}/link/folder", "{root}/run/link/secret", "{root}/link/new/deeper",
    "{root}2", "{root}2/new", "/", "/etc/passwd", "//etc/passwd", "", ".", "..", "out/secret", "~/secret",
    "{root}//run", "{root}/run/\0/../../out", "{root}/\0", "/proc/self/cwd", "/proc/self/fd/0",
    "/dev/fd/0", "/proc/self/root/{out}/secret", "/proc/self/fd/./256/../out", "{root}\0", "\ud800",
    "{root}/\ud800", "{root}/run/.", "{root}/" + "a/" * 2000, None, 7, [], {}, ["{out}/secret"], True, 1e400,
]  # fmt: skip


def said(desk, operation, asked, *, receiving=False) -> str:
    """Return the answer, or in which words it was refused."""
    try:
        return json.dumps(desk.perform(operation, asked, receiving=receiving))
    except CaxflowError as error:
        return f"refused: {error}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", sorted(OPERATIONS - {"ping", "let_go", "publish"}))
def test_no_path_leads_out_of_the_roots(tree, operation, mode):
    """Refused in words, without a byte or a name of what is outside, which stays as it is."""
    before, inside = outside(tree), sorted(tree.rglob("*"))
    for hostile in HOSTILE:
        path = hostile
        if isinstance(path, str):
            path = path.replace("{root}", str(tree)).replace("{out}", str(tree.parent / "out"))
        for root in (str(tree), path):
            asked = arguments(operation, path, root)
            desk = guard(tree, mode)
            answer = said(desk, operation, asked)
            assert "/proc/self/fd/./" not in answer.replace(str(path), "")
            assert "never to be" not in answer
            if not answer.startswith("refused: "):
                # There is nothing at that place, as far as the caller can see.
                assert not {"secret", "16"} & set(re.findall(r"\w+", answer))
    assert outside(tree) == before
    assert sorted(tree.rglob("*")) == inside


def test_what_is_named_like_the_way_through_a_descriptor_is_shown_as_it_is(tree):
    odd = tree / "run" / "proc" / "self" / "fd"
    odd.mkdir(parents=True)
    (tree / "run" / "link").unlink()
    (odd / "256").write_text("")
    found = guard(tree).perform("scan", {"path": f"{tree}/run"}, receiving=False)
    assert found == json.loads(json.dumps(Session(lambda _: None).scan(f"{tree}/run")))
    found = guard(tree.parent).perform("census", {"root": str(tree.parent), "depth": 2}, receiving=False)
    assert found == Session(lambda _: None).census(str(tree.parent), 2)


@pytest.mark.parametrize("operation", ["scan", "manifests", "inventory", "kind", "look", "names", "census"])
def test_a_folder_that_is_exchanged_for_a_link_shows_nothing_else(tree, operation):
    """The folder on the way, or what is asked for, comes and goes while it is read."""
    (tree / "way" / "run").mkdir(parents=True)
    (tree / "way" / "run" / "own").write_text("own")
    (tree.parent / "out" / "run").mkdir()
    (tree.parent / "out" / "run" / "secret").write_text("secret")
    ends = threading.Event()

    def exchange():
        while not ends.is_set():
            for name, at in (("way", tree), ("run", tree / "way")):
                with suppress(OSError):
                    (at / name).rename(at / "aside")
                    (at / name).symlink_to(tree.parent / "out" / ("run" if name == "run" else ""))
                    (at / name).unlink()
                    (at / "aside").rename(at / name)

    thread = threading.Thread(target=exchange)
    thread.start()
    seen, rounds = set(), 0
    try:
        while rounds < 300 or not seen:
            rounds += 1
            desk = guard(tree)
            asked = arguments(operation, f"{tree}/way/run", str(tree))
            for key in ("folder", "root"):
                if key in asked:
                    asked[key] = f"{tree}/way/run"
            try:
                answer = json.dumps(desk.perform(operation, asked, receiving=False))
            except CaxflowError:
                continue
            if "own" in answer or operation == "kind":
                seen.add(answer)
            assert "secret" not in answer
    finally:
        ends.set()
        thread.join()


def test_what_is_asked_without_sense_is_refused(tree):
    for operation in ("nothing", "__init__", "_call", "report", "part", None, 7, ["scan"], {}):
        with pytest.raises(
            CaxflowError, match="is not known there by caxflow serve 1 -> use the same version"
        ):
            guard(tree).perform(operation, {}, receiving=False)
    for wrong in (None, 7, [], "path", {}, {"path": 1, "more": 2}):
        with pytest.raises(CaxflowError, match="not known there"):
            guard(tree).perform("scan", wrong, receiving=False)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data(), operation=st.sampled_from(sorted(OPERATIONS)), mode=st.sampled_from(sorted(MODES)))
def test_junk_is_refused_in_words(tmp_path_factory, data, operation, mode):
    root = tmp_path_factory.getbasetemp() / "junk"
    root.mkdir(exist_ok=True)
    names = [name for name in inspect.signature(getattr(Session, operation)).parameters if name != "self"]
    asked = {name: data.draw(JUNK | st.just(str(root))) for name in names}
    desk = guard(root, mode)
    assert said(desk, operation, asked, receiving=data.draw(st.booleans())).isprintable()
    desk.close()


def begun(desk, root, name, token="aa") -> str:
    """Begin a copy; where its data go."""
    asked = {"destination": f"{root}/{name}", "token": token, "wait": 0, "root": None}
    return desk.perform("begin", asked | {"files": [["a", 1]], "directories": []}, receiving=False)["data"]


@pytest.mark.parametrize("other", ["the site", "another key"])
def test_who_reads_the_token_of_anothers_attempt_takes_no_part_in_it(tree, other):
    """It stands in the lock, which a key that reads can read."""
    if other == "the site":
        session = Session(lambda _: None)
        session.begin(f"{tree}/new", "bb", 0, files=[["a", 1]], directories=[], root=None)
    else:
        begun(guard(tree, "no-delete", name="tegner"), tree, "new", "bb")
    desk = guard(tree, "no-delete")
    asked = {"destination": f"{tree}/new", "token": "bb"}
    assert "was left by another account or key" in said(desk, "join", asked)
    with pytest.raises(CaxflowError, match="no copy was begun there"):
        desk.writing(f"{tree}/.new.part-caxflow/data")


def test_what_looks_unfinished_in_a_copy_that_is_published_stays(tree):
    """A copy may hold what has the names and the text of an attempt of the same key."""
    begun(guard(tree, "no-delete"), tree, "new")
    (tree / ".new.part-caxflow").rename(tree / "run" / ".b.part-caxflow")
    asked = {"parent": f"{tree}/run", "older_than": 0, "only": None}
    assert "where no copy of raw data has its place" in said(guard(tree, "no-delete"), "leftovers", asked)
    assert (tree / "run" / ".b.part-caxflow" / "lock").exists()
    desk = guard(tree, "no-delete")
    Path(begun(desk, tree, "new"), "a").write_text("a")
    desk.perform("let_go", {}, receiving=False)
    asked["parent"] = str(tree)
    assert json.loads(said(guard(tree, "no-delete"), "leftovers", asked)) == [f"{tree}/.new.part-caxflow"]


def test_blocks_are_those_that_are_there(tree):
    (tree / "run" / "a").write_text("a")
    asked = {"root": f"{tree}/run", "files": [["a", 1 << 40], ["a", 0]], "algorithms": ["sha256"]}
    (_, blocks), (_, none) = guard(tree, "read-only").perform("blocks", asked, receiving=False)
    assert (len(blocks), none) == (1, [])


def test_an_answer_has_an_end(tree, monkeypatch):
    monkeypatch.setattr(guards, "_MOST_FILES", 100)
    (tree / "run" / "a").write_text("a")
    asked = {"paths": [f"{tree}/run/a"] * 100}
    assert len(guard(tree).perform("look", asked, receiving=False)) == 100
    asked["paths"] *= 2
    assert "more files than one answer holds" in said(guard(tree), "look", asked)


def test_a_single_file_is_published_from_no_folder(tree):
    """Which may have been exchanged for a link."""
    desk = guard(tree)
    asked = {"destination": f"{tree}/new", "token": "aa", "wait": 0, "root": None, "directories": ["a"]}
    data = Path(desk.perform("begin", asked | {"files": [["a/b", 1]]}, receiving=False)["data"])
    (data / "a" / "b").write_text("b")
    asked = {"files": [["a/b", 1, 1]], "directories": ["a"], "single": True}
    assert "is no copy of a single file" in said(desk, "publish", asked)
    assert not (tree / "new").exists()
