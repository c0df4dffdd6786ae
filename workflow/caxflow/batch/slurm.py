"""Slurm, by ``sbatch``, ``squeue``, ``sacct`` and ``scancel``; states and reasons as in squeue(1)."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from caxflow.batch import system
from caxflow.batch.system import DONE, RUNS, WAITS, NoAnswer, Report, System, Wanted

_ENDED = {
    "TIMEOUT": system.TIME,
    "DEADLINE": system.TIME,
    "OUT_OF_MEMORY": system.MEMORY,
    "CANCELLED": system.CANCELLED,
    "PREEMPTED": system.PREEMPTED,
    "NODE_FAIL": system.NODE,
    "BOOT_FAIL": system.NODE,
    "LAUNCH_FAILED": system.NODE,
    "RECONFIG_FAIL": system.NODE,
    "REVOKED": "another cluster took it",
    "FAILED": "",
}
_WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "POWER_UP_NODE")
# They go on once they are released or resumed.
_HELD = ("REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "STOPPED", "SUSPENDED")
# Reasons of a job that waits for its turn; of any other one people should know.
_TURN = re.compile(
    r"$|Priority|Resources|BeginTime|Cleaning|Prolog|Licenses|Reservation|Dependency$|JobArrayTaskLimit|"
    r"Assoc(Grp|MaxJobs|MaxCpuPerUser)\w*|QOS(Grp|MaxJobs|Max\w+PerUser|UsageThreshold)\w*|Fed\w+|BurstBuffer\w*"
)
_NEVER = re.compile(
    r"PartitionTimeLimit|PartitionNodeLimit|BadConstraints|InvalidAccount|InvalidQOS|DependencyNeverSatisfied|"
    r"AccountNotAllowed|QOSNotAllowed|(QOS|Assoc)Max\w+PerJob(Limit)?$|MaxMemPerLimit"
)


class Slurm(System):
    """Slurm; where it keeps no accounts, jobs that it has forgotten are not known."""

    title = "Slurm"
    programs = ("sbatch", "squeue", "scancel")
    question = ("sinfo", "--noheader")
    queue_key, account_key = "slurm_partition", "slurm_account"

    def words(self, wanted: Wanted, script: Path, logs: Path) -> list[str]:
        """Return the command; Slurm's own requeueing would run unseen beside another attempt.

        What the command itself gets is exported, no more than `caxflow.batch.system.environment`: for a list
        of names Slurm would log in on the node, where start-up files may export anything.
        """
        where = [f"--partition={wanted.queue}"] if wanted.queue else []
        where += [f"--account={wanted.account}"] if wanted.account else []
        return [
            *("sbatch", "--parsable", "--no-requeue", "--export=ALL", f"--job-name={wanted.name}"),
            *(f"--comment={wanted.about}", "--ntasks=1", f"--cpus-per-task={wanted.cores}"),
            *(f"--mem={wanted.memory_mb}", f"--time={wanted.minutes}", *where, *wanted.options),
            *(f"--output={logs}/slurm.%j.log", str(script)),
        ]

    def trial(self, wanted: Wanted, script: Path, logs: Path) -> str:
        """Have the controller test it; a time that no partition gives is taken, and the job never begins."""
        program, *rest = self.words(wanted, script, logs)
        done = system.attempt(program, "--test-only", *rest)
        return system.complaint(done) or "it said nothing" if done.returncode else _too_long(wanted)

    def identify(self, said: str) -> str:
        """Return the id, which the cluster's name may follow."""
        found = re.search(r"^(\d+)(;\S+)?$", said, re.MULTILINE)
        return found[1] if found else ""

    def find(self, name: str) -> str:
        """Return the newest job of that name that has not ended."""
        found = [
            job for job, report in self._listed(f"--name={name}").items() if report.phase in (WAITS, RUNS)
        ]
        return max(found, key=int, default="")

    def ask(self, jobs: Sequence[str], logs: Path) -> dict[str, Report]:
        """Ask the controller; of those that it has forgotten, the accounts."""
        known = self._listed()
        found = {job: known[job] for job in jobs if job in known}
        if forgotten := [job for job in jobs if job not in known]:
            found |= self._accounted(forgotten)
        return {job: self._explain(report, job, logs) for job, report in found.items()}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel; that some have ended is no error."""
        system.ask("scancel", "--quiet", *jobs, fine=("Invalid job id",))

    def _listed(self, *more: str) -> dict[str, Report]:
        said = system.ask(
            *("squeue", "--noheader", "--states=all", f"--user={os.getuid()}", *more, "--format=%i|%T|%l|%r")
        )
        rows = (line.split("|", 3) for line in said.splitlines() if line.count("|") > 2)
        return {
            job: replace(report(state, reason), minutes=_minutes(limit)) for job, state, limit, reason in rows
        }

    def _accounted(self, jobs: Sequence[str]) -> dict[str, Report]:
        """Return how jobs ended; one that the accounts alone take for alive is not."""
        try:
            said = system.ask(
                *("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobIDRaw,State"),
                f"--jobs={','.join(jobs)}",
            )
        except NoAnswer:  # it keeps none, or they are away
            return {}
        rows = (line.split("|", 1) for line in said.splitlines() if "|" in line)
        found = {job: report(state, "") for job, state in rows}
        return {job: each for job, each in found.items() if each.phase not in (WAITS, RUNS)}

    def _explain(self, found: Report, job: str, logs: Path) -> Report:
        """Add what the job's log says of its end: without control groups no state tells of memory."""
        if found.phase != system.FAILED or not (log := self.log(job, logs)):
            return found
        tail = system.tail(log)
        if found.state not in ("TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"):
            words = system.logged(tail) or _ENDED.get(found.state, "")
        else:
            words = _ENDED[found.state]
        last = next((line for line in reversed(tail.splitlines()) if "slurmstepd" in line), "")
        detail = re.sub(r"^.*?slurmstepd\S*: (error: )?", "", last).strip(" *")
        return system.failed(found.state, words, detail or ("" if words else system.last_line(tail)))


def report(state: str, reason: str) -> Report:
    """Return what a state and a reason of Slurm mean.

    Parameters
    ----------
    state : str
        As ``squeue`` or ``sacct`` print it, such as ``CANCELLED by 1000``.
    reason : str
    """
    words = state.split()
    state = words[0].rstrip("+") if words else ""
    reason = "" if reason.strip() == "None" else reason.strip().strip("()")
    if state == "COMPLETED":
        return Report(DONE, state)
    if state in _ENDED:
        return system.failed(state, _ENDED[state])
    if state in _HELD:
        return Report(WAITS if state.endswith(("HOLD", "EXIT")) else RUNS, state, reason, stuck=True)
    if state in _WAITS:
        never = bool(_NEVER.match(reason))
        return Report(WAITS, state, reason, stuck=not _TURN.match(reason), impossible=never)
    # RUNNING, COMPLETING, SIGNALING, STAGE_OUT, RESIZING, and what later versions may add.
    return Report(RUNS, state, reason)


def _too_long(wanted: Wanted) -> str:
    """Say that a partition gives less time."""
    chosen = [f"--partition={wanted.queue}"] if wanted.queue else []
    said = system.ask("sinfo", "--noheader", "--format=%P|%l", *chosen)
    rows = [row.split("|") for row in said.split() if row.count("|") == 1]
    limits = [limit for name, limit in rows if chosen or name.endswith("*")]
    minutes = [_minutes(limit) for limit in limits]
    if not limits or None in minutes or max(minutes) >= wanted.minutes:
        return ""
    return f"PartitionTimeLimit: the time limit is {limits[minutes.index(max(minutes))]}"


def _minutes(limit: str) -> float | None:
    """Read a time as Slurm writes it, ``1-00:00:00``; None if there is no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 1440 * days + 60 * hours + minutes + seconds / 60
