"""The profile: whether snakemake finds it, its plugins, and whether the batch system takes its jobs."""

import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from caxflow import config
from caxflow.config import Settings, calls
from caxflow.monitoring.doctor import submission
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding


def examine(settings: Settings, folder: Path | None) -> Iterator[Finding]:
    """Check the profile in a folder."""
    if folder is None:
        yield Finding("profile", DOUBTFUL, "none was named, so it was not looked at", "add --profile SITE")
        return
    yield _found_by_snakemake(folder)
    file = calls.newest(folder) or folder / "config.yaml"
    profile = config.read_yaml(file)
    executor = str(profile.get("executor", "local"))
    if executor not in ("local", "dryrun"):
        plugin = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
        yield _installed(
            plugin, "make install" if executor == "caxflow" else f"pip install {_dashed(plugin)}"
        )
        yield from submission.examine(settings, file, profile)
    yield _installed("snakemake_logger_plugin_caxflow", "make install")


def as_typed(folder: Path) -> str:
    """What snakemake is given: the profile's name, where that leads to it, or its path."""
    found = folder.parent.name == "snakemake" or config.HOME / "profiles" in folder.parents
    return folder.name if found else str(folder)


def _found_by_snakemake(folder: Path) -> Finding:
    """Whether ``snakemake --profile NAME`` finds the profile by its name alone, from the clone."""
    name = as_typed(folder)
    if folder.name == name and Path(name).is_dir():
        said = f"a folder {name} in {Path.cwd()} hides the profile from snakemake"
        return Finding("profile", BAD, said, f"mv {shlex.quote(name)} {shlex.quote(name)}.old")
    if config.HOME / "profiles" in folder.parents:
        said = f"{folder} is not linked to where snakemake looks"
        return Finding("profile", BAD, said, "make install")
    return Finding("profile", GOOD, f"snakemake --profile {name} finds {folder}")


def _dashed(module: str) -> str:
    return module.replace("_", "-")


def _installed(module: str, mend: str) -> Finding:
    name = _dashed(module)
    if find_spec(module) is None:
        return Finding("plugin", BAD, f"{name} is not installed for {sys.executable}", mend)
    return Finding("plugin", GOOD, f"{name} is installed")
