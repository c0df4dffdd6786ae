"""The overview's sums: bytes by site, copies a day, the backlog, what is not proven, reasons in general."""

import datetime
from types import SimpleNamespace

import pytest

from caxflow import documents
from caxflow.page import charts, rows
from caxflow.page.summary import Summary
from caxflow.planning.standing import SETTLED, Standing
from caxflow.targets import Run

NOW = datetime.datetime(2017, 3, 10, 12)
HOUR = datetime.timedelta(hours=1)
HOSTS = {"xe1t-datamanager": "lngs", "midway-login1": "midway"}


@pytest.fixture
def summary():
    sites = {
        name: SimpleNamespace(name=name, host=host, origin=name == "lngs") for host, name in HOSTS.items()
    }
    return Summary(SimpleNamespace(sites=sites, here=sites["midway"]), NOW)


def add(summary, *entries, end=NOW - 48 * HOUR, size=100, state=SETTLED):
    made = {
        "name": "170308_1200",
        "detector": "tpc",
        "end": end,
        "raw_size_byte": size,
        "data": list(entries),
    }
    summary.add(made, Run("170308_1200"), list(documents.copies(made)), Standing("170308_1200", state))


def entry(host, made=NOW - 24 * HOUR, status="transferred", **note):
    place = {"location": "/x", "creation_time": made, "status": status}
    return {"type": "raw", "host": host} | place | {"caxflow": note}


def test_bytes_grow_month_by_month(summary):
    add(summary, entry("midway-login1", datetime.datetime(2017, 1, 5)))
    add(summary, entry("midway-login1", datetime.datetime(2017, 2, 20)), size=50)
    add(summary, entry("midway-login1", datetime.datetime(2017, 3, 2)), size=7)
    add(summary, entry("midway-login1", status="error", error="the disk is full"), size=1000)
    day = datetime.date
    assert summary.growth() == {
        "midway": [
            (day(2017, 1, 1), 0),
            (day(2017, 2, 1), 100),
            (day(2017, 3, 1), 150),
            (day(2017, 3, 10), 157),
            (day(2017, 3, 10), 157),
        ]
    }


def test_backlog_is_what_had_ended_and_was_not_here(summary):
    ended = NOW - 72 * HOUR
    add(summary, entry("xe1t-datamanager"), end=ended)
    add(summary, entry("midway-login1", NOW - 24 * HOUR), end=ended)
    add(summary, entry("midway-login1", NOW - 48 * HOUR), end=ended)
    # One whose copy has no date never counts, one that is still being taken neither.
    add(summary, entry("midway-login1", None), end=ended)
    add(summary, end=None)
    line = [count for _, count in summary.waiting_here()]
    assert line[-5:] == [0, 3, 2, 1, 1]
    assert len(line) == 60


def test_a_transfer_at_work_is_backlog(summary):
    add(summary, entry("midway-login1", None, status="transferring"))
    assert summary.waiting_here()[-1][1] == 1


def test_unverified_copies_and_the_oldest_of_them(summary):
    add(summary, entry("midway-login1", NOW - 100 * HOUR))
    add(summary, entry("midway-login1", NOW - 200 * HOUR, verified=NOW))
    add(summary, entry("xe1t-datamanager", NOW - 300 * HOUR))
    assert summary.unverified == {"midway": {"runs": 1, "bytes": 100}}
    assert summary.oldest["midway"][0] == NOW - 100 * HOUR


@pytest.mark.parametrize(
    "error",
    [
        "170308_1200: lngs: no progress for 60 s after 12.5 GB of /data/raw/170308_1200 -> try again",
        "170309_0001_MV: lngs: no progress for 90 s after 3 GB of /data/raw/170309_0001_MV -> try again",
    ],
)
def test_equal_failures_count_together(error):
    assert rows.reason_of(error) == "lngs: no progress for N s after N GB of …"


@pytest.mark.parametrize("error", [None, "", "170308_1200"])
def test_a_failure_without_a_reason_has_a_name(error):
    assert rows.reason_of(error or "") == "no reason given"


@pytest.mark.parametrize(("value", "step"), [(1, 1), (1.1, 2), (3, 5), (7, 10), (0.03, 0.05), (2000, 2000)])
def test_axes_have_round_steps(value, step):
    assert charts._nice(value) == pytest.approx(step)


def test_pictures_escape_names():
    points = [(datetime.date(2017, 1, 1), 1.0), (datetime.date(2017, 1, 2), 2.0)]
    for drawn in (
        charts.lines({"<b>": points, "x": points}, str, "<i>"),
        charts.bars({"<b>": points, "x": points}, str, "<i>"),
        charts.ranking({"<b>": 1.0}, str, ""),
    ):
        assert "<b>" not in drawn
        assert "<i>" not in drawn
        assert "&lt;b&gt;" in drawn


def test_nothing_to_draw_is_said():
    assert "nothing" in charts.lines({}, str, "x")
    assert "nothing" in charts.bars({}, str, "x")
