"""Runs a processor: from a verified raw dataset to a checked, published ROOT file.

Nothing a processor says about its own success is believed. Its product is made in a hidden folder beside the
place where it will be, checked against the events of the raw data, and only then given its name.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow.errors import CaxflowError
from caxflow.processing import commands, paxini, processors, products
from caxflow.processing.processors import Processor
from caxflow.targets import Run

if TYPE_CHECKING:
    import numpy as np


_INCOMPLETE = "the raw copy is incomplete: verify it against the origin's manifest"


@dataclass(frozen=True)
class Product:
    """A checked processed file.

    Parameters
    ----------
    path : path
    size : int
        Bytes.
    events : int
    seconds : float
        Time it took.
    adopted : bool
        Whether it was there before.
    facts : mapping
        What the processor tells: counts of the embedded one, the command of another.
    remark : str
        What failed after it was published.
    """

    path: Path
    size: int
    events: int
    seconds: float
    adopted: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True)
class _Job:
    processor: Processor
    raw_directory: Path
    settings: Mapping
    threads: int
    directory: Path
    log: Path
    progress: Callable | None


def process(
    processor: Processor,
    raw_directory: str | Path,
    product: str | Path,
    *,
    settings: Mapping,
    threads: int,
    workdir: str | Path,
    log: str | Path,
    replace: bool = False,
    aside: Path | None = None,
    parts: Sequence[str | Path] = (),
    progress: Callable | None = None,
    roots: Sequence[str] = (),
) -> Product:
    """Process a run and publish the checked product.

    Parameters
    ----------
    raw_directory : path
        The verified raw dataset.
    product : path
        As `Processor.product_path` gives it. A whole file of the same corrections that is there already is
        adopted, as after a crash between publishing and its receipt; any other is an error.
    settings : mapping
        As `caxflow.conditions.settings.freeze` gives it.
    threads : int
        Cores that the job has; the processor's rule tells how many events it processes at a time on them.
    workdir : path
        In it the job makes a directory of its own, which stays after a failure, with its log.
    log : path
        What the processor says is appended to it.
    replace : bool
        Make the product anew and put it in the place of the old one.
    aside : path, optional
        Where a file that is there already, and cannot be adopted, is moved, if it is one that no row of the
        database promises; nothing may be there yet.
    parts : sequence of path, optional
        What several jobs have made of the run's zips with the embedded processor, in order; they are joined.
    progress : callable, optional
        Handed to the embedded processor.
    roots : sequence of str
        What the product may be below, see `caxflow.files.folder.split`.

    Raises
    ------
    CaxflowError
        Saying what is wrong with the raw data, the processor or its product; nothing is published then.
    """
    raw_directory, product = Path(raw_directory).absolute(), Path(product).absolute()
    log = Path(log).absolute()
    numbers = _event_numbers(raw_directory, settings)
    checked = processor, product, settings, numbers
    if not replace and (adopted := _adopt_if_there(*checked, aside=aside)):
        return adopted
    at_a_time = processors.threads(processor, events=len(numbers), cores=threads)
    began = time.monotonic()
    try:
        with (
            products.job_directory(workdir, f"{settings['run']}.{processor.name}.", log) as directory,
            products.workshop(product, roots) as workshop,
        ):
            job = _Job(processor, raw_directory, settings, at_a_time, directory, log, progress)
            made = workshop.path / product.name
            facts = _make(job, made, parts)
            _check(made, numbers)
            _check_version(processor, made)
            # By a job of a call that was killed, which the batch system worked on beside this one.
            if not replace and (adopted := _adopt_if_there(*checked, aside=aside)):
                return adopted
            if aside and product.exists() and not replace:
                products.set_aside(product, aside, roots)
            size = made.stat().st_size
            remark = workshop.publish(product, replace=replace)
    except CaxflowError as error:
        raise type(error)(f"{settings['run']}: {processor.name}: {error.what}", error.mend) from error
    seconds = time.monotonic() - began
    return Product(product, size, len(numbers), seconds, facts=facts, remark=remark)


def correction_versions(product: str | Path) -> dict[str, object]:
    """Versions of the corrections with which a processed file was made, out of its metadata.

    To be compared with the run document by `caxflow.conditions.corrections.stale`.

    Raises
    ------
    CaxflowError
        If the file has no such metadata.
    """
    from caxflow.files import rootfile

    metadata = rootfile.read_metadata(product)
    versions = metadata.get("correction_versions")
    if versions is None:  # pax keeps all that it was told in one place
        configuration = metadata.get("configuration")
        versions = configuration.get("correction_versions", {}) if isinstance(configuration, dict) else None
    if not isinstance(versions, dict):
        raise CaxflowError(f"{product}: its metadata have no configuration", "is it a processed file?")
    return versions


def _event_numbers(raw_directory: Path, settings: Mapping) -> "np.ndarray":
    from caxflow.rawdata import rawformat

    numbers = rawformat.run_event_numbers(raw_directory)
    if len(numbers) != settings["events_built"]:
        raise CaxflowError(
            f"{settings['run']}: its zips hold {len(numbers)} events, {settings['events_built']} were built",
            _INCOMPLETE,
        )
    # As many, but are they those?
    for expected, number in enumerate(numbers):
        if number != expected:
            what = f"hold event {number} twice" if number < expected else f"lack event {expected}"
            raise CaxflowError(f"{settings['run']}: its zips {what}", _INCOMPLETE)
    return numbers


def _make(job: _Job, made: Path, parts: Sequence[str | Path]) -> dict:
    from caxflow import mini

    if parts:
        return {"events": mini.merge(parts, made), "parts": len(parts)}
    return _make_embedded(job, made) if job.processor.kind == "mini" else _make_by_command(job, made)


def _make_embedded(job: _Job, made: Path) -> dict:
    from caxflow import mini

    return dict(
        mini.process_run(
            job.raw_directory,
            made,
            settings=job.settings,
            run=Run.parse(job.settings["run"]),
            cores=job.threads,
            progress=job.progress,
        )
    )


def _check_pickles(job: _Job) -> None:
    """See that the events are data before a program unpickles them, for that would do what they say."""
    from caxflow.mini.workers import ordered_map
    from caxflow.rawdata import rawformat

    zips = ((job.raw_directory / name,) for name in rawformat.zip_names(job.raw_directory))
    for _ in ordered_map(rawformat.check_zip, zips, job.threads):
        pass


def _make_by_command(job: _Job, made: Path) -> dict:
    _check_pickles(job)
    overrides = job.directory / "overrides.ini"
    processor = job.processor
    told = paxini.render(job.settings, processor.overrides, processor.run_parameters)
    overrides.write_text(told, encoding="ascii")
    words = job.processor.template.fill(
        {
            "input": job.raw_directory,
            "output": made,
            "output_stem": made.with_suffix(""),
            "overrides": overrides,
            "configuration": job.settings["configuration"],
            "input_type": paxini.input_type(job.raw_directory),
            "threads": job.threads,
            "tmp": job.directory / "tmp",
            "run": job.settings["run"],
            "number": job.settings["number"],
        }
    )
    words = job.processor.environment.wrap(words, job.directory, (job.raw_directory, made.parent))
    try:
        last = commands.run(words, job.directory, job.log, job.processor.environment.variables)
    except CaxflowError as error:
        inherits = job.processor.inherits
        hint = f"{error.mend}; its command inherits {inherits}, which null takes out" if inherits else ""
        raise type(error)(error.what, hint or error.mend) from error
    if not made.is_file():
        raise CaxflowError(f"exited with 0 but wrote no {made.name}: {last}", f"read {job.log}")
    return {"command": words}


def _check(made: Path, numbers: "np.ndarray") -> None:
    from caxflow.files import rootfile

    try:
        rootfile.check_root(made, events_built=len(numbers), event_numbers=numbers)
    except CaxflowError as error:
        # The folder it was made in is gone when this is read.
        about = error.what.replace(str(made), made.name)
        raise CaxflowError(f"its product is not whole and was not published: {about}") from error


def _check_version(processor: Processor, product: Path) -> None:
    """Raise if the file says another version than folder and database, which hax compares."""
    from caxflow.files import rootfile

    if processor.kind == "mini":
        return  # it writes the version that it is given
    version = rootfile.read_metadata(product).get("file_builder_version")
    if version != processor.pax_version.removeprefix("v"):
        raise CaxflowError(
            f"{product.name} says that version {version} wrote it, "
            f"and {processor.name} is {processor.pax_version}",
            f"give {processor.name} the program of its version, or set its pax_version",
        )


def _adopt_if_there(
    processor: Processor, product: Path, settings: Mapping, numbers: "np.ndarray", *, aside: Path | None
) -> Product | None:
    """Adopt the product that is there, if there is one; None where it may be moved `aside` instead."""
    try:
        return _adopt(processor, product, settings, numbers) if product.exists() else None
    except CaxflowError:
        if aside is None:
            raise
        return None


def _adopt(processor: Processor, product: Path, settings: Mapping, numbers: "np.ndarray") -> Product:
    from caxflow.files import rootfile

    mend = "move it away to make it anew"
    try:
        rootfile.check_root(product, events_built=len(numbers), event_numbers=numbers)
        versions = correction_versions(product)
    except CaxflowError as error:
        raise CaxflowError(f"{product} exists already and is not whole: {error.what}", mend) from error
    _check_version(processor, product)
    wanted = settings["correction_versions"]
    if versions != wanted:
        raise CaxflowError(f"{product} exists already, of corrections {versions}, not {wanted}", mend)
    return Product(product, product.stat().st_size, len(numbers), 0.0, adopted=True)
