"""What becomes of a copy whose bytes are not those it must have.

It is suspect from then on: never a source, never evidence. Where another good copy exists it is moved aside,
into ``<root>/.caxflow-quarantine/``, so that a later call copies it anew; the only copy is left in place.
Nothing is deleted here.
"""

import contextlib
import dataclasses
import posixpath
import secrets
from collections.abc import Iterator, Mapping, Sequence

from caxflow import documents, transfer
from caxflow.copies import evidence, proof, roots
from caxflow.copies.subject import Subject
from caxflow.documents import Copy
from caxflow.errors import BadCopy, CaxflowError
from caxflow.legible import printable
from caxflow.rundb import MARK, DatabaseAway, Held, audit, identity, recording
from caxflow.workdir import journal

FOLDER = ".caxflow-quarantine"
_FILES = 20  # named in the database


def condemn(
    subject: Subject, location: str, differences: Sequence[str], seen: Copy | None = None
) -> CaxflowError:
    """Tell that a copy is suspect, then move it aside if it is not the only one; the error to raise.

    The entry comes first, then the data: for a moment a copy may still be where it was, but
    nobody takes it any more.

    Parameters
    ----------
    differences : sequence of str
        How each of its files differs.
    seen : Copy, optional
        The entry before the reading. Of a copy that was removed, moved or replaced since, or condemned by
        somebody else, nothing is said.

    Raises
    ------
    CaxflowError
        If its file system may not be mounted, or another one is.
    """
    database, key = subject.database, subject.key
    there = transfer.exists(subject.place, location) is not None
    what = f"{subject} is not what it must be: {proof.summary(list(differences))}"
    try:
        folder = None if there else posixpath.dirname(location.rstrip("/"))
        roots.check(subject.settings, subject.site, key.kind, folder)
    except CaxflowError as error:
        raise CaxflowError(f"{what}; it is not condemned: {error.what}", error.mend) from error
    token = secrets.token_hex(8)
    suspect = {"token": token, "files": list(differences)[:_FILES], "location": location}
    moved: list[str] = []
    changed: list[Copy] = []
    elsewhere: list[Copy] = []

    def change(document: Mapping) -> tuple[dict, dict] | None:
        copy = subject.find(document)
        if copy and seen and identity(copy) != identity(seen):
            changed.append(copy)
        if copy is None or changed:
            return None
        subject.check_alone(document, dataclasses.replace(copy, location=location))
        elsewhere[:] = good_elsewhere(document, subject)
        moved[:] = [subject.aside(FOLDER, location, token)] if elsewhere and there else []
        suspect.update(at=database.now(), quarantine=moved[0] if moved else None)
        facts = {"site": subject.site.name, "suspect": suspect}
        record = audit.entry(database, "suspect", subject.run, key, grounds=what, ident=token, **facts)
        this, update = _telling(document, subject, suspect, what)
        return this, recording(update, record)

    try:
        told = database.revise(subject.run, change)
    except DatabaseAway as error:
        subject.say(str(error))
        told = False
    if changed:
        return CaxflowError(f"{subject} was changed while it was read", "have it read again")
    if not told:
        # It stays what the failure of the job makes of it; the next verification finds the same.
        return BadCopy(what, f"it stays in {printable(location)} until the runs database knows")
    journal.forget(subject.work_dir, subject.site.name, subject.run, key.kind, key.version)
    if not there and elsewhere:
        subject.say(what)
        return BadCopy(what, "a later call copies it anew")
    if not moved:
        what = f"THE ONLY COPY IS DAMAGED: {what}"
        subject.say(what)
        again = (
            f"; once its files are back: {subject.site.name}/{subject.run}.raw.done"
            if key.kind == "raw"
            else ""
        )
        mend = f"it stays in {printable(location)}; look for another copy, and ask who made it"
        mend = mend if there else "look for another copy, and ask who took it away"
        return BadCopy(what, f"{mend}{again}")
    try:
        subject.rename(location, moved[0])
    except CaxflowError as error:
        # It is condemned all the same.
        subject.say(f"{what}; it stays in {printable(location)}: {error}")
        stays = f"it stays in {printable(location)} until a later call moves it aside"
        return BadCopy(what, f"{stays}: {error.what}")
    subject.say(f"{what}; moved to {moved[0]}")
    return BadCopy(what, f"it was moved to {moved[0]}; a later call copies it anew")


@contextlib.contextmanager
def reading(subject: Subject, seen: Copy | None) -> Iterator[None]:
    """While a copy is read: one that is not there at all is bad, where reading it just fails.

    Parameters
    ----------
    seen : Copy or None
        Its entry, if there is one.
    """
    try:
        yield
    except (Held, DatabaseAway, BadCopy):
        raise
    except CaxflowError:
        bad = condemn_missing(subject, seen) if seen else None
        if bad is None:
            raise
        raise bad from None


def condemn_missing(subject: Subject, seen: Copy) -> CaxflowError | None:
    """Tell that there are no data where a copy is to be; None where there are, or no look is possible."""
    try:
        kind = transfer.exists(subject.place, seen.location)
    except CaxflowError:
        return None
    if kind in ("directory", "file"):
        return None
    what = "there is a symbolic link, or something else that is no data" if kind else "it is not there"
    return condemn(subject, seen.location, [what], seen)


def make_room(subject: Subject) -> str | None:
    """Move a suspect copy aside that is still where a new one is to be; its new path if it was moved.

    For when a crash or an unreachable site kept `condemn` from it, and for an only copy, once another exists.
    """
    document, key = subject.database.get(subject.run), subject.key
    copy = documents.find(document, key.kind, key.host, key.version)
    if copy is None or (copy.status != documents.TRANSFERRED and "suspect" not in copy.note):
        return None  # whatever it says of its place, it promises nothing
    copy = subject.find(document)
    suspect = documents.value(copy.note, "suspect", type_=Mapping)
    token = documents.value(suspect or {}, "token", type_=str)
    if not token or subject.database.dry:
        return None
    aside = subject.aside(FOLDER, copy.location, token)
    if not subject.may_be_renamed(copy.location, aside):
        return None
    subject.check_alone(document, copy)
    subject.rename(copy.location, aside)
    return aside


def set_aside(subject: Subject, location: str, wrong: str) -> str:
    """Move what another program left where a copy is to be, and is not the same, aside; its new path.

    Parameters
    ----------
    wrong : str
        How it differs.
    """
    document = subject.database.get(subject.run)
    subject.check_alone(document, subject.find(document), location)
    aside = subject.aside(FOLDER, location, secrets.token_hex(8))
    subject.rename(location, aside)
    facts = {"site": subject.site.name, "location": location, "quarantine": aside}
    audit.record(subject.database, "aside", subject.run, subject.key, grounds=wrong, **facts)
    return aside


def good_elsewhere(document: Mapping, subject: Subject) -> list[Copy]:
    """Good copies at other sites."""
    key = subject.key
    found = [
        documents.find(document, key.kind, site.host, key.version)
        for site in subject.settings.sites.values()
        if site.host != key.host
    ]
    return [copy for copy in found if evidence.good(copy)]


def _telling(document: Mapping, subject: Subject, suspect: Mapping, error: str) -> tuple[dict, dict]:
    """Condition and update that make an entry suspect, and void the receipts about it."""
    key = subject.key
    gone = documents.with_gone(
        document, key.kind, key.host, key.version, at=suspect["at"], why="suspect", token=suspect["token"]
    )
    copy = subject.find(document)
    # A move left the old files, which may be the last good ones.
    left = {name: copy.note[name] for name in ("left",) if name in copy.note}
    update = {
        "data.$.status": documents.ERROR,
        "data.$.caxflow": {"error": error, "suspect": dict(suspect)} | left,
        "caxflow.gone": gone,
    }
    # What is settled at other sites may have relied on this copy.
    return {"data": {"$elemMatch": key.match()}}, {"$set": update, "$unset": {MARK: ""}}
