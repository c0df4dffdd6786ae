"""PBS Pro and OpenPBS, by ``qsub``, ``qstat``, ``qselect`` and ``qdel``; states as in qstat(1B)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from caxflow import preview
from caxflow.batch import system
from caxflow.batch.system import DONE, RUNS, WAITS, Report, System, Wanted

_UNKNOWN = ("Unknown Job Id", "Unknown job id", "Job has finished")
# Exit_status below zero: the server could not begin, or begin again, or keep the job.
_KILLED = 256  # and the number of the signal
_FIELD = re.compile(r"^\s*(job_state|Exit_status|comment|Hold_Types) = (.*?)\s*$", re.MULTILINE)
_STATES = {
    "B": "begun",
    "E": "ending",
    "F": "finished",
    "C": "completed",
    "H": "held",
    "M": "moved",
    "Q": "queued",
    "R": "running",
    "S": "suspended",
    "T": "moving",
    "U": "suspended for its owner",
    "W": "waiting for its time",
    "X": "expired",
}


class PBS(System):
    """PBS Pro or OpenPBS, which keeps what has ended in its history."""

    title = "PBS"
    programs = ("qsub", "qstat", "qselect", "qdel")
    question = ("qstat", "-B")

    def words(self, wanted: Wanted, script: Path, logs: Path) -> list[str]:
        """Return the command; what is set with ``-V`` everybody could read by ``qstat -f``."""
        queue = ["-q", wanted.queue] if wanted.queue else []
        account = ["-A", wanted.account] if wanted.account else []
        asked = f"select=1:ncpus={wanted.cores}:mem={wanted.memory_mb}mb"
        return [
            *("qsub", "-j", "oe", "-r", "n", "-N", wanted.name, "-v", system.passed_on(), *queue, *account),
            *("-l", asked, "-l", f"walltime={wanted.minutes // 60:02d}:{wanted.minutes % 60:02d}:00"),
            *(*wanted.options, "-o", f"{logs}/", str(script)),
        ]

    def trial(self, wanted: Wanted, script: Path, logs: Path) -> str | None:
        """Submit it on hold, and delete it again: PBS has nothing that tests."""
        if preview.only_looks():
            return None
        program, *rest = self.words(wanted, script, logs)
        done = system.attempt(program, "-h", *rest)
        job = self.identify(done.stdout)
        if done.returncode or not job:
            return system.complaint(done) or "it said nothing"
        self.cancel([job])
        return ""

    def identify(self, said: str) -> str:
        """Return the id, with the server's name."""
        found = re.search(r"^(\d+(\[\])?\.\S+|\d+)$", said, re.MULTILINE)
        return found[1] if found else ""

    def find(self, name: str) -> str:
        """Return the newest job of that name that has not ended."""
        said = system.ask("qselect", "-N", name).split()
        return max(said, key=lambda job: int(re.match(r"\d*", job)[0] or 0), default="")

    def ask(self, jobs: Sequence[str], logs: Path) -> dict[str, Report]:
        """Ask the server, which has a history."""
        said = system.ask("qstat", "-x", "-f", *jobs, fine=_UNKNOWN)
        found = {}
        for block in re.split(r"^Job Id: ", said.replace("\n\t", ""), flags=re.MULTILINE)[1:]:
            name, _, rest = block.partition("\n")
            found[name.strip()] = report(dict(_FIELD.findall(rest)))
        return {job: found[job] for job in jobs if job in found}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Delete them; that some have ended is no error."""
        system.ask("qdel", *jobs, fine=_UNKNOWN)

    def log(self, job: str, logs: Path) -> Path | None:
        """Return the log, which PBS names after the job's id."""
        return next(iter(sorted(logs.glob(f"{job.partition('.')[0]}.*OU"))), None)


def report(fields: Mapping[str, str]) -> Report:
    """Return what the fields of a job mean: ``job_state``, ``Exit_status``, ``comment``, ``Hold_Types``."""
    letter, comment = fields.get("job_state", ""), fields.get("comment", "")
    state = _STATES.get(letter, letter)
    if letter in ("F", "C", "X"):
        code = fields.get("Exit_status")
        if code == "0":
            return Report(DONE, state)
        if code is None:  # it was deleted before it ran
            return system.failed(state, system.CANCELLED, comment)
        words = system.logged(comment)
        if not words and code.startswith("-"):
            words = system.NODE
        elif not words and code.isdigit() and int(code) > _KILLED:
            words = f"signal {int(code) - _KILLED} ended it"
        return system.failed(state, words or f"it exited with {code}", comment)
    if letter in ("Q", "W", "T", "M"):
        never = "can never run" in comment.lower()
        return Report(WAITS, state, comment, stuck=never, impossible=never)
    if letter == "H":
        held = fields.get("Hold_Types", "")
        return Report(WAITS, state, comment or f"held: {held}", stuck=True)
    return Report(RUNS, state, comment if letter in ("S", "U") else "", stuck=letter in ("S", "U"))
