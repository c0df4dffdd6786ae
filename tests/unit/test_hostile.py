"""Whatever documents, zips and events say, what reads them ends soon, with little memory and in one line."""

import contextlib
import datetime
import io
import json
import struct
import zipfile
import zlib

import bson
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from caxflow import documents
from caxflow.conditions import corrections, parameters, settings
from caxflow.errors import CaxflowError
from caxflow.files.contents import Contents, Inventory
from caxflow.mini.analysis import analyse
from caxflow.mini.parameters import Parameters
from caxflow.monitoring import consistency, status, why
from caxflow.page import rows
from caxflow.page.details import details
from caxflow.page.summary import Summary
from caxflow.planning.standing import Standings
from caxflow.processing import paxini
from caxflow.rawdata import rawformat, safepickle
from caxflow.rawdata.completeness import judge_raw
from caxflow.rawdata.rawformat import ZipName
from caxflow.targets import Run
from caxflow.transfer import zips
from operators import NOW, configured, document, raw
from within import within

LONGEST = 20_000  # characters of what is said of one thing


def fuzzed(examples):
    """How hard to try: no example is kept, and none made smaller, for each takes its time."""
    return effort(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@contextlib.contextmanager
def one_line():
    """Let a reader refuse what it is given, in one line that is not endless."""
    try:
        yield
    except CaxflowError as error:
        said = str(error)
    else:
        return
    assert said.isprintable()
    assert len(said) < LONGEST


def nested(depth, inside):
    return inside if not depth else nested(depth - 1, [inside] if depth % 2 else {"a": inside})


LARGE = (
    lambda: "x" * 1_000_000,
    lambda: "\x1b]0;\u202e" * 1000,
    lambda: [1.5] * 50_000,
    lambda: [{"a": n} for n in range(20_000)],
    lambda: {str(n): n for n in range(20_000)},
    lambda: nested(80, 1),
    lambda: b"\0" * 100_000,
)
ODD = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from(
        [-1, 0, 1, 1e300, 2**62, "", "1e9999", "9" * 39, "160315_1432", "../..", "$where", "donotprocess"]
    )
    | st.sampled_from(["raw", "processed", "transferred", "verifying", "midway-login1", "xe1t-datamanager"])
    | st.sampled_from([bson.Decimal128("9E+6144"), bson.Decimal128("NaN"), bson.Decimal128("-Infinity")])
    | st.sampled_from(
        [bson.MinKey(), bson.Regex("a"), bson.Code("x"), bson.Code("x", {"a": 1}), bson.Timestamp(1, 1)]
    )
    | st.sampled_from([datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31), bson.ObjectId("0" * 24)])
)
VALUES = st.recursive(
    ODD,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abgi.$|\x1b", max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
) | st.sampled_from(LARGE)


def spoiled(whole, draw):
    """The document with other values in some places, of which some are keys that it does not have."""
    places = []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])
        if isinstance(value, dict):
            places.append(
                (value, draw(st.sampled_from(["extra", "manifest", "caxflow", "name", "gains", "type"])))
            )

    walk(whole)
    for _ in range(draw(st.integers(1, 4))):
        at, key = draw(st.sampled_from(places))
        value = draw(VALUES)
        at[key] = value() if callable(value) else value
    # As the database gives it.
    return bson.decode(bson.encode(whole))


def read_by_all(found, config):
    """Yield what each of those who read documents does with this one."""
    run = documents.run_of(found)
    gone = [(each.kind, each.host, each.version) for each in documents.copies(found)]
    editions = [each for each in config.editions if each]
    ask = Standings(config.settings, NOW, editions=editions, voltage=lambda *_: 12.0)
    yield lambda: ask.decide(found)
    yield lambda: ask.of(found)
    yield lambda: why.answer(run, found, config.settings, None, now=NOW, editions=editions)
    yield lambda: list(consistency.surprises(found, config.settings, NOW))
    yield lambda: [list(documents.tags(found)), [documents.find(found, *each) for each in gone]]
    yield lambda: list(parameters.refused(found))
    yield lambda: settings.skip_reason(found, has_verified_raw=True)
    yield lambda: paxini.render(settings.freeze(found, processor="mini_v1", pax_version="v0.0.1"))
    yield lambda: list(corrections.waiting(found, editions, lambda *_: 12.0))
    yield lambda: corrections.stale({}, found)
    for each in editions:
        yield lambda each=each: corrections.propose(each, found, lambda *_: 12.0)
    yield lambda: status.count([found], config.settings)
    yield lambda: status.of_run(run, found, config.settings, None, ask)

    def page():
        copies, stands = list(documents.copies(found)), ask.of(found)
        coded = rows.row(found, run, copies, stands, codes=rows.Codes.of(config.settings))
        told = details(found, copies, config.settings, stands)
        Summary(config.settings, NOW).add(found, run, copies, stands)
        return json.dumps([coded, told], allow_nan=False)

    yield page


class Config:
    """A site's settings, and corrections of today."""

    def __init__(self, folder):
        self.settings = configured(folder, kinds=["raw", "processed"])
        table = [{"min": 0, "max": 9e9, "value": "a.json"}]
        texts = {"AddGains": "1e6 + pmt", "AddDriftVelocity": "v + 1", "AddElectronLifetime": "t"}
        self.editions = [
            corrections.read_edition(
                each, {"version": "1", "function": texts.get(each.name), "correction": table}
            )
            for each in corrections.CORRECTIONS
        ]


def whole_document(folder):
    note = {"owner": "midway", "lease": NOW, "since": NOW, "attempts": 2, "by": {"user": "u", "pid": 3}}
    made = document(
        folder,
        raw(folder, "midway", caxflow=note, size=3, manifest="xxh128:" + "0" * 32),
        {
            "type": "processed",
            "host": "midway-login1",
            "status": "error",
            "location": "/x",
            "pax_version": "v0.0.1",
        },
        tags=[{"name": "good", "user": "y", "date": NOW}],
        comments=[{"text": "t", "user": "y", "date": NOW}],
        user="joe",
    )
    made["caxflow"] = {
        "revision": 3,
        "settled": {"midway": "p settled 2016"},
        "gone": [{"type": "raw", "host": "a"}],
    }
    made["processor"]["correction_versions"] = {"AddGains": "5.0"}
    made["processor"]["NeuralNet|PosRecNeuralNet"] = {"neural_net_file": "nn.npz"}
    return made


def test_a_document_is_read_by_all_with_one_line_at_the_most(tmp_path):
    config = Config(tmp_path)

    @fuzzed(150)
    @given(st.data())
    def read(data):
        found = spoiled(whole_document(tmp_path), data.draw)
        with one_line():
            for reader in read_by_all(found, config):
                with one_line():
                    reader()

    within(600, 60, read)


def test_a_document_of_corrections_is_read_with_one_line_at_the_most(tmp_path):
    run_document = document(tmp_path)

    @fuzzed(150)
    @given(st.data())
    def read(data):
        for each in corrections.CORRECTIONS:
            whole = {
                "version": "5",
                "calculation_time": NOW,
                "function": data.draw(st.text("pmtv0123456789.e+-*/()<,~|& ", max_size=60)),
                "correction": [{"min": 0, "max": 9, "value": "a.npz"}],
            }
            for _ in range(data.draw(st.integers(0, 2))):
                value = data.draw(VALUES)
                whole[data.draw(st.sampled_from(sorted(whole)))] = value() if callable(value) else value
            with one_line():
                edition = corrections.read_edition(each, bson.decode(bson.encode(whole)))
                corrections.propose(edition, run_document, lambda *_: 12.0)

    within(600, 60, read)


# Operations of pickles, each with what may follow it.
ARGUMENTS = {
    **{operation: st.just(b"") for operation in b"()}]tusbeaR.N0\x85\x86\x87\x88\x89\x81\x93\x94"},
    **{operation: st.binary(min_size=1, max_size=1) for operation in b"hqK"},
    **{operation: st.binary(min_size=2, max_size=2) for operation in b"M"},
    **{operation: st.integers(0, 9).map(lambda n: struct.pack("<I", n)) for operation in b"rjJ"},
    **{ord("C"): st.binary(max_size=9).map(lambda data: bytes([len(data)]) + data)},
    **{ord("X"): st.text(max_size=4).map(lambda text: struct.pack("<I", len(text.encode())) + text.encode())},
    **{
        ord("c"): st.sampled_from(
            [
                b"pax.datastructure\nEvent\n",
                b"pax.datastructure\nPulse\n",
                b"numpy\nndarray\n",
                b"numpy\ndtype\n",
                b"numpy.core.multiarray\n_reconstruct\n",
                b"_codecs\nencode\n",
                b"os\nsystem\n",
            ]
        )
    },
}
OPERATION = st.sampled_from(sorted(ARGUMENTS)).flatmap(
    lambda operation: ARGUMENTS[operation].map(lambda argument: bytes([operation]) + argument)
)
PIECES = st.lists(OPERATION, min_size=1, max_size=30).map(b"".join)


def an_event(**keys):
    pulses = [{"channel": n, "left": 5, "right": 104, "raw_data": b"\x80\x3e" * 100} for n in range(20)]
    event = {"event_number": 0, "start_time": 1, "stop_time": 10**6, "sample_duration": 10, "pulses": pulses}
    return event | {"n_channels": 260} | keys


def taken(blob, path):
    """Read a blob as an event, process it, and check it for others."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0", blob)
    gains = {"kind": "tpc", "processor": {"DEFAULT": {"gains": [2e6] * 260}}}
    gains["processor"]["DEFAULT"] |= {"drift_velocity_liquid": 1e-4, "electron_lifetime_liquid": 5e5}
    known = Parameters.from_settings(gains, Run("160315_1432"))
    with contextlib.suppress(CaxflowError):
        rawformat.check_zip(path)
    with contextlib.suppress(CaxflowError):
        for columns in analyse(rawformat.iter_zip(path), known):
            assert len(columns["events"]["event_number"]) == 1


def test_a_pickle_takes_what_it_has(tmp_path):
    path = tmp_path / str(ZipName(0, 0, 7, 1))

    @fuzzed(300)
    @given(PIECES, PIECES, st.integers(1, 100_000), st.integers(0, 60))
    def read(first, again, many, doubled):
        # The same again, or what is in the memo twice, and twice again.
        repeated = again * max(1, min(many, 200_000 // len(again)))
        twice = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(doubled))
        for body in (first + repeated, first + b"q\x00" + twice, first + b"(" + repeated + b"e"):
            data = b"\x80\x03cpax.datastructure\nEvent\n)\x81}" + b"X\1\0\0\0a" + body + b"sb."
            with contextlib.suppress(safepickle.RefusedError):
                safepickle.loads(data)
            taken(zlib.compress(data, 9), path)

    within(400, 90, read)


def test_an_event_of_any_numbers_takes_what_it_has(tmp_path):
    path = tmp_path / str(ZipName(0, 0, 7, 1))
    numbers = (
        st.integers(-(2**63), 2**63 - 1)
        | st.integers(0, 300)
        | st.sampled_from([2**31, 2**31 - 1, 2**32, 2**62])
    )

    @fuzzed(300)
    @given(st.data())
    def read(data):
        event = an_event()
        for _ in range(data.draw(st.integers(1, 4))):
            name = data.draw(
                st.sampled_from(["event_number", "start_time", "stop_time", "sample_duration", "n_channels"])
            )
            event[name] = data.draw(numbers)
        for pulse in event["pulses"][: data.draw(st.integers(0, 5))]:
            shift = data.draw(numbers)
            if abs(shift) < 2**62:
                pulse["left"], pulse["right"] = shift, shift + 99
            pulse["channel"] = data.draw(st.integers(0, 300) | numbers)
        taken(zlib.compress(bson.encode(event)), path)

    within(400, 90, read)


CUT = st.integers(0, 40)


def test_a_zip_takes_what_it_has(tmp_path):
    path = tmp_path / str(ZipName(0, 3, 7, 4))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(4):
            archive.writestr(str(number), zlib.compress(bson.encode(an_event(event_number=number))))
    whole = stream.getvalue()
    begin = whole.index(b"PK\1\2")

    @fuzzed(300)
    @given(
        st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=4),
        st.integers(0, 40),
    )
    def read(changes, cut):
        content = bytearray(whole)
        for place, new in changes:
            at = begin + place % (len(whole) - begin)
            content[at : at + len(new)] = new
        path.write_bytes(content[: len(content) - cut])
        with path.open("rb") as file:
            found = zips.read(str(path), file.fileno(), path.stat().st_size).contents()
        assert len(str(found)) < LONGEST
        held = Inventory({path.name: 1}, zips={path.name: Contents(**found)})
        verdict = judge_raw(held, detector="tpc", number=7, events_built=4)
        with contextlib.suppress(CaxflowError):
            numbers = rawformat.run_event_numbers(tmp_path)
            assert numbers.tolist() == [0, 1, 2, 3]
            list(rawformat.iter_zip(path))
            assert not found["faults"] or verdict.damage

    within(400, 90, read)
