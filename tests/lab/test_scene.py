"""The demo's scene: made once, kept, never two at a time in one place."""

import contextlib
import dataclasses
import socket

import pymongo
import pytest
import yaml

from caxflow.config import HOME
from caxflow.demo import scene as scenes
from caxflow.demo.scene import Scene
from caxflow.errors import CaxflowError


@pytest.fixture(autouse=True)
def few_events(monkeypatch):
    small = tuple(dataclasses.replace(r, events=3, events_per_file=2) for r in scenes.RECIPES)
    monkeypatch.setattr(scenes, "RECIPES", small)


@pytest.fixture
def scene(tmp_path, require):
    require("sshd")
    with Scene(tmp_path / "demo-data") as running:
        yield running


def test_runs_are_made_once_and_known_to_the_database(scene):
    said = []
    scene.simulate(said.append)
    scene.register()
    assert len(said) == 3
    raw = scene.raw(scenes.RECIPES[0].run)
    before = {path.name: path.stat().st_mtime_ns for path in raw.iterdir()}
    with pymongo.MongoClient(scene.database.uri) as client:
        client.run.runs_new.update_one({"number": 1432}, {"$set": {"comments": ["seen"]}})
        scene.simulate(said.append)
        scene.register()
        documents = list(client.run.runs_new.find({}, {"_id": 0, "name": 1, "detector": 1, "comments": 1}))
    assert len(said) == 3
    assert {path.name: path.stat().st_mtime_ns for path in raw.iterdir()} == before
    assert len(documents) == 3
    assert documents[0]["comments"] == ["seen"]


def test_a_half_written_run_is_written_anew(scene):
    run = scenes.RECIPES[0].run
    partial = scene.raw(run).with_name(f".{run}.part")
    partial.mkdir(parents=True)
    (partial / "rubbish").write_text("cut short")
    scene.simulate(lambda _: None)
    assert not partial.exists()
    assert not (scene.raw(run) / "rubbish").exists()


def test_only_one_demo_at_a_time(scene):
    second = Scene(scene.directory)
    with pytest.raises(CaxflowError, match=r"a demo is running already in .* -> use that one"):
        second.__enter__()


def test_data_that_were_moved_are_not_used(scene, tmp_path):
    scene.simulate(lambda _: None)
    scene.register()
    scene.__exit__()
    scene.directory.rename(tmp_path / "moved")
    with Scene(tmp_path / "moved") as moved:
        moved.simulate(lambda _: None)
        with pytest.raises(
            CaxflowError, match=r"were made in .*demo-data, and moved since -> run `make clean`"
        ):
            moved.register()


def test_a_taken_port_is_no_obstacle(tmp_path, require):
    require("sshd")
    with socket.socket() as occupant:
        # Another demo on this machine may hold it already: then it is taken just as well.
        with contextlib.suppress(OSError):
            occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            occupant.bind(("127.0.0.1", scenes.PORT))
            occupant.listen()
        with Scene(tmp_path / "demo-data") as running:
            assert not running.database.uri.endswith(f":{scenes.PORT}")
            profile = running.directory / "profiles" / "snakemake" / "demo" / "caxflow.yaml"
            assert yaml.safe_load(profile.read_text())["rundb"]["uri"] == running.database.uri


def test_the_profile_says_the_port_that_the_scene_prefers():
    stated = yaml.safe_load((HOME / "profiles" / "demo" / "caxflow.yaml").read_text())
    assert stated["rundb"]["uri"] == f"mongodb://127.0.0.1:{scenes.PORT}"
