"""Files that people write, name or look at: read at once, and only where they are files; replaced whole."""

import errno
import os
import stat
import tempfile
from pathlib import Path

from caxflow import abilities


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


def replace(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Put a file that all may read in the place of what has its name.

    It is made under a new name, whatever others have put in its place or beside it.

    Parameters
    ----------
    sync : bool
        Wait until the content is on the disk.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            abilities.attempt(abilities.MODES, os.fchmod, stream.fileno(), 0o644)
            if sync:
                abilities.sync_file(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
