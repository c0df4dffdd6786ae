"""Commands for batch systems that have no plugin: what they are told, how their answers are read."""

import json
import os

import pytest

from caxflow.batch import batchsystem
from caxflow.errors import CaxflowError


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """`tools(name, said, code=0)` puts a program on the PATH that notes its arguments and says something."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def make(name, said, code=0):
        stream = "1" if code == 0 else "2"
        path = folder / name
        path.write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/{name}.words\n"
            f"cat >&{stream} <<'END'\n{said}\nEND\nexit {code}\n"
        )
        path.chmod(0o755)
        return lambda: (tmp_path / f"{name}.words").read_text().split("\n")[:-1]

    return make


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "job.sh"
    properties = {"rule": "process_raw", "threads": 3, "resources": {"mem_mb": 4000, "runtime": 95}}
    path.write_text(f"#!/bin/sh\n# properties = {json.dumps(properties)}\ntrue\n")
    return str(path)


@pytest.mark.parametrize(
    ("name", "tool", "answer", "words"),
    [
        ("slurm", "sbatch", "17;cluster", ["--cpus-per-task=3", "--mem=4000", "--time=95", "--no-requeue"]),
        ("sge", "qsub", "17", ["smp", "3", "h_rt=5700", "h_vmem=1334M"]),
        ("pbs", "qsub", "17.server", ["select=1:ncpus=3:mem=4000mb", "walltime=01:35:00"]),
    ],
)
def test_a_job_asks_for_what_its_rule_reserves(tools, script, capsys, name, tool, answer, words):
    asked = tools(tool, answer)
    assert batchsystem.main([name, "submit", script]) == 0
    assert capsys.readouterr().out == f"{answer.split(';')[0]}\n"
    assert set(words) <= set(asked())
    assert asked()[-1] == script


QACCT = "failed {}\nexit_status {}"
PBS = "Job Id: 17\n    job_state = {}\n    Exit_status = {}"
STATES = [
    ("slurm", {"squeue": ("COMPLETED", 0)}, "success"),
    ("slurm", {"squeue": ("RUNNING", 0)}, "running"),
    ("slurm", {"squeue": ("TIMEOUT", 0)}, "failed"),
    ("slurm", {"squeue": ("Unable to contact slurm controller", 1)}, "running"),
    ("slurm", {"squeue": ("Invalid job id specified", 1), "sacct": ("COMPLETED", 0)}, "success"),
    ("slurm", {"squeue": ("Invalid job id specified", 1), "sacct": ("CANCELLED by 0", 0)}, "failed"),
    ("sge", {"qstat": ("17 0.5 x root r 01/01", 0)}, "running"),
    ("sge", {"qstat": ("17 0.5 x root Eqw 01/01", 0)}, "failed"),
    ("sge", {"qstat": ("no contact", 1)}, "running"),
    ("sge", {"qstat": ("", 0), "qacct": (QACCT.format(0, 0), 0)}, "success"),
    ("sge", {"qstat": ("", 0), "qacct": (QACCT.format(100, 137), 0)}, "failed"),
    ("pbs", {"qstat": (PBS.format("R", 0), 0)}, "running"),
    ("pbs", {"qstat": (PBS.format("F", 0), 0)}, "success"),
    ("pbs", {"qstat": (PBS.format("F", 271), 0)}, "failed"),
    ("pbs", {"qstat": ("server is down", 1)}, "running"),
]


@pytest.mark.parametrize(("name", "programs", "status"), STATES)
def test_every_doubt_is_running(tools, capsys, name, programs, status):
    for program, (said, code) in programs.items():
        tools(program, said, code)
    assert batchsystem.main([name, "status", "17"]) == 0
    assert capsys.readouterr().out == f"{status}\n"


def test_a_refused_job_says_what_the_batch_system_said(tools, script, capsys):
    tools("sbatch", "sbatch: error: invalid partition", 1)
    assert batchsystem.main(["slurm", "submit", script]) == 1
    assert "invalid partition" in capsys.readouterr().err


def test_what_is_no_job_script_is_refused(tmp_path):
    (tmp_path / "x").write_text("true\n")
    with pytest.raises(CaxflowError, match="not a job script"):
        batchsystem.read_wanted(tmp_path / "x")
