"""Holding bytes back, so that a site's link is left to others, too."""

import fcntl
import os
import struct
import threading
import time
from contextlib import contextmanager, suppress

from caxflow.files.listing import os_error

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

    def __call__(self, count: int) -> None:
        with self._lock, self._shared():
            now = time.monotonic()
            # Time not used is lost after 0.1 s: no burst after a pause.
            begin = max(self._free_at, now - 0.1)
            self._free_at = begin + count / self._rate
            wait = begin - now
        if wait > 0:
            self._sleep(wait)

    @contextmanager
    def _shared(self):
        """Begin with the time until which others have reserved the link, and tell them of ours."""
        if not self._ledger:
            yield
            return
        try:
            fd = os.open(self._ledger, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise os_error(error, self._ledger) from None
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
