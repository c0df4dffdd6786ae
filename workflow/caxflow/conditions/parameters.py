"""What a run document may set for a processor: some parameters by name, each of one type and size.

pax takes its configuration for code: one section holds statements that it executes, others name plug-ins to
import, files to unpickle and types to compile. A writer of the runs database writes none of these:
documents set what corrections set, and what the configuration admits besides, as ``run_parameters`` of a
processor. All else is refused by its name, and its run is not processed.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from caxflow import documents, values
from caxflow.conditions import corrections
from caxflow.conditions.corrections import CORRECTIONS, PROMISED
from caxflow.conditions.runkind import CHANNELS, TPC

# The names of a document's parameters, where its projection has them in the place of the parameters.
NAMES = "caxflow_parameters"

_BOOKKEEPING = "correction_versions"
_MOST_IN_LIST = 1000
_PLAIN = re.compile(r"[A-Za-z_][\w|.]{0,99}", re.ASCII)


def _number(found: object) -> int | float | None:
    number = values.number(found)
    return number if number is not None and number > 0 else None


def _gains(found: object) -> list | None:
    if not isinstance(found, list) or not 0 < len(found) <= CHANNELS[TPC]:
        return None
    gains = [values.number(gain) for gain in found]
    return gains if all(gain is not None and gain >= 0 for gain in gains) else None


def _simple(found: object) -> Any:
    """Return a number, a truth value, a word, or a list of these; None for anything else."""
    if isinstance(found, list):
        items = [_simple(item) for item in found if not isinstance(item, list)]
        return items if len(items) == len(found) <= _MOST_IN_LIST and None not in items else None
    if found is True or found is False:
        return found
    return values.number(found) if values.text(found) is None else corrections.file_name(found)


_Reader = tuple[Callable[[object], Any], str]
_SIMPLE: _Reader = _simple, "a number, a word, true, false or a list of up to 1000 of them"


def _reader(correction: corrections.Correction) -> _Reader:
    if correction.parameter == "gains":
        return _gains, f"a list of up to {CHANNELS[TPC]} gains"
    if correction.symbols:
        return _number, "a positive number"
    return corrections.file_name, "the name of a file without a folder"


_ADMITTED = {(each.section, each.parameter): _reader(each) for each in CORRECTIONS}
_SECTIONS = (_BOOKKEEPING, *(section for section, _ in _ADMITTED))


def read(processor: object, also: Collection[str] = ()) -> tuple[dict[str, dict], list[str]]:
    """Read the parameters under the key ``processor`` of a run document.

    Parameters
    ----------
    processor : object
    also : collection of str
        What the configuration admits besides, as ``Section.key``.

    Returns
    -------
    sections, refused
        Plain values by section, as the document writes its name, and parameter; and in words, what is not
        admitted.
    """
    if not isinstance(processor, Mapping):
        wrong = [] if processor is None else [f"processor is {values.said(processor)}, not sections"]
        return {}, wrong
    sections, refused = {}, []
    for section in sorted(processor, key=str):
        parameters = processor[section]
        if section == _BOOKKEEPING:
            continue
        if not isinstance(parameters, Mapping):
            refused.append(f"{_named(section)} is {values.said(parameters)}, not a section of parameters")
            continue
        if not parameters and section not in _SECTIONS:
            refused.append(_foreign(section))
            continue
        sections[str(section)] = {}
        for key in sorted(parameters, key=str):
            reader = _reader_of(section, key, also)
            if reader is None:
                refused.append(_foreign(section, key))
                continue
            found = parameters[key]
            # cax writes null where none of its ranges holds the run.
            value = found if found is None or found is PROMISED else reader[0](found)
            if value is None and found is not None:
                refused.append(f"{_named(section, key)} is {values.said(found)}, not {reader[1]}")
            sections[str(section)][str(key)] = value
    return sections, refused


def refused(document: Mapping, also: Collection[str] = ()) -> Iterator[str]:
    """Say in words what of a run document, whole or as planning knows it, no processor is given."""
    names = documents.value(document, NAMES, type_=list) or ()
    for section in names:
        name, keys = (documents.value(section, key) for key in ("name", "keys"))
        for key in keys if isinstance(keys, list) and name != _BOOKKEEPING else ():
            if _reader_of(name, key, also) is None:
                yield _foreign(name, key)
        if keys == [] and name not in _SECTIONS:
            yield _foreign(name)
        if keys is None and name is not None:
            yield f"{_named(name)} is not a section of parameters"
    processor = documents.value(document, "processor", type_=Mapping)
    yield from read(processor, also)[1]


def _reader_of(section: object, key: object, also: Collection[str]) -> _Reader | None:
    if values.text(section) is None or values.text(key) is None:
        return None
    if found := _ADMITTED.get((section, key)):
        return found
    return _SIMPLE if also and f"{section}.{key}".replace("|", ".") in also else None


def _foreign(*path: object) -> str:
    return f"{_named(*path)} is nothing that a run document may set"


def _named(*path: object) -> str:
    words = (name if isinstance(name, str) and _PLAIN.fullmatch(name) else repr(name)[:60] for name in path)
    return ".".join(("processor", *words))
