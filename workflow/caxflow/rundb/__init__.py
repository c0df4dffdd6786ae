"""The runs database: what the sites share.

Documents are cax's (`caxflow.documents`); writes go to the majority, reads come from the primary. Queries
keep to what MongoDB and the embedded server agree on: an indexed scalar first, no condition inside ``$and``
around a positional update, no ``$or`` inside ``$elemMatch``.
"""

import contextlib
import datetime
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
import pymongo.errors
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from caxflow import documents, receipts
from caxflow.conditions import corrections
from caxflow.config import RunDBAddress, Selection
from caxflow.errors import CaxflowError
from caxflow.rundb import marks
from caxflow.rundb.marks import MARK
from caxflow.targets import Run

MANIFESTS = "caxflow_manifests"
SCHEMA = "caxflow_schema"
AUDIT = "caxflow_audit"
HEALTH = "caxflow_health"
REMOVING = "caxflow.removing"
_ALL = Selection()
# What a server says of an update that a document does not take: a value or a type that is in the way, a path
# through what is no document, a document that becomes too large or that a validator refuses.
_ODD = (2, 14, 28, 121, 10334, 17419)

# What planning looks at: not the 260 gains, nor the catalogue's long lists of rules.
PLANNING = {
    "_id": 1,
    "name": 1,
    "number": 1,
    "detector": 1,
    "start": 1,
    "end": 1,
    "tags.name": 1,
    "source.type": 1,
    "reader.self_trigger": 1,
    "reader.ini.name": 1,
    "reader.ini.write_mode": 1,
    "reader.ini.trigger_config_override.Zip.events_per_file": 1,
    "trigger.events_built": 1,
    "processor.DEFAULT.drift_velocity_liquid": 1,
    "processor.DEFAULT.electron_lifetime_liquid": 1,
    "processor.DEFAULT.gains": {"$slice": 1},
    "processor.correction_versions": 1,
    "raw_size_byte": 1,
    "data.type": 1,
    "data.host": 1,
    "data.status": 1,
    "data.location": 1,
    "data.pax_version": 1,
    "data.manifest": 1,
    "data.checksum": 1,
    "data.size": 1,
    "data.creation_time": 1,
    "data.caxflow": 1,
    "caxflow": 1,
}

# Indexes of the run documents: name, keys, options.
INDEXES: tuple[tuple[str, list[tuple[str, int]], dict[str, bool]], ...] = (
    ("caxflow_run", [("name", -1), ("detector", 1)], {"unique": True}),
    ("caxflow_number", [("number", 1)], {}),
    ("caxflow_hosts", [("data.host", 1), ("start", 1)], {}),
    ("caxflow_removing", [(REMOVING, 1)], {"sparse": True}),
)


class DatabaseAway(CaxflowError):
    """The database does not answer; what is in hand goes on, nothing new is claimed."""


class Held(CaxflowError):
    """Somebody else holds the claim, or the copy is there already."""


@dataclass(frozen=True)
class Key:
    """Which entry of ``data``: a kind of data at a host, and for processed files their version."""

    kind: str
    host: str
    version: str | None = None

    def match(self, **more: Any) -> dict:
        """The condition for ``$elemMatch``."""
        version = {"pax_version": self.version} if self.kind in documents.VERSIONED else {}
        return {"type": self.kind, "host": self.host} | version | more


@dataclass
class RunsDB:
    """A connection to the runs database.

    Parameters
    ----------
    address : RunDBAddress
        From the configuration; the password comes from ``MONGODB_PASSWORD`` or ``MONGO_PASSWORD``.
    dry : bool
        Read, never write.
    without : str
        What becomes of things while it does not answer, for messages; who only reads has nothing in hand.
    """

    address: RunDBAddress
    dry: bool = False
    without: str = "work in hand goes on and the next sync catches up"
    _ahead: datetime.timedelta | None = field(default=None, repr=False)

    def __post_init__(self):
        milliseconds = int(self.address.timeout * 1000)
        with self._answers():
            self._client = pymongo.MongoClient(
                self.address.uri,
                **({"password": _password()} if _names_user(self.address.uri) else {}),
                serverSelectionTimeoutMS=milliseconds,
                connectTimeoutMS=milliseconds,
                socketTimeoutMS=max(milliseconds, 60_000),
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

    @property
    def manifests(self) -> pymongo.collection.Collection:
        """Manifests by their own named digest: one document serves every copy."""
        return self._database[MANIFESTS]

    def format(self) -> tuple[int, str | None]:
        """Format of the schema, and the version that brought it there; 0 where none is recorded."""
        with self._answers():
            found = self._database[SCHEMA].find_one({"_id": "schema"}) or {}
        number = documents.value(found, "format", type_=int)
        return number or 0, documents.value(found, "caxflow", type_=str)

    def record_format(self, number: int, version: str) -> None:
        """Record the format of the schema; never an older one over a newer."""
        if self.dry:
            return
        content = {"$set": {"format": number, "caxflow": version}}
        older = {"_id": "schema", "format": {"$lt": number}}
        with self._answers():
            self._database[SCHEMA].update_one({"_id": "schema"}, {"$setOnInsert": {"format": 0}}, upsert=True)
            self._database[SCHEMA].update_one(older, content)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def __enter__(self) -> "RunsDB":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def now(self) -> datetime.datetime:
        """The server's time, naive UTC: leases must not depend on the clocks of sites."""
        if self._ahead is None:
            with self._answers():
                theirs = self._client.admin.command("hello")["localTime"]
            self._ahead = theirs - _utc()
        return _utc() + self._ahead

    def init(self) -> list[str]:
        """Make the indexes that planning and claims need; harmless when repeated."""
        with self._answers():
            names = [self.runs.create_index(keys, name=name, **how) for name, keys, how in INDEXES]
            audit = self._database[AUDIT].create_index([("run", 1), ("at", 1)], name="caxflow_audit")
            return [*names, audit]

    def init_site(self, site: str) -> str:
        """Make the index by which `site` finds what it has not settled."""
        with self._answers():
            return self.runs.create_index([(marks.key(site), 1)], name=_settled_index(site))

    def missing_indexes(self, *sites: str) -> list[str]:
        """Names of the indexes that `init`, and `init_site` of these sites, would make."""
        wanted = [name for name, _, _ in INDEXES] + [_settled_index(site) for site in sites]
        with self._answers():
            there = {index["name"] for index in self.runs.list_indexes()}
        return [name for name in wanted if name not in there]

    def try_writing(self) -> None:
        """Write and remove a document of our own, and ask for the right to change run documents.

        Raises
        ------
        DatabaseAway
            If one of them is refused; a server whose disk is full still answers a mere greeting.
        """
        if self.dry:
            return
        with self._answers():
            trial = {"_id": secrets.token_hex(8), "by": receipts.who(), "at": _utc()}
            self._database[HEALTH].insert_one(trial)
            self._database[HEALTH].delete_one({"_id": trial["_id"]})
            # No run has this name: nothing changes, but the right to is looked at.
            self.runs.update_one({"name": "", "detector": ""}, {"$set": {"caxflow.revision": 0}})

    def find(self, run: Run) -> dict | None:
        """The document of `run`, whole, if there is one."""
        with self._answers():
            return self.runs.find_one({"name": run.name, "detector": run.detector})

    def get(self, run: Run) -> dict:
        """The document of `run`, whole.

        Raises
        ------
        CaxflowError
            If there is none.
        """
        document = self.find(run)
        if document is None:
            raise CaxflowError(
                f"run {run} is not in the runs database",
                "check the name: yymmdd_HHMM of its start in UTC, _MV behind it for the muon veto",
            )
        return document

    def unsettled(self, selection: Selection, site: str, policy: str) -> Iterator[dict]:
        """Documents that `site` is to look at, by their marks, as far as `selection` admits them."""
        conditions = select(selection)
        ranges: Iterable[dict] = marks.due(site, policy, self.now())
        if selection.runs:
            # A few names: their own index is the better one.
            ranges = ({},)
        for part in ranges:
            with self._answers():
                yield from self.runs.find(part | conditions, PLANNING, batch_size=1000)

    def asleep(self, selection: Selection, site: str, policy: str) -> int:
        """How many runs wait at `site` and are not looked at now; none where runs are named."""
        if selection.runs:
            return 0
        with self._answers():
            return self.runs.count_documents(marks.asleep(site, policy, self.now()))

    def everything(self, projection: Mapping[str, Any]) -> Iterator[dict]:
        """All documents, by name, the newest first."""
        with self._answers():
            yield from self.runs.find({}, projection, batch_size=1000).sort([("name", -1), ("detector", 1)])

    def add(self, document: Mapping[str, Any]) -> bool:
        """Add the document of a run that there is none of; whether it was added."""
        if self.dry:
            return False
        this = {"name": document["name"], "detector": document["detector"]}
        with self._answers():
            added = self.runs.update_one(this, {"$setOnInsert": dict(document)}, upsert=True)
        return added.upserted_id is not None

    def selected(self, selection: Selection) -> Iterator[Any]:
        """``_id`` of all documents that `selection` admits."""
        with self._answers():
            for found in self.runs.find(select(selection), {"_id": 1}, batch_size=10_000):
                yield found["_id"]

    def settle(self, seen: Sequence[Mapping], site: str, policy: str) -> None:
        """Mark documents, unless they changed since they were `seen`.

        Parameters
        ----------
        seen : sequence of mapping
            Of each document ``_id`` and ``caxflow``, with the kind of ``mark`` and ``until`` when it holds.
        """
        if self.dry or not seen:
            return
        updates = [
            pymongo.UpdateOne(
                {
                    "_id": document["_id"],
                    "caxflow.revision": documents.value(document, "caxflow", "revision"),
                },
                {"$set": {marks.key(site): marks.text(policy, document["mark"], document["until"])}},
            )
            for document in seen
        ]
        with self._answers():
            try:
                self.runs.bulk_write(updates, ordered=False)
            except pymongo.errors.BulkWriteError as error:
                # One that cannot be marked is looked at each time.
                found = error.details or {}
                if found.get("writeConcernErrors") or any(
                    each.get("code") not in _ODD for each in found.get("writeErrors", ())
                ):
                    raise

    def manifest(self, digest: str) -> dict | None:
        """The manifest with that digest, as `caxflow.files.manifest` writes it, if the database has it."""
        with self._answers():
            return self.manifests.find_one({"_id": digest}, {"_id": 0})

    def keep_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Keep a manifest under its digest; the same one twice is the same one."""
        if not self.dry:
            with self._answers():
                self.manifests.update_one(
                    {"_id": manifest["digest"]}, {"$setOnInsert": manifest}, upsert=True
                )

    def claim(
        self, run: Run, key: Key, location: str, owner: str, lease: float, *, instead: str | None = None
    ) -> "Claim":
        """Claim the making of a copy: of any number that try, exactly one gets it.

        Parameters
        ----------
        run, key, location
            The copy and where it will be.
        owner : str
            The site that makes it.
        lease : float
            Minutes after which the claim may be taken over, unless renewed.
        instead : str, optional
            Digest of the manifest of a copy that is there and may be replaced.

        Raises
        ------
        Held
            If somebody else has it, or the copy is there.
        DatabaseAway
            Nothing is claimed while the database is away.
        """
        claim = Claim(self, run, key, secrets.token_hex(8), lease)
        if self.dry:
            return claim
        now = self.now()
        note = {
            "owner": owner,
            "by": receipts.who(),
            "token": claim.token,
            "since": now,
            "lease": now + datetime.timedelta(minutes=lease),
        }
        entry = key.match(
            status=documents.TRANSFERRING,
            location=location,
            checksum=None,
            creation_time=now,
            creation_place=owner,
            caxflow=note,
        )
        this = {"name": run.name, "detector": run.detector}
        with self._answers(run):
            nobody = this | {"data": {"$not": {"$elemMatch": key.match()}}}
            if self.runs.update_one(nobody, _touching({"$push": {"data": entry}})).modified_count:
                return claim
            copy = documents.find(self.get(run), key.kind, key.host, key.version)
            # The note is set whole: not every server makes the missing parts of a positional path.
            past = {name: copy.note[name] for name in ("attempts", "error") if copy and name in copy.note}
            changes = {
                "data.$.status": documents.TRANSFERRING,
                "data.$.location": location,
                "data.$.caxflow": past | note,
            }
            for free in _free(note, now, copy, instead):
                again = this | {"data": {"$elemMatch": key.match(**free)}}
                if self.runs.update_one(again, _touching({"$set": changes})).modified_count:
                    return claim
        raise _held(run, key, copy)

    def tell(
        self, run: Run, key: Key, changes: Mapping[str, Any], only: Mapping[str, Any] | None = None
    ) -> bool:
        """Set keys of an entry; make the entry if there is none, and they are what one cannot do without.

        Parameters
        ----------
        changes : mapping
            Keys of the entry and their values; dotted ones reach into ``caxflow``, where None removes a key.
            Those of an entry that is made have its status and location: half of one would block the run.
        only : mapping, optional
            Conditions on the entry's ``caxflow``, such as the token of a claim; then no entry is made.

        Returns
        -------
        bool
            Whether the database now says so.
        """
        if self.dry:
            return True
        with self._answers(run):
            for _ in range(10):
                document = self.get(run)
                copy = documents.find(document, key.kind, key.host, key.version)
                if copy is None and (only or not {"status", "location"} <= set(changes)):
                    return False
                revision = documents.value(document, "caxflow", "revision")
                this = {"name": run.name, "detector": run.detector, "caxflow.revision": revision}
                found, update = _telling(this, key, copy, changes, only or {})
                if self.runs.update_one(found, _touching(update)).matched_count:
                    return True
                if only and any(copy.note.get(name) != value for name, value in only.items()):
                    return False
        raise DatabaseAway(
            f"{run}: its document changes faster than it can be told", "the next sync tells it"
        )

    def confirm(self, run: Run, key: Key, seen: documents.Copy, changes: Mapping[str, Any]) -> bool:
        """Set keys of an entry after its copy was read; only if it still is what it was when that began.

        Parameters
        ----------
        seen : Copy
            The entry before the reading, of a good copy.
        changes : mapping
            As `tell` takes them.

        Returns
        -------
        bool
            Whether the database now says so; if not, the copy was removed, moved, replaced or condemned.
        """

        def change(document: Mapping) -> tuple[dict, dict] | None:
            copy = documents.find(document, key.kind, key.host, key.version)
            if copy is None or _identity(copy) != _identity(seen):
                return None
            return telling(key, copy, changes)

        return self.dry or self.revise(run, change)

    def revise(self, run: Run, change: Callable[[dict], tuple[dict, dict] | None]) -> bool:
        """Change a document according to what it says, unless somebody else changes it meanwhile.

        Parameters
        ----------
        change : callable
            Is given the document as the primary has it; returns further conditions and an update, or None
            if nothing is to be done. Called again where the document has changed in between.

        Returns
        -------
        bool
            Whether it was changed.
        """
        for _ in range(10):
            document = self.get(run)
            wanted = change(document)
            if wanted is None or self.dry:
                return False
            revision = documents.value(document, "caxflow", "revision")
            this = {"name": run.name, "detector": run.detector, "caxflow.revision": revision}
            with self._answers(run):
                if self.runs.update_one(this | wanted[0], _touching(wanted[1])).matched_count:
                    return True
        raise DatabaseAway(f"{run}: its document changes faster than it can be told", "try again")

    def editions(self) -> tuple[list[corrections.Edition], list[CaxflowError]]:
        """The newest document of each correction, and what is wrong with those that cannot be used."""
        with self._answers():
            return corrections.read_newest(self._database)

    def correct(
        self, run: Run, editions: Iterable[corrections.Edition], voltage: corrections.Voltage
    ) -> list[corrections.Update | corrections.Waiting | CaxflowError]:
        """Write a run's corrections into its document; what was written, waits or failed."""
        with self._answers(run):
            return list(corrections.correct(self.runs, self.get(run), editions, voltage, dry=self.dry))

    def append_audit(self, record: Mapping[str, Any]) -> None:
        """Add to the audit, from which nothing is ever taken; the same ``_id`` twice is the same record."""
        if not self.dry:
            with self._answers(), contextlib.suppress(pymongo.errors.DuplicateKeyError):
                self._database[AUDIT].insert_one(dict(record))

    def audit(self, run: Run) -> list[dict]:
        """All that is in the audit about a run, in the order of time."""
        with self._answers():
            return list(self._database[AUDIT].find({"run": str(run)}).sort([("at", 1), ("_id", 1)]))

    def changes(self) -> Iterator[bool]:
        """Whether runs were begun or ended just now, about twice a second, without end.

        It ends at once where the server has no change streams, or does not let us see them.
        """
        news = [{"operationType": {"$in": ["insert", "replace"]}}]
        news.append({"updateDescription.updatedFields.end": {"$exists": True}})
        with (
            self._answers(),
            contextlib.suppress(pymongo.errors.OperationFailure),
            self.runs.watch([{"$match": {"$or": news}}], max_await_time_ms=500) as stream,
        ):
            while True:
                yield stream.try_next() is not None

    def holding(self, selection: Selection, host: str) -> Iterator[dict]:
        """Documents with any entry for `host`, as far as `selection` admits them, in no order."""
        with self._answers():
            yield from self.runs.find(select(selection) | {"data.host": host}, PLANNING, batch_size=1000)

    def of_runs(self, runs: Iterable[Run]) -> Iterator[dict]:
        """Documents of these runs, as far as there are any."""
        names = [str(run) for run in runs]
        for begin in range(0, len(names), 500):
            some = Selection(runs=tuple(names[begin : begin + 500]))
            with self._answers():
                yield from self.runs.find(select(some), PLANNING)

    def removing(self, host: str, selection: Selection = _ALL) -> Iterator[dict]:
        """Documents with a copy whose removal at `host` was begun and not completed."""
        with self._answers():
            yield from self.runs.find(select(selection) | {REMOVING: host}, PLANNING)

    def fill_in(self, run: Run, key: str, value: Any) -> None:
        """Set a key of the document that is missing or null."""
        if not self.dry:
            with self._answers(run):
                self.runs.update_one(
                    {"name": run.name, "detector": run.detector, key: None}, {"$set": {key: value}}
                )

    @contextlib.contextmanager
    def _answers(self, run: Run | None = None) -> Iterator[None]:
        """Turn what pymongo raises into one line, without the password; `run` is the one that is changed."""
        where = f"runs database {public(self.address.uri)}"
        try:
            yield
        except pymongo.errors.OperationFailure as error:
            if run and error.code in _ODD:
                raise CaxflowError(
                    f"{run}: its document does not take what is to be told: {_said(error)}",
                    "mend the document",
                ) from error
            if error.code in (13, 18):
                mend = "set MONGODB_PASSWORD, and check the user's roles"
                raise DatabaseAway(f"{where} refuses us: {_said(error)}", mend) from error
            raise DatabaseAway(f"{where} failed: {_said(error)}") from error
        except (pymongo.errors.ConfigurationError, ValueError) as error:
            if _names_user(self.address.uri) and not _password():
                raise CaxflowError(f"{where}: there is no password", "set MONGODB_PASSWORD") from error
            raise CaxflowError(f"{where}: {error}", "mend rundb.uri in config.yaml") from error
        except pymongo.errors.PyMongoError as error:
            cause = str(error).split(",")[0].split("(configured")[0].strip()
            going = "" if self.dry else f"; {self.without}"
            mend = f"start it, or mend rundb.uri{going}"
            raise DatabaseAway(f"{where} does not answer: {cause}", mend) from error


@dataclass
class Claim:
    """A lease on the making of one copy."""

    database: RunsDB
    run: Run
    key: Key
    token: str
    lease: float
    _renewed: datetime.datetime = field(default_factory=lambda: _utc())  # noqa: PLW0108 - defined below

    def renew(self) -> None:
        """Renew the lease when a third of it has gone; cheap, so call it as often as bytes flow.

        Raises
        ------
        Held
            If somebody else took the claim over.
        """
        now = _utc()
        if self.database.dry or now - self._renewed < datetime.timedelta(minutes=self.lease / 3):
            return
        self._renewed = now
        # While the database is away, the work in hand goes on; the destination's own lock still holds.
        with contextlib.suppress(DatabaseAway):
            until = self.database.now() + datetime.timedelta(minutes=self.lease)
            if not self.database.tell(self.run, self.key, {"caxflow.lease": until}, {"token": self.token}):
                raise Held(f"{self.run}: the claim at {self.key.host} was taken over", "nothing is published")


def select(selection: Selection) -> dict:
    """The query that admits what `selection` admits; muon-veto runs have the number 0."""
    query: dict[str, Any] = {}
    if selection.runs:
        # By name they are found; TPC and muon veto of one start have the same.
        named = [Run.parse(run) for run in selection.runs]
        query["name"] = {"$in": sorted({run.name for run in named})}
        query["$or"] = [{"name": run.name, "detector": run.detector} for run in named]
    if selection.detectors:
        query["detector"] = {"$in": list(selection.detectors)}
    _range(query, "number", "$gte", selection.first)
    _range(query, "number", "$lte", selection.last)
    _range(query, "start", "$gte", selection.after)
    _range(query, "start", "$lt", selection.before)
    if selection.sources:
        query["source.type"] = {"$in": list(selection.sources)}
    tags: dict[str, Any] = {}
    if selection.tags:
        tags["$in"] = list(selection.tags)
    if selection.without_tags:
        tags["$nin"] = list(selection.without_tags)
    if tags:
        query["tags.name"] = tags
    return query


def public(uri: str) -> str:
    """The URI without user and password, for messages."""
    scheme, _, rest = uri.partition("//")
    # Up to the last @: a password may not have been escaped.
    return f"{scheme}//{rest.rpartition('@')[2].split('?')[0]}"


def _settled_index(site: str) -> str:
    return f"caxflow_settled_{site}"


def _range(query: dict, key: str, operator: str, bound: Any) -> None:
    if bound is not None:
        query.setdefault(key, {})[operator] = bound


def _free(
    note: Mapping, now: datetime.datetime, copy: documents.Copy | None, instead: str | None
) -> Iterator[dict]:
    """Conditions under which an entry may be claimed again; what removes or moves it completes that first."""
    if copy and {"removing", "moving"} & set(copy.note):
        return
    yield {"status": documents.ERROR}
    if instead:
        yield {"status": documents.TRANSFERRED, "manifest": instead}
    # Our own copy that was never read again, and whose receipt is lost.
    yield {"status": documents.VERIFYING, "caxflow.owner": note["owner"]}
    running = {"$in": [documents.TRANSFERRING, documents.VERIFYING]}
    yield {"status": running, "caxflow.lease": {"$lt": now}}
    if copy and documents.stalled(copy, now):
        begun = {"$lt": now - documents.STALLED}
        yield {"status": documents.TRANSFERRING, "caxflow.lease": None, "creation_time": begun}
    if copy and copy.status == documents.TRANSFERRING and is_dead(copy.note):
        # Our own process of before a crash; its token makes sure that only one takes it over.
        yield {"caxflow.token": copy.note.get("token")}


def telling(key: Key, copy: documents.Copy | None, changes: Mapping[str, Any]) -> tuple[dict, dict]:
    """Conditions and update that make an entry say `changes`, as `RunsDB.revise` wants them."""
    return _telling({}, key, copy, changes, {})


def _telling(this: dict, key: Key, copy: documents.Copy | None, changes: Mapping, only: Mapping) -> tuple:
    """Filter and update that make an entry say `changes`; its note is set whole, as in a claim."""
    note = dict(copy.note) if copy else {}
    plain = {}
    for name, value in changes.items():
        head, _, tail = name.partition(".")
        if not tail:
            plain[head] = value
        elif value is None:
            note.pop(tail, None)
        else:
            note[tail] = value
    if copy is None:
        nobody = this | {"data": {"$not": {"$elemMatch": key.match()}}}
        return nobody, {"$push": {"data": key.match(**plain, caxflow=note)}}
    plain["caxflow"] = note
    there = this | {
        "data": {"$elemMatch": key.match(**{f"caxflow.{name}": value for name, value in only.items()})}
    }
    return there, {"$set": {f"data.$.{name}": value for name, value in plain.items()}}


def _touching(update: Mapping[str, Any]) -> dict[str, Any]:
    """An update with what every change of ours brings: a new revision, and the marks of all sites gone."""
    gone = {MARK: "", **update.get("$unset", {})}
    return {**update, "$inc": {"caxflow.revision": 1}, "$unset": gone}


def _identity(copy: documents.Copy) -> tuple:
    """What stays the same as long as nothing is done to a copy."""
    leaving = {"suspect", "removing", "moving"} & set(copy.note)
    return copy.status, copy.location, copy.manifest, copy.checksum, leaving


def _held(run: Run, key: Key, copy: documents.Copy | None) -> Held:
    where = f"{run}: its {key.kind} copy at {key.host}"
    if copy is None:
        return Held(f"{where} changed hands just now", "try again")
    if copy.status == documents.TRANSFERRED:
        return Held(f"{where} is there already", "run again: the plan takes it as it is")
    by = documents.value(copy.note, "by", type_=Mapping) or {}
    who = f"{copy.note.get('owner', 'another program')} ({by.get('user', '?')}@{by.get('host', '?')})"
    if copy.status == documents.VERIFYING:
        return Held(f"{where} is there, and is verified by {who}", "run again: the plan waits for that")
    until = copy.note.get("lease")
    mend = (
        f"its claim ends at {until:%Y-%m-%d %H:%M} UTC unless renewed"
        if until
        else "it has no lease: ask there"
    )
    what = "removed" if "removing" in copy.note else "made"
    return Held(f"{where} is being {what} by {who}", mend)


def is_dead(note: Mapping) -> bool:
    """Whether the process that holds a claim ran on this machine and is gone."""
    pid = documents.value(note, "by", "pid", type_=int)
    if pid is None or documents.value(note, "by", "host") != receipts.who()["host"]:
        return False
    return not Path(f"/proc/{pid}").exists()


def _said(error: pymongo.errors.OperationFailure) -> str:
    """What the server said, in one line."""
    return " ".join(str((error.details or {}).get("errmsg") or error).split())


def _names_user(uri: str) -> bool:
    return re.match(r"[^/]+//[^/@]+@", uri) is not None


def _password() -> str | None:
    return os.environ.get("MONGODB_PASSWORD") or os.environ.get("MONGO_PASSWORD") or None


def _utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
