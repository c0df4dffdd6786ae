"""Minitrees: flat trees with one row an event, made from a processed file.

``<dir_minitrees>/pax_<version>/<run>/<run>_<Treemaker>.root`` holds a TTree named after its treemaker.
``Basics`` and ``Fundamentals`` are made here, with hax's names and meanings; the others by hax itself, as a
command.
"""

import contextlib
import datetime
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow import __version__
from caxflow.errors import CaxflowError
from caxflow.files import rootfile
from caxflow.files.folder import parent_of, sync_folder
from caxflow.processing import branches, commands, eventclass, products
from caxflow.processing.processors import Resources
from caxflow.processing.treemakers import EMBEDDED, rows
from caxflow.targets import Run

if TYPE_CHECKING:
    import numpy as np

PLACEHOLDERS = {
    "processed": "the processed file",
    "processed_directory": "its directory",
    "directory": "where to write <run>_<treemaker>.root",
    "treemaker": "name of the treemaker",
    "pax_version": "version of the processed file, as v6.11.2",
    "tmp": "folder for temporary files",
    "run": "name of the run, 160315_1432 or 160315_1432_MV",
    "number": "number of the run",
}

_HAX_VERSION = "2.5.0"  # the hax whose definitions the embedded ones follow
_NOT_FOR_HAX = (
    "if it is hax's: that reads files of pax alone, and this one is the embedded processor's; "
    f"{' and '.join(EMBEDDED)} can be made of it without a command"
)
# Not one row an event, but as many as there are peaks of their kind.
_MANY_ROWS = ("BigBeforeSmall", "IsolatedPeaks", "SingleElectrons")

_TREEMAKER = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_METADATA = "metadata"


@dataclass(frozen=True)
class Minitree:
    """A checked minitree; `adopted`: it was there before; `remark`: what failed once it was published."""

    treemaker: str
    path: Path
    size: int
    rows: int
    seconds: float
    adopted: bool = False
    remark: str = ""


@dataclass(frozen=True)
class Recipe:
    """The minitrees that a site makes of each processed file.

    Parameters
    ----------
    treemakers : tuple of str
    template : Template or None
        The command for those that are not embedded.
    """

    treemakers: tuple[str, ...]
    template: commands.Template | None = None
    environment: commands.Environment = field(default_factory=commands.Environment)


def resources(attempt: int = 1) -> Resources:
    """Return what a job reserves for the minitrees of a run."""
    return Resources(cores=1, memory_mb=2000 * attempt, runtime=60 * attempt)


def read_recipe(definition: Mapping, about: str) -> Recipe:
    """Read ``make`` (names of treemakers), ``command`` and its environment.

    Raises
    ------
    CaxflowError
        If a treemaker is neither embedded nor has a command.
    """
    recipe = Recipe(
        tuple(definition["make"]),
        read_template(definition["command"]) if "command" in definition else None,
        commands.Environment.read(definition, about),
    )
    foreign = sorted(set(recipe.treemakers) - set(EMBEDDED))
    if foreign and recipe.template is None:
        raise CaxflowError(
            f"{about}: treemaker {foreign[0]} is not embedded and there is no command for it",
            f"embedded are {', '.join(EMBEDDED)}; add a command, usually of hax",
        )
    return recipe


def minitree_path(dir_minitrees: str | Path, pax_version: str, run: Run, treemaker: str) -> Path:
    """Where a minitree is, or will be: in a folder of its run, so that a row can name what is its own."""
    if not _TREEMAKER.fullmatch(treemaker):
        raise CaxflowError(f"{treemaker!r} is not the name of a treemaker", "they look like Basics")
    return Path(dir_minitrees) / f"pax_{pax_version}" / str(run) / f"{run}_{treemaker}.root"


def hax_path(minitree: Path) -> Path:
    """Where hax looks for a minitree, and makes it by itself: beside the folder of its run."""
    return minitree.parent.parent / minitree.name


def existing(minitree: Path) -> Path | None:
    """The minitree where it belongs, or else where hax made it; None if it is at neither."""
    found = (path for path in (minitree, hax_path(minitree)) if path.is_file() and not path.is_symlink())
    return next(found, None)


def make(
    treemaker: str,
    processed: str | Path,
    minitree: str | Path,
    *,
    number: int,
    replace: bool = False,
    roots: Sequence[str] = (),
) -> Minitree:
    """Make ``Basics`` or ``Fundamentals`` from a processed file, of pax or of the embedded processor.

    Parameters
    ----------
    treemaker : str
        One of `EMBEDDED`.
    processed, minitree : path
    number : int
        Number of the run.
    replace : bool
        Put it in the place of one that is there; otherwise a whole one is adopted, any other is an error.
    roots : sequence of str
        What it may be below, see `caxflow.files.folder.split`.

    Raises
    ------
    CaxflowError
        Naming the file and what is wrong.
    """
    if treemaker not in EMBEDDED:
        raise CaxflowError(
            f"treemaker {treemaker} is not embedded",
            f"embedded are {', '.join(EMBEDDED)}; configure a command for the others",
        )

    def write(made: Path) -> None:
        _write(treemaker, Path(processed), made, number)

    return _publish(treemaker, Path(processed), Path(minitree), write, replace, roots=roots)


def make_by_command(
    treemaker: str,
    template: commands.Template,
    environment: commands.Environment,
    processed: str | Path,
    minitree: str | Path,
    *,
    run: Run,
    number: int,
    pax_version: str,
    workdir: str | Path,
    log: str | Path,
    replace: bool = False,
    roots: Sequence[str] = (),
) -> Minitree:
    """Let another program, usually hax, make a minitree.

    Parameters
    ----------
    template : Template
        Its command, with `PLACEHOLDERS`; see `read_template`.
    workdir : path
        In it the program runs, in a directory of its own, which stays after a failure.
    log : path
        What the program says is appended to it.
    roots : sequence of str
        What the minitree may be below, see `caxflow.files.folder.split`.

    Raises
    ------
    CaxflowError
        Saying what is wrong; nothing is published then.
    """
    processed, minitree, log = (Path(each).absolute() for each in (processed, minitree, log))

    def run_it(made: Path) -> None:
        eventclass.check(processed)
        with products.job_directory(workdir, f"{run}.{treemaker}.", log) as directory:
            words = template.fill(
                {
                    "processed": processed,
                    "processed_directory": processed.parent,
                    "directory": made.parent,
                    "treemaker": treemaker,
                    "pax_version": pax_version,
                    "tmp": directory / "tmp",
                    "run": run,
                    "number": number,
                }
            )
            folders = (processed.parent, made.parent)
            words = environment.wrap(words, directory, folders)
            last = commands.run(words, directory, log, environment.variables)
            if not made.is_file():
                raise CaxflowError(f"its command wrote no {made.name}: {last}", f"read {log}")

    def write(made: Path) -> None:
        try:
            run_it(made)
        except CaxflowError as error:
            if not _by_embedded(processed):
                raise
            raise type(error)(error.what, f"{error.mend}; {_NOT_FOR_HAX}") from error

    return _publish(treemaker, processed, minitree, write, replace, log=log, roots=roots)


def _by_embedded(processed: Path) -> bool:
    """Whether the embedded processor wrote a file, as far as it says."""
    try:
        return not branches.is_native(processed)
    except CaxflowError:
        return False


def read_template(text: str) -> commands.Template:
    """Read the configured command for minitrees; unknown placeholders are an error."""
    return commands.Template.read(text, PLACEHOLDERS, "minitrees")


def check(treemaker: str, minitree: Path, events: "np.ndarray") -> int:
    """Check that a minitree is whole and belongs to its processed file.

    Parameters
    ----------
    events : numpy.ndarray of int64, shape (events,)
        Event numbers in the processed file.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    CaxflowError
        If it is cut, a branch cannot be read in full, or its events are not those of the processed file.
    """
    import numpy as np

    if treemaker not in _MANY_ROWS:
        return rootfile.check_root(minitree, event_numbers=events, tree=treemaker)
    numbers = _event_numbers(minitree, treemaker)
    if not np.isin(numbers, events).all():
        raise CaxflowError(f"{minitree} has events that are not in the processed file")
    return len(numbers)


def _publish(
    treemaker: str,
    processed: Path,
    minitree: Path,
    write: Callable[[Path], None],
    replace: bool,
    *,
    log: Path | None = None,
    roots: Sequence[str] = (),
) -> Minitree:
    """Make a minitree, check and publish it; `log` has what the program that made it said."""
    began = time.monotonic()
    events = _event_numbers(processed, rootfile.TREE)
    there = existing(minitree)
    if there and not replace:
        try:
            rows = check(treemaker, there, events)
        except CaxflowError as error:
            raise CaxflowError(f"{error.what}; it exists already", "move it away to make it anew") from error
        _move_in(there, minitree, roots)
        return Minitree(treemaker, minitree, minitree.stat().st_size, rows, 0.0, adopted=True)
    # Beside the run's folder, which holds nothing but minitrees.
    with products.workshop(hax_path(minitree), roots) as workshop:
        made = workshop.path / minitree.name
        try:
            write(made)
            rows = _check_made(treemaker, made, events, log)
        except CaxflowError as error:
            about = error.what.replace(str(made), made.name)
            raise type(error)(f"{minitree.name} was not made: {about}", error.mend) from error
        size = made.stat().st_size
        # First, so that whatever is killed leaves nothing where hax looks that is not the run's.
        _move_in(there, minitree, roots)
        remark = workshop.publish(minitree, replace=replace)
    return Minitree(treemaker, minitree, size, rows, time.monotonic() - began, remark=remark)


def _check_made(treemaker: str, made: Path, events: "np.ndarray", log: Path | None) -> int:
    try:
        return check(treemaker, made, events)
    except CaxflowError as error:
        raise CaxflowError(error.what, f"read {log}" if log else error.mend) from error


def _move_in(there: Path | None, minitree: Path, roots: Sequence[str]) -> None:
    """Make the folder of a run; what hax made beside it gets its place in it."""
    within = roots or (str(minitree.parents[1]),)
    with parent_of(os.fsencode(minitree), within, made=[]) as (place, name):
        if there and there != minitree:
            with parent_of(os.fsencode(there), within) as (folder, old):
                os.rename(old, name, src_dir_fd=folder, dst_dir_fd=place)
    with contextlib.suppress(OSError), parent_of(os.fsencode(minitree.parent), within) as (above, _):
        sync_folder(above)


def _event_numbers(path: Path, tree: str) -> "np.ndarray":
    with rootfile.opened(path) as file:
        return rootfile.numbers_of(path, file[tree])


def _write(treemaker: str, processed: Path, made: Path, number: int) -> None:
    import uproot

    # hax makes a minitree anew whose "hax_version" is below its minimum, or missing.
    metadata = {
        "version": EMBEDDED[treemaker].version,
        "pax_version": rootfile.read_metadata(processed).get("file_builder_version"),
        "hax_version": _HAX_VERSION,
        "created_by": f"caxflow {__version__}",
        "timestamp": str(datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)),
    }
    with uproot.recreate(made, compression=uproot.ZLIB(1)) as target:
        target[_METADATA] = _named(_METADATA, metadata)
        tree = None
        for columns in rows(treemaker, processed, number):
            if tree is None:
                tree = target.mktree(treemaker, {name: values.dtype for name, values in columns.items()})
            tree.extend(columns)
        if tree is None:
            raise CaxflowError(f"{processed} has no events", "check or process it again")


def _named(name: str, metadata: Mapping):
    """Make the TNamed with a JSON text in which hax keeps metadata."""
    import uproot

    named = uproot.models.TNamed.Model_TNamed.empty()
    named._bases = [uproot.models.TObject.Model_TObject.empty()]
    named._members.update(fName=name, fTitle=json.dumps(metadata))
    return named
