"""The frozen settings of a run: all that a processing job needs to know, as a file.

Batch jobs talk to no database. What the run document and its corrections say at planning time is written
down as plain JSON, with where every value came from, and stays with the product.
"""

import datetime
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from caxflow import documents, receipts, values
from caxflow.conditions import corrections, parameters
from caxflow.conditions.runkind import CHANNELS, CONFIGURATIONS, LED, MUON_VETO, TPC, kind_of
from caxflow.errors import CaxflowError
from caxflow.targets import Run

REQUIRED = {
    TPC: ("gains", "drift_velocity_liquid", "electron_lifetime_liquid"),
    LED: (),
    MUON_VETO: (),
}
DEFAULT_EVENTS_PER_FILE = 1000
DO_NOT_PROCESS = "donotprocess"

_WRITE_TO_FILES = 2  # the readers' write_mode in which raw data exist at all
_REMOVE = "correct it in the run document, or remove it there"


def skip_reason(document: Mapping, *, has_verified_raw: bool, also: Collection[str] = ()) -> str | None:
    """Why a run is not processed now, or None if it can be.

    Parameters
    ----------
    document : mapping
        The run document.
    has_verified_raw : bool
        Whether a byte-verified raw copy is at the site.
    also : collection of str
        What a document may set besides, see `caxflow.conditions.parameters`.

    Raises
    ------
    CaxflowError
        Naming the run and the key, if the document cannot be understood.
    """
    return next(_reasons(document, has_verified_raw, also), None)


def freeze(
    document: Mapping,
    *,
    processor: str,
    pax_version: str,
    also: Collection[str] = (),
    now: datetime.datetime | None = None,
) -> dict[str, Any]:
    """Settings of a run for a processor, as plain JSON types.

    Parameters
    ----------
    document : mapping
        The run document, corrections written.
    processor, pax_version : str
        Name of the configured processor, and the version its products carry
        (`caxflow.processing.processors`).
    also : collection of str
        As of `skip_reason`.
    now : datetime, optional
        Time of freezing; the present by default.

    Returns
    -------
    dict
        ``run, name, detector, number, kind, configuration, start, events_built, events_per_file``,
        ``processor`` (section to parameters, as the document writes it: section names with ``|``),
        ``correction_versions``, ``made_for``, ``sources`` (key to where it is from) and ``frozen``.

    Raises
    ------
    CaxflowError
        Naming the run and the key, if a value is missing, of the wrong type or not representable.
    """
    run = documents.run_of(document)
    kind = kind_of(document)
    number = documents.value(document, "number", type_=int)
    if number is None:
        raise _bad(run, "number", document.get("number"), "a whole number")
    events_per_file = _count(
        document, run, "reader", "ini", "trigger_config_override", "Zip", "events_per_file"
    )
    start = documents.time_of(document.get("start"))
    overrides, refused = parameters.read(document.get("processor"), also)
    if refused:
        raise CaxflowError(f"{run}: {refused[0]}", _REMOVE)
    _check_gains(overrides.get("DEFAULT", {}).get("gains"), run, kind)
    versions = corrections.recorded_versions(document)
    return {
        "run": str(run),
        "name": run.name,
        "detector": run.detector,
        "number": number,
        "kind": kind,
        "configuration": CONFIGURATIONS[kind],
        "start": None if start is None else start.isoformat(),
        "events_built": _count(document, run, "trigger", "events_built"),
        "events_per_file": events_per_file or DEFAULT_EVENTS_PER_FILE,
        "processor": overrides,
        "correction_versions": dict(sorted(versions.items())),
        "made_for": {"processor": processor, "pax_version": pax_version},
        "sources": _sources(overrides, versions, default_events_per_file=events_per_file is None),
        "frozen": (now or receipts.now()).isoformat(),
    }


def _reasons(document: Mapping, has_verified_raw: bool, also: Collection[str]) -> Iterator[str]:
    """What speaks against processing; the first counts, since later ones build on the earlier."""
    run = documents.run_of(document)
    if DO_NOT_PROCESS in _tags(document, run):
        yield f"tagged {DO_NOT_PROCESS}"
    if documents.ended(document) is None:
        yield "still being taken"
    self_trigger = documents.value(document, "reader", "self_trigger")
    if values.truth(self_trigger) is None and run.detector != MUON_VETO:
        yield f"reader.self_trigger is {values.said(self_trigger)}: physics or LED is not guessed"
    mode = documents.value(document, "reader", "ini", "write_mode")
    if values.whole(mode) != _WRITE_TO_FILES:
        yield f"reader.ini.write_mode is {mode}, not {_WRITE_TO_FILES}"
    if not _count(document, run, "trigger", "events_built"):
        yield "no events built"
    yield from parameters.refused(document, also)
    found = documents.value(document, "processor", "DEFAULT", type_=Mapping) or {}
    missing = [name for name in REQUIRED[kind_of(document)] if found.get(name) is None]
    if missing:
        yield f"waiting for the corrections of {', '.join(missing)}"
    if not has_verified_raw:
        yield "no verified raw copy here"


def _bad(run: Run, key: str, found: object, wanted: str) -> CaxflowError:
    return CaxflowError(f"{run}: {key} is {values.said(found)}, not {wanted}", "correct the run document")


def _tags(document: Mapping, run: Run) -> list[str]:
    tags = document.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, Mapping) for tag in tags):
        raise _bad(run, "tags", tags, "a list of tags")
    return [tag.get("name") for tag in tags]


def _count(document: Mapping, run: Run, *keys: str) -> int | None:
    """A whole number that may be absent but not be something else."""
    found = documents.value(document, *keys)
    if found is None:
        return None
    if (count := values.whole(found)) is None:
        raise _bad(run, ".".join(keys), found, "a number of events")
    return count


def _check_gains(gains: list | None, run: Run, kind: str) -> None:
    # Runs of the commissioning list the arrays' tubes only.
    if gains is not None and len(gains) > CHANNELS[kind]:
        raise _bad(run, "processor.DEFAULT.gains", gains, f"a list of up to {CHANNELS[kind]} gains")


def _sources(overrides: Mapping, versions: Mapping, *, default_events_per_file: bool) -> dict[str, str]:
    by_key = {f"{each.section}.{each.parameter}": each.name for each in corrections.CORRECTIONS}
    sources = {}
    for section, found in overrides.items():
        for parameter in found:
            correction = by_key.get(f"{section}.{parameter}")
            corrected = correction in versions
            sources[f"{section}.{parameter}"] = (
                f"{correction} {versions[correction]}" if corrected else "run document"
            )
    sources["events_per_file"] = "default" if default_events_per_file else "run document"
    return sources
