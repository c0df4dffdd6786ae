"""What every batch system is asked for, and what it answers, in one vocabulary."""

import os
import re
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from caxflow import legible, variables
from caxflow.errors import CaxflowError

# The phases of a job.
WAITS, RUNS, DONE, FAILED = "waits", "runs", "done", "failed"

SUBMISSION = 120  # s that a submission may take: a controller under load answers late
QUESTION = 20  # s that any other command may take
_TAIL = 8192  # bytes of a log that are read
# What the commands of batch systems, and not their jobs, need of this environment.
_COMMANDS = re.compile(r"SLURM_(CONF|CLUSTERS)|(SGE|PBS)_\w+|_?CONDOR_\w+|KRB5CCNAME|XDG_RUNTIME_DIR")


class NotTaken(CaxflowError):
    """A batch system took no job, or could not be asked to: nothing began.

    Parameters
    ----------
    what, mend : str
    away : bool
        Whether it did not answer, as it will not answer the next submission either.
    """

    def __init__(self, what: str, mend: str = "", away: bool = False):
        super().__init__(what, mend)
        self.away = away


class NoAnswer(CaxflowError):
    """A batch system does not answer: nothing is known of its jobs."""


@dataclass(frozen=True)
class Wanted:
    """What a job asks for.

    Parameters
    ----------
    name : str
        By which the job is found again where the answer to its submission was lost.
    about : str
        What it makes, for people who list jobs.
    cores, memory_mb, minutes : int
    queue, account : str or None
        Where it runs, and who pays.
    options : sequence of str
        More words for the command that submits.
    """

    name: str
    about: str
    cores: int = 1
    memory_mb: int = 1000
    minutes: int = 60
    queue: str | None = None
    account: str | None = None
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """What a batch system says of a job.

    Parameters
    ----------
    phase : str
        ``waits``, ``runs``, ``done`` or ``failed``.
    state : str
        The batch system's own word.
    reason : str
        Why it waits, or how it ended.
    stuck : bool
        Whether it goes on only once a human, or the site, has done something.
    impossible : bool
        Whether it can never begin as it was asked for.
    again : bool
        Of a job that failed: whether another attempt may do better.
    blameless : bool
        Of a job that failed: whether that says nothing of the run, as where its node died.
    lingers : bool
        Of a job that is given up: whether it may still be there.
    minutes : float or None
        How long it may run, where the batch system says that: it may have been given more than was asked for.
    """

    phase: str
    state: str
    reason: str = ""
    stuck: bool = False
    impossible: bool = False
    again: bool = True
    blameless: bool = False
    lingers: bool = False
    minutes: float | None = None


# How jobs end, in words.
TIME, MEMORY, CANCELLED = "it ran out of time", "it ran out of memory", "it was cancelled"
NODE, PREEMPTED = "its node failed", "it had to make room for others"

# What a log says of its job's end, whatever the state is called.
_LOGGED = (
    (re.compile(r"oom.kill|out of memory|memory limit|memory usage|MemoryError", re.IGNORECASE), MEMORY),
    (
        re.compile(r"time limit|walltime|wall clock|allowed (execute|job) duration", re.IGNORECASE),
        TIME,
    ),
    (re.compile(r"node fail", re.IGNORECASE), NODE),
)


def failed(state: str, words: str = "", detail: str = "") -> Report:
    """Return the report of a job that ended in one of the ways that have words, or in another one."""
    reason = words or f"the batch system says {state}"
    reason = f"{reason} ({' '.join(detail.split())[:160]})" if detail.strip() else reason
    return Report(FAILED, state, reason, again=words != CANCELLED, blameless=words in (NODE, PREEMPTED))


def logged(text: str) -> str:
    """Return how a job ended by what was logged of it; empty if that does not say."""
    return next((words for pattern, words in _LOGGED if pattern.search(text)), "")


class System(ABC):
    """The commands of a batch system; none takes longer than `QUESTION`, or `SUBMISSION`, seconds."""

    title: ClassVar[str]  # as messages call it
    programs: ClassVar[tuple[str, ...]]
    question: ClassVar[tuple[str, ...]]  # a command that asks whether it answers
    queue_key: ClassVar[str] = "queue"
    account_key: ClassVar[str] = "account"

    @abstractmethod
    def words(self, wanted: Wanted, script: Path, logs: Path) -> list[str]:
        """Return the command that submits a script; logs go into that folder."""

    @abstractmethod
    def identify(self, said: str) -> str:
        """Return the id of a job from what the submission printed; empty if there is none."""

    @abstractmethod
    def find(self, name: str) -> str:
        """Return the id of the job of that name which waits or runs; empty if there is none.

        Raises
        ------
        NoAnswer
        """

    @abstractmethod
    def ask(self, jobs: Sequence[str], logs: Path) -> dict[str, Report]:
        """Return what is known of jobs; those that are no longer listed are not in it.

        Raises
        ------
        NoAnswer
        """

    @abstractmethod
    def cancel(self, jobs: Sequence[str]) -> None:
        """Have jobs cancelled; does not wait for their end.

        Raises
        ------
        NoAnswer
        """

    @abstractmethod
    def trial(self, wanted: Wanted, script: Path, logs: Path) -> str | None:
        """Have the batch system look at a submission that becomes no job.

        Returns
        -------
        str or None
            What it has against the job, in its own words, empty if nothing; None where it cannot be asked
            without changing something, and nothing may be changed.

        Raises
        ------
        NoAnswer
        """

    def queue_of(self, resources: Mapping[str, Any]) -> str | None:
        """Return where a job with such resources runs."""
        return resources.get(self.queue_key) or resources.get("queue")

    def account_of(self, resources: Mapping[str, Any]) -> str | None:
        """Return who pays for a job with such resources."""
        return resources.get(self.account_key) or resources.get("account")

    def log(self, job: str, logs: Path) -> Path | None:
        """Return the log that the batch system keeps of a job, if it is there."""
        return next(iter(sorted(logs.glob(f"*.{job}.log"))), None)

    def submit(self, wanted: Wanted, script: Path, logs: Path) -> str:
        """Submit a script; return the job's id.

        Raises
        ------
        NotTaken
            With the batch system's own words, and the key that fixes it.
        """
        logs.mkdir(parents=True, exist_ok=True)
        words = self.words(wanted, script, logs)
        try:
            done = run(words, seconds=SUBMISSION)
        except FileNotFoundError as error:
            fix = f"log in where the commands of {self.title} are, or add them to PATH"
            raise NotTaken(f"{self.title} took no job: {words[0]} not found", fix) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            said, done = _why(error), None
        else:
            if done.returncode == 0 and (job := self.identify(done.stdout)):
                return job
            said = complaint(done) or "it said nothing"
        # Of an answer that was lost on its way, or that nothing can be read from, the job may be there.
        unclear = (done is not None and done.returncode == 0) or bool(_UNCLEAR.search(said))
        if unclear:
            try:
                if job := self.find(wanted.name):
                    return job
            except NoAnswer:
                pass
        raise NotTaken(f"{self.title} took no job: {said}", self.fix(said, wanted), away=unclear)

    def options(self, text: str) -> list[str]:
        """Return the words, or lines, that ``caxflow-options`` of the profile adds to a submission."""
        try:
            return shlex.split(text)
        except ValueError as error:
            raise CaxflowError(f"caxflow-options in the profile: {error}", "check its quotes") from error

    def fix(self, said: str, wanted: Wanted) -> str:
        """Return what to do about a refusal: the key of the profile or of the configuration that fixes it."""
        profile = "in default-resources of the profile"
        if _FULL.search(said):
            return "the next call tries again; lower jobs in the profile"
        for pattern, key in (
            (r"account|project", f"{self.account_key} {profile}, now {wanted.account or 'not set'}"),
            (r"qos|constraint|feature|reservation|licen[cs]e|gres", "caxflow-options in the profile"),
            (
                r"time.?limit|walltime|h_rt|duration",
                f"cpu_ms_per_event of the processor, or runtime {profile}; it asked for {wanted.minutes} min",
            ),
            (
                r"memory|h_vmem|\bmem\b",
                f"memory_mb_per_core of the processor, or {self.queue_key} {profile}; it asked for"
                f" {wanted.memory_mb} MB",
            ),
            (
                r"node configuration|cpu count|more processors|cpus|ncpus|slots|parallel environment",
                f"processed.cores, memory_mb_per_core of the processor, or {self.queue_key} {profile};"
                f" it asked for {wanted.cores} cores and {wanted.memory_mb} MB",
            ),
            (
                r"resource limits?|exceeds",
                f"what it asked for: {wanted.cores} cores, {wanted.memory_mb} MB, {wanted.minutes} minutes",
            ),
            (r"partition|queue", f"{self.queue_key} {profile}, now {wanted.queue or 'not set'}"),
        ):
            if re.search(pattern, said, re.IGNORECASE):
                return f"check {key}"
        if _UNCLEAR.search(said):
            return f"the next call tries again; see whether it answers: {' '.join(self.question)}"
        return "check default-resources and caxflow-options in the profile"


def complaint(done: subprocess.CompletedProcess) -> str:
    """Return what a command complained of, without its name and what was printed before, in one line."""
    said = [line.strip() for line in (done.stderr if done.stderr.strip() else done.stdout).splitlines()]
    first = next((number for number, line in enumerate(said) if _COMPLAINS.match(line)), 0)
    lines = [
        re.sub(r"^(\w+: )?(error|fatal|warning): |^(qsub|sbatch|ERROR): ", "", line) for line in said[first:]
    ]
    return "; ".join(dict.fromkeys(filter(None, lines)))[:400]


def attempt(*words: str, seconds: float = SUBMISSION, by_hand: str = "") -> subprocess.CompletedProcess:
    """Run a command that submits, or tries to; `by_hand` is what to type where it does not answer.

    Raises
    ------
    NoAnswer
        If it does not answer.
    """
    try:
        return run(words, seconds=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(f"{words[0]}: {_why(error)}", f"try it by hand: {by_hand or words[0]}") from error


# With what a complaint begins; before that stand a site's greeting and warnings.
_COMPLAINS = re.compile(r"(\w+: |\w+ )?(error|fatal): |qsub: |unable to run job|denied", re.IGNORECASE)
# That as many jobs are there as may be.
_FULL = re.compile(r"submit ?(job ?)?limit|too many jobs|maximum number of (active )?jobs", re.IGNORECASE)
# What leaves open whether a submission was taken.
_UNCLEAR = re.compile(
    r"timed? ?out|no answer|unable to contact|connect|communicat|unreachable|not responding|try again|socket|"
    r"temporarily|standby|zero bytes|end of file|configuration source",
    re.IGNORECASE,
)


def run(words: Sequence[str], *, seconds: float = QUESTION) -> subprocess.CompletedProcess:
    """Run a command of a batch system, in its own session: Ctrl-C is not meant for it.

    Raises
    ------
    OSError
        If there is no such program.
    subprocess.TimeoutExpired
    """
    return subprocess.run(
        list(words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
        check=False,
        env=environment(os.environ),
        start_new_session=True,
    )


def ask(*words: str, fine: Iterable[str] = ()) -> str:
    """Return what a query prints.

    Parameters
    ----------
    fine : iterable of str
        Complaints which mean that there is nothing to print.

    Raises
    ------
    NoAnswer
        If it fails.
    """
    by_hand = " ".join(words)
    done = attempt(*words, seconds=QUESTION, by_hand=by_hand)
    if done.returncode and not any(each in done.stderr + done.stdout for each in fine):
        said = complaint(done) or f"exit code {done.returncode}"
        raise NoAnswer(f"{words[0]}: {said}", f"try it by hand: {by_hand}")
    return done.stdout


def environment(found: Mapping[str, str]) -> dict[str, str]:
    """Return what the commands of a batch system get of an environment.

    Whatever a command hands on to jobs, as with Slurm or by an option in the profile, is not more than that.
    """
    kept = variables.for_jobs(found) | variables.named(found, _COMMANDS)
    return kept | {"LC_ALL": found.get("LC_ALL", "C.UTF-8"), "SLURM_TIME_FORMAT": "standard"}


def passed_on() -> str:
    """Return the names of the variables that jobs get, for commands that take a list."""
    return ",".join(sorted(variables.for_jobs(os.environ)))


def tail(log: Path) -> str:
    """Return the end of a log, or nothing where it cannot be read."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def last_line(text: str) -> str:
    """Return the last line of a text that says something."""
    return legible.line(next((line.strip() for line in reversed(text.splitlines()) if line.strip()), ""))


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:g} s"
    return getattr(error, "strerror", None) or str(error)
