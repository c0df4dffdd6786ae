"""Copying between two directories of this machine."""

import os

from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.listing import os_error, printable, unchanged
from caxflow.transfer.plan import Piece


def copy_piece(source, destination, name: str, piece: Piece, *, algorithms, before_write) -> dict[str, str]:
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
        Called with the number of bytes of each block.

    Returns
    -------
    dict of str to str
        Digests by algorithm.
    """
    file = piece.file
    hashers = [digests.hasher(algorithm) for algorithm in algorithms]
    view = memoryview(bytearray(digests.BUFFER))
    opened, at = [], source.root
    try:
        reading = source.open(file.path, os.O_RDONLY)
        opened.append(reading)
        unchanged(file, os.fstat(reading))
        at = destination.root
        writing = destination.open(name, os.O_RDWR | os.O_CREAT)
        opened.append(writing)
        if os.fstat(writing).st_size != file.size:
            os.ftruncate(writing, file.size)
        done = 0
        while done < piece.length:
            at = source.root
            count = os.preadv(reading, [view[: min(len(view), piece.length - done)]], piece.offset + done)
            if not count:
                break
            for each in hashers:
                each.update(view[:count])
            before_write(count)
            at, written = destination.root, 0
            while written < count:
                written += os.pwrite(writing, view[written:count], piece.offset + done + written)
            done += count
        unchanged(file, os.fstat(reading))
        digests.drop_cache(writing)
        found = {name: each.hexdigest() for name, each in zip(algorithms, hashers, strict=True)}
        back, _ = digests.hash_fd(writing, algorithms[:1], piece.offset, piece.length)
    except OSError as error:
        raise os_error(error, f"{at}/{file.path}") from None
    finally:
        for fd in opened:
            os.close(fd)
    if back[algorithms[0]] != found[algorithms[0]]:
        raise CaxflowError(
            f"file {printable(file.path)}: what the disk gives back is not what was written",
            "the disk or the memory is faulty: ask the site's manager",
        )
    return found
