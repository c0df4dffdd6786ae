"""Commands of other programs: a template, split before anything is put in, and run without a shell.

A template is a command line such as ``paxer --input {input} --cpus {threads}``. It is split into words as a
shell would split it, then the placeholders inside each word are filled: a value is always part of one
argument, whatever characters it has.
"""

import os
import re
import shlex
import shutil
import signal
import string
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from caxflow import credentials, joblogs, variables
from caxflow.errors import CaxflowError, Overrun
from caxflow.processing import leash

_SHELLS = re.compile(r"[<>|&;]+$|[^'\"]*\$[A-Za-z_{]|~/")
# What Python, numpy, C++ and the system say where memory is limited by address space, as Grid Engine does.
_WANTS_MEMORY = re.compile(r"MemoryError|bad_alloc|[Cc]annot allocate memory|Unable to allocate")


@dataclass(frozen=True)
class Environment:
    """Where a program runs; empty values mean: as it is.

    Parameters
    ----------
    setup : str
        A line of shell that prepares the environment (``source /cvmfs/…/setup.sh``). The command's words
        are handed to it as arguments and never parsed by it.
    module : str
        An environment module to load.
    conda : str
        Name or path of a conda environment.
    container : str
        An apptainer image; it sees the folders the job needs, and no others that apptainer does not add.
    variables : tuple of str
        Variables of our environment that the program gets beside those that all get.
    """

    setup: str = ""
    module: str = ""
    conda: str = ""
    container: str = ""
    variables: tuple[str, ...] = ()

    @classmethod
    def read(cls, definition: Mapping, about: str) -> "Environment":
        """Read it from its keys in a definition, which are called as its parameters.

        Raises
        ------
        CaxflowError
            Saying which key of `about` is wrong.
        """
        given = {
            key: definition[key] for key in ("setup", "module", "conda", "container") if definition.get(key)
        }
        for key, value in given.items():
            if not isinstance(value, str) or not value.strip():
                raise CaxflowError(f"{about}: {key} is {value!r}, not text", f"write {key}: …")
        if "conda" in given and "container" in given:
            raise CaxflowError(f"{about}: both conda and container are given", "keep one of them")
        more = variables.declare(definition.get("variables") or (), f"{about}: variables")
        return cls(**given, variables=more)

    def wrap(self, words: list[str], directory: Path, folders: Collection[Path] = ()) -> list[str]:
        """Put what is needed in front of the words of a command.

        Parameters
        ----------
        words : list of str
        directory : path
            Working directory of the command.
        folders : collection of path
            What a container must see besides it.
        """
        if self.container:
            binds = [f"--bind={_bindable(folder)}" for folder in (directory, *folders)]
            words = ["apptainer", "exec", f"--pwd={directory}", *binds, self.container, *words]
        if self.conda:
            by = "-p" if "/" in self.conda else "-n"
            words = ["conda", "run", "--no-capture-output", by, self.conda, *words]
        if self.module:
            # The function `module` exists in login shells only.
            words = ["bash", "-lc", 'module load "$1" && shift && exec "$@"', "bash", self.module, *words]
        if self.setup:
            words = ["bash", "-c", f'{{ {self.setup}\n}} && exec "$@"', "bash", *words]
        return words


@dataclass(frozen=True)
class Template:
    """A command line with placeholders, split into words."""

    words: tuple[str, ...]

    @classmethod
    def read(cls, text: str, known: Collection[str], about: str) -> "Template":
        """Split a command line and check its placeholders.

        Parameters
        ----------
        text : str
        known : collection of str
            Names of the placeholders that can be filled.
        about : str
            Whose command it is, for messages.

        Raises
        ------
        CaxflowError
            Naming the unknown placeholder, or what cannot be read.
        """
        try:
            words = shlex.split(text)
            names = [name for word in words for _, name, *_ in _placeholders(word) if name is not None]
        except ValueError as error:
            raise CaxflowError(
                f"{about}: the command cannot be read: {error}", "mend its quotes and braces"
            ) from None
        if not words:
            raise CaxflowError(f"{about}: the command is empty", "write the program and its arguments")
        if meant := _for_a_shell(text):
            raise CaxflowError(
                f"{about}: {meant} in its command means nothing, since no shell reads it",
                "write it out, or quote it; a line of shell goes into setup",
            )
        for name in names:
            if name not in known:
                raise CaxflowError(
                    f"{about}: unknown placeholder {{{name}}} in its command",
                    f"known are {', '.join(f'{{{each}}}' for each in sorted(known))}",
                )
        return cls(tuple(words))

    @property
    def names(self) -> frozenset[str]:
        """Names of the placeholders that occur."""
        return frozenset(
            name for word in self.words for _, name, *_ in _placeholders(word) if name is not None
        )

    def fill(self, values: Mapping[str, object]) -> list[str]:
        """Return the words with the placeholders filled; each stays one word."""
        return [
            "".join(
                text + ("" if name is None else str(values[name])) for text, name, *_ in _placeholders(word)
            )
            for word in self.words
        ]


def run(words: list[str], directory: Path, log: Path, more: Collection[str] = ()) -> str:
    """Run a command to its end, in `directory`, with all it says appended to `log`; its last line.

    Of our environment it gets what `caxflow.variables` names, and `more`. Before that the log gets the
    directory, the names of environment variables, never their values, and the command as a shell reads it.

    Raises
    ------
    CaxflowError
        If it cannot be started or does not exit with 0; with the last line it wrote.
    """
    set_here = {
        "TMPDIR": str(directory / "tmp"),
        # Or Python writes standard output after the traceback that ended it, and that is not its last line.
        "PYTHONUNBUFFERED": "1",
    }
    environment = variables.for_programs(os.environ, more) | set_here
    (directory / "tmp").mkdir(exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        inherited = sorted(set(environment) - set(set_here))
        lines = (
            f"in {directory}",
            f"environment: set for it {', '.join(set_here)}; inherited {', '.join(inherited)}",
            f"$ {_shown(words)}",
        )
        stream.write("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
        stream.flush()
        begun = stream.tell()
        if wrong := _not_a_program(words[0], directory, environment.get("PATH")):
            raise CaxflowError(f"{words[0]} cannot be started: {wrong[0]}", f"{wrong[1]}; read {log}")
        # Whatever ends this process closes the pipe: then the leash ends the program and all it started.
        leashed = [sys.executable, "-I", leash.__file__, *words]
        with subprocess.Popen(
            leashed,
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
        ) as process:
            try:
                status = process.wait()
            except BaseException:
                process.stdin.close()
                process.wait()
                raise
        joblogs.tidy(log, begun)
    last = joblogs.last_line(log, begun)
    if status:
        # Nobody but the system kills so, for want of memory; where it only refuses it, the program says so.
        killed = status in (-signal.SIGKILL, 128 + signal.SIGKILL)
        kind = Overrun if killed or _WANTS_MEMORY.search(joblogs.tail(log, begun)) else CaxflowError
        raise kind(f"{Path(words[0]).name} {_ended(status)}: {last}", f"read {log}")
    return last


def _ended(status: int) -> str:
    """Return how a program ended, by its exit status or the number of a signal, in words."""
    if status < 0:
        return f"was ended by signal {-status} ({signal.strsignal(-status)})"
    # Shells say so of what they ran.
    by_signal = signal.strsignal(status - 128) if 128 < status < 128 + signal.NSIG else None
    return f"exited with {status}" + (f", as after signal {status - 128} ({by_signal})" if by_signal else "")


def _not_a_program(name: str, directory: Path, path: str | None) -> tuple[str, str] | None:
    """Return why a program cannot be started from `directory`, and what to do about it; None if it can."""
    if shutil.which(directory / name if "/" in name else name, path=path):
        return None
    folders = [str(directory)] if "/" in name else os.get_exec_path({"PATH": path or os.defpath})
    there = next((found for folder in folders if (found := Path(folder, name)).is_file()), None)
    if there:
        return f"{there} may not be executed", f"chmod +x {shlex.quote(str(there))}"
    return "no such program", "install it, or mend the configured command"


def _shown(words: list[str]) -> str:
    """Return a command as a shell reads it, with the names of secret variables for their values."""
    secrets = credentials.values()
    if not secrets:
        return shlex.join(words)
    known = re.compile("(" + "|".join(map(re.escape, sorted(secrets, key=len, reverse=True))) + ")")
    return " ".join(
        "".join(
            f'"${{{secrets[part]}}}"' if part in secrets else shlex.quote(part)
            for part in known.split(word)
            if part
        )
        or "''"
        for word in words
    )


def _for_a_shell(text: str) -> str | None:
    """The first part of a command, outside of quotes, of which a shell would make something else."""
    reader = shlex.shlex(text, posix=False, punctuation_chars="<>|&;")
    reader.whitespace_split, reader.commenters = True, ""
    return next((part for part in reader if _SHELLS.match(part)), None)


def _placeholders(word: str) -> list[tuple]:
    parsed = list(string.Formatter().parse(word))
    for _, name, specification, conversion in parsed:
        if name is not None and (specification or conversion or not name.isidentifier()):
            raise ValueError(f"placeholder {{{name}}} is more than a name")
    return parsed


def _bindable(folder: Path) -> str:
    if set(str(folder)) & set(":,"):
        raise CaxflowError(f"{folder} cannot be shown to a container", "its path must be free of ':' and ','")
    return f"{folder}:{folder}"
