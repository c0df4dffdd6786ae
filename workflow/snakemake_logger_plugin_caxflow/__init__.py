"""Snakemake's logger plugin ``caxflow``, which profiles switch on with ``logger: caxflow``.

It hands what Snakemake reports to `caxflow.monitoring.display`. Snakemake imports every plugin it finds,
whether asked for or not, and before it reads the Snakefile, which decides which caxflow is the one of this
workflow: so nothing of caxflow is imported before there are jobs.
"""

import logging
import os
import re
import sys
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

__all__ = ["LogHandler"]

# What Snakemake says on its way, and what the lines of the display say better.
NOISE = (
    r"Assuming unrestricted shared filesystem",
    r"Building DAG of jobs",
    r"Using shell:",
    r"Provided (cores|nodes|remote nodes|resources)",
    r"Rules claiming more threads",
    r"Conda environments: ignored",
    r"Select jobs to execute",
    r"Execute \d+ jobs",
    r"Complete log\(s\)",
    r"Elapsed time",
    r"Removing output files of failed job",
    r"Exiting because a job execution failed",
    r"WorkflowError:\s+At least one job did not complete",
    r"RuleException:\s+CalledProcessError",
    r"This was a dry-run",
    r"Reasons:",
    r"Trying to restart job",
    r"\d+ jobs have missing provenance",
    r"Missing metadata for file",
    r"Rules with missing metadata",
    r"Job \d+ (has been submitted|submitted to HTCondor|with HTCondor Cluster ID \d+ was successful)",
    r"Submitted (group )?job \S+ with external jobid",
    r"Requesting (memory|disk): ",
    r"None$",
    r"$",
)
_NOISE = re.compile("|".join(NOISE))
# What Snakemake says of a --configfile, which it reads before anything of this workflow.
_UNREADABLE = re.compile(
    r"Traceback .*\n\w+Error: \[Errno \d+\] (?P<why>[^:\n]+): '(?P<file>[^\n]+)'\s*$", re.DOTALL
)
# Of a word after --config, to which all words go that follow it.
_NO_PAIR = re.compile(
    r"Traceback .*\n\w+Error: .*name=value.*Unparsable value: (?P<word>.+)\)\s*$", re.DOTALL
)
MEND = "mend --configfile, or configfile in the profile"
_NO_YAML = "WorkflowError:\nConfig file is not valid"
JOBS = (LogEvent.JOB_INFO, LogEvent.JOB_FINISHED, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)


class LogHandler(LogHandlerBase):
    """Turns Snakemake's records into calls of a display."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Look where to write: previews are answers, on standard output."""
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr
        terminal = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = terminal and not self.common_settings.nocolor and not os.environ.get("NO_COLOR")
        self.live = terminal and not self.common_settings.dryrun
        self.display = None
        self.counts: dict[str, int] = {}
        self.log = ""
        # `caxflow.workdir.underway.SHOWN`: jobs leave it to the display to say why they failed.
        os.environ["CAXFLOW_SHOWN"] = "1"

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, or pass it over."""
        try:
            self._show(record)
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Say how it ended, and leave the terminal as it was."""
        display, self.display = self.display, None
        if display and self.common_settings.dryrun:
            display.sum_up_preview(self.counts)
        elif display:
            display.sum_up(self.log)
        super().close()

    def _show(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event in JOBS and self.display is None:
            # --quiet progress keeps the numbers back.
            self._expect({})
        match event:
            case LogEvent.RUN_INFO:
                self._expect(record.stats)
            case LogEvent.JOB_INFO if self.common_settings.dryrun:
                self.display.preview(record.rule_msg)
            case LogEvent.JOB_INFO:
                self.display.start(record.jobid, record.rule_name, record.rule_msg, record.output)
            case LogEvent.JOB_FINISHED:
                self.display.finish(record.job_id)
            case LogEvent.JOB_ERROR:
                self._fail(record.__dict__)
            case LogEvent.GROUP_ERROR:
                for job in record.job_error_info:
                    self._fail(job)
            case LogEvent.SHELLCMD | LogEvent.DEBUG_DAG if self.common_settings.verbose:
                self._message(record)
            case None | LogEvent.ERROR | LogEvent.RESOURCES_INFO:
                self._message(record)

    def _expect(self, counts: dict[str, int]) -> None:
        self.counts = counts
        if self.display is None:
            from caxflow.monitoring.display import Display

            self.display = Display(self.stream, live=self.live, colour=self.colour)
            self.display.expect(counts)

    def _fail(self, job: dict) -> None:
        log = next(iter(job["log"]), "")
        self.display.fail(job["jobid"], job["rule_name"], job["output"], job["rule_msg"], log)

    def _message(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip("\n")
        if text.startswith("Complete log(s): "):
            self.log = text.removeprefix("Complete log(s): ")
        if not self.common_settings.verbose:
            if _NOISE.match(text.strip()):
                return
            text = _in_a_line(text)
        if self.display:
            self.display.message(text, bad=record.levelno >= logging.WARNING)
        else:
            # What goes wrong before there are jobs is no answer.
            stream = sys.stderr if record.levelno >= logging.ERROR else self.stream
            stream.write(f"{text}\n")
            stream.flush()


def _in_a_line(text: str) -> str:
    """What is wrong with a --configfile or with --config, in one line; anything else as it is."""
    if found := _NO_PAIR.match(text):
        mend = "write key=value, in quotes where blanks are in it, and targets before --config"
        return f"caxflow: --config: {found['word']} is no key with a value -> {mend}"
    found = _UNREADABLE.match(text)
    if found and "load_configfile" in text:
        return f"caxflow: {found['file']}: {found['why'].lower()} -> {MEND}"
    if text.startswith(_NO_YAML):
        return f"caxflow: {_broken_yaml(sys.argv) or f'a file of configuration is not valid YAML -> {MEND}'}"
    return text


def _broken_yaml(words: list[str]) -> str:
    """The error in the first file on the command line that is no YAML; where in it, and what."""
    from caxflow.config import read_yaml
    from caxflow.errors import CaxflowError

    for word in words[1:]:
        if Path(word).is_file():
            try:
                read_yaml(Path(word))
            except CaxflowError as error:
                return str(error)
    return ""
