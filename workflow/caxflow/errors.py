"""The one exception that users are meant to see."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from caxflow.legible import line, short

SHORT = 3  # signs that are no secret: they would be found everywhere
_hidden: dict[str, str] = {}  # values that no message shows, and what stands for them
_ACCOUNT = re.compile(r"://[^/\s@]{0,1000}:[^\s]{0,1000}@")
_MOST = 1 << 16  # characters of foreign text that are searched for what is hidden; fewer are shown


def hide(name: str, value: str) -> None:
    """Keep a value out of all messages, also as addresses, JSON and Python write it."""
    import json
    from urllib.parse import quote, quote_plus

    value = value.strip()
    if len(value) > SHORT:
        addressed = quote(value), quote(value, safe=""), quote_plus(value)
        forms = value, *addressed, json.dumps(value)[1:-1], repr(value)[1:-1]
        _hidden.update(dict.fromkeys(forms, f"${{{name}}}"))


def public(text: str) -> str:
    """Return a text without what is hidden, and without the account of an address that has a password."""
    for value in sorted(_hidden, key=len, reverse=True):
        text = text.replace(value, _hidden[value])
    return _ACCOUNT.sub("://", text) if "://" in text else text


def _shown(text: str) -> str:
    return line(public(short(text, _MOST)))


class CaxflowError(Exception):
    """Something the user can understand and mend; shown as one line, never with a traceback.

    Whatever a name in it is made of, the message is one printable line, and not endless.

    Parameters
    ----------
    what : str
        The thing and the cause, for example ``"lngs: host key of 10.0.0.1 has changed"``.
    mend : str, optional
        What to do about it, for example ``"compare it with the site's manager, then edit known_hosts"``.
    """

    def __init__(self, what: str, mend: str = ""):
        self.what, self.mend = _shown(what), _shown(mend)
        super().__init__(f"{self.what} -> {self.mend}" if mend else self.what)


class WrongCallError(CaxflowError):
    """The command line or the configuration is wrong: exit code 2."""


class Overrun(CaxflowError):
    """A job wanted more memory or time than it had: with more of it, another attempt may succeed."""


class BadCopy(CaxflowError):
    """Evidence against a copy itself: it is incomplete, or not what its origin has."""


class BadSource(CaxflowError):
    """What was to be copied is not what it must be."""


class Occupied(CaxflowError):
    """Where a copy is to be, something lies that is not the same."""


class DiskAway(CaxflowError):
    """The disk that is to hold the data is not there, or is another one: that says nothing of an attempt."""


@contextlib.contextmanager
def about(what: str, mend: str = "") -> Iterator[None]:
    """Turn whatever goes wrong with one thing of many into a `CaxflowError`, so that the others go on."""
    try:
        yield
    except CaxflowError:
        raise
    except OSError as error:
        raise CaxflowError(f"{what}: {error.strerror or error}", mend) from error
    except Exception as error:
        raise CaxflowError(f"{what}: unexpected {type(error).__name__}: {error}", mend) from error
