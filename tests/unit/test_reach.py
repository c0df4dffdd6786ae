"""How a job reaches a site, within what its site's file and Snakemake allow, and what it says meanwhile."""

import io
from pathlib import Path
from types import SimpleNamespace

from caxflow.config import Access, Site, reach
from caxflow.stages import job as stage
from caxflow.stages.job import Job
from caxflow.targets import Run
from caxflow.transfer import Progress


def site(name, **access):
    return Site(name=name, host=f"{name}-host", access=Access(**access), roots={})


HERE = site("midway", method="stream", host="midway")
FAR = site("far-away", method="stream", host="far", bandwidth=2.5)
FIRM = site("firm", method="scp", host="firm", connections=3)
DISK = site("disk", method="local")


def place(there, **resources):
    settings = SimpleNamespace(here=HERE)
    job = Job(
        settings, "raw.done", HERE, None, Path("output"), None, work_dir=Path("/work"), resources=resources
    )
    return job.place(there)


def test_copies_share_the_bandwidth_of_a_site():
    assert place(FAR).bandwidth == 2_500_000
    assert place(FAR).ledger == "/work/.caxflow/bandwidth.far-away"
    assert place(FIRM).bandwidth is None


def test_a_copy_opens_no_more_connections_than_it_was_given():
    assert reach.resource(FAR) == "connections_far_away"
    assert [reach.connections(each) for each in (FAR, FIRM)] == [8, 3]
    assert place(FAR).connections is None, "as many as the distance asks for"
    assert place(FAR, connections_far_away=8, transfers=1).connections is None
    assert place(FAR, connections_far_away=5).connections == 5
    assert place(FIRM, connections_firm=3).connections == 3
    assert place(FIRM, connections_firm=2).connections == 2
    assert [reach.is_far(SimpleNamespace(here=HERE), each) for each in (HERE, FAR, DISK)] == [
        False,
        True,
        False,
    ]


def test_the_log_tells_every_ten_seconds_how_far_a_copy_is(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(stage.time, "monotonic", lambda: now)
    log = io.StringIO()
    job = Job(None, "raw.done", HERE, Run("160315_1432"), Path("output"), log, work_dir=tmp_path)
    for second in range(25):
        now = 1000.0 + second
        job.report(Progress("moving", second * 10**8, 41 * 10**9, 10**8 if second else 0, 0, 1, second))
    assert [line.split(" ", 2)[2] for line in log.getvalue().splitlines()] == [
        "moving: 0 B of 41.0 GB, 0 B/s",
        "moving: 1.1 GB of 41.0 GB, 100.0 MB/s, 6 min 39 s left",
        "moving: 2.2 GB of 41.0 GB, 100.0 MB/s, 6 min 28 s left",
    ]
