"""Far ends that say anything, for ever: what they take of time and memory is bounded, and named."""

import itertools
import json
import socket
import struct
import threading
import time
import tracemalloc
from contextlib import contextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caxflow import threads, transfer
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.transfer import Place, sftp_client, task
from caxflow.transfer.helper import Desk, Helper
from caxflow.transfer.protocol import (
    ACK,
    DATA,
    FILE,
    HEADER,
    JSON,
    MAGIC,
    NAME,
    SEAL,
    FdChannel,
    LostError,
    Stream,
    frame_json,
    frame_name,
)
from caxflow.transfer.sftp_client import SftpClient
from caxflow.transfer.ssh import HelperConnection

HERE = Place("here")
HELLO = MAGIC + frame_json({"hello": {"algorithms": ["sha256"]}})
SIZE = 3000


class Line(FdChannel):
    """A login that leads to a function, which is given the other end of a socket."""

    cipher, round_trip, waiting = "", 0.1, "the answer"
    authenticated = begun = True

    def __init__(self, answer):
        self._near, far = socket.socketpair()
        super().__init__(self._near.fileno(), self._near.fileno())
        self._far = threading.Thread(target=self._run, args=(answer, far), daemon=True)
        self._far.start()

    @staticmethod
    def _run(answer, far):
        with far, suppress(OSError, LostError, StopIteration):
            answer(far)

    def start(self, step):
        step()

    def kill(self):
        with suppress(OSError):
            self._near.shutdown(socket.SHUT_RDWR)

    destroy = kill

    def end(self, wait):
        self.kill()
        self._far.join(30)
        assert not self._far.is_alive()
        self._near.close()
        return "", 1


@pytest.fixture
def far(monkeypatch):
    """Have a function be what answers at a place."""
    monkeypatch.setattr(task, "_SHORTEST", 0.0)  # else each test takes half a minute
    monkeypatch.setattr(task, "_PATIENCE", 3)

    def be(answer):
        monkeypatch.setattr(
            task, "connect", lambda place, limit: HelperConnection(place, Line(answer), limit)
        )
        return Place("far", "stream", host="far", connections=1, timeout=0.3)

    return be


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "160315_1432"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.zip").write_bytes(bytes([number]) * SIZE)
    return folder


def greeted(far) -> Stream:
    """The stream of a caller, whose program was read and is not needed."""
    stream = Stream(FdChannel(far.fileno(), far.fileno()))
    stream.body(int(stream.body(8), 16))
    far.sendall(HELLO)
    return stream


def helper_of(stream) -> Helper:
    """What our program makes of a connection."""
    return Helper(stream, Desk(lambda count: stream.send({"progress": count})), [60.0])


def misbehaving(does):
    """A helper whose answers `does`, a function of a message, yields; False has it answer as it should."""

    def answer(far):
        stream = greeted(far)
        helper = helper_of(stream)
        while True:
            kind, _, _, length = stream.header()
            if kind != JSON:
                stream.body(length if kind in (NAME, DATA) else length + 32 if kind == FILE else 32)
                continue
            message = stream.json(length)
            for frame in does(message):
                if frame is False:
                    helper._message(message)
                else:
                    far.sendall(frame)

    return answer


def at(name, frames):
    """Misbehave when something is asked: an operation, or a kind of message."""

    def does(message):
        asked = message.get("do") or next(iter(message))
        yield from frames(message) if asked == name else () if asked in ("alive", "get") else (False,)

    return misbehaving(does)


def for_ever(*frames, pause=0.0):
    def yielded(message):
        for frame in itertools.cycle(frames):
            time.sleep(pause)
            yield frame

    return yielded


def pieces(message):
    index, _file, offset, length = message["get"][0]
    return index, offset, length


def trickle(message):
    index = pieces(message)[0]
    for offset in itertools.count():
        time.sleep(0.1)
        yield HEADER.pack(DATA, index, offset, 1) + b"x"


def in_one(message):
    """A frame for all of a piece, whose bytes come one by one."""
    index, offset, length = pieces(message)
    yield HEADER.pack(DATA, index, offset, length)
    yield from for_ever(b"x", pause=0.1)(message)


ALIVE, FAST = frame_json({"progress": 0}), frame_json({"progress": 1 << 40})
STALLS = {
    "alive while it lists": at("scan", for_ever(ALIVE)),
    "alive now and then": at("scan", for_ever(ALIVE, pause=0.1)),
    "fast while it lists": at("scan", for_ever(FAST)),
    "backwards": at("scan", for_ever(frame_json({"progress": -5}))),
    "words": at("scan", for_ever(frame_json({"progress": "x"}), frame_json({}))),
    "greetings": at("scan", for_ever(HELLO[len(MAGIC) :])),
    "alive while it is to send": at("get", for_ever(ALIVE)),
    "empty": at("get", lambda message: for_ever(HEADER.pack(DATA, pieces(message)[0], 0, 0))(message)),
    "a byte now and then": at("get", trickle),
    "a frame without end": at("get", in_one),
    "nothing": at("get", lambda message: ()),
}


@pytest.mark.parametrize("what", STALLS)
def test_a_source_that_only_shows_life_ends_the_copy(far, dataset, tmp_path, what):
    began = time.monotonic()
    with pytest.raises(CaxflowError, match=r"^far( and here)?: (no progress|sends what was not asked)"):
        transfer.copy(far(STALLS[what]), dataset, HERE, tmp_path / "copy")
    assert time.monotonic() - began < 15
    assert not (tmp_path / "copy").exists()


def acknowledging(*counts):
    """Frames for all that was sent, whether it was or not."""
    return for_ever(HEADER.pack(ACK, 0, *counts))


REFUSALS = {
    "none": at("finish", lambda message: ()),
    "empty": at("finish", acknowledging(0, 0)),
    "alive": at("finish", for_ever(ALIVE)),
    "more pieces": at("receive", acknowledging(6, SIZE)),
    "more bytes": at("receive", acknowledging(1, 1 << 63)),
    "too early": at("receive", lambda message: [frame_json({"result": []})]),
    "alive while it begins": at("begin", for_ever(ALIVE)),
    "while it publishes": at("publish", for_ever(ALIVE, FAST)),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_destination_that_only_shows_life_ends_the_copy(far, dataset, tmp_path, what):
    began = time.monotonic()
    said = "^(far|here and far): (no progress|acknowledges what was not sent|did not acknowledge all)"
    with pytest.raises(CaxflowError, match=said):
        transfer.copy(HERE, dataset, far(REFUSALS[what]), tmp_path / "copy")
    assert time.monotonic() - began < 15
    assert not (tmp_path / "copy").exists()


def test_reading_is_believed_only_of_what_there_is_to_read(far, dataset):
    """A far end that says to have read ever more, of a dataset of 15 kB, is not waited for."""
    began = time.monotonic()
    with pytest.raises(CaxflowError, match=r"^far: no progress for 1 s, but signs of life"):
        transfer.take_manifest(far(at("manifests", for_ever(FAST))), dataset)
    invented = {"root": "/", "single": False, "files": [["a", 1 << 62, 1, 1, 1]], "directories": []}

    def lies(message):
        yield frame_json({"result": invented}) if message.get("do") == "scan" else FAST
        yield from for_ever(FAST)(message) if message.get("do") == "manifests" else ()

    with pytest.raises(CaxflowError, match=r"^far: no progress for 1 s, but signs of life"):
        transfer.take_manifest(far(misbehaving(lies)), dataset, size=SIZE)
    assert time.monotonic() - began < 30


class Busy(task.Task):
    """Something that shows life, and so many bytes with each sign, for longer than its patience."""

    def __init__(self, place, count):
        super().__init__(place)
        self.count = count

    def work(self):
        while time.monotonic() - self.began < self.patience + 1:
            self.sign(self.count)
            self.stopped.wait(0.05)
        return "done"


def test_who_is_slow_is_waited_for_as_long_as_bytes_pass(far):
    place = far(None)
    assert task.attend(Busy(place, 3000)) == "done"
    for few in (0, 20):
        with pytest.raises(CaxflowError, match=r"^far: no progress for 1 s, but signs of life -> see what"):
            task.attend(Busy(place, few))


# Messages


@contextmanager
def pair():
    near, far = socket.socketpair()
    with near, far:
        yield Stream(FdChannel(near.fileno(), near.fileno())), far


def read(body: bytes):
    """What a stream makes of a message."""
    with pair() as (stream, far):

        def write():
            with suppress(OSError):
                far.sendall(HEADER.pack(JSON, 0, 0, len(body)) + body)

        writer = threads.started(write)
        try:
            return stream.json(stream.header()[3])
        finally:
            far.shutdown(socket.SHUT_RDWR)
            writer.join(30)


def filled(item: bytes, size: int) -> bytes:
    return b'{"result":[' + b",".join([item] * (size // (len(item) + 1))) + b"]}"


@pytest.mark.parametrize("item", [b"[]", b'{"a":[]}', b'"aa"'])
def test_a_message_costs_no_more_than_the_largest_listing(item):
    """30 MB of empty lists took 767 MB."""
    body = filled(item, 30 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(CaxflowError, match=r"a message of .* values came, of at most 2000000 ->"):
            read(body)
        assert tracemalloc.get_traced_memory()[1] < 120e6
    finally:
        tracemalloc.stop()


def test_the_longest_honest_listing_is_read():
    """As many files as no runs database has a place for in a manifest."""
    file = ["XENON1T-0-000000000-000000999-000001000.zip", 123456789, 1 << 60, 1 << 60, 1 << 63]
    listing = {"root": "/data", "single": False, "files": [file] * 250_000, "directories": []}
    assert len(read(json.dumps({"result": listing}).encode())["result"]["files"]) == 250_000


@pytest.mark.parametrize(
    "value",
    [
        "9" * 21,
        "1" * 3_000_000,
        "-" + "9" * 40,
        "NaN",
        "-Infinity",
        "1e999",
        "0." + "1" * 3_000_000,
        "[" * 200_000,
    ],
)
def test_numbers_that_count_nothing_are_no_message(value):
    began = time.monotonic()
    with pytest.raises(LostError, match="not JSON"):
        read(f'{{"progress":{value}}}'.encode())
    assert time.monotonic() - began < 5


def test_an_answer_is_as_large_as_its_question_wants(far):
    large = frame_json({"result": "x" * (2 << 20)})
    with pytest.raises(
        CaxflowError, match=r"^far: a message of 2097165 bytes came, of at most 1048576 -> ask"
    ):
        transfer.exists(far(at("kind", lambda message: [large])), "/data")


def test_bytes_one_by_one_take_no_more_memory():
    class Slow:
        def read_into(self, view):
            view[:1] = b"x"
            return 1

    tracemalloc.start()
    try:
        assert Stream(Slow()).body(50_000) == b"x" * 50_000
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


# A helper whose caller may be anybody


def test_a_helper_keeps_no_endless_names(tmp_path):
    """The memory is at most that of the names of a large dataset."""

    class File:
        size, mtime_ns = 1, 1

    with pair() as (stream, far):

        def announce():
            far.sendall(frame_json({"receive": {"data": str(tmp_path), "algorithm": "sha256"}}))
            with suppress(OSError):
                for begin in itertools.count(0, 1000):
                    names = (
                        frame_name(number, "/".join(["n" * 200] * 15), File)
                        for number in range(begin, begin + 1000)
                    )
                    far.sendall(b"".join(names))

        caller = threads.started(announce)
        with pytest.raises(CaxflowError, match="more files came than any dataset has -> the other end"):
            helper_of(stream).serve()
        far.shutdown(socket.SHUT_RDWR)
        caller.join(30)


FRAMES = st.binary(max_size=60) | st.builds(
    lambda kind, index, offset, length, body: HEADER.pack(kind, index, offset, length) + body,
    st.sampled_from([NAME, FILE, DATA, SEAL, ACK, JSON]),
    st.integers(0, 3),
    st.integers(0, 1 << 64 - 1) | st.integers(0, 100),
    st.integers(0, 1 << 64 - 1) | st.integers(0, 100),
    st.binary(max_size=120),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.dictionaries(
    st.sampled_from(
        ["result", "error", "progress", "hello", "do", "with", "receive", "send", "get", "finish"]
    ),
    VALUES,
    min_size=1,
    max_size=2,
).map(frame_json)


@settings(max_examples=60, deadline=None)
@given(st.lists(FRAMES | MESSAGES, max_size=6))
def test_a_helper_ends_in_order_whatever_comes(frames):
    with pair() as (stream, far):
        far.sendall(b"".join(frames))
        far.shutdown(socket.SHUT_WR)
        try:
            helper_of(stream).serve()
        except (CaxflowError, LostError, OSError):
            pass
        except (TypeError, KeyError, AttributeError, ValueError, IndexError):
            pass  # `helper.main` reports it as a mistake


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["scan", "begin", "blocks", "get", "scan_again", "receive", "publish"]),
    st.lists(FRAMES | MESSAGES, min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_a_copy_ends_in_order_whatever_comes(far, dataset, tmp_path, when, frames, push, then_go_on):
    """It says so in a line, or is right."""

    def does(message):
        yield from frames
        if then_go_on and when != "get":
            yield False

    place, target = far(at(when, does)), tmp_path / f"copy-{time.monotonic_ns()}"
    ends = (HERE, dataset, place, target) if push else (place, dataset, HERE, target)
    began = time.monotonic()
    try:
        copied = transfer.copy(*ends)
    except CaxflowError:
        pass
    else:
        assert copied.manifest == take(target, "sha256") == take(dataset, "sha256")
    assert time.monotonic() - began < 15


# SFTP


def serving(answers):
    """An SFTP server that greets and then sends what a function makes of a request's number and kind."""

    def serve(far):
        while head := far.recv(4, socket.MSG_WAITALL):
            body = far.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
            kind, number = body[0], body[1:5]
            if kind == 1:
                far.sendall(struct.pack(">IBI", 5, 2, 3))
                continue
            answer = answers(kind)
            far.sendall(struct.pack(">I", 5 + len(answer) - 1) + answer[:1] + number + answer[1:])

    return serve


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


@contextmanager
def sftp(answers):
    line = Line(serving(answers))
    try:
        client = SftpClient(line)
        client.greet()
        yield client
    finally:
        line.end(0)


FOLDER = struct.pack(">II", 4, 0o040755)


def names(count, mark=b"%05d", attributes=FOLDER):
    """A directory that goes on and on."""
    numbers = itertools.count()

    def answers(kind):
        if kind == 11:
            return b"\x66" + text(b"handle")
        if kind == 12:
            listed = b"".join(text(mark % next(numbers)) + text(b"") + attributes for _ in range(count))
            return b"\x68" + struct.pack(">I", count) + listed
        if kind in (7, 17):
            return b"\x69" + attributes
        return b"\x65" + struct.pack(">I", 0)

    return answers


def test_an_endless_folder_is_given_up(monkeypatch):
    monkeypatch.setattr(sftp_client, "MOST_NAMES", 50_000)
    with sftp(names(20_000)) as client, pytest.raises(CaxflowError, match="more than 50000 names came"):
        client.listing("/data")


def test_names_that_no_file_system_has_are_refused():
    with (
        sftp(names(2, mark=b"%05d" + b"x" * 5000)) as client,
        pytest.raises(CaxflowError, match=r"file name .* may not be used"),
    ):
        client.listing("/data")


@pytest.mark.parametrize("length", range(5))
def test_a_greeting_that_is_too_short_is_none(length):
    line = Line(lambda far: far.sendall(struct.pack(">IBI", length, 2, 3) + b"more"))
    began = time.monotonic()
    with pytest.raises(LostError):
        SftpClient(line).greet()
    line.end(0)
    assert time.monotonic() - began < 5
