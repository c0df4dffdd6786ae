"""Connections that one task leaves to the next, while a command or a job has several: logins are dear."""

import threading
from contextlib import contextmanager
from dataclasses import replace


class _Idle:
    """Those at which nothing is under way; none is kept unless `wanted`."""

    def __init__(self):
        self.lock = threading.Lock()
        self.wanted = False
        self.connections: list = []


_IDLE = _Idle()


@contextmanager
def connections():
    """Keep connections until this ends, for whatever is done by this process meanwhile."""
    with _IDLE.lock:
        outer, _IDLE.wanted = _IDLE.wanted, True
    try:
        yield
    finally:
        if not outer:
            with _IDLE.lock:
                left, _IDLE.connections, _IDLE.wanted = _IDLE.connections, [], False
            for connection in left:
                connection.close()


def _way(place):
    """Return what two places have in common that one connection leads to."""
    return replace(place, connections=None, bandwidth=None, ledger=None)


def take(place):
    """Return a connection to `place` that was left here, or None."""
    with _IDLE.lock:
        for connection in _IDLE.connections:
            if _way(connection.place) == _way(place):
                _IDLE.connections.remove(connection)
                return connection
    return None


def leave(connection) -> bool:
    """Leave a connection at which nothing is under way; False if none is kept."""
    with _IDLE.lock:
        if _IDLE.wanted:
            _IDLE.connections.append(connection)
        return _IDLE.wanted
