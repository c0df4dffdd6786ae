"""The runs database over TCP: selection, claims, what is told, and what is said when it is away."""

import datetime
import math
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

import bson
import pymongo
import pytest
from bson import Decimal128, Int64, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from caxflow import clock, documents, receipts
from caxflow.config import RunDBAddress, Selection
from caxflow.demo.database import DatabaseServer
from caxflow.demo.server import reserve_port
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Entry, Manifest
from caxflow.rundb import Claim, DatabaseAway, Held, Key, RunsDB, audit, marks, public
from caxflow.rundb.selecting import excluded
from caxflow.targets import Run

WORKFLOW = Path(documents.__file__).parents[1]
RUN = Run("161101_1600")
HOST = "midway-login1"
KEY = Key("raw", HOST)
PLACE = "/raw/161101_1600"
PAST = datetime.datetime(2016, 11, 1, 18)
SOON = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0) + datetime.timedelta(hours=12)
FUTURE = datetime.datetime(2116, 11, 1, 18)
LATELY = SOON - datetime.timedelta(hours=13)
# When other programs say that they began what they left.
LEFT = {
    "nobody says when": {},
    "nothing": {"creation_time": None},
    "no time": {"creation_time": "2016"},
    "an empty list": {"creation_time": []},
    "a list": {"creation_time": [PAST]},
    "a list of more": {"creation_time": [SOON, PAST]},
    "long ago": {"creation_time": PAST},
    "the far future": {"creation_time": FUTURE},
}
EXPIRED = -1  # minutes of lease: one that ends when it begins may end within the millisecond of the look
SECRET = "hunter2-of-the-test"


def document(name="161101_1600", detector="tpc", **keys):
    return {"name": name, "detector": detector, "number": 4242, "end": PAST, "data": []} | keys


def entry(**keys):
    note = keys.pop("note", None)
    made = {"type": "raw", "host": HOST, "status": "transferring", "location": PLACE} | keys
    return made if note is None else made | {"caxflow": note}


def address(uri, name, timeout=10):
    return RunDBAddress(uri, database=name, timeout=timeout)


@pytest.fixture
def runs(database):
    return database.runs_new


@pytest.fixture
def rundb(database_uri, database):
    with RunsDB(address(database_uri, database.name)) as opened:
        yield opened


@pytest.mark.parametrize("odd", [7, "x", {"a": 1}, [5, {}, {"_id": [1]}, {"_id": {"a": 1}}]], ids=str)
def test_b1_odd_records_in_a_document_hide_no_history(runs, rundb, odd):
    runs.insert_one({"name": RUN.name, "detector": RUN.detector, "caxflow": {"audit": odd}})
    audit.record(rundb, "removed", RUN, Key("raw", "h"), grounds="by hand")
    assert [each["action"] for each in rundb.audit(RUN)] == ["removed"]


@pytest.fixture
def away():
    """A database where nobody listens."""
    with RunsDB(address(f"mongodb://127.0.0.1:{reserve_port(pytest)}", "run", timeout=0.1)) as opened:
        yield opened


# Selection.

TAGS = ["bad", "donotprocess", "_sciencerun0", "gas"]
SOURCES = ["none", "Rn220", "LED"]
DAYS = [datetime.datetime(2016, 11, day, 12) for day in (1, 2, 3, 4)]


def corpus():
    """Runs of every description, with keys missing here and there."""
    for index in range(64):
        name = f"1611{index // 16 + 1:02d}_{index % 16:02d}00"
        found = document(name, number=index, start=DAYS[index % 4] + datetime.timedelta(seconds=index % 2))
        if index % 5 == 0:
            found |= {"detector": "muon_veto", "number": 0}
        if index % 3:
            found["tags"] = [{"name": tag} for bit, tag in enumerate(TAGS) if index >> bit & 1]
        if index % 7:
            found["source"] = {"type": SOURCES[index % 3]}
        yield found
    yield document("161105_0000") | {"number": None}
    yield {"name": "161105_0100", "detector": "tpc"}


def admits(selection, found):
    """The selection, said in the plainest way."""
    tags = {tag["name"] for tag in found.get("tags", ())}
    number, start = found.get("number"), found.get("start")
    conditions = [
        not selection.runs or str(Run(found["name"], found["detector"])) in selection.runs,
        not selection.detectors or found["detector"] in selection.detectors,
        selection.first is None or (number is not None and number >= selection.first),
        selection.last is None or (number is not None and number <= selection.last),
        selection.after is None or (start is not None and start >= selection.after),
        selection.before is None or (start is not None and start < selection.before),
        not selection.tags or bool(tags & set(selection.tags)),
        not tags & set(selection.without_tags),
        not selection.sources or found.get("source", {}).get("type") in selection.sources,
    ]
    return all(conditions)


def some(values):
    return st.lists(st.sampled_from(values), unique=True, max_size=2).map(tuple)


SELECTIONS = st.builds(
    Selection,
    runs=some(["161101_0000", "161101_0100", "161101_0000_MV", "161102_0300", "170101_0000"]),
    detectors=some(["tpc", "muon_veto"]),
    first=st.none() | st.integers(0, 70),
    last=st.none() | st.integers(0, 70),
    after=st.none() | st.sampled_from(DAYS),
    before=st.none() | st.sampled_from(DAYS),
    tags=some(TAGS),
    without_tags=some(TAGS),
    sources=some(SOURCES),
)


@effort(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(selection=SELECTIONS)
def test_a_selection_finds_what_it_says(runs, rundb, selection):
    if runs.estimated_document_count() == 0:
        runs.insert_many(corpus())
        rundb.init()
    found = sorted((one["name"], one["detector"]) for one in rundb.unsettled(selection, "midway", "p"))
    expected = sorted((one["name"], one["detector"]) for one in corpus() if admits(selection, one))
    assert found == expected


FIVE = Int64(5)
NO_NUMBERS = [
    float("nan"),
    float("inf"),
    {"number": 5},
    "five",
    "",
    Decimal128("NaN"),
    Decimal128("5.5"),
    1e300,
]
NUMBERS = [5, 5.0, FIVE, Decimal128("5"), Decimal128("5.00"), "5", " 5 ", "5.0", Decimal128("0"), "7", 9.0, 2]
STARTS = [DAYS[1].isoformat(), str(DAYS[2]), "2016-11-01T12:00:00+13:00", 1478044800, 1478044800.0, "soon"]
STARTS += [Decimal128("1478044800"), [DAYS[3], DAYS[0]], [DAYS[0], "2018-01-01"], [[DAYS[0]]]]
ODD_VALUES = {
    "name": ["161101_0000", ["161101_0000"], 7, None],
    "detector": ["tpc", "muon_veto", ["tpc"], None, 7, "neutron_veto"],
    "number": [*NUMBERS, 5.5, True, False, None, -5, [5], [2, 9], *NO_NUMBERS],
    "start": [*DAYS, *STARTS, None, 7, [DAYS[0], DAYS[3]], [], {"time": DAYS[1]}, Timestamp(2, 1)],
    "source": ["none", None, 7, {}, ["none"], [], [{"type": "none"}]],
    "source.type": ["none", None, ["none", "LED"], 7, {"type": "none"}],
    "tags": ["bad", None, 7, {}, [], ["bad"], {"name": "bad"}, [{}, {"name": "gas"}, 5], [[{"name": "bad"}]]],
    "tags.name": ["bad", ["bad", "gas"], None, {"name": "bad"}],
}
ODD_SELECTIONS = [
    Selection(),
    *(Selection(first=bound) for bound in (-6, 0, 1, 5, 6)),
    *(Selection(last=bound) for bound in (-6, 0, 1, 5, 6)),
    Selection(first=3, last=8),
    *(Selection(after=day) for day in DAYS),
    *(Selection(before=day) for day in DAYS),
    Selection(after=DAYS[1], before=DAYS[2]),
    *(Selection(sources=sources) for sources in (("none",), ("LED", "Rn220"))),
    *(Selection(tags=tags) for tags in (("bad",), ("gas", "_sciencerun0"))),
    *(Selection(without_tags=tags) for tags in (("bad",), ("gas", "_sciencerun0"))),
    Selection(detectors=("tpc",)),
    Selection(runs=("161101_0000",)),
]


def odd_documents():
    """Each key with each odd value, and without it."""
    whole = {"start": DAYS[1], "source": {"type": "none"}, "tags": [{"name": "gas"}], "number": 5}
    for path, values in ODD_VALUES.items():
        key, _, below = path.partition(".")
        plain = document("161101_0000") | whole
        yield {name: value for name, value in plain.items() if name != key}
        yield from (plain | {key: {below: value} if below else value} for value in values)
        yield from (plain | {key: [{below: value}]} for value in values if below)


@pytest.mark.parametrize("indexed", [False, True])
def test_the_query_and_the_words_have_one_measure_of_what_is_selected(runs, rundb, indexed):
    """`all` looks at what the query finds, and `why` at the document: numbers that are texts, odd tags."""
    if indexed:
        rundb.init()
        runs.drop_index("caxflow_run")
    runs.insert_many([found | {"_id": number} for number, found in enumerate(odd_documents())])
    for selection in ODD_SELECTIONS:
        looked_at = {one["_id"] for one in rundb.unsettled(selection, "midway", "p")}
        admitted = {one["_id"] for one in runs.find() if excluded(one, selection) is None}
        assert looked_at == admitted, selection


def test_numbers_of_other_programs_count_and_what_is_none_does_not(runs, rundb):
    numbers = {"160101_0002": 5.5, "160101_0003": True, "160101_0004": "five"}
    numbers |= {
        f"160102_000{index}": five for index, five in enumerate((5.0, FIVE, Decimal128("5.0"), " 5 "))
    }
    runs.insert_many([document(name, number=number) for name, number in numbers.items()])
    found = {one["name"] for one in rundb.unsettled(Selection(first=1, last=5), "midway", "p")}
    assert found == {name for name in numbers if name.startswith("160102")}
    assert "5.5" in excluded(runs.find_one({"name": "160101_0002"}), Selection(first=1))


def test_a_start_counts_however_it_is_written_and_of_a_list_the_last(runs, rundb):
    noon, next_day = DAYS[1], DAYS[2]
    inside = [noon.isoformat(), noon.replace(tzinfo=datetime.UTC).timestamp(), [next_day, noon], [str(noon)]]
    outside = [next_day.isoformat(), [noon, next_day], "soon", None, 5]
    runs.insert_many(
        [document(f"161102_{index:04}", start=start) for index, start in enumerate([*inside, *outside])]
    )
    found = [one["start"] for one in rundb.unsettled(Selection(after=noon, before=next_day), "midway", "p")]
    assert sorted(map(str, found)) == sorted(map(str, inside))


MOMENTS = st.sampled_from(
    [PAST, SOON, SOON + datetime.timedelta(days=20), SOON + datetime.timedelta(days=3650)]
)
MARKS = {
    "none": None,
    "empty": "",
    "of a policy before this one": "a settled 2116-01-01T00:00:00",
    "without a time": "m",
    "settled": marks.text("m", marks.SETTLED, SOON),
    "settled, to be looked at again": marks.text("m", marks.SETTLED, PAST),
    "waits": marks.text("m", marks.WAITS, SOON),
    "waits, to be looked at again": marks.text("m", marks.WAITS, PAST),
    "of a policy behind this one": "z settled 2116-01-01T00:00:00",
    "of another kind": f"m zzz {SOON.isoformat()}",
    "of a clock that was wrong": marks.text("m", marks.SETTLED, SOON + datetime.timedelta(days=3650)),
    "a number": 7,
    "a fraction": 7.5,
    "no number": float("nan"),
    "true": True,
    "a time": SOON,
    "bytes": b"m settled",
    "a list": [],
    "a document": {},
    "a document of marks": {"tpc": marks.text("m", marks.SETTLED, SOON)},
    "a list of numbers": [7, None],
    "a mark and a number behind it": [marks.text("m", marks.SETTLED, PAST), 7],
    "a mark in lists": [[marks.text("m", marks.SETTLED, SOON)]],
}
# What may stand where caxflow keeps its notes on a document.
NOTES = [
    None,
    [],
    {},
    7,
    "settled",
    ["settled"],
    {"settled": []},
    {"settled": 7},
    {"settled": [{"midway": 7}]},
]


@pytest.mark.parametrize("indexed", [False, True])
def test_looked_at_is_whatever_no_mark_of_this_policy_spares(runs, rundb, indexed):
    if indexed:
        rundb.init()
        rundb.init_site("midway")
    for number, mark in enumerate(MARKS.values()):
        runs.insert_one(
            document(f"161101_16{number:02}", number=number, caxflow={"settled": {"midway": mark}})
        )
    runs.insert_one(document("161101_1701", number=100, caxflow={"settled": {"lngs": MARKS["settled"]}}))
    runs.insert_one(document("161101_1702", number=101))
    found = sorted({one["number"] for one in rundb.unsettled(Selection(), "midway", "m")})
    spared = [list(MARKS).index(each) for each in ("settled", "waits")]
    assert [number for number in range(len(MARKS)) if number not in found] == spared
    assert found == [*(number for number in range(len(MARKS)) if number not in spared), 100, 101]
    assert rundb.asleep(Selection(), "midway", "m") == 1
    assert rundb.asleep(Selection(), "lngs", "m") == 0


ODD_MARKS = st.recursive(
    st.sampled_from([None, 7, True, 0.5, float("nan"), "", "zzz", "m settled", "m waits z", b"m", PAST])
    | st.builds(marks.text, st.sampled_from("amz"), st.sampled_from(list(marks._LONGEST)), MOMENTS),
    lambda inner: st.lists(inner, max_size=3) | st.fixed_dictionaries({"midway": inner}),
    max_leaves=4,
)


@effort(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    notes=st.lists(
        ODD_MARKS
        | st.fixed_dictionaries({"settled": ODD_MARKS | st.fixed_dictionaries({"midway": ODD_MARKS})}),
        min_size=20,
        max_size=40,
    )
)
def test_the_query_and_the_words_have_one_measure_of_marks(runs, rundb, notes):
    """`all` asks the query, `why` the document: a mark of an odd type held back the query alone."""
    runs.delete_many({})
    notes = [*notes, *NOTES]
    runs.insert_many([document(f"161101_{n:04}", caxflow=note) for n, note in enumerate(notes)])
    # Since they were made the time goes on.
    now = rundb.now()
    due = {one["name"] for one in rundb.unsettled(Selection(), "midway", "m")}
    said = {one["name"]: marks.spared(one, "midway", "m", now) for one in runs.find()}
    assert due == {name for name, kind in said.items() if kind is None}
    assert all((marks.until(one, "midway", "m", now) is None) == (one["name"] in due) for one in runs.find())


def test_planning_is_not_given_what_is_long(runs, rundb):
    long = {"gains": [1e6] * 260, "drift_velocity_liquid": 1e-4}
    entries = [entry(rse=["X"] * 50, checksum="c")]
    runs.insert_one(document(processor={"DEFAULT": long, "other": 1}, comments=["x"] * 9, data=entries))
    (found,) = rundb.unsettled(Selection(), "midway", "p")
    assert found["processor"] == {"DEFAULT": {"gains": [1e6], "drift_velocity_liquid": 1e-4}}
    assert found["data"] == [entry(checksum="c")]
    assert "comments" not in found


def marked(seen, kind=marks.SETTLED, until=SOON):
    return [{"_id": one["_id"], "caxflow": one.get("caxflow"), "mark": kind, "until": until} for one in seen]


def test_settling_spares_what_changed_meanwhile(runs, rundb):
    for number in range(3):
        runs.insert_one(document(f"161101_160{number}", number=number))
    seen = list(rundb.unsettled(Selection(), "midway", "p"))
    rundb.tell(Run("161101_1601"), KEY, {"status": "error", "location": PLACE})
    rundb.settle(marked(seen), "midway", "p")
    assert [one["number"] for one in rundb.unsettled(Selection(), "midway", "p")] == [1]
    assert len(list(rundb.unsettled(Selection(), "lngs", "p"))) == 3


CHANGES = {
    "told": lambda rundb: rundb.tell(RUN, KEY, {"size": 3}),
    "revised": lambda rundb: rundb.revise(RUN, lambda _: ({}, {"$set": {"caxflow.gone": []}})),
    "claimed": lambda rundb: rundb.claim(RUN, Key("raw", "elsewhere"), PLACE, "midway", 30),
    "claimed again": lambda rundb: rundb.claim(RUN, KEY, PLACE, "midway", 30),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_we_change_every_site_looks_at_again(runs, rundb, change):
    runs.insert_one(document(data=[entry(status="error")]))
    for site, kind in (("lngs", marks.SETTLED), ("tegner", marks.WAITS)):
        rundb.settle(marked(runs.find(), kind), site, "p")
        assert not list(rundb.unsettled(Selection(), site, "p"))
    CHANGES[change](rundb)
    for site in ("lngs", "tegner"):
        assert list(rundb.unsettled(Selection(), site, "p"))


@pytest.mark.parametrize(
    ("kind", "age", "shortest", "longest"),
    [
        (marks.SETTLED, {"hours": 2}, {"hours": 18}, {"hours": 30}),
        (marks.SETTLED, {"days": 100}, {"days": 7.5}, {"days": 12.5}),
        (marks.SETTLED, {"days": 4000}, {"days": 22.5}, {"days": 37.5}),
        (marks.WAITS, {"days": 8}, {"hours": 18}, {"hours": 30}),
        (marks.WAITS, {"days": 4000}, {"hours": 18}, {"hours": 30}),
    ],
)
def test_how_long_a_document_is_not_looked_at(kind, age, shortest, longest):
    now = datetime.datetime(2020, 1, 1)
    begun = now - datetime.timedelta(**age)
    looks = [
        marks.next_look({"name": f"161101_{hour:02}00", "start": begun}, kind, now) - now
        for hour in range(24)
    ]
    assert datetime.timedelta(**shortest) <= min(looks)
    assert max(looks) <= datetime.timedelta(**longest)
    # They do not all come at once.
    assert max(looks) - min(looks) > datetime.timedelta(**longest) / 10


def test_a_young_run_that_waits_is_looked_at_each_time():
    now = datetime.datetime(2020, 1, 1)
    begun = now - datetime.timedelta(days=6)
    assert marks.next_look({"name": "191226_0000", "start": begun}, marks.WAITS, now) is None
    assert marks.next_look({"name": "191226_0000", "start": ["surprise"]}, marks.WAITS, now) > now


# Claims.

CLAIMER = """
import sys
from caxflow.config import RunDBAddress
from caxflow.rundb import Held, Key, RunsDB
from caxflow.targets import Run
uri, name, owner, *runs = sys.argv[1:]
with RunsDB(RunDBAddress(uri, database=name)) as database:
    database.now()
    print("ready", flush=True)
    sys.stdin.readline()
    for run in runs:
        try:
            claim = database.claim(Run(run), Key("raw", "midway-login1"), "/raw/" + run, owner, 30)
            print(run, claim.token, flush=True)
        except Held as held:
            assert "midway-login1" in str(held) and "\\n" not in str(held)
    print("done", flush=True)
    sys.stdin.readline()  # its claims hold as long as it lives
"""


def claimer(uri, database, owner, *names):
    return subprocess.Popen(
        [sys.executable, "-c", CLAIMER, uri, database.name, owner, *names],
        env=os.environ | {"PYTHONPATH": str(WORKFLOW)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_of_many_processes_exactly_one_wins_each_copy(database_uri, database, runs):
    fresh = [f"161101_16{index:02d}" for index in range(6)]
    expired = [f"161101_17{index:02d}" for index in range(6)]
    failed = [f"161101_18{index:02d}" for index in range(6)]
    runs.create_index([("name", 1)])
    runs.insert_many([document(name) for name in fresh])
    old = {"owner": "tegner", "token": "old", "lease": PAST, "by": {"host": "gone", "pid": 1}}
    runs.insert_many([document(name, data=[entry(note=old)]) for name in expired])
    runs.insert_many([document(name, data=[entry(status="error")]) for name in failed])
    names = fresh + expired + failed
    crowd = [claimer(database_uri, database, f"site{index}", *names) for index in range(3)]
    for one in crowd:
        assert one.stdout.readline() == "ready\n"
    for one in crowd:
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [line for one in crowd for line in takewhile("done\n".__ne__, one.stdout)]
    for one in crowd:
        one.communicate("\n")
    assert [one.returncode for one in crowd] == [0] * len(crowd)
    won = dict(line.split() for line in said)
    assert len(said) == len(won) == len(names)
    for found in runs.find():
        (only,) = found["data"]
        assert only["status"] == "transferring"
        assert only["caxflow"]["token"] == won[found["name"]]
        assert only["caxflow"]["lease"] > datetime.datetime(2020, 1, 1)


def test_the_owner_that_died_here_is_followed_at_once(database_uri, database, runs, rundb):
    runs.insert_one(document())
    owner = claimer(database_uri, database, "midway", RUN.name)
    owner.stdout.readline()
    owner.stdin.write("go\n")
    owner.stdin.flush()
    token = owner.stdout.readline().split()[1]
    with pytest.raises(Held, match="midway"):
        rundb.claim(RUN, KEY, PLACE, "midway", 30)
    # It has ended, and its parent has not collected it: as of now, perhaps for ever.
    owner.kill()
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    assert rundb.claim(RUN, KEY, PLACE, "midway", 30).token != token
    owner.communicate()
    with pytest.raises(Held):
        rundb.claim(RUN, KEY, PLACE, "midway", 30)


def test_a_claim_is_what_other_programs_read(runs, rundb):
    runs.insert_one({"name": RUN.name, "detector": "tpc"})
    claim = rundb.claim(RUN, KEY, PLACE, "midway", 30)
    (made,) = runs.find_one()["data"]
    note = made.pop("caxflow")
    created = made.pop("creation_time")
    assert made == {
        "type": "raw",
        "host": HOST,
        "status": "transferring",
        "location": PLACE,
        "checksum": None,
        "creation_place": "midway",
    }
    assert note["token"] == claim.token
    assert note["lease"] - created == datetime.timedelta(minutes=30)


def test_the_same_run_of_the_other_detector_is_another_run(runs, rundb):
    runs.insert_many([document(), document(detector="muon_veto")])
    rundb.claim(RUN, KEY, PLACE, "midway", 30)
    rundb.claim(Run(RUN.name, "muon_veto"), KEY, PLACE + "_MV", "midway", 30)
    assert [len(one["data"]) for one in runs.find()] == [1, 1]


def test_two_versions_of_a_product_are_claimed_apart(runs, rundb):
    runs.insert_one(document())
    for version in ("v6.8.0", "v6.11.2"):
        rundb.claim(RUN, Key("processed", HOST, version), f"/p/{version}.root", "midway", 30)
        with pytest.raises(Held):
            rundb.claim(RUN, Key("processed", HOST, version), f"/p/{version}.root", "midway", 30)
    assert {one["pax_version"] for one in runs.find_one()["data"]} == {"v6.8.0", "v6.11.2"}


ENDED = receipts.who() | {"pid": 2**22 + 1}


def held_by(process):
    return entry(note={"owner": "midway", "token": "t", "lease": SOON, "by": process})


FREE = {
    "a process that ended here": held_by(ENDED),
    "one of a machine that is up for long": held_by(ENDED | {"started": 2**31 + 5}),
    "another process with its number": held_by(receipts.who() | {"started": 1}),
    "an error": entry(status="error", note={"attempts": 2, "error": "disk full", "owner": "tegner"}),
    "an error of cax": entry(status="error"),
    "an expired lease": entry(note={"owner": "tegner", "token": "t", "lease": PAST}),
    "an expired lease that is a text": entry(
        note={"owner": "tegner", "token": "t", "lease": PAST.isoformat()}
    ),
    "our own copy that was never read again": entry(status="verifying", note={"owner": "midway"}),
    "what cax left a day ago": entry(creation_time=PAST),
    "what cax left, with its list of dates": entry(creation_time=[PAST]),
    "what cax left, by a clock that was wrong": entry(creation_time=FUTURE),
    **{
        f"{status} since {since}": entry(status=status, **some)
        for status in ("transferring", "verifying")
        for since, some in LEFT.items()
    },
    "odd notes of long ago": entry(creation_time=PAST, note="x"),
    "a lease that is no time, of long ago": entry(creation_time=PAST, note={"lease": "soon"}),
    "a lease of a clock that was wrong": entry(note={"owner": "tegner", "token": "t", "lease": FUTURE}),
    "one that such a clock began": entry(note={"owner": "tegner", "since": SOON, "lease": SOON}),
    "a verification of such a clock": entry(status="verifying", note={"owner": "tegner", "lease": FUTURE}),
    "an expired verification": entry(status="verifying", note={"owner": "tegner", "lease": PAST}),
}
TAKEN = {
    "a good copy": (entry(status="transferred"), "is there already"),
    "a lease": (entry(note={"owner": "tegner", "token": "t", "lease": SOON}), f"{SOON:%Y-%m-%d %H:%M}"),
    "a lease that is a text": (
        entry(creation_time=PAST, note={"owner": "tegner", "token": "t", "lease": SOON.isoformat()}),
        f"{SOON:%Y-%m-%d %H:%M}",
    ),
    "cax at work": (entry(creation_time=LATELY), "another program"),
    "cax at work since lately": (entry(creation_time=SOON), "another program"),
    "cax verifying": (entry(status="verifying", creation_time=LATELY), "another program"),
    "cax verifying, by a clock that is ahead": (
        entry(status="verifying", creation_time=[PAST, SOON]),
        "another program",
    ),
    "another site verifying": (entry(status="verifying", note={"owner": "tegner"}), "is verified by tegner"),
    "a dead process elsewhere": (held_by(ENDED | {"machine": "another"}), "midway"),
    "a process of nobody knows where": (held_by({"host": socket.gethostname(), "pid": 2**22 + 1}), "midway"),
    "a process that lives here": (held_by(receipts.who()), "midway"),
    "a process that is none": (held_by("x"), "midway (?@?)"),
    "odd notes": (entry(creation_time=LATELY, note="x"), "another program"),
    "a lease that is no time": (
        entry(creation_time=LATELY, note={"owner": "tegner", "lease": "soon"}),
        "it has no lease",
    ),
    "a verification that tegner owns, of long ago": (
        entry(status="verifying", creation_time=PAST, note={"owner": "tegner"}),
        "is verified by tegner",
    ),
    "what a process made and will verify": (
        entry(status="verifying", creation_time=PAST, manifest="xxh128:00"),
        "another program",
    ),
}


@pytest.mark.parametrize("case", FREE)
def test_what_can_be_claimed_again(runs, rundb, case):
    other = entry(type="processed", pax_version="v1")
    runs.insert_one(document(data=[other, FREE[case]]))
    claim = rundb.claim(RUN, KEY, "/raw/new", "midway", 30)
    first, second = runs.find_one()["data"]
    assert first == other
    assert (second["status"], second["location"]) == ("transferring", "/raw/new")
    assert second["caxflow"]["token"] == claim.token
    assert second["caxflow"]["owner"] == "midway"
    note = FREE[case].get("caxflow", {})
    past = note if isinstance(note, dict) else {}
    assert second["caxflow"].get("attempts") == past.get("attempts")
    assert second["caxflow"].get("error") == past.get("error")


@pytest.mark.parametrize("case", TAKEN)
def test_what_cannot_be_claimed(runs, rundb, case):
    made, expected = TAKEN[case]
    runs.insert_one(document(data=[made]))
    before = runs.find_one()
    with pytest.raises(Held) as caught:
        rundb.claim(RUN, KEY, "/raw/new", "midway", 30)
    assert expected in str(caught.value)
    assert "161101_1600" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert runs.find_one() == before


def test_what_was_left_is_claimed_beside_an_entry_that_says_nothing(runs, rundb):
    half = {"type": "raw", "host": HOST}
    runs.insert_one(document(data=[half, entry(creation_time=PAST)]))
    claim = rundb.claim(RUN, KEY, PLACE, "midway", 30)
    first, second = runs.find_one()["data"]
    assert first == half
    assert second["caxflow"]["token"] == claim.token


def test_what_cannot_be_understood_is_not_claimed(runs, rundb):
    runs.insert_one(document(data=[entry(status="error"), entry(status="error")]))
    with pytest.raises(CaxflowError, match="2 entries"):
        rundb.claim(RUN, KEY, PLACE, "midway", 30)
    runs.update_one({}, {"$set": {"data": [{"type": "raw", "host": HOST}]}})
    with pytest.raises(CaxflowError, match="no status"):
        rundb.claim(RUN, KEY, PLACE, "midway", 30)


def test_no_claim_on_a_run_that_is_not_there(rundb):
    with pytest.raises(CaxflowError, match="161101_1600 is not in the runs database"):
        rundb.claim(RUN, KEY, PLACE, "midway", 30)


def test_a_lease_is_renewed(runs, rundb):
    runs.insert_one(document())
    claim = rundb.claim(RUN, KEY, PLACE, "midway", EXPIRED)
    before = runs.find_one()["data"][0]["caxflow"]
    claim.lease = 1e-3
    claim._renewed = -math.inf
    claim.renew()
    after = runs.find_one()["data"][0]["caxflow"]
    assert after["lease"] > before["lease"]
    assert {key: after[key] for key in ("token", "owner", "by")} == {
        key: before[key] for key in ("token", "owner", "by")
    }


def test_a_young_lease_is_left_alone(runs, rundb):
    runs.insert_one(document())
    claim = rundb.claim(RUN, KEY, PLACE, "midway", 30)
    before = runs.find_one()
    claim.renew()
    assert runs.find_one() == before


def test_after_a_take_over_the_first_owner_stops(runs, rundb):
    runs.insert_one(document())
    first = rundb.claim(RUN, KEY, PLACE, "midway", EXPIRED)
    second = rundb.claim(RUN, KEY, PLACE, "tegner", 30)
    before = runs.find_one()
    with pytest.raises(Held, match="taken over"):
        first.renew()
    assert runs.find_one() == before
    assert before["data"][0]["caxflow"]["token"] == second.token


def test_a_claim_on_an_entry_that_vanished_is_lost(runs, rundb):
    runs.insert_one(document())
    claim = rundb.claim(RUN, KEY, PLACE, "midway", EXPIRED)
    runs.update_one({}, {"$set": {"data": []}})
    with pytest.raises(Held):
        claim.renew()
    assert runs.find_one()["data"] == []


def test_in_a_dry_run_nothing_is_written(database_uri, database, runs):
    runs.insert_one(document())
    before = list(runs.find())
    with RunsDB(address(database_uri, database.name), dry=True) as dry:
        dry.claim(RUN, KEY, PLACE, "midway", EXPIRED).renew()
        assert dry.tell(RUN, KEY, {"status": "transferred"})
        dry.fill_in(RUN, "raw_size_byte", 3)
        dry.keep_manifest({"digest": "xxh128:00"})
        dry.settle(marked(before), "midway", "p")
    assert list(runs.find()) == before
    assert database.list_collection_names() == ["runs_new"]


# Telling.


def test_telling_makes_an_entry_then_changes_it(runs, rundb):
    runs.insert_one({"name": RUN.name, "detector": "tpc"})
    rundb.tell(RUN, KEY, {"status": "verifying", "location": PLACE, "caxflow.verified": PAST})
    rundb.tell(RUN, KEY, {"status": "transferred", "caxflow.error": None, "caxflow.attempts": 1})
    (made,) = runs.find_one()["data"]
    assert made == entry(status="transferred", note={"verified": PAST, "attempts": 1})


@pytest.mark.parametrize("changes", [{"caxflow.verified": PAST}, {"status": "error"}, {"location": PLACE}])
def test_telling_makes_no_half_of_an_entry(runs, rundb, changes):
    runs.insert_one({"name": RUN.name, "detector": "tpc"})
    before = runs.find_one()
    assert not rundb.tell(RUN, KEY, changes)
    assert runs.find_one() == before


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"status": "error"},
        {"location": "/elsewhere"},
        {"manifest": "xxh128:" + "b" * 32},
        {"host": "nobody"},
        {"caxflow": {"removing": {"trash": "x"}}},
        {"caxflow": {"suspect": {"files": []}}},
    ],
)
def test_what_was_read_is_told_of_that_copy_only(runs, rundb, meanwhile):
    there = entry(status="transferred", manifest="xxh128:" + "a" * 32, note={"owner": "midway"})
    runs.insert_one(document(data=[entry(host="lngs"), there]))
    seen = documents.find(rundb.get(RUN), "raw", KEY.host)
    runs.update_one({}, {"$set": {f"data.1.{key}": value for key, value in meanwhile.items()}})
    before = runs.find_one()
    assert not rundb.confirm(RUN, KEY, seen, {"caxflow.verified": PAST})
    assert runs.find_one() == before
    runs.update_one({}, {"$set": {"data.1": there}})
    assert rundb.confirm(RUN, KEY, seen, {"size": 5, "caxflow.verified": PAST})
    found = runs.find_one()["data"]
    assert found == [
        entry(host="lngs"),
        there | {"size": 5, "caxflow": {"owner": "midway", "verified": PAST}},
    ]


def test_telling_touches_no_other_entry_and_no_other_key(runs, rundb):
    others = [entry(host="lngs"), entry(type="processed", pax_version="v1"), "rubbish", {"type": "raw"}]
    mine = entry(rse=["kept"], note={"owner": "midway"})
    runs.insert_one(document(data=[*others, mine], number=7, processor={"a|b": 1}))
    assert rundb.tell(RUN, KEY, {"status": "error", "caxflow.error": "x"})
    found = runs.find_one()
    assert found["data"][:-1] == others
    assert found["data"][-1] == mine | {"status": "error", "caxflow": {"owner": "midway", "error": "x"}}
    assert found["processor"] == {"a|b": 1}


def test_only_the_holder_of_the_token_may_tell(runs, rundb):
    runs.insert_one(document(data=[entry(note={"token": "mine"})]))
    before = runs.find_one()
    assert not rundb.tell(RUN, KEY, {"status": "error"}, {"token": "other"})
    assert not rundb.tell(RUN, Key("raw", "nowhere"), {"status": "error"}, {"token": "mine"})
    assert runs.find_one() == before
    assert rundb.tell(RUN, KEY, {"status": "error"}, {"token": "mine"})


def test_what_another_writer_says_between_reading_and_writing_is_not_lost(runs, rundb, monkeypatch):
    runs.insert_one(document(data=[entry(note={"owner": "midway"})]))
    get, other = rundb.get, []

    def interrupted(run):
        found = get(run)
        if not other:
            other.append(True)
            rundb.tell(run, KEY, {"caxflow.verified": PAST})
        return found

    monkeypatch.setattr(rundb, "get", interrupted)
    rundb.tell(RUN, KEY, {"caxflow.error": "x"})
    assert runs.find_one()["data"][0]["caxflow"] == {"owner": "midway", "verified": PAST, "error": "x"}


def test_many_tell_one_document_at_once(runs, rundb):
    runs.insert_one(document())
    hosts = [f"host{index}" for index in range(6)]
    made = {"status": "error", "location": PLACE}
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(lambda host: rundb.tell(RUN, Key("raw", host), made), hosts))
    assert all(told)
    assert sorted(one["host"] for one in runs.find_one()["data"]) == hosts


def test_filling_in_never_overwrites(runs, rundb):
    runs.insert_one(document(raw_size_byte=None))
    rundb.fill_in(RUN, "raw_size_byte", 5)
    rundb.fill_in(RUN, "raw_size_byte", 6)
    assert runs.find_one()["raw_size_byte"] == 5


def test_a_manifest_is_kept_once(database, rundb):
    manifest = Manifest("xxh128", (Entry("a", 1, "0" * 32),)).to_json()
    rundb.keep_manifest(manifest)
    rundb.keep_manifest(manifest | {"files": "other"})
    assert rundb.manifest(manifest["digest"]) == manifest
    assert rundb.manifest("xxh128:01") is None
    assert database.caxflow_manifests.count_documents({}) == 1


def test_indexes_are_made_once_and_keep_runs_unique(runs, rundb):
    first = rundb.init(), rundb.init_site("midway")
    assert (rundb.init(), rundb.init_site("midway")) == first
    runs.insert_one(document())
    runs.insert_one(document(detector="muon_veto"))
    with pytest.raises(pymongo.errors.DuplicateKeyError):
        runs.insert_one(document())


def test_two_documents_for_a_run_stand_in_the_way_of_the_index(runs, rundb):
    runs.insert_many([document(), document()])
    with pytest.raises(CaxflowError) as caught:
        rundb.init()
    assert "\n" not in str(caught.value)
    assert "161101_1600" in str(caught.value)


def test_what_python_cannot_decode_spoils_no_query(rundb):
    """A date beyond the calendar, text that is none: MongoDB has them, the embedded server takes neither."""
    sent = bson.encode({"start": DatetimeMS(1 << 56), "user": "x?"}).replace(b"x?", b"x\xff")
    found = bson.decode(sent, rundb.runs.codec_options)
    assert documents.time_of(found["start"]) is None
    assert found["user"] == "x\N{REPLACEMENT CHARACTER}"
    assert bson.encode({"start": found["start"]}) == bson.encode({"start": DatetimeMS(1 << 56)})


def test_time_is_the_servers(rundb, monkeypatch):
    now = rundb.now()
    assert now.tzinfo is None
    assert clock.past(now) == now


# Away, refused, misconfigured.

CALLS = {
    "get": lambda database: database.get(RUN),
    "claim": lambda database: database.claim(RUN, KEY, PLACE, "midway", 30),
    "tell": lambda database: database.tell(RUN, KEY, {"status": "error"}),
    "unsettled": lambda database: list(database.unsettled(Selection(), "midway", "p")),
    "asleep": lambda database: database.asleep(Selection(), "midway", "p"),
    "manifest": lambda database: database.manifest("xxh128:00"),
    "keep_manifest": lambda database: database.keep_manifest({"digest": "xxh128:00"}),
    "settle": lambda database: database.settle(marked([{"_id": 1}]), "midway", "p"),
    "fill_in": lambda database: database.fill_in(RUN, "raw_size_byte", 1),
    "init": lambda database: database.init(),
    "init_site": lambda database: database.init_site("midway"),
}


@pytest.mark.parametrize("call", CALLS)
def test_away_is_one_line_without_the_password(monkeypatch, call):
    monkeypatch.setenv("MONGODB_PASSWORD", SECRET)
    port = reserve_port(pytest)
    uri = f"mongodb://reader@127.0.0.1:{port}/run?authSource=run"
    with RunsDB(address(uri, "run", timeout=0.05)) as database, pytest.raises(DatabaseAway) as caught:
        CALLS[call](database)
    message = str(caught.value)
    assert f"127.0.0.1:{port}" in message
    assert "Connection refused" in message
    assert "\n" not in message
    assert len(message) < 300
    assert SECRET not in message
    assert SECRET not in repr(database)
    assert "reader" not in message


def test_while_it_is_away_a_claim_goes_on(away):
    Claim(away, RUN, KEY, "token", 1e-6).renew()


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
    """A server that asks for the password of user reader."""
    folder = tmp_path_factory.mktemp("asking")
    with DatabaseServer(folder, durable=False) as server, pymongo.MongoClient(server.uri) as client:
        client["run"].command("createUser", "reader", pwd=SECRET, roles=["readWrite"])
        client["run"].runs_new.insert_one(document())
    with DatabaseServer(folder, durable=False, auth=True) as server:
        yield server.uri.replace("//", "//reader@") + "/run?authSource=run"


@pytest.mark.parametrize("variable", ["MONGODB_PASSWORD", "MONGO_PASSWORD"])
def test_the_password_comes_from_the_environment(asking, monkeypatch, variable):
    monkeypatch.delenv("MONGODB_PASSWORD", raising=False)
    monkeypatch.setenv(variable, SECRET)
    with RunsDB(address(asking, "run")) as database:
        assert database.get(RUN)["number"] == 4242


@pytest.mark.parametrize("password", ["wrong-" + SECRET, None])
def test_a_wrong_password_is_one_line_that_says_where_it_belongs(asking, monkeypatch, password):
    monkeypatch.delenv("MONGODB_PASSWORD", raising=False)
    monkeypatch.delenv("MONGO_PASSWORD", raising=False)
    if password:
        monkeypatch.setenv("MONGODB_PASSWORD", password)
    with pytest.raises(CaxflowError) as caught, RunsDB(address(asking, "run", timeout=2)) as database:
        database.get(RUN)
    message = str(caught.value)
    assert "MONGODB_PASSWORD" in message
    assert SECRET not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://127.0.0.1:99999/run",
        "mongodb://127.0.0.1:port/run",
        "mongodb://",
        "mongodb://[::1/run",
        "mongodb://127.0.0.1:1/run?authSorce=run",
        "mongodb://127.0.0.1:1/run?tls=true&tlsCAFile=/not/there",
    ],
)
def test_a_uri_that_cannot_be_used_is_one_line(uri):
    with pytest.raises(CaxflowError, match=r"rundb\.uri") as caught:
        RunsDB(address(uri, "run", timeout=0.05)).get(RUN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://u:hunter2@h:1,i:2/db?x=y",
        "mongodb://u:hun/hunter2@h:1,i:2/db?x=y",
        "mongodb://u:h@hunter2@h:1,i:2/db",
        "mongodb://u:h?hunter2@h:1,i:2/db",
        "mongodb://hunter2@h:1,i:2/db",
    ],
)
def test_public_is_free_of_user_and_password(uri):
    assert public(uri) == "mongodb://h:1,i:2/db"
