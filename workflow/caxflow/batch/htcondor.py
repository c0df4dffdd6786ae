"""HTCondor, by ``condor_submit``, ``condor_q``, ``condor_history`` and ``condor_rm``.

States and codes as in its manual, "Job ClassAd Attributes".
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from caxflow.batch import system
from caxflow.batch.system import DONE, RUNS, WAITS, NoAnswer, Report, System, Wanted

_IDLE, _RUNNING, _REMOVED, _COMPLETED, _HELD, _TRANSFERRING, _SUSPENDED = range(1, 8)
_STATES = ("", "idle", "running", "removed", "completed", "held", "transferring output", "suspended")
_ASKED = (
    *("ClusterId", "JobStatus", "HoldReason", "HoldReasonCode", "RemoveReason", "LastRejMatchReason"),
    *("ExitCode", "ExitBySignal", "ExitSignal"),
)
# HoldReasonCode: a user held it, or it was submitted on hold, on purpose.
_WANTED_SO = (1, 15)
# It used too much memory; it ran, or executed, too long.
_HELD_FOR = {34: system.MEMORY, 46: system.TIME, 47: system.TIME}


class HTCondor(System):
    """HTCondor, with a file system that the execution points share."""

    title = "HTCondor"
    programs = ("condor_submit", "condor_q", "condor_history", "condor_rm")
    question = ("condor_q", "-totals")
    account_key = "account"

    def words(self, wanted: Wanted, script: Path, logs: Path) -> list[str]:
        """Write the description of a job beside its script, and return the command.

        What a job gets of the environment everybody may read. HTCondor reads the script when the job begins.
        """
        description = script.with_suffix(".submit")
        group = [f"accounting_group = {wanted.account}"] if wanted.account else []
        queue = [f"+queue = {json.dumps(wanted.queue)}"] if wanted.queue else []
        lines = [
            "universe = vanilla",
            "executable = /bin/sh",
            f"arguments = {script}",
            "transfer_executable = false",
            "should_transfer_files = IF_NEEDED",
            f"batch_name = {wanted.name}",
            f"description = {wanted.about}",
            f"output = {logs}/htcondor.$(Cluster).log",
            f"error = {logs}/htcondor.$(Cluster).log",
            f"request_cpus = {wanted.cores}",
            f"request_memory = {wanted.memory_mb}MB",
            f"allowed_execute_duration = {60 * wanted.minutes}",
            # Between the request to end and the end by force; Snakemake in the job waits for its program.
            "job_max_vacate_time = 60",
            f"getenv = {system.passed_on()}",
            *(*group, *queue, *wanted.options, "queue"),
        ]
        description.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return ["condor_submit", "-terse", str(description)]

    def trial(self, wanted: Wanted, script: Path, logs: Path) -> str:
        """Have the description read; no machine is asked, but they tell how large they are."""
        program, *_, description = self.words(wanted, script, logs)
        done = system.attempt(program, "-dry-run", os.devnull, description)
        return system.complaint(done) or "it said nothing" if done.returncode else _too_large(wanted)

    def options(self, text: str) -> list[str]:
        """Return the lines that ``caxflow-options`` of the profile adds to a description."""
        return [line.strip() for line in text.split(";") if line.strip()]

    def identify(self, said: str) -> str:
        """Return the cluster's id, of "17.0 - 17.0"."""
        found = re.search(r"^(\d+)\.\d+ - \d+\.\d+$", said, re.MULTILINE)
        return found[1] if found else ""

    def find(self, name: str) -> str:
        """Return the newest job of that name that has not ended."""
        alive = [
            str(job["ClusterId"])
            for job in self._listed("condor_q", "-constraint", f"JobBatchName == {json.dumps(name)}")
            if job["JobStatus"] not in (_REMOVED, _COMPLETED)
        ]
        return max(alive, key=int, default="")

    def ask(self, jobs: Sequence[str], logs: Path) -> dict[str, Report]:
        """Ask the queue; of those that have left it, the history."""
        found = {str(job["ClusterId"]): report(job) for job in self._listed("condor_q", *jobs)}
        if left := [job for job in jobs if job not in found]:
            try:
                history = self._listed("condor_history", "-match", str(len(left)), *left)
            except NoAnswer:
                history = []
            found |= {str(job["ClusterId"]): report(job) for job in history}
        return found

    def cancel(self, jobs: Sequence[str]) -> None:
        """Remove them; that some have ended is no error."""
        system.ask("condor_rm", *jobs, fine=("not found", "Couldn't find"))

    def _listed(self, program: str, *words: str) -> list[Mapping]:
        said = system.ask(program, *words, "-json", "-attributes", ",".join(_ASKED)).strip()
        try:
            found = json.loads(said or "[]")
            return [job for job in found if isinstance(job["JobStatus"] + job["ClusterId"], int)]
        except (ValueError, LookupError, TypeError) as error:
            raise NoAnswer(f"{program} said what cannot be read: {said[:80]!r}") from error


def report(job: Mapping) -> Report:
    """Return what the attributes of a job mean."""
    status = job["JobStatus"]
    state = _STATES[status] if 0 < status < len(_STATES) else f"JobStatus {status}"
    if status == _COMPLETED:
        return _completed(job, state)
    if status == _REMOVED:
        why = str(job.get("RemoveReason") or "")
        return system.failed(state, system.logged(why) or system.CANCELLED, why)
    if status == _HELD:
        return _held(job, state)
    if status == _IDLE:
        return Report(WAITS, state, str(job.get("LastRejMatchReason") or ""))
    return Report(RUNS, state, stuck=status == _SUSPENDED)


def _completed(job: Mapping, state: str) -> Report:
    if job.get("ExitBySignal"):
        return system.failed(state, f"signal {job.get('ExitSignal')} ended it")
    if job.get("ExitCode", 0) == 0:
        return Report(DONE, state)
    return system.failed(state, f"it exited with {job['ExitCode']}")


def _held(job: Mapping, state: str) -> Report:
    """Return what a hold means: where no user wanted it, the job has failed; it is removed from the queue."""
    reason, code = str(job.get("HoldReason") or "held"), job.get("HoldReasonCode")
    if code in _WANTED_SO:
        return Report(WAITS, state, reason, stuck=True)
    words = _HELD_FOR.get(code) or system.logged(reason) or "the batch system held it"
    return replace(system.failed(state, words, reason), stuck=True)


def _too_large(wanted: Wanted) -> str:
    """Say that no machine of the pool is large enough; nothing if one is, or none is known."""
    known = system.ask("condor_status", "-af", "TotalSlotCpus", "TotalSlotMemory")
    rows = [row.split() for row in known.splitlines()]
    found = [(float(row[0]), float(row[1])) for row in rows if len(row) == 2 and row[1].isdigit()]
    if not found or any(cores >= wanted.cores and size >= wanted.memory_mb for cores, size in found):
        return ""
    cores, size = max(found, key=lambda each: each[1])
    asked = f"{wanted.cores} cores and {wanted.memory_mb} MB of memory"
    return f"no machine has {asked}; the largest has {cores:g} and {size:g} MB"
