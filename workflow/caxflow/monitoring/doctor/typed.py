"""Commands as one types them: at a partner, and those that take its host key for known."""

import shlex
import subprocess

from caxflow.transfer import Place


def there(place: Place, command: str) -> str:
    """Return a command at a partner."""
    if not place.remote:
        return command
    words = ["ssh", *(["-F", place.ssh_config] if place.ssh_config else [])]
    words += [*(["-p", str(place.port)] if place.port else []), *(["-J", place.jump] if place.jump else [])]
    return shlex.join([*words, f"{place.user}@{place.host}" if place.user else place.host, command])


def host_key(place: Place, *, changed: bool) -> str:
    """Return commands that take a host's key for known; one that has changed is forgotten first."""
    known = {
        "hostname": place.host,
        "port": str(place.port or 22),
        "userknownhostsfile": "~/.ssh/known_hosts",
    }
    # The name may be an alias of ssh_config, which ssh-keyscan does not read.
    said = _asked(["ssh", "-G", *(["-F", place.ssh_config] if place.ssh_config else []), place.host])
    known |= dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    host, port, file = known["hostname"], known["port"], known["userknownhostsfile"].split()[0]
    named = host if port == "22" else f"[{host}]:{port}"
    scan = f"{shlex.join(['ssh-keyscan', *(['-p', port] if port != '22' else []), host])} >> {file}"
    return f"{shlex.join(['ssh-keygen', '-R', named, '-f'])} {file} && {scan}" if changed else scan


def _asked(command: list[str]) -> str:
    """Return all that a command printed; nothing if it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
