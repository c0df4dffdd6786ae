"""How far a transfer is, and what became of it."""

import threading
import time
from dataclasses import dataclass, field

from caxflow.files.manifest import Manifest


@dataclass(frozen=True)
class Progress:
    """A moment of a transfer.

    `phase` is ``connecting``, ``comparing`` (with what is there already), ``moving`` or ``publishing``;
    `done` and `total` are bytes of the phase, `rate` bytes/s of late, `files` those that are to be moved
    and `files_done` those that are there.
    """

    phase: str
    done: int
    total: int
    rate: float
    files_done: int
    files: int
    seconds: float

    @property
    def remaining(self) -> float | None:
        """Seconds until the end at this rate."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


@dataclass(frozen=True)
class Copied:
    """What `caxflow.transfer.copy` did.

    Parameters
    ----------
    manifest : Manifest
        As read at the source while it was copied, by the digest that both ends compared.
    manifests : dict of str to Manifest
        The same by every digest that was taken, by algorithm.
    size, sent : int
        Bytes of the dataset, and of those the ones moved by this attempt.
    seconds, rate : float
        Duration, and bytes of the dataset moved in a second of it.
    adopted : bool
        Whether the destination held an identical copy, which was read and compared.
    method : str
        ``push``, ``pull``, ``relay``, ``local``, with ``scp-`` before where that carried the bytes.
    connections : int
    cipher : str
        Empty where nothing was encrypted.
    """

    manifest: Manifest = field(repr=False)
    manifests: dict[str, Manifest] = field(repr=False)
    size: int
    sent: int
    seconds: float
    rate: float
    adopted: bool
    method: str
    connections: int
    cipher: str

    def __str__(self) -> str:
        if self.adopted:
            return f"{self.size / 1e9:.3f} GB were there and are identical, read in {self.seconds:.1f} s"
        over = f" over {self.connections} connections, {self.cipher}" if self.connections else ""
        return (
            f"{self.method}, {self.size / 1e9:.3f} GB, {self.sent / 1e9:.3f} GB of them moved in "
            f"{self.seconds:.1f} s ({self.rate / 1e6:.1f} MB/s){over}"
        )


class Limiter:
    """Holds bytes back so that no more than `rate` of them pass in a second (None: no limit)."""

    def __init__(self, rate: float | None, sleep):
        self._rate, self._sleep = rate, sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    def __call__(self, count: int) -> None:
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            # Time not used is lost after 0.1 s: no burst after a pause.
            begin = max(self._free_at, now - 0.1)
            self._free_at = begin + count / self._rate
            wait = begin - now
        if wait > 0:
            self._sleep(wait)
