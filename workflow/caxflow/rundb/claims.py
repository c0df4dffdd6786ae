"""Claims: leases on the making of copies, of which exactly one of many gets each.

One guarded update takes a claim; leases count by the server's time; the token makes sure that who lost a
claim changes nothing any more.
"""

import contextlib
import datetime
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from caxflow import documents, processes, receipts
from caxflow.errors import CaxflowError
from caxflow.rundb.connection import DatabaseAway
from caxflow.rundb.entries import Key, touching
from caxflow.targets import Run

if TYPE_CHECKING:
    from caxflow.rundb import RunsDB


_LASTING = ("attempts", "error", "left", "abandoned")  # of a note, from one claim to the next


class Held(CaxflowError):
    """Somebody else holds the claim, or the copy is there already."""


@dataclass
class Claim:
    """A lease on one copy: on its making, or on what is done to it."""

    database: "RunsDB"
    run: Run
    key: Key
    token: str
    lease: float
    making: bool = False
    _renewed: float = field(default_factory=time.monotonic)

    def renew(self) -> None:
        """Renew the lease when a third of it has gone; cheap, so call it as often as bytes flow.

        Raises
        ------
        Held
            If somebody else took the claim over.
        """
        now = time.monotonic()
        if self.database.dry or now - self._renewed < self.lease * 60 / 3:
            return
        self._renewed = now
        # While the database is away, the work in hand goes on; the destination's own lock still holds.
        with contextlib.suppress(DatabaseAway):
            at = self.database.now()
            kept = {"caxflow.since": at, "caxflow.lease": at + datetime.timedelta(minutes=self.lease)}
            # By this cax tells whether anything is at work.
            kept |= {"creation_time": at} if self.making else {}
            if not self.database.tell(self.run, self.key, kept, {"token": self.token}):
                raise Held(f"{self.run}: the claim at {self.key.host} was taken over", "nothing is published")


def take(
    database: "RunsDB",
    run: Run,
    key: Key,
    *,
    location: str,
    owner: str,
    lease: float,
    instead: str | None = None,
) -> Claim:
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
    claim = Claim(database, run, key, secrets.token_hex(8), lease, making=True)
    if database.dry:
        return claim
    now = database.now()
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
    with database.answers(run):
        nobody = this | {"data": {"$not": {"$elemMatch": key.match()}}}
        if database.runs.update_one(nobody, touching({"$push": {"data": entry}})).modified_count:
            return claim
        document = database.get(run)
        copy = documents.find(document, key.kind, key.host, key.version)
        # The note is set whole: not every server makes the missing parts of a positional path.
        past = {name: copy.note[name] for name in _LASTING if copy and name in copy.note}
        if copy and "owner" not in copy.note and not copy.manifest:
            past["abandoned"] = True
        changes = {
            "data.$.status": documents.TRANSFERRING,
            "data.$.location": location,
            "data.$.creation_time": now,
            "data.$.caxflow": past | note,
        }
        for free in _free(document, note, copy, now=now, instead=instead):
            again = this | {"data": {"$elemMatch": key.match(**free)}}
            if database.runs.update_one(again, touching({"$set": changes})).modified_count:
                return claim
    raise _held(run, key, copy)


def _free(
    document: Mapping,
    note: Mapping,
    copy: documents.Copy | None,
    *,
    now: datetime.datetime,
    instead: str | None,
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
    if copy and not documents.is_held(copy, now):
        # By a clock that was wrong it lasts longer.
        yield {
            "status": running,
            "caxflow.token": copy.note.get("token"),
            "caxflow.lease": copy.note["lease"],
        }
    if copy and documents.stalled(copy, now):
        begun = documents.raw_entry(document, copy).get("creation_time")
        lease, owner = copy.note.get("lease"), copy.note.get("owner")
        same = {"status": copy.status, "creation_time": begun}
        yield same | {"caxflow.lease": lease, "caxflow.owner": owner}
    if copy and copy.status == documents.TRANSFERRING and processes.has_ended(copy.by):
        # A process of this machine that was killed; its token makes sure that only one takes it over.
        yield {"caxflow.token": copy.note.get("token")}


def _held(run: Run, key: Key, copy: documents.Copy | None) -> Held:
    where = f"{run}: its {key.kind} copy at {key.host}"
    if copy is None:
        return Held(f"{where} changed hands just now", "try again")
    if copy.status == documents.TRANSFERRED:
        return Held(f"{where} is there already", "run again: the plan takes it as it is")
    by = copy.by
    who = f"{copy.note.get('owner', 'another program')} ({by.get('user', '?')}@{by.get('host', '?')})"
    if copy.status == documents.VERIFYING:
        return Held(f"{where} is there, and is verified by {who}", "run again: the plan waits for that")
    until = documents.time_of(copy.note.get("lease"))
    mend = (
        f"its claim ends at {until:%Y-%m-%d %H:%M} UTC unless renewed"
        if until
        else "it has no lease: ask there"
    )
    what = "removed" if "removing" in copy.note else "made"
    return Held(f"{where} is being {what} by {who}", mend)


def check_free(database: "RunsDB", copy: documents.Copy, what: str, *, firm: bool = False) -> None:
    """Raise a Held error while another process works on a copy whose move or removal was begun.

    Its lease counts, unless the process that holds it is known to have ended.

    Parameters
    ----------
    what : str
        What is being done to which copy, for the message.
    firm : bool
        Whether a process of this machine keeps it beyond its lease until it has ended: one that was stopped
        while it deletes may go on at any time.
    """
    lease, by = documents.time_of(copy.note.get("lease")), copy.by
    if processes.is_this(by) or processes.has_ended(by):
        return
    who = f"{what} by {by.get('user', '?')}@{by.get('host', '?')}"
    if firm and processes.is_here(by):
        raise Held(f"{who}, process {by['pid']} of this machine", "let it finish, or end it")
    if lease and documents.is_held(copy, database.now()):
        raise Held(who, f"let it finish; its claim ends at {lease:%Y-%m-%d %H:%M} UTC unless renewed")


def take_over(database: "RunsDB", run: Run, key: Key, copy: documents.Copy, lease: float) -> str:
    """Take over the move or removal of a copy, see `check_free`; the token that holds it from now on."""
    token = secrets.token_hex(8)
    until = database.now() + datetime.timedelta(minutes=lease)
    changes = {"caxflow.token": token, "caxflow.lease": until, "caxflow.by": receipts.who()}
    if not database.tell(run, key, changes, {"token": copy.note.get("token")}):
        raise Held(f"{run}: its {key.kind} copy at {key.host} was taken over by somebody else", "try again")
    return token
