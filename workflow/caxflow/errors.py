"""The one exception that users are meant to see."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from caxflow.legible import line


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
        self.what, self.mend = line(what), line(mend)
        super().__init__(f"{self.what} -> {self.mend}" if mend else self.what)


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
