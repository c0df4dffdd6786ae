"""Roles in the database: what each kind of user may do there, and the commands by which they are made.

No role may remove a run document or a record of the audit, or change such a record. Nor may one make
indexes: one that lets documents expire would remove them. Whoever administers the database makes those.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from caxflow.conditions.corrections import CORRECTIONS
from caxflow.config import RunDBAddress
from caxflow.rundb.queries import AUDIT, AUDIT_INDEX, HEALTH, INDEXES, MANIFESTS, SCHEMA, settled_index

SITE, READER, REBUILDER = "caxflow_site", "caxflow_reader", "caxflow_rebuilder"

_READ = ("find", "listIndexes", "killCursors")  # the last for servers before 4.2, of a cursor's own user, too
# By which documents that are there are removed or replaced, at once or in time.
_REMOVING = {
    "anyAction",
    "remove",
    "dropCollection",
    "dropDatabase",
    "convertToCapped",
    "createIndex",
    "collMod",
    "renameCollectionSameDB",
}
_FOR = {
    SITE: "what works at a site: snakemake, caxflow run, doctor, rm, mv, strays, rundb init",
    REBUILDER: "caxflow rundb rebuild --documents, beside caxflow_site, as long as it takes",
    READER: "who only looks: caxflow status, why, page, shadow, rundb check",
}


def privileges(collection: str) -> dict[str, dict[str, list[str]]]:
    """Return what each role may do, by collection; `collection` is that of the runs."""
    read = list(_READ)
    corrections = {each.collection: read for each in CORRECTIONS}
    kept = {collection: read, MANIFESTS: read, SCHEMA: read, AUDIT: read}
    return {
        SITE: corrections
        | kept
        | {
            collection: [*read, "update", "changeStream"],
            MANIFESTS: [*read, "insert", "update"],
            SCHEMA: [*read, "insert", "update"],
            AUDIT: [*read, "insert"],
            HEALTH: ["insert", "remove"],
        },
        REBUILDER: {collection: ["insert"]},
        READER: corrections | kept,
    }


def script(address: RunDBAddress, sites: Mapping[str, Any]) -> str:
    """Return the commands for ``mongosh`` that make roles and indexes, and say how users are made."""
    database = json.dumps(address.database)
    lines = [
        "// For who administers the database, once and after each new site or version: a file for mongosh.",
        f"const runs = db.getSiblingDB({database});",
        "function make(role, privileges) {",
        "  const how = { privileges, roles: [] };",
        "  if (runs.getRole(role)) runs.updateRole(role, how); else runs.createRole({ role, ...how });",
        "}",
    ]
    for role, allowed in privileges(address.collection).items():
        lines.append(f"// {role}: {_FOR[role]}")
        lines.append(f"make({json.dumps(role)}, [")
        for collection, actions in allowed.items():
            resource = {"db": address.database, "collection": collection}
            lines.append(f"  {json.dumps({'resource': resource, 'actions': actions})},")
        lines.append("]);")
    lines.append("// No role may make indexes.")
    wanted = [(address.collection, *index) for index in (*INDEXES, *map(settled_index, sorted(sites)))]
    for collection, name, keys, how in [*wanted, (AUDIT, *AUDIT_INDEX)]:
        words = ", ".join(json.dumps(each) for each in (dict(keys), {"name": name, **how}))
        lines.append(f"runs.getCollection({json.dumps(collection)}).createIndex({words});")
    lines.append("// A user for each site, and for who looks; mongosh asks for the password:")
    for user, role in [*((f"caxflow-{name}", SITE) for name in sorted(sites)), ("shifter", READER)]:
        made = f"{{ user: {json.dumps(user)}, pwd: passwordPrompt(), roles: [{json.dumps(role)}] }}"
        lines.append(f"// runs.createUser({made});")
    return "\n".join(lines)


def excess(held: Sequence[Mapping[str, Any]], address: RunDBAddress) -> Iterator[tuple[str, list[str]]]:
    """Yield collections in which a user may do what no role of ours allows there, and the actions.

    Parameters
    ----------
    held : sequence of mapping
        ``resource`` and ``actions``, as ``connectionStatus`` of MongoDB lists a user's privileges.
    """
    for collection, unwanted in ((address.collection, _REMOVING), (AUDIT, _REMOVING | {"update"})):
        found: set[str] = set()
        for each in held:
            resource = each.get("resource", {})
            of_all = resource.get("anyResource") or resource.get("db") in ("", address.database)
            if of_all and resource.get("collection", "") in ("", collection):
                found |= unwanted & set(each.get("actions", ()))
        if found:
            yield collection, sorted(found)
