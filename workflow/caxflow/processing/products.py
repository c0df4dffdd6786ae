"""Publishing a product: it appears under its name whole and checked, or not at all."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from caxflow import abilities, clock, joblogs
from caxflow.errors import CaxflowError
from caxflow.files.listing import os_error
from caxflow.transfer import renaming

_MARK = ".part-"
_NO_ROOM = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
)  # of what is written
_LONG_AGO = 7 * 24 * 3600.0  # s; no job runs for so long
_RUNNING = 2 * 24 * 3600.0  # s; the longest that a job is given
JOBS = "processing"  # folder of a work directory, with one of each job


@contextlib.contextmanager
def workshop(product: Path) -> Iterator[Path]:
    """Make a hidden folder beside the product, on its file system, that goes when the block ends.

    What jobs that were killed long ago left beside the product goes, too.
    """
    try:
        product.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(product.parent, _LONG_AGO)
        folder = Path(tempfile.mkdtemp(prefix=f".{product.name}{_MARK}", dir=product.parent))
    except OSError as error:
        raise CaxflowError(
            f"{product.parent} cannot be written: {error.strerror}", "mend its permissions or free space"
        ) from error
    try:
        yield folder
    except OSError as error:
        if error.filename is None and error.errno not in _NO_ROOM:
            raise
        raise os_error(error, str(product.parent)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def job_directory(workdir: str | Path, prefix: str, log: Path) -> Iterator[Path]:
    """Make a directory for a program to run in; after a failure it stays, with what the log has."""
    workdir = Path(workdir).absolute()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=prefix, dir=workdir))
    except OSError as error:
        raise CaxflowError(
            f"{workdir} cannot be written: {error.strerror}", "mend it or free space"
        ) from error
    try:
        yield directory
    except CaxflowError as error:
        with contextlib.suppress(OSError), log.open("rb") as stream:
            said = joblogs.excerpt(stream, stream.seek(0, os.SEEK_END))
            (directory / "log.txt").write_bytes(said)
        raise type(error)(error.what, error.mend or f"read {log}, look into {directory}") from error
    shutil.rmtree(directory, ignore_errors=True)


def remove_failed(work_dir: Path, days: float) -> int:
    """Remove the directories of jobs that failed, or were killed, more than `days` ago; how many went."""
    limit = clock.of_files(work_dir) - max(days * 24 * 3600, _RUNNING)
    old = [path for path in failed(work_dir) if _touched(path) < limit]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return len(old)


def failed(work_dir: Path) -> list[Path]:
    """Directories of jobs that failed, were killed, or still run."""
    folder = work_dir / JOBS
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def publish(made: Path, product: Path, *, replace: bool = False) -> str:
    """Put a finished and checked file under its name, durably; a remark on what could not be done, or "".

    Parameters
    ----------
    made : path
        The file, on the same file system.
    product : path
        Its name to be.
    replace : bool
        Whether a file that has the name may go; otherwise it stays and this is an error.
    """
    lacking = [abilities.sync_path(made)]
    if replace:
        made.replace(product)
    else:
        _rename(made, product)
    try:
        lacking.append(abilities.sync_folder(product.parent))
    except OSError as error:
        lacking.append(f"its folder could not be brought to the disk: {error.strerror}")
    remark = "; ".join(filter(None, lacking))
    return remark and f"{product} is published; {remark}"


def set_aside(product: Path, aside: Path) -> None:
    """Move a file that is in the place of a product to another folder of its file system."""
    aside.parent.mkdir(exist_ok=True)
    _rename(product, aside)
    with contextlib.suppress(OSError):  # it has been moved
        abilities.sync_folder(aside.parent)


def remove_leftovers(folder: Path, older_than: float) -> list[Path]:
    """Remove what killed jobs left in `folder`: workshops last touched more than `older_than` s ago."""
    limit = clock.of_files(folder) - older_than
    found = [path for path in folder.glob(f".*{_MARK}*") if path.is_dir() and _touched(path) < limit]
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return found


def _touched(folder: Path) -> float:
    """When something in a folder was last written; times in the future count as never."""
    now, times = clock.of_files(folder.parent), []
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.lstat().st_mtime)
    return max((at for at in times if at <= now + clock.SLACK.total_seconds()), default=0)


def _rename(made: Path, product: Path) -> None:
    """Give the file its name, unless a racing job was first."""
    try:
        renaming.publish(os.fsencode(made), os.fsencode(product))
    except FileExistsError:
        raise CaxflowError(
            f"{product} exists already and is not overwritten", "move it away to make it anew"
        ) from None
