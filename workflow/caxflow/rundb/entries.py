"""Entries of ``data``, one a copy: how they are found and changed.

An entry's note, its ``caxflow``, is set whole: not every server makes the missing parts of a positional path.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bson

from caxflow import documents
from caxflow.rundb.marks import MARK

# Of a document: records of its changes that are on their way to the audit.
RECORDS = "caxflow.audit"


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


def check_kept(values: Mapping[str, Any]) -> None:
    """Raise what BSON raises (ValueError, OverflowError, RecursionError) of a value that it cannot hold."""
    bson.encode(values)


def telling(key: Key, copy: documents.Copy | None, changes: Mapping[str, Any]) -> tuple[dict, dict]:
    """Conditions and update that make an entry say `changes`, as `RunsDB.revise` wants them."""
    return telling_if({}, key, copy, changes, {})


def telling_if(
    this: Mapping, key: Key, copy: documents.Copy | None, changes: Mapping, only: Mapping
) -> tuple[dict, dict]:
    """As `telling`, of the document that `this` finds, if the entry's note has what `only` says."""
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


def as_cax_has_them(document: Mapping) -> tuple[dict, dict] | None:
    """Conditions and update that give entries the checksums that cax knows; None where they have them.

    That is the sha512 of another entry with the same manifest, or none.
    """
    guard, to_set, to_unset = {}, {}, {}
    listed = document.get("data")
    for index, entry in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(entry, Mapping):
            continue
        at, checksum = f"data.{index}", entry.get("checksum")
        kind, version, manifest = (entry.get(key) for key in ("type", "pax_version", "manifest"))
        if documents.is_old_checksum(checksum, manifest):
            guard[f"{at}.checksum"] = checksum
            to_set[f"{at}.checksum"] = documents.cax_checksum(document, kind, version, manifest)
        if entry.get("type") == "raw" and "pax_version" in entry and entry["pax_version"] is None:
            guard[f"{at}.type"] = "raw"
            to_unset[f"{at}.pax_version"] = ""
    update = {"$set": to_set, "$unset": to_unset}
    update = {operator: keys for operator, keys in update.items() if keys}
    return (guard, update) if update else None


def touching(update: Mapping[str, Any]) -> dict[str, Any]:
    """An update with what every change of ours brings: a new revision, and the marks of all sites gone."""
    gone = {MARK: "", **update.get("$unset", {})}
    return {**update, "$inc": {"caxflow.revision": 1}, "$unset": gone}


def recording(update: Mapping[str, Any], record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the update with a record for the audit, which is kept if, and only if, the change is made."""
    return {**update, "$push": {**update.get("$push", {}), RECORDS: dict(record)}} if record else dict(update)


def identity(copy: documents.Copy) -> tuple:
    """What stays the same as long as nothing is done to a copy."""
    leaving = {"suspect", "removing", "moving"} & set(copy.note)
    return copy.status, copy.location, copy.manifest, copy.checksum, copy.created, leaving
