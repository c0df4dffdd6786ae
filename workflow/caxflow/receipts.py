"""Receipts: small files that state a proven fact and how it was proven.

A receipt is JSON (the ``.checksum`` targets are the manifest itself, see `caxflow.files.manifest`). It is
written once, atomically and last: where it stands, the fact holds.
"""

import contextlib
import datetime
import getpass
import json
import os
import socket
import tempfile
from pathlib import Path

from caxflow import __version__, preview, processes
from caxflow.errors import CaxflowError
from caxflow.targets import Target

# What to do about a damaged one.
REMOVE = "remove it; the fact is proven again"


def who() -> dict[str, str | int]:
    """Host, user and process (see `caxflow.processes`) that do the work; no secrets."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        user = f"uid{os.getuid()}"
    return {"host": socket.gethostname(), "user": user} | processes.identify()


def now() -> datetime.datetime:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def statement(target: Target, **facts: object) -> dict:
    """Begin a receipt: what is stated, by whom, when, with which version; then the `facts`."""
    site, run, stage = target
    head = {"stage": stage, "site": site, "run": str(run), "at": now().isoformat(), "by": who()}
    return head | {"caxflow": __version__} | facts


def write(path: str | os.PathLike, content: dict | list | str) -> None:
    """Write text, or JSON, so that `path` is absent or whole, even after a crash of the machine."""
    text = content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=True) + "\n"
    target = Path(path)
    preview.refuse(f"writing {target}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fchmod(stream.fileno(), 0o644)
                os.fsync(stream.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        with contextlib.suppress(OSError):  # it is written, and whole
            sync_folder(target.parent)
    except OSError as error:
        raise CaxflowError(
            f"{target} cannot be written: {error.strerror}", "mend the work directory"
        ) from error


def read(path: str | os.PathLike) -> dict:
    """Read a JSON receipt.

    Raises
    ------
    CaxflowError
        If it is missing or not JSON; a damaged receipt proves nothing.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except OSError as error:
        raise CaxflowError(f"receipt {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CaxflowError(f"receipt {path} is damaged: {error}", REMOVE) from error
    return content


def sync_folder(folder: str | os.PathLike) -> None:
    """Make a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
