"""Processors by name and version, as the configuration defines them.

A processor is embedded (``kind: mini``) or a command (``kind: command``), usually pax's ``paxer``. Its
product is ``<dir_processed>/pax_<pax_version>/<run>.root``.

What `pax_version` is matters to programs that are not ours. hax takes the entry with the largest version,
cuts off its first letter, the "v", and with a version policy of numbers reads *every* entry's version as
integers between dots: one that reads ``mini_v1`` would end hax for everybody. So a version is always "v" and
numbers. Those of ``pax_v6.11.2`` are pax's own. Those of ``mini_v1`` are ``v0.0.1``: below every release of
pax, so that by any ordering a file made by pax is preferred, and no policy that names a release admits it.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caxflow import words
from caxflow.errors import CaxflowError
from caxflow.processing import commands
from caxflow.targets import Run

PLACEHOLDERS = {
    "input": "directory of the raw dataset",
    "output": "file to write",
    "output_stem": "the same without .root, which pax adds",
    "overrides": "ini file with the run's parameters",
    "configuration": "XENON1T, XENON1T_LED or XENON1T_MV",
    "input_type": "zpickle or zbson",
    "threads": "how many events at a time",
    "tmp": "folder for temporary files",
    "run": "name of the run, 160315_1432 or 160315_1432_MV",
    "number": "number of the run",
}

_PAX_VERSION = re.compile(r"v\d+(?:\.\d+)*")
_PARAMETER = re.compile(r"(?!pax\.)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*){1,5}", re.ASCII)
_KEYS = {
    "mini": {"kind", "pax_version", "scatter", "memory_mb_per_core", "cpu_ms_per_event"},
    "command": {"kind", "command", "setup", "module", "conda", "container", "overrides", "pax_version"}
    | {"memory_mb_per_core", "cpu_ms_per_event", "run_parameters", "variables"},
}
# What a command means depends on these.
_AROUND = ("setup", "module", "conda", "container", "overrides", "variables")
# What a job reserves where the configuration does not say: pax needs 2 GB a core and 125 ms an event.
_MEMORY_MB_PER_CORE = {"mini": 1000, "command": 2000}
_CPU_MS_PER_EVENT = {"mini": 20, "command": 125}
_LONGEST_MINUTES = 48 * 60
ATTEMPTS = 3  # of a job in one call, each with as much memory and time again
_FEW_EVENTS = 1000
_EVENTS_WORTH_A_CORE = 100


@dataclass(frozen=True)
class Processor:
    """A processor of one version.

    Parameters
    ----------
    name : str
        As configured, ``mini_v1`` or ``pax_v6.11.2``.
    kind : str
        ``mini`` or ``command``.
    pax_version : str
        Version that folders and database entries carry, "v" and numbers.
    template : Template or None
        The command, of kind ``command``.
    overrides : mapping
        Sections of pax's configuration that hold for every run, below what the run says.
    run_parameters : tuple of str
        What run documents may set beside what corrections set, as ``Section.key``.
    memory_mb_per_core, cpu_ms_per_event : float
        What a job needs.
    scatter : int or None
        So many zips a job, of kind ``mini``; without it one job does a whole run.
    places : sequence of (str, sequence of str)
        Which place of the configuration says which keys, in the order in which they go over each other.
    """

    name: str
    kind: str
    pax_version: str
    template: commands.Template | None = None
    environment: commands.Environment = field(default_factory=commands.Environment)
    overrides: Mapping[str, Mapping] = field(default_factory=dict)
    run_parameters: tuple[str, ...] = ()
    memory_mb_per_core: float = 0
    cpu_ms_per_event: float = 0
    scatter: int | None = None
    places: Sequence[tuple[str, Sequence[str]]] = ()

    @property
    def inherits(self) -> str:
        """What its command runs in that an earlier place says than the one with the command; or empty."""
        with_command = [number for number, (_, keys) in enumerate(self.places) if "command" in keys]
        earlier = self.places[: with_command[0]] if with_command else ()
        return by_place((place, [key for key in keys if key in _AROUND]) for place, keys in earlier)

    def parts(self, events: int | None, events_per_file: int) -> int:
        """Over how many jobs a run is scattered; 0 where a single one does it all."""
        if not self.scatter or not events:
            return 0
        parts = math.ceil(math.ceil(events / events_per_file) / self.scatter)
        return parts if parts > 1 else 0

    def product_path(self, dir_processed: str | Path, run: Run) -> Path:
        """Where the product of a run is, or will be."""
        return Path(dir_processed) / f"pax_{self.pax_version}" / f"{run}.root"


@dataclass(frozen=True)
class Resources:
    """What a job reserves: cores, MB, minutes."""

    cores: int
    memory_mb: int
    runtime: int


def read(name: str, definition: Mapping) -> Processor:
    """Read the definition of a processor.

    Parameters
    ----------
    name : str
    definition : mapping
        ``kind``, and for a command ``command`` and any of ``setup, module, conda, container, overrides,
        variables``; ``pax_version``, ``memory_mb_per_core`` and ``cpu_ms_per_event`` where the defaults do
        not fit.

    Raises
    ------
    CaxflowError
        Naming the processor and the key.
    """
    about = f"processor {name}"
    kind = definition.get("kind")
    if kind not in _KEYS:
        raise CaxflowError(f"{about}: kind is {kind!r}", "the kinds are mini and command")
    unknown = sorted(set(definition) - _KEYS[kind])
    if unknown:
        raise CaxflowError(
            f"{about}: unknown key {unknown[0]!r}", f"known are {', '.join(sorted(_KEYS[kind]))}"
        )
    return Processor(
        name=name,
        kind=kind,
        pax_version=_pax_version(name, kind, definition.get("pax_version")),
        template=_template(about, definition) if kind == "command" else None,
        environment=commands.Environment.read(definition, about),
        overrides=definition.get("overrides") or {},
        run_parameters=_run_parameters(about, definition.get("run_parameters") or ()),
        memory_mb_per_core=_positive(about, "memory_mb_per_core", definition, _MEMORY_MB_PER_CORE[kind]),
        cpu_ms_per_event=_positive(about, "cpu_ms_per_event", definition, _CPU_MS_PER_EVENT[kind]),
        scatter=_scatter(about, definition),
    )


def read_all(definitions: Mapping[str, Mapping]) -> dict[str, Processor]:
    """Read all processors of a configuration; two of the same version would fight for the same files."""
    processors = {name: read(name, definition) for name, definition in definitions.items()}
    owners: dict[str, str] = {}
    for name, processor in processors.items():
        other = owners.setdefault(processor.pax_version, name)
        if other != name:
            raise CaxflowError(
                f"processors {other} and {name} both have pax_version {processor.pax_version}",
                "give one of them another pax_version",
            )
    return processors


def by_place(places: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Say which keys stand where: ``conda and kind of config.yaml``; nothing of places without keys."""
    return "; ".join(f"{words.listed(keys)} of {place}" for place, keys in places if keys)


def threads(processor: Processor, *, events: int | None, cores: int) -> int:
    """How many events to process at a time on so many cores.

    pax: with fewer than 1000 events one, since it sometimes stalls with more; else all cores but one, which
    reads and writes. The embedded processor: all cores that get some hundred events each.
    """
    if processor.kind == "mini":
        return cores if events is None else max(1, min(cores, events // _EVENTS_WORTH_A_CORE))
    few = events is not None and events < _FEW_EVENTS
    return 1 if few else max(1, cores - 1)


def resources(processor: Processor, *, events: int | None, cores: int, attempt: int = 1) -> Resources:
    """What a job should reserve.

    Parameters
    ----------
    events : int or None
        Of the run; None if not known.
    cores : int
        The most that one job gets at the site.
    attempt : int
        Counts from 1; each further attempt gets as much memory and time again.

    Returns
    -------
    Resources
        At most 48 hours.
    """
    # pax needs one more core beside its threads.
    given = min(cores, threads(processor, events=events, cores=cores) + (processor.kind == "command"))
    working = threads(processor, events=events, cores=given)
    if events is None:
        runtime = _LONGEST_MINUTES
    else:
        # Three times what it should take: nodes differ, and a job that is cut off is worth nothing.
        expected = events * processor.cpu_ms_per_event / working / 60_000
        runtime = min(_LONGEST_MINUTES, (30 + round(3 * expected)) * attempt)
    return Resources(
        cores=given,
        memory_mb=round(processor.memory_mb_per_core * given * attempt),
        runtime=runtime,
    )


def _pax_version(name: str, kind: str, given: object) -> str:
    if given is None:
        if kind == "mini" and (match := re.fullmatch(r"mini_v(\d+)", name)):
            return f"v0.0.{int(match[1])}"
        if match := re.fullmatch(r"pax_(v[\d.]+)", name):
            given = match[1]
    if not isinstance(given, str) or not _PAX_VERSION.fullmatch(given):
        raise CaxflowError(
            f"processor {name}: pax_version is {given!r}, which hax cannot read",
            "call it mini_v1 or pax_v6.11.2, or give it a pax_version of v and numbers, as v6.11.2",
        )
    return given


def _template(about: str, definition: Mapping) -> commands.Template:
    text = _text(about, "command", definition.get("command"))
    template = commands.Template.read(text, PLACEHOLDERS, about)
    if "input" not in template.names or not template.names & {"output", "output_stem"}:
        raise CaxflowError(
            f"{about}: its command does not say where to read and write",
            "it needs {input} and {output_stem} or {output}",
        )
    return template


def _run_parameters(about: str, listed: Sequence) -> tuple[str, ...]:
    for name in listed:
        if not isinstance(name, str) or not _PARAMETER.fullmatch(name):
            raise CaxflowError(
                f"{about}: run_parameters has {name!r}, which is no parameter of a processor's plug-in",
                "write a section and a key of pax's configuration with a dot between them",
            )
    return tuple(listed)


def _text(about: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise CaxflowError(f"{about}: {key} is {value!r}, not text", f"write {key}: …")
    return value


def _scatter(about: str, definition: Mapping) -> int | None:
    zips = definition.get("scatter")
    if zips is None or (isinstance(zips, int) and not isinstance(zips, bool) and zips > 0):
        return zips
    raise CaxflowError(f"{about}: scatter is {zips!r}", "it is how many zips one job gets")


def _positive(about: str, key: str, definition: Mapping, default: float) -> float:
    value = definition.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise CaxflowError(f"{about}: {key} is {value!r}", "it is a number above 0")
    return value
