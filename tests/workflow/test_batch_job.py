"""What a batch job does: everything it needs is a file; it never contacts the runs database."""

import contextlib
import datetime
import io
import json
import shutil
import socket
import sys
import threading
import uuid

import pytest
import uproot

import thief
from caxflow import config, receipts
from caxflow.conditions import settings
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.planning import plan
from caxflow.planning.standing import Standings
from caxflow.receipts import statement
from caxflow.simulate import simulate_run
from caxflow.stages import processed
from caxflow.stages.job import Job
from caxflow.targets import Run, Target

RUN = Run("160315_1432")
SECRET = f"hunter2-{uuid.uuid4()}"


@contextlib.contextmanager
def listener():
    """Yield the URI of a database that never answers, and who knocked there."""
    knocks = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()
                    knocks.append(1)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"mongodb://127.0.0.1:{server.getsockname()[1]}/run", knocks
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def prepare(clone, document):
    """Everything that the main process and its local jobs leave for the job: plan, receipts, settings."""
    raw = clone.data / f"midway/raw/{RUN}"
    simulate_run(raw, RUN.name, kind="tpc", number=7, events=8, events_per_file=4, seed=1)
    loaded = config.load({"site": "midway"}, clone.folder / "config")
    now = datetime.datetime(2016, 4, 1)
    plan.make([document], loaded, Standings(loaded, now).decide, now).write(clone.work())
    manifest = take(str(raw))
    target = Target("midway", RUN, "raw.done")
    entry = {"kind": "raw", "host": loaded.here.host, "version": None, "location": str(raw)}
    facts = {"location": str(raw), "bytes": manifest.size, "entry": entry, "manifest": manifest.to_json()}
    receipts.write(clone.work() / str(target), statement(target, **facts))
    receipts.write(clone.work() / f"midway/{RUN}.checksum", manifest.to_sums())
    frozen = settings.freeze(document, processor="mini_v1", pax_version="v0.0.1")
    receipts.write(clone.work() / f"midway/{RUN}.settings.json", frozen)


def as_a_batch_job(clone, **environment):
    """Process the run as Snakemake calls itself inside a job of the batch system."""
    job = f"process_raw:run={RUN},site=midway"
    words = ["--snakefile", str(clone.folder / "workflow/Snakefile"), "--directory", str(clone.work())]
    words += ["--target-jobs", job, "--allowed-rules", "process_raw", "--mode", "remote", "--cores", "1"]
    words += ["--config", "site=midway", "--nolock", "--force", "--ignore-incomplete", "--drop-metadata"]
    return clone.run("snakemake", *words, **environment)


def test_what_start_up_files_set_there_is_shown_to_no_processor(clone, tmp_path):
    loot = tmp_path / "loot"
    command = f"{sys.executable} {thief.__file__} {SECRET} {loot} {{input}} {{output}}"
    processor = {"kind": "command", "command": command, "pax_version": "v0.0.1"}
    prepare(clone, clone.document(at=("lngs", "midway"), _id="id"))
    clone.configure(processors={"mini_v1": processor})
    said = as_a_batch_job(clone, MONGODB_PASSWORD=SECRET)
    assert "wrote no" in said.text
    assert json.loads(loot.read_text())["others"] == []


def test_processing_needs_no_database(clone):
    prepare(clone, clone.document(at=("lngs", "midway"), _id="id"))
    with listener() as (uri, knocks):
        clone.configure(rundb={"uri": uri, "timeout": 1})
        said = as_a_batch_job(clone, MONGODB_PASSWORD="hunter2")
    log = (clone.work() / f"logs/midway/{RUN}.process_raw.log").read_text()
    assert said.status == 0, said.text + log
    assert knocks == []
    link = clone.work() / f"midway/{RUN}.processed.root"
    assert str(link.readlink()) == f"{clone.data}/midway/processed/pax_v0.0.1/{RUN}.root"
    assert uproot.open(link)["tree"].num_entries == 8
    # The main process tells the database: the mark is there.
    pending = [path.name for path in (clone.work() / ".caxflow/pending").iterdir()]
    assert pending == [f"midway.{RUN}.processed.done"]


def test_a_job_without_a_plan_says_what_to_do(clone):
    prepare(clone, clone.document(at=("lngs", "midway"), _id="id"))
    (clone.work() / plan.FILE).unlink()
    with listener() as (uri, knocks):
        clone.configure(rundb={"uri": uri, "timeout": 1})
        words = ["--target-jobs", f"process_raw:run={RUN},site=midway", "--allowed-rules", "process_raw"]
        words += ["--mode", "remote", "--cores", "1", "--config", "site=midway", "--nolock", "--force"]
        said = clone.run("snakemake", *words)
    assert "start the workflow again" in said.refused()
    assert knocks == []


def test_the_root_of_products_is_never_made(clone):
    prepare(clone, clone.document(at=("lngs", "midway"), _id="id"))
    loaded = config.load({"site": "midway"}, clone.folder / "config")
    root = clone.data / "midway/processed"
    shutil.rmtree(root)
    nowhere = clone.data / "nowhere"
    job = Job(loaded, "processed.done", loaded.here, RUN, nowhere, io.StringIO(), work_dir=clone.work())
    with pytest.raises(
        CaxflowError, match=r"/processed, which is to hold the processed data, does not exist"
    ):
        processed.process_raw(job, nowhere)
    assert not root.exists()
    assert job.making
