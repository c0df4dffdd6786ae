"""What becomes of a job that fails."""

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
