"""B1: what one run has in the work directory is damaged: that is told in a line, and all other runs go on."""

import datetime
import json
import os
import shutil

import pytest
from test_bad_documents import COMMANDS

from copies import SITES, Copies

GOOD, LATER = "170315_1432", "170316_1432"
HUGE = 3 << 30


def mutate(path, change):
    """Change a JSON file as a program with a fault would, else leave it without sense."""
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError):
        content = {}
    content = content if isinstance(content, dict) else {}
    path.write_text(json.dumps(change(content)))


def instead(path, make):
    path.unlink(missing_ok=True)
    make(path)


def nested(path):
    path.write_text("[" * 100_000)


def directory(path):
    path.mkdir()
    (path / "x").touch()


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 1]),
    "empty": lambda path: path.write_bytes(b""),
    "no JSON": lambda path: path.write_text("not found\n"),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "a list": lambda path: path.write_text("[1]"),
    "nested": nested,
    "huge": lambda path: os.truncate(path, HUGE),
    "words for all": lambda path: mutate(path, lambda content: dict.fromkeys(content, "x")),
    "numbers for all": lambda path: mutate(path, lambda content: dict.fromkeys(content, 1e300)),
    "lists for all": lambda path: mutate(path, lambda content: {name: [[]] for name in content}),
    "nothing for all": lambda path: mutate(path, dict.fromkeys),
    "a directory": lambda path: instead(path, directory),
    "a pipe": lambda path: instead(path, os.mkfifo),
    "a link to itself": lambda path: instead(path, lambda path: path.symlink_to(path)),
}
FILES = {
    "origin's receipt": "lngs/{run}.raw.done",
    "receipt": "midway/{run}.raw.done",
    "proof": "midway/{run}.checksum",
    "other site's receipt": "tegner/{run}.raw.done",
    "other site's proof": "tegner/{run}.checksum",
    "time of a proof": ".caxflow/proofs/midway.{run}.checksum.json",
    "failure": ".caxflow/failures/midway.{run}.raw.done.json",
    "mark": ".caxflow/pending/midway.{run}.raw.done",
    "progress": ".caxflow/underway/midway.{run}.raw.done.json",
    "removal": "midway/{run}.raw.purged",
}
RUNS = {f"1601{day:02}_0100": damage for day, damage in enumerate(DAMAGES, 1)}


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


def condemn(copies, runs):
    """Another site has found the copies at midway bad, and taken them away."""
    for run in runs:
        gone = {"type": "raw", "host": SITES["midway"], "pax_version": None, "why": "suspect"}
        gone |= {"at": copies.database.now(), "token": "other"}
        copies.set("midway", run, status="error", caxflow={"error": "bad", "suspect": {"token": "other"}})
        name, _, _ = run.partition("_MV")
        change = {"$set": {"caxflow.gone": [gone]}, "$unset": {"caxflow.settled": ""}}
        copies.database.runs.update_one({"name": name}, change)
        shutil.rmtree(copies.path("midway", run))


def perform(zygote, target, overrides):
    done = zygote.call("perform", target, overrides)
    assert done["status"] in (0, 1), done["said"]
    said = done["out"] + done["said"]
    assert "Traceback" not in said, said
    assert "unexpected" not in said, said
    return said


@pytest.mark.parametrize("file", FILES)
def test_b1_one_runs_damage_stops_one_run(copies, zygote, file):
    """R condemned by another site, a file about R here damaged; then `all`, `scrub`, `purge`, commands."""
    overrides = copies.overrides(batch_size=1000)
    for run in (*RUNS, GOOD):
        copies.add(run, sites=["lngs"])
    perform(zygote, "all", overrides)
    assert all(copies.whole(site, run) for run in RUNS for site in ("midway", "tegner"))
    condemn(copies, [*RUNS, GOOD])
    for run, damage in RUNS.items():
        path = copies.work("midway", FILES[file].format(run=run))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps({"reason": "x", "attempts": 1, "entry": {"kind": "raw", "token": "x"}})
            )
        DAMAGES[damage](path)
    copies.add(LATER, sites=["lngs"])
    said = perform(zygote, "all", overrides)
    kept = json.loads(copies.work("midway", ".caxflow/plan.json").read_text())["problems"]
    assert copies.whole("midway", GOOD), said
    assert copies.whole("midway", LATER), said
    assert copies.whole("tegner", LATER), said
    for run, damage in RUNS.items():
        if not copies.whole("midway", run):
            told = [line for line in [*said.splitlines(), *kept] if run in line and " -> " in line]
            assert told, f"{file}, {damage}: {said}"
    profile = copies.profile(purge={"after_days": 1, "processed": False}, scrub={"every_days": 0})
    for words in COMMANDS:
        done = zygote.call(
            "command", [*(w.format(folder=copies.folder) for w in words), "--profile", profile]
        )
        assert done["status"] in (0, 1), f"{words}: {done['said']}"
        assert "Traceback" not in done["out"], words
    overrides |= {"purge": {"after_days": 1, "copies": 2, "processed": False}, "scrub": {"every_days": 0}}
    perform(zygote, "scrub", overrides)
    perform(zygote, "purge", overrides)
    assert copies.row("midway", LATER) is None
    assert copies.row("midway", GOOD) is None


@pytest.mark.parametrize("file", ["plan", "scrub", "chores", "notified"])
def test_b1_what_is_no_runs_is_made_anew_or_told(copies, zygote, file):
    """A plan, a list to read, when chores were done, what was told: damaged; then `all` and `scrub`."""
    overrides = copies.overrides(scrub={"every_days": 0}, metrics=str(copies.folder / "x.prom"))
    path = copies.work("midway", f".caxflow/{file}.json")
    for run, damage in RUNS.items():
        if file in ("chores", "notified"):
            path.parent.mkdir(exist_ok=True)
            at = datetime.datetime.now(datetime.UTC).isoformat()
            path.write_text(json.dumps({"scrub": {"at": at, "good": 1}}))
        if path.exists():
            DAMAGES[damage](path)
        copies.add(run, sites=["lngs"])
        said = perform(zygote, "all", overrides) + perform(zygote, "scrub", overrides)
        told = f"{path} cannot be written: Is a directory" in said
        assert copies.whole("tegner", run) or told, (damage, said)
        if path.is_dir():
            shutil.rmtree(path)
        elif file in ("chores", "notified"):
            path.unlink()
