"""The frozen settings in the form in which pax reads them: an ini file of overrides.

pax 6.11 (``configuration.py``) reads it with Python's configparser: case-sensitive keys, ``$`` interpolation,
``#`` begins a comment, every value handed to ``eval``. So only literals are written, and nothing that comes
from a document can become a section, a key, a comment or code. pax executes values of some sections, too:
what is no parameter that a run may set (`caxflow.conditions.parameters`) is not written at all, wherever the
settings come from.
"""

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from caxflow.conditions import parameters
from caxflow.errors import CaxflowError

_SECTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# Input, output and plug-ins of pax are decided by its command line, not by a database.
_CORE = "pax"

_INPUT_TYPES = {"pickle": "zpickle", "bson": "zbson"}


def render(settings: Mapping, extra: Mapping[str, Mapping] | None = None, also: Collection[str] = ()) -> str:
    """Write the overrides of a run.

    Parameters
    ----------
    settings : mapping
        As `caxflow.conditions.settings.freeze` gives it.
    extra : mapping, optional
        Sections of a site's or a processor's own; what the run says goes before them.
    also : collection of str
        As `caxflow.conditions.parameters.read` takes it.

    Returns
    -------
    str
        Sections with the run's parameters; its number and name, which pax would otherwise look up in the
        runs database; and ``correction_versions``, which pax hands on into the metadata of its product.

    Raises
    ------
    CaxflowError
        Naming the run and the key that pax could not read as it is meant.
    """
    run = settings["run"]
    sections: dict[str, dict] = {}
    for name, found in (extra or {}).items():
        sections.setdefault(name, {}).update(found)
    own, refused = parameters.read(settings["processor"], also)
    if refused:
        raise CaxflowError(f"{run}: {refused[0]}", "remove it from the run document")
    mine = {name.replace("|", "."): found for name, found in own.items()}
    if len(mine) < len(own):
        raise CaxflowError(f"{run}: two sections of processor have the same name once | is .", "join them")
    for name, found in mine.items():
        sections.setdefault(name, {}).update(found)
    sections.setdefault("DEFAULT", {}).update(run_number=settings["number"], run_name=settings["name"])
    sections["correction_versions"] = settings["correction_versions"]
    lines = []
    for name, found in sections.items():
        if not _SECTION.fullmatch(name) or name == _CORE:
            raise CaxflowError(f"{run}: processor section {name[:60]!r} is not admitted", "remove it")
        lines.append(f"[{name}]")
        lines += [f"{_key(run, name, key)} = {_literal(run, name, key, found[key])}" for key in found]
        lines.append("")
    return "\n".join(lines)


def input_type(raw_directory: Path) -> str:
    """Name, as pax calls it, of the encoding of a raw dataset's events, seen in its first zip."""
    from caxflow.rawdata import rawformat

    first = rawformat.zip_names(raw_directory)[0]
    return _INPUT_TYPES[rawformat.encoding(raw_directory / first)]


def _key(run: str, section: str, key: str) -> str:
    if not _KEY.fullmatch(key):
        raise CaxflowError(f"{run}: processor.{section} has the key {key[:60]!r}", "correct the run document")
    return key


def _literal(run: str, section: str, key: str, value: object) -> str:
    if not _is_literal(value):
        raise CaxflowError(
            f"{run}: processor.{section}.{key} is no number, text or list", "correct the run document"
        )
    # Both signs can only stand inside a text here; pax reads the file in whatever encoding it finds.
    return ascii(value).replace("#", r"\x23").replace("$", "$$")


def _is_literal(value: object) -> bool:
    if isinstance(value, Mapping):
        return (
            type(value) is dict and all(type(key) is str for key in value) and _is_literal([*value.values()])
        )
    if isinstance(value, list):
        return all(map(_is_literal, value))
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (bool, int, str)
