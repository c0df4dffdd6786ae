"""The batch system: whether it is there, answers, and would take the jobs that the profile will ask for."""

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caxflow import words
from caxflow.batch import batchsystem
from caxflow.batch.batchsystem import Wanted
from caxflow.batch.trial import condor_description, trial
from caxflow.config import Settings
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding
from caxflow.processing import minitrees, processors
from caxflow.processing.processors import Resources

# Programs of batch systems, and one that asks whether the system answers.
_PROGRAMS = {
    "slurm": (("sbatch", "squeue", "scancel"), ["sinfo", "--noheader"]),
    "htcondor": (("condor_submit", "condor_q", "condor_rm"), ["condor_q", "-totals"]),
    "sge": (("qsub", "qstat", "qdel"), ["qstat", "-f"]),
    "pbs": (("qsub", "qstat", "qdel"), ["qstat", "-B"]),
}
_NAMES = {"gridengine": "sge"}
_SET = "set "
_SOME_EVENTS = 10_000  # enough for all cores
# Keys of resources that are lines of HTCondor's descriptions.
_CONDOR = ("accounting_group", "accounting_group_user", "requirements", "rank", "request_disk", "universe")


@dataclass(frozen=True)
class _Asked:
    """What a rule's jobs ask for: by default, and at most, in a last attempt or for a long run."""

    rule: str
    least: Resources
    most: Resources
    memory_key: str
    time_key: str


def examine(settings: Settings, file: Path, profile: Mapping[str, Any]) -> Iterator[Finding]:
    """Check what a profile's executor needs.

    Parameters
    ----------
    file : Path
        The profile's file, for messages.
    """
    system = _system(profile)
    if system is None:
        said = (
            f"executor {profile['executor']} of {file}: its commands are not known, so nothing was submitted"
        )
        yield Finding("batch system", DOUBTFUL, f"{said} to try them")
        return
    programs, question = _PROGRAMS[system]
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        mend = f"log in where {system}'s commands are, or add them to PATH"
        yield Finding("batch system", BAD, f"{', '.join(missing)} not found", mend)
        return
    answer = _answers(system, question)
    yield answer
    asked = _asked(settings)
    if answer.verdict == GOOD and asked:
        yield _try(system, file, profile, asked)


def _system(profile: Mapping[str, Any]) -> str | None:
    """Which batch system a profile submits to; None if that is not one that is known."""
    name = str(profile.get("executor"))
    if name == "caxflow":
        name = str(profile.get("caxflow-system"))
    elif name == "cluster-generic":
        command = str(profile.get("cluster-generic-submit-cmd"))
        found = re.search(r"caxflow\.batch\.batchsystem\s+(\w+)\s+submit", command)
        name = found[1] if found else ""
    name = _NAMES.get(name, name)
    return name if name in _PROGRAMS else None


def _answers(name: str, question: list[str]) -> Finding:
    try:
        done = subprocess.run(question, capture_output=True, text=True, timeout=20, check=False)
        said, good = (done.stderr or done.stdout).strip().splitlines()[:1], done.returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        said, good = [str(error)], False
    asked = shlex.join(question)
    if good:
        return Finding("batch system", GOOD, f"{name} answers {asked}")
    return Finding(
        "batch system", BAD, f"{asked}: {' '.join(said) or 'no answer'}", f"try it by hand: {asked}"
    )


def _asked(settings: Settings) -> _Asked | None:
    """What the largest jobs of this site ask for; None if it has none."""
    here, last = settings.here, processors.ATTEMPTS
    if here.processed and here.processed.make:
        processor, cores = settings.processor(here), here.processed.cores
        return _Asked(
            "process_raw",
            processors.resources(processor, events=_SOME_EVENTS, cores=cores),
            processors.resources(processor, events=None, cores=cores, attempt=last),
            f"memory_mb_per_core of processors.{processor.name}, or processed.cores of site {here.name}",
            f"cpu_ms_per_event of processors.{processor.name}",
        )
    if here.minitrees:
        key = "the partition: that is what minitrees take"
        return _Asked("make_minitrees", minitrees.resources(1), minitrees.resources(last), key, key)
    return None


def _try(system: str, file: Path, profile: Mapping[str, Any], asked: _Asked) -> Finding:
    """Have the largest job looked at, and where that is refused a common one."""
    about, resources = "test submission", _resources(profile, asked.rule)
    largest = _words_of(asked.most, resources)
    said = _refusal(system, profile, resources, asked.most)
    if said is None:
        return Finding(about, DOUBTFUL, f"{system} was not asked: nothing may be changed (dry: true)")
    if not said:
        return Finding(about, GOOD, f"{system} would take the largest job of {asked.rule}: {largest}")
    if refused := _refusal(system, profile, resources, asked.least):
        small = _words_of(asked.least, resources)
        key = _key(refused, file, resources, asked)
        return Finding(
            about, BAD, f"{system} refuses a job of {asked.rule} ({small}): {refused}", f"check {key}"
        )
    key = _key(said, file, resources, asked)
    what = f"{system} takes jobs of {asked.rule}, but not the largest, of long runs or last attempts"
    return Finding(about, DOUBTFUL, f"{what} ({largest}): {said}", f"check {key}")


def _refusal(
    system: str, profile: Mapping[str, Any], resources: Mapping[str, Any], size: Resources
) -> str | None:
    wanted = Wanted(
        name="caxflow-doctor",
        cores=_number(resources, "threads", size.cores),
        memory_mb=_number(resources, "mem_mb", size.memory_mb),
        minutes=_number(resources, "runtime", size.runtime),
        queue=_queue(resources),
    )
    with tempfile.TemporaryDirectory(prefix="caxflow-doctor-") as folder:
        if system == "htcondor":
            lines = [f"{key} = {resources[key]}" for key in _CONDOR if resources.get(key)]
            return trial(system, condor_description(wanted, lines, folder), wanted)
        script = Path(folder, "job.sh")
        script.write_text("#!/bin/sh\ntrue\n")
        program, *rest = batchsystem.SYSTEMS[system].submit(wanted, str(script))
        return trial(system, [program, *_options(profile, resources), *rest], wanted)


def _options(profile: Mapping[str, Any], resources: Mapping[str, Any]) -> list[str]:
    """Words that the executor adds to a submission."""
    executor = profile.get("executor")
    if executor == "caxflow":
        account = _account(resources)
        more = shlex.split(str(profile.get("caxflow-options") or ""))
        return [
            *([f"--account={account}"] if account and profile["caxflow-system"] == "slurm" else []),
            *more,
        ]
    if executor != "slurm":
        return []
    known = {"account": _account(resources), "reservation": profile.get("slurm-reservation")}
    if profile.get("slurm-no-account"):
        del known["account"]
    known["qos"] = profile.get("slurm-qos") or resources.get("qos")
    known |= {key: resources.get(key) for key in ("constraint", "clusters")}
    extra = shlex.split(str(resources.get("slurm_extra") or ""))
    return [*(f"--{key}={value}" for key, value in known.items() if value), *extra]


def _resources(profile: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """What a profile says of a rule's jobs; what it says over the rule stands under `_SET` as well."""
    default, own = _pairs(profile.get("default-resources")), profile.get("set-resources") or {}
    if not isinstance(own, Mapping):
        chosen = [str(word).partition(":") for word in own]
        own = {rule: [rest for name, _, rest in chosen if name == rule]}
    set_here = _pairs(own.get(rule)) | {"threads": _pairs(profile.get("set-threads")).get(rule)}
    return default | set_here | {_SET + key: value for key, value in set_here.items()}


def _pairs(said: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any]:
    """Read resources as Snakemake does, of a mapping or of words ``name=value``."""
    if isinstance(said, Mapping):
        found = dict(said)
    else:
        split = [str(word).partition("=") for word in said or ()]
        found = {name.strip(): value for name, _, value in split}
    return {
        key: value.strip().strip("'\"") if isinstance(value, str) else value for key, value in found.items()
    }


def _number(resources: Mapping[str, Any], key: str, by_rule: int) -> int:
    """What a job asks for; `set-resources` goes over what its rule says, `default-resources` does not."""
    value = str(resources.get(_SET + key))
    return int(value) if value.isdecimal() else by_rule


def _queue(resources: Mapping[str, Any]) -> str | None:
    return resources.get("slurm_partition") or resources.get("queue")


def _account(resources: Mapping[str, Any]) -> str | None:
    return resources.get("slurm_account") or resources.get("account")


def _words_of(size: Resources, resources: Mapping[str, Any]) -> str:
    asked = [
        words.count(_number(resources, "threads", size.cores), "core"),
        words.size(1e6 * _number(resources, "mem_mb", size.memory_mb)),
        words.duration(60 * _number(resources, "runtime", size.runtime)),
    ]
    asked += [f"partition {queue}"] if (queue := _queue(resources)) else []
    asked += [f"account {account}"] if (account := _account(resources)) else []
    return ", ".join(asked)


def _key(said: str, file: Path, resources: Mapping[str, Any], asked: _Asked) -> str:
    """Which key is wrong, by what a batch system has against a job."""
    where = f"in {file}"

    def named(keys: Sequence[str], otherwise: str) -> str:
        key = next((key for key in keys if resources.get(key)), None)
        return f"default-resources: {key} {where}, now {resources[key]}" if key else f"{otherwise} {where}"

    queue = named(("slurm_partition", "queue"), "default-resources: slurm_partition, which is not set,")
    for pattern, key in (
        (
            r"account|project|association",
            named(("slurm_account", "account"), "default-resources: slurm_account"),
        ),
        (r"qos", named(("qos", "slurm_extra"), "slurm-qos, or caxflow-options,")),
        (r"constraint|feature|licen[cs]e|gres", named(("constraint", "slurm_extra"), "caxflow-options")),
        (r"reservation", f"slurm-reservation {where}"),
        (r"time.?limit|walltime|h_rt|duration", f"{asked.time_key}, or {queue}"),
        (r"memory|h_vmem|\bmem\b", f"{asked.memory_key}, or {queue}"),
        (
            r"node configuration|cpu count|processors|cpus|slots|machine|suitable",
            f"{asked.memory_key}, or {queue}",
        ),
        (r"partition|queue", queue),
    ):
        if re.search(pattern, said, re.IGNORECASE):
            return key
    return f"default-resources {where}"
