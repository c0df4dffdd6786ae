"""YAML as people write it: dates stay text, a key given twice is an error."""

import contextlib
import re
from pathlib import Path
from typing import Any

import yaml

from caxflow.errors import CaxflowError


def read_yaml(path: Path) -> dict:
    """Read a YAML mapping.

    Raises
    ------
    CaxflowError
        If there is no such file, it cannot be read, or holds something else.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            document = yaml.load(stream, Loader=_Loader)  # noqa: S506 - a SafeLoader underneath
    except FileNotFoundError:
        raise CaxflowError(f"{path} does not exist", "restore it from the repository, or write it") from None
    except OSError as error:
        raise CaxflowError(f"{path} cannot be read: {error.strerror}", "mend its permissions") from error
    except (yaml.YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        cause = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise CaxflowError(f"{path}{line}: not valid YAML: {cause}", "mend that line") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise CaxflowError(f"{path}: not a mapping of keys to values", "write lines like 'key: value'")
    return document


def read_word(text: str) -> Any:
    """What a word would be in a YAML file, such as a number; text that is no YAML stays as it is."""
    with contextlib.suppress(yaml.YAMLError, ValueError):
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader underneath
    return text


class _Loader(yaml.SafeLoader):
    """SafeLoader that keeps dates as text, and refuses a key that is given twice or is no text."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            wrong = ""
            if not key.tag.endswith((":str", ":merge")):
                wrong = f"key {key.value!r} is not text unless it is quoted"
            elif key.value in seen:
                wrong = f"key {key.value!r} is given twice"
            if wrong:
                raise yaml.constructor.ConstructorError(None, None, wrong, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# 1.0e13 is a number to everybody but YAML 1.1, which wants a sign before the 13.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE]\d+$"), list("-+.0123456789")
)
