"""Interpreters as they are at some sites."""

import sys
from pathlib import Path


def without_xxhash(folder: Path) -> str:
    """Path of a Python that can compute no XXH3, as at a site where nothing is installed."""
    return _program(
        folder / "simple-python",
        "import ctypes",
        "def refuse(*_, **__): raise OSError",
        "ctypes.CDLL = refuse",
        "sys.modules['xxhash'] = None",
    )


def without(folder: Path, *modules: str) -> str:
    """Path of a Python that was built without some modules."""
    return _program(
        folder / f"without-{'-'.join(modules)}", f"sys.modules.update(dict.fromkeys({modules!r}))"
    )


def without_threads(folder: Path) -> str:
    """Path of a Python of an account that may have no more threads."""
    return _program(
        folder / "single-python",
        "import _thread",
        'def refuse(*_, **__): raise RuntimeError("can\'t start new thread")',
        "_thread.start_new_thread = _thread.start_joinable_thread = refuse",
    )


def failing_at(folder: Path, call: str, error: str) -> str:
    """Path of a Python in which a function of ``os`` or ``fcntl`` raises an error, given as an expression."""
    return _program(
        folder / f"fails-at-{call}",
        "import fcntl, os",
        f"def fail(*_, **__): raise {error}",
        f"{call} = fail",
    )


def limited(folder: Path, limit: str) -> str:
    """Path of a Python with a limit, as ``-v 200000``."""
    path = folder / "limited-python"
    path.write_text(f'#!/bin/sh\nulimit {limit}\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


def with_umask(folder: Path, umask: str) -> str:
    """Path of a Python of an account with another umask, as ``000``."""
    path = folder / "python-with-umask"
    path.write_text(f'#!/bin/sh\numask {umask}\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


def of_version(folder: Path, version: str) -> str:
    """Path of a Python that says it is of another version."""
    numbers = tuple(map(int, version.split(".")))
    return _program(
        folder / f"python-{version}", f"sys.version, sys.version_info = '{version} (default)', {numbers}"
    )


def _program(path: Path, *lines: str) -> str:
    called = ["program = sys.argv.pop(2)", "del sys.argv[0]", "exec(program)"]  # as with -c
    path.write_text("\n".join([f"#!{sys.executable}", "import sys", *lines, *called, ""]))
    path.chmod(0o755)
    return str(path)


def without_locks(folder: Path) -> str:
    """Path of a Python whose files cannot be locked, as on a file system that is mounted without locks."""
    return _program(
        folder / "lockless-python",
        "import fcntl",
        "def refuse(*_): raise OSError(37, 'No locks available')",
        "fcntl.flock = refuse",
    )
