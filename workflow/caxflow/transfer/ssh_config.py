"""The user's ``ssh_config`` and known hosts for paramiko, which reads only a part of what OpenSSH does."""

import fnmatch
import re
import shlex
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from caxflow.errors import CaxflowError
from caxflow.transfer.place import Place

_DEEPEST = 16  # files that include one another, as in OpenSSH
REVOKED = "the host key is revoked"


def settings(place: Place) -> dict:
    """What ``ssh_config`` says about the place's host, by key in lower case; the user's file comes first.

    Raises
    ------
    CaxflowError
        If a file that the site's file names is missing, or holds what paramiko cannot read.
    """
    path = Path(place.ssh_config or "~/.ssh/config").expanduser()
    if place.ssh_config and not path.is_file():
        raise CaxflowError(f"{place.site}: there is no {path}", "mend access.ssh_config of the site")
    try:
        lines = _lines(path, "~/.ssh")
        if not place.ssh_config:
            lines += ["Host *", *_lines(Path("/etc/ssh/ssh_config"), "/etc/ssh")]
        return paramiko.SSHConfig.from_text("\n".join(lines)).lookup(place.host)
    except (paramiko.SSHException, ImportError, UnicodeError, ValueError) as error:
        raise CaxflowError(
            f"{place.site}: {path} holds what paramiko cannot read ({str(error).splitlines()[0]})",
            "install ssh, or give the site an ssh_config of its own",
        ) from None


def _lines(path: Path, directory: str, depth: int = 0) -> list[str]:
    """The lines of a file, those that it includes in their place."""
    if depth > _DEEPEST or not path.is_file():
        return []
    block, found = "Host *", []
    for line in path.read_text().splitlines():
        keyword, _, value = re.sub(r"[\s=]+", " ", line.strip(), count=1).partition(" ")
        if keyword.lower() in ("host", "match"):
            block = line
        if keyword.lower() != "include":
            found.append(line)
            continue
        included = [each for name in shlex.split(value) for each in _matching(name, directory)]
        within = [text for each in included for text in _lines(each, directory, depth + 1)]
        if block != "Host *" and any(re.match(r"\s*(?i:host|match)\b", text) for text in within):
            raise ValueError(f"{value} is included for some hosts and has conditions of its own")
        found += within
        found.append(block)
    return found


def _matching(name: str, directory: str) -> list[Path]:
    pattern = Path(directory).expanduser() / Path(name).expanduser()
    return sorted(Path("/").glob(str(pattern.absolute().relative_to("/"))))


def known_hosts(place: Place, found: dict) -> list[Path]:
    """The files of known hosts that there are."""
    if place.known_hosts:
        names = [place.known_hosts]
    else:
        names = [*_paths(found, "userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")]
        names += _paths(found, "globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
    return [path for path in (Path(name).expanduser() for name in names) if path.is_file()]


def _paths(found: dict, key: str, default: str) -> list[str]:
    value = found.get(key, default)
    # paramiko takes off the quotes around a value, so that one path with a blank looks like two.
    return [value] if Path(value).expanduser().is_file() else shlex.split(value)


def marked(paths: list[Path], marker: str) -> list[list[str]]:
    """Lines of known hosts with a marker, which paramiko skips: host patterns, type of key, key."""
    lines = [line.split() for path in paths for line in path.read_text(errors="replace").splitlines()]
    return [fields[1:4] for fields in lines if len(fields) >= 4 and fields[0] == marker]


def _listed(name: str, port: int) -> str:
    return f"[{name}]:{port}" if port != 22 else name


def has_authority(paths: list[Path], name: str, port: int) -> bool:
    """Whether a host's key may be certified by an authority that is known."""
    return any(
        fnmatch.fnmatchcase(each, pattern)
        for each in (name, _listed(name, port))
        for patterns, _, _ in marked(paths, "@cert-authority")
        for pattern in patterns.replace("[", "[[]").split(",")
    )


def _add(keys: paramiko.HostKeys, line: str) -> None:
    # paramiko's own reader stumbles over markers.
    if not line or line[0] in "#@":
        return
    try:
        entry = HostKeyEntry.from_line(line)
    except InvalidHostKey:
        return
    for name in entry.hostnames if entry else ():
        keys.add(name, entry.key.get_name(), entry.key)


def load_known_hosts(client: paramiko.SSHClient, paths: list[Path], name: str, port: int, alias: str) -> None:
    """Have a client know hosts; `name` is what the host is listed under, or `alias` if there is one.

    Raises
    ------
    paramiko.SSHException
        `REVOKED`, if a key that is known of the host is marked as revoked.
    """
    keys = client.get_host_keys()
    for path in paths:
        for line in path.read_text(errors="replace").splitlines():
            _add(keys, line.strip())
    if alias and port != 22:  # OpenSSH looks an alias up without the port
        for kind, key in (keys.lookup(alias) or {}).items():
            keys.add(f"[{alias}]:{port}", kind, key)
    revoked = {fields[2] for fields in marked(paths, "@revoked")}
    if revoked & {key.get_base64() for key in (keys.lookup(_listed(name, port)) or {}).values()}:
        raise paramiko.SSHException(REVOKED)
