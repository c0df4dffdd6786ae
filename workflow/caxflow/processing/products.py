"""Publishing a product: it appears under its name whole and checked, or not at all."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from caxflow import abilities, clock, joblogs, owners
from caxflow.errors import CaxflowError
from caxflow.files.folder import (
    DIRECTORY,
    Folder,
    enter,
    entries,
    naming,
    parent_of,
    split,
    sync_folder,
)
from caxflow.files.listing import os_error
from caxflow.transfer import renaming
from caxflow.transfer.folder import remove_tree

_MARK = ".part-"
_WORKSHOP = re.compile(rb"\..*" + re.escape(_MARK.encode()) + rb".*", re.DOTALL)
_NO_ROOM = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
)  # of what is written
_LONG_AGO = 7 * 24 * 3600.0  # s; no job runs for so long
_RUNNING = 2 * 24 * 3600.0  # s; the longest that a job is given
JOBS = "processing"  # folder of a work directory, with one of each job


@dataclass(frozen=True)
class Workshop:
    """A hidden folder in which a product is made: by its `path`, which is all that programs take.

    It is held open, so what is published is what was made in it, wherever its path leads meanwhile.
    """

    path: Path
    folder: Folder
    roots: Sequence[str]

    def publish(self, product: Path, *, replace: bool = False) -> str:
        """Put the finished and checked file that has the product's name under it, durably.

        Parameters
        ----------
        product : path
            Its name to be.
        replace : bool
            Whether a file that has the name may go; otherwise it stays and this is an error.

        Returns
        -------
        str
            What could not be done, or "".
        """
        made, source = self.path / product.name, self.folder.fileno()
        with naming(str(made)):
            fd = self.folder.open(made.name, os.O_RDONLY)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise CaxflowError(f"{made.name} is no file", "see what has put that into its place")
                lacking = [abilities.sync_file(fd)]
            finally:
                os.close(fd)
        with parent_of(os.fsencode(product), self.roots) as (place, name):
            if replace:
                with naming(str(product)):
                    os.replace(os.fsencode(made.name), name, src_dir_fd=source, dst_dir_fd=place)
            else:
                _rename(source, made, place, product)
            try:
                lacking.append(sync_folder(place))
            except OSError as error:
                lacking.append(f"its folder could not be brought to the disk: {error.strerror}")
        remark = "; ".join(filter(None, lacking))
        return remark and f"{product} is published; {remark}"


@contextlib.contextmanager
def workshop(product: Path, roots: Sequence[str] = ()) -> Iterator[Workshop]:
    """Make a hidden folder beside the product, on its file system, that goes when the block ends.

    What jobs that were killed long ago left beside the product goes, too.

    Parameters
    ----------
    roots : sequence of str
        What the product may be below, see `caxflow.files.folder.split`.
    """
    name = f".{product.name}{_MARK}{secrets.token_hex(6)}"
    with contextlib.ExitStack() as opened:
        try:
            above = opened.enter_context(_folder_of(product, roots))
            remove_leftovers(product.parent, _LONG_AGO, roots)
            os.mkdir(name, 0o700, dir_fd=above)
            opened.callback(_remove, os.fsencode(name), above)
            path = product.parent / name
            fd = enter(os.fsencode(name), above, os.fsencode(path), os.fsencode(product.parent))
            folder = opened.enter_context(Folder(str(path), fd=fd))
        except OSError as error:
            raise CaxflowError(
                f"{product.parent} cannot be written: {error.strerror}", "mend its permissions or free space"
            ) from error
        try:
            yield Workshop(path, folder, roots)
        except OSError as error:
            if error.filename is None and error.errno not in _NO_ROOM:
                raise
            raise os_error(error, str(product.parent)) from error


@contextlib.contextmanager
def _folder_of(product: Path, roots: Sequence[str]) -> Iterator[int]:
    """Open the folder of a product, which is made."""
    if split(os.fsencode(product), roots)[0] == os.fsencode(product.parent):
        product.parent.mkdir(parents=True, exist_ok=True)
    with parent_of(os.fsencode(product), roots, made=[]) as (folder, _):
        yield folder


def _remove(name: bytes, folder: int) -> None:
    """Remove what is in an open folder, as far as that goes."""
    with contextlib.suppress(OSError, CaxflowError):
        remove_tree(name, lambda: None, folder)


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
    limit, gone = clock.of_files(work_dir) - max(days * 24 * 3600, _RUNNING), 0
    for path in failed(work_dir):
        with contextlib.suppress(OSError), Folder(str(path)) as folder:
            if _touched(path.parent, folder.fileno()) < limit:
                shutil.rmtree(path, ignore_errors=True)
                gone += 1
    return gone


def failed(work_dir: Path) -> list[Path]:
    """Directories of jobs that failed, were killed, or still run."""
    folder = work_dir / JOBS
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def set_aside(product: Path, aside: Path, roots: Sequence[str] = ()) -> None:
    """Move a file that is in the place of a product to another folder of its file system."""
    with (
        parent_of(os.fsencode(product), roots) as (folder, _),
        parent_of(os.fsencode(aside), roots or (str(aside.parents[1]),), made=[]) as (place, _),
    ):
        _rename(folder, product, place, aside)
        with contextlib.suppress(OSError):  # it has been moved
            sync_folder(place)


def remove_leftovers(folder: Path, older_than: float, roots: Sequence[str] = ()) -> list[Path]:
    """Remove what killed jobs left in `folder`: workshops last touched more than `older_than` s ago.

    Those of other accounts stay.
    """
    limit, removed = clock.of_files(folder) - older_than, []
    with Folder(str(folder), roots) as opened:
        for name in sorted(entries(opened.fileno())):
            if not _WORKSHOP.fullmatch(name):
                continue
            with contextlib.suppress(OSError):
                fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=opened.fileno())
                try:
                    goes = not owners.foreign(os.fstat(fd)) and _touched(folder, fd) < limit
                finally:
                    os.close(fd)
                if goes:
                    _remove(name, opened.fileno())
                    removed.append(folder / os.fsdecode(name))
    return removed


def _touched(above: Path, folder: int) -> float:
    """When something in an open folder was last written; times in the future count as never."""
    times = [os.fstat(folder).st_mtime]
    for _, names, files, fd in os.fwalk(b".", dir_fd=folder):
        for name in names + files:
            with contextlib.suppress(FileNotFoundError):
                times.append(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime)
    now = clock.of_files(above)
    return max((at for at in times if at <= now + clock.SLACK.total_seconds()), default=0)


def _rename(source: int, made: Path, place: int, product: Path) -> None:
    """Give the file its name, unless a racing job was first."""
    try:
        with naming(str(product)):
            renaming.publish(os.fsencode(made.name), os.fsencode(product.name), source, place)
    except FileExistsError:
        raise CaxflowError(
            f"{product} exists already and is not overwritten", "move it away to make it anew"
        ) from None
