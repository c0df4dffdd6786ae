"""Hears the witnesses that let a copy go: what the database says of them, what lies and is read there.

Nothing here changes the copy itself. Reading a witness again renews its entry, or condemns it.
"""

import contextlib
import dataclasses
import datetime
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from caxflow import documents
from caxflow.config.retention import Demand
from caxflow.copies import evidence, proof, quarantine
from caxflow.copies.evidence import Witness
from caxflow.copies.subject import Subject
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.rundb import Held, Key

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
    """

    subject: Subject
    demand: Demand
    look: proof.Glance = proof.glance
    sure: list[Witness] = field(default_factory=list)
    hoped: list[Witness] = field(default_factory=list)

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
            return find(document, copy, subject.site, subject.settings, self.demand, now=now)
        return evidence.witnesses(document, copy, subject.settings, self.demand, now)

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
                against[new[0].site] = self._look(new[0], copy)
                if read and against[new[0].site]:
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
        """Why a witness does not count after all: its files must be where they are said to be."""
        expected = Manifest.from_json(self._expected(witness, copy))
        for other in (*self.sure, *self.hoped):
            if self._lies_at(other) == self._lies_at(witness):
                return f"it is the very files of {other.site}"
        try:
            return proof.same_files(self.at(witness).place, witness.copy.location, expected, look=self.look)
        except CaxflowError as error:
            return error.what

    def _lies_at(self, witness: Witness) -> tuple:
        """Which files a witness is, however many sites call them theirs."""
        place, location = self.at(witness).place, posixpath.normpath(witness.copy.location)
        return place.host, place.port or 22, location if place.remote else os.path.realpath(location)

    def _read_again(self, witness: Witness, copy: Copy) -> str:
        """Renew stale evidence: read that copy where it is; what is against it after that.

        It is condemned only by what is stated of itself: of two that differ, this copy may be the bad one.
        """
        other, expected = self.at(witness), self._expected(witness, copy)
        theirs, now = witness.copy, other.database.now()
        other.say(f"reading {theirs.location} at {witness.site} again")
        try:
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
        told_it = other.database.confirm(other.run, other.key, theirs, told)
        return "" if told_it else "it was changed while it was read"

    def _ask_cax(self, other: Subject, copy: Copy) -> str:
        """What the checksum that cax recorded of a copy says of it; empty if there is none."""
        if not proof.is_cax_checksum(copy.checksum):
            return ""
        agrees = proof.agrees_with_cax(other.place, copy.location, copy.checksum, other.progress)
        return "it has the sha512 that cax recorded" if agrees else _NOT_CAX


def _with(witness: Witness, against: str | None) -> Witness:
    """The witness with what was found against it, if anything."""
    return dataclasses.replace(witness, against=against, renewable=False) if against else witness
