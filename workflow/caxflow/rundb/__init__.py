"""The runs database: what the sites share.

Documents are cax's (`caxflow.documents`). Queries keep to what MongoDB and the embedded server agree
on: an indexed scalar first, no condition inside ``$and`` around a positional update, no ``$or`` inside
``$elemMatch``.
"""

import contextlib
import datetime
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pymongo
import pymongo.errors
from pymongo.change_stream import ChangeStream

from caxflow import clock, documents, receipts
from caxflow.conditions import corrections
from caxflow.config import Selection
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.rundb import claims, entries, marks, queries
from caxflow.rundb.claims import Claim, Held
from caxflow.rundb.connection import ODD, REFUSED, Connection, DatabaseAway, public
from caxflow.rundb.entries import RECORDS, Key, identity, recording, telling, telling_if, touching
from caxflow.rundb.marks import MARK
from caxflow.rundb.queries import (
    AUDIT,
    AUDIT_INDEX,
    HEALTH,
    INDEXES,
    MANIFESTS,
    PLANNING,
    REMOVING,
    SCHEMA,
    Index,
    settled_index,
)
from caxflow.rundb.selecting import excluded, select
from caxflow.targets import Run

__all__ = [
    "MARK",
    "PLANNING",
    "REMOVING",
    "Claim",
    "DatabaseAway",
    "Held",
    "Key",
    "RunsDB",
    "TwoDocuments",
    "identity",
    "public",
    "recording",
    "select",
    "telling",
]

_ALL = Selection()


class TwoDocuments(CaxflowError):
    """A run has two documents, so that neither says what is so."""

    def __init__(self, run: Run):
        super().__init__(f"{run}: the runs database has two documents of it", "remove the wrong one")


class RunsDB(Connection):
    """What is asked of the runs database, and told to it; see `caxflow.rundb.connection.Connection`."""

    @property
    def manifests(self) -> pymongo.collection.Collection:
        """Manifests by their own named digest: one document serves every copy."""
        return self._database[MANIFESTS]

    def format(self) -> tuple[int, str | None]:
        """Format of the schema, and the version that brought it there; 0 where none is recorded."""
        with self.answers():
            found = self._database[SCHEMA].find_one({"_id": "schema"}) or {}
        number = documents.value(found, "format", type_=int)
        return number or 0, documents.value(found, "caxflow", type_=str)

    def record_format(self, number: int, version: str) -> None:
        """Record the format of the schema; never an older one over a newer."""
        if self.dry:
            return
        content = {"$set": {"format": number, "caxflow": version}}
        older = {"_id": "schema", "format": {"$lt": number}}
        with self.answers():
            self._database[SCHEMA].update_one({"_id": "schema"}, {"$setOnInsert": {"format": 0}}, upsert=True)
            self._database[SCHEMA].update_one(older, content)

    def init(self) -> list[str]:
        """Make the indexes that planning and claims need and that are not there; return all their names."""
        if self.dry:
            return []
        if twice := sorted(self.twice()):
            raise TwoDocuments(twice[0])
        return [*self._index(self.runs, *INDEXES), *self._index(self._database[AUDIT], AUDIT_INDEX)]

    def _index(self, collection: pymongo.collection.Collection, *wanted: Index) -> list[str]:
        """Make the indexes that are not there: where all are, that takes no right to make some."""
        with self.answers():
            missing = _missing(collection, wanted)
            try:
                for name, keys, how in missing:
                    collection.create_index(keys, name=name, **how)
            except pymongo.errors.OperationFailure as error:
                if error.code != REFUSED:
                    raise
                names = ", ".join(name for name, *_ in missing)
                raise CaxflowError(
                    f"indexes of {collection.full_name}, which this user may not make, are missing: {names}",
                    "have who administers the database run what `caxflow rundb roles` prints",
                ) from error
        return [name for name, *_ in wanted]

    def give_checksums_back(self) -> int:
        """Give ``checksum`` of entries its meaning for cax back; the number of documents that were changed.

        Earlier versions wrote the digest of the manifest there, and a key ``pax_version`` to raw copies.
        Marks and revisions stay: nothing that planning looks at changes.
        """
        changed, updates = 0, []
        if self.dry:
            return changed
        with self.answers():
            for document in self.runs.find(queries.OLD_CHECKSUMS, {"data": 1}, batch_size=1000):
                if found := entries.as_cax_has_them(document):
                    guard, change = found
                    updates.append(pymongo.UpdateOne({"_id": document["_id"]} | guard, change))
                if len(updates) == 1000:
                    changed += self.runs.bulk_write(updates, ordered=False).modified_count
                    updates = []
            if updates:
                changed += self.runs.bulk_write(updates, ordered=False).modified_count
        return changed

    def init_site(self, site: str) -> str:
        """Make the index by which `site` finds what it has not settled."""
        index = settled_index(site)
        if not self.dry:
            self._index(self.runs, index)
        return index[0]

    def missing_indexes(self, *sites: str) -> list[str]:
        """Names of the indexes that `init`, and `init_site` of these sites, would make."""
        with self.answers():
            return [name for name, *_ in _missing(self.runs, (*INDEXES, *map(settled_index, sites)))]

    def try_writing(self) -> None:
        """Write and remove a document of our own, and ask for the right to change run documents.

        Raises
        ------
        DatabaseAway
            If one of them is refused; a server whose disk is full still answers a mere greeting.
        """
        if self.dry:
            return
        with self.answers():
            trial = {"_id": secrets.token_hex(8), "by": receipts.who(), "at": clock.now()}
            self._database[HEALTH].insert_one(trial)
            self._database[HEALTH].delete_one({"_id": trial["_id"]})
            # No run has this name: nothing changes, but the right to is looked at.
            self.runs.update_one({"name": "", "detector": ""}, {"$set": {"caxflow.revision": 0}})

    def privileges(self) -> list[Mapping[str, Any]] | None:
        """Return what the server says that this user may do; None where it does not ask who a user is."""
        with self.answers():
            found = self._client.admin.command("connectionStatus", showPrivileges=True).get("authInfo", {})
        return found.get("authenticatedUserPrivileges", []) if found.get("authenticatedUsers") else None

    def find(self, run: Run, projection: Mapping[str, Any] | None = None) -> dict | None:
        """A document of `run`, if there is one: whole, or what the projection leaves of it."""
        with self.answers():
            return self.runs.find_one({"name": run.name, "detector": run.detector}, projection)

    def get(self, run: Run, projection: Mapping[str, Any] | None = None) -> dict:
        """The document of `run`, as `find` returns it.

        Raises
        ------
        CaxflowError
            If there is none, or another one beside it.
        """
        with self.answers():
            found = list(
                self.runs.find({"name": run.name, "detector": run.detector}, projection, batch_size=2).limit(
                    2
                )
            )
        if not found:
            raise CaxflowError(
                f"run {run} is not in the runs database",
                "check the name: yymmdd_HHMM of its start in UTC, _MV behind it for the muon veto",
            )
        if len(found) > 1:
            raise TwoDocuments(run)
        return found[0]

    def twice(self) -> set[Run]:
        """Runs that have more than one document; there are none where the unique index of `init` is."""
        (name, keys, _), *_ = INDEXES
        group = {"_id": {key: f"${key}" for key, _ in keys}, "count": {"$sum": 1}}
        found = set()
        with self.answers():
            if any(index["name"] == name and index.get("unique") for index in self.runs.list_indexes()):
                return found
            for each in self.runs.aggregate([{"$group": group}, {"$match": {"count": {"$gt": 1}}}]):
                with contextlib.suppress(CaxflowError):
                    found.add(documents.run_of(each["_id"]))
        return found

    def unsettled(self, selection: Selection, site: str, policy: str) -> Iterator[dict]:
        """Documents that `site` is to look at, by their marks, as far as `selection` admits them."""
        # Of a few names their own index is the better one.
        for part in [{}] if selection.runs else marks.due(site, policy, self.now()):
            yield from self._admitted(selection, part)

    def asleep(self, selection: Selection, site: str, policy: str) -> int:
        """How many runs wait at `site` and are not looked at now; none where runs are named."""
        if selection.runs:
            return 0
        with self.answers():
            return self.runs.count_documents(marks.asleep(site, policy, self.now()))

    def everything(self, projection: Mapping[str, Any] | None = None) -> Iterator[dict]:
        """All documents, by name, the newest first; without a projection whole."""
        with self.answers():
            yield from self.runs.find({}, projection, batch_size=1000).sort([("name", -1), ("detector", 1)])

    def add(self, document: Mapping[str, Any]) -> bool:
        """Add the document of a run that there is none of; whether it was added."""
        if self.dry:
            return False
        this = {"name": document["name"], "detector": document["detector"]}
        with self.answers():
            added = self.runs.update_one(this, {"$setOnInsert": dict(document)}, upsert=True)
        return added.upserted_id is not None

    def _admitted(self, selection: Selection, conditions: Mapping[str, Any] | None = None) -> Iterator[dict]:
        """Documents that `selection` admits, as far as the conditions hold, in no order."""
        with self.answers():
            query = select(selection) | dict(conditions or {})
            for document in self.runs.find(query, PLANNING, batch_size=1000):
                if excluded(document, selection) is None:
                    yield document

    def settle(self, seen: Sequence[Mapping], site: str, policy: str) -> None:
        """Mark documents, unless they changed since they were `seen`.

        Parameters
        ----------
        seen : sequence of mapping
            Of each document ``_id`` and ``caxflow``, with the kind of ``mark`` and ``until`` when it holds.
        """
        if self.dry or not seen:
            return
        for document in seen:
            self._bring_records(document)
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
        with self.answers():
            try:
                self.runs.bulk_write(updates, ordered=False)
            except pymongo.errors.BulkWriteError as error:
                # One that cannot be marked is looked at each time.
                found = error.details or {}
                if found.get("writeConcernErrors") or any(
                    each.get("code") not in ODD for each in found.get("writeErrors", ())
                ):
                    raise

    def unmark(self, identities: Sequence[Any], site: str) -> None:
        """Take the marks of a site from documents, so that it looks at them again."""
        if not self.dry and identities:
            with self.answers():
                self.runs.update_many({"_id": {"$in": list(identities)}}, {"$unset": {marks.key(site): ""}})

    def manifest(self, digest: str) -> dict | None:
        """The manifest with that digest, as `Manifest.to_json` makes it, if the database has it unaltered."""
        with self.answers():
            found = self.manifests.find_one({"_id": digest}, {"_id": 0})
        try:
            return found if found and Manifest.from_json(found).digest == digest else None
        except CaxflowError:
            return None  # altered: as good as lost

    def keep_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Keep a manifest under its digest; the same one twice is the same one, an altered one is mended."""
        if not self.dry and self.manifest(manifest["digest"]) is None:
            with self.answers():
                self.manifests.replace_one({"_id": manifest["digest"]}, dict(manifest), upsert=True)

    def claim(
        self, run: Run, key: Key, location: str, owner: str, lease: float, *, instead: str | None = None
    ) -> Claim:
        """Claim the making of a copy, as `caxflow.rundb.claims.take` says."""
        return claims.take(self, run, key, location=location, owner=owner, lease=lease, instead=instead)

    def tell(
        self,
        run: Run,
        key: Key,
        changes: Mapping[str, Any],
        only: Mapping[str, Any] | None = None,
        *,
        record: Mapping[str, Any] | None = None,
    ) -> bool:
        """Set keys of an entry; make the entry if there is none, and they are what one cannot do without.

        Parameters
        ----------
        changes : mapping
            Keys of the entry and their values; dotted ones reach into ``caxflow``, where None removes a key.
            Those of an entry that is made have its status and location: half of one would block the run.
        only : mapping, optional
            Conditions on the entry's ``caxflow``, such as the token of a claim; then no entry is made.
        record : mapping, optional
            For the audit, of `caxflow.rundb.audit.entry`.

        Returns
        -------
        bool
            Whether the database now says so.
        """
        if self.dry:
            return True
        with self.answers(run):
            for _ in range(10):
                document = self.get(run)
                copy = documents.find(document, key.kind, key.host, key.version)
                if copy is None and (only or not {"status", "location"} <= set(changes)):
                    return False
                revision = documents.value(document, "caxflow", "revision")
                this = {"name": run.name, "detector": run.detector, "caxflow.revision": revision}
                found, update = telling_if(this, key, copy, changes, only or {})
                if self.runs.update_one(found, touching(recording(update, record))).matched_count:
                    self._bring_records(document, record)
                    return True
                if only and any(copy.note.get(name) != value for name, value in only.items()):
                    return False
        raise DatabaseAway(
            f"{run}: its document changes faster than it can be told", "the next sync tells it"
        )

    def confirm(
        self,
        run: Run,
        key: Key,
        seen: documents.Copy,
        changes: Mapping[str, Any],
        *,
        record: Mapping[str, Any] | None = None,
    ) -> bool:
        """Set keys of an entry after its copy was read; only if it still is what it was when that began.

        Parameters
        ----------
        seen : Copy
            The entry before the reading, of a good copy.
        changes, record : mapping
            As `tell` takes them.

        Returns
        -------
        bool
            Whether the database now says so; if not, the copy was removed, moved, replaced or condemned.
        """

        def change(document: Mapping) -> tuple[dict, dict] | None:
            copy = documents.find(document, key.kind, key.host, key.version)
            if copy is None or identity(copy) != identity(seen):
                return None
            this, update = telling(key, copy, changes)
            return this, recording(update, record)

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
            with self.answers(run):
                if self.runs.update_one(this | wanted[0], touching(wanted[1])).matched_count:
                    self._bring_records(document, wanted[1].get("$push", {}).get(RECORDS))
                    return True
        raise DatabaseAway(f"{run}: its document changes faster than it can be told", "try again")

    def newest_corrections(self) -> dict[str, Mapping | None]:
        """Return the newest document of each correction by its name; None where there is none."""
        with self.answers():
            found = corrections.newest(self._database)
        return {correction.name: document for correction, document in found.items()}

    def editions(self) -> tuple[list[corrections.Edition], list[CaxflowError]]:
        """The newest document of each correction, and what is wrong with those that cannot be used."""
        with self.answers():
            return corrections.read_newest(self._database)

    def correct(
        self, run: Run, editions: Iterable[corrections.Edition], voltage: corrections.Voltage
    ) -> list[corrections.Update | corrections.Waiting | CaxflowError]:
        """Write a run's corrections into its document; what was written, waits or failed."""
        with self.answers(run):
            return list(corrections.correct(self.runs, self.get(run), editions, voltage, dry=self.dry))

    def append_audit(self, record: Mapping[str, Any]) -> None:
        """Add to the audit, from which nothing is ever taken; the same ``_id`` twice is the same record."""
        if not self.dry:
            with self.answers(), contextlib.suppress(pymongo.errors.DuplicateKeyError):
                self._database[AUDIT].insert_one(dict(record))

    def audit(self, run: Run) -> list[dict]:
        """All that is in the audit about a run, in the order of time; also what is on its way there."""
        with self.answers():
            found = {each["_id"]: each for each in _records(self.find(run) or {})}
            found |= {each["_id"]: each for each in self._database[AUDIT].find({"run": str(run)})}

        def order(record: Mapping) -> tuple:
            return documents.time_of(record.get("at")) or datetime.datetime.min, str(record["_id"])

        return sorted(found.values(), key=order)

    def _bring_records(self, seen: Mapping, record: Mapping | None = None) -> None:
        """Bring records into the audit that a change left in a document, this one or one that was killed.

        What keeps them from it now, the next change does not.
        """
        this = {"_id": seen["_id"]}
        with contextlib.suppress(DatabaseAway), self.answers():
            while record or _records(seen):
                seen, record = self.runs.find_one(this, {"caxflow": 1}) or {}, None
                for each in _records(seen):
                    self.append_audit(each)
                there = this | {"caxflow.revision": documents.value(seen, "caxflow", "revision")}
                if self.runs.update_one(there, {"$unset": {RECORDS: ""}}).matched_count:
                    return

    @contextlib.contextmanager
    def changes(self) -> Iterator[Iterator[bool]]:
        """Watch for runs that begin or end from now on.

        Yields
        ------
        iterator of bool
            Whether another one did, about twice a second, without end. It ends at once where the server has
            no change streams, or does not let us see them.
        """
        wanted = [{"operationType": {"$in": ["insert", "replace"]}}]
        wanted.append({"updateDescription.updatedFields.end": {"$exists": True}})
        with contextlib.ExitStack() as opened:
            stream = None
            with self.answers(), contextlib.suppress(pymongo.errors.OperationFailure):
                watched = self.runs.watch([{"$match": {"$or": wanted}}], max_await_time_ms=500)
                stream = opened.enter_context(watched)
            yield self._news(stream) if stream else iter(())

    def _news(self, stream: ChangeStream) -> Iterator[bool]:
        with self.answers(), contextlib.suppress(pymongo.errors.OperationFailure):
            while stream.alive:  # it ends with the collection
                yield stream.try_next() is not None

    def holding(self, selection: Selection, host: str) -> Iterator[dict]:
        """Documents with any entry for `host`, as far as `selection` admits them, in no order."""
        yield from self._admitted(selection, {"data.host": host})

    def naming(self, host: str, fields: Iterable[str], path: str, around: Iterable[str]) -> Iterator[dict]:
        """Documents with an entry for `host` that names a path, one in it, or one of the folders `around` it.

        Parameters
        ----------
        fields : iterable of str
            Where entries name paths, as ``location``.
        """
        with self.answers():
            yield from self.runs.find(
                {"data.host": host} | queries.naming(fields, path, around), PLANNING, batch_size=1000
            )

    def of_runs(self, runs: Iterable[Run]) -> Iterator[dict]:
        """Documents of these runs, as far as there are any."""
        names = [str(run) for run in runs]
        for begin in range(0, len(names), 500):
            some = Selection(runs=tuple(names[begin : begin + 500]))
            yield from self._admitted(some)

    def removing(self, host: str, selection: Selection = _ALL) -> Iterator[dict]:
        """Documents with a copy whose removal at `host` was begun and not completed."""
        yield from self._admitted(selection, {REMOVING: host})

    def fill_in(self, run: Run, key: str, value: Any) -> None:
        """Set a key of the document that is missing or null."""
        if not self.dry:
            with self.answers(run):
                self.runs.update_one(
                    {"name": run.name, "detector": run.detector, key: None}, {"$set": {key: value}}
                )


def _records(document: Mapping) -> list[dict]:
    """Records for the audit that are in a document still."""
    found = documents.value(document, *RECORDS.split("."), type_=list) or []
    return [each for each in found if documents.value(each, "_id", type_=str)]


def _missing(collection: pymongo.collection.Collection, wanted: Iterable[Index]) -> list[Index]:
    """Return the indexes that are not there under any name."""
    there = [(found["key"], found.get("unique", False)) for found in collection.list_indexes()]
    return [each for each in wanted if (dict(each[1]), each[2].get("unique", False)) not in there]
