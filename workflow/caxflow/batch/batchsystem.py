"""Batch systems without a plugin of Snakemake's, through its executor ``cluster-generic``.

``python -m caxflow.batch.batchsystem SYSTEM submit JOBSCRIPT`` prints the job's id, ``… status ID`` one of
``running``, ``success`` and ``failed``, ``… cancel ID…`` hands over and returns: Snakemake waits two seconds.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from caxflow.errors import CaxflowError

LOGS = Path(".snakemake/batch_logs")
RUNNING, SUCCESS, FAILED = "running", "success", "failed"

_PROPERTIES = re.compile(r"^# properties = (\{.*\})$", re.MULTILINE)
_OVER = ("BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")


@dataclass(frozen=True)
class Wanted:
    """What a job asks for: name, cores, MB, minutes, and a queue where one is named."""

    name: str
    cores: int
    memory_mb: int
    minutes: int
    queue: str | None


@dataclass(frozen=True)
class System:
    """The commands of a batch system.

    Parameters
    ----------
    submit : callable
        Words that submit a script for a `Wanted`; the command prints the id first.
    status : callable
        Status of the job of an id.
    cancel : str
        Program that takes ids.
    """

    submit: Callable[[Wanted, str], list[str]]
    status: Callable[[str], str]
    cancel: str


def read_wanted(script: Path) -> Wanted:
    """Read what Snakemake wrote into a job script about the job."""
    match = _PROPERTIES.search(script.read_text(encoding="utf-8"))
    if match is None:
        raise CaxflowError(f"{script} is not a job script of Snakemake's", "it is called by Snakemake only")
    properties = json.loads(match[1])
    resources = properties.get("resources", {})
    return Wanted(
        name=f"caxflow-{properties.get('rule') or properties.get('groupid', 'group')}",
        cores=int(properties.get("threads", 1)),
        memory_mb=int(resources.get("mem_mb", 1000)),
        minutes=int(resources.get("runtime", 60)),
        queue=resources.get("slurm_partition") or resources.get("queue"),
    )


def _slurm_submit(wanted: Wanted, script: str) -> list[str]:
    queue = [f"--partition={wanted.queue}"] if wanted.queue else []
    return [
        *("sbatch", "--parsable", "--no-requeue", f"--job-name={wanted.name}", "--ntasks=1"),
        *(f"--cpus-per-task={wanted.cores}", f"--mem={wanted.memory_mb}", f"--time={wanted.minutes}", *queue),
        *(f"--output={LOGS}/%j.log", script),
    ]


def _slurm_status(job: str) -> str:
    code, said = _ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
    if code and "Invalid job id" not in said:
        return RUNNING
    if code or not said:  # forgotten after MinJobAge: then only accounting knows
        code, said = _ask(
            "sacct", "--allocations", "--noheader", "--parsable2", "--format=State", f"--jobs={job}"
        )
        if code or not said:
            return FAILED
    state = said.split()[0].rstrip("+")
    return SUCCESS if state == "COMPLETED" else FAILED if state in _OVER else RUNNING


def _sge_submit(wanted: Wanted, script: str) -> list[str]:
    queue = ["-q", wanted.queue] if wanted.queue else []
    return [
        *("qsub", "-terse", "-cwd", "-V", "-j", "y", "-r", "n", "-S", "/bin/bash", "-N", wanted.name, *queue),
        *("-pe", "smp", str(wanted.cores), "-l", f"h_rt={60 * wanted.minutes}"),
        # A limit of each core's share, where the site has made it requestable.
        *("-l", f"h_vmem={-(-wanted.memory_mb // wanted.cores)}M", "-o", f"{LOGS}/", script),
    ]


def _sge_status(job: str) -> str:
    code, said = _ask("qstat", "-u", "*")
    if code:
        return RUNNING
    for row in map(str.split, said.splitlines()):
        if row and row[0] == job:
            return FAILED if "E" in row[4] else RUNNING
    for _ in range(10):  # accounting is written a little later
        code, said = _ask("qacct", "-j", job)
        if code == 0:
            ends = re.findall(r"^(failed|exit_status)\s+(\d+)", said, re.MULTILINE)
            return SUCCESS if ends and all(number == "0" for _, number in ends) else FAILED
        time.sleep(0.5)
    return FAILED


def _pbs_submit(wanted: Wanted, script: str) -> list[str]:
    queue = ["-q", wanted.queue] if wanted.queue else []
    walltime = f"{wanted.minutes // 60:02d}:{wanted.minutes % 60:02d}:00"
    return [
        *("qsub", "-V", "-j", "oe", "-r", "n", "-N", wanted.name[:15], *queue, "-o", f"{LOGS}/"),
        *(
            "-l",
            f"select=1:ncpus={wanted.cores}:mem={wanted.memory_mb}mb",
            "-l",
            f"walltime={walltime}",
            script,
        ),
    ]


def _pbs_status(job: str) -> str:
    code, said = _ask("qstat", "-x", "-f", job)
    if code:
        return RUNNING
    fields = dict(re.findall(r"^\s*(job_state|Exit_status) = (\S+)", said, re.MULTILINE))
    if fields.get("job_state") not in ("F", "C"):
        return RUNNING
    return SUCCESS if fields.get("Exit_status") == "0" else FAILED


SYSTEMS = {
    "slurm": System(_slurm_submit, _slurm_status, "scancel"),
    "sge": System(_sge_submit, _sge_status, "qdel"),
    "pbs": System(_pbs_submit, _pbs_status, "qdel"),
}


def submit(system: System, script: str) -> str:
    """Submit a job script; its id.

    Raises
    ------
    CaxflowError
        With what the batch system said against it.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    words = system.submit(read_wanted(Path(script)), script)
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        said = " ".join(done.stderr.split()) or "nothing"
        raise CaxflowError(f"{words[0]} took no job and said: {said}", "mend the job's resources or queue")
    return re.split(r"[;\s]", done.stdout.strip().splitlines()[-1])[0]


def cancel(system: System, jobs: Sequence[str]) -> None:
    """Have jobs cancelled; does not wait for it."""
    subprocess.Popen(
        [system.cancel, *jobs],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main(words: Sequence[str]) -> int:
    """What Snakemake calls; a status is always given, since a failure to ask would end the workflow."""
    if len(words) < 3 or words[0] not in SYSTEMS or words[1] not in ("submit", "status", "cancel"):
        known = ",".join(SYSTEMS)
        sys.stderr.write(f"usage: python -m caxflow.batch.batchsystem {{{known}}} submit|status|cancel …\n")
        return 2
    system, verb, rest = SYSTEMS[words[0]], words[1], words[2:]
    try:
        if verb == "cancel":
            cancel(system, rest)
        else:
            answer = submit(system, rest[0]) if verb == "submit" else system.status(rest[0])
            sys.stdout.write(f"{answer}\n")
    except CaxflowError as error:
        sys.stderr.write(f"caxflow: {error}\n")
        return 1
    return 0


def _ask(*words: str) -> tuple[int, str]:
    """Exit code of a query and what it said; no answer in time counts as none."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout.strip() if done.returncode == 0 else done.stderr


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
