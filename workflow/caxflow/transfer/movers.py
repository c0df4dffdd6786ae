"""What carries pieces from one end to the other, each in its own thread with its own connections."""

import threading
from collections import deque

from caxflow import digests
from caxflow.errors import CaxflowError
from caxflow.transfer.ends import at
from caxflow.transfer.folder import Folder
from caxflow.transfer.local import copy_piece
from caxflow.transfer.pieces import Receiver, Sender
from caxflow.transfer.protocol import BUFFER, DATA, HEADER, JSON, NAME, SEAL, LostError

# What is asked for ahead of what has arrived: more than a connection carries in a round trip.
AHEAD_BYTES = 8 << 20
AHEAD_PIECES = 512


def choose(job):
    """The function that moves pieces between the ends of `job`: called with the job and a number."""
    if not (job.source.helped and job.destination.helped):
        from caxflow.transfer.ferry import ferry

        return ferry
    if job.source.remote:
        return relay if job.destination.remote else pull
    return push if job.destination.remote else local


def local(job, _number: int) -> None:
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


def push(job, number: int) -> None:
    """Read here, write there."""
    with Writing(job, number) as end:
        folder = Folder(job.listing.root)
        sender = Sender(folder, end.connection.stream, job.wanted(), job.hold_back)
        known = set()
        try:
            while (piece := job.next_piece()) is not None:
                if piece.index not in known:
                    known.add(piece.index)
                    sender.announce(piece.index, job.names[piece.index], piece.file.size)
                found = sender.piece(piece.index, piece.file, piece.offset, piece.length)
                end.sent(piece)
                job.piece_done(piece, found)
            sender.flush()
        except CaxflowError as error:
            raise at(job.source_place.site, error) from None
        finally:
            sender.close()
            folder.close()


class Writing:
    """A connection over which pieces are written at the far end, and the thread that reads its answers."""

    def __init__(self, job, number: int):
        self._job = job
        place = job.destination_place
        end = job.destination if number == 0 else job.open(place, lambda _: job.beat())
        self._end, self.connection = end, end.connection
        if number:
            self._send({"do": "join", "with": job.joining()})
        self._joining = number > 0
        self._send({"receive": {"data": job.data, "algorithm": job.algorithm}})
        self._unwritten = {}
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
        with self._lock:
            key = (piece.index, piece.offset, piece.length)
            self._unwritten[key] = self._unwritten.get(key, 0) + 1

    def _acknowledged(self, *key) -> None:
        with self._lock:
            self._unwritten[key] = self._unwritten.get(key, 0) - 1
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
            if any(self._unwritten.values()):
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

    def __init__(self, job, number: int, ask_for):
        self._job, self._ask_for = job, ask_for
        place = job.source_place
        end = job.source if number == 0 else job.open(place, lambda _: job.beat())
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
            self.stream.send({"get": asked})

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
        """DATA and SEAL frames of all pieces, in order: ``(kind, piece, offset, length)``."""
        self._ask_ahead()
        while self.waiting:
            yield from self.piece()
            if self._ahead < AHEAD_BYTES // 2 and len(self.waiting) < AHEAD_PIECES // 2:
                self._ask_ahead()

    def piece(self):
        """Frames of the piece that was asked for first; what comes in their place is refused."""
        piece = self.waiting[0]
        kind = None
        while kind != SEAL:
            kind, index, offset, length = self.stream.header()
            if kind == JSON:
                self._end.handle(self.stream.json(length))
                continue
            ours = kind in (DATA, SEAL) and index == piece.index and piece.offset <= offset
            within = offset + length <= piece.offset + piece.length
            if not ours or not within or (kind == SEAL and (offset, length) != (piece.offset, piece.length)):
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


def pull(job, number: int) -> None:
    """Read there, write here."""

    def sealed(index, offset, length, found):
        job.piece_done(reading.waiting[0], found)

    folder = Folder(job.data)
    receiver = None
    reading = None
    try:
        reading = Reading(
            job, number, lambda piece: receiver.announce(piece.index, job.names[piece.index], piece.file.size)
        )
        receiver = Receiver(folder, reading.stream, job.wanted(), sealed)
        for kind, piece, offset, length in reading.frames():
            if kind == DATA:
                job.hold_back(length)
                receiver.data(piece.index, offset, length)
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


def relay(job, number: int) -> None:
    """Read at one far end, write at another; the bytes pass through here and are hashed on the way."""
    size = len(digests.hasher(job.algorithm).digest())
    room = memoryview(bytearray(BUFFER + HEADER.size))
    hashers = {}
    with Writing(job, number) as end:
        out = end.connection.stream

        def announce(piece):
            name = job.names[piece.index].encode("utf-8", "surrogateescape")
            out.write(memoryview(HEADER.pack(NAME, piece.index, piece.file.size, len(name)) + name))

        reading = Reading(job, number, announce)
        try:
            for kind, piece, offset, length in reading.frames():
                if not hashers:
                    hashers = {
                        name: digests.hasher(name) for name in job.wanted()[: None if piece.whole else 1]
                    }
                if kind == DATA:
                    _forward(
                        job, reading.stream, out, (piece.index, offset, length), room=room, hashers=hashers
                    )
                    continue
                digest = reading.stream.body(size)
                if hashers[job.algorithm].digest() != digest:
                    raise CaxflowError(
                        f"{job.source_place.site}: file {piece.file.path}: what arrived is not what was sent",
                        "try again",
                    )
                out.write(memoryview(HEADER.pack(SEAL, piece.index, offset, length) + digest))
                end.sent(piece)
                job.piece_done(piece, {name: each.hexdigest() for name, each in hashers.items()})
                hashers = {}
        except LostError as error:
            raise reading.lost(error) from None


def _forward(job, stream, out, where, *, room, hashers) -> None:
    index, offset, length = where
    while length:
        view = stream.some(length)
        job.hold_back(len(view))
        for each in hashers.values():
            each.update(view)
        HEADER.pack_into(room, 0, DATA, index, offset, len(view))
        room[HEADER.size : HEADER.size + len(view)] = view
        out.write(room[: HEADER.size + len(view)])
        offset += len(view)
        length -= len(view)
