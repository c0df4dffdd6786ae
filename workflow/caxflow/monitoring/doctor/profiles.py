"""The profile: whether snakemake finds it, its plugins, and whether the batch system takes its jobs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from caxflow import config
from caxflow.batch.system import last_line
from caxflow.config import Settings, calls
from caxflow.monitoring.doctor import submission
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding

_READ = "import sys; from snakemake.cli import parse_args; parse_args(['--profile', sys.argv[1]])"


def examine(settings: Settings, folder: Path | None) -> Iterator[Finding]:
    """Check the profile in a folder."""
    if folder is None:
        yield Finding("profile", DOUBTFUL, "none was named, so it was not looked at", "add --profile SITE")
        return
    yield _found_by_snakemake(folder)
    file = calls.newest(folder) or folder / "config.yaml"
    profile = config.read_yaml(file)
    executor = str(profile.get("executor") or "local")
    unread = list(_unread(folder, file))
    yield from unread
    if executor not in ("local", "dryrun"):
        plugin = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
        yield _installed(
            plugin, "make install" if executor == "caxflow" else f"pip install {_dashed(plugin)}"
        )
        if not unread:
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


def _unread(folder: Path, file: Path) -> Iterator[Finding]:
    """Have Snakemake read the profile, and yield what it says where it does not."""
    words = [sys.executable, "-c", _READ, str(folder)]
    known = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    known["PATH"] = f"{known.get('PATH', '')}{os.pathsep}{os.defpath}"  # plugins look for programs
    try:
        done = subprocess.run(
            words,
            env=known,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("profile", DOUBTFUL, f"snakemake was not asked about {file}: {error}")
        return
    if done.returncode:
        said = re.sub(r"^(-c: error|[\w.]+(Error|Exception)): ", "", last_line(done.stderr))
        fix = f"check that key in {file}, by profiles/README.md and snakemake --help"
        yield Finding("profile", BAD, f"snakemake does not read {file}: {said[:300]}", fix)


def _dashed(module: str) -> str:
    return module.replace("_", "-")


def _installed(module: str, mend: str) -> Finding:
    name = _dashed(module)
    if find_spec(module) is None:
        return Finding("plugin", BAD, f"{name} is not installed for {sys.executable}", mend)
    return Finding("plugin", GOOD, f"{name} is installed")
