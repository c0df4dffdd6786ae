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
# Interrupts a program at the import of a module, from the first lines of caxflow on, or at its very end.
INTERRUPT = """\
import atexit, os, signal, sys

at, log = os.environ.pop("INTERRUPT_AT", None), os.environ.pop("INTERRUPT_LOG", None)

def heard(event, arguments):
    if log and event == "import" and "caxflow.signals" in sys.modules:
        with open(log, "a") as file:
            file.write(arguments[0] + chr(10))
        if arguments[0] == at:
            os.kill(os.getpid(), signal.SIGINT)

if log:
    sys.addaudithook(heard)
if at == "the end":
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
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


def interrupted(copies, words, at=""):
    """Call, with Ctrl-C at the import of a module; the exit code in a shell, what was said, all imports."""
    (copies.folder / "early").mkdir(exist_ok=True)
    (copies.folder / "early/sitecustomize.py").write_text(INTERRUPT)
    log = copies.folder / "early/log"
    log.write_text("")
    environment = os.environ | {"INTERRUPT_AT": at, "INTERRUPT_LOG": str(log)}
    environment["PYTHONPATH"] = os.pathsep.join([str(log.parent), str(ROOT / "workflow")])
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return code, done.stdout, list(dict.fromkeys(log.read_text().split()))


@pytest.mark.parametrize("program", ["caxflow.cli status", "snakemake -n all", "snakemake all"])
def test_b4_ctrl_c_at_any_import_and_at_the_end(copies, program):
    """Ctrl-C while `caxflow` or the Snakefile imports, plans, or has just answered."""
    words = [*program.split(), "--profile", copies.profile()]
    code, said, modules = interrupted(copies, words)
    assert code in (0, 1), said  # of status: something is to be done
    own = [each for each in modules if each.startswith("caxflow.")]
    late = [each for each in modules if not each.startswith("caxflow.")]
    for at in [own[0], *own[1::25], *late[:: len(late) // 6], own[-1], "the end"]:
        code, said, _ = interrupted(copies, words, at)
        assert "Traceback" not in said, f"{at}: {said}"
        assert code == 130, f"{at}: {said}"
