"""Reading and writing pieces at a far end: what is said over one connection of a transfer."""

import threading
from collections import deque

from caxflow import legible
from caxflow.errors import CaxflowError
from caxflow.threads import started
from caxflow.transfer.protocol import BUFFER, DATA, FILE, JSON, SEAL, LostError

# What is asked for ahead of what has arrived: more than a connection carries in a round trip.
AHEAD_BYTES = 8 << 20
AHEAD_PIECES = 512
_STRANGE = "run the same version of caxflow, and ask the site's manager"


class Writing:
    """A connection over which pieces are written at the far end, and the thread that reads its answers."""

    def __init__(self, job, end):
        self._job = job
        self._end, self.connection = end, end.connection
        self._send({"receive": {"data": job.data, "algorithm": job.algorithm}})
        self._unwritten = [0, 0]  # pieces and bytes
        self._error = None
        self._lock = threading.Lock()
        self._listener = None

    def _send(self, message: dict) -> None:
        try:
            self.connection.stream.send(message)
        except LostError as error:
            raise self.connection.diagnosis(error) from None

    def sent(self, piece) -> None:
        """Expect an acknowledgement."""
        self._count(1, piece.length)

    def _count(self, pieces: int, length: int) -> None:
        with self._lock:
            self._unwritten[0] += pieces
            self._unwritten[1] += length
            if min(self._unwritten) < 0:
                raise CaxflowError(
                    f"{self._job.destination_place.site}: acknowledges what was not sent", _STRANGE
                )

    def _acknowledged(self, pieces: int, length: int) -> None:
        self._count(-pieces, -length)
        if pieces:
            self._job.acknowledged(pieces, length)

    def _listen(self) -> None:
        try:
            lacking = self._end.result(self._acknowledged)
            if isinstance(lacking, list) and all(isinstance(each, str) for each in lacking):
                self._job.remark(legible.line(each) for each in lacking)
        except BaseException as error:
            self._error = error
            self._job.stop(error)

    def __enter__(self):
        self._listener = started(self._listen)
        return self

    def __exit__(self, kind, error, _):
        if kind is None or issubclass(kind, LostError):
            try:
                self.connection.stream.send({"finish": True})
            except LostError:
                pass  # the listener finds out why
            self._listener.join()
            if self._error:
                raise self._error
            if any(self._unwritten):
                raise CaxflowError(
                    f"{self._job.destination_place.site}: did not acknowledge all that was sent",
                    "start again",
                )
            return False
        self._job.stop(error)
        self._listener.join()
        return False


class Reading:
    """A connection over which pieces are read at the far end, asked for ahead of their arrival."""

    def __init__(self, job, end, ask_for):
        self._job, self._ask_for = job, ask_for
        self._end, self.connection, self.stream = end, end.connection, end.connection.stream
        self.waiting = deque()
        self._ahead = 0
        try:
            self.stream.send({"send": {"root": job.listing.root, "algorithm": job.algorithm}})
        except LostError as error:
            raise self.lost(error) from None

    def ask(self, *pieces) -> None:
        """Ask for `pieces`."""
        for piece in pieces:
            self.waiting.append(piece)
            self._ahead += piece.length
            self._ask_for(piece)
        if pieces:
            asked = [[piece.index, list(piece.file), piece.offset, piece.length] for piece in pieces]
            try:
                self.stream.send({"get": asked})
            except LostError:
                pass  # why, is in what can still be read

    def _ask_ahead(self) -> None:
        pieces, length = [], self._ahead
        while length < AHEAD_BYTES and len(self.waiting) + len(pieces) < AHEAD_PIECES:
            piece = self._job.next_piece()
            if piece is None:
                break
            pieces.append(piece)
            length += piece.length
        self.ask(*pieces)

    def frames(self):
        """FILE, DATA and SEAL frames of all pieces, in order: ``(kind, piece, offset, length)``."""
        self._ask_ahead()
        while self.waiting:
            for frame in self.piece():
                yield frame
                if self._ahead < AHEAD_BYTES // 2 and len(self.waiting) < AHEAD_PIECES // 2:
                    self._ask_ahead()

    def piece(self):
        """Frames of the piece that was asked for first; what comes in their place is refused."""
        piece = self.waiting[0]
        kind, position, end = None, piece.offset, piece.offset + piece.length
        while kind not in (FILE, SEAL):
            kind, index, offset, length = self.stream.header()
            if kind == JSON and "progress" in self._end.message(length):
                continue
            entire = (offset, length) == (piece.offset, piece.length)
            if kind == DATA:
                wanted = offset == position and 0 < length <= min(BUFFER, end - position)
            elif kind == SEAL:
                wanted = entire and position == end
            else:
                wanted = kind == FILE and entire and piece.whole and position == piece.offset
            if not wanted or index != piece.index:
                raise CaxflowError(f"{self._job.source_place.site}: sends what was not asked for", _STRANGE)
            if kind != SEAL:
                self._ahead -= length
                position += length
            yield kind, piece, offset, length
        self.waiting.popleft()

    def lost(self, error: LostError) -> CaxflowError:
        """Why the connection broke."""
        return self.connection.diagnosis(error)
