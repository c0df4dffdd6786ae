"""Submissions that are only tried: what a batch system has against a job, of which none runs.

Slurm and Grid Engine verify a submission (``--test-only``, ``-w v``); HTCondor reads it (``-dry-run``), and
its machines tell how large a job may be; PBS takes it on hold, and it is deleted again.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence

from caxflow import preview
from caxflow.batch.batchsystem import Wanted
from caxflow.errors import CaxflowError

_PATIENCE = 60  # s; a controller under load answers late


def trial(system: str, words: Sequence[str], wanted: Wanted) -> str | None:
    """Have a batch system look at a submission.

    Parameters
    ----------
    system : str
        ``slurm``, ``htcondor``, ``sge`` or ``pbs``.
    words : sequence of str
        The command that submits.
    wanted : Wanted
        What it asks for.

    Returns
    -------
    str or None
        What the batch system has against it, in its own words, empty if nothing; None where it cannot be
        asked without changing something, and nothing may be changed.

    Raises
    ------
    CaxflowError
        If it does not answer.
    """
    program, *rest = words
    if system == "slurm":
        return _said(program, "--test-only", *rest) or _too_long(wanted)
    if system == "sge":
        return _verified(program, *rest)
    if system == "htcondor":
        return _said(program, "-dry-run", os.devnull, *rest) or _too_large(wanted)
    return None if preview.only_looks() else _held(program, *rest)


def condor_description(wanted: Wanted, lines: Sequence[str], folder: str) -> list[str]:
    """Write the description of a job for HTCondor into a folder; return the command that submits it."""
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".submit", delete=False) as file:
        asked = (f"request_cpus = {wanted.cores}", f"request_memory = {wanted.memory_mb}MB")
        limit = f"allowed_execute_duration = {60 * wanted.minutes}"
        file.write("\n".join(["executable = /bin/true", *asked, limit, *lines, "queue", ""]))
    return ["condor_submit", file.name]


def _said(*words: str) -> str:
    done = _run(words)
    return _complaint(done) if done.returncode else ""


def _verified(program: str, *rest: str) -> str:
    done = _run((program, "-w", "v", *rest))
    # Its exit code is that of a submission, of which there is none.
    return "" if re.search(r"verification: found", done.stdout + done.stderr) else _complaint(done)


def _held(program: str, *rest: str) -> str:
    done = _run((program, "-h", *rest))
    if done.returncode or not done.stdout.strip():
        return _complaint(done)
    job = done.stdout.split()[-1]
    gone = _run(("qdel", job))
    if gone.returncode:
        raise CaxflowError(f"the job {job} that was tried stays on hold: {_complaint(gone)}", f"qdel {job}")
    return ""


def _too_long(wanted: Wanted) -> str:
    """Say that a partition gives less time, where Slurm takes such a job and never begins it."""
    chosen = [f"--partition={wanted.queue}"] if wanted.queue else []
    said = _run(("sinfo", "--noheader", "--format=%P|%l", *chosen)).stdout
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


def _too_large(wanted: Wanted) -> str:
    """Say that no machine of a pool is large enough; nothing if one is, or none is known."""
    known = _run(("condor_status", "-af", "TotalSlotCpus", "TotalSlotMemory")).stdout
    rows = [row.split() for row in known.splitlines()]
    found = [(float(row[0]), float(row[1])) for row in rows if len(row) == 2 and row[1].isdigit()]
    if not found or any(cores >= wanted.cores and size >= wanted.memory_mb for cores, size in found):
        return ""
    cores, size = max(found, key=lambda each: each[1])
    asked = f"{wanted.cores} cores and {wanted.memory_mb} MB of memory"
    return f"no machine has {asked}; the largest has {cores:g} and {size:g} MB"


def _run(words: Sequence[str]) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(
            list(words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CaxflowError(f"{words[0]}: {error}", f"try it by hand: {words[0]}") from error


def _complaint(done: subprocess.CompletedProcess) -> str:
    """Return what a command complained of, without its name, in one line."""
    lines = [
        re.sub(r"^(\w+: )?(error|fatal|warning): |^(qsub|sbatch|ERROR): ", "", line.strip())
        for line in (done.stderr or done.stdout).splitlines()
    ]
    return "; ".join(dict.fromkeys(filter(None, lines)))[:400] or f"exit code {done.returncode}"
