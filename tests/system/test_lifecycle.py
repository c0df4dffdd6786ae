"""A copy's later life through the real commands: removed on evidence, read again, mended."""

import datetime
import json
import os
import subprocess

import pytest

from experiment import HOSTS, ROOT, entry

RUN = "160315_1432"
PURGE = {"after_days": 30, "copies": 2, "processed": False}
KINDS = ["raw"]


def snapshot(folder):
    """Names, sizes and times of all below a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if ".snakemake" not in path.parts
    }


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def spoil(folder):
    """Change a byte of a copy, keeping size and times; the file's name."""
    file = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    status = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    return file.name


def preview(experiment, *words, **config):
    """What snakemake says of a preview."""
    command = experiment.command(*words, **config)
    command.insert(command.index("--"), "-n")
    done = subprocess.run(
        command, cwd=ROOT, env=experiment.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def everywhere(experiment, runs):
    """An experiment whose run has verified copies at midway and tegner."""
    experiment.add_run(runs)
    code, said = experiment.snakemake("all", kinds=KINDS)
    assert code == 0, said
    return experiment


def age(runs, host, **since):
    """Have a copy's verification be so long ago."""
    when = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(**since)
    data = runs.find_one({"name": RUN})["data"]
    for each in data:
        if each["host"] == HOSTS[host]:
            each.setdefault("caxflow", {})["verified"] = when
    runs.update_one({"name": RUN}, {"$set": {"data": data}})


def test_a_purge_removes_what_is_good_elsewhere(everywhere, runs, database):
    known = contents(everywhere.raw("lngs"))
    before = [snapshot(everywhere.folder), snapshot(everywhere.sites.directory), runs.find_one()]
    said = preview(everywhere, "purge", kinds=KINDS, purge=PURGE)
    assert "1 raw copy to remove at midway" in said
    assert "lngs (is read first: it was never read again from disk)" in said
    assert "tegner (read again" in said
    after = [snapshot(everywhere.folder), snapshot(everywhere.sites.directory), runs.find_one()]
    before[0].pop("midway.config.yaml"), after[0].pop("midway.config.yaml")
    assert after == before

    code, said = everywhere.snakemake("purge", kinds=KINDS, purge=PURGE)
    assert code == 0, said
    assert not everywhere.raw("midway").exists()
    assert list((everywhere.sites["midway"].root / "raw" / ".caxflow-trash").iterdir()) == []
    assert contents(everywhere.raw("lngs")) == contents(everywhere.raw("tegner")) == known
    assert entry(runs, "raw", "midway") is None
    receipt = json.loads(everywhere.work(f"midway/{RUN}.raw.purged").read_text())
    assert sorted(each["site"] for each in receipt["evidence"]) == ["lngs", "tegner"]
    for name in ("raw.done", "checksum"):
        assert not everywhere.work(f"midway/{RUN}.{name}").exists()
    actions = [each["action"] for each in database["caxflow_audit"].find({"run": RUN}).sort("at")]
    assert actions == ["removing", "removed"]
    kept = database["caxflow_audit"].find_one({"run": RUN, "action": "removed"})
    assert kept["entry"]["host"] == HOSTS["midway"]

    # It is not fetched again by itself; asked for by its name it is.
    code, said = everywhere.snakemake("all", kinds=KINDS, purge=PURGE)
    assert code == 0, said
    assert "nothing to do at midway" in said
    code, said = everywhere.snakemake(f"midway/{RUN}.checksum", kinds=KINDS)
    assert code == 0, said
    assert contents(everywhere.raw("midway")) == known
    assert not everywhere.work(f"midway/{RUN}.raw.purged").exists()
    assert entry(runs, "raw", "midway")["status"] == "transferred"
    # And may go once more.
    code, said = everywhere.snakemake("purge", kinds=KINDS, purge=PURGE)
    assert code == 0, said
    assert not everywhere.raw("midway").exists()
