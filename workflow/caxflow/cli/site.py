"""Options that every sub-command shares: which site's configuration it works with."""

import argparse
import functools
import os
from pathlib import Path
from typing import Any

import yaml

from caxflow import config, preview
from caxflow.config import HOME, Settings
from caxflow.errors import CaxflowError
from caxflow.targets import Run


class WrongCallError(CaxflowError):
    """The command line or the configuration is wrong: exit code 2."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--profile`` and ``--config``, with the meaning they have for snakemake."""
    parser.add_argument(
        "--profile",
        metavar="SITE",
        default=os.environ.get("SNAKEMAKE_PROFILE"),
        help="the profile that snakemake is given; also SNAKEMAKE_PROFILE",
    )
    parser.add_argument(
        "--config", metavar="KEY=VALUE", nargs="*", default=[], help="over the configuration's values"
    )


def settings(arguments: argparse.Namespace) -> Settings:
    """The configuration that ``snakemake --profile`` would use; with ``-n`` nothing is changed from now on.

    Raises
    ------
    WrongCallError
        If the profile or the configuration is wrong.
    """
    try:
        layers = _profile(profile_folder(arguments.profile)) if arguments.profile else []
        layers.append(("--config", _pairs(arguments.config)))
        overrides = functools.reduce(config.merge, (said for _, said in layers))
        loaded = config.load(overrides, layers=layers)
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


def work_dir(settings: Settings) -> Path | None:
    """The folder of this site's targets; None where no workflow has run yet."""
    folder = Path(settings.here.work_dir) if settings.here.work_dir else None
    return folder if folder and folder.is_dir() else None


def profile_folder(name: str) -> Path:
    """Where Snakemake finds a profile; last, the clone's own, which needs no installation."""
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    system = [Path(folder) for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    places = [
        Path(name),
        *(folder / "snakemake" / name for folder in (user, *system)),
        HOME / "profiles" / name,
    ]
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    known = ", ".join(sorted(path.parent.name for path in (HOME / "profiles").glob("*/config.yaml")))
    raise CaxflowError(f"there is no profile {name!r}", f"the profiles of this clone are {known}")


def _profile(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """What a profile says about the configuration, by place: its ``configfile`` and ``config``."""
    own = folder / "config.yaml"
    profile = config.read_yaml(own)
    files = profile.get("configfile") or []
    named = [folder / file for file in ([files] if isinstance(files, str) else files)]
    said = [(str(file), config.read_yaml(file)) for file in named]
    return [*said, (f"{own}: config", _pairs(profile.get("config") or []))]


def _pairs(words: list[str]) -> dict[str, Any]:
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise CaxflowError(f"--config {word!r} is not KEY=VALUE", "write --config dry=true")
        pairs[key] = yaml.safe_load(value)
    return pairs
