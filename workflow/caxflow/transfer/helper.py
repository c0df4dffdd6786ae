"""The far end's program: answers requests on standard input, until that ends.

Sent by `caxflow.transfer.bootstrap`; Python 3.8, standard library, xxhash where it is installed.
"""

from __future__ import annotations

import os
import signal
import time

from caxflow import owners, threads
from caxflow.errors import CaxflowError, DiskAway
from caxflow.files import digests
from caxflow.files.listing import FileStat, os_error
from caxflow.transfer import protocol
from caxflow.transfer.pieces import Receiver, Sender
from caxflow.transfer.session import Session, Throttle, perform

_ACKS_AT_ONCE = 64


class Helper:
    """Serves one connection."""

    def __init__(self, stream, roots):
        self._stream = stream
        self._session = Session(Throttle(lambda count: stream.send({"progress": count})), roots)
        self._receiver = self._sender = None
        self._written = [0, 0]  # pieces and bytes that were not acknowledged yet

    def serve(self) -> None:
        """Handle frames until the stream ends; the first error is reported and ends the helper."""
        stream = self._stream
        handlers = {
            protocol.NAME: self._name,
            protocol.FILE: self._file,
            protocol.DATA: self._data,
            protocol.SEAL: self._seal,
            protocol.JSON: lambda index, offset, length: self._message(stream.json(length)),
        }
        while True:
            pieces = self._written[0]
            if pieces and (pieces >= _ACKS_AT_ONCE or not stream.buffered):
                self._acknowledge()
            kind, index, offset, length = stream.header()
            if kind not in handlers:
                raise CaxflowError(
                    f"a frame of unknown kind {kind!r} came", "run the same version of caxflow"
                )
            handlers[kind](index, offset, length)

    def _name(self, index: int, size: int, length: int) -> None:
        path, mtime_ns = self._stream.name(length)
        self._receiver.announce(index, path, size, mtime_ns)

    def _data(self, index: int, offset: int, length: int) -> None:
        self._receiver.data(index, offset, length)

    def _seal(self, index: int, offset: int, length: int) -> None:
        self._receiver.seal(index, offset, length)

    def _file(self, index: int, name_size: int, size: int) -> None:
        self._receiver.file(index, name_size, size)

    def _acknowledge(self) -> None:
        written, self._written = self._written, [0, 0]
        self._stream.write(memoryview(protocol.HEADER.pack(protocol.ACK, 0, *written)))

    def _message(self, message: dict) -> None:
        if "do" in message:
            result = perform(self._session, message["do"], message["with"])
            self._stream.send({"result": result})
        elif "receive" in message:
            self._receive(**message["receive"])
        elif "send" in message:
            root, algorithm = message["send"]["root"], message["send"]["algorithm"]
            self._sender = Sender(self._session.folder(root), self._stream, (algorithm,))
        elif "get" in message:
            for index, file, offset, length in message["get"]:
                listed = FileStat(*file)
                if length == listed.size <= protocol.SMALL:
                    self._sender.small(index, listed)
                else:
                    self._sender.piece(index, listed, offset, length)
            self._sender.flush()
        elif "finish" in message:
            if self._written[0]:
                self._acknowledge()
            lacking = []
            if self._receiver:
                lacking = self._receiver.finish(lambda: self._session.report(0))
                self._receiver = None
            self._stream.send({"result": lacking})

    def _receive(self, data: str, algorithm: str) -> None:
        def sealed(index, offset, length, _):
            self._written[0] += 1
            self._written[1] += length

        self._receiver = Receiver(self._session.folder(data), self._stream, (algorithm,), sealed)


def _watch(stream, timeout: float) -> None:
    """End this process when the other end has neither sent nor taken anything for too long."""

    def look(*_):
        since = stream.blocked_since
        if since is not None and time.monotonic() - since > timeout:
            os._exit(3)

    def watch():
        while True:
            time.sleep(interval)
            look()

    interval = min(timeout / 4, 5)
    if threads.start(watch) is None:  # a signal may break in on calls of the system: second best
        signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, interval, interval)


def main(timeout: float, roots=()) -> None:
    """Serve standard input and output; `timeout` in seconds, `roots` as for `Session`."""
    owners.mask()
    reading, writing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # whatever prints must not reach the frames
    stream = protocol.Stream(protocol.FdChannel(reading, writing))
    threads.spare_memory()
    _watch(stream, timeout)
    hello = {"algorithms": digests.available(), "host": os.uname().nodename, "pid": os.getpid()}
    stream.write(memoryview(protocol.MAGIC))
    stream.send({"hello": hello})
    status = 0
    try:
        Helper(stream, roots).serve()
    except protocol.LostError:
        pass
    except CaxflowError as error:
        status = _tell(stream, [error.what, error.mend], isinstance(error, DiskAway))
    except OSError as error:
        known = os_error(error, "the helper")
        status = _tell(stream, [known.what, known.mend])
    except BaseException as error:
        known = threads.explained(error)
        if known is error:
            known = CaxflowError(f"the helper failed: {error!r}", "please report this")
        status = _tell(stream, [known.what, known.mend])
    finally:
        os._exit(status)  # threads that still write to the disk must not keep the process alive


def _tell(stream, error: list, disk_away: bool = False) -> int:
    try:
        stream.send({"error": error, "disk_away": disk_away})
    except protocol.LostError:
        pass
    return 1
