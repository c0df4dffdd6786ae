"""Accounts that may write below a root: at any step they exchange a folder for a link."""

import contextlib
import itertools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from caxflow import abilities, transfer
from caxflow.errors import CaxflowError
from caxflow.files import permissions
from caxflow.monitoring.doctor import trials
from caxflow.processing import products
from caxflow.transfer import Place
from copies import mark

_STEPS = {"open", "os.listdir", "os.scandir", "os.fwalk", "os.walk", "os.remove", "os.rmdir", "os.mkdir"}
_STEPS |= {"os.chmod", "os.chown", "os.rename", "os.link", "os.utime", "os.setxattr", "os.truncate"}


class Neighbour:
    """Does something right before the n-th step of a process that has to do with files, by Python's audit."""

    def __init__(self):
        self.act, self.left = None, 0
        sys.addaudithook(self._see)

    def _see(self, event, _):
        if self.act is None or event not in _STEPS:
            return
        self.left -= 1
        if self.left < 0:
            act, self.act = self.act, None
            act()

    def at(self, step, act):
        """Act before a step, counted from 0."""
        self.act, self.left = act, step

    @property
    def acted(self):
        return self.act is None


NEIGHBOUR = Neighbour()


@dataclass
class Scene:
    """A copy two folders below a root, and what is outside: as the copy is, but precious."""

    folder: Path

    def __post_init__(self):
        for place, content in ((self.copy, b"data"), (self.outside / "run", b"precious" * 1000)):
            (place / "sub").mkdir(parents=True)
            for name in ("a.zip", "sub/b.zip"):
                (place / name).write_bytes(content)
                (place / name).chmod(0o600)
        self.source.mkdir()
        (self.source / "a.zip").write_bytes(b"new")
        mark("here", {"raw": str(self.root)})

    @property
    def root(self):
        return self.folder / "raw"

    @property
    def copy(self):
        return self.root / "deep" / "run"

    @property
    def outside(self):
        return self.folder / "outside"

    @property
    def source(self):
        return self.folder / "source"

    @property
    def here(self):
        return Place("here", roots=(str(self.root),))

    def exchange(self, what):
        """Exchange a folder of the copy's path for a link to its counterpart outside."""
        path = self.root / "deep" / what
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_name(f"{path.name}.away") if what else self.root / "away")
            path.symlink_to(self.outside / what)

    def precious(self):
        """Everything outside: its kind and mode, and what is in it."""
        return {
            path: (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
            for path in (self.outside, *sorted(self.outside.rglob("*")))
        }


def _leave(scene):
    left = scene.root / "deep/.new.part-0123abcd-caxflow"
    for place in (left, scene.outside / left.name, scene.root / "deep/.new.part-caxflow"):
        (place / "data").mkdir(parents=True)
        (place / "data/a.zip").write_bytes(b"left")


def _make(scene):
    product = scene.copy / "new.root"
    with products.workshop(product, scene.here.roots) as workshop, contextlib.suppress(FileNotFoundError):
        (workshop.path / product.name).write_bytes(b"made")  # as a program does it
        workshop.publish(product)


MODES = permissions.read({"directories": "0777", "files": "0666"}, "site.yaml")
ACTS = {
    "remove": lambda s: transfer.remove_tree(s.here, s.copy, root=str(s.root)),
    "permissions": lambda s: transfer.permissions(s.here, s.copy, MODES, apply=True),
    "copy": lambda s: transfer.copy(s.here, s.source, s.here, s.copy.with_name("new"), root=str(s.root)),
    "leftovers": lambda s: transfer.remove_leftovers(s.here, s.copy.parent, 0),
    "move": lambda s: transfer.rename(s.here, s.copy, s.copy.with_name("moved"), root=str(s.root)),
    "prune": lambda s: transfer.prune(s.here, s.copy / "none", root=str(s.root)),
    "make": _make,
    "touch": lambda s: transfer.touch(s.here, s.copy / "new", root=str(s.root)),
}


def at_each_step(tmp_path, act, what):
    """Perform an operation with the exchange a step later each time; yield scene and result."""
    with contextlib.suppress(CaxflowError):
        scene = Scene(tmp_path / "first")
        _leave(scene)
        act(scene)  # which imports what it needs
    for step in itertools.count():
        scene, result = Scene(tmp_path / str(step)), None
        _leave(scene)
        before = scene.precious()
        NEIGHBOUR.at(step, lambda scene=scene: scene.exchange(what))
        with contextlib.suppress(CaxflowError):
            result = act(scene)
        over, NEIGHBOUR.act = not NEIGHBOUR.acted, None
        assert scene.precious() == before, f"at step {step}"
        yield scene, result
        if over:
            return


@pytest.mark.parametrize("what", ["", "run", "run/sub"])
@pytest.mark.parametrize("act", ACTS)
def test_h7_what_is_outside_stays_whatever_is_exchanged_meanwhile(tmp_path, act, what):
    steps = sum(1 for _ in at_each_step(tmp_path, ACTS[act], what))
    assert steps > 2


READS = {
    "manifest": lambda s: transfer.take_manifest(s.here, s.copy),
    "look": lambda s: transfer.look(s.here, [s.copy], opened=True)[0],
    "inventory": lambda s: transfer.inventory(s.here, s.copy),
    "census": lambda s: transfer.census(s.here, s.copy),
    "names": lambda s: transfer.names(s.here, s.copy),
    "examine": lambda s: transfer.examine(s.here, s.copy),
}


@pytest.mark.parametrize("what", ["", "run", "run/sub"])
@pytest.mark.parametrize("act", READS)
def test_h7_what_is_outside_is_not_read(tmp_path, act, what):
    """Files outside have sizes that nothing else has, a link's own size included."""
    seen = []
    for _, result in at_each_step(tmp_path, READS[act], what):
        assert not re.search(r"\b(8000|16000)\b", repr(result))
        seen.append(result)
    assert any(seen)


@pytest.mark.parametrize("how", ["link", "folder"])
def test_h7_what_is_published_was_made_in_the_folder_that_was_made_for_it(tmp_path, how):
    """Not what another account has where that folder's path leads now."""
    scene = Scene(tmp_path)
    product = scene.copy / "new.root"
    with contextlib.suppress(CaxflowError), products.workshop(product, scene.here.roots) as workshop:
        (workshop.path / product.name).write_bytes(b"made")
        scene.exchange("run")
        if how == "folder":
            scene.copy.unlink()
            scene.copy.mkdir()
        workshop.path.mkdir()
        (workshop.path / product.name).write_bytes(b"theirs")
        workshop.publish(product)
    assert [path.read_bytes() for path in scene.folder.rglob("new.root")].count(b"theirs") == 1
    assert not product.exists() if how == "link" else product.read_bytes() == b"made"
    away = scene.copy.with_name("run.away")
    assert [path.name for path in away.iterdir() if path.name.startswith(".")] == [], (
        "it cleans up where it was"
    )


def test_h7_what_doctor_tries_it_tries_in_its_own_folder(tmp_path):
    """Another account puts a link to what is like it in its place."""

    def trap(scene):
        for name in ("a", "b"):
            (scene.outside / name).mkdir()
        for name in ("file", "a/file", "b/lock", "second", "b/third"):
            (scene.outside / name).write_bytes(b"precious")
        return scene.precious()

    def exchange(scene):
        for path in scene.copy.glob(".caxflow-doctor-*"):
            path.rename(scene.copy / "away")
            path.symlink_to(scene.outside)

    for step in itertools.count():
        scene = Scene(tmp_path / str(step))
        before = trap(scene)
        NEIGHBOUR.at(step, lambda scene=scene: exchange(scene))
        with contextlib.suppress(OSError):
            trials.refuses(str(scene.copy), abilities.numbers())
        over, NEIGHBOUR.act = not NEIGHBOUR.acted, None
        assert scene.precious() == before, f"at step {step}"
        if over:
            break
    assert step > 20
