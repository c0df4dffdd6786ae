"""Digests of whole files whose pieces come in any order."""

import os
import queue
from collections import defaultdict

from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.listing import os_error, printable
from caxflow.threads import start


class Frontier:
    """Reads files behind the transfer, from the page cache, and hashes them from their beginning on.

    Parameters
    ----------
    folder : Folder
        What the files are in; it is taken over.
    algorithms : sequence of str
        Digests wanted.
    progress : callable
        Called with the number of bytes hashed; may raise to end it.
    failed : callable
        Called with what ended it.
    """

    def __init__(self, folder, algorithms, progress, failed):
        self._folder, self._algorithms = folder, tuple(algorithms)
        self._progress, self._failed = progress, failed
        self._queue = queue.SimpleQueue()
        self._ends = defaultdict(dict)  # of a file: where a range that is there begins, to where it ends
        self._state = {}  # of a file: position, size, path, hashers
        self._error = None
        self.found: dict[int, dict[str, str]] = {}
        self._thread = start(self._run)

    def add(self, index: int, path: str, size: int) -> None:
        """Follow a file; before its first piece."""
        self._state[index] = [0, size, path, [digests.hasher(name) for name in self._algorithms]]

    def done(self, index: int, offset: int, length: int) -> None:
        """Take note that a range of a file is there; from any thread."""
        self._queue.put((index, offset, length))

    def finish(self) -> dict[int, dict[str, str]]:
        """Digests by algorithm of all files that were added, by their number."""
        self._end()
        if self._error:
            raise self._error
        return self.found

    def _end(self) -> None:
        self._queue.put(None)
        if self._thread:
            self._thread.join()
        else:
            self._run()

    def close(self) -> None:
        """Give up, or clean up."""
        self._error = self._error or CaxflowError("given up")
        self._end()
        self._folder.close()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            if self._error:
                continue
            try:
                self._advance(*job)
            except BaseException as error:
                self._error = error
                self._failed(error)

    def _advance(self, index: int, offset: int, length: int) -> None:
        state = self._state[index]
        self._ends[index][offset] = offset + length
        position, size, path, hashers = state
        end = position
        while end in self._ends[index] and self._ends[index][end] > end:
            end = self._ends[index].pop(end)
        if end > position:
            try:
                self._hash(path, position, end, hashers)
            except OSError as error:
                raise os_error(error, f"{self._folder.root}/{path}") from None
            state[0] = end
        if end == size:
            self.found[index] = {
                name: each.hexdigest() for name, each in zip(self._algorithms, hashers, strict=True)
            }

    def _hash(self, path: str, position: int, end: int, hashers) -> None:
        fd = self._folder.open(path, os.O_RDONLY)
        try:
            view = memoryview(bytearray(digests.BUFFER))
            while position < end:
                count = os.preadv(fd, [view[: min(len(view), end - position)]], position)
                if not count:
                    raise CaxflowError(
                        f"file {printable(path)} became shorter while it was copied",
                        "let nothing write there",
                    )
                for each in hashers:
                    each.update(view[:count])
                position += count
                self._progress(count)
        finally:
            os.close(fd)
