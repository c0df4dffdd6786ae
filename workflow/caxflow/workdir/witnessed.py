"""When copies were read from here: evidence that is not in the runs database, which others write to.

It stands in ``.caxflow/witnessed/<site>.<run>.<which>.json`` and holds for a copy of the same manifest at the
same place only.
"""

import datetime
import hashlib
from pathlib import Path

from caxflow import receipts
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.targets import Run

FOLDER = ".caxflow/witnessed"


def state(work_dir: Path, site: str, run: Run, copy: Copy, read: datetime.datetime) -> None:
    """Keep that a copy was read and found to have its manifest.

    Parameters
    ----------
    read : datetime
        When the reading began, the server's time (naive UTC).
    """
    facts = _facts(copy) | {"read": read.isoformat(timespec="milliseconds")}
    receipts.write(_path(work_dir, site, run, copy), facts)


def read_at(work_dir: Path, site: str, run: Run, copy: Copy) -> datetime.datetime | None:
    """When a copy was last read from here and had the manifest that its entry names; None if it was not."""
    try:
        stated = receipts.read(_path(work_dir, site, run, copy))
        read = datetime.datetime.fromisoformat(stated.pop("read")).replace(tzinfo=None)
        return read if stated == _facts(copy) else None
    except (CaxflowError, KeyError, TypeError, ValueError):
        return None  # there is none, or a damaged one: it is read again


def forget(work_dir: Path, site: str, run: Run, copy: Copy) -> None:
    """Take away what is known of a copy, once nothing rests on it."""
    receipts.remove(_path(work_dir, site, run, copy))


def _facts(copy: Copy) -> dict:
    return {"host": copy.host, "location": copy.location, "manifest": copy.manifest}


def _path(work_dir: Path, site: str, run: Run, copy: Copy) -> Path:
    # What a document calls a version is no part of a path.
    which = hashlib.sha256(repr((copy.kind, copy.version)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return work_dir / FOLDER / f"{site}.{run}.{which}.json"
