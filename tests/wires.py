"""A line between a program and its database that can be slow, or break in the middle of a command."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

# What drivers say to a server by themselves.
GREETINGS = {"hello", "ismaster", "isMaster", "ping", "endSessions"}
OP_MSG = 2013


class Wire:
    """Passes MongoDB's messages on; a context manager.

    Attributes
    ----------
    uri : str
        Where to connect instead.
    delay : float
        Seconds by which each command comes later.
    fate : callable
        Is given the number and the name of each command; "command" has it lost on its way, "reply" what is
        answered to it; either way the connection breaks. None lets it pass.
    commands : list of str
        Names of all commands so far.
    """

    def __init__(self, uri: str):
        host, _, port = uri.partition("//")[2].rstrip("/").partition(":")
        self._server = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"
        self.delay = 0.0
        self.fate: Callable[[int, str], str | None] = lambda number, name: None
        self.commands: list[str] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def reset(self) -> None:
        """Count from the beginning, and let everything pass."""
        self.commands, self.fate = [], lambda number, name: None

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_) -> None:
        # A listener that is merely closed goes on waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                _cut(each)
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            broken = threading.Event()
            with self._lock:
                self._open |= {client, server}
            for work in (self._forth, self._back):
                thread = threading.Thread(target=work, args=(client, server, broken))
                self._threads.append(thread)
                thread.start()

    def _forth(self, client, server, broken) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = _receive(client, 16)
                body = _receive(client, struct.unpack("<i", head[:4])[0] - 16)
                fate = self._judge(_name(head, body))
                if fate == "command":
                    break
                if fate == "reply":
                    broken.set()
                server.sendall(head + body)
        if not broken.is_set():
            _cut(client, server)

    def _back(self, client, server, broken) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if broken.is_set():
                    break
                client.sendall(data)
        _cut(client, server)

    def _judge(self, name: str) -> str | None:
        if name in GREETINGS:
            return None
        with self._lock:
            self.commands.append(name)
            number = len(self.commands)
        time.sleep(self.delay)
        return self.fate(number, name)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _name(head: bytes, body: bytes) -> str:
    """The first key of a message's document is the command's name."""
    if struct.unpack("<i", head[12:16])[0] != OP_MSG:
        return "hello"
    return body[10 : body.index(b"\0", 10)].decode()


def _cut(*connections: socket.socket) -> None:
    for each in connections:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
