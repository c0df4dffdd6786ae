"""When copies were read again from the disk: the age of the evidence that lets others go.

The ``.checksum`` receipts are lists for ``xxhsum -c`` and have no room for it, so it stands in
``.caxflow/proofs/<site>.<run>.<stage>.json``, written right before them. The file's own times tell nothing:
whoever copies the work directory, or calls ``snakemake --touch``, makes them new.
"""

import datetime
import hashlib
from pathlib import Path

from caxflow import receipts
from caxflow.errors import CaxflowError
from caxflow.targets import Target

FOLDER = ".caxflow/proofs"


def state(work_dir: Path, target: Target, receipt: str, read: datetime.datetime, clock: str) -> None:
    """Keep when a copy was read, right before its receipt is written.

    Parameters
    ----------
    target : Target
        Of the receipt.
    receipt : str
        Its content.
    read : datetime
        When the reading began, naive UTC.
    clock : str
        Whose time that is: ``server`` (of the runs database) or ``host``.
    """
    facts = {"read": read.isoformat(timespec="milliseconds"), "clock": clock}
    facts["receipt"] = _identity(receipt.encode("utf-8", "surrogateescape"))
    receipts.write(_path(work_dir, target), receipts.statement(target, **facts))


def read_at(work_dir: Path, target: Target) -> datetime.datetime:
    """When the copy that a ``.checksum`` receipt is about was read, naive UTC.

    Of a receipt without such a statement, as versions before wrote it, its time of modification.

    Raises
    ------
    CaxflowError
        If there is no receipt.
    """
    receipt = work_dir / str(target)
    content = receipts.content_of(receipt)
    try:
        stated = receipts.read(_path(work_dir, target))
        if stated["receipt"] == _identity(content):
            return datetime.datetime.fromisoformat(stated["read"]).replace(tzinfo=None)
    except (CaxflowError, KeyError, TypeError, ValueError):
        pass  # none, a damaged one, or one about another receipt
    with receipts.intact(receipt):
        return datetime.datetime.fromtimestamp(receipt.stat().st_mtime, datetime.UTC).replace(tzinfo=None)


def forget(work_dir: Path, target: Target) -> None:
    """Take the statement away with the receipt that it is about."""
    receipts.remove(_path(work_dir, target))


def _path(work_dir: Path, target: Target) -> Path:
    return work_dir / FOLDER / f"{'.'.join(map(str, target))}.json"


def _identity(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
