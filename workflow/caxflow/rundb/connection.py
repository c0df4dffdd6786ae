"""Reaching the runs database; what goes wrong there becomes one line, without the password."""

import contextlib
import datetime
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import pymongo
import pymongo.errors
from bson.errors import BSONError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from caxflow import clock, credentials, preview
from caxflow.config import RunDBAddress
from caxflow.errors import CaxflowError
from caxflow.targets import Run

# What a server says of an update that a document does not take: a value or a type that is in the way, a path
# through what is no document, a document that becomes too large or that a validator refuses.
ODD = (2, 14, 28, 121, 10334, 17419)
REFUSED = 13  # what a server says of what the user has no right to
_TRUSTED = 600  # seconds for which the server is not asked for its time again


class DatabaseAway(CaxflowError):
    """The database does not answer; what is in hand goes on, nothing new is claimed."""


@dataclass
class Connection:
    """A connection to the runs database; writes go to the majority, reads come from the primary.

    Parameters
    ----------
    address : RunDBAddress
        From the configuration; the password comes from ``MONGODB_PASSWORD`` or ``MONGO_PASSWORD``.
    dry : bool
        Read, never write.
    without : str
        What becomes of things while it does not answer, for messages; who only reads has nothing in hand.
    patient : bool
        Wait for each answer as long as the server works on it, for indexes of a million documents.
    """

    address: RunDBAddress
    dry: bool = False
    without: str = "work in hand goes on and the next sync catches up"
    patient: bool = False
    _asked: float | None = field(default=None, repr=False)

    def __post_init__(self):
        self.dry = self.dry or preview.only_looks()
        milliseconds = int(self.address.timeout * 1000)
        with self.answers(), warnings.catch_warnings():
            # An option that is misspelt would be passed over.
            warnings.simplefilter("error", UserWarning)
            self._client = pymongo.MongoClient(
                self.address.uri,
                **({"password": _password()} if _names_user(self.address.uri) else {}),
                serverSelectionTimeoutMS=milliseconds,
                connectTimeoutMS=milliseconds,
                socketTimeoutMS=None if self.patient else max(milliseconds, 60_000),
                appname="caxflow",
                connect=False,
                # A date beyond the calendar, or text that is none, spoils one document and not the query.
                datetime_conversion="DATETIME_AUTO",
                unicode_decode_error_handler="replace",
            )
            self._database = self._client.get_database(
                self.address.database,
                write_concern=WriteConcern("majority", wtimeout=max(milliseconds, 10_000)),
                read_concern=ReadConcern("majority"),
                read_preference=pymongo.ReadPreference.PRIMARY,
            )

    @property
    def runs(self) -> pymongo.collection.Collection:
        """The collection of run documents."""
        return self._database[self.address.collection]

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def now(self) -> datetime.datetime:
        """The server's time, naive UTC: leases must not depend on the clocks of sites."""
        if self._asked is None or time.monotonic() - self._asked > _TRUSTED:
            try:
                with self.answers():
                    clock.hear(self._client.admin.command("hello")["localTime"])
            except DatabaseAway:
                if self._asked is None:
                    raise
            self._asked = time.monotonic()
        return clock.now()

    @contextlib.contextmanager
    def answers(self, run: Run | None = None) -> Iterator[None]:
        """Turn what pymongo raises into one line, without the password; `run` is the one that is changed."""
        where = f"runs database {public(self.address.uri)}"
        try:
            yield
        except pymongo.errors.OperationFailure as error:
            if run and error.code in ODD:
                raise CaxflowError(
                    f"{run}: its document does not take what is to be told: {_said(error)}",
                    "correct the document",
                ) from error
            if error.code in (REFUSED, 18):
                mend = "set MONGODB_PASSWORD, and check the user's roles: caxflow rundb roles"
                raise DatabaseAway(f"{where} refuses us: {_said(error)}", mend) from error
            raise DatabaseAway(f"{where} failed: {_said(error)}") from error
        except (pymongo.errors.ConfigurationError, ValueError, OSError, UserWarning) as error:
            if _names_user(self.address.uri) and not _password():
                raise CaxflowError(f"{where}: there is no password", "set MONGODB_PASSWORD") from error
            what = str(error).removesuffix("Refer to docstring.").strip()
            raise CaxflowError(f"{where}: {what}", f"mend rundb.uri in {self.address.place}") from error
        except (BSONError, OverflowError) as error:
            what = f"{run}: what is to be told" if run else "what is to be told"
            raise CaxflowError(f"{what} fits into no document: {error}", "look at its receipt") from error
        except pymongo.errors.PyMongoError as error:
            cause = str(error).split(",")[0].split("(configured")[0].strip()
            going = "" if self.dry else f"; {self.without}"
            mend = f"start it, or mend rundb.uri in {self.address.place}{going}"
            raise DatabaseAway(f"{where} does not answer: {cause}", mend) from error


def public(uri: str) -> str:
    """The URI without user and password, for messages."""
    scheme, _, rest = uri.partition("//")
    # Up to the last @: a password may not have been escaped.
    return f"{scheme}//{rest.rpartition('@')[2].split('?')[0]}"


def _said(error: pymongo.errors.OperationFailure) -> str:
    """What the server said, in one line."""
    return " ".join(str((error.details or {}).get("errmsg") or error).split())


def _names_user(uri: str) -> bool:
    return re.match(r"[^/]+//[^/@]+@", uri) is not None


def _password() -> str | None:
    return next(filter(None, map(credentials.get, credentials.DATABASE)), None)
