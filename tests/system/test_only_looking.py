"""L7: ``-n`` and ``dry: true`` change nothing, in any command, whatever an interrupted action has left.

Actions are killed at each of their steps, one run each: so every state is there that one can leave. Then each
command looks at all of them, and every file and every document is what it was.
"""

import datetime
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from caxflow.config import HOME
from caxflow.targets import Run
from copies import SITES, Copies, now

_STATES = 24  # of an action that has more steps
POLICY = {"purge": {"after_days": 1, "copies": 2, "processed": False}, "scrub": {"every_days": 0}}


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


@pytest.fixture
def volume():
    """A folder on another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def name(number):
    return f"1603{number // 24 + 1:02d}_{number % 24:02d}00"


def command(copies, *words, **overrides):
    return "command", [words[0], "--profile", copies.profile(**(POLICY | overrides)), *words[1:]]


def removal(copies, run, volume):
    copies.add(run)
    return command(copies, "rm", run, "--because", "full")


def purge(copies, run, volume):
    copies.add(run)
    return "perform", f"midway/{run}.raw.purged", copies.overrides(**POLICY)


def move(copies, run, volume):
    """Within a root."""
    copies.add(run)
    return command(copies, "mv", run, "--to", str(copies.path("midway").parent / "sr0" / run))


def move_far(copies, run, volume):
    """To another file system: the old files are left until the new ones are proven."""
    copies.add(run)
    old = volume / "raw" / run
    old.parent.mkdir(exist_ok=True)
    shutil.move(copies.path("midway", run), old)
    copies.set("midway", run, location=str(old))
    return command(copies, "mv", run, "--from", str(volume / "raw"))


def copy(copies, run, volume):
    copies.add(run, sites=["lngs"])
    return "perform", f"midway/{run}.checksum", copies.overrides()


def push(copies, run, volume):
    copies.add(run, sites=["lngs", "midway"])
    return "perform", f"tegner/{run}.checksum", copies.overrides()


def condemn(copies, run, volume):
    """A copy that is found bad: told, moved aside, copied anew."""
    copies.add(run)
    copies.spoil("midway", run)
    copies.note("midway", run, verified=now() - datetime.timedelta(days=200))
    return "perform", f"midway/{run}.checksum", copies.overrides()


def drop(copies, run, volume):
    """An entry that points at nothing."""
    copies.add(run)
    shutil.rmtree(copies.path("midway", run))
    return command(copies, "rm", run, "--because", "lost")


def stray(copies, run, volume):
    path = copies.path("midway").parent / f"stray_{run}"
    path.mkdir()
    (path / "a").write_text("a")
    return command(copies, "strays", "--remove", str(path))


ACTIONS = [removal, purge, move, move_far, copy, push, condemn, drop, stray]


def interrupted(copies, zygote, volume, action) -> list[str]:
    """Runs of which each was given up at another step of an action; the last one is done."""
    function, *arguments = action(copies, name(0), volume)
    steps = len(zygote.call(function, *arguments)["steps"])
    runs = [name(0)]
    for step in range(1, steps, max(1, steps // _STATES)):
        runs.append(name(len(runs)))
        function, *arguments = action(copies, runs[-1], volume)
        zygote.call(function, *arguments, die_at=step)  # the first one may have taken more steps
    return runs


def everything(copies, volume) -> dict:
    """Each file's inode, size and times, of contents and of itself, and each document."""
    found = {}
    for folder in [*(copies.folder / site for site in SITES), copies.folder / "work", volume]:
        for path in [folder, *folder.rglob("*")]:
            if ".snakemake" not in path.parts:
                status = path.lstat()
                times = (status.st_mtime_ns, status.st_ctime_ns)
                found[str(path)] = (status.st_mode, status.st_ino, status.st_size, *times)
    database = copies.database._database
    for collection in database.list_collection_names():
        found[collection] = sorted(database[collection].index_information())
        for document in database[collection].find():
            found[f"{collection} {document['_id']}"] = document
    return found


def unlike(before, after):
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def looks(copies, zygote, runs, volume):
    """Every command that takes -n, and those that only look."""
    destinations = [copies.path("midway").parent / "sr0" / run for run in runs]
    listed = zygote.call(*command(copies, "strays", "--json"))["out"]
    strays = [each["path"] for each in json.loads(listed)["strays"] if each["what"] != "there is nothing"]
    yield from (["rm", "-n", *runs], ["rm", "-n", *runs, "--at", "tegner"])
    yield ["rm", "-n", *runs, "--copies", "1"]
    yield from (["mv", "-n", *runs], ["mv", "-n", *runs, "--at", "tegner"])
    yield ["mv", "-n", *runs, "--from", str(volume / "raw")]
    yield from (["mv", "-n", run, "--to", str(to)] for run, to in zip(runs, destinations, strict=True))
    yield from (["strays", "-n", "--remove", path] for path in strays)
    yield from (["strays", "-n"], ["strays", "--permissions"], ["status"], ["status", *runs])
    yield from (["why", *runs], ["why", "--history", *runs], ["rundb", "check"])
    yield from (["rundb", "rebuild"], ["rundb", "rebuild", "--documents"])


def forbidden(copies, zygote, runs, volume):
    """What is not done where the configuration says ``dry: true``: the same without -n, and more."""
    for words in looks(copies, zygote, runs, volume):
        grounds = ["--because", "full"] if words[0] == "rm" else []
        yield [word for word in words if word != "-n"] + grounds
    yield from (["rundb", "init"], ["rundb", "rebuild", "--apply", "--documents"])
    yield from (["doctor"], ["doctor", "--mark-roots"], ["doctor", "--mark-roots", "--replaced", "tegner"])
    yield from (["run", "--once"], ["page", str(copies.folder / "work" / "page")])


@pytest.mark.parametrize("action", ACTIONS)
def test_l7_nothing_is_changed_by_a_preview_nor_where_dry_is_true(copies, zygote, volume, action):
    runs = interrupted(copies, zygote, volume, action)
    for stray_one in [run for run in runs if copies.database.find(Run.parse(run)) is None]:
        copies.add(stray_one)
    for dry, chosen in ((False, looks), (True, forbidden)):
        calls = list(chosen(copies, zygote, runs, volume))
        profile = copies.profile(**POLICY | {"dry": dry})
        calls = [[*words, "--profile", profile] for words in calls]
        before = everything(copies, volume)
        done = zygote.call("commands", calls)
        assert done["status"] == 0, done["said"]
        assert "Traceback" not in done["out"]
        assert unlike(before, everything(copies, volume)) == []
    targets = [
        f"{site}/{run}.{stage}"
        for run in runs
        for site in ("midway", "tegner")
        for stage in ("raw.done", "checksum", "raw.purged")
    ]
    done = zygote.call("previews", ["all", "purge", "scrub", *targets], copies.overrides(**POLICY))
    assert done["status"] == 0, done["said"]
    assert unlike(before, everything(copies, volume)) == []
    for target in ("all", "purge", "scrub", *targets[:3]):
        done = zygote.call("perform", target, copies.overrides(**POLICY | {"dry": True}))
        assert "dry: true in the configuration lets nothing be made" in done["said"]
    assert unlike(before, everything(copies, volume)) == []


CALLS = [["-n", "all"], ["-n", "purge"], ["-n", "scrub"], ["--summary", "all"], ["-n", "report"]]


def test_l7_snakemake_changes_nothing(copies, zygote, volume):
    """The command that users type, over runs that each action has left in its middle."""
    runs = []
    for action in ACTIONS[:-1]:
        runs.append(name(len(runs)))
        function, *arguments = action(copies, runs[-1], volume)
        steps = len(zygote.call(function, *arguments)["steps"])
        runs.append(name(len(runs) + 100))
        function, *arguments = action(copies, runs[-1], volume)
        assert zygote.call(function, *arguments, die_at=max(steps // 2, 1))["status"] < 0
    targets = [f"midway/{run}.raw.purged" for run in runs[1::2]]
    files = {dry: copies.folder / f"dry-{dry}.yaml" for dry in (False, True)}
    for dry, file in files.items():
        file.write_text(yaml.safe_dump(copies.overrides(**POLICY | {"dry": dry})))
    (copies.work() / ".snakemake").mkdir()  # of Snakemake itself
    before = everything(copies, volume)
    for words in [*CALLS, *(["-n", target] for target in targets)]:
        said = snakemake(files[False], *words)
        assert "Traceback" not in said, said
        assert unlike(before, everything(copies, volume)) == [], words
    for words in (["all"], ["purge"], ["scrub"], ["report"], ["-n", "all"]):
        said = snakemake(files[True], *words)
        assert ("dry: true in the configuration lets nothing be made" in said) == (words[0] != "-n"), said
        assert unlike(before, everything(copies, volume)) == [], words


def snakemake(config, *words) -> str:
    options = ["--cores", "1", "--rerun-triggers", "mtime", "--nolock", *words, "--configfile", str(config)]
    command = [sys.executable, "-m", "snakemake", *options]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
