"""Looking at places, and keeping them tidy, is the same here, through the helper and by SFTP alone."""

import os
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest

from caxflow import transfer
from caxflow.demo.sshd import SshSites
from caxflow.errors import CaxflowError
from caxflow.transfer import Look, Place
from caxflow.transfer.ends import LocalEnd, RemoteEnd
from caxflow.transfer.sftp_client import SftpClient
from copies import mark


@pytest.fixture(scope="module")
def far(tmp_path_factory, require):
    require("sshd")
    with SshSites(tmp_path_factory.mktemp("looking") / "sites", ["far"], embedded=False) as sites:
        yield lambda method: Place("far", method, host="far", ssh_config=str(sites.ssh_config))


@pytest.fixture(params=["local", "stream", "scp"])
def place(request, far):
    return Place("here") if request.param == "local" else far(request.param)


@pytest.fixture
def root(tmp_path):
    for name in ("run/a.zip", "run/log/b", "pax_v1/run.root"):
        file = tmp_path / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "root"


def test_a_look_at_several_paths(place, root):
    (root / "linked").mkdir()
    (root / "linked" / "away").symlink_to(root)
    run, file, nothing, linked = transfer.look(
        place, [str(root / name) for name in ("run", "pax_v1/run.root", "none", "linked")]
    )
    assert run == Look("directory", {"a.zip": 9, "log/b": 9})
    assert file == Look("file", {"run.root": 15})
    assert nothing == Look(None, {})
    assert (linked.kind, linked.files) == ("directory", {})
    assert linked.error


def test_what_is_below_a_root_is_counted_by_every_method(place, root):
    """By it a copy that another program has begun is known to be written to still."""
    (root / "run/link").symlink_to("a.zip")
    (root / "empty").mkdir()
    (root / ".caxflow-quarantine/old").mkdir(parents=True)
    (root / ".caxflow-quarantine/old/a.zip").write_text("a.zip")
    mark("far", {"raw": str(root)})
    for at, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, (at, at), follow_symlinks=False)
    for depth in (1, 2):
        here = transfer.census(Place("here"), str(root), depth)
        found = [each._replace(newest=int(each.newest)) for each in transfer.census(place, str(root), depth)]
        assert found == [each._replace(newest=int(each.newest)) for each in here]
        assert len(found) == {1: 4, 2: 5}[depth]


def test_names_of_what_is_in_a_folder(place, root):
    (root / ".caxflow-trash").mkdir()
    assert transfer.names(place, str(root)) == [".caxflow-trash", "pax_v1", "run"]
    with pytest.raises(CaxflowError, match="none"):
        transfer.names(place, str(root / "none"))


def test_empty_folders_go_up_to_the_root(place, root):
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/kept").touch()
    transfer.prune(place, str(root / "a/b/c"), root=str(root))
    assert [path.name for path in (root / "a").iterdir()] == ["kept"]
    (root / "a/kept").unlink()
    transfer.prune(place, str(root / "a/b"), root=str(root))  # is gone already
    assert not (root / "a").exists()
    transfer.prune(place, str(root / "run"), root=str(root))
    assert (root / "run/a.zip").exists()
    for path in (root, root.parent):
        with pytest.raises(CaxflowError, match="is not below"):
            transfer.prune(place, str(path), root=str(root))


def test_renaming_from_one_root_to_another(place, root, tmp_path):
    other = tmp_path / "other"
    mark(place.site, {"raw": str(other)})
    roots = {"root": str(root), "new_root": str(other)}
    assert transfer.try_rename(place, str(root / "run"), str(other / "sr0" / "run"), **roots)
    assert (other / "sr0/run/log/b").exists()
    assert not (root / "run").exists()
    with pytest.raises(CaxflowError, match="is not below"):
        transfer.try_rename(place, str(root / "pax_v1"), str(root / "x"), **roots)


@pytest.mark.parametrize("what", ["run", "pax_v1/run.root"])
@pytest.mark.parametrize("when", ["before it is asked for", "on the way", "never"])
def test_a_removal_that_begins_too_late_removes_nothing(place, root, monkeypatch, what, when):
    """What let it go was true some time ago: the far end refuses, however late the request comes there."""
    begin_by = time.monotonic() + {"before it is asked for": -1, "on the way": 3, "never": 60}[when]
    late = SftpClient if place.method == "scp" else RemoteEnd if place.remote else LocalEnd
    step = "kind" if place.method == "scp" else "call"
    real = getattr(late, step)

    def held_up(self, asked, **named):
        while asked in ("remove_tree", str(root / what)) and time.monotonic() <= begin_by:
            time.sleep(0.01)
        return real(self, asked, **named)

    if when == "on the way":
        monkeypatch.setattr(late, step, held_up)
    before = sorted((root / what).rglob("*"))
    with pytest.raises(CaxflowError, match="was held up for 6") if when != "never" else nullcontext():
        transfer.remove_tree(place, str(root / what), root=str(root), begin_by=begin_by)
    assert (root / what).exists() == (when != "never")
    assert when == "never" or sorted((root / what).rglob("*")) == before


def test_h7_no_link_below_a_root_is_followed_by_any_method(place, root, tmp_path):
    """The root itself may be one."""
    (tmp_path / "outside/run").mkdir(parents=True)
    (tmp_path / "outside/run/a.zip").write_text("precious")
    (tmp_path / "there").symlink_to(root)
    (root / "deep").symlink_to(tmp_path / "outside")
    mark(place.site, {"raw": str(root)})
    top = str(tmp_path / "there")
    place = replace(place, roots=(top,))
    assert transfer.take_manifest(place, f"{top}/run").size == 18
    copied = transfer.copy(place, f"{top}/run", place, f"{top}/new", root=top)
    assert copied.manifest.size == 18
    within = f"{top}/deep/run"
    calls = {
        "take_manifest": (within,),
        "census": (within,),
        "inventory": (within,),
        "names": (within,),
        "exists": (within,),
        "remove_leftovers": (f"{top}/deep", 0),
    }
    for name, arguments in calls.items():
        with pytest.raises(CaxflowError, match=r"deep is not below .*: it is a symbolic link"):
            getattr(transfer, name)(place, *arguments)
    (look,) = transfer.look(place, [within])
    assert (look.files, "is a symbolic link" in look.error) == ({}, True)
    for one, other in ((within, f"{top}/other"), (f"{top}/run", f"{within}2")):
        with pytest.raises(CaxflowError, match=r"deep is not below .*: it is a symbolic link"):
            transfer.copy(place, one, place, other, root=top)
    assert [path.name for path in (tmp_path / "outside").rglob("*")] == ["run", "a.zip"]
