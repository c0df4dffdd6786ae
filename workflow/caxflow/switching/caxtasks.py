"""Models the tasks of cax 5.2 at one host: what each does to a run, and where cax's own code raises.

Derived from its sources. cax reads documents without asking whether a key is there: a missing one, or a
value of another type, raises, and what raises ends its process. The model reads them the same way, so that it
raises where cax does. What cax finds on disk, at partners, in slow control or in pax is not part of it: no
task fails for that here, and no task sees what another one made in the same pass.
"""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bson.datetime_ms import DatetimeMS

from caxflow.cax import BATCH_HOSTS, MASTERS, ORIGIN
from caxflow.conditions.settings import DO_NOT_PROCESS
from caxflow.documents import ERROR, TRANSFERRED, VERIFYING
from caxflow.switching.actions import Action, Death, Pass

# In the order of a pass; a host's `task_list` leaves tasks out and does not change the order.
TASKS = (
    "AddGains",
    "AddDriftVelocity",
    "SetNeuralNetwork",
    "CopyPush",
    "CompareChecksums",
    "RetryStalledTransfer",
    "RetryBadChecksumTransfer",
    "CopyPull",
    "AddChecksum",
    "SetPermission",
    "AddSize",
    "ProcessBatchQueue",
    "ProcessBatchQueueHax",
    "PurgeProcessed",
    "BufferPurger",
)
NEEDED = ("gains", "drift_velocity_liquid", "electron_lifetime_liquid")
RUCIO, TAPE, FAILED_UPLOAD = "rucio-catalogue", "tsm", "RSEreupload"
LATE, RETRY = datetime.timedelta(hours=2), datetime.timedelta(hours=24)


class _CaxError(Exception):
    """What cax raises where this model knows to say more of it than Python does."""


class _Keys(dict):
    """A part of a document or of ``cax.json`` which names itself where a key is missing."""

    def __init__(self, content: Mapping, what: str):
        super().__init__(content)
        self.what = what

    def __missing__(self, key: str) -> Any:
        raise _CaxError(f"KeyError {key!r}, as {self.what} has none")


def _keys(content: Any, what: str) -> Any:
    """Return a mapping with its name; anything else as it is, to raise what it raises for cax."""
    return _Keys(content, what) if isinstance(content, Mapping) else content


def _called(row: Any) -> str:
    """Name a row for a message."""
    if not isinstance(row, Mapping):
        return "a row"
    return f"the row of {row.get('type', 'a copy')} at {row.get('host', 'no host')}"


def _holds_odd_time(content: Any) -> bool:
    """Whether there is a time anywhere that Python does not have; pymongo reads no such document for cax."""
    if isinstance(content, Mapping):
        return any(map(_holds_odd_time, content.values()))
    if isinstance(content, list):
        return any(map(_holds_odd_time, content))
    return isinstance(content, DatetimeMS)


def _text(found: Any) -> str:
    """Take a value where cax needs text."""
    if not isinstance(found, str):
        raise TypeError(f"{found!r} is no text")
    return found


@dataclass(frozen=True)
class Cax:
    """cax at a host.

    Parameters
    ----------
    hosts : list of mapping
        All of ``cax.json``.
    name : str
        The host's name there.
    version : str or None
        Of the pax that is installed, with its "v"; None where it is not known, and nothing is processed.
    corrections : mapping, optional
        The newest document of each correction by the name of its task; without, none is due.
    """

    hosts: list[Mapping]
    name: str
    version: str | None = None
    corrections: Mapping[str, Mapping | None] | None = None

    def config(self, name: str) -> _Keys:
        """Return the entry of a host, the first of that name."""
        for host in self.hosts:
            if host.get("name") == name:
                return _Keys(host, f"{name} in cax.json")
        raise LookupError(f"cax.json has no host {name}")

    def one_pass(self, document: Mapping, now: datetime.datetime) -> Pass:
        """Return what its tasks do to a run at `now` (naive UTC), up to where one of them raises."""
        steps: list[tuple[str, Action]] = []
        if "data" not in document:
            return Pass(steps)
        state = _State(document, self, now)
        listed = self.config(self.name).get("task_list")
        for task in TASKS:
            try:
                if listed and task not in listed:
                    continue
                steps.extend((task, action) for action in state.look(task))
            except Exception as error:
                # Those of Python itself are the same for cax's code as for this model of it.
                name = "" if isinstance(error, _CaxError) else f"{type(error).__name__}: "
                return Pass(steps, Death(task, f"{name}{error}"))
        return Pass(steps)

    def submit(self, document: Mapping) -> Death | None:
        """Return where ``massive-cax``, which submits a job of ``cax --once`` for a run, ends itself."""
        run = _Keys(document, "the run document")
        try:
            if run["detector"] == "tpc":
                int(str(run["number"]))
            elif run["detector"] == "muon_veto":
                run["name"]
            if self.name not in BATCH_HOSTS:
                raise _CaxError(f"ValueError, as cax has no batch script for {self.name}")
        except (_CaxError, ValueError) as error:
            name = "" if isinstance(error, _CaxError) else "ValueError: "
            return Death("massive-cax", f"{name}{error}")
        return None


class _State:
    """A run as the tasks of one pass see it; what they remove is gone for the next ones."""

    def __init__(self, document: Mapping, cax: Cax, now: datetime.datetime):
        self.document = _Keys(document, "the run document")
        self.cax, self.now = cax, now
        self.host, self.name, self.version = cax.config(cax.name), cax.name, cax.version
        self.is_unreadable = _holds_odd_time(document)
        self.dropped: list[_Keys] = []
        data = document["data"]
        self.rows = [_keys(row, _called(row)) for row in data] if isinstance(data, list) else data

    def look(self, task: str) -> Iterator[Action]:
        """Do one task, unless the host's `dataset_list` leaves the run out."""
        if self.is_unreadable:
            raise _CaxError("InvalidBSON, as a time in the document is in no year that Python has")
        listed = self.host.get("dataset_list")
        if listed and self.document["name"] not in listed:
            return
        for row in self.rows:
            if row["type"] == "untriggered":
                row["host"]
        yield from getattr(self, task)()
        self.rows = [row for row in self.rows if not any(row is other for other in self.dropped)]

    def each(self) -> Iterator[_Keys]:
        """Yield the rows as most tasks look at them."""
        for row in self.rows:
            self.document["number"], row["host"]
            yield row

    def here(self) -> Iterator[_Keys]:
        """Yield this host's rows, likewise."""
        return (row for row in self.each() if row["host"] == self.name)

    def number(self) -> None:
        """Write the run's number into a message."""
        "%d" % self.document["number"]  # noqa: UP031 raises for text as cax does

    def drop(self, row: _Keys, why: str, *, delete: bool = True) -> Iterator[Action]:
        """Take a row away, with or without its files; the task itself goes on with what it read."""
        location = row["location"] if not delete else _text(row["location"])
        self.dropped.append(row)
        yield Action("remove" if delete else "forget", str(row["type"]), why=why, location=str(location))

    # Corrections.

    def is_due(self, task: str) -> bool:
        """Whether a correction has to be computed anew."""
        if "end" not in self.document or self.cax.corrections is None:
            return False
        newest = _keys(self.cax.corrections.get(task), f"the newest document of {task}")
        if newest is None:
            raise _CaxError("AttributeError, as there is no document of this correction")
        version = newest.get("version", str(newest["calculation_time"]))
        return self.document.get("processor", {}).get("correction_versions", {}).get(task) != version

    def AddGains(self) -> Iterator[Action]:  # noqa: N802
        """Set gains by the run's start and kind."""
        if self.is_due("AddGains"):
            self.document["start"].replace(tzinfo=datetime.UTC)
            if not _keys(self.document["reader"], "the document's reader")["self_trigger"]:
                self.document["detector"]
            self.number()
        yield from ()

    def AddDriftVelocity(self) -> Iterator[Action]:  # noqa: N802
        """Set the drift velocity by the cathode's voltage."""
        if self.is_due("AddDriftVelocity"):
            self.number()
        yield from ()

    def SetNeuralNetwork(self) -> Iterator[Action]:  # noqa: N802
        """Set the neural network by the run's number."""
        if self.is_due("SetNeuralNetwork"):
            number = self.document["number"]
            for row in self.cax.corrections["SetNeuralNetwork"]["correction"]:
                if row["min"] <= number < row["max"]:
                    break
        yield from ()

    # Copies.

    def CopyPush(self) -> Iterator[Action]:  # noqa: N802
        """To the first of its partners that has no row of any status."""
        return self.copy("upload")

    def CopyPull(self) -> Iterator[Action]:  # noqa: N802
        """From the first partner that has it, where there is no row here of any status."""
        return self.copy("download")

    def copy(self, option: str) -> Iterator[Action]:
        """Copy what can be copied in one direction, of each kind once."""
        if "data_type" not in self.host:
            raise _CaxError(f"exit(), as {self.host.what} has no data_type")
        for kind in self.host["data_type"]:
            yield from self.copy_kind(option, kind)

    def copy_kind(self, option: str, kind: str) -> Iterator[Action]:
        partners = self.host.get(f"{option}_options", [])
        if partners is None or (option == "download" and kind == "raw" and self.is_old()):
            return
        here = there = None
        for partner in partners:
            method = self.cax.config(partner)["method"]
            if not method:
                raise RuntimeError(f"{partner} in cax.json has no method")
            here, there = self.ends(option, kind, partner)
            again = there is not None and there["status"] == FAILED_UPLOAD
            if again and method == "rucio":
                yield from self.drop(there, "its upload to Rucio failed", delete=False)
            if option == "upload" and here and (there is None or (again and method != TAPE)):
                yield self.handshake(option, here, partner, method)
                break
            if option == "download" and there and here is None:
                yield self.handshake(option, there, partner, method)
                break
        row = there or here
        if row is not None:
            row["location"].split("/")

    def ends(self, option: str, kind: str, partner: str) -> tuple[_Keys | None, _Keys | None]:
        """Return the last row here and the last one at a partner that count."""
        here = there = None
        for row in self.rows:
            if "host" not in row or row["type"] != kind:
                continue
            lacking = row["status"] != TRANSFERRED
            is_here = row["host"] == self.name
            if not is_here and row["host"] != partner:
                continue
            if lacking and option == ("upload" if is_here else "download"):
                continue
            if kind == "processed" and row["pax_version"] != self.version:
                continue
            here, there = (row, there) if is_here else (here, row)
        return here, there

    def handshake(self, option: str, row: _Keys, partner: str, method: str) -> Action:
        """Look up what the new row says."""
        kind = row["type"]
        if method != TAPE:
            self.number()
            to = self.cax.config(partner if option == "upload" else self.name)
            folder = to[f"dir_{kind}"]
            if folder is not None and kind == "processed":
                row["pax_version"]
        row["location"].split("/")
        return Action("push" if option == "upload" else "pull", kind, partner)

    # Checksums.

    def main(self, kind: str, version: Any) -> Any:
        """Return the checksum that cax takes for the right one."""
        wanted = version if kind == "processed" else None
        for row in self.rows:
            if row["status"] != TRANSFERRED or row["type"] != kind:
                continue
            if (kind, row.get("host")) in MASTERS and row.get("pax_version") == wanted:
                return row["checksum"]
        self.number()
        return None

    def good(self, kind: str) -> int:
        """Count copies as cax does: those that are like the master's, and any row of Rucio's."""
        count = 0
        for row in self.rows:
            if "host" not in row or row["status"] != TRANSFERRED:
                continue
            if row["type"] != kind or kind == "untriggered" or "checksum" not in row:
                continue
            if row["host"] == RUCIO or row["checksum"] == self.main(kind, row.get("pax_version", "")):
                count += 1
            elif row["host"] == self.name:
                self.number()
                row["pax_version"]
        return count

    def CompareChecksums(self) -> Iterator[Action]:  # noqa: N802
        """Writes about raw copies here that are not like the master's."""
        self.number()
        self.good("raw")
        yield from ()

    def RetryStalledTransfer(self) -> Iterator[Action]:  # noqa: N802
        """Forgets rows that stalled or failed; deletes processed files of its own version with them."""
        for row in self.here():
            if "creation_time" not in row:
                continue
            _text(row["location"])
            made = row["creation_time"]
            made = made[0] if isinstance(made, list) else made
            since = self.now - max(made, datetime.datetime(1970, 1, 1))
            if row["status"] in (TRANSFERRED, VERIFYING):
                continue
            if since > LATE:
                self.number()
                self.document["name"]
            own = row["type"] == "processed" and row["pax_version"] == self.version
            if since > RETRY:
                yield from self.drop(row, "it is older than a day and not complete", delete=own)
            elif row["status"] == ERROR and self.name != ORIGIN:
                yield from self.drop(row, "it failed", delete=own)

    def RetryBadChecksumTransfer(self) -> Iterator[Action]:  # noqa: N802
        """Deletes what is not like the master's."""
        for row in self.here():
            if row["status"] != TRANSFERRED:
                continue
            main = self.main(row["type"], row.get("pax_version", ""))
            if main is None or row["checksum"] == main:
                continue
            self.number()
            if row["type"] == "processed":
                row["pax_version"]
            elif self.good(row["type"]) <= 1:
                continue
            yield from self.drop(row, "its checksum is not the master's")

    def AddChecksum(self) -> Iterator[Action]:  # noqa: N802
        """Reads what waits to be verified here."""
        for row in self.each():
            if row["status"] != VERIFYING:
                _text(row["host"])
                continue
            if row["host"] == self.name or (row["host"], self.name) == ("midway-srm", "midway-login1"):
                _text(row["location"])
                self.number()
                yield Action("verify", str(row["type"]), location=row["location"])

    # Files and processing.

    def SetPermission(self) -> Iterator[Action]:  # noqa: N802
        """Sets owner and permissions, by tables of two hosts."""
        for row in self.rows:
            if row.get("host") != self.name:
                continue
            row["location"]
            if row["type"] in ("raw", "processed"):
                if self.name not in BATCH_HOSTS:
                    raise _CaxError(f"KeyError {self.name!r}, as cax's table of owners has none")
                _text(row["location"])
        yield from ()

    def AddSize(self) -> Iterator[Action]:  # noqa: N802
        """Looks at the number of files of all rows, whatever their host."""
        if "trigger" not in self.document:
            self.document["name"]
            return
        self.document["number"], self.document["name"]
        trigger = self.document["trigger"]
        reader = _keys(self.document["reader"], "the document's reader")
        if "events_built" not in trigger or trigger["events_built"] == 0:
            return
        events, ini = trigger["events_built"], _keys(reader["ini"], "the document's reader.ini")
        each = 1000
        if "trigger_config_override" in ini and "Zip" in ini["trigger_config_override"]:
            zips = _keys(ini["trigger_config_override"]["Zip"], "its trigger_config_override.Zip")
            each = zips["events_per_file"]
        "%d" % each  # noqa: UP031
        for row in self.rows:
            row["host"], row["location"], row["status"]
            if row["type"] == "raw" and row["status"] == TRANSFERRED:
                int(int(events) / each)
                "%d" % events  # noqa: UP031
                if "raw_size_byte" in self.document:
                    self.document["raw_size_byte"] / 1e9
                elif row["location"] is not None:
                    _text(row["location"])
            if row["type"] == "processed" and row["status"] == TRANSFERRED:
                _text(row["location"])
        yield from ()

    def processed(self, kinds: tuple[str, ...] = (TRANSFERRED,)) -> tuple[Any, Any]:
        """Return the last raw row and the last processed row of its version here that count."""
        raw = made = None
        for row in self.rows:
            if row.get("host") != self.name:
                continue
            if row["type"] == "raw" and row["status"] == TRANSFERRED:
                raw = row
            if row["type"] == "processed" and (not kinds or row["status"] in kinds):
                made = row if row["pax_version"] == self.version else made
        return raw, made

    def ProcessBatchQueue(self) -> Iterator[Action]:  # noqa: N802
        """Processes what has the three parameters, raw data here and no row of the version."""
        if any(tag["name"] == DO_NOT_PROCESS for tag in self.document.get("tags", ())):
            return
        sections = self.document.get("processor", ())
        if "DEFAULT" not in sections or any(name not in sections["DEFAULT"] for name in NEEDED):
            return
        raw, made = self.processed(kinds=())
        name = self.document["name"]
        if not raw:
            return
        reader = _keys(self.document["reader"], "the document's reader")
        if _keys(reader["ini"], "the document's reader.ini")["write_mode"] != 2:
            return
        events = self.document.get("trigger", {}).get("events_built", 0)
        if events == 0:
            return
        events < 1000  # noqa: B015
        _text(self.host["dir_processed"])
        if not made and self.version is not None:
            self.process(raw, name, reader)
            yield Action("process", "processed")

    def process(self, raw: _Keys, name: Any, reader: Any) -> None:
        """Look up what pax is called with."""
        raw["location"]
        detector = self.document["detector"]
        if detector not in ("tpc", "muon_veto"):
            raise UnboundLocalError(f"its detector is {detector!r}")
        _text(name)
        if detector == "tpc":
            reader["self_trigger"]

    def ProcessBatchQueueHax(self) -> Iterator[Action]:  # noqa: N802
        """Makes minitrees of what is processed; they have no rows."""
        _, made = self.processed()
        if made:
            _text(made["location"])
            _text(self.host["dir_minitrees"])
        self.document["name"]
        if made:
            self.document["detector"]
        yield from ()

    # Removal.

    def PurgeProcessed(self) -> Iterator[Action]:  # noqa: N802
        """Removes files of a version that is not wanted."""
        unwanted = self.host.get("pax_version_purge")
        for row in self.here():
            if unwanted and row["type"] != "raw" and row["pax_version"] == unwanted:
                yield from self.drop(row, f"its version is {unwanted}")

    def BufferPurger(self) -> Iterator[Action]:  # noqa: N802
        """Removes what counts as copied often enough once the run is old."""
        for row in self.here():
            if row["type"] == "processed" or row["status"] != TRANSFERRED:
                continue
            count = self.good(row["type"])
            if count >= 3 and self.is_old():
                yield from self.drop(row, f"cax counts {count} copies with this one")

    def is_old(self) -> bool:
        """Whether a run began so long ago that the host's `purge` concerns it."""
        days = self.host.get("purge")
        return days is not None and self.now - self.document["start"] > datetime.timedelta(days=days)
