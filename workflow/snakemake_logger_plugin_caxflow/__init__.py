"""Snakemake's logger plugin ``caxflow``, which profiles switch on with ``logger: caxflow``.

It hands what Snakemake reports to `caxflow.monitoring.display`. Snakemake imports every plugin it finds,
whether asked for or not, and before it reads the Snakefile, which decides which caxflow is the one of this
workflow: so nothing of caxflow is imported before there are jobs.
"""

import atexit
import contextlib
import getpass
import logging
import os
import re
import shutil
import sys
import tempfile
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
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):.*\n(?P<last>\S[^\n]*)\s*$", re.DOTALL)
MEND = "mend --configfile, or configfile in the profile"
_NO_YAML = "WorkflowError:\nConfig file is not valid"
_SNAKEMAKE = logging.getLogger("snakemake.logging")
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
        # As `caxflow.owners.mask`: Snakemake writes its log before it reads the Snakefile.
        os.umask(os.umask(0o077) | 0o022)
        _have_streams()
        _have_a_name()
        _have_a_cache()
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr
        # A name that the terminal's encoding lacks is no reason to end.
        self.stream.reconfigure(errors="backslashreplace")
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
        except OSError as error:
            self._give_up(error)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Say how it ended, and leave the terminal as it was."""
        display, self.display = self.display, None
        try:
            if display and self.common_settings.dryrun:
                display.sum_up_preview(self.counts)
            elif display:
                display.sum_up(self.log)
            self.stream.flush()
        except OSError as error:
            self._give_up(error)
        super().close()

    def _give_up(self, error: OSError) -> None:
        """Say once that the output, as on a disk that is full, takes no more; the jobs go on."""
        with contextlib.suppress(OSError):
            sys.stderr.write(
                f"caxflow: what is said here is lost: {error.strerror} -> the log has all of it\n"
            )
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

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


def _before_the_start(record: logging.LogRecord) -> bool:
    """Make one line of what Snakemake says of wrong options before it has handlers; a filter."""
    if not _SNAKEMAKE.handlers:
        record.msg, record.args = _in_a_line(record.getMessage()), ()
    return True


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
    if found := _TRACEBACK.match(text):
        kind, _, why = found["last"].partition(": ")
        return f"caxflow: Snakemake cannot go on: {why or kind} -> with --verbose it says where"
    return text


def _have_streams() -> None:
    """Open what the caller has closed: else the next file takes its number, and gets what programs print."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r+", encoding="utf-8")  # noqa: SIM115, PTH123
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _have_a_name() -> None:
    """Give the account a name for Snakemake where it has none, as in a container."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())


def _have_a_cache() -> None:
    """Give Snakemake and its jobs a folder for sources that they keep, where the home takes nothing."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111
    own = folder / "snakemake/snakemake"
    with contextlib.suppress(OSError):
        own.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=own):
            return
    with contextlib.suppress(OSError):  # then Snakemake ends, with a line
        os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="caxflow-cache-")
        atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


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


_SNAKEMAKE.addFilter(_before_the_start)
