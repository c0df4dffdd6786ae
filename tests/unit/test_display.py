"""What a workflow shows: one line a finished or failed job, and on a terminal how far all is."""

import io
import logging
import re

import pytest
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent

from caxflow import receipts
from caxflow.monitoring.display import Display
from caxflow.planning.facts import Facts
from caxflow.planning.plan import Plan
from caxflow.targets import Target
from caxflow.workdir import journal, underway
from caxflow.workdir.underway import Teller
from operators import RUN, fail
from snakemake_logger_plugin_caxflow import LogHandler

DONE = f"midway/{RUN}.raw.done"
COPY = Target("midway", RUN, "raw.done")


@pytest.fixture(autouse=True)
def work_dir(tmp_path, monkeypatch):
    """A work directory in which Snakemake would be, with a plan of one copy."""
    monkeypatch.chdir(tmp_path)
    facts = Facts(str(RUN), size=2_000_000)
    facts.source["raw"]["midway"] = "lngs"
    Plan("midway", {str(RUN): facts}).write(tmp_path)
    return tmp_path


class Terminal(io.StringIO):
    def isatty(self):
        return True


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """What a handler leaves in the environment, for jobs, ends with the test."""
    monkeypatch.setenv(underway.SHOWN, "1")


@pytest.fixture
def shown():
    """A display that is no terminal, and what it says without the times."""
    stream = io.StringIO()
    display = Display(stream, live=False, colour=False)
    display.expect({"copy_raw": 1, "verify_raw": 1, "all": 1, "total": 3})
    return display, lambda: [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in stream.getvalue().splitlines()]


def test_a_line_a_job_and_a_sum(shown, work_dir):
    receipts.write(work_dir / DONE, {"sent": 2_000_000})
    display, said = shown
    display.start(1, "copy_raw", "pull it from lngs", [DONE])
    display.finish(1)
    display.start(2, "verify_raw", "verify it", [f"midway/{RUN}.checksum"])
    display.finish(2)
    display.start(0, "all", None, [])
    display.finish(0)
    display.sum_up()
    assert said()[:2] == ["done   pull it from lngs [1/2]", "done   verify it [2/2]"]
    assert re.fullmatch(r"2 of 2 jobs done for 1 run, 2\.0 MB moved at .*/s, \d+ s", said()[2])
    assert len(said()) == 3


@pytest.mark.parametrize(("sent", "moved"), [(0, ""), (500_000, r", 500\.0 kB moved at .*/s")])
def test_only_what_was_sent_has_moved(shown, work_dir, sent, moved):
    display, said = shown
    receipts.write(work_dir / DONE, {"sent": sent})
    display.start(1, "copy_raw", "pull it from lngs", [DONE])
    display.finish(1)
    display.sum_up()
    assert re.fullmatch(rf"1 of 2 jobs done for 1 run{moved}, \d+ s; 1 job not run: .*", said()[-1])


def test_the_rate_counts_the_time_in_which_something_moves(shown, work_dir, monkeypatch):
    display, said = shown
    receipts.write(work_dir / DONE, {"sent": 2_000_000})
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("caxflow.monitoring.display.time.monotonic", lambda: next(clock))
    display.start(1, "copy_raw", "pull it from lngs", [DONE])
    display.start(2, "copy_raw", "pull it from lngs", [DONE])
    display.finish(1)
    display.finish(2)
    moving = display._moving
    display.start(3, "verify_raw", "verify it", [f"midway/{RUN}.checksum"])
    display.finish(3)
    assert display._moving == moving > 0
    display.sum_up()
    assert f"4.0 MB moved at {4000 / moving:.1f} kB/s" in said()[-1]


def test_a_job_that_makes_no_target_fails_for_what_its_log_ends_with(shown, work_dir):
    display, said = shown
    (work_dir / "scrub.log").write_text("2016-03-15 12:00:00 1 copy bad, or not to be read: it differs\n")
    display.start(1, "scrub", "read copies again", [])
    display.fail(1, "scrub", [], None, "scrub.log")
    assert said() == ["FAILED read copies again: 1 copy bad, or not to be read: it differs -> see scrub.log"]


def test_a_preview_counts_a_scrub(shown):
    display, said = shown
    display.sum_up_preview({"scrub": 1, "total": 1})
    assert said() == ["1 job: 1 scrub"]


def test_a_job_that_succeeded_later_is_not_the_one_to_ask_about(shown):
    display, said = shown
    other = "midway/160315_1433.raw.done"
    for job, made in ((1, DONE), (2, other)):
        display.start(job, "copy_raw", "pull it from lngs", [made])
        display.fail(job, "copy_raw", [made], "cut off", "")
    display.start(1, "copy_raw", "pull it from lngs", [DONE])
    display.finish(1)
    display.sum_up()
    assert "; 1 failed: `caxflow why 160315_1433` tells more" in said()[-1]


def test_the_reason_is_the_job_s_own(shown, work_dir):
    display, said = shown
    display.start(1, "copy_raw", "pull it from lngs", [DONE])
    fail(work_dir, "midway", "raw.done", "lngs: disk on fire -> call the brigade")
    display.fail(1, "copy_raw", [DONE], None, "logs/it.log")
    display.sum_up("/the/whole.log")
    assert said()[0] == "FAILED pull it from lngs: lngs: disk on fire -> call the brigade"
    assert said()[1].startswith("0 of 2 jobs done")
    assert "; 1 failed, so 1 other was not run: `caxflow why 160315_1432` tells more" in said()[1]
    assert said()[2] == "all that Snakemake said: /the/whole.log"


def test_an_old_failure_is_not_taken_for_the_reason(shown, work_dir):
    display, said = shown
    fail(work_dir, "midway", "raw.done", "of yesterday")
    display.start(1, "copy_raw", "pull it", [DONE])
    display.fail(1, "copy_raw", [DONE], "SLURM-job '7' failed, SLURM status is:\n'TIMEOUT'", "logs/it.log")
    assert said() == ["FAILED pull it: SLURM-job '7' failed, SLURM status is: 'TIMEOUT' -> see logs/it.log"]


def test_a_job_that_was_killed_points_to_its_log(shown):
    display, said = shown
    display.start(1, "copy_raw", "pull it", [DONE])
    display.fail(1, "copy_raw", [DONE], None, "logs/it.log")
    assert said() == ["FAILED pull it: it was ended before it could say why -> see logs/it.log"]


def test_what_fails_in_a_group_is_told_once(shown):
    display, said = shown
    display.start(1, "process_raw", "process it", [f"midway/{RUN}.processed.root"])
    for _ in ("the job", "its group"):
        display.fail(1, "process_raw", [f"midway/{RUN}.processed.root"], None, "a.log")
    assert said() == ["FAILED process it: it was ended before it could say why -> see a.log"]


def test_an_interrupted_job_says_so(shown, work_dir):
    display, said = shown
    (work_dir / "it.log").write_text(f"1 GB of 2 GB\n2016-03-15 12:00:00 {underway.INTERRUPTED}\n")
    display.start(1, "copy_raw", "pull it", [DONE])
    display.fail(1, "copy_raw", [DONE], None, "it.log")
    display.sum_up()
    assert said()[0] == "halted pull it: interrupted; the next call goes on from here"
    assert said()[1].endswith("; 2 jobs not run: the next call goes on from here")


def test_a_retry_that_succeeds_is_no_failure(shown):
    display, said = shown
    display.start(1, "copy_raw", "pull it", [DONE])
    display.fail(1, "copy_raw", [DONE], "lost", "")
    display.start(1, "copy_raw", "pull it", [DONE])
    display.finish(1)
    display.sum_up()
    assert "failed" not in said()[-1]


def test_nothing_that_a_document_says_is_markup(shown):
    display, said = shown
    display.start(1, "copy_raw", "pull [bold]it[/bold] :smile:", [])
    display.finish(1)
    assert said() == ["done   pull [bold]it[/bold] :smile: [1/2]"]


def test_bytes_rate_and_time_left_on_a_terminal(work_dir, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    display = Display(stream, live=True, colour=False)
    display.expect({"copy_raw": 1, "all": 1, "total": 2})
    display.start(1, "copy_raw", "pull it from lngs", [DONE])
    Teller(work_dir, COPY).tell("moving", 500_000, 2_000_000, 100_000.0)
    paper = io.StringIO()
    Console(file=paper, width=100).print(display._at_work())
    job, everything = paper.getvalue().splitlines()
    assert re.search(r"pull it from lngs .* 25 % 100\.0 kB/s 15 s left", job)
    assert everything == "0 of 1 job · 500.0 kB of 2.0 MB · 100.0 kB/s · copies done in 15 s"
    receipts.write(work_dir / DONE, {"sent": 2_000_000})
    display.finish(1)
    display.sum_up()
    # The cursor is back, and the last line is the sum.
    assert stream.getvalue().count("\x1b[?25h") == stream.getvalue().count("\x1b[?25l") == 1
    assert plain(stream.getvalue()).splitlines()[-1].startswith("1 of 1 job done for 1 run, 2.0 MB moved")


@pytest.mark.parametrize("moving", [False, True])
def test_a_job_s_words_have_the_room_that_is_left(work_dir, monkeypatch, moving):
    monkeypatch.setenv("COLUMNS", "80")
    display = Display(io.StringIO(), live=True, colour=False)
    text = "verify the processed file of 160315_1432_MV at tegner"
    display.start(1, "verify_processed", text, [DONE])
    if moving:
        Teller(work_dir, COPY).tell("moving", 500_000, 2_000_000, 100_000.0)
    paper = io.StringIO()
    Console(file=paper, width=80).print(display._at_work())
    display.close()
    job, _ = paper.getvalue().splitlines()
    assert len(job.rstrip()) <= 80
    assert (text in job) != moving
    assert ("s left" in job) == moving


class Settings:
    """What Snakemake tells a plugin."""

    printshellcmds = nocolor = debug_dag = verbose = show_failed_logs = stdout = dryrun = False
    quiet = None


def record(event=None, msg="", level=logging.INFO, **extra):
    made = logging.LogRecord("snakemake", level, "", 0, msg, None, None)
    made.__dict__.update({"event": event} | extra if event else extra)
    return made


def job(**keys):
    return {"jobid": 1, "rule_name": "copy_raw", "rule_msg": "pull it", "output": [DONE], "log": []} | keys


NOISE = (
    record(msg="Building DAG of jobs..."),
    record(msg="Select jobs to execute..."),
    record(msg="Provided remote nodes: 4"),
    record(msg="Submitted group job 833117d2-0341 with external jobid '21798'."),
    record(msg=None),
    record(
        LogEvent.ERROR,
        "RuleException:\nCalledProcessError in file \"x.smk\", line 17:\nCommand 'set -euo pipefail; …'",
        logging.ERROR,
        exception="RuleException",
    ),
    record(LogEvent.SHELLCMD, "Shell command: None", shellcmd=None),
    record(LogEvent.PROGRESS, None, done=1, total=2),
    record(msg="Exiting because a job execution failed. Look above for error messages", level=logging.ERROR),
)


def test_the_plugin_shows_jobs_and_keeps_the_noise_back(capsys, work_dir):
    handler = LogHandler(Settings(), None)
    handler.emit(record(LogEvent.RUN_INFO, "Job stats", stats={"copy_raw": 2, "total": 2}))
    for one in NOISE:
        handler.emit(one)
    handler.emit(record(LogEvent.JOB_INFO, "", **job()))
    handler.emit(record(LogEvent.JOB_FINISHED, "", job_id=1))
    handler.emit(record(LogEvent.JOB_INFO, "", **job(jobid=2)))
    journal.fail(work_dir, COPY, "no space -> free some")
    handler.emit(record(LogEvent.JOB_ERROR, "", logging.ERROR, **job(jobid=2, rule_msg=None)))
    handler.emit(record(msg="something new", level=logging.WARNING))
    handler.close()
    said = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in capsys.readouterr().err.splitlines()]
    assert said[:3] == ["done   pull it [1/2]", "FAILED pull it: no space -> free some", "something new"]
    assert said[3].startswith("1 of 2 jobs done for 1 run")
    assert len(said) == 4


def test_before_there_are_jobs_messages_pass(capsys):
    handler = LogHandler(Settings(), None)
    handler.emit(record(LogEvent.ERROR, "MissingRuleException:\nNo rule to produce x", logging.ERROR))
    handler.emit(record(msg="Nothing to be done (all requested files are present and up to date)."))
    handler.close()
    said = capsys.readouterr().err
    assert said.splitlines()[:2] == ["MissingRuleException:", "No rule to produce x"]
    assert "Nothing to be done" in said


def test_a_preview_is_one_line_a_job_and_the_totals(capsys):
    settings = Settings()
    settings.dryrun = settings.stdout = True
    handler = LogHandler(settings, None)
    counts = {"copy_raw": 1, "verify_raw": 1, "all": 1, "total": 3}
    handler.emit(record(LogEvent.RUN_INFO, "Job stats", stats=counts))
    handler.emit(record(LogEvent.JOB_INFO, "", **job(rule_msg="pull 160315_1432 from lngs, 41.2 GB")))
    handler.emit(record(LogEvent.JOB_INFO, "", **job(rule_name="all", rule_msg=None, output=[])))
    handler.emit(record(LogEvent.RUN_INFO, "Job stats", stats=counts))
    handler.close()
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "would pull 160315_1432 from lngs, 41.2 GB",
        "2 jobs: 1 copy_raw, 1 verify_raw",
    ]
    assert said.err == ""


def test_quiet_about_the_numbers_still_shows_jobs(capsys):
    handler = LogHandler(Settings(), None)
    handler.emit(record(LogEvent.JOB_INFO, "", **job()))
    handler.emit(record(LogEvent.JOB_ERROR, "", logging.ERROR, **job(rule_msg="killed")))
    handler.close()
    assert "FAILED pull it: killed" in capsys.readouterr().err
