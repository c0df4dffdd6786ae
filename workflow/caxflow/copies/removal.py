"""Removing a copy, on evidence that others are good; after a crash the next attempt completes or undoes it.

The steps: evidence is gathered, and renewed where it is stale; the intent is written into the entry, which
stops being a source; the copy is renamed into the site's trash; the entry goes, the document and the audit
keep that it was there; the trash is emptied. Until the entry has gone the copy can be put back, and is, if
the evidence no longer suffices.
"""

import dataclasses
import datetime
import os
import posixpath
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from caxflow import documents, receipts, transfer
from caxflow.config.retention import Demand
from caxflow.copies import evidence, proof, quarantine
from caxflow.copies.evidence import Witness
from caxflow.copies.subject import Subject
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.rundb import MARK, REMOVING, Claim, Held, Key, RunsDB, audit
from caxflow.targets import Run
from caxflow.workdir import journal

TRASH = ".caxflow-trash"
_NOT_CAX = "it does not have the sha512 that cax recorded"


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
    superseded : bool
        Whether the copy is a processed file of another version than its site keeps: then the file of that
        version, there, is the one witness.
    """

    subject: Subject
    demand: Demand
    grounds: str
    superseded: bool = False
    witnesses: list[Witness] = field(default_factory=list)
    claim: Claim | None = None

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
        intended = documents.value(copy.note, "removing", type_=Mapping)
        if intended:
            self._take_over(copy)
            self.grounds = str(intended.get("grounds", self.grounds))
            location = copy.location
            trash = self._in_trash(intended.get("trash"), copy.note.get("token"))
        else:
            self.check_itself(document, copy)
            self.gather(copy)
            location, trash = copy.location, self.intend()
        try:
            self.move(location, trash, renew=bool(intended))
        except CaxflowError:
            self.put_back(location, trash)
            raise
        self.forget_entry(trash)
        return self._finish(self._gone(subject.database.get(subject.run)))

    def check_itself(self, document: Mapping, copy: Copy) -> None:
        """See that what the entry points at is this copy, all of it and nothing else.

        Raises
        ------
        CaxflowError
            If removing what is there would remove something else.
        """
        subject = self.subject
        name = f"{subject.run}.root" if copy.kind == "processed" else str(subject.run)
        if posixpath.basename(copy.location.rstrip("/")) != name:
            raise CaxflowError(
                f"{subject} is not removed: it is said to be in {copy.location}, which is not called {name}",
                "mend the document's location",
            )
        if other := next(documents.sharing(document, copy), ""):
            raise CaxflowError(
                f"{subject} is not removed: another entry of {copy.host} is in {other}, its own place",
                "mend the document's locations",
            )
        self._compare_with_manifest(copy, copy.location)

    def gather(self, copy: Copy) -> None:
        """Find enough witnesses; read those again that would count but for their age.

        Raises
        ------
        CaxflowError
            If there are not enough.
        """
        subject, against, read = self.subject, {}, set()
        expected = self._manifest(copy)
        while True:
            self.witnesses = [_with(each, against.get(each.site)) for each in self.judge()]
            sure = [each for each in self.witnesses if each.counts and each.site in against]
            if evidence.enough(sure, self.demand):
                self.witnesses = sure
                return
            new = [each for each in self.witnesses if each.counts and each.site not in against]
            stale = [each for each in self.witnesses if each.renewable and each.site not in read]
            if new:
                against[new[0].site] = self._look(new[0], expected, against)
            elif stale:
                read.add(stale[0].site)
                if wrong := self._read_again(stale[0], expected):
                    against[stale[0].site] = wrong
            else:
                wanting = evidence.wanting(self.witnesses, self.demand)
                raise CaxflowError(
                    f"{subject} is not removed: {wanting}", "copy or verify it elsewhere first"
                )

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
            if not evidence.good(copy) or not self._still_enough(document, now):
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
        self._hold(token)
        self._record("removing", trash=paths[0])
        return paths[0]

    def move(self, location: str, trash: str, *, renew: bool = False) -> None:
        """Rename the copy into the trash, if the evidence still holds, and see that the others are there."""
        subject = self.subject
        document = subject.database.get(subject.run)
        copy = subject.find(document)
        if copy is None or copy.note.get("token") != self.claim.token:
            raise Held(f"{subject} was taken over by somebody else", "nothing was removed")
        if renew:
            self.gather(copy)
        elif not self._still_enough(document, subject.database.now()):
            raise CaxflowError(f"{subject} is not removed: what is known of the others changed", "try again")
        if transfer.exists(subject.place, trash) is None and transfer.exists(subject.place, location):
            transfer.rename(subject.place, location, trash, root=subject.root)
        if transfer.exists(subject.place, trash):
            self._compare_with_manifest(copy, trash, renamed=True)
        # Two sites may see one file system under two names: then the witness has just gone as well.
        for witness in self.witnesses:
            if not transfer.exists(self._at(witness).place, witness.copy.location):
                raise CaxflowError(
                    f"{subject} is not removed: the copy at {witness.site} went with it, it is the same one",
                    "keep one of the two sites' files",
                )

    def put_back(self, location: str, trash: str) -> None:
        """Undo what was begun: the copy goes back to its place, then its entry is what it was."""
        subject = self.subject
        if transfer.exists(subject.place, trash) and not transfer.exists(subject.place, location):
            transfer.rename(subject.place, trash, location, root=subject.root)
        if not transfer.exists(subject.place, location):
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
            entry = next((each for each in document["data"] if _is(each, key, token)), None)
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

    def judge(self) -> list[Witness]:
        """The witnesses, as the database has them now."""
        subject = self.subject
        document = subject.database.get(subject.run)
        return self._witnesses(document, subject.database.now())

    def _witnesses(self, document: Mapping, now: datetime.datetime) -> list[Witness]:
        copy = self.subject.find(document)
        settings = self.subject.settings
        if copy and self.superseded:
            return evidence.successors(document, copy, self.subject.site, settings, self.demand, now=now)
        return evidence.witnesses(document, copy, settings, self.demand, now) if copy else []

    def _still_enough(self, document: Mapping, now: datetime.datetime) -> bool:
        """Whether those that were found to count still do."""
        sure = {each.site for each in self.witnesses}
        found = self._witnesses(document, now)
        return evidence.enough([each for each in found if each.site in sure], self.demand)

    def _manifest(self, copy: Copy) -> Mapping:
        """What the copy and its witnesses must hold."""
        expected = self.subject.database.manifest(copy.manifest) if copy.manifest else None
        if expected is None:
            raise CaxflowError(
                f"{self.subject} has no manifest that others can be compared with",
                f"have it read first: snakemake scrub, at {self.subject.site.name}",
            )
        return expected

    def _compare_with_manifest(self, copy: Copy, path: str, *, renamed: bool = False) -> None:
        """What lies at `path` must be the files of the copy's manifest, all of them and no other."""
        subject = self.subject
        manifest = Manifest.from_json(self._manifest(copy))
        if wrong := proof.same_files(subject.place, path, manifest, renamed=renamed):
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

    def _look(self, witness: Witness, expected: Mapping, looked: Collection[str]) -> str:
        """Why a witness does not count after all: its files must be where they are said to be."""
        manifest = Manifest.from_json(self._its_manifest(witness, expected))
        for other in self.witnesses:
            if other.counts and other.site in looked and self._lies_at(other) == self._lies_at(witness):
                return f"it is the very files of {other.site}"
        try:
            return proof.same_files(self._at(witness).place, witness.copy.location, manifest)
        except CaxflowError as error:
            return error.what

    def _lies_at(self, witness: Witness) -> tuple:
        """Which files a witness is, however many sites call them theirs."""
        place, location = self._at(witness).place, posixpath.normpath(witness.copy.location)
        return place.host, place.port or 22, location if place.remote else os.path.realpath(location)

    def _its_manifest(self, witness: Witness, expected: Mapping) -> Mapping:
        """What a witness must hold: the same as the copy, but for a successor, which has its own manifest."""
        return self._manifest(witness.copy) if self.superseded else expected

    def _read_again(self, witness: Witness, expected: Mapping) -> str:
        """Renew stale evidence: read that copy where it is; what is against it after that.

        It is condemned only by what is stated of itself: of two that differ, this copy may be the bad one.
        """
        other, expected = self._at(witness), self._its_manifest(witness, expected)
        copy, now = witness.copy, other.database.now()
        other.say(f"reading {copy.location} at {witness.site} again")
        try:
            _, wrong = proof.read_again(other.place, copy.location, [expected], other.progress)
            cax = "" if copy.manifest == expected["digest"] else self._ask_cax(other, copy)
        except Held:
            raise
        except CaxflowError as error:
            other.say(str(error))
            return error.what
        if wrong and copy.manifest == expected["digest"]:
            quarantine.condemn(other, copy.location, wrong)
            return ""  # the database says it now
        if wrong:
            return f"it differs from this copy: find out which is right{cax and f' ({cax})'}"
        if cax == _NOT_CAX:
            return cax
        told = {"manifest": expected["digest"], "caxflow.verified": now}
        told_it = other.database.confirm(other.run, other.key, copy, told)
        return "" if told_it else "it was changed while it was read"

    def _ask_cax(self, other: Subject, copy: Copy) -> str:
        """What the checksum that cax recorded of a copy says of it; empty if there is none."""
        if not proof.is_cax_checksum(copy.checksum):
            return ""
        agrees = proof.agrees_with_cax(other.place, copy.location, copy.checksum, other.progress)
        return "it has the sha512 that cax recorded" if agrees else _NOT_CAX

    def _at(self, witness: Witness) -> Subject:
        """The witness as something that is worked upon."""
        subject = self.subject
        return Subject(
            settings=subject.settings,
            database=subject.database,
            site=subject.settings.site(witness.site),
            run=subject.run,
            key=Key(subject.key.kind, witness.copy.host, witness.copy.version),
            work_dir=subject.work_dir,
            say=subject.say,
            progress=subject.progress,
        )

    def _take_over(self, copy: Copy) -> None:
        """Go on with a removal that this site began."""
        subject, token = self.subject, copy.note.get("token")
        owner, lease = copy.note.get("owner"), documents.time_of(copy.note.get("lease"))
        now = subject.database.now()
        if owner != subject.settings.here.name and (lease is None or lease > now):
            raise Held(f"{subject} is being removed by {owner}", "let it finish there")
        until = now + datetime.timedelta(minutes=subject.settings.lease)
        changes = {"caxflow.lease": until, "caxflow.by": receipts.who()}
        if not subject.database.tell(subject.run, subject.key, changes, {"token": token}):
            raise Held(f"{subject} was taken over by somebody else", "nothing was removed")
        self._hold(token)
        subject.say(f"{subject}: a removal that was begun goes on")

    def _hold(self, token: str) -> None:
        subject = self.subject
        self.claim = Claim(subject.database, subject.run, subject.key, token, subject.settings.lease)
        report = subject.progress

        def progress(state: transfer.Progress) -> None:
            self.claim.renew()
            if report:
                report(state)

        subject.progress = progress

    def _record(self, action: str, **facts: object) -> None:
        subject = self.subject
        seen = [each.to_json() for each in self.witnesses]
        facts = facts | {"site": subject.site.name, "evidence": seen}
        ident = self.claim.token
        audit.record(
            subject.database, action, subject.run, subject.key, grounds=self.grounds, ident=ident, **facts
        )


def _is(entry: object, key: Key, token: str) -> bool:
    """Whether an entry of ``data`` is the one that a token holds."""
    if not isinstance(entry, Mapping) or (entry.get("type"), entry.get("host")) != (key.kind, key.host):
        return False
    return documents.value(entry, "caxflow", "token") == token


def _with(witness: Witness, against: str | None) -> Witness:
    """The witness with what was found against it, if anything."""
    return dataclasses.replace(witness, against=against, renewable=False) if against else witness


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
