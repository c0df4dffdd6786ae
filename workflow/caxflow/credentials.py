"""Passwords and keys: where they come from, and that no other program gets them.

Each has a name, `NAMES`, and comes from the variable of that name, from the file that ``NAME_FILE`` names, or
from systemd, as ``LoadCredential=NAME:/path`` in a unit has it.

A variable would be in ``/proc/PID/environ`` of this process and of all that it starts, where every program of
the same account reads it: a processor that of its parents. So a main process takes what it was given out of
its environment (`hold`), and its jobs ask it (`share`), over a socket that answers its own descendants alone,
and none that has the mark of `caxflow.processes`: those are processors.
"""

import contextlib
import functools
import json
import os
import re
import secrets
import socket
import stat
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from caxflow import errors, processes
from caxflow.errors import CaxflowError

DATABASE = ("MONGODB_PASSWORD", "MONGO_PASSWORD")
SLOW_CONTROL = "SC_API_KEY"
WEBHOOK, MAIL_USER, MAIL_PASSWORD = "CAXFLOW_WEBHOOK", "CAXFLOW_MAIL_USER", "CAXFLOW_MAIL_PASSWORD"
NAMES = (*DATABASE, SLOW_CONTROL, WEBHOOK, MAIL_USER, MAIL_PASSWORD)

# Whom to ask for them, in the environment of jobs.
SOCKET = "CAXFLOW_CREDENTIALS"
# What else is called like a secret; a path is none.
_SECRET = re.compile(
    r"(?!.*_(FILE|PATH|DIR|DIRECTORY)$).*(PASS|SECRET|TOKEN|KEY|WEBHOOK|CREDENTIAL|COOKIE|JWT)", re.IGNORECASE
)
_IN_ADDRESS = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_LONGEST = 65536  # bytes of a file, or of an answer
_PATIENCE = 10  # s
_PEER = struct.Struct("iII")  # struct ucred: process, user, group
_PR_SET_DUMPABLE = 4  # linux/prctl.h

_held: dict[str, str] = {}


def is_secret(name: str, value: str = "") -> bool:
    """Return whether a variable is to be kept from other programs and logs, by its name or for its value."""
    return name.removesuffix("_FILE") in NAMES or bool(_SECRET.match(name) or _IN_ADDRESS.search(value))


def get(name: str) -> str | None:
    """Return a password or key; None where there is none.

    Raises
    ------
    CaxflowError
        If its file cannot be read, or may be read by others.
    """
    # Asked first: who knows one already may be hidden in `/proc`.
    given = _asked(os.environ.get(SOCKET, "")).get(name)
    return _known(
        name, os.environ.get(name) or _held.get(name) or _from_file(name) or _from_systemd(name) or given
    )


def values() -> dict[str, str]:
    """Return what no log may have: the values of variables that are secret, and their names."""
    known = _held | {name: value for name, value in os.environ.items() if is_secret(name)}
    known.pop(MAIL_USER, None)
    return {value: name for name, value in known.items() if len(value) > errors.SHORT}


def hold() -> None:
    """Take them out of the environment of this process, for it and for what reads its ``/proc``."""
    for name in NAMES:
        if value := os.environ.get(name):
            _held[name] = value
            _known(name, value)
            _wipe(name)
            del os.environ[name]


def share() -> None:
    """`hold` them, and give them to the jobs that this process will start."""
    # Asked by its jobs, not by those of its jobs: `/proc` may hide processes that hold a password.
    _held.update(_asked(os.environ.get(SOCKET, "")))
    hold()
    if not _held:
        return
    name = f"caxflow-{secrets.token_hex(16)}"
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"\0{name}")
    server.listen(128)
    os.environ[SOCKET] = name
    threading.Thread(target=_answer, args=(server,), daemon=True).start()


def _answer(server: socket.socket) -> None:
    while True:
        try:
            peer = server.accept()[0]
        except OSError:  # too many files are open, for a while
            time.sleep(0.1)
            continue
        with contextlib.suppress(OSError), peer:
            peer.settimeout(_PATIENCE)
            pid, user, _ = _peer(peer)
            if user == os.getuid() and _is_job(pid):
                peer.sendall(json.dumps(_held).encode())


def _peer(other: socket.socket) -> tuple[int, int, int]:
    """Return process, user and group at the other end."""
    return _PEER.unpack(other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))


def _is_job(pid: int) -> bool:
    """Return whether a process descends from this one, and is no processor's."""
    if processes.is_marked(pid):
        return False
    while pid != os.getpid():
        now = processes.status(pid)
        if now is None or now.parent < 1:
            return False
        pid = now.parent
    return True


@functools.cache
def _asked(name: str) -> Mapping[str, str]:
    """Return what the main process gives; nothing where there is none."""
    if not name:
        return {}
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(_PATIENCE)
            server.connect(f"\0{name}")
            if _peer(server)[1] != os.getuid():  # others may take the name once it is free
                return {}
            with server.makefile("rb") as stream:
                return json.loads(stream.read(_LONGEST) or b"{}")
    except (OSError, ValueError):
        return {}


def _from_file(name: str) -> str | None:
    path = os.environ.get(f"{name}_FILE")
    return _read(Path(path), f"{name}_FILE", stat.S_IRWXG | stat.S_IRWXO) if path else None


def _from_systemd(name: str) -> str | None:
    # For its access lists, systemd's files may have bits for a group.
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, name) if folder else None
    return _read(path, "LoadCredential", stat.S_IRWXO) if path and path.exists() else None


def _read(path: Path, about: str, others: int) -> str | None:
    """Return the text of a file, without the end of its line."""
    try:
        # A pipe in its place has it once at most, and must not be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            kept = os.fstat(stream.fileno())
            if not stat.S_ISREG(kept.st_mode):
                raise CaxflowError(f"{about}: {path} is no file", "name a file: each job reads it again")
            if kept.st_mode & others or kept.st_uid not in (0, os.geteuid()):
                fix = f"chown it to this account, and chmod 600 {path}"
                raise CaxflowError(f"{about}: {path} belongs to, or is open to, others", fix)
            text = stream.read(_LONGEST).decode().rstrip("\r\n")
            if not text:
                raise CaxflowError(f"{about}: {path} is empty", "write into it what it is to hold")
            return text
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise CaxflowError(f"{about}: {path} cannot be read: {why}", "check its path and its owner") from None


def _known(name: str, value: str | None) -> str | None:
    """Keep a value out of all messages, and this process from being read by others of its account."""
    if value:
        if name != MAIL_USER:  # a word that may be anywhere
            errors.hide(name, value)
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
    return value


def _wipe(name: str) -> None:
    """Overwrite a variable where the kernel shows it."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        library = ctypes.CDLL(None)
        library.getenv.restype = ctypes.c_void_p
        if place := library.getenv(name.encode()):
            ctypes.memset(place, 0, len(os.environb[name.encode()]))
