"""Copies between directories of this machine, and the plan of pieces."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needs
from caxflow import transfer
from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.folder import Folder, names_below
from caxflow.files.listing import DEEPEST, FileStat
from caxflow.files.manifest import Entry, Manifest, take
from caxflow.files.reading import scan
from caxflow.transfer import Place, copy, plan, renaming
from caxflow.transfer.folder import HELD_UP, remove_tree
from caxflow.transfer.job import Job
from caxflow.transfer.local import copy_piece
from caxflow.transfer.part import Part
from caxflow.transfer.protocol import JSON, FdChannel, LostError, Stream, frame_json
from caxflow.transfer.session import Session, some
from copies import mark

HERE = Place("here")


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "source" / "160315_1432"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "one.zip").write_bytes(os.urandom(3_000_000))
    (folder / "two.zip").write_bytes(os.urandom(70_000))
    (folder / "none").touch()
    (folder / "sub" / "odd \udcff\n'$(x)").write_bytes(b"odd")
    os.utime(folder / "two.zip", ns=(10**18, 10**18 + 7))
    return folder


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_copy_is_whole(dataset, out):
    copied = copy(HERE, dataset, HERE, out / "new" / "copy", extra_algorithms=("adler32", "sha512"))
    assert take(out / "new" / "copy") == take(dataset) == copied.manifest
    assert (out / "new" / "copy" / "sub" / "empty").is_dir()
    assert (out / "new" / "copy" / "two.zip").stat().st_mtime_ns == 10**18 + 7
    assert (copied.size, copied.sent, copied.adopted, copied.method) == (3_070_003, 3_070_003, False, "local")
    assert digests.cax_reduce(entry.digest for entry in copied.manifests["sha512"].entries) == (
        digests.cax_sha512(dataset)
    )
    assert copied.manifests["adler32"] == take(dataset, "adler32")
    assert names(out / "new") == ["copy"]


def test_single_file_may_be_renamed(dataset, out):
    expected = take(dataset / "one.zip")
    copied = copy(HERE, dataset / "one.zip", HERE, out / "other.zip", expected=expected)
    assert (out / "other.zip").read_bytes() == (dataset / "one.zip").read_bytes()
    assert copied.manifest == expected
    again = copy(HERE, dataset / "one.zip", HERE, out / "other.zip", expected=expected)
    assert (again.adopted, again.sent, again.manifest) == (True, 0, expected)
    assert names(out) == ["other.zip"]


def test_identical_copy_is_adopted_and_another_refused(dataset, out):
    copy(HERE, dataset, HERE, out / "copy")
    assert copy(HERE, dataset, HERE, out / "copy").adopted
    with pytest.raises(CaxflowError, match="exists already"):
        copy(HERE, dataset, HERE, out / "copy", allow_existing=False)
    (out / "copy" / "two.zip").write_bytes(b"x" * 70_000)
    with pytest.raises(
        CaxflowError, match=r"differs from here: two\.zip has the right size but other contents"
    ):
        copy(HERE, dataset, HERE, out / "copy")
    (out / "file").write_bytes(b"")
    with pytest.raises(CaxflowError, match="exists already"):
        copy(HERE, dataset, HERE, out / "file")
    (out / "link").symlink_to(dataset)
    with pytest.raises(CaxflowError, match="exists already"):
        copy(HERE, dataset, HERE, out / "link")


@pytest.mark.parametrize("algorithm", ["xxh128", "sha256"])
def test_unexpected_source_is_refused(dataset, out, algorithm):
    expected = take(dataset, algorithm)
    entries = {entry.path: entry for entry in expected.entries}
    one = entries["one.zip"]
    wrong = Entry("one.zip", one.size, "0" * len(one.digest))
    others = [entry for entry in expected.entries if entry is not one]
    assert copy(HERE, dataset, HERE, out / "good", expected=expected).manifests[algorithm] == expected
    for entries_, text in (
        ((wrong, *others), r"one\.zip has the right size but other contents"),
        (others, r"one\.zip is extra"),
        ((one, Entry("gone", 1, one.digest), *others), "gone is missing"),
    ):
        with pytest.raises(CaxflowError, match=rf"not what was expected: {text}"):
            copy(HERE, dataset, HERE, out / "bad", expected=Manifest(algorithm, tuple(entries_)))
        assert not (out / "bad").exists()


@pytest.mark.parametrize("change", ["grow", "shrink", "touch", "replace"])
def test_file_that_changes_while_it_is_read_is_refused(dataset, out, change):
    file = dataset / "one.zip"
    listed = scan(dataset).files[1]

    def meddle(_):
        if change == "replace":
            (dataset / "new").write_bytes(file.read_bytes())
            (dataset / "new").replace(file)
        elif change == "touch":
            os.utime(file)
        else:
            os.truncate(file, 4_000_000 if change == "grow" else 2_000_000)

    source, destination = Folder(str(dataset)), Folder(str(out))
    piece = plan.Piece(0, listed, 0, listed.size)
    with pytest.raises(CaxflowError, match=r"one\.zip changed while it was read"):
        copy_piece(source, destination, "copy", piece, algorithms=("xxh128",), before_write=meddle)
    source.close()
    destination.close()


def test_nothing_there_and_no_root(tmp_path, out):
    with pytest.raises(CaxflowError, match=r"here: .*absent: No such file or directory"):
        copy(HERE, tmp_path / "absent", HERE, out / "copy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaxflowError, match="holds no file"):
        copy(HERE, tmp_path / "empty", HERE, out / "copy")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(CaxflowError, match=r"root, which is to hold the data, does not exist"):
        copy(HERE, tmp_path / "full", HERE, tmp_path / "root" / "parent" / "copy")
    root = tmp_path / "root"
    with pytest.raises(CaxflowError, match=r"root, which is to hold the data, does not exist"):
        copy(HERE, tmp_path / "full", HERE, root / "copy", root=str(root))
    root.mkdir()
    mark("here", {"raw": str(root)})
    copy(HERE, tmp_path / "full", HERE, root / "copy", root=str(root))
    copy(HERE, tmp_path / "full", HERE, root / "parent" / "copy", root=str(root))
    assert names(out) == []


def test_leftovers_are_used_then_removed(dataset, out):
    container = out / ".copy.part-caxflow"
    (container / "data" / "stray").mkdir(parents=True)
    (container / "data" / "stray" / "file").write_bytes(b"x")
    (container / "data" / "one.zip").write_bytes((dataset / "one.zip").read_bytes())
    (container / "data" / "two.zip").write_bytes(b"0" * 90_000)
    (container / "data" / "none").symlink_to("/etc/passwd")
    copied = copy(HERE, dataset, HERE, out / "copy")
    assert copied.manifest == take(out / "copy") == take(dataset)
    assert copied.sent == 70_003, "one.zip was there already"
    assert names(out) == ["copy"]


def test_what_was_published_is_never_written_to_again(tmp_path, out, monkeypatch):
    """A single file is published by a link; a crash may leave its other name among the leftovers."""
    source, copy_of_it = tmp_path / "file", out / "file"
    source.write_bytes(b"1" * 90_000)

    def crash(path, **_):
        raise OSError(errno.EIO, "as if all ended here", path)

    monkeypatch.setattr("os.unlink", crash)
    assert "Input/output error" in copy(HERE, source, HERE, copy_of_it).remarks[0]
    monkeypatch.undo()
    copied = copy_of_it.rename(tmp_path / "set aside")
    assert names(out) == [".file.part-caxflow"]
    source.write_bytes(b"2" * 90_000)
    assert copy(HERE, source, HERE, copy_of_it).manifest == take(copy_of_it) == take(source)
    assert copied.read_bytes() == b"1" * 90_000
    (out / ".file.part-caxflow" / "data").mkdir(parents=True)
    os.link(copy_of_it, out / ".file.part-caxflow" / "data" / "file")
    assert copy(HERE, source, HERE, copy_of_it).adopted
    assert names(out) == ["file"]


def test_remove_leftovers(out):
    old = [out / ".old.part-0123abcd-caxflow", out / ".old.part-caxflow"]
    for folder in (*old, *(out / f".{name}.part-caxflow" for name in ("young", "busy"))):
        (folder / "data").mkdir(parents=True)
    for folder in old:
        os.utime(folder / "data", (1, 1))
        os.utime(folder, (1, 1))
    assert transfer.remove_leftovers(HERE, out, 3600) == list(map(str, old))
    ahead = time.time() + 3600  # by a clock that was wrong
    os.utime(out / ".young.part-caxflow", (ahead, ahead))
    held = Part(str(out / "busy"), "somebody")
    held.begin(wait=0)
    try:
        assert transfer.remove_leftovers(HERE, out, 0, name="busy") == []
        assert transfer.remove_leftovers(HERE, out, 0) == [str(out / ".young.part-caxflow")]
    finally:
        held.close()


def test_two_writers_exclude_each_other(dataset, out):
    held = Part(str(out / "copy"), "somebody")
    held.begin(wait=0)
    with pytest.raises(CaxflowError, match=r"is being written by another transfer \(process \d+"):
        Part(str(out / "copy"), "other").begin(wait=0.3)
    result = []
    waiting = threading.Thread(target=lambda: result.append(copy(HERE, dataset, HERE, out / "copy")))
    waiting.start()
    time.sleep(0.3)
    assert not (out / "copy").exists()
    held.close()
    waiting.join()
    assert result[0].manifest == take(out / "copy")


def refuse_locks(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.mark.parametrize(
    ("holder", "age", "held"),
    [
        ("process {pid} on {host}", 1000, True),
        ("process 4194305 on {host}", 0, False),  # larger than any process has
        ("process {pid} on elsewhere", 0, True),
        ("process {pid} on elsewhere", 1000, False),
        ("", 0, False),
    ],
)
def test_where_there_are_no_locks_processes_and_ages_tell_who_writes(out, monkeypatch, holder, age, held):
    """Lustre without ``flock``, NFS without its lock daemon."""
    monkeypatch.setattr(fcntl, "flock", refuse_locks)
    first = Part(str(out / "copy"), "first")
    first.begin(wait=0)
    text = holder.format(pid=os.getpid(), host=os.uname().nodename)
    os.truncate(f"{out}/.copy.part-caxflow/lock", 0)
    os.pwrite(first._lock, f"first\n{text}\n".encode() if text else b"", 0)
    for path in (out / ".copy.part-caxflow").rglob("*"):
        os.utime(path, (time.time() - age,) * 2)
    os.utime(out / ".copy.part-caxflow", (time.time() - age,) * 2)
    second = Part(str(out / "copy"), "second")
    with pytest.raises(CaxflowError, match="is being written by") if held else nullcontext():
        second.begin(wait=0)
    second.close()
    first.close()


HIDDEN = """
import errno, fcntl, os, sys
from caxflow.transfer.part import Part
assert not os.path.exists(f"/proc/{os.getppid()}")
def refuse(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = refuse
Part(sys.argv[1], "second").begin(wait=0)
"""


def test_without_locks_a_writer_that_proc_hides_still_writes(out, monkeypatch):
    needs.root()
    monkeypatch.setattr(fcntl, "flock", refuse_locks)
    first = Part(str(out / "copy"), "first")
    first.begin(wait=0)
    done = subprocess.run(
        # As the main process that knows a password is hidden.
        [*needs.hidden_processes(), sys.executable, "-c", HIDDEN, str(out / "copy")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"being written by another transfer (process {os.getpid()} on" in done.stderr
    first.close()


def test_without_locks_a_writer_that_ended_is_not_waited_for(out, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refuse_locks)
    for token in ("first", "second"):
        part = Part(str(out / "copy"), token)
        part.begin(wait=0)
        part.close()


def test_writer_whose_place_was_taken_cannot_publish(out):
    first = Part(str(out / "copy"), "first")
    first.begin(wait=0)
    fcntl.flock(first._lock, fcntl.LOCK_UN)  # as if its lock was lost with a file server
    second = Part(str(out / "copy"), "second")
    second.begin(wait=0)
    with pytest.raises(CaxflowError, match="taken over"):
        first.publish([], [], False)
    third = Part(str(out / "copy"), "first")
    with pytest.raises(CaxflowError, match="began"):
        third.join()
    for part in (first, second, third):
        part.close()


def test_progress_is_told_and_may_stop(dataset, out):
    class Enough(Exception):
        pass

    def stop(state):
        raise Enough

    (dataset / "big").write_bytes(bytes(300_000_000))
    with pytest.raises(Enough):
        copy(HERE, dataset, HERE, out / "copy", progress=stop)
    assert not (out / "copy").exists()
    states = []
    (dataset / "big").write_bytes(bytes(300_000_000))
    copy(HERE, dataset, HERE, out / "copy", progress=states.append)
    assert states
    assert all(0 <= state.done <= state.total and state.files == 5 for state in states[1:])


def test_whole_disk_is_noticed_before_anything_is_written(tmp_path, out):
    (tmp_path / "huge").mkdir()
    with (tmp_path / "huge" / "sparse").open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(CaxflowError, match=r"no space for .*: 8796\.\d+ GB to come, .* GB free"):
        copy(HERE, tmp_path / "huge", HERE, out / "copy")
    assert names(out) == []


def test_inventory(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "good.zip", "w") as archive:
        for number in range(7):
            archive.writestr(str(number), b"x" * 100)
    whole = (tmp_path / "good.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    (tmp_path / "empty.zip").touch()
    (tmp_path / "pax_info.json").write_text("{}")
    found = transfer.inventory(HERE, tmp_path)
    bad = transfer.Contents(faults=["cannot be read as a zip"])
    assert found.zips == {"good.zip": transfer.Contents([[0, 6]]), "cut.zip": bad, "empty.zip": bad}
    assert found.files["good.zip"] == len(whole)
    assert set(found.files) == {"good.zip", "cut.zip", "empty.zip", "pax_info.json"}


def test_small_questions(tmp_path, dataset):
    assert transfer.exists(HERE, dataset) == "directory"
    assert transfer.exists(HERE, dataset / "none") == "file"
    assert transfer.exists(HERE, tmp_path / "absent" / "deep") is None
    assert transfer.free_space(HERE, tmp_path / "absent" / "deep") > 0
    assert transfer.take_manifest(HERE, dataset) == take(dataset)
    assert transfer.take_manifest(HERE, dataset, algorithm="sha256", drop_cache=False) == take(
        dataset, "sha256"
    )


def test_rename_and_remove_stay_below_the_root(tmp_path, dataset):
    root = tmp_path / "root"
    (root / "trash").mkdir(parents=True)
    mark("here", {"raw": str(root)})
    (root / "out").symlink_to(tmp_path)
    (root / "a").mkdir()
    (root / "a" / "link").symlink_to(dataset)
    transfer.rename(HERE, root / "a", root / "trash" / "b", root=root)
    for path in (root, root / "..", dataset, root / "out" / "source", "/", root / "trash" / ".."):
        with pytest.raises(CaxflowError, match="is not below"):
            transfer.remove_tree(HERE, path, root=root)
    with pytest.raises(CaxflowError, match="is not below"):
        transfer.rename(HERE, root / "trash" / "b", tmp_path / "elsewhere", root=root)
    transfer.remove_tree(HERE, root / "trash" / "b", root=root)
    transfer.remove_tree(HERE, root / "trash" / "b", root=root)
    transfer.remove_tree(HERE, root / "out", root=root)
    assert (dataset / "one.zip").exists()
    assert names(root) == [".caxflow-root", "trash"]


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b c"]), max_size=5))
def test_names_below_never_lead_out(parts):
    path = "/nowhere/root/" + "/".join(parts)
    try:
        found = names_below(path, "/nowhere/root")
    except CaxflowError:
        return
    assert found
    assert not {b"", b".", b".."} & set(found)


@pytest.mark.parametrize("deep", ["link/a", "link/deep/a", "folder/link/a"])
@pytest.mark.parametrize("act", ["remove", "rename it", "rename to it", "prune"])
def test_no_link_below_a_root_is_followed(tmp_path, deep, act):
    """A document may name any path: a link in it leads nowhere, inside of the root or outside."""
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (other / "deep" / "a", root / "folder", root / "own"):
        folder.mkdir(parents=True)
    (other / "a").mkdir()
    (root / "link").symlink_to(other)
    (root / "folder" / "link").symlink_to(other)
    mark("here", {"raw": str(root)})
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    path = root / deep
    with pytest.raises(CaxflowError, match="is a symbolic link") if act != "prune" else nullcontext():
        if act == "remove":
            transfer.remove_tree(HERE, path, root=root)
        elif act == "rename it":
            transfer.rename(HERE, path, root / "new", root=root)
        elif act == "rename to it":
            transfer.rename(HERE, root / "own", path.with_name("new"), root=root)
        else:
            transfer.prune(HERE, path, root=root)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_a_root_may_be_a_link_itself(tmp_path):
    (tmp_path / "disk" / "a").mkdir(parents=True)
    root = tmp_path / "root"
    root.symlink_to(tmp_path / "disk")
    mark("here", {"raw": str(root)})
    transfer.rename(HERE, root / "a", root / "deep" / "b", root=root)
    transfer.remove_tree(HERE, root / "deep" / "b", root=root)
    transfer.prune(HERE, root / "deep", root=root)
    assert names(root) == [".caxflow-root"]


def test_a_rename_that_fails_leaves_no_folder(tmp_path):
    mark("here", {"raw": str(tmp_path / "root")})
    with pytest.raises(CaxflowError, match="absent: No such file"):
        transfer.rename(HERE, tmp_path / "root/absent", tmp_path / "root/new/b", root=tmp_path / "root")
    assert names(tmp_path / "root") == [".caxflow-root"]


def test_a_removal_that_was_held_up_goes_no_further(tmp_path, monkeypatch):
    """What let it remove the rest may have changed meanwhile."""
    for name in ("a", "b", "c"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).touch()
    times = iter([0, 1, 1 + HELD_UP + 1])
    monkeypatch.setattr("caxflow.transfer.folder.time.monotonic", lambda: next(times))
    with pytest.raises(CaxflowError, match="was held up for 61 s"):
        remove_tree(os.fsencode(tmp_path / "folder"), lambda: None)
    assert len(list((tmp_path / "folder").iterdir())) == 2


@pytest.mark.parametrize("what", ["link to it", "dangling link"])
def test_a_link_in_a_datasets_place_is_no_dataset(tmp_path, dataset, out, what):
    link = out / "link"
    link.symlink_to(dataset if what == "link to it" else tmp_path / "absent")
    words = "link is a symbolic link"
    with pytest.raises(CaxflowError, match=words):
        transfer.take_manifest(HERE, link)
    with pytest.raises(CaxflowError, match=words):
        copy(HERE, link, HERE, out / "copy")
    with pytest.raises(CaxflowError, match=words):
        transfer.inventory(HERE, link)
    (found,) = transfer.look(HERE, [link])
    assert (found.kind, found.files) == ("other", {})
    assert words in found.error


def test_a_look_tells_whose_files_they_are_and_when_they_changed(dataset, out):
    (seen,) = transfer.look(HERE, [dataset])
    copy(HERE, dataset, HERE, out / "copy")
    (out / "alias").mkdir()
    for path in dataset.rglob("*"):
        if path.is_file():
            (out / "alias" / path.relative_to(dataset)).parent.mkdir(exist_ok=True, parents=True)
            os.link(path, out / "alias" / path.relative_to(dataset))
    again, copied, alias = transfer.look(HERE, [dataset, out / "copy", out / "alias"], opened=True)
    assert alias.identity == again.identity != copied.identity  # a new link changes the time of change
    assert len(seen.identity) == len(seen.files)
    assert 0 <= again.changed <= seen.changed + 60


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
def test_some_files_are_from_all_over_the_list(count):
    found = some(range(count))
    assert len(found) == len(set(found)) == min(count, 16) or 8 <= len(found) <= 16
    assert count == 0 or found[0] == 0


def test_what_takes_long_shows_that_it_goes_on(tmp_path):
    """Else a disk that is slow, of a dataset of many files, would be given up."""
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    for number in range(30):
        (root / "sub" / str(number)).touch()
    for operation, arguments in (
        ("scan", {"path": root}),
        ("look", {"paths": [str(root)]}),
        ("census", {"root": str(tmp_path), "depth": 1}),
        ("permissions", {"path": str(root), "wanted": [None, None, None, 0o640, []], "apply": True}),
        ("manifests", {"path": root, "algorithms": ["sha256"], "drop_cache": False}),
        ("remove_tree", {"path": str(root), "root": str(tmp_path)}),
    ):
        signs = []
        getattr(Session(signs.append), operation)(**arguments)
        assert len(signs) >= 30, operation
    assert not root.exists()


def test_errors_name_the_whole_path(tmp_path, monkeypatch):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    file = tmp_path / "data" / "sub" / "file"
    file.touch()
    folder = Folder(str(tmp_path / "data"))
    for do in (
        lambda: folder.open("sub/absent", os.O_RDONLY),
        lambda: folder.set_mtime("sub/absent", 1),
        lambda: folder.make("sub/absent/below"),
    ):
        with pytest.raises(OSError, match="No such file") as caught:
            do()
        assert caught.value.filename.startswith(f"{tmp_path}/data/sub/absent")
    folder.close()

    def refuse(name, **_):
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr("os.unlink", refuse)
    with pytest.raises(CaxflowError, match=f"^here: {file}: Permission denied -> give the account"):
        transfer.remove_tree(HERE, tmp_path / "data", root=tmp_path)


@pytest.mark.parametrize("how", ["local", "manifest"])
def test_folders_too_deep_are_refused(tmp_path, out, how):
    deepest = tmp_path / "data" / "/".join(["d"] * (DEEPEST + 1))
    deepest.mkdir(parents=True)
    (deepest / "file").touch()
    with pytest.raises(CaxflowError, match=f"goes more than {DEEPEST} folders deep -> no dataset is so deep"):
        take(tmp_path / "data") if how == "manifest" else copy(HERE, tmp_path / "data", HERE, out / "copy")


def test_places_are_checked():
    for options, text in (
        ({"method": "ftp"}, "unknown"),
        ({"method": "stream"}, "no host"),
        ({"method": "stream", "host": "-oProxyCommand=evil"}, "cannot be one"),
        ({"method": "stream", "host": "a b"}, "cannot be one"),
        ({"method": "stream", "host": "a", "jump": "-b"}, "cannot be one"),
        (
            {"method": "stream", "host": "a", "jump": "b:ssh"},
            "jump 'b:ssh' cannot be one -> write access.jump",
        ),
        ({"method": "stream", "host": "a", "jump": "b,"}, "jump '' cannot be one"),
        ({"method": "stream", "host": "a", "jump": "u@-b,c"}, "cannot be one"),
    ):
        with pytest.raises(CaxflowError, match=text):
            Place("site", **options)


def test_jump_hosts_are_reached_one_through_the_other():
    place = Place(
        "site", "scp", host="inner", user="me", jump="a@one:22,ssh://two,[fe80::1]:2222", identity="key"
    )
    found = []
    while place.jump:
        place = place.hop(place.jump)
        found.append((place.user, place.host, place.port, place.identity))
    assert found == [(None, "fe80::1", 2222, "key"), (None, "two", None, "key"), ("a", "one", 22, "key")]


sizes = st.lists(st.integers(0, 1 << 34), min_size=1, max_size=20)


@given(sizes, st.integers(1, 8), st.booleans(), st.data())
def test_pieces_cover_what_is_missing_once(sizes, count, split, data):
    files = [FileStat(f"f{number}", size, 0, 0, number) for number, size in enumerate(sizes)]
    missing = {}
    for index in data.draw(st.sets(st.integers(0, len(files) - 1))):
        cuts = sorted(data.draw(st.lists(st.integers(0, files[index].size), max_size=6, unique=True)))
        missing[index] = [(begin, end - begin) for begin, end in zip(cuts[::2], cuts[1::2], strict=False)]
    found = plan.pieces(files, missing, count, split)
    for index, file in enumerate(files):
        own = [(piece.offset, piece.length) for piece in found if piece.index == index]
        assert own == sorted(own), "a file is hashed from its beginning on"
        wanted = missing.get(index, [(0, file.size)])
        assert merged(own) == merged(wanted)
        assert all(length > 0 or file.size == 0 for _, length in own)
    if not split and not missing:
        assert len(found) == len(files)


def merged(ranges):
    found = []
    for begin, length in ranges:
        if found and found[-1][1] == begin:
            found[-1][1] = begin + length
        else:
            found.append([begin, begin + length])
    return found


@given(st.integers(1, 1000), st.data())
def test_missing_ranges(size, data):
    block = 64
    wanted = [str(number) for number in range(-(-size // block))]
    there = [
        data.draw(st.sampled_from([each, "other"]))
        for each in wanted[: data.draw(st.integers(0, len(wanted)))]
    ]
    bad = {number for number in range(len(wanted)) if number >= len(there) or there[number] != wanted[number]}
    covered = set()
    for offset, length in plan.missing_ranges(size, block, there, wanted):
        assert length > 0
        covered |= set(range(offset, offset + length))
    assert covered == {byte for byte in range(size) if byte // block in bad}


def test_connections_follow_distance_and_size():
    assert plan.wanted(0.0002, None) == 2
    assert plan.wanted(0.1, None) == 8
    assert plan.wanted(0.1, 10e6) == 2
    assert plan.worth(0.1, 10**10) > 8
    assert plan.worth(0.1, 10**6) == 1
    assert plan.worth(0.0, 0) == 1


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_garbage_never_breaks_the_reader(garbage):
    """Whatever a far end sends is read as frames or refused."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(garbage)
    stream = Stream(FdChannel(reading, reading))
    try:
        stream.skip_noise()
        while True:
            kind, _, _, length = stream.header()
            if kind == JSON:
                stream.json(length)
            else:
                stream.body(min(length, 1000))
    except LostError:
        pass
    finally:
        os.close(reading)


@given(st.lists(st.binary(max_size=50), max_size=4), st.lists(st.integers(1, 40), min_size=1))
def test_frames_survive_any_fragmentation(bodies, cuts):
    reading, writing = os.pipe()
    sent = (
        b"noise\n" + b"\0caxflow-helper-1\n" + b"".join(frame_json({"body": body.hex()}) for body in bodies)
    )

    def write():
        at, number = 0, 0
        while at < len(sent):
            step = cuts[number % len(cuts)]
            os.write(writing, sent[at : at + step])
            at, number = at + step, number + 1
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    stream = Stream(FdChannel(reading, reading))
    assert stream.skip_noise() == b"noise\n"
    assert [stream.json(stream.header()[3]) for _ in bodies] == [{"body": body.hex()} for body in bodies]
    with pytest.raises(LostError):
        stream.header()
    thread.join()
    os.close(reading)


def test_the_source_is_listed_while_the_other_end_logs_in(dataset, out, monkeypatch):
    listed = threading.Event()

    def scan_and_tell(self, path):
        listed.set()
        return scanned(self, path)

    def open_late(self, place, report):
        assert place is HERE or listed.wait(60)
        return opened(self, place, report)

    scanned, opened = Session.scan, Job.open
    monkeypatch.setattr(Session, "scan", scan_and_tell)
    monkeypatch.setattr(Job, "open", open_late)
    copy(HERE, dataset, Place("there"), out / "copy")
    assert take(out / "copy") == take(dataset)


def test_a_listing_that_did_not_change_is_not_sent_again(dataset):
    session = Session(lambda _: None)
    before = session.scan(str(dataset))
    assert session.scan_again(str(dataset)) is None
    (dataset / "none").write_bytes(b"some")
    changed = session.scan_again(str(dataset))
    assert [file[0] for file in changed["files"] if file not in before["files"]] == ["none"]
    assert session.scan_again(str(dataset / "sub"))["root"].endswith("/sub")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_renamed_where_there_are_only_links_for_it(out, monkeypatch, make):
    """A symbolic link that is set aside has one name after that, and not two."""
    make(out / "old")
    monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    renaming.rename(os.fsencode(out / "old"), os.fsencode(out / "new"))
    assert names(out) == ["new"]
    make(out / "old")
    with pytest.raises(FileExistsError):
        renaming.rename(os.fsencode(out / "old"), os.fsencode(out / "new"))
    assert names(out) == ["new", "old"]
