"""Holding bytes back, so that a site's link is left to others, too."""

import fcntl
import os
import struct
import threading
import time
from contextlib import contextmanager, suppress

from caxflow import owners, preview

_STEP = 0.25  # seconds for which bytes pass at once
_LEAST, _MOST = 1 << 10, 1 << 20  # bytes that pass at once
_TIME = struct.Struct("d")
_LONGEST = 60.0  # seconds ahead that others may have reserved; more is of another boot, whose clock was ahead


class Limiter:
    """Holds bytes back so that no more than `rate` of them pass in a second.

    Parameters
    ----------
    rate : float
        Bytes per second.
    sleep : callable
        Called with seconds.
    ledger : str, optional
        Path of a file through which processes of this machine share the limit; made if it is not there.
    """

    def __init__(self, rate: float, sleep, ledger: str | None = None):
        self._rate, self._sleep, self._ledger = rate, sleep, ledger
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def most(self) -> int:
        """Bytes that are to pass at once, so that neither end is silent for long."""
        return max(_LEAST, min(_MOST, int(self._rate * _STEP)))

    def __call__(self, count: int, *, wait: bool = True) -> None:
        """Have `count` bytes pass; without `wait`, those that follow pass later."""
        with self._lock, self._shared():
            now = time.monotonic()
            # Time not used is lost after 0.1 s: no burst after a pause.
            begin = max(self._free_at, now - 0.1)
            self._free_at = begin + count / self._rate
            held_back = begin - now
        if wait and held_back > 0:
            self._sleep(held_back)

    @contextmanager
    def _shared(self):
        """Begin with the time until which others have reserved the link, and tell them of ours.

        Where the ledger cannot be written, the limit is this process's own.
        """
        fd = -1
        with suppress(OSError):
            if self._ledger and not preview.only_looks():
                fd = owners.open_own(self._ledger, os.O_RDWR | os.O_CREAT)
        if fd < 0:
            yield
            return
        try:
            with suppress(OSError):  # a file system without locks: now and then a little too fast
                fcntl.flock(fd, fcntl.LOCK_EX)
            stated = os.pread(fd, _TIME.size, 0)
            free_at = _TIME.unpack(stated)[0] if len(stated) == _TIME.size else 0.0
            self._free_at = free_at if free_at < time.monotonic() + _LONGEST else 0.0
            yield
            with suppress(OSError):  # a full disk
                os.pwrite(fd, _TIME.pack(self._free_at), 0)
        finally:
            os.close(fd)


class Limited:
    """A channel through which bytes pass as `limit` lets them, in both directions.

    A login's bytes are counted and not held back: servers and clients are patient for a time only.

    Attributes
    ----------
    limit : Limiter or None
    logged_in : bool
    """

    def __init__(self, channel, limit: Limiter | None):
        self._channel, self.limit = channel, limit
        self.logged_in = False

    def read_into(self, view) -> int:
        """Read what there is, at least one byte; 0 at the end."""
        return self._pass(self._channel.read_into, view)

    def write_some(self, view) -> int:
        """Write as much as goes, at least one byte; return how much."""
        return self._pass(self._channel.write_some, view)

    def _pass(self, act, view) -> int:
        limit = self.limit
        if limit is None:
            return act(view)
        count = act(view[: limit.most])
        limit(count, wait=self.logged_in)
        return count
