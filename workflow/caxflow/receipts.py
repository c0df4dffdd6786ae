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
import stat
from collections.abc import Iterator
from pathlib import Path

from caxflow import __version__, abilities, clock, owners, plainfile, preview, processes
from caxflow.errors import CaxflowError
from caxflow.targets import Target

# What to do about a damaged one.
REMOVE = "remove it; the fact is proven again"
# What to do where files cannot be made or removed.
MEND = "mend the work directory"
_LARGEST = 1 << 30  # bytes; the manifest of a million files has a tenth


def who() -> dict[str, str | int]:
    """Host, user and process (see `caxflow.processes`) that do the work; no secrets."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        user = f"uid{os.getuid()}"
    return {"host": socket.gethostname(), "user": user} | processes.identify()


def now() -> datetime.datetime:
    """The time in UTC, to the second, as `caxflow.clock.now` has it."""
    return clock.now().replace(tzinfo=datetime.UTC, microsecond=0)


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
        plainfile.replace(target, text.encode(), sync=True)
        with contextlib.suppress(OSError):  # it is written, and whole
            abilities.sync_folder(target.parent)
    except OSError as error:
        raise CaxflowError(f"{target} cannot be written: {error.strerror}", MEND) from error


def touch(path: str | os.PathLike) -> None:
    """Make an empty file, or empty it, in one step; its time of modification is now."""
    target = Path(path)
    preview.refuse(f"writing {target}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = owners.open_own(target, os.O_WRONLY | os.O_CREAT)
        try:
            os.ftruncate(handle, 0)
            os.utime(handle)
        finally:
            os.close(handle)
        abilities.sync_folder(target.parent)
    except OSError:
        write(path, "")  # in the place of what is no file


def remove(path: str | os.PathLike) -> None:
    """Remove a file of the work directory, if it is there."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise CaxflowError(f"{path} cannot be removed: {error.strerror}", MEND) from error


def names(folder: Path) -> list[str]:
    """Return the names of what is in a folder of the work directory, sorted; none if there is no folder."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CaxflowError(f"{folder} cannot be read: {error.strerror}", MEND) from error


def read(path: str | os.PathLike) -> dict:
    """Read a JSON receipt.

    Raises
    ------
    CaxflowError
        If it is missing or not JSON; a damaged receipt proves nothing.
    """
    with intact(path):
        content = json.loads(content_of(path))
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        return content


def content_of(path: str | os.PathLike) -> bytes:
    """Return the bytes of a receipt.

    Raises
    ------
    CaxflowError
        If it cannot be read, or something else is in its place.
    """
    try:
        # A pipe in its place must not be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if why := _strange(found, path):
                raise CaxflowError(f"receipt {path} is not trusted: it {why}", REMOVE)
            if stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST:
                with open(handle, "rb", closefd=False) as stream:
                    return stream.read()
        finally:
            os.close(handle)
    except OSError as error:
        mend = "" if isinstance(error, FileNotFoundError) else REMOVE
        raise CaxflowError(f"receipt {path} cannot be read: {error.strerror}", mend) from error
    odd = f"it has {found.st_size} bytes" if stat.S_ISREG(found.st_mode) else "it is no file"
    raise CaxflowError(f"receipt {path} is damaged: {odd}", REMOVE)


def _strange(found: os.stat_result, path: str | os.PathLike) -> str:
    """Return why others may have written a receipt; empty if only we may, or the one whose folder it is."""
    why = owners.foreign(found)
    if why and Path(path).parent.stat().st_uid == found.st_uid:
        why = ""
    return why or owners.shared(found)


@contextlib.contextmanager
def intact(path: str | os.PathLike) -> Iterator[None]:
    """While a receipt is understood: what is missing there, or of another type than it must be, is damage."""
    try:
        yield
    except CaxflowError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise CaxflowError(f"receipt {path} is damaged: {what}", REMOVE) from error
