import copyreg
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import textwrap
import types
import warnings
import zipfile
import zlib

import bson
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow.errors import CaxflowError
from caxflow.rawdata import rawformat, safepickle
from caxflow.rawdata.rawformat import ZipName
from caxflow.simulate import encode, simulate_run

NAME = "160315_1432"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("raw") / NAME
    simulate_run(directory, NAME, number=7, events=6, events_per_file=4, seed=1)
    return directory


@pytest.fixture(scope="module")
def blob(run):
    with zipfile.ZipFile(run / rawformat.zip_names(run)[0]) as archive:
        return archive.read("0")


class Anything:
    """Takes the attributes of whatever a pickle makes."""


class RealUnpickler(pickle.Unpickler):
    """Python's own machine, as pax used it, with today's places of the old names."""

    def find_class(self, module, name):
        if module == "pax.datastructure":
            return type(name, (Anything,), {})
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def pickled(protocol: int, fields: dict, pulses: list[dict], monkeypatch) -> bytes:
    """An event as Python's own pickler writes it where pax is installed, with this numpy's names."""
    module = types.ModuleType("pax.datastructure")
    kinds = {name: type(name, (), {"__module__": module.__name__}) for name in ("Event", "Pulse")}
    vars(module).update(kinds)
    monkeypatch.setitem(sys.modules, "pax", types.ModuleType("pax"))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def made(kind, attributes):
        instance = kinds[kind]()
        instance.__dict__.update(attributes)
        return instance

    return pickle.dumps(
        made("Event", fields | {"pulses": [made("Pulse", each) for each in pulses]}), protocol
    )


def with_old_names(data: bytes) -> bytes:
    """What numpy 1 would have written: its names, in a pickle without frames, whose lengths would change."""
    pieces, operations = [], list(pickletools.genops(data))
    for (operation, argument, start), after in zip(
        operations, [start for *_, start in operations[1:]] + [len(data)], strict=True
    ):
        piece = data[start:after]
        if operation.name == "FRAME":
            continue
        if isinstance(argument, str) and argument.startswith("numpy._core"):
            piece = piece.replace(b"_core", b"core")
            if operation.name == "SHORT_BINUNICODE":
                piece = piece[:1] + bytes([piece[1] - 1]) + piece[2:]
        pieces.append(piece)
    return b"".join(pieces)


def an_events_content():
    """What `pickled` takes: arrays of all kinds that events have, and more pulses than one byte counts."""
    rng = np.random.default_rng(4)
    fields = encode.event_fields(
        number=3, time=10**18, length=10**6, detector="tpc", name=NAME, n_pulses=400, vetoed=False
    )
    pulses = [
        {
            "channel": int(rng.integers(0, 260)),
            "left": (left := int(rng.integers(0, 90_000))),
            "right": left + length - 1,
            "raw_data": rng.integers(0, 16383, length).astype("<i2"),
        }
        for length in [int(each) for each in rng.integers(1, 400, 399)] + [70_000]
    ]
    return fields | {"nothing": np.array([], "f8"), "a number": np.float64(2.5)}, pulses


PROTOCOLS = (2, 3, 4, 5)


def same(one: rawformat.Event, other: rawformat.Event):
    assert (one.event_number, one.start_time, one.stop_time, one.n_pulses, one.dataset_name) == (
        other.event_number,
        other.start_time,
        other.stop_time,
        other.n_pulses,
        other.dataset_name,
    )
    for column in ("channels", "lefts", "lengths", "samples"):
        assert np.array_equal(getattr(one, column), getattr(other, column))


# Names


numbers = st.integers(0, 10**9 - 1)


@given(first=numbers, last=numbers, number=numbers, count=st.none() | numbers)
def test_zip_names_are_read_back(first, last, number, count):
    name = ZipName(first, last, number, count)
    assert ZipName.parse(str(name)) == name


def test_zip_name_of_old_and_new_files():
    new, old = "XENON1T-4242-000001000-000001999-000001000.zip", "XENON1T-12-000000000-000000999.zip"
    assert ZipName.parse(new) == ZipName(1000, 1999, 4242, 1000)
    assert ZipName.parse(old) == ZipName(0, 999, 12, None)
    assert str(ZipName(1000, 1999, 4242, 1000)) == new


@pytest.mark.parametrize(
    "name",
    [
        "temp.zip",
        "XENON1T-1-0-999.zip",
        "../XENON1T-1-000000000-000000999.zip",
        "XENON1T-1-000000000-000000999.zip\n",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(CaxflowError, match="not the name of a zip"):
        ZipName.parse(name)


def test_zips_come_in_the_order_of_their_events(tmp_path):
    # As text, "XENON1T-10-…" sorts after its successor's name in the old form.
    for name in ("XENON1T-9-000002000-000002999.zip", "XENON1T-9-000000000-000001999-000002000.zip"):
        (tmp_path / name).touch()
    (tmp_path / "trigger_monitor_data.zip").touch()
    assert [ZipName.parse(name).first for name in rawformat.zip_names(tmp_path)] == [0, 2000]


def test_directory_without_zips_and_no_directory(tmp_path):
    with pytest.raises(CaxflowError, match="no zips of events"):
        rawformat.zip_names(tmp_path)
    with pytest.raises(CaxflowError, match="No such file"):
        rawformat.zip_names(tmp_path / "nowhere")


# Genuine events


def test_reads_what_pythons_own_unpickler_reads(blob):
    theirs = RealUnpickler(io.BytesIO(zlib.decompress(blob))).load()
    ours = rawformat.read_event(blob)
    assert ours.event_number == theirs.event_number
    assert (ours.start_time, ours.stop_time) == (theirs.start_time, theirs.stop_time)
    assert len(theirs.pulses) == ours.n_pulses > 50
    for pulse, real in zip(ours.pulses(), theirs.pulses, strict=True):
        assert (pulse.channel, pulse.left, pulse.right) == (real.channel, real.left, real.right)
        assert np.array_equal(pulse.raw_data, real.raw_data)


def test_structured_arrays_of_an_event_are_read(blob):
    theirs = RealUnpickler(io.BytesIO(zlib.decompress(blob))).load()
    record = safepickle.loads(zlib.decompress(blob))
    assert record.kind == "Event"
    assert np.array_equal(record.fields["trigger_signals"].numpy(), theirs.trigger_signals, equal_nan=False)
    assert record.fields["trigger_signals"].numpy().dtype == theirs.trigger_signals.dtype
    assert record.fields["is_channel_suspicious"].numpy().dtype == bool


def step_by_step(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safepickle, "_array", lambda *_: None)
        patch.setattr(safepickle, "_buffer", lambda *_: None)
        return safepickle.loads(data)


@pytest.mark.parametrize("protocol", [*PROTOCOLS[1:], None])
def test_most_arrays_are_read_at_once_and_all_are_the_same(protocol, blob, monkeypatch):
    data, found = zlib.decompress(blob), []
    if protocol:
        data = pickled(protocol, *an_events_content(), monkeypatch)
    for name in ("_array", "_buffer"):
        read = getattr(safepickle, name)
        monkeypatch.setattr(
            safepickle, name, lambda *given, read=read: found.append(read(*given)) or found[-1]
        )
    record = safepickle.loads(data)
    assert record == step_by_step(data)
    arrays = [pulse.fields["raw_data"] for pulse in record.fields["pulses"]]
    at_once = {id(each[0]) for each in found if each}
    assert sum(id(array) in at_once for array in arrays) > len(arrays) / 2


@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
def test_a_damaged_array_is_read_at_once_as_step_by_step(protocol, monkeypatch):
    def pulse(n):
        return {"channel": 3, "left": 5, "right": 4 + n, "raw_data": np.full(n, 257, "<i2")}

    # Numbers of what is referred to are long after some 256 of them.
    many = pulse(4) | {"others": [str(n) for n in range(250)]}
    data = pickled(protocol, {}, [many, pulse(4), pulse(130)], monkeypatch)
    start = data.index(np.full(130, 257, "<i2").tobytes())
    outcomes = []
    for at in range(data.index(b"249") + 3, len(data)):
        if start <= at < start + 260:
            continue
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        outcomes.append([])
        for read in (safepickle.loads, step_by_step):
            try:
                outcomes[-1].append(read(damaged))
            except safepickle.RefusedError:
                outcomes[-1].append("refused")
        assert outcomes[-1][0] == outcomes[-1][1], at
    assert ["refused"] * 2 in outcomes
    assert any(isinstance(at_once, safepickle.Record) for at_once, _ in outcomes)


def test_bson_and_pickle_hold_the_same(run, tmp_path):
    simulate_run(tmp_path / NAME, NAME, number=7, events=6, events_per_file=4, seed=1, encoding="bson")
    assert rawformat.encoding(tmp_path / NAME / rawformat.zip_names(run)[0]) == "bson"
    assert rawformat.encoding(run / rawformat.zip_names(run)[0]) == "pickle"
    for one, other in zip(rawformat.iter_run(run), rawformat.iter_run(tmp_path / NAME), strict=True):
        same(one, other)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_is_read_as_python_reads_it(protocol, old, monkeypatch):
    fields, pulses = an_events_content()
    data = pickled(protocol, fields, pulses, monkeypatch)
    data = with_old_names(data) if old else data
    assert (b"numpy._core" in data) != old
    theirs = RealUnpickler(io.BytesIO(data)).load()
    record = safepickle.loads(data)
    assert record == step_by_step(data)
    assert record.fields["a number"] == 2.5
    for name in ("nothing", "trigger_signals", "is_channel_suspicious", "n_hits_rejected"):
        ours, real = record.fields[name].numpy(), getattr(theirs, name)
        assert ours.dtype == real.dtype
        assert np.array_equal(ours, real)
    event = rawformat.read_event(zlib.compress(data))
    assert (event.event_number, event.start_time, event.dataset_name) == (3, 10**18, NAME)
    for pulse, real in zip(event.pulses(), theirs.pulses, strict=True):
        assert (pulse.channel, pulse.left, pulse.right) == (real.channel, real.left, real.right)
        assert np.array_equal(pulse.raw_data, real.raw_data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cut_anywhere_every_protocol_is_refused(protocol, monkeypatch):
    fields, pulses = an_events_content()
    data = pickled(protocol, fields, pulses[:3], monkeypatch)
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"refused|neither"):
            rawformat.read_event(zlib.compress(data[:length], 0))


def test_a_buffer_outside_of_the_pickle_is_refused():
    buffers = []
    data = pickle.dumps(np.arange(4, dtype="<i2"), 5, buffer_callback=buffers.append)
    assert len(buffers) == 1
    with pytest.raises(safepickle.RefusedError, match="operation"):
        safepickle.loads(data)


def test_names_of_todays_numpy_are_read_too(blob):
    data = zlib.decompress(blob)
    modern = data.replace(b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n", 1)
    assert modern != data
    same(rawformat.read_event(zlib.compress(modern)), rawformat.read_event(blob))


def test_numpys_numbers_are_read_as_numbers():
    data = pickle.dumps([np.int64(7), np.float32(0.5), np.bool_(True)], protocol=3)
    assert safepickle.loads(data) == [7, 0.5, True]


def test_events_come_in_order_and_by_number(run):
    assert [event.event_number for event in rawformat.iter_run(run)] == list(range(6))
    first, last = rawformat.zip_names(run)
    assert [event.event_number for event in rawformat.iter_run(run, [last])] == [4, 5]
    assert [event.event_number for event in rawformat.iter_zip(run / first, [2, 3])] == [2, 3]
    assert rawformat.run_event_numbers(run).tolist() == list(range(6))


def test_reading_is_lazy(run, tmp_path):
    names = rawformat.zip_names(run)
    for name in names:
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / names[1]).write_bytes(b"not a zip")
    events = rawformat.iter_run(tmp_path)
    assert [next(events).event_number for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(CaxflowError, match=names[1]):
        next(events)


# Damage


def rewrite(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_damage_is_named_by_zip_and_event(blob, tmp_path):
    path = tmp_path / "XENON1T-7-000000000-000000001-000000002.zip"
    for content, reason in (
        (blob[:-20], "cut short"),
        (b"no zlib", "cannot be decompressed"),
        (zlib.compress(b"neither"), "neither a pickle nor BSON"),
        (blob, "holds event 0"),
    ):
        rewrite(path, {"0": blob, "1": content})
        with pytest.raises(CaxflowError, match=rf"{path.name}, event 1: .*{reason}"):
            list(rawformat.iter_zip(path))


def test_flipped_bytes_of_a_stored_member_are_noticed(run, tmp_path):
    name = rawformat.zip_names(run)[0]
    data = bytearray((run / name).read_bytes())
    data[2000] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CaxflowError, match=f"{name}, event 0"):
        list(rawformat.iter_zip(tmp_path / name))


def test_damage_in_the_directory_of_a_zip_is_named(blob, tmp_path, monkeypatch):
    path = tmp_path / "whole.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("3", blob)
    whole = path.read_bytes()
    record = whole.rindex(b"PK\x01\x02")
    for at, flipped, reason in ((8, 1, "encrypted"), (10, 1, "not supported")):
        damaged = bytearray(whole)
        damaged[record + at] ^= flipped
        path.write_bytes(damaged)
        for read in (lambda: list(rawformat.iter_zip(path)), lambda: rawformat.encoding(path)):
            with pytest.raises(CaxflowError, match=rf"whole\.zip, event 3: .*{reason}"):
                read()
    path.write_bytes(whole)
    monkeypatch.setattr(rawformat, "_MAX_EVENT_BYTES", len(blob) - 1)
    with pytest.raises(CaxflowError, match=r"event 3: unpacks to more than any event has"):
        list(rawformat.iter_zip(path))


@pytest.mark.parametrize("name", ["1" * 5000, "9" * 30])
def test_a_member_with_an_endless_number_is_refused(name, tmp_path):
    path = tmp_path / "XENON1T-7-000000000-000000000-000000001.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(CaxflowError, match="is not an event's number"):
        rawformat.run_event_numbers(tmp_path)


def test_members_that_are_no_events_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    for member in ("../0", "-1", "abc", "²"):
        rewrite(path, {member: b""})
        with pytest.raises(CaxflowError, match="not an event's number"):
            rawformat.event_numbers(path)


def test_what_unpacks_to_too_much_is_refused_early(blob, monkeypatch):
    monkeypatch.setattr(rawformat, "_MAX_EVENT_BYTES", 10_000)
    with pytest.raises(ValueError, match="unpacks to more"):
        rawformat.read_event(zlib.compress(bytes(10_000_000)))


def test_one_array_in_many_pulses_is_refused():
    samples = bytes(200_000)
    pulse = {"channel": 0, "left": 0, "right": 99_999, "raw_data": samples}
    event = {"event_number": 0, "n_channels": 260, "start_time": 1, "stop_time": 2, "sample_duration": 10}
    with pytest.raises(ValueError, match="take 2000000 bytes, more than it has"):
        rawformat._event(event, [pulse] * 10, rawformat._bson_samples, 1_000_000)


good_event = {
    "event_number": 3,
    "n_channels": 260,
    "start_time": 10**18,
    "stop_time": 10**18 + 1000,
    "sample_duration": 10,
    "pulses": [{"channel": 1, "left": 5, "right": 8, "raw_data": bytes(8)}],
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"event_number": "3"}, "event_number"),
        ({"event_number": True}, "event_number"),
        ({"start_time": None}, "start_time"),
        ({"event_number": 2**31}, "event_number"),
        ({"event_number": -1}, "event_number"),
        ({"n_pulses": 2**40}, "n_pulses"),
        ({"stop_time": 10**18}, "lasts from"),
        ({"stop_time": 2**63 - 1}, "lasts from"),
        ({"sample_duration": 0}, "lasts from"),
        ({"pulses": {}}, "list of pulses"),
        ({"pulses": [3]}, "list of pulses"),
        ({"pulses": [{"left": 5, "right": 8, "raw_data": bytes(8)}]}, "no channel"),
        ({"pulses": [{"channel": 1, "left": 5, "right": 9, "raw_data": bytes(8)}]}, "contradict"),
        ({"pulses": [{"channel": 1, "left": 5, "right": 8, "raw_data": bytes(9)}]}, "contradict"),
        ({"pulses": [{"channel": 1, "left": 5, "right": 4, "raw_data": b""}]}, "empty"),
        ({"pulses": [{"channel": 260, "left": 5, "right": 8, "raw_data": bytes(8)}]}, "channel"),
        ({"pulses": [{"channel": "x", "left": 5, "right": 8, "raw_data": bytes(8)}]}, "integer"),
        ({"pulses": [{"channel": 1, "left": 5.0, "right": 8, "raw_data": bytes(8)}]}, "left of a pulse"),
        ({"pulses": [{"channel": 1, "left": 5, "right": 8, "raw_data": 10**9}]}, "not bytes"),
    ],
)
def test_events_that_contradict_themselves_are_refused(change, reason):
    assert rawformat.read_event(zlib.compress(bson.encode(good_event))).lengths.tolist() == [4]
    with pytest.raises(ValueError, match=reason):
        rawformat.read_event(zlib.compress(bson.encode(good_event | change)))


# Hostile pickles


def text(string: str) -> bytes:
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def event_with(value: bytes) -> bytes:
    """A pickle of an event one of whose attributes is what `value` makes."""
    return b"\x80\x03cpax.datastructure\nEvent\n)\x81}" + text("pulses") + value + b"sb."


NDARRAY = b"cnumpy\nndarray\n"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
EMPTY_ARRAY = RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R"


def dtype(code: str, state: bytes = b"") -> bytes:
    return b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R" + state


def dtype_state(order="<") -> bytes:
    return b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


FROM_BUFFER = b"\x80\x03\x8c\x13numpy._core.numeric\x8c\x0b_frombuffer\x93"


class Calls:
    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


class Persistent(pickle.Pickler):
    def persistent_id(self, obj):
        return "an id" if obj == "foreign" else None


def persistent(protocol: int) -> bytes:
    stream = io.BytesIO()
    Persistent(stream, protocol).dump(["foreign"])
    return stream.getvalue()


def system(protocol: int, path) -> bytes:
    return pickle.dumps(Calls(os.system, f"touch {path}"), protocol)


HOSTILE = {
    "eval": pickle.dumps(Calls(eval, "1+1"), 3),
    "eval by its old name": b"\x80\x03c__builtin__\neval\n" + text("1") + b"\x85R.",
    "getattr": b"\x80\x03cbuiltins\ngetattr\n.",
    "a dunder of pax": b"\x80\x03cpax.datastructure\n__loader__\n.",
    "a path through pax": b"\x80\x03cpax.datastructure\nnp.load\n.",
    "another module of pax": b"\x80\x03cpax.core\nProcessor\n.",
    "numpy.load": b"\x80\x03cnumpy\nload\n" + text("/etc/passwd") + b"\x85R.",
    "numpy.memmap": b"\x80\x03cnumpy\nmemmap\n.",
    "numpy's runstring": b"\x80\x03cnumpy.testing\nrunstring\n.",
    "copyreg's reconstructor": b"\x80\x03ccopyreg\n_reconstructor\n.",
    "old style instance": b"(icaxflow\nevil\n.",
    "old style object": b"(cos\nsystem\n" + b"o.",
    "instance opcode in protocol 3": b"\x80\x03(ios\nsystem\n.",
    "extension registry, one byte": b"\x80\x03\x82\x01.",
    "extension registry, two bytes": b"\x80\x03\x83\x01\x00.",
    "extension registry, four bytes": b"\x80\x03\x84\x01\x00\x00\x00.",
    "persistent id, text": persistent(0),
    "persistent id, binary": persistent(3),
    "buffer from outside": b"\x80\x05\x97.",
    "protocol 1": b"\x80\x01}.",
    "protocol 6": b"\x80\x06}.",
    "a buffer from outside, made read-only": b"\x80\x05\x97\x98.",
    "a global from the stack": b"\x80\x03\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "a path through pax from the stack": b"\x80\x03\x8c\x11pax.datastructure\x8c\x07np.load\x93.",
    "a number as a global": b"\x80\x03K\x01\x8c\x06system\x93.",
    "an object of pax as a module": b"\x80\x03cpax.datastructure\nEvent\n)\x81\x8c\x06system\x93.",
    "a frame longer than the file": b"\x80\x03\x95\x10" + bytes(7) + b"}.",
    "an object with named arguments": b"\x80\x03cpax.datastructure\nEvent\n)}\x92.",
    "an empty set": b"\x80\x03\x8f.",
    "a terabyte of nothing": b"\x80\x03c__builtin__\nbytes\n\x8a\x05\0\0\0\0\x01\x85R.",
    "bytes by new": b"\x80\x03c__builtin__\nbytes\n)\x81.",
    "another encoding": b"\x80\x03c_codecs\nencode\n" + text("x") + text("zlib_codec") + b"\x86R.",
    "a list to encode": b"\x80\x03c_codecs\nencode\n]" + text("latin1") + b"\x86R.",
    "decoding": b"\x80\x03c_codecs\ndecode\nC\x01x" + text("latin1") + b"\x86R.",
    "a text encoded again and again": b"\x80\x03c_codecs\nencode\n(q\x00"
    + text("x" * 100)
    + text("latin1")
    + b"\x86q\x010]("
    + b"c_codecs\nencode\nh\x01R" * 50
    + b"e.",
    "an array of a list": FROM_BUFFER + b"(]" + dtype("i2") + b"K\x00\x85\x8c\x01CtR.",
    "an array of two dimensions": FROM_BUFFER + b"(C\0" + dtype("i2") + b"K\0K\0\x86\x8c\x01CtR.",
    "an array without a dtype": FROM_BUFFER + b"(C\x02abNK\x01\x85\x8c\x01CtR.",
    "an array of nothing": FROM_BUFFER + b")R.",
    "an array of 8 TB": b"\x80\x03" + NDARRAY + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
    "an array by new": b"\x80\x03" + NDARRAY + b")\x81.",
    "a pax object with arguments": b"\x80\x03cpax.datastructure\nEvent\nK\x01\x85\x81.",
    "a call of a pax class": b"\x80\x03cpax.datastructure\nEvent\n)R.",
    "a call of a string": b"\x80\x03" + text("os.system") + text("true") + b"\x85R.",
    "a call of a list": b"\x80\x03])R.",
    "reconstruction of something else": b"\x80\x03" + RECONSTRUCT + b"K\x00K\x00\x85C\x01b\x87R.",
    "an array of objects": b"\x80\x03" + dtype("O8", dtype_state("|")) + b".",
    "a list as the content of an array": b"\x80\x03"
    + EMPTY_ARRAY
    + b"(K\x01K\x02\x85"
    + dtype("i2", dtype_state())
    + b"\x89]tb.",
    "the state of a string": b"\x80\x03" + text("x") + b"}b.",
    "the state of a class": b"\x80\x03cpax.datastructure\nEvent\n}" + text("a") + b"K\x01sb.",
    "slots of an object": b"\x80\x03cpax.datastructure\nEvent\n)\x81N}\x86b.",
    "items for an object": b"\x80\x03cpax.datastructure\nEvent\n)\x81" + text("a") + b"K\x01s.",
    "values for a dictionary": b"\x80\x03}K\x01a.",
    "an odd number of items": b"\x80\x03}(K\x01u.",
    "4 GB of bytes": b"\x80\x03B\xff\xff\xff\xffabc.",
    "4 EB of bytes": b"\x80\x03\x8e\xff\xff\xff\xff\xff\xff\xff\x3f.",
    "4 EB of text": b"\x80\x03\x8d\xff\xff\xff\xff\xff\xff\xff\x3f.",
    "4 EB of byte array": b"\x80\x03\x96\xff\xff\xff\xff\xff\xff\xff\x3f.",
    "an integer of 2 GB": b"\x80\x03\x8b\xff\xff\xff\x7f\x01.",
    "an integer as text": b"\x80\x03I" + b"9" * 100 + b"\n.",
    "broken text": b"\x80\x03X\x02\x00\x00\x00\xff\xff.",
    "an endless global": b"\x80\x03c" + b"a" * 1000 + b"\n.",
    "more taken than there is": b"\x80\x03..",
    "nothing": b"\x80",
    # Hashing this key takes 2^60 steps: tuples of a tuple, twice, sixty times.
    "a key that takes for ever to hash": b"\x80\x03})q\x00" + b"h\x00\x86q\x00" * 60 + b"K\x01s.",
    "keys of one hash": b"\x80\x03}("
    + b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(10))
    + b"u.",
    "a set that takes for ever to hash": b"\x80\x03()q\x00" + b"h\x00\x86q\x00" * 60 + b"\x91.",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name, protocol):
    data = HOSTILE[name]
    if data[:2] == b"\x80\x03":
        data = bytes([0x80, protocol]) + data[2:]
    with pytest.raises(safepickle.RefusedError):
        safepickle.loads(data)


@pytest.mark.parametrize("protocol", range(6))
def test_commands_are_not_run(protocol, tmp_path):
    trap = tmp_path / "trap"
    data = system(protocol, trap)
    with pytest.raises(safepickle.RefusedError):
        safepickle.loads(data)
    with pytest.raises(ValueError, match=r"refused|neither"):
        rawformat.read_event(zlib.compress(data))
    assert not trap.exists()
    # The trap itself works: Python's own unpickler falls into it.
    pickle.loads(data)
    assert trap.exists()


def test_a_registered_extension_is_not_called_either(tmp_path):
    trap = tmp_path / "trap"
    copyreg.add_extension("os", "system", 77)
    try:
        data = b"\x80\x03\x82\x4d" + text(f"touch {trap}") + b"\x85R."
        with pytest.raises(safepickle.RefusedError):
            safepickle.loads(data)
        assert not trap.exists()
    finally:
        copyreg.remove_extension("os", "system", 77)


def test_refusal_names_zip_event_and_reason(tmp_path):
    path = tmp_path / "XENON1T-7-000000000-000000000-000000001.zip"
    rewrite(path, {"0": zlib.compress(pickle.dumps(Calls(os.system, "true"), 3))})
    with pytest.raises(CaxflowError, match=rf"{path.name}, event 0: .*refused.*system") as caught:
        list(rawformat.iter_zip(path))
    assert "\n" not in str(caught.value)


def test_a_short_pickle_cannot_keep_the_reader_busy(monkeypatch):
    state = b"}" + text("a") + b"Nsq\x00"
    again = b"\x80\x03" + state + b"cpax.datastructure\nEvent\n)\x81h\x00bh\x00b."
    many = b"".join(text(f"{n:03}") for n in range(101))
    wide = dtype("V8", b"(K\x03" + text("|") + b"N(" + many + b"t}K\x08K\x01K\x00tb")
    for data, reason in ((again, "twice"), (b"\x80\x03" + wide + b".", "dtype")):
        with pytest.raises(safepickle.RefusedError, match=reason):
            safepickle.loads(data)
    monkeypatch.setattr(safepickle, "_MAX_OPERATIONS", 100)
    # A dictionary takes 64 bytes, and its operation one, of which zlib makes next to nothing.
    with pytest.raises(safepickle.RefusedError, match="operations"):
        safepickle.loads(b"\x80\x03" + b"}" * 100 + b".")


# A tuple of a tuple, twice, two hundred times: what goes through it never ends.
ENDLESS = b"K\x00\x85q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(200))


@pytest.mark.parametrize("name", [*sorted(good_event.keys() - {"pulses"}), "n_pulses", "dataset_name"])
def test_what_is_endless_is_not_shown(name):
    attributes = good_event | {"pulses": [], "dataset_name": "a"}
    values = pickle.dumps(attributes, 3)[2:-1] + text(name) + ENDLESS + b"s"
    blob = zlib.compress(b"\x80\x03cpax.datastructure\nEvent\n)\x81" + values + b"b.")
    if name == "dataset_name":
        assert rawformat.read_event(blob).dataset_name == "Unknown"
    else:
        with pytest.raises(ValueError, match=f"its {name} is tuple, not an integer"):
            rawformat.read_event(blob)
    with pytest.raises(safepickle.RefusedError, match="dtype"):
        safepickle.loads(b"\x80\x03cnumpy\ndtype\n" + ENDLESS + b"\x85R.")


def test_a_far_memo_index_costs_nothing():
    # Python's own machine would allocate 16 GB for it.
    assert safepickle.loads(b"\x80\x03]r\xff\xff\xff\x7f.") == []


def test_a_dtype_whose_fields_lie_outside_it_is_refused():
    # dtype.__setstate__ would believe it, and numpy read beyond the buffer.
    member = b"}" + text("a") + dtype("i8", dtype_state()) + b"M\xe8\x03\x86s"
    state = b"(K\x03" + text("|") + b"N" + text("a") + b"\x85" + member + b"K\x08K\x01K\x00tb"
    array = EMPTY_ARRAY + b"(K\x01K\x01\x85" + dtype("V8", state) + b"\x89C\x0812345678tb"
    with pytest.raises(safepickle.RefusedError, match="contradicts itself"):
        safepickle.loads(b"\x80\x03" + array + b".").numpy()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"N", "list of pulses"),
        (b"]K\x01a", "list of pulses"),
        (b"]cpax.datastructure\nPeak\n)\x81a", "list of pulses"),
        (b"]cpax.datastructure\nPulse\n)\x81a", "no raw_data"),
    ],
)
def test_objects_in_the_wrong_place_are_refused(value, reason):
    with pytest.raises(ValueError, match=reason):
        rawformat.read_event(zlib.compress(event_with(value)))


def test_arrays_of_the_wrong_kind_are_refused():
    for code, length, reason in (("f8", 1, "not int16"), ("i2", 7, "7 samples holds 8 bytes")):
        array = EMPTY_ARRAY + b"(K\x01K%c\x85" % length + dtype(code, dtype_state()) + b"\x89C\x0812345678tb"
        pulse = b"]cpax.datastructure\nPulse\n)\x81}" + text("raw_data") + array + b"sba"
        with pytest.raises(ValueError, match=reason):
            rawformat.read_event(zlib.compress(event_with(pulse)))


def small_event() -> bytes:
    array = EMPTY_ARRAY + b"(K\x01K\x04\x85" + dtype("i2", dtype_state()) + b"\x89C\x0812345678tb"
    pulse = b"cpax.datastructure\nPulse\n)\x81}(" + text("raw_data") + array
    pulse += text("left") + b"K\x05" + text("right") + b"K\x08" + text("channel") + b"K\x01ub"
    fields = (
        text("event_number") + b"K\x03" + text("n_channels") + b"M\x04\x01" + text("start_time") + b"K\x01"
    )
    fields += text("stop_time") + b"K\xff" + text("sample_duration") + b"K\x0a"
    return (
        b"\x80\x03cpax.datastructure\nEvent\n)\x81}(" + text("pulses") + b"]" + pulse + b"a" + fields + b"ub."
    )


def test_small_event_is_sound():
    event = rawformat.read_event(zlib.compress(small_event()))
    assert (event.event_number, event.samples.tobytes()) == (3, b"12345678")


def test_cut_anywhere_it_is_refused():
    data = small_event()
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"refused|neither"):
            rawformat.read_event(zlib.compress(data[:length]))


@given(st.data())
def test_damage_anywhere_gives_an_event_or_a_refusal(data):
    content = bytearray(small_event())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(rawformat.read_event(zlib.compress(bytes(content))), rawformat.Event)
    except ValueError:
        pass


def test_what_a_genuine_pickle_names_is_all_that_is_admitted(blob):
    operations = list(pickletools.genops(zlib.decompress(blob)))
    named = {argument for operation, argument, _ in operations if operation.name == "GLOBAL"}
    assert named == {
        "pax.datastructure Event",
        "pax.datastructure Pulse",
        "numpy.core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
    }
    assert next(argument for operation, argument, _ in operations if operation.name == "PROTO") == 3


def test_the_reader_holds_nothing_that_can_be_called():
    for value in safepickle._GLOBALS.values():
        assert not callable(value)


# What is named, and how large it is


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([0, 0, 2, 3], "holds event 0 twice"),
        ([0, 1, 2, 99], "holds event 99, which is none of its own"),
        ([0, 1, 2], "lacks event 3"),
        ([1, 2, 3], "lacks event 0"),
        ([0, 2, 3], "lacks event 1"),
        ([0, 1, 2, 3, 3], "holds event 3 twice"),
        ([], "lacks event 0"),
    ],
)
def test_a_zip_holds_the_events_of_its_name(numbers, reason, blob, tmp_path):
    path = tmp_path / "XENON1T-7-000000000-000000003-000000004.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for number in numbers:
            archive.writestr(str(number), blob)
    for read in (
        lambda: rawformat.run_event_numbers(tmp_path),
        lambda: list(rawformat.iter_zip(path)),
        lambda: rawformat.encoding(path),
    ):
        with pytest.raises(CaxflowError, match=rf"^{path.name} {reason}"):
            read()


@given(st.integers(0, 5), st.integers(0, 5), st.lists(st.integers(0, 9), max_size=7))
def test_only_those_events_each_once_are_admitted(first, more, numbers):
    name = str(ZipName(first, first + more, 7, more + 1))
    try:
        rawformat._check_members(sorted(numbers), name)
        good = True
    except CaxflowError:
        good = False
    assert good == (sorted(numbers) == list(range(first, first + more + 1)))


def bounded(code: str, megabytes: int, *arguments) -> str:
    """What some lines of Python print, in a process with so much memory and 20 s of a core."""
    lines = "import resource as r, sys, zlib, bson, zipfile\nfrom caxflow.rawdata import rawformat\n"
    lines += "import numpy\nsize = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
    lines += (
        f"r.setrlimit(r.RLIMIT_AS, (size + {megabytes << 20},) * 2); r.setrlimit(r.RLIMIT_CPU, (20, 20))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", lines + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout.strip()


READ = """
try:
    for each in rawformat.iter_zip(sys.argv[1]):
        print(len(each.samples))
except Exception as error:
    print(type(error).__name__, error)
"""


def many_pulses(count: int, length: int) -> bytes:
    """A pickle of an event whose pulses are all one and the same."""
    start = small_event().index(b"cpax.datastructure\nPulse")
    end = small_event().index(text("event_number"))
    pulse = small_event()[start : end - 1].replace(b"K\x04\x85", b"M" + struct.pack("<H", length) + b"\x85")
    pulse = pulse.replace(b"C\x0812345678", b"B" + struct.pack("<I", 2 * length) + bytes(2 * length))
    pulse = pulse.replace(b"K\x08ub", b"M" + struct.pack("<H", length + 4) + b"ub")
    pulse = pulse.replace(text("right") + b"K\x08", text("right") + b"M" + struct.pack("<H", length + 4))
    before, after = small_event()[:start], small_event()[end:]
    return before + b"(" + pulse + b"q\x07" + b"h\x07" * count + b"e" + after


BOMBS = {
    # 240 kB of which a hundred bytes were made, and 15 kB of which 1.2 GB would be samples.
    "one pulse again and again": lambda: zlib.compress(many_pulses(100_000, 6000), 9),
    "a blob that is mostly zeros": lambda: zlib.compress(
        small_event()[:-1] + text("x") + b"B" + struct.pack("<I", 200_000_000) + bytes(200_000_000) + b"sb.",
        9,
    ),
    "many empty dictionaries": lambda: zlib.compress(b"\x80\x03" + b"}" * 8_000_000 + b".", 9),
    "BSON of many documents": lambda: zlib.compress(bson_of_many(2_000_000), 9),
}


def bson_of_many(count: int) -> bytes:
    inside = b"".join(b"\x03%06d\0\x05\0\0\0\0" % number for number in range(count))
    body = b"\x04pulses\0" + struct.pack("<I", len(inside) + 5) + inside + b"\0"
    return struct.pack("<I", len(body) + 5) + body + b"\0"


@pytest.mark.parametrize("name", BOMBS)
def test_memory_is_that_of_what_was_read(name, tmp_path):
    path = tmp_path / "XENON1T-7-000000003-000000003-000000001.zip"
    blob = BOMBS[name]()
    rewrite(path, {"3": blob})
    said = bounded(READ, 64 + 12 * len(blob) // 2**20 * 4, path)
    assert said.startswith(f"CaxflowError {path.name}, event 3: "), said


def test_a_member_that_was_packed_again_is_bounded_by_what_it_takes(tmp_path):
    path = tmp_path / "XENON1T-7-000000003-000000003-000000001.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("3", bytes(400_000_000))
    said = bounded(READ, 64, path)
    assert "event 3: unpacks to more than any event has" in said
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3", zlib.compress(small_event()))
    assert bounded(READ, 64, path) == "4"


def test_what_members_say_they_take_is_what_the_zip_has(tmp_path):
    path = tmp_path / "XENON1T-7-000000003-000000003-000000001.zip"
    rewrite(path, {"3": zlib.compress(small_event())})
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\1\2")
    content[at + 20 : at + 28] = struct.pack("<2L", 3 << 30, 3 << 30)
    path.write_bytes(content)
    assert "its members take more than it has" in bounded(READ, 64, path)


def test_a_directory_of_many_members_is_not_read(tmp_path):
    path = tmp_path / "XENON1T-7-000000000-000999999-001000000.zip"
    count = 400_000
    entry = struct.Struct("<4s4B4HL2L5H2L")
    with path.open("wb") as file:
        for number in range(count):
            name = b"%06d" % number
            file.write(entry.pack(b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0) + name)
        size = file.tell()
        large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, 0)
        file.write(large + struct.pack("<4sLQL", b"PK\6\7", 0, size, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    said = bounded(READ, 64, path)
    assert said.startswith(f"CaxflowError {path.name} has a directory of more than 8388608 bytes"), said
    code = "from caxflow.transfer import zips\nimport os\nwith open(sys.argv[1], 'rb') as file:\n"
    code += (
        "    print(zips.read(sys.argv[1], file.fileno(), os.path.getsize(sys.argv[1])).contents()['faults'])"
    )
    assert bounded(code, 64, path) == "['has a directory of more than 8388608 bytes']"


# What a program would do that unpickles events as Python does


def object_with(**fields: bytes) -> bytes:
    inside = b"".join(text(name) + value for name, value in fields.items())
    return b"cpax.datastructure\nPeak\n)\x81}(" + inside + b"ub"


# Of a list of two of the list before, sixty times, nothing is long, and yet it never ends.
TWICE = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
UNKIND = {
    "a list of lists": TWICE,
    "tuples of tuples": ENDLESS,
    "objects of objects": object_with(a=b"](" + object_with(a=b"N") + b"q\x05h\x05" * 200 + b"e"),
    "a dictionary": b"}",
    "a class": b"cpax.datastructure\nPeak\n",
    "an array of objects": dtype("V8", b"(K\x03" + text("|") + b"NNNK\x08K\x01K\x3ftb"),
    "an array of 8 TB": RECONSTRUCT + NDARRAY + b"\x8a\x06\0\0\0\0\0\x01\x85C\x01b\x87R",
    "an array without content": EMPTY_ARRAY,
}


@pytest.mark.parametrize("name", UNKIND)
def test_what_a_program_would_unpickle_is_plain_and_ends(name, tmp_path):
    path = tmp_path / "XENON1T-7-000000003-000000003-000000001.zip"
    event = small_event()[:-3] + text("extra") + UNKIND[name] + b"ub."
    rewrite(path, {"3": zlib.compress(event)})
    code = READ.replace("for each in rawformat.iter_zip(sys.argv[1]):", "rawformat.check_zip(sys.argv[1])")
    said = bounded(code.replace("        print(len(each.samples))\n", ""), 64, path)
    assert said.startswith(f"CaxflowError {path.name}, event 3: its pickle was refused: "), said


@pytest.mark.parametrize("encoding", ["pickle", "bson"])
def test_genuine_events_are_plain(run, encoding, tmp_path):
    veto = tmp_path / "veto"
    simulate_run(veto, NAME, kind="muon_veto", number=0, events=3, seed=1, encoding=encoding)
    for folder in (run, veto):
        for name in rawformat.zip_names(folder):
            rawformat.check_zip(folder / name)
