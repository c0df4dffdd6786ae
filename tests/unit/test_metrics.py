"""Metrics: the text that node_exporter's collector reads."""

import re
from types import SimpleNamespace

import pytest

from caxflow import receipts
from caxflow.errors import CaxflowError
from caxflow.monitoring import metrics
from caxflow.targets import Run, Target
from caxflow.workdir import journal

LINE = re.compile(r'caxflow_[a-z_]+\{([a-z_]+="(?:[^"\\\n]|\\.)*"(,|(?=\})))*\} [-+0-9.e]+')


@pytest.fixture
def settings(tmp_path):
    here = SimpleNamespace(name="midway", roots={"raw": str(tmp_path), "processed": "/not/there"})
    return SimpleNamespace(here=here, attempts=2)


def lines(path):
    return path.read_text().splitlines()


def test_says_how_it_stands(tmp_path, settings):
    counts = {"actionable": 200, "left": 4800, "waiting": 3, "problems": 0}
    receipts.write(tmp_path / ".caxflow" / "plan.json", {"counts": counts})
    for run, times in (("160315_1432", 1), ("160315_1433", 2), ("160315_1434", 3)):
        for _ in range(times):
            journal.fail(tmp_path, Target("midway", Run(run), "raw.done"), "the disk is full")
    file = tmp_path / "textfile" / "caxflow.prom"
    metrics.write(file, settings, tmp_path, waiting=7, reached=True, now=1488369600.25)
    found = lines(file)
    for line in (
        'caxflow_rundb_up{site="midway"} 1',
        'caxflow_facts_pending{site="midway"} 7',
        'caxflow_report_time_seconds{site="midway"} 1488369600.25',
        'caxflow_runs_left{site="midway"} 4800',
        'caxflow_failures{site="midway",stage="raw.done",final="false"} 1',
        'caxflow_failures{site="midway",stage="raw.done",final="true"} 2',
    ):
        assert line in found
    assert any(line.startswith('caxflow_disk_free_bytes{site="midway",kind="raw"} ') for line in found)
    assert 'kind="processed"' not in file.read_text()


def test_every_line_is_of_the_format(tmp_path, settings):
    settings.here.name = 'mid"way\\\n'
    metrics.write(tmp_path / "x.prom", settings, tmp_path, waiting=0, reached=False, now=1.0)
    text = (tmp_path / "x.prom").read_text()
    assert text.endswith("\n")
    values = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in values)
    # One HELP and one TYPE a metric, before its values.
    named = re.findall(r"^# TYPE (\w+) gauge$", text, re.MULTILINE)
    assert named == list(dict.fromkeys(line.partition("{")[0] for line in values))


def test_is_replaced_at_once(tmp_path, settings):
    file = tmp_path / "x.prom"
    for now in (1.0, 2.0):
        metrics.write(file, settings, tmp_path, waiting=0, reached=True, now=now)
    assert 'caxflow_report_time_seconds{site="midway"} 2' in lines(file)
    assert file.stat().st_mode & 0o777 == 0o644
    with pytest.raises(CaxflowError):
        metrics.write(tmp_path, settings, tmp_path, waiting=0, reached=True, now=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]


def test_folder_that_cannot_be_made_is_one_line(tmp_path, settings):
    (tmp_path / "file").touch()
    with pytest.raises(CaxflowError, match="cannot be written"):
        metrics.write(tmp_path / "file" / "x.prom", settings, tmp_path, waiting=0, reached=True, now=1.0)
