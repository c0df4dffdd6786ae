"""How far jobs are: readable while they run, forgotten afterwards, never in their way."""

import json
import os
import subprocess
import sys

from caxflow import receipts
from caxflow.targets import Run, Target
from caxflow.workdir import underway

TARGET = Target("midway", Run("160315_1432"), "raw.done")


def test_what_is_told_is_read_until_the_end(tmp_path):
    teller = underway.Teller(tmp_path, TARGET)
    assert underway.read(tmp_path, TARGET) is None
    teller.tell("moving", 40, 100, 20.0)
    state = underway.read(tmp_path, TARGET)
    assert (state.phase, state.done, state.total, state.rate) == ("moving", 40, 100, 20.0)
    # So soon after, nothing is written.
    teller.tell("moving", 60, 100, 20.0)
    assert underway.read(tmp_path, TARGET).done == 40
    teller.end()
    assert underway.read(tmp_path, TARGET) is None
    assert list((tmp_path / ".caxflow/underway").iterdir()) == []


def test_what_a_killed_job_left_is_not_believed(tmp_path):
    script = (
        "import os, pathlib; from caxflow.workdir import underway; from caxflow.targets import Run, Target\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "target = Target('midway', Run('160315_1432'), 'raw.done')\n"
        "underway.Teller(folder, target).tell('moving', 1, 2, 3.0); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == -9
    assert underway.path(tmp_path, TARGET).exists()
    assert underway.read(tmp_path, TARGET) is None
    # Its number may be another process's by now, or this machine may have been rebooted since.
    left = json.loads(underway.path(tmp_path, TARGET).read_text())
    mine = {key: value for key, value in receipts.who().items() if key in left}
    for by, believed in (
        (mine, True),
        (mine | {"started": 1}, False),
        (mine | {"machine": "before the reboot"}, False),
        (mine | {"machine": None}, False),
        (mine | {"machine": "another", "host": "elsewhere"}, True),
    ):
        underway.path(tmp_path, TARGET).write_text(json.dumps(left | by))
        assert (underway.read(tmp_path, TARGET) is not None) is believed
    underway.path(tmp_path, TARGET).write_text(json.dumps(left))
    # Nor does it stay until another process has that number.
    living = Target("tegner", *TARGET[1:])
    underway.Teller(tmp_path, living).tell("moving", 1, 2, 3.0)
    underway.path(tmp_path, TARGET).with_name(".lngs.160315_1432.raw.done.json.4711").touch()
    underway.sweep(tmp_path)
    assert list((tmp_path / ".caxflow/underway").iterdir()) == [underway.path(tmp_path, living)]


def test_damage_is_nothing(tmp_path):
    file = underway.path(tmp_path, TARGET)
    file.parent.mkdir(parents=True)
    for text in ("", "[]", "{}", json.dumps({"phase": "moving"})):
        file.write_text(text)
        assert underway.read(tmp_path, TARGET) is None


def test_a_disk_that_refuses_does_not_end_the_job(tmp_path):
    (tmp_path / ".caxflow").write_text("a file where the folder should be")
    teller = underway.Teller(tmp_path, TARGET)
    teller.tell("moving", 1, 2, 3.0)
    teller.end()
