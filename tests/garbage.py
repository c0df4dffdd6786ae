"""Each test clears up after itself: what it left behind fails that test, and no later one.

Fixtures and hooks for `conftest`, which imports them.
"""

import contextlib
import ctypes
import gc
import os
import signal
import time
import traceback
import warnings
from pathlib import Path

import pytest

from caxflow import processes

PATIENCE = 30  # s, for a process that is about to end
# Ids of processes that live on after the test that started them, since a fixture of several tests ends them.
SERVICES: set[int] = set()
_FAILURES = pytest.StashKey[list[BaseException]]()
# Of <sched.h> and <sys/mount.h>.
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def pytest_configure() -> None:
    """Keep what tests mount among the processes of the tests: where these are killed, no mount is left.

    A mount that is left makes every later run fail, when pytest clears old folders away.
    Python has `os.unshare` since 3.12 only. Who may not do this may not mount either.
    """
    libc = ctypes.CDLL(None)
    if libc.unshare(CLONE_NEWNS) == 0:
        libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Take a note of what failed, for `_cleared_up`."""
    if call.excinfo:
        item.stash.setdefault(_FAILURES, []).append(call.excinfo.value)


@pytest.fixture(scope="module", autouse=True)
def _what_was_there_before():
    """Leave what earlier tests and imports made out of the collections of this module's tests, for speed."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _cleared_up(request):
    """When all else of the test has been torn down, end its processes and collect its garbage."""
    before = _children()
    yield
    # pytest keeps the values of fixtures, and the frames of a failure, until the next test has begun.
    request.node.funcargs.clear()
    left = _end(_children() - before - SERVICES)
    with warnings.catch_warnings():
        if left:
            # The failure says it; pytest would keep a warning beside it for the next test.
            warnings.simplefilter("ignore", ResourceWarning)
        for error in request.node.stash.get(_FAILURES, []):
            _release(error)
        gc.collect()
    if left:
        pytest.fail(f"left running: {', '.join(left)}", pytrace=False)


def _release(error: BaseException | None) -> None:
    """Empty the frames of an error, and of those that led to it."""
    while error:
        traceback.clear_frames(error.__traceback__)
        for frame, _ in traceback.walk_tb(error.__traceback__):
            frame.f_locals  # noqa: B018 (brings the copy that pytest has looked at up to date)
        error = error.__cause__ or error.__context__


def _children() -> set[int]:
    """Process ids of the children of this process that run."""
    found = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found |= {int(pid) for pid in file.read_text().split()}
    return {pid for pid in found if (seen := processes.status(pid)) and seen.state != "Z"}


def _end(children: set[int]) -> list[str]:
    """End processes that do not end by themselves; their commands."""
    deadline = time.monotonic() + PATIENCE
    while (running := children & _children()) and time.monotonic() < deadline:
        time.sleep(0.02)
    commands = []
    for pid in running:
        with contextlib.suppress(OSError):
            commands.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
            # With all that it started, where it is in a session of its own.
            (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGKILL)
    return commands
