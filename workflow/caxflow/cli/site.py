"""Options that every sub-command shares: which site's configuration it works with."""

import argparse
from pathlib import Path

from caxflow import config, preview
from caxflow.config import Settings, calls
from caxflow.errors import CaxflowError, WrongCallError
from caxflow.targets import Run
from caxflow.workdir import guard


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--profile``, ``--configfile`` and ``--config``, with the meaning they have for snakemake."""
    parser.add_argument(
        "--profile",
        metavar="SITE",
        action="append",
        help="the profile that snakemake is given, or several, each with the option; also SNAKEMAKE_PROFILE",
    )
    parser.add_argument(
        "--configfile",
        "--configfiles",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="files over config.yaml, instead of those that the profile names",
    )
    parser.add_argument(
        "--config",
        "-C",
        metavar="KEY=VALUE",
        nargs="*",
        help="over the configuration's values, instead of what the profile says by the same option",
    )


def profiles(arguments: argparse.Namespace) -> list[str]:
    """Return the profiles that snakemake would take: those of the command line, or of the environment."""
    names = arguments.profile or calls.of_environment()
    return [] if names == ["none"] else names


def profile_files(arguments: argparse.Namespace) -> list[Path]:
    """Return the files of the profiles.

    Raises
    ------
    WrongCallError
        If there is no such profile.
    """
    try:
        return [calls.profile_file(name) for name in profiles(arguments)]
    except CaxflowError as error:
        raise WrongCallError(error.what, error.mend) from error


def settings(arguments: argparse.Namespace) -> Settings:
    """The configuration that ``snakemake --profile`` would use; with ``-n`` nothing is changed from now on.

    Raises
    ------
    WrongCallError
        If the profile or the configuration is wrong.
    """
    try:
        files, words, where = calls.of_profiles(profiles(arguments))
        if arguments.configfile is not None:
            files = arguments.configfile
        if arguments.config is not None:
            words, where = arguments.config, calls.TYPED
        loaded = config.load(calls.layers(files, words, where))
        preview.only_look(loaded.dry or getattr(arguments, "dry_run", False))
        return loaded
    except CaxflowError as error:
        raise WrongCallError(error.what, error.mend) from error


def runs(arguments: argparse.Namespace) -> list[Run]:
    """The runs that the command line names; a wrong name is the command line's fault."""
    try:
        return [Run.parse(name) for name in arguments.runs]
    except CaxflowError as error:
        raise WrongCallError(error.what, error.mend) from error


def work_dir(settings: Settings, *, acts: bool = False) -> Path | None:
    """The folder of this site's targets; None where no workflow has run yet.

    Parameters
    ----------
    acts : bool
        Whether something is done by what is in it: then no other account may have written there.
    """
    folder = Path(settings.here.work_dir) if settings.here.work_dir else None
    if folder is None or not folder.is_dir():
        return None
    if acts and not preview.only_looks():
        guard.check(folder)
    return folder
