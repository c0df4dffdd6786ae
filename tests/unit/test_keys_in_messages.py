"""U6: a key in a message is in a schema, by its whole name, and the file that is named has the value."""

import ast
import re
from pathlib import Path

import pytest
import yaml

import caxflow
from caxflow import config
from caxflow.errors import CaxflowError
from caxflow.rundb import RunsDB
from operators import configured

LIBRARY = Path(caxflow.__file__).parents[1]
SCHEMAS = [yaml.safe_load(path.read_text()) for path in (LIBRARY / "schemas").glob("*.yaml")]
# What stands in the place of a value that is filled in.
FILLED = "\x00"


def inner(schema, form):
    """The schemas of the keys of a mapping, by name; of any name where the name is free."""
    if "$ref" in schema:
        schema = form["$defs"][schema["$ref"].rpartition("/")[2]]
    free = schema.get("additionalProperties")
    found = dict(schema.get("properties", {}))
    return found | ({FILLED: free} if isinstance(free, dict) else {})


def is_key(name):
    """Whether a schema has a key; what is filled in is any key, or the name of a processor."""
    for form in SCHEMAS:
        level = [form]
        for part in name.split("."):
            each = [inner(schema, form) for schema in level]
            level = [
                schema
                for known in each
                for key, schema in known.items()
                if key == part or FILLED in (key, part)
            ]
        if level:
            return True
    return False


TOP = {name for form in SCHEMAS for name, schema in form["properties"].items() if inner(schema, form)}
DOTTED = re.compile(rf"(?<![\w./'{{-])(?:{'|'.join(sorted(TOP))})(?:\.(?:[a-z_]+|{FILLED}))+(?![\w./({{]|:/)")
# A key that is not named by its whole name: "set python of the site".
BARE = re.compile(
    r"\b(?:set|check|mend|correct|lower|raise) (?:its )?([a-z_]+)(?: and ([a-z_]+))?"
    r" (?:of|in) (?:the|its) site\b"
)
INSIDE = {key for form in SCHEMAS for schema in form["properties"].values() for key in inner(schema, form)}
# Words with dots that are no keys: of run documents, stages of targets.
OTHERS = re.compile(r"processor\.|(?:raw|processed|minitrees)\.(?:done|root|checksum|purged)|caxflow\.")


def texts(tree):
    """What a module may say: its texts, with what is filled in as one sign; not its docstrings."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(each) for each in node.values}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [each.value if isinstance(each, ast.Constant) else FILLED for each in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def messages():
    for path in LIBRARY.rglob("*.py"):
        for line, text in texts(ast.parse(path.read_text())):
            if " " in text and "demo" not in path.parts and "switching" not in path.parts:
                yield f"{path.relative_to(LIBRARY)}:{line}: {text!r}", text


def test_u6_every_key_in_a_message_is_in_a_schema():
    named = {}
    for where, text in messages():
        for key in DOTTED.findall(text):
            if not OTHERS.match(key):
                named.setdefault(key, where)
    wrong = {key: where for key, where in named.items() if not is_key(key.rstrip("."))}
    assert wrong == {}
    # The walk sees what there is.
    assert {"rundb.uri", "access.python", "access.method", "select.tags", f"roots.{FILLED}"} <= named.keys()


def test_u6_a_key_is_named_whole():
    wrong = [
        where
        for where, text in messages()
        for words in BARE.findall(text)
        if {word for word in words if word} & (INSIDE | {"ciphers", "identity"})
    ]
    assert wrong == []


def test_u6_no_message_has_the_name_of_a_file_that_may_not_have_the_value():
    wrong = [where for where, text in messages() if re.search(r"\bin config\.yaml\b", text)]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("set access.ciphers of the site to more", "access.ciphers"),
        ("lower processed.core", "processed.core"),
        ("mend notify.mail.port.number", "notify.mail.port.number"),
        (f"mend processors.{FILLED}.conda", None),
        ("see rundb.uri", None),
        ("purge.at_most.bytes is small", None),
    ],
)
def test_what_the_walk_finds(text, found):
    wrong = [key for key in DOTTED.findall(text) if not is_key(key)]
    assert wrong == ([found] if found else [])


def test_u6_the_file_that_has_the_address_is_named(tmp_path):
    configured(tmp_path)
    for name, uri in (
        ("own.yaml", "mongodb://127.0.0.1:1"),
        ("--config", "mongodb://127.0.0.1:1/?readPreference=never"),
    ):
        said = {"site": "midway", "rundb": {"uri": uri, "timeout": 0.1}}
        settings = config.load(
            [("own.yaml", {"rundb": {"database": "x"}}), (name, said)], tmp_path / "config"
        )
        with pytest.raises(CaxflowError) as caught, RunsDB(settings.rundb) as database:
            database.now()
        assert f"mend rundb.uri in {name}" in str(caught.value)
