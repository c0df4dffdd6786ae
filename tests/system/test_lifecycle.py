"""A copy's later life through the real commands: removed on evidence, read again, mended."""

import datetime
import json
import os
import shutil
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


def logins(experiment) -> dict[str, int]:
    """How often one has logged in at each site."""
    logs = experiment.sites.directory.glob("ssh/*.log")
    return {log.stem: log.read_text().count("Accepted publickey") for log in logs}


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

    before = logins(everywhere)
    code, said = everywhere.snakemake("purge", kinds=KINDS, purge=PURGE)
    assert code == 0, said
    new = {site: count - before[site] for site, count in logins(everywhere).items()}
    assert sum(new.values()) > 0
    assert max(new.values()) <= 2, "one to plan it, and one to do it"
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
    assert "nothing is removed without it" in said
    assert "work in hand" not in said
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


MADE = {"kinds": ["raw", "processed", "minitrees"]}


def standing(experiment):
    """Files of all copies, by path; what is made anew is another file."""
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for site in ("lngs", "midway", "tegner")
        for path in experiment.sites[site].root.rglob("*")
        if path.is_file()
    }


def test_without_its_work_directory_a_site_makes_and_moves_nothing_twice(experiment, runs):
    processed = {"version": "mini_v1", "cores": 1}
    midway = {"pull_from": ["lngs"], "push_to": ["tegner"], "processed": processed}
    midway["roots"] = ("raw", "processed", "minitrees")
    (experiment.sites["midway"].root / "minitrees").mkdir()
    experiment.site("midway", **midway, minitrees={"make": ["Basics"]})
    experiment.add_run(runs)
    code, said = experiment.snakemake("all", **MADE)
    assert code == 0, said
    before = standing(experiment)

    shutil.rmtree(experiment.work())
    code, said = experiment.snakemake("all", **MADE)
    assert code == 0, said
    assert "nothing to do at midway" in said
    # More is wanted than there is: only that is made, of what is here.
    shutil.rmtree(experiment.work())
    experiment.site("midway", **midway, minitrees={"make": ["Basics", "Fundamentals"]})
    said = preview(experiment, "all", **MADE)
    assert "make 1 minitrees" in said
    assert "process" not in said.replace("processed", "")
    assert "pull" not in said
    code, said = experiment.snakemake("all", **MADE)
    assert code == 0, said
    assert f"processed files here without a receipt are taken note of: {RUN}" in said
    after = standing(experiment)
    new = {path.name for path in after.keys() - before.keys()}
    assert new == {f"{RUN}_Fundamentals.root"}
    assert {path: after[path] for path in before} == before

    # A copy that was not read again when its receipt was lost is compared where it is.
    shutil.rmtree(experiment.work())
    told = {"data.$.status": "verifying"}
    here = {"type": "raw", "host": HOSTS["midway"]}
    runs.update_one({"name": RUN, "data": {"$elemMatch": here}}, {"$set": told})
    runs.update_many({}, {"$unset": {"caxflow.settled": ""}})
    said = preview(experiment, "all", **MADE)
    assert f"compare {RUN} at midway with lngs, and bring what is missing" in said
    code, said = experiment.snakemake("all", **MADE)
    assert code == 0, said
    receipt = json.loads(experiment.work(f"midway/{RUN}.raw.done").read_text())
    assert (receipt["sent"], receipt["adopted"]) == (0, True)
    assert standing(experiment) == after
    assert entry(runs, "raw", "midway")["status"] == "transferred"


def test_a_purge_takes_processed_files_of_older_versions(experiment, runs):
    processors = {"mini_v1": {"kind": "mini"}, "mini_v2": {"kind": "mini", "pax_version": "v6.9"}}
    config = {"kinds": ["raw", "processed"], "processors": processors}
    midway = {"pull_from": ["lngs"], "push_to": ["tegner"]}
    experiment.site("midway", **midway, processed={"version": "mini_v1", "cores": 1})
    experiment.site("tegner", pull_from=["midway"], roots=["raw"])
    experiment.add_run(runs)
    code, said = experiment.snakemake(f"midway/{RUN}.processed.checksum", **config)
    assert code == 0, said
    experiment.site("midway", **midway, processed={"version": "mini_v2", "cores": 1})
    code, said = experiment.snakemake("all", **config)
    assert code == 0, said
    folder = experiment.sites["midway"].root / "processed"
    old, new = (folder / version / f"{RUN}.root" for version in ("pax_v0.0.1", "pax_v6.9"))
    assert old.exists()
    assert new.exists()
    assert experiment.work(f"midway/pax_v0.0.1/{RUN}.done").exists()

    config |= {"purge": {"superseded_after_days": 0}}
    before = snapshot(experiment.sites.directory), runs.find_one()
    said = preview(experiment, "purge", **config)
    assert "1 processed file to remove at midway" in said
    assert f"remove processed {RUN} of v0.0.1 from midway" in said
    assert "its successor v6.9: midway (read again" in said
    assert (snapshot(experiment.sites.directory), runs.find_one()) == before
    code, said = experiment.snakemake("purge", **config)
    assert code == 0, said
    assert not old.parent.exists()
    assert new.exists()
    assert experiment.raw("midway").exists()
    made = [each["pax_version"] for each in runs.find_one()["data"] if each["type"] == "processed"]
    assert made == ["v6.9"]
    receipt = json.loads(experiment.work(f"midway/pax_v0.0.1/{RUN}.purged").read_text())
    assert [each["location"] for each in receipt["evidence"]] == [str(new)]
    assert not experiment.work(f"midway/pax_v0.0.1/{RUN}.done").exists()
    assert "trash" not in runs.find_one()["caxflow"]["gone"][0]
    code, said = experiment.snakemake("purge", **config)
    assert code == 0, said
    assert "nothing to remove at midway" in said
    # Asked for by its name it is made again, and may go once more.
    code, said = experiment.snakemake(f"midway/pax_v0.0.1/{RUN}.root", **config)
    assert code == 0, said
    assert old.exists()
    code, said = experiment.snakemake("purge", **config)
    assert code == 0, said
    assert not old.exists()
