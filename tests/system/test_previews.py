"""Previews change nothing: not on this disk, not on that of a site behind SSH, not in the database."""

import datetime
import subprocess

import pytest
import yaml

import mortal
from caxflow.targets import Run, Target
from caxflow.workdir import journal
from experiment import HOSTS, ROOT
from invariants import tree

RUN, NEW = "160315_1432", "160316_0900"
KEPT = {
    "kinds": ["raw"],
    "purge": {"after_days": 1, "copies": 2, "processed": False},
    "scrub": {"every_days": 0},
}


@pytest.fixture
def zygote(experiment):
    zygote = mortal.Zygote(experiment.folder, "onecall")
    yield zygote
    zygote.close()


@pytest.fixture
def busy(experiment, runs, zygote):
    """A run everywhere, with stale evidence and rot; one that is nowhere yet; and things left to be told."""
    experiment.add_run(runs, RUN, events=4, events_per_file=2)
    overrides = {"site": "midway", "sites_dir": str(experiment.folder / "sites")}
    overrides |= {"rundb": {"uri": experiment.uri, "database": experiment.name, "timeout": 5}} | KEPT
    done = zygote.call("perform", "all", overrides)
    assert done["status"] == 0, done
    stale = datetime.datetime(2020, 1, 1)
    tegner = {"name": RUN, "data": {"$elemMatch": {"host": HOSTS["tegner"]}}}
    assert runs.update_one(tegner, {"$set": {"data.$.caxflow.verified": stale}}).modified_count
    file = max(experiment.raw("midway").iterdir(), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[::-1])
    (experiment.raw("midway").parent / "stray").mkdir()
    experiment.add_run(runs, NEW, events=4, events_per_file=2)
    claimed = {"kind": "raw", "host": HOSTS["midway"], "location": str(experiment.raw("midway", NEW))}
    journal.fail(experiment.work(), Target("midway", Run(NEW), "raw.done"), "disk full", entry=claimed)
    profile = experiment.folder / "profile"
    profile.mkdir()
    (profile / "caxflow.yaml").write_text(yaml.safe_dump(overrides))
    (profile / "config.yaml").write_text(yaml.safe_dump({"configfile": "caxflow.yaml"}))
    return experiment


def state(experiment, database) -> dict:
    """All that must stay: files with names, sizes, times and inodes, and every document."""
    places = [*(experiment.sites[site].root for site in ("lngs", "midway", "tegner"))]
    works = [path for path in (experiment.folder / "work").glob("*/*") if path.name != ".snakemake"]
    found: dict = tree(*places, *works)
    for name in database.list_collection_names():
        for document in database[name].find():
            found[f"{name} {document['_id']}"] = document
    return found


def unlike(before: dict, after: dict) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def test_no_preview_changes_anything_anywhere(busy, database, zygote):
    before = state(busy, database)
    for words, said in {
        ("all",): f"pull {NEW} from lngs",
        (f"tegner/{NEW}.checksum",): f"push {NEW} to tegner",
        ("purge",): "midway",
        ("scrub",): "1 copy to read again at midway",
        ("--summary", "all"): f"midway/{NEW}.checksum",
    }.items():
        command = busy.command("all", **KEPT)
        command[command.index("--") :] = ["-n", *words] if words[0] != "--summary" else list(words)
        done = subprocess.run(
            command, cwd=ROOT, env=busy.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout + done.stderr
        assert unlike(before, state(busy, database)) == [], words

    moved = str(busy.raw("midway").parent / "deeper" / RUN)
    for words, said in {
        ("rm", "-n", RUN): "tegner",
        ("rm", "-n", RUN, "--at", "tegner"): "midway",
        ("rm", "-n", NEW): "not in the runs database",
        ("mv", "-n", RUN, "--to", moved): f"would move {busy.raw('midway')} to {moved}",
        ("strays",): "stray",
        ("rundb", "rebuild"): "would be told",
        ("status",): "midway",
        ("why", NEW): NEW,
    }.items():
        done = zygote.call("command", [*words, "--profile", str(busy.folder / "profile")])
        assert done["status"] in (0, 1), done["said"]
        assert said in done["out"] + done["said"], words
        assert unlike(before, state(busy, database)) == [], words
