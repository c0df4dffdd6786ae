"""What becomes of a job that fails, and of one whose main process has ended."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from caxflow import receipts
from caxflow.errors import CaxflowError, Overrun
from caxflow.stages import job as stages_job
from caxflow.stages.job import Job
from caxflow.targets import Run
from caxflow.workdir import journal


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (CaxflowError("the zips hold 3 events"), True),
        (KeyError("a mistake of ours"), True),
        (Overrun("killed"), False),
        (MemoryError("Unable to allocate 1 GB"), False),
    ],
)
def test_only_what_more_memory_or_time_may_mend_is_tried_again(tmp_path, error, final):
    def work(_job):
        raise error

    site = SimpleNamespace(name="midway")
    with (tmp_path / "log").open("w") as log:
        job = Job(None, "processed.done", site, Run("160315_1432"), tmp_path / "done", log, work_dir=tmp_path)
        job.plan = SimpleNamespace(main=receipts.who())
        reason = stages_job._attempt(work, job, batch=True)
    assert str(error) in reason
    assert journal.failure(tmp_path, job.target)["final"] is final


def test_u3_what_a_program_said_survives_that_its_group_is_restarted(tmp_path):
    """Snakemake restarts a group as a whole, and begins the logs of all its jobs anew."""

    def work(job):
        job.log.write("Traceback\nZeroDivisionError: division by zero\n")
        raise CaxflowError("python exited with 1", f"read {job.log.name}")

    site = SimpleNamespace(name="midway")
    for again in (False, True):
        with (tmp_path / "log").open("w") as log:
            job = Job(
                None, "processed.done", site, Run("160315_1432"), tmp_path / "x", log, work_dir=tmp_path
            )
            job.plan = SimpleNamespace(main=receipts.who())
            reason = stages_job._final(job) if again else stages_job._attempt(work, job, batch=True)
        assert "python exited with 1" in reason
        kept = (tmp_path / "log").read_text()
        assert "ZeroDivisionError: division by zero" in kept
        assert ("not tried again" in kept) is again


SAYS = """\
import json, sys
from caxflow import receipts
print(json.dumps(receipts.who()), flush=True)
sys.stdin.read()
"""
WATCHES = """\
import json, sys
from caxflow.stages.job import end_with
end_with(json.loads(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def python(program, *words):
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("collected", [True, False])
def test_a_job_ends_when_its_main_process_has(collected):
    """Also if that was killed and nothing collects it, as in a container whose first process is a program."""
    with python(SAYS) as main:
        who = main.stdout.readline()
        with (
            python(WATCHES, who) as job,
            python(WATCHES, json.dumps(json.loads(who) | {"machine": "x"})) as far,
        ):
            assert job.stdout.readline() == far.stdout.readline() == "ready\n"
            assert job.poll() is None
            main.kill()
            os.waitid(os.P_PID, main.pid, os.WEXITED | (0 if collected else os.WNOWAIT))
            assert job.wait(60) == -signal.SIGTERM
            assert far.poll() is None
            far.communicate()
