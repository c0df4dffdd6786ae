"""A far end that misbehaves: started in the place of Python; the name of its file says how."""

import json
import os
import struct
import sys
import time
from pathlib import Path

HEADER = struct.Struct(">cIQQ")
BEHAVIOUR = Path(sys.argv[0]).name


def read(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def write(data):
    while data:
        data = data[os.write(1, data) :]


def send(message):
    body = json.dumps(message).encode()
    write(HEADER.pack(b"J", 0, 0, len(body)) + body)


def listing(files, **more):
    return {"root": "/data", "single": False, "files": files, "directories": [], **more}


FILE = ["file", 10, 1, 1, 1]
LISTINGS = {
    "climbs": listing([["../../climbed", 10, 1, 1, 1]]),
    "absolute": listing([["/tmp/climbed", 10, 1, 1, 1]]),
    "climbs-directory": listing([FILE], directories=["../climbed"]),
    "twice": listing([FILE, FILE]),
    "negative": listing([["file", -10, 1, 1, 1]]),
    "mangled": {"files": 7},
    "words": "nothing",
    "ageless": listing([["file", 10, 1 << 80, 1, 1]]),
    "several": listing([FILE, ["file2", 10, 1, 1, 1]], single=True),
}


def answer(message):
    if message["do"] == "scan":
        send({"result": LISTINGS.get(BEHAVIOUR, listing([FILE]))})
    elif BEHAVIOUR == "endless":
        while True:
            send({"progress": 1})
    else:
        send({"result": None})


def deliver(pieces):
    index, _, offset, length = pieces[0]
    digest = bytes(16)
    frames = {
        "more": HEADER.pack(b"D", index, offset, length + 5) + bytes(length + 5),
        "elsewhere": HEADER.pack(b"D", index, 1 << 40, length) + bytes(length),
        "other-file": HEADER.pack(b"D", index + 1, offset, length) + bytes(length),
        "wrong-digest": HEADER.pack(b"F", index, 0, length) + bytes(length) + digest,
        "short": HEADER.pack(b"D", index, 0, 4) + b"1234" + HEADER.pack(b"S", index, 0, length) + digest,
        "renamed": HEADER.pack(b"F", index, 7, length) + b"climbed" + bytes(length) + digest,
        "named": HEADER.pack(b"N", 9, 10, 10) + b"../climbed",
        "unknown": HEADER.pack(b"Z", 0, 0, 0),
        "huge-message": HEADER.pack(b"J", 0, 0, 1 << 60),
        "result": HEADER.pack(b"J", 0, 0, 13) + b'{"result": 1}',
        "not-json": HEADER.pack(b"J", 0, 0, 3) + b"{{{",
        "no-object": HEADER.pack(b"J", 0, 0, 3) + b"[7]",
        "nested": HEADER.pack(b"J", 0, 0, 1 << 18) + b"[" * (1 << 18),
        "acknowledges": HEADER.pack(b"A", 0, 1, 10),
        "odd-error": HEADER.pack(b"J", 0, 0, 11) + b'{"error":7}',
        "error": HEADER.pack(b"J", 0, 0, 40) + b'{"error":["\\u001b[31mred\\n","mend"]}'.ljust(40),
    }
    write(frames.get(BEHAVIOUR, b""))


def main():
    read(int(read(8), 16))
    if BEHAVIOUR == "noisy":
        while True:
            write(b"noise" * 1000)
    if BEHAVIOUR == "mute":
        time.sleep(600)
    write(b"Welcome!\n\0caxflow-helper-1\n")
    send({"hello": {"algorithms": ["xxh128", "sha256"]}} if BEHAVIOUR != "hello" else {"hello": 7})
    while True:
        kind, _, _, length = HEADER.unpack(read(HEADER.size))
        body = read(length)
        message = json.loads(body) if kind == b"J" else {}
        if "do" in message:
            answer(message)
        elif "get" in message:
            deliver(message["get"])


main()
