"""Previews change nothing: not on this disk, not on that of a site behind SSH, not in the database."""

import datetime
import os
import subprocess

import pytest
import yaml

import mortal
from caxflow.targets import Run, Target
from caxflow.workdir import journal, lock
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


# Options of Snakemake with which no job is done as jobs are done.
REFUSED = {
    "--touch": [],
    "-kt": [],
    "-t": ["-n"],
    "--tou": [],
    "--executor=touch": [],
    "--delete-all-output": [],
    "--delete-all": ["-n"],
    "--delete-temp-output": [],
    "--all-temp": [],
    "--directory": ["."],
    "--export-cwl": ["x.cwl"],
    "--trust-io-cache": ["-n"],
    "--archive": ["x.tar.gz"],
    "--generate-unit-tests": [],
    "--draft-notebook": [f"midway/{NEW}.raw.done"],
    "--edit-notebook": [f"midway/{NEW}.raw.done"],
}
LOOKS = [
    "--dag",
    "--rulegraph",
    "--filegraph",
    "--d3dag",
    "--summary",
    "--detailed-summary",
    "--list-rules",
    "--list-target-rules",
    "--list-changes=input",
    "--list-input-changes",
    "--list-params-changes",
    "--list-untracked",
    "--print-compilation",
    "--lint",
    "--unlock",
    "--cleanup-shadow",
    "--dry-run",
]
# They need conda, or a file's metadata, which may not be there.
FAILING = ["--containerize", "--list-conda-envs", "--conda-cleanup-envs", "--cleanup-metadata=x"]


@pytest.fixture
def held(busy):
    """The work directory, whose lock another call holds."""
    handle = lock.take(busy.work(".caxflow/lock"), AssertionError)
    yield busy
    os.close(handle)


def mode(busy, *words):
    command = busy.command("all", **KEPT)
    command[command.index("--") :] = words
    return subprocess.run(
        command,
        cwd=busy.folder,
        env=busy.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_s8_s9_modes_that_do_no_jobs_are_refused_or_only_look(held, database):
    """`snakemake --touch all`, `--delete-all-output` and the others, while another call is at work."""
    snakefile = ["--snakefile", str(ROOT / "workflow/Snakefile")]
    before = state(held, database)
    for option, more in REFUSED.items():
        done = mode(held, *snakefile, option, *more)
        said = [line for line in done.stderr.splitlines() if line.startswith("caxflow: --")]
        assert (done.returncode, len(said)) == (1, 1), (option, done.stdout + done.stderr)
        assert "Traceback" not in done.stderr
        assert unlike(before, state(held, database)) == [], option
    for option in LOOKS + FAILING:
        done = mode(held, *snakefile, option, "--", "all")
        assert "Traceback" not in done.stderr, (option, done.stderr)
        assert "another workflow" not in done.stderr, (option, done.stderr)
        assert " done" not in done.stdout.replace("raw.done", "").replace("processed.done", ""), option
        assert unlike(before, state(held, database)) == [], option
        assert done.returncode == 0 or option in FAILING, (option, done.stdout + done.stderr)


def test_s8_a_profile_that_touches_is_refused(held, database):
    """`touch: true` in the config.yaml of a profile."""
    profile = held.folder / "profile"
    (profile / "config.yaml").write_text("configfile: caxflow.yaml\ncores: 1\ntouch: true\n")
    before = state(held, database)
    done = mode(held, "--snakefile", str(ROOT / "workflow/Snakefile"), "--profile", str(profile), "all")
    assert (done.returncode, "caxflow: --touch would" in done.stderr) == (1, True), done.stderr
    assert unlike(before, state(held, database)) == []
