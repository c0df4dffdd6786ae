"""An SFTP server that misbehaves: the name of its file says how."""

import os
import stat
import struct
import sys
import time
from pathlib import Path

BEHAVIOUR = Path(sys.argv[0]).name
SIZE = 10
DIRECTORY, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
NAMES = {
    "climbs": b"../../climbed",
    "absolute": b"/tmp/climbed",
    "odd": b"a\0b",
    "dots": b"sub/../../climbed",
}


def read(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def write(kind, body):
    data = struct.pack(">IB", len(body) + 1, kind) + body
    while data:
        data = data[os.write(1, data) :]


def string(data):
    return struct.pack(">I", len(data)) + data


def attributes(mode, size=SIZE):
    return struct.pack(">IQIII", 1 | 4 | 8, size, mode, 1, 1)


def names(listed):
    if listed:
        return 101, struct.pack(">I", 1) + string(b"end") + string(b"")
    name = NAMES.get(BEHAVIOUR, b"file")
    entry = string(name) + string(b"") + attributes(LINK if BEHAVIOUR == "link" else FILE)
    if BEHAVIOUR == "many":
        return 104, struct.pack(">I", 1 << 31) + entry
    if BEHAVIOUR == "cut":
        return 104, struct.pack(">I", 1) + struct.pack(">I", 1 << 20) + b"short"
    return 104, struct.pack(">I", 1) + entry


def data():
    if BEHAVIOUR == "more":
        return 103, string(bytes(SIZE + 5))
    if BEHAVIOUR == "less":
        return 101, struct.pack(">I", 1) + string(b"end") + string(b"")
    if BEHAVIOUR == "changes":
        return 103, string(os.urandom(SIZE))
    return 103, string(bytes(SIZE))


def answer(kind, body, seen):
    if kind in (7, 17, 8):  # LSTAT, STAT, FSTAT
        path = body[4:] if kind != 8 else b"/data/file"
        return 105, attributes(DIRECTORY if path == b"/data" else FILE)
    if kind in (3, 11):  # OPEN, OPENDIR
        return 102, string(b"handle")
    if kind == 12:
        seen.append(body)
        return names(len(seen) > 1)
    if kind == 5:
        return data()
    return 101, struct.pack(">I", 0) + string(b"") + string(b"")


def main():
    if BEHAVIOUR == "noisy":
        while True:
            os.write(1, b"noise" * 1000)
    if BEHAVIOUR == "mute":
        time.sleep(600)
    if BEHAVIOUR == "huge":
        write(2, struct.pack(">I", 3))
        read(4)
        os.write(1, struct.pack(">IBI", 1 << 31, 101, 1))
        time.sleep(600)
    seen = []
    while True:
        (length,) = struct.unpack(">I", read(4))
        kind, body = read(1)[0], read(length - 1)
        if kind == 1:
            write(2, struct.pack(">I", 3))
            continue
        number, body = body[:4], body[4:]
        if BEHAVIOUR == "unasked":
            while True:
                write(101, os.urandom(4) + struct.pack(">I", 0) + string(bytes(1 << 19)) + string(b""))
        kind, body = answer(kind, body, seen)
        write(kind, number + body)


main()
