"""How far a transfer is, and what became of it."""

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
    remarks : tuple of str
        What the destination's file system lacks, and what failed and takes nothing from the copy: what comes
        after it was published, further connections.
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
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.adopted:
            return f"{self.size / 1e9:.3f} GB were there and are identical, read in {self.seconds:.1f} s"
        over = f" over {self.connections} connections, {self.cipher}" if self.connections else ""
        return (
            f"{self.method}, {self.size / 1e9:.3f} GB, {self.sent / 1e9:.3f} GB of them moved in "
            f"{self.seconds:.1f} s ({self.rate / 1e6:.1f} MB/s){over}"
        )
