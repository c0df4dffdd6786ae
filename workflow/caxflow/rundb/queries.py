"""Questions to the runs database: what is asked for, of which runs, by which indexes."""

import re
from collections.abc import Iterable
from typing import Any

from caxflow.conditions.corrections import CORRECTIONS
from caxflow.conditions.parameters import NAMES
from caxflow.rundb import marks

MANIFESTS = "caxflow_manifests"
SCHEMA = "caxflow_schema"
AUDIT = "caxflow_audit"
HEALTH = "caxflow_health"
REMOVING = "caxflow.removing"


def _each(of: str, name: str, wanted: object) -> dict[str, Any]:
    """Return an expression for something `wanted` of each field of a mapping; null where it is none."""
    fields = {"$map": {"input": {"$objectToArray": of}, "as": name, "in": wanted}}
    return {"$cond": [{"$eq": [{"$type": of}, "object"]}, fields, None]}


# What all that decides or tells how a run stands looks at: not the 260 gains, nor the catalogue's long lists
# of rules.
PLANNING = {
    "_id": 1,
    "name": 1,
    "number": 1,
    "detector": 1,
    "start": 1,
    "end": 1,
    "tags": 1,
    "source.type": 1,
    "reader.self_trigger": 1,
    "reader.ini.name": 1,
    "reader.ini.write_mode": 1,
    "reader.ini.trigger_config_override.Zip.events_per_file": 1,
    "trigger.events_built": 1,
    "processor.DEFAULT.drift_velocity_liquid": 1,
    "processor.DEFAULT.electron_lifetime_liquid": 1,
    "processor.DEFAULT.gains": {"$slice": 1},
    "processor.correction_versions": 1,
    **{each.key: 1 for each in CORRECTIONS if not each.symbols},
    # Of whatever else is there, the names.
    NAMES: _each(
        "$processor", "section", {"name": "$$section.k", "keys": _each("$$section.v", "each", "$$each.k")}
    ),
    "raw_size_byte": 1,
    "data.type": 1,
    "data.host": 1,
    "data.status": 1,
    "data.location": 1,
    "data.pax_version": 1,
    "data.manifest": 1,
    "data.checksum": 1,
    "data.size": 1,
    "data.creation_time": 1,
    "data.caxflow": 1,
    "caxflow": 1,
}

# Documents with an entry whose checksum is the digest of a manifest, or of a raw copy with a version.
OLD_CHECKSUMS = {
    "$or": [
        {"data.checksum": {"$regex": "^(xxh128|sha256|sha512):"}},
        {"data.pax_version": {"$type": "null"}},
    ]
}

Index = tuple[str, list[tuple[str, int]], dict[str, bool]]  # name, keys, options

# Indexes of the run documents.
INDEXES: tuple[Index, ...] = (
    ("caxflow_run", [("name", -1), ("detector", 1)], {"unique": True}),
    ("caxflow_number", [("number", 1)], {}),
    ("caxflow_hosts", [("data.host", 1), ("start", 1)], {}),
    ("caxflow_removing", [(REMOVING, 1)], {"sparse": True}),
)
AUDIT_INDEX: Index = ("caxflow_audit", [("run", 1), ("at", 1)], {})


def settled_index(site: str) -> Index:
    """Return the index of the run documents by which `site` finds what it has not settled."""
    return f"caxflow_settled_{site}", [(marks.key(site), 1)], {}


def naming(fields: Iterable[str], path: str, around: Iterable[str]) -> dict[str, Any]:
    """Return a filter: an entry names a path, one in it, or one of the folders `around` it."""
    folders = "|".join(re.escape(folder) for folder in around)
    # Bytes of a name that are no UTF-8 are in no document.
    pattern = re.sub("[\ud800-\udfff]", ".", f"^(?:{re.escape(path)}(?:/|$)|(?:{folders})/*$)")
    return {"$or": [{f"data.{field}": {"$regex": pattern}} for field in fields]}
