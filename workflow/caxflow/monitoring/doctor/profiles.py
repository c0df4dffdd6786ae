"""The profile: whether snakemake finds it, its plugins, and whether the batch system takes its jobs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from caxflow import config
from caxflow.batch.system import last_line
from caxflow.config import Settings, calls
from caxflow.monitoring.doctor import submission
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding

_READ = "import sys; from snakemake.cli import parse_args; parse_args(['--profile', *sys.argv[1:]])"


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
    executor = str(profile.get("executor") or "local")
    unread = list(_unread(files))
    yield from unread
    if executor not in ("local", "dryrun"):
        plugin = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
        yield _installed(
            plugin, "make install" if executor == "caxflow" else f"pip install {_dashed(plugin)}"
        )
        if not unread:
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


def _unread(files: Sequence[Path]) -> Iterator[Finding]:
    """Have Snakemake read the profiles, and yield what it says where it does not."""
    named = [file.parent if calls.newest(file.parent) == file else file for file in files]
    words, them = [sys.executable, "-c", _READ, *map(str, named)], " and ".join(map(str, files))
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
        yield Finding("profile", DOUBTFUL, f"snakemake was not asked about {them}: {error}")
        return
    if done.returncode:
        said = re.sub(r"^(-c: error|[\w.]+(Error|Exception)): ", "", last_line(done.stderr))
        fix = f"check that key in {them}, by profiles/README.md and snakemake --help"
        yield Finding("profile", BAD, f"snakemake does not read {them}: {said[:300]}", fix)


def _dashed(module: str) -> str:
    return module.replace("_", "-")


def _installed(module: str, mend: str) -> Finding:
    name = _dashed(module)
    if find_spec(module) is None:
        return Finding("plugin", BAD, f"{name} is not installed for {sys.executable}", mend)
    return Finding("plugin", GOOD, f"{name} is installed")
