"""Removing a copy, on evidence that others are good; after a crash the next attempt completes or undoes it.

The steps: evidence is gathered, and renewed where it is stale; the intent is written into the entry, which
stops being a source; the copy is renamed into the site's trash; the entry goes, the document and the audit
keep that it was there; the trash is emptied. Until the entry has gone the copy can be put back, and is, if
the evidence no longer suffices. An entry that points at nothing goes in one step, on the same evidence.
"""

import dataclasses
import datetime
import posixpath
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from caxflow import documents, receipts, transfer
from caxflow.config.retention import Demand
from caxflow.copies import evidence, parts, proof
from caxflow.copies.evidence import Witness
from caxflow.copies.hearing import Hearing
from caxflow.copies.parts import Part
from caxflow.copies.subject import Subject
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.rundb import MARK, REMOVING, Claim, Held, Key, RunsDB, audit
from caxflow.targets import Run
from caxflow.workdir import journal

TRASH = ".caxflow-trash"


@dataclass(frozen=True)
class Verdict:
    """What a removal would do, as far as that can be known without reading or writing.

    Parameters
    ----------
    location : str
    size : int or None
        Bytes.
    sure : list of Witness
        Those that count.
    hoped : list of Witness
        Those that are read again first: nobody knows before what that finds.
    missing : bool
        Whether the entry points at nothing.
    begun : bool
        Whether a removal that was begun goes on.
    """

    location: str
    size: int | None
    sure: list[Witness] = field(default_factory=list)
    hoped: list[Witness] = field(default_factory=list)
    missing: bool = False
    begun: bool = False


@dataclass
class Removal:
    """The removal of one copy.

    Parameters
    ----------
    subject : Subject
    demand : Demand
        What must be known of the other copies.
    grounds : str
        Why it is removed, for the audit.
    look : callable
        How places are looked at, as `caxflow.copies.proof.glance`.
    """

    subject: Subject
    demand: Demand
    grounds: str
    look: proof.Glance = proof.glance
    claim: Claim | None = None

    def __post_init__(self):
        self.hearing = Hearing(self.subject, self.demand, self.look)

    def perform(self) -> dict:
        """Remove the copy; what a receipt says about it.

        Raises
        ------
        CaxflowError
            If the evidence does not suffice, or something fails: then the copy is where it was, or the next
            attempt goes on from there.
        """
        subject = self.subject
        if subject.database.dry:
            raise CaxflowError(
                f"{subject} is not removed: the runs database may not be told (dry: true)", "take dry out"
            )
        document = subject.database.get(subject.run)
        copy = subject.find(document)
        if copy is None:
            return self._finish(self._gone(document))
        if "removing" in copy.note:
            self._go_on(copy)
        elif self.is_missing(document, copy):
            self.drop(document, copy)
        else:
            self.check_itself(document, copy)
            self.hearing.hear(copy)
            self._carry_out(copy, self.intend(), renew=False)
        return self._finish(self._gone(subject.database.get(subject.run)))

    def preview(self) -> Verdict:
        """Look at everything that `perform` would look at, and touch nothing.

        Raises
        ------
        CaxflowError
            If the copy would stay, whatever reading witnesses again finds.
        """
        subject = self.subject
        document = subject.database.get(subject.run)
        copy = subject.find(document)
        if copy is None:
            gone = self._gone(document)
            return Verdict(str(gone.get("trash")), None, begun=True)
        if "removing" in copy.note:
            self._may_take_over(copy)
            self.hearing.hear(copy, read=False)
            return Verdict(copy.location, copy.size, self.hearing.sure, self.hearing.hoped, begun=True)
        missing = self.is_missing(document, copy)
        if missing:
            copy = self._as_it_was(document, copy)
        else:
            self.check_itself(document, copy)
        self.hearing.hear(copy, read=False)
        return Verdict(copy.location, copy.size, self.hearing.sure, self.hearing.hoped, missing=missing)

    def is_missing(self, document: Mapping, copy: Copy) -> bool:
        """Whether the entry points at nothing, at a site that can be looked at.

        Raises
        ------
        CaxflowError
            If the site cannot be reached, or its folder looks like one whose file system is not mounted;
            if there is something, and it is not a good copy.
        """
        subject = self.subject
        where = self._parts(copy.location, self._known_manifest(copy))
        settled = copy.status in (documents.TRANSFERRED, documents.ERROR) and "moving" not in copy.note
        there = not settled or any(self.look(subject.place, each.path).kind for each in where)
        if there and not evidence.good(copy):
            state = "suspect" if "suspect" in copy.note else f"said to be {copy.status}"
            raise CaxflowError(
                f"{subject} is not removed: it is {state}", f"ask why: caxflow why {subject.run}"
            )
        if not there:
            subject.check_mounted(copy.location)
        return not there

    def check_itself(self, document: Mapping, copy: Copy) -> None:
        """See that what the entry points at is this copy, all of it and nothing else.

        Raises
        ------
        CaxflowError
            If removing what is there would remove something else.
        """
        subject = self.subject
        if name := parts.misnamed(subject.key, subject.run, copy.location):
            raise CaxflowError(
                f"{subject} is not removed: it is said to be in {copy.location}, which is not called {name}",
                "mend the document's location",
            )
        where = self._parts(copy.location, Manifest.from_json(self.hearing.manifest(copy)))
        for each in where:
            own = dataclasses.replace(copy, location=each.path)
            if other := next(documents.sharing(document, own), ""):
                raise CaxflowError(
                    f"{subject} is not removed: another entry of {copy.host} is in {other}, its own place",
                    "mend the document's locations",
                )
        self._compare_with_manifest(where)

    def drop(self, document: Mapping, copy: Copy) -> None:
        """Take the entry of a copy that is not there out of the document, if enough others are good."""
        subject, key, token = self.subject, self.subject.key, secrets.token_hex(8)
        self.hearing.hear(self._as_it_was(document, copy))
        self.claim = self.subject.hold(token)
        self.grounds = f"{self.grounds}; there was nothing at {copy.location}"
        now, this = subject.database.now(), {"location": copy.location, "status": copy.status}

        def change(document: Mapping) -> tuple[dict, dict] | None:
            found = subject.find(document)
            seen = found and (found.status, found.location, found.note)
            if seen != (copy.status, copy.location, copy.note):
                return None
            if not self.hearing.still(document, self._as_it_was(document, copy), now):
                return None
            entry = next(each for each in document["data"] if _is(each, key, **this))
            self._record("removed", entry=entry)
            gone = documents.with_gone(
                document, key.kind, key.host, key.version, at=now, why="removed", token=token
            )
            held = {"data": {"$elemMatch": key.match(**this)}}
            update = {"$pull": {"data": key.match(**this)}, "$set": {"caxflow.gone": gone}}
            return held, update | {"$unset": {MARK: ""}}

        if not subject.database.revise(subject.run, change):
            raise CaxflowError(f"{subject} is not removed: what is known of its copies changed", "try again")
        subject.say(f"{subject} was not there; its entry is removed")

    def intend(self) -> str:
        """Write down that the copy goes, unless the evidence has changed; where it will wait in the trash.

        From here on the entry is no source, and no evidence for the removal of another copy: of two sites
        that remove their copies at the same time and count each other's, one finds the evidence changed.
        """
        subject, token = self.subject, secrets.token_hex(8)
        now = subject.database.now()
        paths: list[str] = []

        def change(document: Mapping) -> tuple[dict, dict] | None:
            copy = subject.find(document)
            if not evidence.good(copy) or not self.hearing.still(document, copy, now):
                return None
            paths[:] = [subject.aside(TRASH, copy.location, token)]
            note = dict(copy.note) | {
                "owner": subject.settings.here.name,
                "by": receipts.who(),
                "token": token,
                "since": now,
                "lease": now + datetime.timedelta(minutes=subject.settings.lease),
                "removing": {"trash": paths[0], "grounds": self.grounds, "since": now},
            }
            this = {"data": {"$elemMatch": subject.key.match(status=documents.TRANSFERRED)}}
            return this, {
                "$set": {"data.$.status": documents.TRANSFERRING, "data.$.caxflow": note},
                "$addToSet": {REMOVING: subject.key.host},
                "$unset": {MARK: ""},
            }

        if not subject.database.revise(subject.run, change):
            raise CaxflowError(f"{subject} is not removed: what is known of its copies changed", "try again")
        self.claim = self.subject.hold(token)
        self._record("removing", trash=paths[0])
        return paths[0]

    def move(self, where: list[Part], trash: str, *, renew: bool = False) -> None:
        """Rename the copy into the trash, if the evidence still holds, and see that the others are there."""
        subject = self.subject
        document = subject.database.get(subject.run)
        copy = subject.find(document)
        if copy is None or copy.note.get("token") != self.claim.token:
            raise Held(f"{subject} was taken over by somebody else", "nothing was removed")
        if renew:
            self.hearing.hear(copy)
        elif not self.hearing.still(document, copy, subject.database.now()):
            raise CaxflowError(f"{subject} is not removed: what is known of the others changed", "try again")
        self.hearing.manifest(copy)  # what nobody can tell from other things does not go
        parts.rename(where, subject.place, root=subject.root, aside=trash)
        if transfer.exists(subject.place, trash):
            self._compare_with_manifest(where, trash)
        # Two sites may see one file system under two names: then the witness has just gone as well.
        for witness in self.hearing.sure:
            if not transfer.exists(self.hearing.at(witness).place, witness.copy.location):
                raise CaxflowError(
                    f"{subject} is not removed: the copy at {witness.site} went with it, it is the same one",
                    "keep one of the two sites' files",
                )

    def put_back(self, where: list[Part], trash: str) -> None:
        """Undo what was begun: the copy goes back to its place, then its entry is what it was.

        Where somebody else has taken the removal over, while this process was stopped for longer than its
        lease, only what a row promises again goes back, and what is whole; they empty the trash.
        """
        subject = self.subject
        copy = subject.find(subject.database.get(subject.run))
        held = copy is not None and copy.note.get("token") == self.claim.token
        if not held:
            if copy is None or "removing" in copy.note:
                return
            where = [
                part for part in where if part.manifest and not parts.wrong([part], subject.place, at=trash)
            ]
        parts.rename(where, subject.place, root=subject.root, aside=trash, back=True)
        if not held or not all(transfer.exists(subject.place, each.path) for each in where):
            return
        ours = {"data": {"$elemMatch": subject.key.match(**{"caxflow.token": self.claim.token})}}

        def change(document: Mapping) -> tuple[dict, dict] | None:
            copy = subject.find(document)
            if copy is None or copy.note.get("token") != self.claim.token:
                return None
            claimed = ("removing", "token", "lease", "since", "owner", "by")
            note = {name: value for name, value in copy.note.items() if name not in claimed}
            back = {"data.$.status": documents.TRANSFERRED, "data.$.caxflow": note}
            return ours, {"$set": back, "$pull": {REMOVING: subject.key.host}}

        if subject.database.revise(subject.run, change):
            self._record("restored")

    def forget_entry(self, trash: str) -> None:
        """Take the entry out of the document; the audit keeps all of it."""
        subject, key, token = self.subject, self.subject.key, self.claim.token
        now = subject.database.now()
        held = {"data": {"$elemMatch": key.match(**{"caxflow.token": token})}}
        pull = {"data": key.match(**{"caxflow.token": token})}

        def change(document: Mapping) -> tuple[dict, dict]:
            entry = next((each for each in document["data"] if _is(each, key, token=token)), None)
            if entry is None:
                raise Held(f"{subject} was taken over by somebody else", "nothing more was removed")
            # First the audit: it must have the entry before the document has it no more.
            self._record("removed", entry=entry, trash=trash)
            gone = documents.with_gone(
                document, key.kind, key.host, key.version, at=now, why="removed", token=token, trash=trash
            )
            return held, {"$pull": pull, "$set": {"caxflow.gone": gone}}

        subject.database.revise(subject.run, change)

    def empty_trash(self, trash: str, digest: str | None) -> None:
        """Delete what waits in the trash, files of that manifest; some of them may be gone already."""
        subject = self.subject
        if transfer.exists(subject.place, trash) is None:
            return
        stated = subject.database.manifest(digest) if digest else None
        foreign = proof.foreign_files(subject.place, trash, Manifest.from_json(stated)) if stated else ["all"]
        if foreign:
            raise CaxflowError(
                f"{subject}: {trash} is not emptied: its manifest does not know {proof.summary(foreign)}",
                "look at what is there, and remove it by hand",
            )
        transfer.remove_tree(subject.place, trash, root=subject.root)

    def _finish(self, gone: Mapping) -> dict:
        """Empty the trash and take the receipts about the copy away; the facts of the receipt."""
        subject = self.subject
        records = subject.database.audit(subject.run)
        removed = next((each for each in records if each["_id"] == f"{gone['token']}.removed"), {})
        entry = removed.get("entry") or {}
        if gone.get("trash"):
            self.empty_trash(self._in_trash(gone["trash"], gone["token"]), entry.get("manifest"))
            subject.say(f"{subject} is removed")
        key = subject.key
        folder = parts.folder(key, str(entry.get("location")))
        if documents.inside(folder, subject.root):
            transfer.prune(subject.place, folder, root=subject.root)
        journal.forget(subject.work_dir, subject.site.name, subject.run, key.kind, key.version)
        return {
            "token": gone["token"],
            "removed": gone["at"].isoformat(),
            "grounds": removed.get("grounds", self.grounds),
            "evidence": removed.get("evidence", []),
            "bytes": entry.get("size"),
            "location": entry.get("location"),
            "manifest": entry.get("manifest"),
        }

    def _gone(self, document: Mapping) -> Mapping:
        key = self.subject.key
        gone = documents.gone(document, key.kind, key.host, key.version)
        if gone is None or gone.get("why") != "removed":
            raise CaxflowError(f"{self.subject} is not in the runs database", "there is nothing to remove")
        return gone

    def _go_on(self, copy: Copy) -> None:
        """Go on with a removal that was begun."""
        intended = documents.value(copy.note, "removing", type_=Mapping) or {}
        self._take_over(copy)
        self.grounds = str(intended.get("grounds", self.grounds))
        trash = self._in_trash(intended.get("trash"), copy.note.get("token"))
        self._carry_out(copy, trash, renew=True)

    def _carry_out(self, copy: Copy, trash: str, *, renew: bool) -> None:
        where = self._parts(copy.location, self._known_manifest(copy))
        try:
            self.move(where, trash, renew=renew)
        except CaxflowError:
            self.put_back(where, trash)
            raise
        try:
            self.forget_entry(trash)
        except Held:
            self.put_back(where, trash)
            raise

    def _parts(self, location: str, manifest: Manifest | None) -> list[Part]:
        return parts.of(self.subject.key, self.subject.run, location, manifest)

    def _known_manifest(self, copy: Copy) -> Manifest | None:
        stated = self.subject.database.manifest(copy.manifest) if copy.manifest else None
        return Manifest.from_json(stated) if stated else None

    def _as_it_was(self, document: Mapping, copy: Copy) -> Copy:
        """A copy that is not there, as the others must have it: by the manifest of those that are good."""
        right = evidence.master(document, "raw", self.subject.settings) if copy.kind == "raw" else None
        known = right.manifest if right else copy.manifest
        if known is None and not self.hearing.own_manifests:
            raise CaxflowError(
                f"{self.subject} is not removed: nothing is known of what it held",
                "scrub the other copies first",
            )
        return dataclasses.replace(copy, manifest=known)

    def _compare_with_manifest(self, where: list[Part], at: str | None = None) -> None:
        """What lies there must be the files of the copy's manifest, all of them and no other."""
        subject = self.subject
        if wrong := parts.wrong(where, subject.place, at=at, look=self.look):
            raise CaxflowError(f"{subject} is not removed: {wrong}", "look at what is there: caxflow strays")

    def _in_trash(self, trash: object, token: object) -> str:
        """A path that a document names, if it is in the site's trash and called after the removal."""
        folder = posixpath.join(self.subject.root, TRASH)
        if (
            isinstance(trash, str)
            and isinstance(token, str)
            and token.isalnum()
            and documents.inside(trash, folder)
            and posixpath.dirname(trash) == folder
            and trash.endswith(f".{token}")
        ):
            return trash
        raise CaxflowError(
            f"{self.subject} is said to wait in {trash!r}, which is not its place in {folder}",
            "nothing is deleted there; mend the document",
        )

    def _may_take_over(self, copy: Copy) -> None:
        owner, now = copy.note.get("owner"), self.subject.database.now()
        if owner != self.subject.settings.here.name and documents.is_held(copy, now):
            raise Held(f"{self.subject} is being removed by {owner}", "let it finish there")

    def _take_over(self, copy: Copy) -> None:
        """Take over a removal that this site began, or that nobody goes on with."""
        self._may_take_over(copy)
        subject, token, now = self.subject, copy.note.get("token"), self.subject.database.now()
        until = now + datetime.timedelta(minutes=subject.settings.lease)
        changes = {"caxflow.lease": until, "caxflow.by": receipts.who()}
        if not subject.database.tell(subject.run, subject.key, changes, {"token": token}):
            raise Held(f"{subject} was taken over by somebody else", "nothing was removed")
        self.claim = self.subject.hold(token)
        subject.say(f"{subject}: a removal that was begun goes on")

    def _record(self, action: str, **facts: object) -> None:
        subject = self.subject
        seen = [each.to_json() for each in self.hearing.sure]
        facts = facts | {"site": subject.site.name, "evidence": seen}
        ident = self.claim.token
        audit.record(
            subject.database, action, subject.run, subject.key, grounds=self.grounds, ident=ident, **facts
        )


def _is(entry: object, key: Key, token: str | None = None, **keys: object) -> bool:
    """Whether an entry of ``data`` is the one of that key, held by the token, with these values."""
    if not isinstance(entry, Mapping):
        return False
    if any(entry.get(name) != word for name, word in key.match(**keys).items()):
        return False
    return token is None or documents.value(entry, "caxflow", "token") == token


def conclude(database: RunsDB, run: Run, key: Key, token: str) -> bool:
    """Have the document forget the path in the trash, which is empty; whether it had to."""

    def change(document: Mapping) -> tuple[dict, dict] | None:
        gone = documents.gone(document, key.kind, key.host, key.version)
        if gone is None or gone.get("token") != token or not gone.get("trash"):
            return None
        facts = {name: gone[name] for name in ("at", "why", "token")}
        listed = documents.with_gone(document, key.kind, key.host, key.version, **facts)
        return {}, {"$set": {"caxflow.gone": listed}, "$pull": {REMOVING: key.host}}

    return database.revise(run, change)
