"""What other programs get of this environment: variables that are named here, or in the configuration."""

import re
from collections.abc import Iterable, Mapping

from caxflow import credentials
from caxflow.errors import CaxflowError

_NAMED = re.compile(
    "PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TZ|TERM|TMPDIR|TMP|TEMP|TEMPDIR|"
    # Where programs and their libraries are.
    r"LD_LIBRARY_PATH|LD_PRELOAD|PYTHON[A-Z]+|VIRTUAL_ENV|CONDA\w*|MAMBA_\w+|MODULE\w+|LOADEDMODULES|"
    r"_LMFILES_|LMOD_\w+|APPTAINER\w+|SINGULARITY\w+|ROOTSYS|XDG_(CACHE|CONFIG|DATA)_(HOME|DIRS)|"
    # How many threads they use, and of which kind.
    r"(OMP|GOTO|OPENBLAS|MKL|NUMEXPR|VECLIB)_\w+|CUDA_VISIBLE_DEVICES|"
    r"CAXFLOW_\w+"
)
# What a batch system tells a job of itself, which its program may use; it means nothing to other jobs.
_OF_JOB = re.compile(r"(SLURM|SGE|PBS)_\w+|_CONDOR_\w+|JOB_ID|JOB_NAME|NSLOTS")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# What the configuration names: for programs, or since it uses them itself.
_more: set[str] = set()


def also(names: Iterable[str]) -> None:
    """Have batch jobs get these, too."""
    _more.update(names)


def for_jobs(found: Mapping[str, str]) -> dict[str, str]:
    """Return what a batch job gets of an environment; nothing that is secret, whatever its name."""
    return named(found, _NAMED, _more)


def for_programs(found: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """Return what a processor gets of the environment of its job."""
    return named(found, _NAMED, more) | named(found, _OF_JOB)


def declare(names: Iterable[str], about: str) -> tuple[str, ...]:
    """Return names that the configuration gives, checked; batch jobs get them from now on.

    Raises
    ------
    CaxflowError
        If one of them is no name, or that of a secret.
    """
    names = tuple(names)
    for name in names:
        if not _NAME.fullmatch(name):
            raise CaxflowError(f"{about}: {name!r} is no name of a variable", "write it as SCRATCH_DIR")
        if credentials.is_secret(name):
            fix = f"keep it in a file that the program reads, and name that by {name}_FILE"
            raise CaxflowError(f"{about}: {name} is called like a secret, which no program is given", fix)
    also(names)
    return names


def named(found: Mapping[str, str], names: re.Pattern, more: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables whose whole names match, or are among `more`, and that are not secret."""
    return {
        name: value
        for name, value in found.items()
        if (name in more or names.fullmatch(name)) and not credentials.is_secret(name, value)
    }
