"""The profile: whether snakemake finds it, its plugins, and whether the batch system takes its jobs."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from caxflow import config
from caxflow.config import Settings, calls
from caxflow.monitoring.doctor import submission
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding


def examine(settings: Settings, files: Sequence[Path]) -> Iterator[Finding]:
    """Check profiles; the later ones go over the earlier ones, option by option."""
    if not files:
        yield Finding("profile", DOUBTFUL, "none was named, so it was not looked at", "add --profile SITE")
        return
    profile, says = {}, files[0]
    for file in files:
        yield _found_by_snakemake(file)
        own = config.read_yaml(file)
        profile |= own
        says = file if "executor" in own else says
    executor = str(profile.get("executor", "local"))
    if executor not in ("local", "dryrun"):
        plugin = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
        yield _installed(
            plugin, "make install" if executor == "caxflow" else f"pip install {_dashed(plugin)}"
        )
        yield from submission.examine(settings, says, profile)
    yield _installed("snakemake_logger_plugin_caxflow", "make install")


def as_typed(file: Path) -> str:
    """Return what snakemake is given: the profile's name, where that leads to it, or its path."""
    folder = file.parent
    if calls.newest(folder) != file:
        return str(file)
    found = folder.parent.name == "snakemake" or config.HOME / "profiles" in folder.parents
    return folder.name if found else str(folder)


def _found_by_snakemake(file: Path) -> Finding:
    """Check whether ``snakemake --profile NAME`` finds the profile by its name alone, from the clone."""
    name, folder = as_typed(file), file.parent
    if folder.name == name and Path(name).is_dir():
        said = f"a folder {name} in {Path.cwd()} hides the profile from snakemake"
        return Finding("profile", BAD, said, f"mv {shlex.quote(name)} {shlex.quote(name)}.old")
    if config.HOME / "profiles" in folder.parents:
        said = f"{folder} is not linked to where snakemake looks"
        return Finding("profile", BAD, said, "make install")
    there = file if name == str(file) else folder
    return Finding("profile", GOOD, f"snakemake --profile {name} finds {there}")


def _dashed(module: str) -> str:
    return module.replace("_", "-")


def _installed(module: str, mend: str) -> Finding:
    name = _dashed(module)
    if find_spec(module) is None:
        return Finding("plugin", BAD, f"{name} is not installed for {sys.executable}", mend)
    return Finding("plugin", GOOD, f"{name} is installed")
