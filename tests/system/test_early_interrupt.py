"""B4: Ctrl-C while a job starts and imports is a line, not a traceback, and the job does not go on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import waiting
from copies import Copies

RUN = "160315_1432"
ROOT = Path(__file__).parents[2]
# Holds a job up at its start, as a slow file system does.
SLOW = """\
import os, sys, time
if ".snakemake/scripts" in " ".join(sys.orig_argv):
    open(os.environ["STARTED"], "w").close()
    while not os.path.exists(os.environ["STARTED"] + ".on"):
        time.sleep(0.01)
"""


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add(RUN, sites=["lngs"])
        yield copies


def test_b4_ctrl_c_while_a_job_imports(copies, tmp_path):
    """`snakemake all`, and Ctrl-C before the job has begun."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text(SLOW)
    started, profile = tmp_path / "started", copies.profile()
    (Path(profile) / "config.yaml").write_text(
        "configfile: caxflow.yaml\ncores: 1\nnolock: true\ndrop-metadata: true\n"
    )
    environment = os.environ | {"STARTED": str(started)}
    environment["PYTHONPATH"] = f"{tmp_path}/slow{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--profile", profile, "all"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        waiting.until(started.exists, "a job that starts")
        os.killpg(process.pid, signal.SIGINT)
        note = copies.work("midway", ".caxflow/interrupted")
        waiting.until(note.exists, "the main process to have taken notice")
        (tmp_path / "started.on").touch()
        said, _ = process.communicate(timeout=120)
    assert "Traceback" not in said, said
    assert "caxflow: interrupted" in said, said
    assert process.returncode == 1
    # The next call goes on, as if nothing had been.
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", profile, "all"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert copies.whole("tegner")
