"""Waiting for an event that a test has no other word of."""

import time
from collections.abc import Callable


def until(ready: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until `ready` returns something true; `what` that is, for the failure after so many seconds."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
