"""Hears the witnesses that let a copy go: what the database says of them, what lies and is read there.

A witness whose files changed after they were last read is read again before it counts; so is each, where a
removal goes on that was interrupted. Nothing here changes the copy itself. Reading a witness again renews its
entry, or condemns it.
"""

import contextlib
import dataclasses
import datetime
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from caxflow import documents, transfer
from caxflow.config.retention import Demand
from caxflow.copies import beacons, evidence, proof, quarantine, roots
from caxflow.copies.evidence import Witness
from caxflow.copies.subject import Subject, folder_of
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.rundb import Held, Key
from caxflow.transfer import Look
from caxflow.workdir import witnessed

_NOT_CAX = "it does not have the sha512 that cax recorded"


@dataclass
class Hearing:
    """Who bears witness that a copy may go.

    Parameters
    ----------
    subject : Subject
        The copy.
    demand : Demand
        What must be known of the others.
    look : callable
        How places are looked at, as `caxflow.copies.proof.glance`.
    sure : list of Witness
        Those that were found to count.
    hoped : list of Witness
        After a preview, those that would count if reading them again finds them good.
    since : datetime, optional
        When what was interrupted went on (naive UTC): a reading that began before does not count.
    """

    subject: Subject
    demand: Demand
    look: proof.Glance = proof.glance
    sure: list[Witness] = field(default_factory=list)
    hoped: list[Witness] = field(default_factory=list)
    since: datetime.datetime | None = None
    # Of witnesses, by site: what was seen of them last, and right before they were read; when those were read
    # whose files changed after that.
    _seen: dict[str, Look] = field(default_factory=dict, repr=False)
    _before: dict[str, Look] = field(default_factory=dict, repr=False)
    _changed: dict[str, datetime.datetime | None] = field(default_factory=dict, repr=False)

    @property
    def superseded(self) -> bool:
        """Whether the copy is a processed file of another version than its site keeps.

        Then the file of that version, there, is the one witness.
        """
        kept = evidence.key_of("processed", self.subject.site, self.subject.settings)
        return self.subject.key.kind == "processed" and kept not in (None, self.subject.key)

    @property
    def own_manifests(self) -> bool:
        """Whether the witnesses have other bytes than the copy, and manifests of their own."""
        return self.superseded or self.subject.key.kind == "minitrees"

    def witnesses(self, document: Mapping, copy: Copy | None, now: datetime.datetime) -> list[Witness]:
        """The witnesses, as a document has them."""
        if copy is None:
            return []
        subject = self.subject
        if self.own_manifests:
            find = evidence.successors if self.superseded else evidence.makers
            found = find(document, copy, subject.site, subject.settings, self.demand, now=now)
        else:
            found = evidence.witnesses(document, copy, subject.settings, self.demand, now)
        found = evidence.read_from_here(found, subject.run, self.demand, now, subject.work_dir)
        return sorted(map(self._outdated, found), key=lambda each: not each.counts)

    def _outdated(self, witness: Witness) -> Witness:
        """The witness, which is to be read again if its last reading says nothing any more."""
        read = witness.verified
        if witness.counts and self.since and read < self.since:
            why = f"it was last read {read:%Y-%m-%d %H:%M} UTC, before this was gone on with"
            return dataclasses.replace(witness, against=why, renewable=True)
        if witness.counts and self._changed.get(witness.site) == read:
            why = f"its files changed after they were read, {read:%Y-%m-%d %H:%M} UTC"
            return dataclasses.replace(witness, against=why, renewable=True)
        return witness

    def still(self, document: Mapping, copy: Copy | None, now: datetime.datetime) -> bool:
        """Whether those that were found to count still do."""
        known = {each.site for each in self.sure}
        found = self.witnesses(document, copy, now)
        return evidence.enough([each for each in found if each.site in known], self.demand)

    def hear(self, copy: Copy, *, read: bool = True) -> None:
        """Find enough witnesses; read those again that would count but for their age, or only look at them.

        Raises
        ------
        CaxflowError
            If there are not enough, or without reading: if there cannot be enough.
        """
        subject, against, tried = self.subject, {}, set()
        self.sure, self.hoped = [], []
        while True:
            document, now = subject.database.get(subject.run), subject.database.now()
            found = [_with(each, against.get(each.site)) for each in self.witnesses(document, copy, now)]
            self.sure = [each for each in found if each.counts and each.site in against]
            if evidence.enough(self.sure, self.demand):
                return
            new = [each for each in found if each.counts and each.site not in against]
            stale = [each for each in found if each.renewable and each.site not in tried]
            if new:
                wrong = self._look(new[0], copy)
                if not wrong and self._has_changed(new[0], self._before.get(new[0].site)):
                    continue
                against[new[0].site] = wrong
                if read and wrong:
                    with contextlib.suppress(CaxflowError):
                        quarantine.condemn_missing(self.at(new[0]), new[0].copy)
            elif stale:
                tried.add(stale[0].site)
                wrong = self._read_again(stale[0], copy) if read else self._look(stale[0], copy)
                if wrong:
                    against[stale[0].site] = wrong
                elif not read:
                    self.hoped.append(stale[0])
            elif len(self.sure) + len(self.hoped) >= max(self.demand.copies, 1):
                self.hoped = self.hoped[: max(self.demand.copies, 1) - len(self.sure)]
                return
            else:
                raise CaxflowError(
                    f"{subject} is not removed: {self._wanting(found)}", "copy or verify it elsewhere first"
                )

    def forget(self) -> None:
        """Take away what was noted of readings from here, once the copy is gone that they let go."""
        for each in self.sure:
            if each.from_here:
                witnessed.forget(self.subject.work_dir, each.site, self.subject.run, each.copy)

    def at(self, witness: Witness) -> Subject:
        """The witness as something that is worked upon."""
        copy = witness.copy
        key = Key(copy.kind, copy.host, copy.version if copy.kind in documents.VERSIONED else None)
        return dataclasses.replace(self.subject, site=self.subject.settings.site(witness.site), key=key)

    def manifest(self, copy: Copy) -> Mapping:
        """The manifest of a copy, as the database keeps it."""
        database = self.subject.database
        stated = database.manifest(copy.manifest) if copy.manifest else None
        if stated is None:
            raise CaxflowError(
                f"{self.subject} has no manifest that others can be compared with",
                f"have it read first: snakemake scrub, at {self.subject.site.name}",
            )
        return stated

    def _wanting(self, found: list[Witness]) -> str:
        nobody = "no other site has one"
        if self.own_manifests:
            kept = evidence.key_of("processed", self.subject.site, self.subject.settings)
            version = kept.version if kept else self.subject.key.version
            nobody = f"there is no processed file of {version} at {self.subject.site.name}"
        return evidence.wanting(found, self.demand, nobody)

    def _expected(self, witness: Witness, copy: Copy) -> Mapping:
        """What a witness must hold."""
        return self.manifest(witness.copy if self.own_manifests else copy)

    def _look(self, witness: Witness, copy: Copy) -> str:
        """Why a witness does not count after all: its own files must be where they are said to be."""
        expected = Manifest.from_json(self._expected(witness, copy))
        location, own = witness.copy.location, self._own(copy)
        try:
            found = self._seen[witness.site] = self.look(self.at(witness).place, location)
            if wrong := proof.difference(found, location, expected):
                return wrong
        except CaxflowError as error:
            return error.what
        if own and (proof.are_same_files(found, own) or self._storage(witness) == self._storage()):
            return "it is the very files of this copy"
        for other in (*self.sure, *self.hoped):
            same = proof.are_same_files(found, self._seen[other.site])
            if same or (own and self._storage(other) == self._storage(witness)):
                return f"it is the very files of {other.site}"
        return ""

    def _own(self, copy: Copy) -> Look | None:
        """What lies where the copy is said to be; None where the witnesses have other bytes anyway."""
        return None if self.own_manifests else self.look(self.subject.place, copy.location.rstrip("/"))

    def _storage(self, witness: Witness | None = None) -> object:
        """What tells the storage of a witness, or of the copy itself: its root's marker, or where it lies."""
        subject = self.at(witness) if witness else self.subject
        with contextlib.suppress(CaxflowError):
            if found := roots.identity(subject.place, subject.root):
                return found
        place, location = subject.place, witness.copy.location if witness else None
        return place.host, place.port or 22, location and posixpath.normpath(location)

    def _has_changed(self, witness: Witness, earlier: Look | None = None) -> bool:
        """Whether files of a witness changed after it was last read; then it is to be read again."""
        found, now = self._seen[witness.site], self.subject.database.now
        if not proof.has_changed(found, witness.verified, now, earlier):
            return False
        self._changed[witness.site] = witness.verified
        return True

    def confirm(self, copy: Copy, trash: str, token: str) -> None:
        """Look once more at those that let the copy go, right before it is deleted.

        It has been renamed by now: what of a witness goes by the same names is gone with it, though a cache
        may remember its listing, so that files are opened. What is the same folder under other names shows
        the same inodes or, over a protocol that tells none, beside it a file that is put beside the other.

        Parameters
        ----------
        trash : str
            Where the copy lies now.
        token : str
            Of this removal.

        Raises
        ------
        CaxflowError
            If too few are left.
        """
        subject, against = self.subject, {}
        apart = {subject.site.name: proof.glance(subject.place, trash)}
        with beacons.lit(self._folders(copy, self.sure), token) as names:
            for each in self.sure:
                against[each.site] = self._unfit(each, copy, apart, names)
                if not against[each.site]:
                    apart[each.site] = self._seen[each.site]
        self.sure = [each for each in self.sure if not against[each.site]]
        if not evidence.enough(self.sure, self.demand):
            wrong = "; ".join(f"{site}: {why}" for site, why in against.items() if why)
            raise CaxflowError(f"{subject} is not removed: {wrong}", "see caxflow status, and try again")

    def clean(self, copy: Copy, token: str) -> None:
        """Remove what an interrupted `confirm` of the same token may have left beside the copies."""
        document, now = self.subject.database.get(self.subject.run), self.subject.database.now()
        beacons.clear(self._folders(copy, self.witnesses(document, copy, now)), token)

    def _folders(self, copy: Copy, witnesses: list[Witness]) -> beacons.Folders:
        """Where beacons are put: beside the copy and each witness; by site."""
        if self.own_manifests:
            return {}  # of the same site
        found = {self.subject.site.name: (self.subject, folder_of(copy.location))}
        for each in witnesses:
            other = self.at(each)
            found[each.site] = other, folder_of(each.copy.location)
        return found

    def _unfit(
        self, witness: Witness, copy: Copy, apart: Mapping[str, Look], names: Mapping[str, str]
    ) -> str:
        """Why a witness does not let the copy go after all; empty if it does."""
        other, location = self.at(witness), witness.copy.location
        folder = folder_of(location)
        lit = [site for site in apart if site in names]
        try:
            found, *shown = transfer.look(
                other.place, [location, *(posixpath.join(folder, names[site]) for site in lit)], opened=True
            )
            if wrong := proof.difference(found, location, Manifest.from_json(self._expected(witness, copy))):
                return wrong
        except CaxflowError as error:
            return error.what
        earlier, self._seen[witness.site] = self._seen[witness.site], found
        same = [site for site, look in zip(lit, shown, strict=True) if look.kind]
        same += [site for site, look in apart.items() if proof.are_same_files(found, look)]
        if same:
            return f"it is the very files of {same[0]}"
        return "its files changed after they were read" if self._has_changed(witness, earlier) else ""

    def _read_again(self, witness: Witness, copy: Copy) -> str:
        """Renew stale evidence: read that copy where it is; what is against it after that.

        It is condemned only by what is stated of itself: of two that differ, this copy may be the bad one.
        """
        other, expected = self.at(witness), self._expected(witness, copy)
        theirs, now = witness.copy, other.database.now()
        other.say(f"reading {theirs.location} at {witness.site} again")
        try:
            self._before[witness.site] = self.look(other.place, theirs.location)
            with quarantine.reading(other, theirs):
                _, wrong = proof.read_again(other.place, theirs.location, [expected], other.progress)
            cax = "" if theirs.manifest == expected["digest"] else self._ask_cax(other, theirs)
        except Held:
            raise
        except CaxflowError as error:
            other.say(str(error))
            return error.what
        if wrong and theirs.manifest == expected["digest"]:
            quarantine.condemn(other, theirs.location, wrong, seen=theirs)
            return ""  # the database says it now
        if wrong:
            return f"it differs from this copy: find out which is right{cax and f' ({cax})'}"
        if cax == _NOT_CAX:
            return cax
        told = {"manifest": expected["digest"], "caxflow.verified": now}
        if not other.database.confirm(other.run, other.key, theirs, told):
            return "it was changed while it was read"
        if self.demand.read:
            read = dataclasses.replace(theirs, manifest=expected["digest"])
            witnessed.state(other.work_dir, witness.site, other.run, read, now)
        return ""

    def read_itself(self, copy: Copy) -> None:
        """Read the copy that is to go, where others' word for what it holds does not suffice.

        Raises
        ------
        CaxflowError
            If it is not what the others were compared with.
        """
        subject = self.subject
        if not self.demand.read or self.own_manifests:
            return
        subject.say(f"reading {copy.location} at {subject.site.name}, which is to go")
        stated = [self.manifest(copy)]
        _, wrong = proof.read_again(subject.place, copy.location.rstrip("/"), stated, subject.progress)
        if wrong:
            raise CaxflowError(
                f"{subject} is not removed: its bytes are not those of the others: {proof.summary(wrong)}",
                f"have it read: snakemake scrub, at {subject.site.name}",
            )

    def _ask_cax(self, other: Subject, copy: Copy) -> str:
        """What the checksum that cax recorded of a copy says of it; empty if there is none."""
        if not documents.is_cax_checksum(copy.checksum):
            return ""
        agrees = proof.agrees_with_cax(other.place, copy.location, copy.checksum, other.progress)
        return "it has the sha512 that cax recorded" if agrees else _NOT_CAX


def _with(witness: Witness, against: str | None) -> Witness:
    """The witness with what was found against it, if anything."""
    return dataclasses.replace(witness, against=against, renewable=False) if against else witness
