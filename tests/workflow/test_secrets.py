"""The password of the runs database is nowhere but in the environment."""

import json
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pymongo
import pytest

import thief
from caxflow import credentials
from caxflow.demo.database import DatabaseServer
from caxflow.simulate import simulate_run
from clones import Clone
from copies import mark

SECRET = f"hunter2-{uuid.uuid4()}"


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
    """URI of a server that asks for the password of user reader."""
    folder = tmp_path_factory.mktemp("asking")
    with DatabaseServer(folder, durable=False) as server, pymongo.MongoClient(server.uri) as client:
        client["run"].command("createUser", "reader", pwd=SECRET, roles=["readWrite"])
    with DatabaseServer(folder, durable=False, auth=True) as server:
        yield server.uri.replace("//", "//reader@") + "/run?authSource=run"


def command_lines(stop, seen):
    """Collect the command lines of all processes until told to stop."""
    while not stop.wait(0.02):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.add(path.read_bytes())
            except OSError:
                continue


@pytest.mark.parametrize("password", [SECRET, "wrong-" + SECRET], ids=["right", "wrong"])
def test_it_is_in_no_file_no_message_and_no_command_line(tmp_path, asking, password):
    clone = Clone(tmp_path, asking, "run")
    with pymongo.MongoClient(asking, password=SECRET) as client:
        client.run.runs_new.delete_many({})
        good, broken = clone.document(), clone.document("160315_1433")
        client.run.runs_new.insert_many([good, broken])
        place = Path(good["data"][0]["location"])
        simulate_run(place, good["name"], kind="tpc", number=7, events=8, events_per_file=4)
        stop, seen = threading.Event(), set()
        watcher = threading.Thread(target=command_lines, args=(stop, seen))
        watcher.start()
        said = clone.snakemake("all", profile="lngs", MONGODB_PASSWORD=password)
        stop.set()
        watcher.join()
        documents = str(list(client.run.runs_new.find()))
    assert said.status != 0
    assert any(b"snakemake" in line for line in seen)
    assert not any(SECRET.encode() in line for line in seen)
    assert SECRET not in said.text
    assert SECRET not in documents
    assert "Traceback" not in said.text
    found = subprocess.run(["grep", "-rlF", SECRET, tmp_path], capture_output=True, text=True, check=False)
    assert found.stdout == ""
    if password == SECRET:
        # The good run is registered, the broken one is told with its reason; both stand in receipts and logs.
        assert (clone.work("lngs") / "lngs/160315_1432.raw.done").exists()
        assert "160315_1433" in said.text
        assert list(clone.work("lngs").glob("logs/**/*.log"))
    else:
        assert "MONGODB_PASSWORD" in said.refused()


@pytest.mark.parametrize("way", ["snakemake", "daemon"])
def test_a_processor_beside_the_main_process_gets_none(tmp_path, asking, way):
    clone, loot = Clone(tmp_path, asking, "run"), tmp_path / "loot"
    roots = {kind: str(clone.data / f"lngs/{kind}") for kind in ("raw", "processed")}
    mark("lngs", roots)
    clone.site("lngs", roots=roots, processed={"version": "pax_v6.11.2", "make": True, "cores": 1})
    command = f"{sys.executable} {thief.__file__} {SECRET} {loot} {{input}} {{output}}"
    processor = {"kind": "command", "command": command, "variables": ["PAX_DATA"]}
    clone.configure(
        processors={"mini_v1": {"kind": "mini"}, "pax_v6.11.2": processor}, kinds=["raw", "processed"]
    )
    with pymongo.MongoClient(asking, password=SECRET) as client:
        client.run.runs_new.delete_many({})
        run = clone.document()
        client.run.runs_new.insert_one(run)
        simulate_run(
            Path(run["data"][0]["location"]), run["name"], kind="tpc", number=7, events=8, events_per_file=4
        )
        more = {
            "SSH_AUTH_SOCK": "/tmp/agent",
            "CAXFLOW_WEBHOOK": "https://hooks.example/T1",
            "PAX_DATA": "/d",
        }
        more |= {"MONGODB_PASSWORD": SECRET}
        if way == "daemon":  # which its snakemake asks, and whose environment snakemake has
            more["PYTHONPATH"] = str(clone.folder / "workflow")
            said = clone.run("caxflow", "run", "--once", "--profile", "lngs", **more)
        else:
            said = clone.snakemake("lngs/160315_1432.processed.root", profile="lngs", **more)
        marks = client.run.runs_new.find_one()["data"][0]
    # It wrote no file, which is said; the jobs before it had the database's word.
    assert "wrote no" in said.text, said.text
    assert marks["status"] == "transferred", said.text
    found = json.loads(loot.read_text())
    assert found["own"]["PAX_DATA"] == "/d"
    names = ("MONGODB_PASSWORD", "MONGODB_PASSWORD_FILE", "SSH_AUTH_SOCK", *credentials.NAMES)
    assert not {*names, credentials.SOCKET} & set(found["own"])
    assert found["others"] == []
    assert set(found["asked"]) <= {""}
