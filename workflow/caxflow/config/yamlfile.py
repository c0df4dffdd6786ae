"""YAML as it looks: a word stays the text that was written until it is known what belongs in its place.

YAML itself has 160315_1432 mean 1603151432, 0200 mean 128, 1:30 mean 90, 6.10 mean 6.1, and on mean true.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from caxflow import plainfile
from caxflow.errors import CaxflowError

MOST = 1_000_000  # bytes of a file
_MOST_VALUES = 100_000  # in a file, with what its aliases repeat
_DEEPEST = 50
_TOO_DEEP = "lists and mappings are nested too deeply"

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
# 1.0e13 is a number to everybody but YAML 1.1, which wants a sign before the 13.
_NUMBER = re.compile(
    r"[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII
)
_TRUTH = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_LIKE_A_NUMBER = re.compile(
    r"[-+]?[\d_]*\d[\d_]*(:[\d_]+)*(\.[\d_]*)?([eE][-+]?\d+)?|[-+]?0[box][\da-fA-F_]+", re.ASCII
)
_NULL = ("", "~", "null", "Null", "NULL")


class Word(str):
    """A word without quotes; `line` is where in its file it is."""

    __slots__ = ("line",)
    line: int | None

    def __new__(cls, text: str, line: int | None = None):
        """Make one of a text."""
        word = super().__new__(cls, text)
        word.line = line
        return word

    def __getnewargs__(self):
        """Pickle the line, too: Snakemake hands the configuration to jobs."""
        return str(self), self.line


def number(word: str) -> int | float | str:
    """Return the number that a word is to everybody; any other word as it is."""
    if _WHOLE.fullmatch(word) and len(word) < 400:
        return int(word)
    if _NUMBER.fullmatch(word):
        return float(word.replace(".", "", 1) if word[-1] in "fFnN" else word)
    return word


def truth(word: str) -> bool | str:
    """Return the truth value that a word is, ``true`` or ``false``; any other word as it is."""
    return _TRUTH.get(word, word)


def is_unclear(word: str) -> bool:
    """Return whether a word is something else to YAML than it looks like, or to some who read YAML."""
    if _NUMBER.fullmatch(word) or word in _TRUTH:
        return False
    return bool(_LIKE_A_NUMBER.fullmatch(word)) or word.lower() in ("yes", "no", "on", "off")


def by_looks(value: Any) -> Any:
    """Return a document with each word as what it looks like: a number, a truth value, or else text."""
    return each_word(value, _looks)


def each_word(value: Any, change: Callable[[Word], Any]) -> Any:
    """Return a document with each of its words changed."""
    if isinstance(value, Mapping):
        return {key: each_word(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [each_word(item, change) for item in value]
    return change(value) if isinstance(value, Word) else value


def _looks(word: Word) -> Any:
    meant = truth(word)
    meant = number(word) if meant is word else meant
    return str(word) if meant is word else meant


def read_yaml(path: Path) -> dict:
    """Read a YAML mapping; parameters and errors as those of `read_words`."""
    return by_looks(read_words(path))


def read_words(path: Path) -> dict:
    """Read a YAML mapping, whose words stay words.

    Raises
    ------
    CaxflowError
        If there is no such file, it cannot be read, or holds something else.
    """
    try:
        content = plainfile.read(path, MOST)
    except FileNotFoundError:
        raise CaxflowError(f"{path} does not exist", "restore it from the repository, or write it") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise CaxflowError(
            f"{path} cannot be read: {why}", "name a file that this account may read"
        ) from error
    try:
        document = _read(content.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise CaxflowError(f"{path}{line}: not valid YAML: {_cause(error)}", "mend that line") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise CaxflowError(f"{path}: not a mapping of keys to values", "write lines like 'key: value'")
    return document


def read_value(text: str) -> Any:
    """Return what a value of the command line would be in a file; text that is no YAML stays a word."""
    try:
        found = _read(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return Word(text)
    return each_word(found, Word)  # without its line


def _cause(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return f"it is not in UTF-8: {error.reason} at byte {error.start}"
    return getattr(error, "problem", None) or str(error).splitlines()[0]


def _read(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.read()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Reads words as they are; refuses tags, a key that is given twice or is no text, and what never ends."""

    def read(self) -> Any:
        node = self.get_single_node()
        self.values = 0
        return None if node is None else self._value(node, 0)

    def compose_node(self, parent, index):
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise _wrong(f"tags as {event.tag!r} are not read: write the value alone", event.start_mark)
        return super().compose_node(parent, index)

    def _value(self, node, depth):
        self.values += 1
        if self.values > _MOST_VALUES:
            raise _wrong("with what its aliases repeat it is too long", node.start_mark)
        if depth > _DEEPEST:
            raise _wrong(_TOO_DEEP, node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            if node.style is not None:
                return node.value
            return None if node.value in _NULL else Word(node.value, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, depth + 1) for item in node.value]
        self._check_keys(node)
        own, inherited = {}, {}
        for key, item in node.value:
            found = self._value(item, depth + 1)
            if not key.tag.endswith(":merge"):
                own[key.value] = found
                continue
            for each in found if isinstance(found, list) else [found]:
                if not isinstance(each, dict):
                    raise _wrong("<< takes a mapping, or a list of some", item.start_mark)
                inherited = each | inherited
        return inherited | own

    def _check_keys(self, node):
        seen = set()
        for key, _ in node.value:
            wrong = ""
            if not key.tag.endswith((":str", ":merge")):
                wrong = f"key {_shown(key)} is not text unless it is quoted"
            elif key.value in seen:
                wrong = f"key {key.value!r} is given twice"
            if wrong:
                raise _wrong(wrong, key.start_mark)
            seen.add(key.value)


def _shown(key):
    return repr(key.value) if isinstance(key, yaml.ScalarNode) else "that is a list or a mapping"


def _wrong(what: str, mark: yaml.Mark) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, mark)
