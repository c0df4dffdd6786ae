"""The batch system: whether it is there, answers, and would take the jobs that the profile will ask for."""

import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caxflow import batch, variables, words
from caxflow.batch.queue import Limits
from caxflow.batch.system import NoAnswer, System, Wanted, ask
from caxflow.config import Settings
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding
from caxflow.processing import minitrees, processors
from caxflow.processing.processors import Resources

_SET = "set "
_SOME_EVENTS = 10_000  # enough for all cores


@dataclass(frozen=True)
class _Asked:
    """What a rule's jobs ask for: by default, and at most, in a last attempt or for a long run."""

    rule: str
    least: Resources
    most: Resources


def examine(settings: Settings, file: Path, profile: Mapping[str, Any]) -> Iterator[Finding]:
    """Check what a profile's executor needs.

    Parameters
    ----------
    file : Path
        The profile's file, for messages.
    """
    if profile.get("executor") != "caxflow":
        said = (
            f"executor {profile['executor']} of {file} is not caxflow's, so nothing was submitted to try it"
        )
        yield Finding("batch system", DOUBTFUL, said, "see profiles/README.md for executor: caxflow")
        return
    system = batch.load(profile.get("caxflow-system"))
    options = system.options(str(profile.get("caxflow-options") or ""))
    variables.declare(str(profile.get("caxflow-variables") or "").split(), f"{file}: caxflow-variables")
    names = ("lost_after", "longest_silence", "longest_wait")
    limits = {name: profile.get("caxflow-" + name.replace("_", "-")) for name in names}
    Limits.of_profile(**{name: float(value) for name, value in limits.items() if value is not None})
    missing = [program for program in system.programs if shutil.which(program) is None]
    if missing:
        fix = f"log in where the commands of {system.title} are, or add them to PATH"
        yield Finding("batch system", BAD, f"{', '.join(missing)} not found", fix)
        return
    asked = shlex.join(system.question)
    try:
        ask(*system.question)
    except NoAnswer as error:
        yield Finding("batch system", BAD, error.what, error.mend)
        return
    yield Finding("batch system", GOOD, f"{system.title} answers {asked}")
    if wanted := _asked(settings):
        yield _try(system, file, profile, wanted, options)


def _asked(settings: Settings) -> _Asked | None:
    """Return what the largest jobs of this site ask for; None if it has none."""
    here, last = settings.here, processors.ATTEMPTS
    if here.processed and here.processed.make:
        processor, cores = settings.processor(here), here.processed.cores
        return _Asked(
            "process_raw",
            processors.resources(processor, events=_SOME_EVENTS, cores=cores),
            processors.resources(processor, events=None, cores=cores, attempt=last),
        )
    if here.minitrees:
        return _Asked("make_minitrees", minitrees.resources(1), minitrees.resources(last))
    return None


def _try(
    system: System, file: Path, profile: Mapping[str, Any], asked: _Asked, options: Sequence[str]
) -> Finding:
    """Have the largest job looked at, and where that is refused a common one."""
    about, title, resources = "test submission", system.title, _resources(profile, asked.rule)
    largest, least = (_wanted(system, resources, size, options) for size in (asked.most, asked.least))
    said = _refusal(system, largest)
    if said is None:
        return Finding(about, DOUBTFUL, f"{title} was not asked: nothing may be changed (dry: true)")
    if not said:
        return Finding(
            about, GOOD, f"{title} would take the largest job of {asked.rule}: {_in_words(largest)}"
        )
    if refused := _refusal(system, least):
        what = f"{title} refuses a job of {asked.rule} ({_in_words(least)}): {refused}"
        return Finding(about, BAD, what, _fix(system, refused, least, file))
    what = f"{title} takes jobs of {asked.rule}, but not the largest, of long runs or last attempts"
    return Finding(
        about, DOUBTFUL, f"{what} ({_in_words(largest)}): {said}", _fix(system, said, largest, file)
    )


def _fix(system: System, said: str, wanted: Wanted, file: Path) -> str:
    return system.fix(said, wanted).replace("the profile", str(file))


def _refusal(system: System, wanted: Wanted) -> str | None:
    with tempfile.TemporaryDirectory(prefix="caxflow-doctor-") as folder:
        script = Path(folder, "job.sh")
        script.write_text("#!/bin/sh\ntrue\n")
        return system.trial(wanted, script, Path(folder))


def _wanted(system: System, resources: Mapping[str, Any], size: Resources, options: Sequence[str]) -> Wanted:
    return Wanted(
        name="caxflow-doctor",
        about="a trial",
        cores=_number(resources, "threads", size.cores),
        memory_mb=_number(resources, "mem_mb", size.memory_mb),
        minutes=_number(resources, "runtime", size.runtime),
        queue=system.queue_of(resources),
        account=system.account_of(resources),
        options=options,
    )


def _resources(profile: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """Return what a profile says of a rule's jobs; what it says over the rule stands under `_SET` as well."""
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
    """Return what a job asks for: `set-resources` goes over its rule, `default-resources` does not."""
    value = str(resources.get(_SET + key))
    return int(value) if value.isdecimal() else by_rule


def _in_words(wanted: Wanted) -> str:
    asked = [
        words.count(wanted.cores, "core"),
        words.size(1e6 * wanted.memory_mb),
        words.duration(60 * wanted.minutes),
    ]
    asked += [f"queue {wanted.queue}"] if wanted.queue else []
    return ", ".join(asked + ([f"account {wanted.account}"] if wanted.account else []))
