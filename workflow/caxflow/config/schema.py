"""The closed schemas of the configuration's files, and what is wrong with a document in words.

Each job is a process that reads the configuration again. What its parent checked, it need not check: digests
of good documents are handed on in the environment, and a sixth of a small job's CPU time is saved with them.
"""

import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caxflow.config.yamlfile import Word, by_looks, each_word, is_unclear, number, read_yaml, truth
from caxflow.errors import CaxflowError

if TYPE_CHECKING:
    import jsonschema

CHECKED = "CAXFLOW_CHECKED"  # digests of documents that are good, in the environment
SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"

MOST = 100  # digests that are kept
_LONG = 120  # signs of a value that a message shows

_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping of keys to values",
    "string": "text",
}

_READERS = {"integer": number, "number": number, "boolean": truth}

_schemas: dict[str, dict] = {}


def _schema(kind: str) -> dict:
    if kind not in _schemas:
        _schemas[kind] = read_yaml(SCHEMAS / f"{kind}.schema.yaml")
    return _schemas[kind]


def _validator(kind: str) -> "jsonschema.Draft202012Validator":
    import jsonschema

    draft = jsonschema.Draft202012Validator
    # JSON Schema calls 200.0 an integer, which Python cannot count with; and no bound holds a nan.
    types = draft.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number})
    return jsonschema.validators.extend(draft, type_checker=types)(_schema(kind))


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: object, value: object) -> bool:
    return _is_integer(_, value) or (isinstance(value, float) and not math.isnan(value))


def read(document: Mapping, kind: str, where: Callable[..., object]) -> dict[str, Any]:
    """Return a document of the kind ``config`` or ``site``, checked, each word as its schema wants it.

    Parameters
    ----------
    document : mapping
        With words as `yamlfile.read_words` leaves them.
    kind : str
    where : callable
        Is given the keys that lead to what is wrong, and returns the place that an error names.

    Raises
    ------
    CaxflowError
        Naming the place, the key and what fixes it.
    """
    likely = by_looks(document)
    if _is_checked(likely, kind):
        return likely
    from jsonschema.exceptions import best_match

    read = typed(document, kind, where)
    error = best_match(_validator(kind).iter_errors(read))
    if error is not None:
        what, mend = _explain(error)
        place = where(*error.absolute_path, *_wrong_key(error))
        raise CaxflowError(f"{place}: {what}{_line(error.instance)}", mend)
    read = each_word(read, str)
    os.environ[CHECKED] = " ".join([*os.environ.get(CHECKED, "").split()[-MOST:], _digest(read, kind)])
    return read


def typed(document: Mapping, kind: str, where: Callable[..., object] = lambda *_: "") -> dict[str, Any]:
    """Return a document with numbers and truth values where its schema wants them; all else as it is.

    What has no type in the schema is taken by its looks, and must look the same to all readers of YAML.
    """
    form = _schema(kind)

    def convert(value: object, schema: Mapping, way: tuple) -> Any:
        if "$ref" in schema:
            schema = form["$defs"][schema["$ref"].rpartition("/")[2]]
        if isinstance(value, Mapping):
            known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
            return {
                key: convert(
                    item, known.get(key) or (others if isinstance(others, Mapping) else {}), (*way, key)
                )
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [convert(item, schema.get("items", {}), (*way, index)) for index, item in enumerate(value)]
        if not isinstance(value, Word):
            return value
        if not schema and value.line and is_unclear(value):
            what = f"{_key(way)}: {str(value)!r} may be text, a number or a truth value{_line(value)}"
            mend = f"write '{value}' in quotes if it is text, else a plain number, true or false"
            raise CaxflowError(f"{where(*way)}: {what}", mend)
        if not schema:
            return by_looks(value) if value.line else value
        return _READERS.get(schema.get("type"), lambda word: word)(value)

    return convert(document, form, ())


def _line(value: object) -> str:
    return f" (line {value.line})" if isinstance(value, Word) and value.line else ""


def _wrong_key(error: "jsonschema.ValidationError") -> list[str]:
    """Return the key that a mapping has and must not have; what it lacks is nowhere."""
    if error.validator != "additionalProperties":
        return []
    return [next(name for name in error.instance if name not in error.schema.get("properties", ()))]


def _is_checked(document: Mapping, kind: str) -> bool:
    known = os.environ.get(CHECKED)
    return known is not None and _digest(document, kind) in known.split()


def _digest(document: Mapping, kind: str) -> str:
    """Of a document under its schema as it is now; what is no JSON is never the same twice."""
    form = (SCHEMAS / f"{kind}.schema.yaml").read_bytes()
    text = json.dumps(document, sort_keys=True, default=lambda _: os.urandom(8).hex())
    return hashlib.sha256(form + text.encode()).hexdigest()[:32]


def _key(way: Iterable[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in way).lstrip(".")


def _explain(error: "jsonschema.ValidationError") -> tuple[str, str]:
    """Say in words what a schema refuses, and how to mend it."""
    key = _key(error.absolute_path)
    prefix = f"{key}." if key else ""
    if error.validator == "additionalProperties":
        known, (wrong,) = list(error.schema.get("properties", ())), _wrong_key(error)
        near = difflib.get_close_matches(wrong, known, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"the keys here are {', '.join(known)}"
        return f"unknown key '{prefix}{wrong}'", mend
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"key '{prefix}{missing}' is missing", "add it; config/README.md describes every key"
    if error.instance is None:
        return f"{key} has no value", "give it one, or take the key out"
    if key.startswith("runs"):
        return _explain_run(key, error.instance)
    return _explain_value(key, error)


def _shown(value: object, form: Callable[[object], str] = repr) -> str:
    text = form(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _explain_value(key: str, error: "jsonschema.ValidationError") -> tuple[str, str]:
    value, described = error.instance, error.schema.get("description", "")
    if error.schema.get("writeOnly") or "://" in str(value):  # as the address of a webhook
        return f"{key}: its value, which may hold a secret, is not allowed", f"expected: {described}"
    what, mend = (
        error.message.replace(repr(value), _shown(value)),
        f"expected: {described}" if described else "see config/README.md",
    )
    if error.validator == "enum":
        what, mend = (
            f"{_shown(value)} is not allowed",
            f"use one of {', '.join(map(str, error.validator_value))}",
        )
    elif error.validator == "type":
        what = f"{_shown(value)} is not {_TYPES[error.validator_value]}"
        if error.validator_value == "array" and not isinstance(value, Mapping):
            mend = f"write {key}: [{_shown(value, str)}]"
        elif isinstance(value, str) and not isinstance(value, Word) and _read_as(error, value) is not value:
            mend = f"write it without quotes: {value}"
        elif error.validator_value == "boolean":
            mend = f"write {key}: true or {key}: false"
        elif isinstance(value, Word) and is_unclear(value):
            mend = f"write a decimal number without 0 in front, _ or :; {mend}"
    elif error.validator == "maxProperties":
        what, mend = (
            f"{' and '.join(value)} exclude each other",
            "keep one; null takes out the other",
        )
    elif error.validator == "pattern" and described:
        what = f"{_shown(value)} is not allowed"
    return f"{key}: {what}", mend


def _read_as(error: "jsonschema.ValidationError", text: str) -> object:
    return _READERS.get(error.validator_value, lambda word: word)(text)


def _explain_run(key: str, value: object) -> tuple[str, str]:
    # Other readers of YAML take 160315_1432 as the integer 1603151432: underscores may group digits there.
    if isinstance(value, int | str) and re.fullmatch(r"\d{9,10}", str(value), re.ASCII):
        name = f"{int(value) // 10_000:06d}_{int(value) % 10_000:04d}"
        mend = f"quote it: runs: ['{name}'], or on the command line --config runs=\"['{name}']\""
        return f"{key}: YAML reads an unquoted run name as the number {value}", mend
    if not isinstance(value, list) and key == "runs":
        return (
            f"{key}: {_shown(value)} is not a list",
            f"write runs: ['{_shown(value, str)}'], or --config runs=\"['{_shown(value, str)}']\"",
        )
    return (
        f"{key}: {_shown(value)} is not the name of a run",
        "names look like 160315_1432 or 160315_1432_MV",
    )
