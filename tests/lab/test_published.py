"""F1: nothing that fails after a copy has its name makes the copy fail; it is a remark.

Nor does a copy take a name that something else got first.
"""

import contextlib
import errno
import os
import re
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

import mortal
import needs
from caxflow import receipts, transfer
from caxflow.copies import strays
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.processing import products
from caxflow.transfer import Place, copy, part, renaming
from caxflow.transfer.sftp_client import SftpClient
from copies import Copies, mark
from lab.logins import OddSite

HERE = Place("here")


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "dataset"
    (folder / "sub").mkdir(parents=True)
    for name in ("one.zip", "sub/two.zip", "sub/three.zip"):
        (folder / name).write_bytes(os.urandom(2 << 20))
    return folder


@contextlib.contextmanager
def hiding(tmp_path):
    """A file system that renames what is removed while it is open, as NFS and FUSE do; where it is."""
    needs.root()
    (tmp_path / "below").mkdir()
    mounted = tmp_path / "hiding"
    mounted.mkdir()
    command = [needs.tool("bindfs"), "-f", str(tmp_path / "below"), str(mounted)]
    with subprocess.Popen(command) as process:
        try:
            while not mounted.is_mount():
                assert process.poll() is None
            with (mounted / "open").open("w"):
                (mounted / "open").unlink()
                assert [path.name[:12] for path in mounted.iterdir()] == [".fuse_hidden"]
            yield mounted
        finally:
            subprocess.run([needs.tool("umount"), "--lazy", str(mounted)], check=True)
            process.terminate()


def unknown(folder):
    """What `caxflow strays` lists in a folder, where the copy is known."""
    items = transfer.census(HERE, str(folder))
    found = list(strays.lying(items, "raw", str(folder), {str(folder / "copy")}))
    there = {f"{folder}/{item.name}" for item in items}
    return [each.path for each in strays.without_empty(HERE, found, there)]


WAYS = {
    "local": lambda far: HERE,
    "push": lambda far: far(connections=1),
    "push over several connections": lambda far: far(connections=4),
    "scp-push": lambda far: far("scp"),
}


@pytest.mark.parametrize("source", ["dataset", "dataset/one.zip"])
@pytest.mark.parametrize("way", WAYS)
def test_f1_what_is_open_is_only_renamed(tmp_path, dataset, far, way, source):
    """bindfs, NFS: the container of a published copy is not empty, since its lock is open."""
    place, source = WAYS[way](far), tmp_path / source
    with hiding(tmp_path) as folder:
        copied = copy(HERE, source, place, folder / "copy")
        assert not copied.adopted
        inner = "one.zip" if source.is_dir() else ""
        assert (folder / "copy" / inner).read_bytes() == (source / inner).read_bytes()
        assert unknown(folder) == []
        again = copy(HERE, source, place, folder / "copy")
        assert again.adopted
        assert unknown(folder) == []


@pytest.mark.parametrize("source", ["dataset", "dataset/one.zip"])
def test_f1_a_server_that_lets_nobody_remove_anything(lab, tmp_path, dataset, source):
    """``internal-sftp -P remove,rmdir``."""
    (tmp_path / "raw").mkdir()
    with OddSite(lab, "append", Subsystem="sftp internal-sftp -P remove,rmdir") as site:
        place = site.place("scp")
        copied = copy(HERE, tmp_path / source, place, tmp_path / "raw/copy")
        (remark,) = copied.remarks
        assert "part-" in remark
        assert "could not be removed: Permission denied" in remark
        assert unknown(tmp_path / "raw") == []
        again = copy(HERE, tmp_path / source, place, tmp_path / "raw/copy")
        assert (again.adopted, again.remarks) == (True, ())
        assert unknown(tmp_path / "raw") == []
    found = strays.lying(transfer.census(HERE, str(tmp_path / "raw")), "raw", str(tmp_path / "raw"), set())
    assert str(tmp_path / "raw/copy") in [each.path for each in found]


def test_an_unfinished_copy_beside_a_published_one_is_still_listed(tmp_path):
    for name in ("copy/a", ".copy.part-caxflow/data/a", ".other.part-caxflow/lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0")
    assert unknown(tmp_path) == [f"{tmp_path}/.copy.part-caxflow", f"{tmp_path}/.other.part-caxflow"]


@pytest.mark.parametrize("step", [r"os\.remove .*lock", r"os\.rmdir .*part-caxflow"])
@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_far_end_that_dies_once_the_copy_is_published(tmp_path, dataset, far, step, kind):
    """It cannot answer any more; whether the copy is there is looked up."""
    gate = mortal.Gate(tmp_path / "gate", step)
    (tmp_path / "raw").mkdir()
    source = dataset if kind == "directory" else dataset / "one.zip"
    found = []
    place = far(python=gate.python(), connections=1, timeout=30)
    killed_at(gate, lambda: found.append(copy(HERE, source, place, tmp_path / "raw/copy")))
    (copied,) = found
    assert len(copied.remarks) == 1
    assert take(tmp_path / "raw/copy").size == copied.size
    assert copy(HERE, source, far(), tmp_path / "raw/copy").adopted


def killed_at(gate, attempt):
    """Kill the far end of an attempt at a gate, and wait until the attempt has ended."""
    thread = threading.Thread(target=attempt)
    thread.start()
    try:
        while not (gate.folder / "there").exists():
            assert thread.is_alive()
        os.kill(int((gate.folder / "there").read_text()), signal.SIGKILL)
    finally:
        gate.open()
        thread.join()


def test_a_far_end_that_dies_before_has_not_published(tmp_path, dataset, far):
    gate = mortal.Gate(tmp_path / "gate", r"os\.rename data copy")
    (tmp_path / "raw").mkdir()
    failed = []

    def attempt():
        with pytest.raises(CaxflowError) as error:
            copy(HERE, dataset, far(python=gate.python(), connections=1, timeout=30), tmp_path / "raw/copy")
        failed.append(str(error.value))

    killed_at(gate, attempt)
    assert len(failed) == 1
    assert not (tmp_path / "raw/copy").exists()
    assert not copy(HERE, dataset, far(), tmp_path / "raw/copy").adopted


def held_up(gate, attempt, meanwhile):
    """Have something happen while an attempt is held up at a gate; what it raised."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(attempt)
        try:
            while not (gate.folder / "there").exists():
                assert not done.done()
            meanwhile()
        finally:
            gate.open()
        return done.exception()


def put(path, kind):
    """Put a file or an empty folder there."""
    path.mkdir() if kind == "folder" else path.write_bytes(b"another's")


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        ("stream", "file"),
        ("stream", "folder"),  # elsewhere an empty folder is replaced by a folder, which loses nothing
        ("stream, on a file system with links only", "file"),
        ("scp", "file"),
    ],
)
def test_what_gets_the_new_name_at_the_last_moment_stays(tmp_path, far, monkeypatch, way, kind):
    method, _, without = way.partition(", ")
    with hiding(tmp_path) if without else contextlib.nullcontext(tmp_path) as folder:
        root = folder / "root"
        mark("far", {"raw": str(root)})
        (root / "old").mkdir() if kind == "folder" else (root / "old").write_bytes(b"own")
        gate = mortal.Gate(tmp_path / "gate", r"os\.rename old")
        place = far(method, **({"python": gate.python()} if method == "stream" else {}))

        def attempt():
            transfer.rename(place, root / "old", root / "new", root=root)

        if method == "stream":
            error = held_up(gate, attempt, lambda: put(root / "new", kind))
        else:
            real = SftpClient.rename

            def late(self, old, new):
                put(root / "new", kind)
                real(self, old, new)

            monkeypatch.setattr(SftpClient, "rename", late)
            with pytest.raises(CaxflowError) as caught:
                attempt()
            error = caught.value
        assert isinstance(error, CaxflowError)
        assert "new exists" in str(error)
        assert (root / "new").is_dir() or (root / "new").read_bytes() == b"another's"
        assert (root / "old").exists()


@pytest.mark.parametrize("step", [r"os\.rename old \.old\.part-", r"os\.remove \.old\.part-"])
@pytest.mark.parametrize(
    "fate", ["it is killed", "it goes on", "another one completes it", "another one undoes it"]
)
def test_a_file_whose_rename_takes_several_steps_is_never_lost(tmp_path, far, step, fate):
    """On a file system with links only, a process stops after the link, while the file has two names."""
    gate = mortal.Gate(tmp_path / "gate", step)
    with hiding(tmp_path) as folder:
        root = folder / "root"
        mark("far", {"raw": str(root)})
        (root / "old").write_bytes(b"own")

        def attempt(old="old", new="new", **keys):
            with contextlib.suppress(CaxflowError):
                transfer.rename(far(**keys), root / old, root / new, root=root)

        def meanwhile():
            assert len([path for path in root.iterdir() if path.read_bytes() == b"own"]) == 2
            if fate == "it is killed":
                os.kill(int((gate.folder / "there").read_text()), signal.SIGKILL)
            elif fate == "another one completes it":
                attempt()
            elif fate == "another one undoes it":
                attempt("new", "old")

        held_up(gate, partial(attempt, python=gate.python()), meanwhile)
        undone = fate == "another one undoes it" and "rename" in step
        if not undone:
            attempt()
        there = {path.name: path.read_bytes() for path in root.iterdir() if path.name != ".caxflow-root"}
        there = {name: found for name, found in there.items() if not name.startswith(".old.part-")}
        assert there == {"old" if undone else "new": b"own"}


def refuse(*_, **__):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("source", ["dataset", "dataset/one.zip"])
@pytest.mark.parametrize("call", ["rmdir", "unlink", "sync_folder"])
def test_each_step_after_the_rename_may_fail(tmp_path, dataset, monkeypatch, source, call):
    (tmp_path / "raw").mkdir()
    monkeypatch.setattr(part if call == "sync_folder" else os, call, refuse)
    copied = copy(HERE, tmp_path / source, HERE, tmp_path / "raw/copy")
    assert "Input/output error" in copied.remarks[0]
    monkeypatch.undo()
    assert copy(HERE, tmp_path / source, HERE, tmp_path / "raw/copy").adopted
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["copy"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_product_is_published_though_its_folder_cannot_be_synced(tmp_path, monkeypatch, replace):
    (tmp_path / "made").write_bytes(b"made")
    (tmp_path / "product").write_bytes(b"old") if replace else None
    monkeypatch.setattr(products, "sync_folder", refuse)
    remark = products.publish(tmp_path / "made", tmp_path / "product", replace=replace)
    assert "could not be brought to the disk: Input/output error" in remark
    assert (tmp_path / "product").read_bytes() == b"made"
    receipts.write(tmp_path / "receipt", {"a": 1})
    assert receipts.read(tmp_path / "receipt") == {"a": 1}


def test_permissions_that_cannot_be_set_are_a_remark(tmp_path, database, database_uri):
    """No such group at the site, an account that may not change it: `strays --permissions` names the copy."""
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add(sites=["lngs"])
        site = copies.folder / "config/sites/midway.yaml"
        site.write_text(site.read_text() + "permissions: {raw: {group: no-such-group}}\n")
        zygote = mortal.Zygote(tmp_path, "onecall")
        try:
            done = zygote.call("perform", "midway/160315_1432.checksum", copies.overrides())
        finally:
            zygote.close()
        assert done["status"] == 0, done["said"]
        assert copies.row("midway")["status"] == "transferred"
        (log,) = copies.work().glob("logs/midway/160315_1432.copy_raw.log")
        assert "is published; its permissions are not what they should be: " in log.read_text()


@pytest.mark.parametrize("call", ["rename", "unlink"])
def test_f1_an_old_name_that_cannot_be_taken_away_fails_nothing(tmp_path, dataset, monkeypatch, call):
    """On a file system with links only, where what is published has two names for a moment."""
    monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    (tmp_path / "made").write_bytes(b"made")
    real, refused = getattr(os, call), []

    def refuse_hidden(path, *more, **named):
        if re.search(rb"\.part-[0-9a-f]{16}$", os.fsencode(more[0] if more else path)):
            refused.append(path)
            refuse()
        return real(path, *more, **named)

    with monkeypatch.context() as patched:
        patched.setattr(renaming.os, call, refuse_hidden)
        assert not copy(HERE, dataset / "one.zip", HERE, tmp_path / "copy").adopted
        assert products.publish(tmp_path / "made", tmp_path / "product") == ""
    assert len(refused) >= 2
    assert (tmp_path / "copy").read_bytes() == (dataset / "one.zip").read_bytes()
    assert (tmp_path / "product").read_bytes() == b"made"
