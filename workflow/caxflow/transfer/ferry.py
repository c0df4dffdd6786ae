"""Moving pieces between ends of which at least one has no helper (method ``scp``)."""

import os
from collections import deque

from caxflow import abilities
from caxflow.errors import CaxflowError
from caxflow.files import digests
from caxflow.files.listing import os_error, printable, unchanged
from caxflow.threads import do_all
from caxflow.transfer.ends import at
from caxflow.transfer.protocol import DATA, FILE, HEADER, SEAL, LostError, frame_name
from caxflow.transfer.remote import Reading, Writing
from caxflow.transfer.sftp import SftpEnd

_FRAME = 1 << 20


def ferry(job, source_end, destination_end) -> None:
    """Read files at one end, hash them here, write them at the other, read back what has no helper."""
    with _source(job, source_end) as source, _destination(job, destination_end) as destination:
        while (piece := job.next_piece()) is not None:
            wanted = job.wanted()[: None if piece.whole else 1]
            hashers = {name: digests.hasher(name) for name in wanted}
            chunks = _hashed(job, source.chunks(piece), hashers)
            if piece.index in job.kept:
                deque(chunks, maxlen=0)
            else:
                destination.put(piece, chunks)
            found = {name: each.hexdigest() for name, each in hashers.items()}
            source.confirm(piece, found)
            if piece.index not in job.kept:
                destination.confirm(piece, found)
            job.piece_done(piece, found)


def _hashed(job, chunks, hashers):
    for chunk in chunks:
        for each in hashers.values():
            each.update(chunk)
        job.hold_back(len(chunk))
        yield chunk


def _source(job, end):
    if isinstance(end, SftpEnd):
        return _SftpSource(job, end)
    return _HelperSource(job, end) if end.remote else _LocalSource(job)


def _destination(job, end):
    if isinstance(end, SftpEnd):
        return _SftpDestination(job, end)
    return _HelperDestination(job, end) if end.remote else _LocalDestination(job)


def _refuse(site: str, path: str) -> None:
    raise CaxflowError(
        f"{site}: file {printable(path)}: read a second time it is not the same",
        "try again; if it happens again, a disk or a machine on the way is faulty",
    )


class _End:
    """An end without anything to clean up: the task ends its connections."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class _LocalSource(_End):
    def __init__(self, job):
        self._folder, self._site = job.source_folder(), job.source_place.site

    def chunks(self, piece):
        try:
            fd = self._folder.open(piece.file.path, os.O_RDONLY)
            try:
                unchanged(piece.file, os.fstat(fd))
                done = 0
                while data := os.pread(fd, min(_FRAME, piece.length - done), piece.offset + done):
                    done += len(data)
                    yield data
                unchanged(piece.file, os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise at(self._site, os_error(error, f"{self._folder.root}/{piece.file.path}")) from None
        except CaxflowError as error:
            raise at(self._site, error) from None

    def confirm(self, piece, found) -> None:
        pass  # it was read here and did not change

    def __exit__(self, *_):
        self._folder.close()


class _SftpSource(_End):
    def __init__(self, job, end):
        self._job, self._end, self._root = job, end, job.listing.root

    def chunks(self, piece):
        path = f"{self._root}/{piece.file.path}"
        try:
            with self._end.explained(path):
                yield from self._end.chunks(path, piece.file, piece.offset, piece.length)
        except CaxflowError as error:
            raise at(self._job.source_place.site, error) from None

    def confirm(self, piece, found) -> None:
        if self._job.expected:
            return  # it will be compared with that
        path = f"{self._root}/{piece.file.path}"
        with self._end.explained(path):
            again = self._end.hash(path, piece.file, (self._job.algorithm,), piece.offset, piece.length)
        if again[self._job.algorithm] != found[self._job.algorithm]:
            _refuse(self._job.source_place.site, piece.file.path)


class _HelperSource(_End):
    def __init__(self, job, end):
        self._job = job
        self._reading = Reading(job, end, lambda piece: None)

    def chunks(self, piece):
        reading, stream = self._reading, self._reading.stream
        try:
            reading.ask(piece)
            for kind, _, _, length in reading.piece():
                left = length if kind == DATA else 0
                while left:
                    view = stream.some(left)
                    left -= len(view)
                    yield view
                if kind == FILE:
                    yield bytes(stream.view(length))
                if kind != DATA:
                    self._digest = stream.body(len(digests.hasher(self._job.algorithm).digest())).hex()
        except LostError as error:
            if error.stream is not stream:
                raise
            raise reading.lost(error) from None

    def confirm(self, piece, found) -> None:
        if found[self._job.algorithm] != self._digest:
            _refuse(self._job.source_place.site, piece.file.path)


class _LocalDestination(_End):
    def __init__(self, job):
        self._job, self._folder = job, job.destination_folder()

    def put(self, piece, chunks) -> None:
        name = self._job.names[piece.index]
        try:
            fd = self._folder.open(name, os.O_RDWR | os.O_CREAT)
            try:
                position = piece.offset
                for chunk in chunks:
                    view = memoryview(chunk)
                    while view:
                        written = os.pwrite(fd, view, position)
                        view, position = view[written:], position + written
                do_all([lambda _: self._job.remark([abilities.sync_file(fd)])], self._job.beat)
            finally:
                os.close(fd)  # which may fail, too
        except OSError as error:
            raise at(
                self._job.destination_place.site, os_error(error, f"{self._folder.root}/{name}")
            ) from None

    def confirm(self, piece, found) -> None:
        pass  # what arrived was hashed here

    def __exit__(self, *_):
        self._folder.close()


class _SftpDestination(_End):
    def __init__(self, job, end):
        self._job, self._end = job, end
        end.guard(job.data)

    def _path(self, piece) -> str:
        return f"{self._job.data}/{self._job.names[piece.index]}"

    def put(self, piece, chunks) -> None:
        with self._end.explained(self._path(piece)):
            self._job.remark([self._end.write(self._path(piece), piece.offset, chunks)])

    def confirm(self, piece, found) -> None:
        path = self._path(piece)
        with self._end.explained(path):
            again = self._end.read_back(path, self._job.algorithm, piece.offset, piece.length)
        if again != found[self._job.algorithm]:
            _refuse(self._job.destination_place.site, piece.file.path)


class _HelperDestination:
    def __init__(self, job, end):
        self._job = job
        self._writing = Writing(job, end)

    def __enter__(self):
        self._writing.__enter__()
        return self

    def __exit__(self, *error):
        return self._writing.__exit__(*error)

    def put(self, piece, chunks) -> None:
        out = self._writing.connection.stream
        out.write(memoryview(frame_name(piece.index, self._job.names[piece.index], piece.file)))
        offset = piece.offset
        for chunk in chunks:
            out.write(memoryview(HEADER.pack(DATA, piece.index, offset, len(chunk)) + bytes(chunk)))
            offset += len(chunk)

    def confirm(self, piece, found) -> None:
        digest = bytes.fromhex(found[self._job.algorithm])
        frame = HEADER.pack(SEAL, piece.index, piece.offset, piece.length) + digest
        self._writing.sent(piece)
        self._writing.connection.stream.write(memoryview(frame))
