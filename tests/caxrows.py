"""Rows as the event builder and cax write them, and what cax does of those that caxflow wrote."""

import copy
import datetime
import hashlib
from pathlib import Path

from caxflow.switching.caxtasks import TASKS, Cax

__all__ = ["TASKS"]

NOW = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
AGO = datetime.timedelta(days=700)
# When cax says that it began what it left, as rows have it.
BEGUN = {
    "years ago": {"creation_time": NOW - 3 * AGO},
    "in a list": {"creation_time": [NOW - AGO]},
    "in the far future": {"creation_time": NOW + AGO},
    "never said": {},
}


def checksum(path: Path) -> str:
    """What cax's AddChecksum computes of a folder, as its package ``checksumdir`` does, or of a file."""
    if path.is_file():
        return hashlib.sha512(path.read_bytes()).hexdigest()
    files = [file for file in path.rglob("*") if file.is_file()]
    digests = sorted(hashlib.sha512(file.read_bytes()).hexdigest() for file in files)
    return hashlib.sha512("".join(digests).encode()).hexdigest()


def as_the_event_builder_ends(document: dict) -> dict:
    """The document once the event builder is done, and the untriggered data are there still."""
    built = {"status": "verifying", "checksum": None, "creation_time": document["end"]}
    raw = [entry | built for entry in document["data"]]
    untriggered = {"type": "untriggered", "host": "reader", "status": "transferred"}
    untriggered |= {"location": "mongodb://eb0:27017/untriggered", "collection": document["name"]}
    trigger = document["trigger"] | {"ended": True, "status": "processed"}
    return document | {"data": [untriggered, *raw], "trigger": trigger}


def as_caxs_own(document: dict) -> dict:
    """The document as it would be, had cax made and verified all of the same copies."""
    own = copy.deepcopy(document)
    own.pop("caxflow", None)
    own["data"] = [entry for entry in own["data"] if entry["type"] != "minitrees"]
    for entry in own["data"]:
        if entry["status"] == "transferred" and entry["type"] in ("raw", "processed"):
            entry["checksum"] = checksum(Path(entry["location"]))
        for key in ("manifest", "caxflow"):
            entry.pop(key, None)
    return own


def passes(document: dict, hosts: list[dict], version: str, later: datetime.timedelta) -> dict:
    """What one pass of cax's tasks does at each host, and where it ends, without words about why."""
    found = {}
    for host in hosts:
        made = Cax(hosts, host["name"], version).one_pass(document, NOW + later)
        found[host["name"]] = (
            [(task, str(action), action.location) for task, action in made.steps],
            made.death,
        )
    return found
