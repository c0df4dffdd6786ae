"""What carries pieces from one end to the other, each in its own thread with its own connections."""

from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.transfer.ends import at
from caxflow.transfer.local import copy_piece
from caxflow.transfer.pieces import Receiver, Sender, altered
from caxflow.transfer.protocol import BUFFER, DATA, FILE, HEADER, SMALL, LostError, frame_name
from caxflow.transfer.remote import Reading, Writing


def local(job, _source, _destination) -> None:
    """Copy on this machine."""
    source, destination = job.source_folder(), job.destination_folder()
    try:
        while (piece := job.next_piece()) is not None:
            name = job.names[piece.index]
            found = copy_piece(
                source,
                destination,
                name,
                piece,
                algorithms=job.wanted(),
                before_write=job.hold_back,
                read_back=job.read_here,
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
        folder = job.source_folder()
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
            raise at(job.source_place.site, error, job.destination_place.site) from None
        finally:
            sender.close()
            folder.close()


def pull(job, source, _destination) -> None:
    """Read there, write here."""

    def sealed(index, offset, length, found):
        job.piece_done(reading.waiting[0], found)

    folder = job.destination_folder()
    receiver = None
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
        job.remark(receiver.finish(job.beat))
    except LostError as error:
        raise reading.lost(error) from None
    except CaxflowError as error:
        raise at(job.destination_place.site, error, job.source_place.site) from None
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
        if piece.index not in self._job.kept:
            self._out.write(memoryview(frame_name(piece.index, self._job.names[piece.index], piece.file)))

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
