"""Formats of the work directory and of the database's schema: a newer one is refused, an older one upgraded.

The numbers change only when an older caxflow could no longer work with what a newer one writes. A work
directory or database in which nothing is recorded has format 0: it is new, or cax's own.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from caxflow import __version__, receipts
from caxflow.errors import CaxflowError
from caxflow.rundb import RunsDB

FILE = ".caxflow/format.json"

# What leads from each format to the next.
WORK_DIR: Mapping[int, Callable[[Path], None]] = {
    0: lambda work_dir: None,  # the layout is that of format 1, the number was not recorded yet
}
DATABASE: Mapping[int, Callable[[RunsDB], object]] = {
    0: lambda database: database.init(),
    1: lambda database: database.give_checksums_back(),
}


def check_work_dir(work_dir: Path) -> int:
    """Format of a work directory.

    Raises
    ------
    CaxflowError
        If a newer caxflow made it, or the record is damaged.
    """
    path = work_dir / FILE
    if not path.exists():
        return 0
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        number, by = int(found["format"]), found.get("caxflow")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaxflowError(
            f"{path} cannot be read: {error}", "restore it, or remove it if caxflow was never newer here"
        ) from error
    _refuse_newer(f"work directory {work_dir}", number, by, WORK_DIR)
    return number


def upgrade_work_dir(work_dir: Path) -> bool:
    """Bring a work directory to the present format; whether anything was to be done."""
    number = check_work_dir(work_dir)
    for step in range(number, len(WORK_DIR)):
        WORK_DIR[step](work_dir)
        # Step by step: a crash on the way repeats one of them at most.
        receipts.write(work_dir / FILE, {"format": step + 1, "caxflow": __version__})
    return number < len(WORK_DIR)


def check_database(database: RunsDB) -> int:
    """Format of the database's schema; 0 where caxflow never was.

    Raises
    ------
    CaxflowError
        If a newer caxflow upgraded it.
    """
    number, by = database.format()
    _refuse_newer("the runs database", number, by, DATABASE)
    return number


def upgrade_database(database: RunsDB) -> bool:
    """Bring the database's schema to the present format; whether anything was to be done."""
    number = check_database(database)
    if database.dry:
        return False
    for step in range(number, len(DATABASE)):
        DATABASE[step](database)
        database.record_format(step + 1, __version__)
    return number < len(DATABASE)


def _refuse_newer(what: str, number: int, by: object, steps: Mapping) -> None:
    if number > len(steps):
        raise CaxflowError(
            f"{what} has format {number}, made by caxflow {by or 'of a newer version'}; "
            f"caxflow {__version__} knows up to {len(steps)}",
            "install that version here, or a newer one",
        )
