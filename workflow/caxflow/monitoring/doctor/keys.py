"""Who may log in to this account with a key, and what each may do then."""

import itertools
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caxflow import legible
from caxflow.config import Settings, Site
from caxflow.errors import CaxflowError
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding

ABOUT = "keys of this account"
_TYPE = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-\S+")
_OPTION = re.compile(r'([\w-]+)(?:="((?:[^"\\]|\\.)*)")?,?')


@dataclass(frozen=True)
class Key:
    """A line of authorized_keys: what it is called, its options by name in lower case."""

    name: str
    options: dict[str, str]

    @property
    def command(self) -> list[str] | None:
        """The words of what it starts in any case; None if that is a shell."""
        if "command" not in self.options:
            return None
        try:
            return shlex.split(self.options["command"])
        except ValueError:
            return [self.options["command"]]


def file() -> Path:
    """Return where OpenSSH looks for the keys of this account, unless it is set up otherwise."""
    return Path.home() / ".ssh" / "authorized_keys"


def read(text: str) -> Iterator[Key]:
    """Yield the keys of an authorized_keys file, as sshd(8) describes it."""
    for number, line in enumerate(text.splitlines(), 1):
        rest, options = line.strip(), {}
        if not rest or rest.startswith("#"):
            continue
        while not _TYPE.match(rest):
            found = _OPTION.match(rest)
            if not found or not found[0]:
                break
            options[found[1].lower()] = re.sub(r'\\(["\\])', r"\1", found[2] or "")
            rest = rest[found.end() :].lstrip()
        words = rest.split(None, 2)
        if len(words) > 1 and _TYPE.fullmatch(words[0]):
            yield Key(legible.line(words[2], 60) if len(words) > 2 else f"line {number}", options)


def examine(settings: Settings) -> Iterator[Finding]:
    """Say what each key is tied to, and which open a shell."""
    try:
        text = file().read_text(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise CaxflowError(f"{error.filename}: {error.strerror}", "see that its owner may read it") from error
    shells = []
    for key in read(text):
        if key.command is None:
            partner = next((site for site in _callers(settings) if _is_of(key, site)), None)
            if partner:
                yield _open(settings, key, partner)
            else:
                shells.append(key.name)
        elif "serve" in key.command or any("caxflow" in Path(word).name for word in key.command[:2]):
            yield _serves(key, key.command)
        else:
            said = f"{key.name} starts {legible.line(key.options['command'], 100)}, and nothing else"
            yield _restrictive(key, Finding(ABOUT, GOOD, said))
    if shells:
        yield Finding(ABOUT, GOOD, f"a shell is opened by: {', '.join(shells)}")


def _serves(key: Key, command: list[str]) -> Finding:
    """Return what is to be said of a key that starts ``caxflow serve``."""
    roots = [word for before, word in itertools.pairwise(command) if before == "--root"]
    roots += [word.partition("=")[2] for word in command if word.startswith("--root=")]
    how = (
        " ".join(word for word in ("--read-only", "--no-delete") if word in command) or "all that copies need"
    )
    said = f"{key.name} starts caxflow serve: {how}, below {', '.join(roots) or 'nothing'}"
    mend = f"correct its command in {file()}"
    if not roots:
        return Finding(ABOUT, BAD, f"{said}: it has no --root, and serves nothing", mend)
    if not shutil.which(command[0]):
        return Finding(ABOUT, DOUBTFUL, f"{said}: there is no {command[0]} on the PATH here", mend)
    if missing := [root for root in roots if not Path(root).is_dir()]:
        return Finding(ABOUT, DOUBTFUL, f"{said}: {missing[0]} is no folder", mend)
    return _restrictive(key, Finding(ABOUT, GOOD, said))


def _restrictive(key: Key, finding: Finding) -> Finding:
    if "restrict" in key.options:
        return finding
    mend = f"begin its line in {file()} with restrict,"
    return Finding(ABOUT, DOUBTFUL, f"{finding.said}, but it may forward ports and agents", mend)


def _callers(settings: Settings) -> Iterator[Site]:
    """Yield the sites whose own workflow reaches this one."""
    for site in settings.sites.values():
        if settings.here.name != site.name and settings.here.name in (*site.pull_from, *site.push_to):
            yield site


def _is_of(key: Key, site: Site) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(site.name)}(?![\w-])", key.name) is not None


def _open(settings: Settings, key: Key, site: Site) -> Finding:
    """Return what is to be said of the key of a partner that opens a shell."""
    how = "--no-delete" if settings.here.name in site.push_to else "--read-only"
    roots = " ".join(f"--root {shlex.quote(root)}" for root in dict.fromkeys(settings.here.roots.values()))
    options = f'restrict,command="caxflow serve {roots} {how} --name {site.name}"'
    said = f"{key.name}, by its name that of site {site.name}, opens a shell"
    return Finding(ABOUT, DOUBTFUL, said, f"if that is not wanted, begin its line in {file()} with {options}")
