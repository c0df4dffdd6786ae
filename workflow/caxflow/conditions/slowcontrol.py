"""The mean cathode voltage of a run, from wherever slow control keeps it.

A provider is called with a run's name, number, start and end (naive UTC) and gives kV, or None where there
is no value yet: a normal answer, for which the run's drift velocity waits.
"""

import csv
import datetime
import io
import json
import math
import os
import socket
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caxflow import credentials, network, plainfile, values
from caxflow.conditions import runranges
from caxflow.errors import CaxflowError

KEY_VARIABLE = credentials.SLOW_CONTROL
CATHODE = "XE1T.GEN_HEINZVMON.PI"  # the historian's name of the voltage monitor

_MOST = 100_000_000  # bytes of a table
_LARGEST_ANSWER = 16 << 20


@dataclass(frozen=True)
class Ranges:
    """A constant by range of run numbers: ``[{min, max, value}]``, values in kV."""

    table: Sequence[Mapping]

    def __post_init__(self):
        object.__setattr__(self, "_ranges", runranges.read(self.table))

    def __call__(
        self, _name: str, number: int, _start: datetime.datetime, _end: datetime.datetime
    ) -> float | None:
        """Voltage in kV of the run, or None."""
        value = runranges.value_at(self._ranges, number)
        return None if value is None else _kilovolts(value, f"the range of run {number}")


class Table:
    """A file, CSV or JSON (a list of objects), read once.

    Parameters
    ----------
    path : path
        With the columns ``kv`` and one of ``name`` (of the run), ``number``, or ``time`` (ISO, UTC where it
        does not say otherwise). Samples by time are averaged over the run.

    Raises
    ------
    CaxflowError
        Naming the file and the row.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        rows = self._rows()
        keys = [key for key in ("name", "number", "time") if rows and key in rows[0]]
        if rows and len(keys) != 1:
            raise CaxflowError(
                f"{self.path}: columns {', '.join(map(str, rows[0]))}",
                "give kv and one of name, number and time",
            )
        self.by = keys[0] if keys else "name"
        self.values = [self._value(index, row) for index, row in enumerate(rows, start=1)]
        self.single = {} if self.by == "time" else dict(self.values)

    def __call__(
        self, name: str, number: int, start: datetime.datetime, end: datetime.datetime
    ) -> float | None:
        """Voltage in kV of the run, or None."""
        if self.by == "time":
            return _mean(value for time, value in self.values if start <= time <= end)
        return self.single.get(name if self.by == "name" else number)

    def _rows(self) -> list[dict]:
        try:
            text = plainfile.read(self.path, _MOST).decode()
            lines = io.StringIO(text, newline="")
            rows = json.loads(text) if self.path.suffix == ".json" else list(csv.DictReader(lines))
        except OSError as error:
            raise CaxflowError(
                f"slow-control table {self.path} cannot be read: {error.strerror}", "mend its path"
            ) from error
        except (ValueError, RecursionError, csv.Error) as error:
            raise CaxflowError(f"slow-control table {self.path}: {error}", "mend the file") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise CaxflowError(f"slow-control table {self.path} is not a list of objects", "mend the file")
        return rows

    def _value(self, index: int, row: Mapping) -> tuple:
        about = f"{self.path}: row {index}"
        found = row.get(self.by)
        key = {"number": values.whole, "time": values.time}.get(self.by, lambda name: name)(found)
        if key is None:
            raise CaxflowError(f"{about}: {self.by} is {found!r}", "correct the row")
        return key, _kilovolts(row.get("kv"), about)


@dataclass(frozen=True)
class Service:
    """The historian's web service, as XENON1T's: samples of a variable between two times.

    Parameters
    ----------
    url : str
        Address of the service, for example ``https://host/GetSCData``.
    user : str
        Sent as ``username``; the key that goes with it is read from the environment, `KEY_VARIABLE`.
    variable : str
        The historian's name of the voltage.
    timeout : float
        Seconds to wait for an answer.
    """

    url: str
    user: str
    variable: str = CATHODE
    timeout: float = 30.0

    def __post_init__(self):
        network.check_web(self.url, f"slow control: {self.url!r}")

    def __call__(
        self, _name: str, _number: int, start: datetime.datetime, end: datetime.datetime
    ) -> float | None:
        """Mean voltage in kV of the run, or None."""
        return _mean(self._samples(self._ask(start, end)))

    def _ask(self, start: datetime.datetime, end: datetime.datetime) -> bytes:
        key = credentials.get(KEY_VARIABLE)
        if not key:
            raise CaxflowError("slow control: the key of the service is missing", f"export {KEY_VARIABLE}")
        query = {
            "name": self.variable,
            "QueryType": "lab",
            "StartDateUnix": _unix(start),
            "EndDateUnix": _unix(end),
            "username": self.user,
            "api_key": key,
        }
        try:
            with network.opener(self.url).open(
                f"{self.url}?{urllib.parse.urlencode(query)}", timeout=self.timeout
            ) as answer:
                content = answer.read(_LARGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            error.close()
            mend = f"check {KEY_VARIABLE}" if error.code in (401, 403) else "try again later"
            raise CaxflowError(f"slow control: {self.url} answers {error.code}", mend) from None
        except (OSError, ValueError) as error:
            # Neither the error nor its text is handed on: the full address holds the key.
            reason = getattr(error, "reason", error)
            cause = "no answer in time" if isinstance(reason, socket.timeout) else type(reason).__name__
            raise Away(f"slow control: {self.url}: {cause}", "check the address and the network") from None
        if len(content) > _LARGEST_ANSWER:
            raise CaxflowError(f"slow control: {self.url} sends more than {_LARGEST_ANSWER} bytes")
        return content

    def _samples(self, content: bytes) -> list[float]:
        about = f"slow control: {self.url}"
        try:
            entries = json.loads(content)
        except ValueError:
            raise CaxflowError(f"{about} does not answer in JSON", "check the address") from None
        if not isinstance(entries, list):
            raise CaxflowError(f"{about} does not answer with a list", "check the address and the variable")
        # The service mixes remarks with the samples.
        return [_kilovolts(entry.get("value"), about) for entry in entries if isinstance(entry, Mapping)]


class Away(CaxflowError):
    """The service does not answer at all."""


class Remembered:
    """What a provider said of each run; one that is away is not asked again.

    Parameters
    ----------
    provider : callable
        Such as `provider` gives it.
    """

    def __init__(self, provider: Callable):
        self._provider = provider
        self._known: dict[tuple[str, int], float | None] = {}
        self._away: Away | None = None

    def __call__(
        self, name: str, number: int, start: datetime.datetime, end: datetime.datetime
    ) -> float | None:
        """Voltage in kV of the run, or None."""
        if (name, number) not in self._known:
            if self._away:
                raise self._away
            try:
                self._known[name, number] = self._provider(name, number, start, end)
            except Away as error:
                self._away = error
                raise
        return self._known[name, number]


def provider(
    *,
    table: str | os.PathLike | None = None,
    ranges: Sequence[Mapping] | None = None,
    service: Mapping | None = None,
) -> Ranges | Table | Service | Callable:
    """Choose the provider that a configuration names; without one, no voltage is ever known.

    Parameters
    ----------
    table : path, optional
        File for `Table`.
    ranges : sequence of mappings, optional
        For `Ranges`.
    service : mapping, optional
        Keyword arguments for `Service`.

    Raises
    ------
    CaxflowError
        If there is more than one, or it cannot be used.
    """
    if sum(each is not None for each in (table, ranges, service)) > 1:
        raise CaxflowError("slow control: more than one provider", "keep one of table, ranges and service")
    if table is not None:
        return Table(table)
    if ranges is not None:
        return Ranges(ranges)
    if service is not None:
        try:
            return Service(**service)
        except TypeError:
            raise CaxflowError(
                f"slow control: the service has keys {', '.join(map(str, service))}",
                "it takes url, user, and perhaps variable and timeout",
            ) from None
    return nothing


def nothing(_name: str, _number: int, _start: datetime.datetime, _end: datetime.datetime) -> None:
    """Stand for a slow control that never knows: every drift velocity stays as it is."""


def _mean(samples: Iterable[float]) -> float | None:
    samples = list(samples)
    return math.fsum(samples) / len(samples) if samples else None


def _kilovolts(value: object, about: str) -> float:
    if (voltage := values.number(value)) is None:
        raise CaxflowError(f"{about}: the cathode voltage is {value!r:.60}", "it is a number of kV")
    return float(voltage)


def _naive(time: datetime.datetime) -> datetime.datetime:
    return time.astimezone(datetime.UTC).replace(tzinfo=None) if time.tzinfo else time


def _unix(time: datetime.datetime) -> int:
    return int(_naive(time).replace(tzinfo=datetime.UTC).timestamp())
