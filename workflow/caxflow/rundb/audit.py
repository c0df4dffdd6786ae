"""Who did what to which copy, when, and on what grounds: a collection that only grows.

A record has ``run``, ``kind``, ``host``, ``pax_version``, ``site``; ``action``: ``registered``, ``made``,
``copied``, ``verified``, ``suspect``, ``aside``, ``removing``, ``removed``, ``replaced``, ``restored``,
``moved`` or ``stray``; ``at`` (the server's time), ``by`` (host, user, process), ``caxflow`` (version),
``grounds``; ``done``, where it was done before it was told; and what belongs to the action, such as the entry
that went.
Scrubs that find nothing wrong leave a trace in the entry only.

What a guarded change does is recorded by the same update, in the document (`RECORDS`), and brought here from
there: a change that is refused leaves no record, and one that was made loses none, whatever is killed.
"""

import secrets
from typing import Any

from caxflow import __version__, legible, receipts
from caxflow.rundb import Key, RunsDB
from caxflow.targets import Run


def record(database: RunsDB, action: str, run: Run | None, key: Key, *, grounds: str, **facts: Any) -> None:
    """Add a record of what was done; parameters as of `entry`."""
    database.append_audit(entry(database, action, run, key, grounds=grounds, **facts))


def entry(
    database: RunsDB,
    action: str,
    run: Run | None,
    key: Key,
    *,
    grounds: str,
    ident: str | None = None,
    **facts: Any,
) -> dict:
    """Return a record, which comes with the change that it is about, or is added for itself.

    Parameters
    ----------
    grounds : str
        Why it was done: the policy, a command, what was found.
    ident : str, optional
        Makes the record the same one when it is added again after a crash.
    **facts
        What else is to be kept; plain values.
    """
    return {
        "_id": f"{ident or secrets.token_hex(8)}.{action}",
        "run": str(run) if run else None,
        "kind": key.kind,
        "host": key.host,
        "pax_version": key.version,
        "action": action,
        "at": database.now(),
        "by": receipts.who(),
        "caxflow": __version__,
        "grounds": legible.line(grounds),
    } | facts
