"""Removing a copy, on evidence that others are good; after a crash the next attempt completes or undoes it.

The steps: evidence is gathered, and renewed where it is stale; the intent is written into the entry, which
stops being a source; the copy is renamed into the site's trash; the witnesses are looked at once more, and if
the document still lets it, the entry says that the trash is emptied; that is done; the entry goes, the
document and the audit keep that it was there. As long as all of the copy is there it can be put back, and is,
if the evidence no longer suffices; one that goes on after an interruption has the witnesses read again first.
An entry that points at nothing goes in one step, on the same evidence.
"""

import dataclasses
import datetime
import posixpath
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from caxflow import documents, receipts, transfer
from caxflow.config.retention import Demand
from caxflow.copies import evidence, proof, shortcuts
from caxflow.copies.evidence import Witness
from caxflow.copies.hearing import Hearing
from caxflow.copies.subject import OnDisk, Subject, asides, folder_of
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.rundb import MARK, REMOVING, Claim, Held, Key, audit, claims, identity, recording
from caxflow.transfer.folder import HELD_UP
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
    _ident: str = ""  # of this removal, in the trash and in the audit, through all interruptions
    _known: list[dict] = field(default_factory=list)  # evidence on which an earlier attempt emptied the trash

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
        self._check_left(copy)
        if copy is None:
            pass  # it is gone already
        elif "removing" in copy.note:
            self._go_on(copy)
        elif self.is_missing(document, copy):
            self.drop(document, copy)
        else:
            self.check_itself(document, copy)
            self.hearing.hear(copy)
            self.hearing.read_itself(copy)
            trash = self.intend(copy)
            own = OnDisk(copy.location.rstrip("/"), subject.manifest(copy.manifest))
            self._carry_out(copy, own, trash)
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
        self._check_left(copy)
        if copy is None:
            self._gone(document)
            raise CaxflowError(f"{subject} is gone already", "there is nothing to do")
        if "removing" in copy.note:
            self._may_take_over(copy)
            self.hearing.since = subject.database.now()
            self.hearing.hear(copy, read=False)
            return Verdict(copy.location, copy.size, self.hearing.sure, self.hearing.hoped, begun=True)
        missing = self.is_missing(document, copy)
        if missing:
            copy = self._as_it_was(document, copy)
        else:
            self.check_itself(document, copy)
        self.hearing.hear(copy, read=False)
        return Verdict(copy.location, copy.size, self.hearing.sure, self.hearing.hoped, missing=missing)

    def _check_left(self, copy: Copy | None) -> None:
        """Raise an error where a move left old files: with the entry, what knows of them would go."""
        if copy is not None and "left" in copy.note:
            raise CaxflowError(
                f"{self.subject} is not removed: a move of it is not complete", "complete it: caxflow mv"
            )

    def is_missing(self, document: Mapping, copy: Copy) -> bool:
        """Whether the entry points at nothing, at a site that can be looked at.

        Raises
        ------
        CaxflowError
            If the site cannot be reached, or its folder looks like one whose file system is not mounted;
            if there is something, and it is not a good copy.
        """
        subject = self.subject
        settled = copy.status in (documents.TRANSFERRED, documents.ERROR) and "moving" not in copy.note
        there = not settled or self.look(subject.place, copy.location.rstrip("/")).kind is not None
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
        own = OnDisk(copy.location.rstrip("/"), Manifest.from_json(self.hearing.manifest(copy)))
        subject.check_alone(document, copy)
        transfer.must_allow(subject.place, "rename", own.path)
        self._compare_with_manifest(own)

    def drop(self, document: Mapping, copy: Copy) -> None:
        """Take the entry of a copy that is not there out of the document, if enough others are good."""
        subject, key, token = self.subject, self.subject.key, secrets.token_hex(8)
        self.hearing.hear(self._as_it_was(document, copy))
        if not self.is_missing(document, copy):
            raise CaxflowError(f"{subject} is not removed: it is there again", "try again")
        self.claim, self._ident = subject.hold(token), token
        self.grounds = f"{self.grounds}; there was nothing at {copy.location}"
        self._clear_links(copy)
        now, this = subject.database.now(), {"location": copy.location, "status": copy.status}

        def change(document: Mapping) -> tuple[dict, dict] | None:
            found = subject.find(document)
            seen = found and (found.status, found.location, found.note)
            if seen != (copy.status, copy.location, copy.note):
                return None
            if not self.hearing.still(document, self._as_it_was(document, copy), now):
                return None
            entry = next(each for each in document["data"] if _is(each, key, **this))
            gone = documents.with_gone(
                document, key.kind, key.host, key.version, at=now, why="removed", token=token
            )
            held = {"data": {"$elemMatch": key.match(**this)}}
            update = {"$pull": {"data": key.match(**this)}, "$set": {"caxflow.gone": gone}}
            return held, recording(update | {"$unset": {MARK: ""}}, self._record("removed", entry=entry))

        if not subject.database.revise(subject.run, change):
            raise CaxflowError(f"{subject} is not removed: what is known of its copies changed", "try again")
        subject.say(f"{subject} was not there; its entry is removed")

    def intend(self, seen: Copy) -> str:
        """Write down that the copy goes, unless it or the evidence has changed; where it waits in the trash.

        From here on the entry is no source, and no evidence for the removal of another copy: of two sites
        that remove their copies at the same time and count each other's, one finds the evidence changed.
        """
        subject = self.subject
        self._ident = token = secrets.token_hex(8)
        now = subject.database.now()
        paths: list[str] = []

        def change(document: Mapping) -> tuple[dict, dict] | None:
            copy = subject.find(document)
            if not evidence.good(copy) or identity(copy) != identity(seen):
                return None
            if not self.hearing.still(document, copy, now):
                return None
            paths[:] = [subject.aside(TRASH, copy.location, token)]
            note = dict(copy.note) | {
                "owner": subject.settings.here.name,
                "by": receipts.who(),
                "token": token,
                "since": now,
                "lease": now + datetime.timedelta(minutes=subject.settings.lease),
                "removing": {"trash": paths[0], "token": token, "grounds": self.grounds, "since": now},
            }
            this = {"data": {"$elemMatch": subject.key.match(status=documents.TRANSFERRED)}}
            update = {
                "$set": {"data.$.status": documents.TRANSFERRING, "data.$.caxflow": note},
                "$addToSet": {REMOVING: subject.key.host},
                "$unset": {MARK: ""},
            }
            return this, recording(update, self._record("removing", trash=paths[0]))

        if not subject.database.revise(subject.run, change):
            raise CaxflowError(f"{subject} is not removed: what is known of its copies changed", "try again")
        self.claim = subject.hold(token)
        return paths[0]

    def move(self, own: OnDisk, trash: str, *, emptied: bool = False) -> None:
        """Rename the copy into the trash, if it is that; `emptied`: some of it may be deleted already."""
        subject = self.subject
        document = subject.database.get(subject.run)
        copy = self._held(document)
        if own.manifest is None:
            self.hearing.manifest(copy)  # which raises an error
        subject.check_alone(document, copy)
        if not emptied:
            if not transfer.exists(subject.place, trash):
                self._compare_with_manifest(own)
            subject.bring(own.path, trash)
        self._check_trash(own, trash, emptied=emptied)

    def _check_trash(self, own: OnDisk, trash: str, *, emptied: bool = False) -> None:
        """See that in the trash is the copy, all of it unless it was `emptied`, and nothing else."""
        subject = self.subject
        if not emptied:
            self._compare_with_manifest(own, trash)
        elif foreign := self._foreign(own, trash):
            raise CaxflowError(
                f"{subject}: {trash} is not emptied: its manifest does not know {proof.summary(foreign)}",
                "look at what is there, and remove it by hand",
            )

    def commit(self) -> None:
        """Record that the copy is deleted from now on, if all that lets it go still holds."""
        subject = self.subject
        now = subject.database.now()

        def change(document: Mapping) -> tuple[dict, dict] | None:
            copy = self._held(document)
            if not self.hearing.still(document, copy, now):
                return None
            removing = documents.value(copy.note, "removing", type_=Mapping) or {}
            evident = {"emptied": now, "evidence": self._evidence}
            note = dict(copy.note) | {"removing": dict(removing) | evident}
            return self._ours, {"$set": {"data.$.caxflow": note}}

        if not subject.database.revise(subject.run, change):
            raise CaxflowError(f"{subject} is not removed: what is known of the others changed", "try again")

    @property
    def _evidence(self) -> list[dict]:
        """The witnesses, for the audit."""
        return [each.to_json() for each in self.hearing.sure] or self._known

    def put_back(self, own: OnDisk, trash: str, *, emptied: bool = False) -> None:
        """Undo what was begun: the copy goes back to its place, then its entry is what it was.

        Where somebody else has taken the removal over, while this process was stopped for longer than its
        lease, only what a row promises again goes back. What is not whole, or whose place is taken, stays in
        the trash, and its entry says so.
        """
        subject = self.subject
        copy = subject.find(subject.database.get(subject.run))
        held = copy is not None and copy.note.get("token") == self.claim.token
        if not held and (copy is None or "removing" in copy.note):
            return
        # Without a manifest it cannot be known whether what was partly deleted is whole.
        unknown = emptied and own.manifest is None
        if not unknown and self._is_whole(own, trash):
            if held:
                self._take_back(copy)
            subject.bring(trash, own.path)
        if not held:
            return
        if unknown or not self._is_whole(own, own.path):
            subject.say(f"{subject}: what is left of it waits in {trash}")
            return

        def change(document: Mapping) -> tuple[dict, dict] | None:
            copy = subject.find(document)
            if copy is None or copy.note.get("token") != self.claim.token:
                return None
            claimed = ("removing", "token", "lease", "since", "owner", "by")
            note = {name: value for name, value in copy.note.items() if name not in claimed}
            back = {"data.$.status": documents.TRANSFERRED, "data.$.caxflow": note}
            done = self._no_more(document)
            update = {"$set": back} | ({"$pull": done} if done else {})
            return self._ours, recording(update, self._record("restored"))

        subject.database.revise(subject.run, change)

    def _take_back(self, copy: Copy) -> None:
        """Have the entry say that the trash is not emptied, before anything leaves it."""
        removing = documents.value(copy.note, "removing", type_=Mapping) or {}
        kept = {name: value for name, value in removing.items() if name not in ("emptied", "evidence")}
        told, token = {"caxflow.removing": kept}, {"token": self.claim.token}
        if kept != removing and not self.subject.database.tell(
            self.subject.run, self.subject.key, told, token
        ):
            raise self._lost()

    def empty(self, trash: str, asked: float) -> None:
        """Delete what waits in the trash; some of it may be gone already.

        Parameters
        ----------
        asked : float
            When everything was asked that lets it go (monotonic clock): not long ago.
        """
        self.subject.remove(trash, asked=asked)

    def forget_entry(self, copy: Copy) -> None:
        """Take the entry out of the document; the same update has all of it for the audit."""
        subject, key, token = self.subject, self.subject.key, self.claim.token
        self._clear_links(copy)
        now = subject.database.now()

        def change(document: Mapping) -> tuple[dict, dict]:
            self._held(document)
            entry = next(each for each in document["data"] if _is(each, key, token=token))
            gone = documents.with_gone(
                document, key.kind, key.host, key.version, at=now, why="removed", token=self._ident
            )
            pull = {"data": key.match(**{"caxflow.token": token})} | self._no_more(document)
            update = {"$pull": pull, "$set": {"caxflow.gone": gone}}
            return self._ours, recording(update, self._record("removed", entry=entry))

        subject.database.revise(subject.run, change)
        subject.say(f"{subject} is removed")

    def _clear_links(self, copy: Copy) -> None:
        """Remove the links to minitrees that are gone, as long as the same call would do so again."""
        subject = self.subject
        if copy.kind == "minitrees":
            shortcuts.clear(subject.place, subject.run, copy.location, subject.root, subject.say)

    def _no_more(self, document: Mapping) -> dict:
        """What takes the host out of those that remove something of the run; nothing if it does so still."""
        key = self.subject.key
        others = set(documents.leaving(document, key.host)) - {(key.kind, key.version)}
        return {} if others else {REMOVING: key.host}

    def _finish(self, gone: Mapping) -> dict:
        """Leave no empty folder and no receipt about the copy; the facts of the removal's receipt."""
        subject = self.subject
        records = subject.database.audit(subject.run)
        token, at = gone.get("token"), documents.time_of(gone.get("at"))
        removed = next((each for each in records if each["_id"] == f"{token}.removed"), {})
        entry = documents.value(removed, "entry", type_=Mapping) or {}
        key = subject.key
        folder = folder_of(str(entry.get("location")))
        if documents.inside(folder, subject.root):
            try:
                subject.prune(folder)
            except CaxflowError as error:
                subject.say(f"{folder} is not removed, which may be empty: {error}")
        journal.forget(subject.work_dir, subject.site.name, subject.run, key.kind, key.version)
        self.hearing.forget()
        return {
            "token": token,
            "removed": at and at.isoformat(),
            "grounds": removed.get("grounds", self.grounds),
            "evidence": removed.get("evidence", []),
            "bytes": documents.value(entry, "size", type_=int),
            "location": documents.value(entry, "location", type_=str),
            "manifest": documents.value(entry, "manifest", type_=str),
        }

    def _gone(self, document: Mapping) -> Mapping:
        key = self.subject.key
        gone = documents.gone(document, key.kind, key.host, key.version)
        if gone is None or gone.get("why") != "removed":
            raise CaxflowError(f"{self.subject} is not in the runs database", "there is nothing to remove")
        return gone

    def _go_on(self, copy: Copy) -> None:
        """Go on with a removal that was begun; nothing that was known when it began is taken for granted."""
        subject = self.subject
        intended = documents.value(copy.note, "removing", type_=Mapping) or {}
        self._ident = str(intended.get("token", copy.note.get("token")))
        trash = self._in_trash(intended.get("trash"), self._ident, copy.location)
        self._take_over(copy)
        self.grounds = str(intended.get("grounds", self.grounds))
        self.hearing.clean(copy, self._ident)
        own = OnDisk(copy.location.rstrip("/"), self.subject.manifest(copy.manifest))
        emptied = "emptied" in intended
        waits = transfer.exists(subject.place, trash)
        if not waits and (emptied or not transfer.exists(subject.place, own.path)):
            subject.check_mounted(trash)
            if not emptied:
                # Nothing of it is left, as where a database was restored.
                self.hearing.hear(self._as_it_was(subject.database.get(subject.run), copy))
            self._known = documents.value(intended, "evidence", type_=list) or []
            self.forget_entry(copy)
            return
        self.hearing.since = subject.database.now()
        self._carry_out(copy, own, trash, emptied=emptied)

    def _carry_out(self, copy: Copy, own: OnDisk, trash: str, *, emptied: bool = False) -> None:
        try:
            if self.hearing.since:
                self.hearing.hear(copy)
            self.move(own, trash, emptied=emptied)
            self.hearing.confirm(copy, trash, self._ident)
            asked = time.monotonic()
            self.commit()
            self._check_trash(own, trash, emptied=emptied)
            self._check_in_time(asked)
        except CaxflowError:
            self.put_back(own, trash, emptied=emptied)
            raise
        self.empty(trash, asked)
        self.forget_entry(copy)

    def _check_in_time(self, asked: float) -> None:
        if time.monotonic() - asked > HELD_UP:
            raise CaxflowError(f"{self.subject} is not removed: that was held up", "try again")

    def _held(self, document: Mapping | None = None) -> Copy:
        """The entry, as this removal holds it."""
        subject = self.subject
        copy = subject.find(subject.database.get(subject.run) if document is None else document)
        if copy is None or copy.note.get("token") != self.claim.token:
            raise self._lost()
        return copy

    def _lost(self) -> Held:
        return Held(f"{self.subject} was taken over by somebody else", "nothing more is removed")

    @property
    def _ours(self) -> dict:
        """The condition that the entry is held by this removal."""
        held = {"caxflow.token": self.claim.token}
        return {"data": {"$elemMatch": self.subject.key.match(**held)}}

    def _is_whole(self, own: OnDisk, path: str) -> bool:
        return proof.is_all_there(self.subject.place, path, own.manifest)

    def _foreign(self, own: OnDisk, trash: str) -> list[str]:
        """Files in the trash that are not the copy's own."""
        place = self.subject.place
        return proof.foreign_files(place, trash, own.manifest) if transfer.exists(place, trash) else []

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

    def _compare_with_manifest(self, own: OnDisk, trash: str | None = None) -> None:
        """What lies there must be the files of the copy's manifest, all of them and no other."""
        subject, renamed = self.subject, trash is not None
        path = trash if renamed else own.path
        if wrong := proof.same_files(subject.place, path, own.manifest, renamed=renamed, look=self.look):
            raise CaxflowError(f"{subject} is not removed: {wrong}", "look at what is there: caxflow strays")

    def _in_trash(self, trash: object, token: object, location: str) -> str:
        """A path that a document names, if it is the copy's own place in the site's trash."""
        root = self.subject.root
        if isinstance(token, str) and token.isalnum():
            for own in asides(root, TRASH, location, token):
                if trash == own:
                    return own
        folder = posixpath.join(root, TRASH)
        raise CaxflowError(
            f"{self.subject} is said to wait in {trash!r}, which is not its place in {folder}",
            "nothing is deleted there; mend the document",
        )

    def _may_take_over(self, copy: Copy) -> None:
        emptied = documents.value(copy.note, "removing", "emptied") is not None
        claims.check_free(self.subject.database, copy, f"{self.subject} is being removed", firm=emptied)

    def _take_over(self, copy: Copy) -> None:
        """Take over a removal that was interrupted."""
        self._may_take_over(copy)
        subject = self.subject
        lease = subject.settings.lease
        token = claims.take_over(subject.database, subject.run, subject.key, copy, lease)
        self.claim = subject.hold(token)
        subject.say(f"{subject}: a removal that was begun goes on")

    def _record(self, action: str, **facts: object) -> dict:
        subject, ident = self.subject, self._ident
        facts = facts | {"site": subject.site.name, "evidence": self._evidence}
        return audit.entry(
            subject.database, action, subject.run, subject.key, grounds=self.grounds, ident=ident, **facts
        )


def _is(entry: object, key: Key, token: str | None = None, **keys: object) -> bool:
    """Whether an entry of ``data`` is the one of that key, held by the token, with these values."""
    if not isinstance(entry, Mapping):
        return False
    if any(entry.get(name) != word for name, word in key.match(**keys).items()):
        return False
    return token is None or documents.value(entry, "caxflow", "token") == token
