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
_LONGEST = 3600.0  # seconds that the other end may be silent, whatever it says


class Desk:
    """Does what one connection asks for; parameters as of a `Session`."""

    def __init__(self, report, roots=()):
        self.report = report
        self._session = Session(report, roots)

    def perform(self, operation: str, arguments: dict, *, receiving: bool):
        """Perform an operation; `receiving` is whether data of a copy are still to come."""
        return perform(self._session, operation, arguments)

    def reading(self, root: str):
        """Return the folder whose files are asked for."""
        return self._session.folder(root)

    def writing(self, data: str):
        """Return the folder to which files are written."""
        return self._session.folder(data)

    def count(self, name: str, count: int) -> None:
        """Take note of bytes of a stream, ``send`` or ``receive``."""

    def finished(self) -> None:
        """Take note that all was received."""

    def explained(self, error: CaxflowError) -> CaxflowError:
        """Return an error as the other end may have it."""
        return error

    def close(self) -> None:
        """Take note that the connection has ended."""


class Helper:
    """Serves one connection.

    Parameters
    ----------
    stream : Stream
    desk : Desk
        Or what has its methods.
    patience : list of float
        Its item is set to the seconds that the other end says.
    """

    def __init__(self, stream, desk, patience):
        self._stream, self._desk, self._patience = stream, desk, patience
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
            if kind != protocol.JSON and self._receiver is None:
                raise CaxflowError("data came for no copy", "run the same version of caxflow")
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
            receiving = self._receiver is not None
            result = self._desk.perform(message["do"], message["with"], receiving=receiving)
            self._stream.send({"result": result})
        elif "receive" in message:
            self._receive(**message["receive"])
        elif "send" in message:
            settings = message["send"]
            folder = self._desk.reading(settings["root"])
            self._sender = Sender(folder, self._stream, (settings["algorithm"],))
        elif "get" in message and self._sender:
            for index, file, offset, length in message["get"]:
                listed = FileStat(*file)
                if length == listed.size <= protocol.SMALL:
                    self._sender.small(index, listed)
                else:
                    self._sender.piece(index, listed, offset, length)
                self._desk.count("send", length)
            self._sender.flush()
        elif "finish" in message:
            if self._written[0]:
                self._acknowledge()
            lacking = []
            if self._receiver:
                lacking = self._receiver.finish(lambda: self._desk.report(0))
                self._receiver = None
            self._desk.finished()
            self._stream.send({"result": lacking})
        elif "timeout" in message:
            self._patience[0] = min(max(float(message["timeout"]), 10.0), _LONGEST)

    def _receive(self, data: str, algorithm: str) -> None:
        def sealed(index, offset, length, _):
            self._written[0] += 1
            self._written[1] += length
            self._desk.count("receive", length)

        self._receiver = Receiver(self._desk.writing(data), self._stream, (algorithm,), sealed)


def _watch(stream, patience) -> None:
    """End this process when the other end has neither sent nor taken anything for too long."""

    def look(*_):
        since = stream.blocked_since
        if since is not None and time.monotonic() - since > patience[0]:
            os._exit(3)

    def watch():
        while True:
            time.sleep(interval)
            look()

    interval = min(patience[0] / 4, 5)
    if threads.start(watch) is None:  # a signal may break in on calls of the system: second best
        signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, interval, interval)


def main(timeout: float, roots=(), make_desk=None, more=None) -> None:
    """Serve standard input and output.

    Parameters
    ----------
    timeout : float
        Seconds after which the other end counts as dead.
    roots : sequence of str
        As for a `Session`.
    make_desk : callable, optional
        Called with the `report` of a `Session`, makes what does the work; a `Desk` if not given.
    more : dict, optional
        What else is said in the greeting.
    """
    owners.mask()
    reading, writing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # whatever prints must not reach the frames
    stream = protocol.Stream(protocol.FdChannel(reading, writing))
    threads.spare_memory()
    patience = [timeout]
    _watch(stream, patience)
    report = Throttle(lambda count: stream.send({"progress": count}))
    desk = make_desk(report) if make_desk else Desk(report, roots)
    hello = {"algorithms": digests.available(), "host": os.uname().nodename, "pid": os.getpid()}
    hello.update(more or {})
    stream.write(memoryview(protocol.MAGIC))
    stream.send({"hello": hello})
    status = 0
    try:
        Helper(stream, desk, patience).serve()
    except protocol.LostError:
        pass
    except CaxflowError as error:
        status = _tell(stream, desk.explained(error))
    except OSError as error:
        status = _tell(stream, desk.explained(os_error(error, "the helper")))
    except BaseException as error:
        known = threads.explained(error)
        if known is error:
            known = CaxflowError(f"the helper failed: {error!r}", "please report this")
        status = _tell(stream, desk.explained(known))
    finally:
        desk.close()
        os._exit(status)  # threads that still write to the disk must not keep the process alive


def _tell(stream, error: CaxflowError) -> int:
    try:
        stream.send({"error": [error.what, error.mend], "disk_away": isinstance(error, DiskAway)})
    except protocol.LostError:
        pass
    return 1
