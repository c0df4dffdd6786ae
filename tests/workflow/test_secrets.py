"""The password of the runs database is nowhere but in the environment."""

import subprocess
import threading
from pathlib import Path

import pymongo
import pytest

from caxflow.demo.database import DatabaseServer
from caxflow.simulate import simulate_run
from clones import Clone

SECRET = "hunter2-nowhere-else"


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


@pytest.mark.parametrize("password", [SECRET, "wrong-" + SECRET])
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
