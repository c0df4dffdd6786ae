"""Runs a part of a test in a process of its own, with so much memory and so much time of a processor."""

import contextlib
import os
import resource
import sys
import traceback
from pathlib import Path


def within(megabytes: int, seconds: int, function, *arguments) -> None:
    """Call a function that may take that much more memory than this process has, and so many s of a core.

    What it asserts, raises or ends by fails the test.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with os.fdopen(writing, "w") as told, contextlib.suppress(BaseException):
            told.write(_called(megabytes, seconds, function, arguments))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = told.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"ended by signal {os.WTERMSIG(status)}: {seconds} s of a core were over?"
    assert said == "", said


def _called(megabytes: int, seconds: int, function, arguments) -> str:
    """Return how a call failed; nothing if it did not."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + (megabytes << 20)
    spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + seconds, int(spent) + seconds))
    try:
        function(*arguments)
    except BaseException:
        kind, error, _ = sys.exc_info()
        return traceback.format_exc()[:5000] or f"{kind}: {error}"
    return ""
