"""Whether a work directory is this account's alone: its scripts are run, and what it states is believed."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from caxflow import owners
from caxflow.errors import CaxflowError
from caxflow.files import permissions
from caxflow.workdir import journal

# What is looked at one by one; receipts and records are when they are read.
_INNER = (".snakemake", journal.STATE, "logs")


def check(work_dir: str | Path) -> None:
    """See that no other account can put anything into a work directory, or has.

    Raises
    ------
    CaxflowError
        If it can; it names the first thing, and what to do.
    """
    work_dir = Path(work_dir)
    for path, said in found(work_dir):
        raise CaxflowError(f"{path} {said}, so nothing in it can be trusted or run", mend(work_dir, path))


def found(work_dir: Path) -> Iterator[tuple[Path, str]]:
    """Yield what in a work directory, and the folder itself, is not this account's alone, and why."""
    for path in _looked_at(work_dir):
        said = next(filter(None, map(owners.strange, _statuses(path))), "")
        if said := said or permissions.passed_on(path):
            yield path, said


def above(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folders above one in which others could exchange it, and why."""
    for path in folder.resolve().parents:
        for status in _statuses(path):
            if said := owners.shared(status, sticky=True):
                yield path, said


def mend(work_dir: Path, path: Path) -> str:
    """Return what to do about something in a work directory that others may write to."""
    status = path.lstat() if os.path.lexists(path) else None
    if status and permissions.passed_on(path):
        return f"see what is in it, then: setfacl -R -k {work_dir}; chmod -R go-w {work_dir}"
    if status is None or not owners.foreign(status):
        return f"see what is in it, then: chmod -R go-w {work_dir}"
    if path == work_dir:
        return "work as that account, or name another work_dir in the site file"
    return f"find out who put it there, then remove it: rm -r {path}"


def _looked_at(work_dir: Path) -> Iterator[Path]:
    yield work_dir
    for folder in (work_dir, *(work_dir / name for name in _INNER)):
        try:
            with os.scandir(folder) as inner:
                kept = [each for each in inner if folder != work_dir or each.is_symlink() or each.is_dir()]
                yield from sorted(Path(each.path) for each in kept)
        except OSError:
            continue


def _statuses(path: Path) -> Iterator[os.stat_result]:
    """Yield the status of a file or folder; of a link that of what it leads to, too."""
    try:
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode):
            yield status
            return
        yield os.stat_result((stat.S_IFLNK, *status[1:]))  # whose mode says nothing
        yield path.stat()
    except OSError:
        return
