"""Digests of bytes and files.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library;
XXH3 comes from the ``xxhash`` package or, where that is missing, from the system's ``libxxhash``.
"""

# ruff: noqa: B905, PTH110, PTH112, PTH118, UP033 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import functools
import os
import zlib

from caxflow.abilities import HINTS, attempt, sync_file

BUFFER = 1 << 20  # bytes; stays in a core's cache between the read and the digest

ALGORITHMS = ("xxh128", "sha256", "sha512", "adler32")


class _Adler32:
    """zlib's Adler-32 with the interface of hashlib."""

    def __init__(self):
        self._value = 1

    def update(self, data):
        self._value = zlib.adler32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")

    def hexdigest(self) -> str:
        return self.digest().hex()


@functools.lru_cache(maxsize=None)
def _maker(algorithm: str):
    if algorithm == "xxh128":
        try:
            from xxhash import xxh3_128
        except Exception:  # not there, or not for this Python: a PYTHONPATH may lead to anything
            try:
                from caxflow.files import libxxhash

                return libxxhash.Xxh128 if libxxhash.load() else None
            except Exception:  # no ctypes
                return None
        return xxh3_128
    if algorithm == "adler32":
        return _Adler32
    if algorithm not in ALGORITHMS:
        return None
    import hashlib  # which loads OpenSSL: at the far end that is noticed, and mostly not needed

    return getattr(hashlib, algorithm, None)


def available() -> tuple:
    """Names of the digests that can be computed here, the preferred first."""
    return tuple(name for name in ALGORITHMS if name != "xxh128" or _maker(name))  # Python has the others


def hasher(algorithm: str):
    """A new digest object with ``update``, ``digest`` and ``hexdigest``.

    Parameters
    ----------
    algorithm : str
        ``xxh128`` (XXH3, 128 bits, canonical big-endian form as ``xxhsum -H2`` prints it), ``sha256``,
        ``sha512`` or ``adler32`` (RFC 1950, as Rucio writes it).

    Raises
    ------
    ValueError
        If `algorithm` is unknown, or cannot be computed here.
    """
    maker = _maker(algorithm)
    if maker is None:
        raise ValueError(f"digest {algorithm!r} cannot be computed here")
    return maker()


def hash_fd(
    fd: int, algorithms, offset: int = 0, length: int | None = None, progress=None, *, also=()
) -> tuple:
    """Hash a range of an open file in one pass.

    Parameters
    ----------
    fd : int
        File descriptor; its position is neither used nor changed.
    algorithms : sequence of str
        Digests wanted.
    offset, length : int
        Range in bytes; without a length, to the end of the file.
    progress : callable, optional
        Called with the number of bytes of each block that was hashed.
    also : sequence
        What else is to see the bytes, in their order, by its ``update``.

    Returns
    -------
    dict of str to str, int
        Hexadecimal digest by algorithm, and the number of bytes that were there.
    """
    hashers = [hasher(name) for name in algorithms]
    view = memoryview(bytearray(BUFFER if length is None else max(1, min(BUFFER, length))))
    done = 0
    while length is None or done < length:
        wanted = len(view) if length is None else min(len(view), length - done)
        count = os.preadv(fd, [view[:wanted]], offset + done)
        if not count:
            break
        for each in (*hashers, *also):
            each.update(view[:count])
        done += count
        if progress:
            progress(count)
    return {name: each.hexdigest() for name, each in zip(algorithms, hashers)}, done


def hash_file(path, algorithms=("xxh128",)) -> dict:
    """Hexadecimal digests of a file, by algorithm, in one pass over it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return hash_fd(fd, algorithms)[0]
    finally:
        os.close(fd)


def drop_cache(fd: int) -> None:
    """Make the next read of an open file come from the disk.

    Dirty pages cannot be dropped, so they are written out first; pages that another process has mapped
    or locked stay, and a network file system's server may keep its own.
    """
    if hasattr(os, "posix_fadvise"):
        sync_file(fd)
        attempt(HINTS, os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)


def cax_reduce(sha512_of_files) -> str:
    """The sha512 that the ``checksumdir`` package gives a directory, from those of its files.

    Take the sha512 of every file below the directory in lower-case hexadecimal, sort these
    strings, and take the sha512 of their concatenation. Neither names nor empty directories count, so
    it cannot tell exchanged files; it serves only to compare with checksums that cax recorded.
    """
    total = hasher("sha512")
    total.update("".join(sorted(sha512_of_files)).encode("ascii"))
    return total.hexdigest()


def cax_sums(files) -> set:
    """The checksums that cax may have recorded for a directory, from the sha512 of its files by their paths.

    ``checksumdir`` left hidden files out, and what is in hidden folders, until version 1.1.0 of March 2017;
    as cax calls it, it has counted them since. A sum of nothing says nothing.
    """
    visible = [digest for path, digest in files.items() if not ("/" + path).count("/.")]
    return {cax_reduce(sums) for sums in (list(files.values()), visible) if sums}


def cax_sha512(path) -> str:
    """The checksum that cax records for `path`: see `cax_reduce`; of a single file, its plain sha512.

    Symbolic links to files count as the files they lead to, linked directories are not entered, and what
    cannot be reached (a dangling link) counts as an empty file, as in ``checksumdir``.
    """
    if not os.path.isdir(path):
        return hash_file(path, ("sha512",))["sha512"]
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            there = file if os.path.exists(file) else os.devnull
            found.append(hash_file(there, ("sha512",))["sha512"])
    return cax_reduce(found)
