"""Grid Engine, by ``qsub``, ``qstat``, ``qacct`` and ``qdel``; states as in qstat(1)."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from caxflow.batch import system
from caxflow.batch.system import DONE, RUNS, WAITS, NoAnswer, Report, System, Wanted

# What qacct calls "failed", where it is about the machine or the site and not about the job.
_MACHINES = range(1, 25)
_OVERRAN, _LIMIT = 37, "it was cut off for its time or memory"
_SIGNALS = 128  # and the number of the signal that ended a job, as its exit status
_UNKNOWN = ("do not exist", "does not exist")


class GridEngine(System):
    """Grid Engine, with a parallel environment ``smp`` and a requestable ``h_vmem``."""

    title = "Grid Engine"
    programs = ("qsub", "qstat", "qacct", "qdel")
    question = ("qstat", "-f")

    def words(self, wanted: Wanted, script: Path, logs: Path) -> list[str]:
        """Return the command; what is set with ``-V`` everybody could read by ``qstat -j``."""
        queue = ["-q", wanted.queue] if wanted.queue else []
        project = ["-P", wanted.account] if wanted.account else []
        seconds, share = 60 * wanted.minutes, -(-wanted.memory_mb // wanted.cores)
        return [
            *("qsub", "-terse", "-cwd", "-j", "y", "-r", "n", "-S", "/bin/sh", "-N", wanted.name),
            *("-v", system.passed_on(), *queue, *project),
            *("-pe", "smp", str(wanted.cores), "-l", f"h_rt={seconds}", "-l", f"h_vmem={share}M"),
            *(*wanted.options, "-o", f"{logs}/gridengine.$JOB_ID.log", str(script)),
        ]

    def trial(self, wanted: Wanted, script: Path, logs: Path) -> str:
        """Have the master verify it; the exit code says nothing, since no job is submitted."""
        program, *rest = self.words(wanted, script, logs)
        done = system.attempt(program, "-w", "v", *rest)
        suitable = "verification: found" in done.stdout + done.stderr
        return "" if suitable else system.complaint(done) or f"exit code {done.returncode}"

    def identify(self, said: str) -> str:
        """Return the id."""
        found = re.search(r"^(\d+)(\.\S+)?$", said, re.MULTILINE)
        return found[1] if found else ""

    def find(self, name: str) -> str:
        """Return the newest job of that name."""
        said = system.ask("qstat", "-j", name, fine=_UNKNOWN)
        return max(re.findall(r"^job_number:\s+(\d+)", said, re.MULTILINE), key=int, default="")

    def ask(self, jobs: Sequence[str], logs: Path) -> dict[str, Report]:
        """Ask the master; of those that it has forgotten, the accounts."""
        rows = map(str.split, system.ask("qstat", "-u", "*").splitlines())
        states = {row[0]: row[4] for row in rows if len(row) > 4 and row[0].isdigit()}
        found = {}
        for job in jobs:
            if job not in states:
                ended = self._accounted(job, logs)
                found |= {job: ended} if ended else {}
            else:
                found[job] = report(states[job], lambda job=job: self._reason(job))
        return found

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel; that some have ended is no error."""
        system.ask("qdel", *jobs, fine=_UNKNOWN)

    def _reason(self, job: str) -> str:
        """Return why a job is in error, by what the master keeps of it."""
        try:
            said = system.ask("qstat", "-j", job)
        except NoAnswer:
            return ""
        found = re.search(r"^error reason\s+\d*:?\s*(.+)$", said, re.MULTILINE)
        return found[1].strip() if found else ""

    def _accounted(self, job: str, logs: Path) -> Report | None:
        """Return how a job ended; None if the accounts do not have it, or not yet."""
        try:
            said = system.ask("qacct", "-j", job)
        except NoAnswer:
            return None
        # An id that was used before has an earlier record, too.
        fields = dict(re.findall(r"^(failed|exit_status)\s+(.+?)\s*$", said, re.MULTILINE))
        failed, code = (_number(fields.get(name, "")) for name in ("failed", "exit_status"))
        if failed == 0 and code == 0:
            return Report(DONE, "ended")
        log = self.log(job, logs)
        kept = system.tail(log) if log else ""
        words = _LIMIT if failed == _OVERRAN else system.logged(kept)
        if not words and failed in _MACHINES:
            words = system.NODE
        if not words and code > _SIGNALS:
            words = f"signal {code - _SIGNALS} ended it"
        return system.failed(f"exit status {code}", words, "" if failed else system.last_line(kept))


def _number(text: str) -> int:
    """Return the number that a value begins with, as of "137 (Killed)"; -1 if there is none."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else -1


def report(state: str, reason: Callable[[], str]) -> Report:
    """Return what a state of Grid Engine means.

    Parameters
    ----------
    state : str
        Letters: ``d`` deleted, ``E`` error, ``h`` held, ``r`` running, ``R`` restarted, ``s``, ``S``, ``N``
        and ``T`` suspended, ``t`` transferring, ``q``, ``w`` waiting.
    reason : callable
        Returns why it is in error.
    """
    if "E" in state:
        # It stays in the queue until it is cleared or deleted, and cannot begin as it is.
        return Report(WAITS, state, reason() or "error", stuck=True, impossible=True)
    if "d" in state:
        return Report(RUNS, state, "being deleted")
    if "h" in state:
        return Report(WAITS, state, "held", stuck=True)
    if "q" in state or "w" in state:
        return Report(WAITS, state)
    suspended = bool(set(state) & set("sSTN"))
    return Report(RUNS, state, "suspended" if suspended else "", stuck=suspended)
