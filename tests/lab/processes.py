"""What runs below a site's server."""

from pathlib import Path


def below(server: int) -> list[int]:
    """All processes that the process `server` has led to, those that it started first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, parents = [], [server]
    while parents:
        parents = [child for parent in parents for child in children.get(parent, [])]
        found += parents
    return found


def helpers(server: int) -> list[int]:
    """Helpers and SFTP servers below the process `server`."""
    found = []
    for pid in below(server):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"\0-c\0import" in command or b"internal-sftp" in command:
            found.append(pid)
    return found
