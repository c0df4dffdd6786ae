"""Copying between two directories of this machine."""

import os
from contextlib import contextmanager

from caxflow.abilities import SIZES, attempt
from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.listing import os_error, printable, unchanged
from caxflow.threads import do_all
from caxflow.transfer.plan import Piece


def copy_piece(
    source, destination, name: str, piece: Piece, *, algorithms, before_write, read_back=None
) -> dict[str, str]:
    """Copy a range of a file, and read back from the disk what was written.

    Parameters
    ----------
    source, destination : Folder
    name : str
        The file's name at the destination.
    piece : Piece
    algorithms : sequence of str
        Digests to take of what is read at the source.
    before_write : callable
        Called with the number of bytes of each block; with 0 while the disk is waited for.
    read_back : callable, optional
        Called with numbers of bytes that are read back.

    Returns
    -------
    dict of str to str
        Digests by algorithm.
    """
    file = piece.file
    hashers = {each: digests.hasher(each) for each in algorithms}
    with (
        _opened(source, file.path, os.O_RDONLY) as reading,
        _opened(destination, name, os.O_RDWR | os.O_CREAT) as writing,
    ):
        with _named(destination, name):
            if os.fstat(writing).st_size != file.size:
                attempt(SIZES, os.ftruncate, writing, file.size)  # else it grows as it is written
        with _named(source, file.path):
            unchanged(file, os.fstat(reading))
            for offset, block in _blocks(reading, piece):
                for each in hashers.values():
                    each.update(block)
                before_write(len(block))
                with _named(destination, name):
                    _write(writing, block, offset)
            unchanged(file, os.fstat(reading))
        with _named(destination, name):
            do_all([lambda _: digests.drop_cache(writing)], lambda: before_write(0))
            back, _ = digests.hash_fd(writing, algorithms[:1], piece.offset, piece.length, read_back)
    found = {each: hasher.hexdigest() for each, hasher in hashers.items()}
    if back[algorithms[0]] != found[algorithms[0]]:
        raise CaxflowError(
            f"file {printable(file.path)}: what the disk gives back is not what was written",
            "the disk or the memory is faulty: ask the site's manager",
        )
    return found


@contextmanager
def _opened(folder, path: str, flags: int):
    with _named(folder, path):
        fd = folder.open(path, flags)
    try:
        yield fd
    finally:
        with _named(folder, path):  # NFS says only here that a quota is used up
            os.close(fd)


@contextmanager
def _named(folder, path: str):
    """Errors of the operating system name the file that this block is about."""
    try:
        yield
    except OSError as error:
        raise os_error(error, f"{folder.root}/{path}") from None


def _blocks(fd: int, piece: Piece):
    """Offset and contents of each block of a piece; the contents are valid until the next."""
    view = memoryview(bytearray(digests.BUFFER))
    done = 0
    while done < piece.length:
        count = os.preadv(fd, [view[: min(len(view), piece.length - done)]], piece.offset + done)
        if not count:
            return
        yield piece.offset + done, view[:count]
        done += count


def _write(fd: int, block, offset: int) -> None:
    while block:
        count = os.pwrite(fd, block, offset)
        block, offset = block[count:], offset + count
