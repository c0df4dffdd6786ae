r"""Foreign text made printable and short: what documents, file names, far ends and programs say.

A terminal obeys control characters, and what shows text in both directions is reordered by characters that
are not seen; so whatever came from elsewhere is shown through this module. Letters of all languages stay.
This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from typing import Any

LONGEST = 2000  # characters of what is said in one line
WIDEST = 5000  # characters of a line of output, which may have paths in it
MOST_LINES = 400
_SLACK = 60  # characters of the remark about what is left out
_STACKED = 4  # marks on one letter; more grow over the lines above and below
_REMARK = re.compile(r" … ([\d,]+) characters are left out … ")
# Printable by their category, and yet not seen: fillers, joiners, selectors of variants.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_MAY_BE_ODD = re.compile("[\u0300-\U0010ffff]")  # what is below is printable, or Python says that it is not
_TYPEABLE = re.compile(r"[\w@%+:,./][\w@%+=:,./~-]*")
_NAMED = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}


def line(text: object, most: int = LONGEST) -> str:
    r"""Return a text as one printable line: odd characters are escaped, as ``\x1b``; too much is left out.

    What is left out is in the middle, where its length stands; a text that was cut before is not cut again.
    """
    text = str(text)
    if len(text) <= most and _is_plain(text):
        return text
    whole = _shown(text[: most + _SLACK + 1])
    if len(text) <= most + _SLACK and sum(map(len, whole)) <= most + _SLACK:
        return "".join(whole)
    head = _fitting(whole, most - most // 3)
    tail = _fitting(_shown(text[-most:])[::-1], most // 3)[::-1]
    dropped = text[len(head) : len(text) - len(tail)]
    # Of what was cut before, and has got longer since.
    before = sum(int(each[1].replace(",", "")) - len(each[0]) for each in _REMARK.finditer(dropped))
    return f"{''.join(head)} … {len(dropped) + before:,} characters are left out … {''.join(tail)}"


def lines(text: object, most: int = WIDEST) -> str:
    """Return a text of several lines with each of them printable and short; of very many, both ends."""
    found = str(text).split("\n")
    if len(found) > MOST_LINES:
        half = MOST_LINES // 2
        remark = f"… {len(found) - 2 * half:,} lines are left out …"
        found = [*found[:half], remark, *found[-half:]]
    return "\n".join(line(each.expandtabs().rstrip("\r"), most) for each in found)


def printable(path: str) -> str:
    """Return a file name or a word as it is typed in a shell: quoted where that is needed."""
    if len(path) <= WIDEST and _TYPEABLE.fullmatch(path) and _is_plain(path):
        return path
    if len(path) > WIDEST:
        return line(path, WIDEST)
    shown = _shown(path)
    if shown == list(path):
        return shlex.quote(path)
    typed = [_typed(odd, each) for odd, each in zip(shown, path)]  # noqa: B905 (Python 3.8)
    return f"$'{''.join(typed)}'"


def html(text: object, most: int = LONGEST) -> str:
    """Return foreign text for a page."""
    from html import escape

    return escape(line(text, most))


def short(value: Any, most: int = WIDEST) -> Any:
    """Return plain data, as for JSON, in which no text is very long; nothing in it is escaped."""
    return _each(value, lambda text: text if len(text) <= most else _cut(text, most))


def data(value: Any, most: int = LONGEST) -> Any:
    """Return plain data whose texts are printable and short, as for a page."""
    return _each(value, lambda text: lines(text, most))


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each(key, change): _each(each, change) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_each(each, change) for each in value]
    return value


def _cut(text: str, most: int) -> str:
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters are left out … {text[-half:]}"


def _is_plain(text: str) -> bool:
    """Return whether a text may be shown as it is; quick where it is."""
    if not text.isprintable():
        return False
    return text.isascii() or not _MAY_BE_ODD.search(text) or _shown(text) == list(text)


def _shown(text: str) -> list:
    """Return what stands for each character."""
    if text.isascii() and text.isprintable():
        return list(text)
    found, stacked = [], 0
    for each in text:
        stacked = stacked + 1 if unicodedata.category(each) in ("Mn", "Me") else 0
        odd = not each.isprintable() or stacked > _STACKED or _UNSEEN.match(each)
        found.append(_escaped(each) if odd else each)
    return found


def _escaped(each: str) -> str:
    code = ord(each)
    if code < 0x100:
        return _NAMED.get(each, rf"\x{code:02x}")
    return rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"


def _typed(shown: str, each: str) -> str:
    """Return a character inside ``$'…'``; odd ones by their bytes, which a file's name consists of."""
    if shown == each and each != "!":  # which an interactive shell looks for
        return "\\" + each if each in "\\'" else each
    if each in _NAMED:
        return shown
    try:
        return "".join(rf"\x{byte:02x}" for byte in each.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return shown  # no file has such a name


def _fitting(shown: list, most: int) -> list:
    """Return the first of what stands for characters, as much as fits."""
    size = 0
    for count, each in enumerate(shown):
        size += len(each)
        if size > most:
            return shown[:count]
    return shown
