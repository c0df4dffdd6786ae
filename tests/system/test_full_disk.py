"""B4: the work directory's disk is full, or can only be read: a line says so, and there is no traceback."""

import os
import subprocess
from pathlib import Path

import pytest

import mortal
import needs
from copies import Copies

RUN, NEXT = "160315_1432", "160316_1432"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add(RUN, sites=["lngs"])
        yield copies


def fill(folder):
    """Fill a disk to its last byte."""
    with (folder / "ballast").open("wb", buffering=0) as stream:
        try:
            while stream.write(b"x" * 4096):
                pass
        except OSError:
            return


@pytest.fixture(params=["full", "full before the first call", "read-only"])
def broken(copies, tmp_path, request):
    """Copies whose work directory at midway takes nothing any more."""
    zygote = mortal.Zygote(tmp_path, "onecall")
    with needs.mounted(copies.work("midway"), "-t", "tmpfs", "-o", "size=2m,mode=755", "none"):
        if request.param != "full before the first call":
            done = zygote.call("perform", "all", copies.overrides())
            assert done["status"] == 0, done["said"]
        copies.add(NEXT, sites=["lngs"])
        if request.param == "read-only":
            remount = [needs.tool("mount"), "-o", "remount,ro", str(copies.work("midway"))]
            subprocess.run(remount, check=True)
        else:
            fill(copies.work("midway"))
        yield copies
    zygote.close()


def test_b4_a_work_directory_that_takes_nothing_is_one_line(broken):
    """`snakemake all`, `scrub`, `purge`, and the commands."""
    profile = broken.profile(purge={"after_days": 1, "copies": 1, "processed": False})
    (Path(profile) / "config.yaml").write_text(
        "configfile: caxflow.yaml\ncores: 1\nrerun-triggers: mtime\nnolock: true\ndrop-metadata: true\n"
        "logger: caxflow\n"
    )
    calls = [["snakemake", "--profile", profile, target] for target in ("all", "scrub", "purge")]
    calls += [
        ["caxflow", *words, "--profile", profile] for words in (["status"], ["why", RUN], ["run", "--once"])
    ]
    for command in calls:
        program = [os.sys.executable, "-m", "snakemake"] if command[0] == "snakemake" else None
        program = program or [os.sys.executable, "-m", "caxflow.cli"]
        done = subprocess.run(
            [*program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
        )
        said = done.stdout + done.stderr
        assert "Traceback" not in said, f"{command}: {said}"
        if command[0] == "snakemake":
            assert done.returncode == 1, f"{command}: {said}"
            assert "No space left on device" in said or "Read-only file system" in said, f"{command}: {said}"
    assert not broken.whole("tegner", NEXT)
