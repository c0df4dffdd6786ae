"""The closed schemas of the configuration's files, and what is wrong with a document in words.

Each job is a process that reads the configuration again. What its parent checked, it need not check: digests
of good documents are handed on in the environment, and a sixth of a small job's CPU time is saved with them.
"""

import difflib
import functools
import hashlib
import json
import math
import operator
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow.config.yamlfile import read_word, read_yaml
from caxflow.errors import CaxflowError

if TYPE_CHECKING:
    import jsonschema

CHECKED = "CAXFLOW_CHECKED"  # digests of documents that are good, in the environment
SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"

MOST = 100  # digests that are kept

_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping of keys to values",
    "string": "text",
}

_schemas: dict[str, dict] = {}


def _validator(kind: str) -> "jsonschema.Draft202012Validator":
    import jsonschema

    if kind not in _schemas:
        _schemas[kind] = read_yaml(SCHEMAS / f"{kind}.schema.yaml")
    draft = jsonschema.Draft202012Validator
    # JSON Schema calls 200.0 an integer, which Python cannot count with; and no bound holds a nan.
    types = draft.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number})
    return jsonschema.validators.extend(draft, type_checker=types)(_schemas[kind])


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: object, value: object) -> bool:
    return _is_integer(_, value) or (isinstance(value, float) and not math.isnan(value))


def read_words(document: dict) -> None:
    """Read numbers and truth values where the schema wants them and there is text.

    Snakemake's ``--config`` hands on ``false``, and everything inside brackets, as text.
    """
    if _is_checked(document, "config"):
        return
    for error in list(_validator("config").iter_errors(document)):
        wanted = error.validator == "type" and error.validator_value in ("integer", "number", "boolean")
        if wanted and isinstance(error.instance, str):
            *way, last = error.absolute_path
            at = functools.reduce(operator.getitem, way, document)
            at[last] = read_word(error.instance)


def check(document: Mapping, kind: str, where: Callable[..., object]) -> None:
    """Check a document against the schema `kind`, ``config`` or ``site``.

    `where` is given the keys that lead to what is wrong, and returns the place that an error names.
    """
    if _is_checked(document, kind):
        return
    from jsonschema.exceptions import best_match

    error = best_match(_validator(kind).iter_errors(document))
    if error is not None:
        what, mend = _explain(error)
        place = where(*error.absolute_path, *_wrong_key(error))
        raise CaxflowError(f"{place}: {_without_secrets(what)}", mend)
    os.environ[CHECKED] = " ".join([*os.environ.get(CHECKED, "").split()[-MOST:], _digest(document, kind)])


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


def _without_secrets(text: str) -> str:
    """A message without the user and password of any URI in it."""
    return re.sub(r"//\S*@", "//", text)


def _explain(error: "jsonschema.ValidationError") -> tuple[str, str]:
    """Say in words what a schema refuses, and how to mend it."""
    key = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    ).lstrip(".")
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


def _explain_value(key: str, error: "jsonschema.ValidationError") -> tuple[str, str]:
    value, described = error.instance, error.schema.get("description", "")
    what, mend = error.message, f"expected: {described}" if described else "see config/README.md"
    if error.validator == "enum":
        what, mend = f"{value!r} is not allowed", f"use one of {', '.join(map(str, error.validator_value))}"
    elif error.validator == "type":
        what = f"{value!r} is not {_TYPES[error.validator_value]}"
        if error.validator_value == "array" and not isinstance(value, Mapping):
            mend = f"write {key}: [{value}]"
    elif error.validator == "maxProperties":
        what, mend = (
            f"{' and '.join(value)} exclude each other",
            "keep one; null takes out the other",
        )
    elif error.validator == "pattern" and described:
        what = f"{value!r} is not allowed"
    return f"{key}: {what}", mend


def _explain_run(key: str, value: object) -> tuple[str, str]:
    # YAML reads 160315_1432 as the integer 1603151432: underscores may group digits there.
    if isinstance(value, int) and re.fullmatch(r"\d{9,10}", str(value)):
        name = f"{value // 10_000:06d}_{value % 10_000:04d}"
        mend = f"quote it: runs: ['{name}'], or on the command line --config runs=\"['{name}']\""
        return f"{key}: YAML reads an unquoted run name as the number {value}", mend
    if not isinstance(value, list) and key == "runs":
        return f"{key}: {value!r} is not a list", f"write runs: ['{value}'], or --config runs=\"['{value}']\""
    return (
        f"{key}: {value!r} is not the name of a run",
        "names look like '160315_1432' or '160315_1432_MV', quoted",
    )
