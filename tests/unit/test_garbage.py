"""What a test leaves behind fails that test, not one that happens to run when it is collected."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import needs

TESTS = Path(__file__).resolve().parents[1]
BEGINNING = (
    "import subprocess, sys, pytest\n\ndef begin(time='0'):\n    return subprocess.Popen(['sleep', time])\n"
)
LEAVES = {
    "in a cycle": "def test_leaves():\n    a = [begin()]\n    a.append(a)\n",
    "of a fixture": (
        "@pytest.fixture\ndef process():\n    yield begin()\n\ndef test_leaves(process):\n    pass\n"
    ),
    "of a failure": "def test_leaves():\n    process = begin()\n    assert not process\n",
    "of a fixture that fails": (
        "@pytest.fixture\ndef process():\n    a = begin()\n    assert not a\n\n"
        "def test_leaves(process):\n    pass\n"
    ),
    "running, of a fixture that fails": (
        "@pytest.fixture\ndef process():\n    a = begin('600')\n    assert not a\n\n"
        "def test_leaves(process):\n    pass\n"
    ),
    "running": "KEPT = []\n\ndef test_leaves():\n    KEPT.append(begin('600'))\n",
    "running, of a failure": "def test_leaves():\n    process = begin('600')\n    assert not process\n",
    "at once": "def test_leaves():\n    begin()\n",
}


@pytest.mark.parametrize("how", LEAVES)
def test_the_test_at_fault_is_named(tmp_path, how):
    (tmp_path / "conftest.py").write_text(
        "from garbage import _cleared_up, _what_was_there_before, pytest_runtest_makereport\n"
        # What is to be found running runs for ten minutes.
        + "import garbage\ngarbage.PATIENCE = 0.1\n" * ("running" in how)
    )
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n')
    innocent = "def test_innocent_{}():\n    pass\n"
    program = "\n".join([BEGINNING, innocent.format(1), LEAVES[how], innocent.format(2), innocent.format(3)])
    (tmp_path / "test_some.py").write_text(program)
    done = run(tmp_path)
    assert done.returncode == 1, done.stdout
    named = set(re.findall(r"^(?:FAILED|ERROR) test_some\.py::(\w+)", done.stdout, re.MULTILINE))
    assert named == {"test_leaves"}, done.stdout
    assert ("left running: sleep 600" if "running" in how else "subprocess") in done.stdout


def run(folder):
    """Run pytest on `test_some.py` of a folder."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rEF", "test_some.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent / 'workflow'}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_killed_tests_leave_no_mount(tmp_path):
    needs.root()
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "disk").mkdir()
    (tmp_path / "test_some.py").write_text(
        "import os, pathlib, signal\nimport needs\n\n"
        "def test_mounts():\n"
        "    disk = pathlib.Path('disk')\n"
        "    with needs.mounted(disk, '-t', 'tmpfs', 'tmpfs'):\n"
        "        pathlib.Path('seen').write_text(str(disk.resolve().is_mount()))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = run(tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stdout
    assert (tmp_path / "seen").read_text() == "True"
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
