"""What a call says over ``config.yaml``: its ``--configfile`` and ``--config``, or those of its profiles.

Snakemake finds profiles and takes options apart by itself, `caxflow` does it here, in the same way; from then
on both have the same files and words, and read them here.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from caxflow import owners
from caxflow.config.folders import HOME
from caxflow.config.sources import Layer, merge
from caxflow.config.yamlfile import Word, each_word, number, read_value, read_words
from caxflow.errors import CaxflowError

TYPED = "--config"

_PROFILE = re.compile(r"(?:profile|config)(?:\.v(\d+)\+)?.yaml")
SNAKEMAKE = 9  # the major version that the requirements ask for
_TEMPLATES = "__use_yte__"


def layers(files: Iterable[str | os.PathLike], words: Iterable[str], where: str = TYPED) -> list[Layer]:
    """Return what files and words say, by place, the later ones over the earlier ones.

    Raises
    ------
    CaxflowError
        If a file cannot be read, or a word is no key with a value.
    """
    found: list[Layer] = []
    for file in map(Path, files):
        content = read_words(file.absolute())
        _check_plain(content, file)
        found.append((str(file.absolute()), content))
    return [*found, (where, _pairs(words, where))]


def of_profiles(
    names: Sequence[str],
    directory: Path | None = None,
    beside: str | None = None,
    snakefile: str | os.PathLike | None = None,
) -> tuple[list[Path], list[str], str]:
    """Return files and words that profiles name, and what messages call the place of the words.

    Parameters
    ----------
    names : sequence of str
        As ``--profile`` takes them; the later ones go over the earlier ones, option by option.
    directory : Path, optional
        Where snakemake is called; by default the clone.
    beside : str, optional
        The profile of the workflow, as ``--workflow-profile`` takes it.
    snakefile : path, optional
        As ``--snakefile`` takes it.

    Raises
    ------
    CaxflowError
        If there is no such profile, or it cannot be read.
    """
    files: list[Path] = []
    words, where = [], TYPED
    for own in [*map(profile_file, names), *_of_workflow(directory or HOME, beside, snakefile)]:
        said = read_profile(own)
        if said.get("configfile") is not None:
            files = _files(said["configfile"], own.parent, directory or HOME)
        if said.get("config") is not None:
            words, where = _words(said["config"]), f"{own}: config"
    return files, words, where


def of_environment() -> list[str]:
    """Return the profiles that the environment names: one, or a list in brackets."""
    named = os.environ.get("SNAKEMAKE_PROFILE")
    if named is None:
        return []
    listed = re.fullmatch(r"\[(.*)\]", named)
    return [name.strip(" \"'") for name in listed[1].split(",")] if listed else [named]


def read_profile(file: Path) -> dict[str, Any]:
    """Return a profile as it is written.

    Raises
    ------
    CaxflowError
        If something in it is not what it looks like.
    """
    said = read_words(file)
    _check_plain(said, file)
    said = {re.sub("^--|(?<=^configfile)s$", "", key): value for key, value in said.items()}
    for option, value in said.items():
        if isinstance(value, Mapping):
            for key, item in value.items():
                _check_clear(item, file, option, key)
        elif option != "config":
            _check_numbers(value, file, option)
    return said


def profile_file(name: str) -> Path:
    """Return the file of a profile, where Snakemake finds it, or else in the clone, without installation.

    Raises
    ------
    CaxflowError
        If there is none, or where it would be taken from the working directory, where others put it.
    """
    user = Path(os.environ.get("XDG_CONFIG_HOME") or _expanded("~/.config"))
    system = Path(os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")[0])
    for place in (
        Path(name),
        *(folder / "snakemake" / name for folder in (user, system)),
        HOME / "profiles" / name,
    ):
        found = place if name and place.is_file() else newest(place) if name and place.is_dir() else None
        if found:
            if place == Path(name) and "/" not in name:
                _check_own(found, name)
            return found
    known = ", ".join(sorted(path.parent.name for path in (HOME / "profiles").glob("*/config.yaml")))
    raise CaxflowError(f"there is no profile {name!r}", f"the profiles of this clone are {known}")


def _check_own(file: Path, name: str) -> None:
    """Refuse a profile that is in the working directory by another account's doing: it says what is run."""
    for path in (file.parent, file) if file.parent != Path() else (file,):
        if why := owners.foreign(path.stat()):
            what = f"profile {name}: {path.absolute()} {why}"
            raise CaxflowError(what, "call from another folder, as the clone, or name a profile by its path")


def newest(folder: Path) -> Path | None:
    """Return the profile in a folder: of several, the one for the newest Snakemake; None if it has none."""
    names = [path.name for path in folder.iterdir()]
    found = [(int(match[1] or 0), name) for name in names if (match := _PROFILE.fullmatch(name))]
    found = [each for each in found if each[0] <= SNAKEMAKE]
    return folder / max(found, key=lambda each: each[0])[1] if found else None


def _of_workflow(directory: Path, named: str | None, snakefile: str | os.PathLike | None) -> list[Path]:
    """Return the profile of the workflow, where Snakemake finds one, also without being asked."""
    if named == "none":
        return []
    if named and (directory / named).is_file():
        return [directory / named]
    name = named or "default"
    beside = (directory / (snakefile or "workflow/Snakefile")).parent
    for folder in (directory / name, directory / "profiles" / name, beside / "profiles" / name):
        if folder.exists():
            return [profile_file(str(folder))]
    return []


def _files(said: Any, folder: Path, directory: Path) -> list[Path]:
    """Return what ``configfile`` of a profile names: a file beside it, or several where snakemake is."""
    if isinstance(said, Mapping):
        return []
    if isinstance(said, list):
        return [directory / str(_as_snakemake(each)) for each in said]
    name = _expanded(said)
    return [folder / name if (folder / name).exists() else directory / name]


def _words(said: Any) -> list[str]:
    """Return what ``config`` of a profile says as words of a command line, as Snakemake makes them of it."""
    if isinstance(said, Mapping):
        return [f"{key}={_quoted(_as_snakemake(value))}" for key, value in said.items()]
    if isinstance(said, list):
        return [str(_as_snakemake(each)) for each in said]
    return [_expanded(said)]


def _quoted(value: Any) -> Any:
    """Return text that looks like a number in quotes."""
    try:
        return repr(value) if isinstance(value, str) and float(value) is not None else value
    except ValueError:
        return value


def _as_snakemake(value: Any) -> Any:
    """Return a value of a profile as Snakemake reads it."""
    return each_word(value, _read)


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return str(text)


def _expanded(said: Any) -> str:
    # Unlike that of pathlib, it leaves the home of an unknown account alone, as Snakemake does.
    return os.path.expanduser(os.path.expandvars(str(_as_snakemake(said))))  # noqa: PTH111


def _pairs(words: Iterable[str], where: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            shown = "a word" if "//" in word else repr(word)  # an address may have a password
            raise CaxflowError(f"{where}: {shown} is no key with a value", "write it as dry=true")
        value = value.strip("'\"")
        pairs = merge(pairs, {key: read_value(value) if value else None})
    return pairs


def _check_plain(said: Mapping, file: Path) -> None:
    if _TEMPLATES in said:
        raise CaxflowError(
            f"{file}: {_TEMPLATES}: templates are not filled in",
            "take it out, and write the values themselves",
        )


def _check_clear(value: Any, file: Path, option: str, key: str, inside: bool = False) -> None:
    """Refuse what Snakemake, which reads profiles by itself, would hand on as something else."""
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            _check_clear(item, file, option, key, True)
    elif isinstance(value, Word):
        read = _read(value)
        if isinstance(read, bool) and value.lower() in ("true", "false"):
            return
        if read != value and (str(read) != value or not isinstance(read, int | float)):
            raise _misread(value, file, option)
    elif option == "config" and (value is None or (inside and _read(repr(value)) != value)):
        what = "null" if value is None else repr(value)
        raise CaxflowError(
            f"{file}: config: Snakemake turns {what}, in {key}, into other text",
            "write it in the file that configfile names",
        )


def _check_numbers(value: Any, file: Path, option: str) -> None:
    """Refuse a number that is another one to Snakemake, as ``050``."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, Word):
            read = _read(each)
            if isinstance(read, int | float) and not isinstance(read, bool) and read != number(each):
                raise _misread(each, file, option)


def _misread(word: Word, file: Path, option: str) -> CaxflowError:
    read = str(_read(word))
    return CaxflowError(
        f"{file} line {word.line}: {option}: Snakemake reads {str(word)!r} as "
        f"{'a date' if read == word else repr(read)}",
        f"write '{word}' in quotes if it is text, else a plain number, true or false",
    )
