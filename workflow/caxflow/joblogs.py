"""Logs of jobs: what they say, and behind it what the job's earlier attempts said.

Snakemake begins the log of a job anew with each attempt. What a failed one said is kept in
``.caxflow/attempts/`` of the work directory until the job succeeds, cut to its beginning and its end, and
stands in the log behind the words of the newest attempt, the latest first.
"""

import contextlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, TextIO

from caxflow import legible, receipts

FOLDER = Path(".caxflow", "attempts")
LONGEST = 64 << 20  # bytes; of a program that writes more, the first and the last are kept
MOST = 256 * 1024  # bytes; of all earlier attempts together
_KEPT = 1 << 20  # bytes; of each end of what is longer
_HEAD, _END = 16 * 1024, 48 * 1024  # bytes; of each
_TAIL = 4096  # bytes; of what is looked at for last words
_BEHIND = re.compile(rb"^======== earlier: [-0-9]+ [:0-9]+ UTC ========$", re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# All but ASCII and the letters of Western languages, in UTF-8.
_MAY_BE_ODD = re.compile(
    rb"[\x00-\x08\x0b-\x1f\x7f\xc0\xc1\xcc-\xff]|\xc2[\x80-\xa0\xad]|(?<![\xc2-\xcb])[\x80-\xbf]"
)
_LAST = b"======== these were the earlier attempts; the newest is at the top ========\n"


def say(log: TextIO, text: str) -> None:
    """Write a line, with its time; a disk that cannot take it is no reason to fail."""
    with contextlib.suppress(OSError):
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} {legible.line(text)}\n")
        log.flush()


def end(work_dir: Path, log: Path, reason: str = "") -> None:
    """Keep what a failed attempt said, and put behind it in its log what the earlier ones did.

    Parameters
    ----------
    reason : str
        What is added to its words, where it could not say that itself.

    Raises
    ------
    OSError
        If the log cannot be written.
    CaxflowError
        If what it said cannot be kept.
    """
    before = _read(work_dir, log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a+b") as stream:
        stream.truncate(_own(stream))
        _tidy(stream, 0)
        if reason:
            stream.write(f"{_now()} {legible.line(reason)}\n".encode(errors="replace"))
        stream.flush()
        said = excerpt(stream, stream.tell())
        _write_behind(stream, before)
    title = f"======== earlier: {_now()} UTC ========\n".encode()
    kept = (title + said + before)[:MOST]
    receipts.write(_kept(work_dir, log), kept.decode(errors="replace"))


def recall(work_dir: Path, log: Path) -> None:
    """Put behind the words of an attempt that did not fail what the earlier ones said.

    Raises
    ------
    OSError
        If the log cannot be written.
    """
    with log.open("ab") as stream:
        _write_behind(stream, _read(work_dir, log))


def forget(work_dir: Path, log: Path) -> None:
    """Forget the attempts of a job that has succeeded."""
    receipts.remove(_kept(work_dir, log))


def tidy(log: Path, begun: int) -> None:
    """Cut what a program has written since `begun`, if it is very much; what comes next begins a line.

    What a terminal would obey is taken out, if it is a colour, or escaped.
    """
    with log.open("a+b") as stream:
        _tidy(stream, begun)
        stream.seek(begun)
        if any(map(_MAY_BE_ODD.search, iter(lambda: stream.read(_KEPT), b""))):
            _make_legible(stream, begun)


def excerpt(stream: BinaryIO, size: int) -> bytes:
    """Return the beginning and the end of what a log has up to a size, and how much is left out."""
    if size <= _HEAD + _END:
        return _piece(stream, 0, size)
    return _piece(stream, 0, _HEAD) + _left_out(size - _HEAD - _END) + _piece(stream, size - _END, size)


def tail(log: Path, begun: int = 0) -> str:
    """Return the end of what the newest attempt said, 4 kB at most, and nothing of what is before `begun`."""
    with log.open("rb") as stream:
        own = _own(stream)
        return _piece(stream, max(begun, own - _TAIL), own).decode(errors="replace")


def last_line(log: Path, begun: int = 0) -> str:
    """Return the last line that says something, of the newest attempt, after `begun`; printable and short."""
    lines = tail(log, begun).splitlines()
    text = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
    return legible.line(_COLOUR.sub("", text), 200)


def _own(stream: BinaryIO) -> int:
    """Return where the words of the newest attempt end, and those of earlier ones begin."""
    size = stream.seek(0, os.SEEK_END)
    start = max(0, size - MOST - 2 * _TAIL)
    behind = _BEHIND.search(_piece(stream, start, size))
    return start + behind.start() if behind else size


def _left_out(size: int) -> bytes:
    return f"\n… {size} bytes are left out …\n".encode()


def _tidy(stream: BinaryIO, begun: int) -> None:
    size = stream.seek(0, os.SEEK_END)
    if size - begun > LONGEST:
        last = _piece(stream, size - _KEPT, size)
        stream.truncate(begun + _KEPT)
        stream.write(_left_out(size - begun - 2 * _KEPT) + last)
        size = stream.tell()
    if size and _piece(stream, size - 1, size) != b"\n":
        stream.write(b"\n")


def _make_legible(stream: BinaryIO, begun: int) -> None:
    stream.seek(begun)
    with tempfile.TemporaryFile() as made:
        while piece := stream.readline(_KEPT):
            text = _COLOUR.sub("", piece.decode(errors="replace")).rstrip("\r\n")
            shown = [legible.line(each.expandtabs(), _KEPT) for each in text.split("\r")]
            made.write("\n".join(shown).encode())
            made.write(b"\n" if piece.endswith(b"\n") else b"")
        stream.truncate(begun)
        made.seek(0)
        shutil.copyfileobj(made, stream)


def _write_behind(stream: BinaryIO, earlier: bytes) -> None:
    if earlier:
        stream.write(earlier if earlier.endswith(b"\n") else earlier + b"\n")
        stream.write(_LAST)


def _piece(stream: BinaryIO, start: int, end: int) -> bytes:
    stream.seek(start)
    return stream.read(max(0, end - start))


def _read(work_dir: Path, log: Path) -> bytes:
    """Return what earlier attempts said, the latest first; nothing where that cannot be read."""
    try:
        with _kept(work_dir, log).open("rb") as stream:
            return stream.read(MOST)
    except OSError:
        return b""


def _kept(work_dir: Path, log: Path) -> Path:
    return work_dir / FOLDER / f"{log.parent.name}.{log.name}"


def _now() -> str:
    return f"{receipts.now():%Y-%m-%d %H:%M:%S}"
