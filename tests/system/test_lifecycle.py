"""A copy's later life through the real commands: removed on evidence, read again, mended."""

import datetime
import json
import os
import signal
import subprocess

import pytest

from experiment import HOSTS, ROOT, entry

RUN = "160315_1432"
PURGE = {"after_days": 30, "copies": 2, "processed": False}
KINDS = ["raw"]


def snapshot(folder):
    """Names, sizes and times of all below a folder, but for what sshd writes down of logins."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if ".snakemake" not in path.parts and not (path.suffix == ".log" and path.parent.name == "ssh")
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


def test_a_purge_removes_what_is_good_elsewhere(everywhere, runs, database):
    known = contents(everywhere.raw("lngs"))
    proven = json.loads(everywhere.work(f".caxflow/proofs/midway.{RUN}.checksum.json").read_text())
    assert proven["clock"] == "server"
    read = datetime.datetime.fromisoformat(proven["read"])
    assert entry(runs, "raw", "midway")["caxflow"]["verified"] == read
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
    assert actions[-2:] == ["removing", "removed"]
    assert sorted(actions[:-2]) == ["copied", "copied", "registered", "verified", "verified"]
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


def test_rot_is_found_set_aside_and_mended_from_a_good_copy(everywhere, runs):
    known = contents(everywhere.raw("lngs"))
    victim = spoil(everywhere.raw("midway"))
    before = snapshot(everywhere.sites.directory), runs.find_one()
    said = preview(everywhere, "scrub", kinds=KINDS, scrub={"every_days": 0})
    assert "1 copy to read again at midway" in said
    assert "the longest unread copy: raw 160315_1432" in said
    assert (snapshot(everywhere.sites.directory), runs.find_one()) == before

    code, said = everywhere.snakemake("scrub", kinds=KINDS, scrub={"every_days": 0})
    assert code == 1
    assert f"{victim} has the right size but other contents" in said
    assert not everywhere.raw("midway").exists()
    (aside,) = (everywhere.sites["midway"].root / "raw" / ".caxflow-quarantine").iterdir()
    assert (aside / victim).exists()
    assert entry(runs, "raw", "midway")["status"] == "error"

    code, said = everywhere.snakemake("all", kinds=KINDS)
    assert code == 0, said
    assert contents(everywhere.raw("midway")) == known
    assert entry(runs, "raw", "midway")["status"] == "transferred"
    code, said = everywhere.snakemake("scrub", kinds=KINDS, scrub={"every_days": 0})
    assert code == 0, said

    # The site that a copy was pushed to finds it bad; who pushed it has receipts that say otherwise.
    spoil(everywhere.raw("tegner"))
    code, said = everywhere.snakemake("scrub", site="tegner", kinds=KINDS, scrub={"every_days": 0})
    assert code == 1
    assert everywhere.work(f"tegner/{RUN}.checksum").exists()
    code, said = everywhere.snakemake("all", kinds=KINDS)
    assert code == 0, said
    assert contents(everywhere.raw("tegner")) == known
    assert entry(runs, "raw", "tegner")["status"] == "transferred"


def test_a_purge_that_is_killed_is_completed_by_the_next_call(everywhere, runs):
    purge = {"kinds": KINDS, "purge": PURGE}
    code, said = everywhere.snakemake(
        "purge", **purge, rundb={"uri": "mongodb://127.0.0.1:1", "database": everywhere.name, "timeout": 0.5}
    )
    assert code == 1
    assert "does not answer" in said
    assert everywhere.raw("midway").exists()

    process = everywhere.start("purge", **purge)
    with process:
        while process.poll() is None:
            row = entry(runs, "raw", "midway")
            if row is None or "removing" in row.get("caxflow", {}):
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.communicate()
    for site in ("lngs", "tegner"):
        assert entry(runs, "raw", site)["status"] == "transferred"
    row = entry(runs, "raw", "midway")
    assert row is None or row["status"] != "transferred"
    code, said = everywhere.snakemake("all", **purge)
    assert code == 0, said
    assert not everywhere.raw("midway").exists()
    assert entry(runs, "raw", "midway") is None
    assert list((everywhere.sites["midway"].root / "raw" / ".caxflow-trash").iterdir()) == []
    assert everywhere.work(f"midway/{RUN}.raw.purged").exists()
    assert (
        "removing" not in runs.find_one().get("caxflow", {}) or runs.find_one()["caxflow"]["removing"] == []
    )
