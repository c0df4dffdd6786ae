"""Moving a copy to another path of its site: the entry, the data and the receipts move together."""

import datetime
import posixpath
import secrets
from collections.abc import Mapping

from caxflow import documents, receipts, transfer
from caxflow.copies import evidence
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError
from caxflow.rundb import audit
from caxflow.workdir import journal


def move(subject: Subject, new: str, old_root: str | None = None) -> str:
    """Move a copy to `new`, on the same file system; where it was.

    The intent is written down first and makes the entry no source; a crash in between leaves the data at the
    one or the other path, and the same command completes it.

    Parameters
    ----------
    new : str
        Absolute path below the site's root.
    old_root : str, optional
        A folder that was the root before and holds the copy; by default the present one.
    """
    database, key = subject.database, subject.key
    if not documents.inside(new, subject.root):
        raise CaxflowError(f"{new} is not below {subject.root}", f"name a path below roots.{key.kind}")
    copy = documents.find(database.get(subject.run), key.kind, key.host, key.version)
    if copy is None:
        raise CaxflowError(f"{subject} is not in the runs database", "there is nothing to move")
    moving = documents.value(copy.note, "moving", type_=Mapping)
    old = str(moving["from"]) if moving else copy.location
    if moving and moving.get("to") != new:
        raise CaxflowError(f"{subject} is on its way to {moving.get('to')}", "complete that first")
    if not documents.inside(old, old_root or subject.root):
        raise CaxflowError(
            f"{subject} is in {old}, outside {old_root or subject.root}", "name its root: --from FOLDER"
        )
    if database.dry or (old == new and not moving):
        return old
    token = copy.note["token"] if moving else _intend(subject, old, new)
    there = transfer.exists(subject.place, old), transfer.exists(subject.place, new)
    if there == (None, None) or all(there):
        raise CaxflowError(
            f"{subject}: there is {'both' if all(there) else 'neither'} {old} and {new}", "look there"
        )
    if there[0]:
        root = _common(old_root or subject.root, subject.root)
        transfer.rename(subject.place, old, new, root=root)
    facts = {"site": subject.site.name, "from": old, "to": new}
    audit.record(database, "moved", subject.run, key, grounds="asked for by hand", ident=token, **facts)
    told = {"status": documents.TRANSFERRED, "location": new}
    ended = {f"caxflow.{name}": None for name in ("moving", "token", "lease", "since")}
    database.tell(subject.run, key, told | ended, {"token": token})
    journal.forget(subject.work_dir, subject.site.name, subject.run, key.kind, key.version)
    return old


def _intend(subject: Subject, old: str, new: str) -> str:
    database, key, token = subject.database, subject.key, secrets.token_hex(8)
    now = database.now()

    def change(document: Mapping) -> tuple[dict, dict] | None:
        copy = documents.find(document, key.kind, key.host, key.version)
        if not evidence.good(copy) or copy.location != old:
            return None
        note = dict(copy.note) | {
            "owner": subject.settings.here.name,
            "by": receipts.who(),
            "token": token,
            "since": now,
            "lease": now + datetime.timedelta(minutes=subject.settings.lease),
            "moving": {"from": old, "to": new},
        }
        update = {"data.$.status": documents.TRANSFERRING, "data.$.caxflow": note}
        return {"data": {"$elemMatch": key.match(status=documents.TRANSFERRED)}}, {"$set": update}

    if not database.revise(subject.run, change):
        raise CaxflowError(f"{subject} is not a good copy that could be moved", "see caxflow status")
    return token


def _common(one: str, other: str) -> str:
    """The deepest folder that holds both, which must not be the file system's root."""
    common = posixpath.commonpath([one, other])
    if common == "/":
        raise CaxflowError(
            f"{one} and {other} have nothing in common", "copy it anew: snakemake, then caxflow strays"
        )
    return common
