"""What carries pieces from one end to the other, each in its own thread with its own connections."""

import threading
from collections import deque

from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.transfer.ends import at
from caxflow.transfer.folder import Folder
from caxflow.transfer.local import copy_piece
from caxflow.transfer.pieces import Receiver, Sender, altered
from caxflow.transfer.protocol import (
    BUFFER,
    DATA,
    FILE,
    HEADER,
    JSON,
    NAME,
    SEAL,
    SMALL,
    LostError,
    pack_name,
)

# What is asked for ahead of what has arrived: more than a connection carries in a round trip.
AHEAD_BYTES = 8 << 20
AHEAD_PIECES = 512


def choose(job):
    """The function that moves pieces of `job`, called with it and an end on each side, in its own thread."""
    if job.adopting:
        return look
    if not (job.source.helped and job.destination.helped):
        from caxflow.transfer.ferry import ferry

        return ferry
    if job.source.remote:
        return relay if job.destination.remote else pull
    return push if job.destination.remote else local


def local(job, _source, _destination) -> None:
    """Copy on this machine."""
    source, destination = Folder(job.listing.root), Folder(job.data)
    try:
        while (piece := job.next_piece()) is not None:
            name = job.names[piece.index]
            found = copy_piece(
                source, destination, name, piece, algorithms=job.wanted(), before_write=job.hold_back
            )
            job.piece_done(piece, found)
    except CaxflowError as error:
        raise at(job.source_place.site, error) from None
    finally:
        source.close()
        destination.close()


def push(job, _source, destination) -> None:
    """Read here, write there."""
    with Writing(job, destination) as end:
        folder = Folder(job.listing.root)
        sender = Sender(folder, end.connection.stream, job.wanted(), job.hold_back)
        known = set()
        try:
            while (piece := job.next_piece()) is not None:
                name = job.names[piece.index]
                end.sent(piece)
                if piece.whole and piece.length <= SMALL:
                    found = sender.small(piece.index, piece.file, name)
                else:
                    if piece.index not in known:
                        known.add(piece.index)
                        sender.announce(piece.index, name, piece.file)
                    found = sender.piece(piece.index, piece.file, piece.offset, piece.length)
                job.piece_done(piece, found)
            sender.flush()
        except CaxflowError as error:
            raise at(job.source_place.site, error) from None
        finally:
            sender.close()
            folder.close()


class Writing:
    """A connection over which pieces are written at the far end, and the thread that reads its answers."""

    def __init__(self, job, end):
        self._job = job
        self._end, self.connection = end, end.connection
        self._joining = end is not job.destination  # that one has begun the copy
        if self._joining:
            self._send({"do": "join", "with": job.joining()})
        self._send({"receive": {"data": job.data, "algorithm": job.algorithm}})
        self._unwritten = [0, 0]  # pieces and bytes
        self._error = None
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)

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

    def _acknowledged(self, pieces: int, length: int) -> None:
        self._count(-pieces, -length)
        self._job.beat()

    def _listen(self) -> None:
        try:
            if self._joining:
                self._end.result()
            self._end.result(self._acknowledged)
        except BaseException as error:
            self._error = error
            self._job.stop(error)

    def __enter__(self):
        self._listener.start()
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
        self.stream.send({"send": {"root": job.listing.root, "algorithm": job.algorithm}})

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
            yield from self.piece()
            if self._ahead < AHEAD_BYTES // 2 and len(self.waiting) < AHEAD_PIECES // 2:
                self._ask_ahead()

    def piece(self):
        """Frames of the piece that was asked for first; what comes in their place is refused."""
        piece = self.waiting[0]
        kind = None
        while kind not in (FILE, SEAL):
            kind, index, offset, length = self.stream.header()
            if kind == JSON:
                message = self.stream.json(length)
                self._end.handle(message)
                if "progress" in message:
                    continue
            ours = kind in (FILE, DATA, SEAL) and index == piece.index and piece.offset <= offset
            within = offset + length <= piece.offset + piece.length
            entire = (offset, length) == (piece.offset, piece.length)
            if not ours or not within or not (kind == DATA or entire) or (kind == FILE and not piece.whole):
                raise CaxflowError(
                    f"{self._job.source_place.site}: sends what was not asked for",
                    "run the same version of caxflow, and ask the site's manager",
                )
            yield kind, piece, offset, length
        self.waiting.popleft()
        self._ahead -= piece.length

    def lost(self, error: LostError) -> CaxflowError:
        """Why the connection broke."""
        return self.connection.diagnosis(error)


def pull(job, source, _destination) -> None:
    """Read there, write here."""

    def sealed(index, offset, length, found):
        job.piece_done(reading.waiting[0], found)

    folder = Folder(job.data)
    receiver = None
    reading = None
    try:
        reading = Reading(
            job,
            source,
            lambda piece: receiver.announce(
                piece.index, job.names[piece.index], piece.file.size, piece.file.mtime_ns
            ),
        )
        receiver = Receiver(folder, reading.stream, job.wanted(), sealed)
        for kind, piece, offset, length in reading.frames():
            if kind == DATA:
                job.hold_back(length)
                receiver.data(piece.index, offset, length)
            elif kind == FILE:
                job.hold_back(length)
                receiver.file(piece.index, 0, length)
            else:
                receiver.seal(piece.index, offset, length)
        receiver.finish(job.beat)
    except LostError as error:
        raise (reading.lost(error) if reading else error) from None
    except CaxflowError as error:
        raise at(job.destination_place.site, error) from None
    finally:
        if receiver:
            receiver.close()
        folder.close()


def relay(job, source, destination) -> None:
    """Read at one far end, write at another; the bytes pass through here and are hashed on the way."""
    with Writing(job, destination) as end:
        passing = _Passing(job, end.connection.stream)
        reading = Reading(job, source, passing.announce)
        try:
            for kind, piece, offset, length in reading.frames():
                found = passing.take(reading.stream, kind, piece, offset, length)
                if found:
                    if piece.index not in job.kept:
                        end.sent(piece)
                        passing.flush()
                    job.piece_done(piece, found)
        except LostError as error:
            if error.stream is not reading.stream:
                raise  # the end that writes knows why
            raise reading.lost(error) from None


def look(job, source, _destination) -> None:
    """Read at the far end what is at the other one already, only to hash it here."""
    passing = _Passing(job, None)
    reading = Reading(job, source, passing.announce)
    try:
        for kind, piece, offset, length in reading.frames():
            found = passing.take(reading.stream, kind, piece, offset, length)
            if found:
                job.piece_done(piece, found)
    except LostError as error:
        raise reading.lost(error) from None


class _Passing:
    """Hands frames on from one stream to another, and hashes what they hold; what is kept it only hashes."""

    def __init__(self, job, out):
        self._job, self._out = job, out
        self._digest_size = len(digests.hasher(job.algorithm).digest())
        self._room = memoryview(bytearray(BUFFER + HEADER.size))
        self._used = 0
        self._hashers: dict = {}

    def announce(self, piece) -> None:
        """Tell the receiver about the file of a piece that will come."""
        if piece.index in self._job.kept:
            return
        name = pack_name(self._job.names[piece.index], piece.file.mtime_ns)
        self._out.write(memoryview(HEADER.pack(NAME, piece.index, piece.file.size, len(name)) + name))

    def take(self, stream, kind: bytes, piece, offset: int, length: int) -> dict[str, str] | None:
        """Consume a body; at the end of a piece keep the frame for `flush` and return the digests."""
        if not self._hashers:
            wanted = self._job.wanted()[: None if piece.whole else 1]
            self._hashers = {name: digests.hasher(name) for name in wanted}
        if kind == DATA:
            self._data(stream, piece.index, offset, length)
            return None
        size = length if kind == FILE else 0
        self._job.hold_back(size)
        body = stream.view(size + self._digest_size)
        for each in self._hashers.values():
            each.update(body[:size])
        if self._hashers[self._job.algorithm].digest() != body[size:]:
            raise altered(piece.file.path)
        HEADER.pack_into(self._room, 0, kind, piece.index, offset, length)
        self._used = HEADER.size + len(body)
        self._room[HEADER.size : self._used] = body
        found, self._hashers = self._hashers, {}
        return {name: each.hexdigest() for name, each in found.items()}

    def flush(self) -> None:
        """Write the frame that was kept."""
        self._out.write(self._room[: self._used])

    def _data(self, stream, index: int, offset: int, length: int) -> None:
        while length:
            view = stream.some(length)
            self._job.hold_back(len(view))
            for each in self._hashers.values():
                each.update(view)
            if index not in self._job.kept:
                HEADER.pack_into(self._room, 0, DATA, index, offset, len(view))
                self._room[HEADER.size : HEADER.size + len(view)] = view
                self._out.write(self._room[: HEADER.size + len(view)])
            offset += len(view)
            length -= len(view)
