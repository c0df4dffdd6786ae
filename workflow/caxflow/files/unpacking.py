"""Unpacks blocks of ROOT files into no more than their headers say, and refuses what nothing honest holds.

uproot compares the sizes once all is unpacked: by then 150 kB may have become a gigabyte.
"""

import zlib

# A basket of pax has some megabytes, one of the embedded processor is that of 1000 events.
MOST = 1 << 27
_MOST_LZMA = 1 << 27  # what its dictionary, of at most 64 MB in ROOT, may take


def bound() -> None:
    """Have uproot unpack so, whatever it reads from now on."""
    from uproot import compression

    compression.decompress.hook_before_block = _check_size
    compression._decompress_ZLIB.decompress = _unpack_zlib
    compression._decompress_LZMA.decompress = _unpack_lzma
    compression._decompress_ZSTD.decompress = _unpack_zstd  # LZ4 has no other way than this


def _check_size(*, uncompressed_bytes: int, **_: object) -> None:
    if uncompressed_bytes > MOST:
        raise ValueError(f"a part of it is said to have {uncompressed_bytes} bytes, {MOST} are the most")


def _unpack_zlib(data: bytes, size: int) -> bytes:
    return _whole(zlib.decompressobj(), data, size)


def _unpack_lzma(data: bytes, size: int) -> bytes:
    import lzma

    return _whole(lzma.LZMADecompressor(memlimit=_MOST_LZMA), bytes(data), size)


def _unpack_zstd(data: bytes, size: int) -> bytes:
    import cramjam

    unpacked = bytearray(size)
    try:
        written = cramjam.zstd.decompress_into(data, memoryview(unpacked))
    except cramjam.DecompressionError:
        written = -1
    return bytes(_checked(unpacked, size, written == size))


def _whole(unpacker, data: bytes, size: int) -> bytes:
    unpacked = unpacker.decompress(data, size + 1)
    return _checked(unpacked, size, unpacker.eof and len(unpacked) == size)


def _checked(unpacked: bytes | bytearray, size: int, whole: bool) -> bytes | bytearray:
    if not whole:
        raise ValueError(f"a block does not unpack to the {size} bytes that it says")
    return unpacked
