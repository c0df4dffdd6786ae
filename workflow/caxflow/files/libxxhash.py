"""XXH3-128 by the system's ``libxxhash``, where the ``xxhash`` package is missing.

This module also runs at the far end of a transfer, so it needs only Python 3.8 and the standard library.
"""

# ruff: noqa: UP033 (this also runs under Python 3.8)

from __future__ import annotations

import ctypes
import ctypes.util
import functools


class _Hash128(ctypes.Structure):
    _fields_ = (("low", ctypes.c_uint64), ("high", ctypes.c_uint64))


@functools.lru_cache(maxsize=None)
def load():
    """The system's libxxhash, 0.8.0 or newer (XXH3 was not stable before), or None."""
    for name in ("libxxhash.so.0", ctypes.util.find_library("xxhash")):
        try:
            library = ctypes.CDLL(name or "libxxhash.so")
            if library.XXH_versionNumber() < 800:
                continue
            library.XXH3_createState.restype = ctypes.c_void_p
            library.XXH3_freeState.argtypes = (ctypes.c_void_p,)
            library.XXH3_128bits_reset.argtypes = (ctypes.c_void_p,)
            library.XXH3_128bits_update.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
            library.XXH3_128bits_digest.argtypes = (ctypes.c_void_p,)
            library.XXH3_128bits_digest.restype = _Hash128
        except (OSError, AttributeError):
            continue
        return library
    return None


class Xxh128:
    """XXH3-128 by the system's library, with the interface of hashlib."""

    def __init__(self):
        self._library = load()
        self._state = self._library.XXH3_createState()
        self._library.XXH3_128bits_reset(self._state)

    def __del__(self):
        self._library.XXH3_freeState(self._state)

    def update(self, data):
        size = len(data)
        if isinstance(data, bytes):
            self._library.XXH3_128bits_update(self._state, data, size)
        elif size:
            address = ctypes.addressof(ctypes.c_char.from_buffer(data))
            self._library.XXH3_128bits_update(self._state, address, size)

    def digest(self) -> bytes:
        value = self._library.XXH3_128bits_digest(self._state)
        return value.high.to_bytes(8, "big") + value.low.to_bytes(8, "big")

    def hexdigest(self) -> str:
        return self.digest().hex()
