"""Files that people write or name: read at once, and only where they are files."""

import errno
import os
import stat


def read(path: str | os.PathLike, most: int) -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    path : path
    most : int
        Bytes that it may have.

    Raises
    ------
    OSError
        If it cannot be read, is no file (a pipe would be waited for, a device has no end), or too large.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "It is no file", str(path))
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"It is larger than {most / 1e6:g} MB", str(path))
    return content
