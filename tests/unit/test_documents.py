"""Run documents as other programs leave them: nothing in one may end the program."""

import datetime
import posixpath

import pytest
from bson import Decimal128, Int64
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from caxflow import documents, values
from caxflow.errors import CaxflowError
from caxflow.planning import copystate
from caxflow.targets import Run

NOW = datetime.datetime(2016, 11, 1, 17)
INF = float("inf")
RAW = {"type": "raw", "host": "midway-login1", "status": "transferred", "location": "/raw/161101_1600"}


def document(*entries, **keys):
    return {"_id": 1, "name": "161101_1600", "detector": "tpc", "data": list(entries)} | keys


def test_a_copy_is_found_by_kind_and_host():
    found = documents.find(
        document(RAW | {"host": "else"}, RAW | {"manifest": "xxh128:00"}), "raw", RAW["host"]
    )
    assert found.location == "/raw/161101_1600"
    assert found.manifest == "xxh128:00"
    assert documents.find(document(RAW), "processed", RAW["host"], "v6.8.0") is None


def test_processed_files_are_told_apart_by_version():
    entry = RAW | {"type": "processed", "pax_version": "v6.8.0"}
    both = document(entry, entry | {"pax_version": "v6.11.2", "location": "/p/b.root"})
    assert documents.find(both, "processed", RAW["host"], "v6.11.2").location == "/p/b.root"
    assert documents.find(both, "processed", RAW["host"], "v7.0.0") is None


def test_two_entries_for_one_copy_name_the_run_and_the_host():
    with pytest.raises(CaxflowError, match="161101_1600: 2 entries for its raw copy at midway-login1 -> "):
        documents.find(document(RAW, RAW | {"status": "error"}), "raw", "midway-login1")


def test_a_half_written_entry_is_named_where_it_matters():
    half = {"type": "raw", "host": "midway-login1", "status": "error"}
    assert documents.find(document(half), "raw", "lngs") is None
    with pytest.raises(
        CaxflowError, match=r"161101_1600.*raw copy at midway-login1 has no status or location"
    ):
        documents.find(document(half), "raw", "midway-login1")


@pytest.mark.parametrize("data", [None, "x", {}, [None, 3, "x", [RAW]], [{}], [RAW | {"location": None}]])
def test_what_is_no_entry_is_passed_over(data):
    assert list(documents.copies(document(data=data))) == []
    assert list(documents.copies({})) == []


def test_surprising_details_of_an_entry_are_left_out():
    odd = RAW | {"creation_time": [NOW, NOW + datetime.timedelta(1)], "caxflow": "x", "checksum": 5}
    (copy,) = documents.copies(document(odd))
    assert copy.created == NOW + datetime.timedelta(1)
    assert copy.note == {}
    assert copy.checksum is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (NOW, NOW),
        (
            NOW.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
            NOW - datetime.timedelta(hours=1),
        ),
        ([], None),
        ([[NOW]], None),
        ([None, NOW], NOW),
        ([NOW, "2016-11-01T18:00:00+01:00"], NOW),
        ("2016-11-01", NOW.replace(hour=0)),
        (" 2016-11-01 17:00:00Z ", NOW),
        (None, None),
        (1478019600, NOW),
        (Int64(1478019600), NOW),
        (1478019600.0, NOW),
        ("1478019600", NOW),
        (Decimal128("1478019600"), NOW),
        (1478019600000.0, None),
    ],
)
def test_times(found, expected):
    assert documents.time_of(found) == expected


@pytest.mark.parametrize(
    ("location", "good"),
    [
        ("/data/raw/161101_1600", True),
        ("/data/raw/161101_1600/", True),
        ("/data/raw", False),
        ("/data/raw/", False),
        ("/data/rawer/161101_1600", False),
        ("/data/raw/../../etc/passwd", False),
        ("/data/raw/./161101_1600", False),
        ("/data/raw//161101_1600", False),
        ("data/raw/161101_1600", False),
        ("//data/raw/161101_1600", False),
        ("/etc/passwd", False),
        ("", False),
        ("/data/raw/161101_1600\n", False),
        ("/data/raw/161101\0_1600", False),
    ],
)
def test_only_what_lies_below_a_root_is_followed(location, good):
    assert documents.inside(location, "/data/raw") == good
    assert documents.inside(location, "/data/raw/") == good


@given(st.text(st.sampled_from("/.ab"), max_size=20))
def test_no_spelling_leads_out_of_a_root(tail):
    location = "/r/a/" + tail
    if documents.inside(location, "/r/a"):
        assert posixpath.commonpath([posixpath.normpath(location), "/r/a"]) == "/r/a"


@pytest.mark.parametrize(
    ("name", "detector"),
    [
        ("../../etc", "tpc"),
        (None, "tpc"),
        (1611011600, "tpc"),
        (["161101_1600"], "tpc"),
        ("161101_1600", None),
        ("161101_1600", "mv"),
        ("161101_1600_MV", "muon_veto"),
    ],
)
def test_a_document_without_a_proper_name_is_refused_by_its_id_or_name(name, detector):
    with pytest.raises(CaxflowError) as caught:
        documents.run_of({"_id": "id4711", "name": name, "detector": detector})
    assert caught.value.mend
    assert "id4711" in str(caught.value) or repr(name) in str(caught.value)


def test_a_proper_name():
    assert documents.run_of(document(detector="muon_veto")) == Run("161101_1600", "muon_veto")


def test_values_of_another_type_count_as_missing():
    odd = {"a": {"b": 3, "t": True, "s": "x"}, "l": [1]}
    assert documents.value(odd, "a", "b", type_=int) == 3
    assert documents.value(odd, "a", "t", type_=int) is None
    assert documents.value(odd, "a", "t", type_=bool) is True
    assert documents.value(odd, "a", "s", type_=int) is None
    assert documents.value(odd, "a", "b", "c") is None
    assert documents.value(odd, "l", "0") is None
    assert documents.value({}, "a") is None


@pytest.mark.parametrize(
    "found", [8, 8.0, Int64(8), Decimal128("8"), Decimal128("8.00"), "8", " 8 ", "8.0", "+8e0"]
)
def test_a_number_is_one_however_it_is_written(found):
    assert values.whole(found) == values.number(found) == 8
    assert type(values.whole(found)) is int
    assert type(values.number(found)) in (int, float)
    assert documents.value({"a": {"b": found}}, "a", "b", type_=int) == 8


@pytest.mark.parametrize(
    ("found", "number"),
    [
        (8.5, 8.5),
        ("8.5", 8.5),
        (Decimal128("1.44E-4"), 1.44e-4),
        (-8, -8),
        ("-8.0", -8),
        (1e300, 1e300),
        (Decimal128("1E+300"), 1e300),
        (1 << 63, 1 << 63),
    ],
)
def test_a_number_that_counts_nothing(found, number):
    assert values.number(found) == number
    assert values.whole(found) is None


NO_NUMBERS = [
    None,
    True,
    False,
    "",
    " ",
    "many",
    "0x8",
    "8_0",
    "8,0",
    "٨",
    "nan",
    "inf",
    b"8",
    [8],
    {},
    {"$numberLong": "8"},
]
NO_NUMBERS += [float("nan"), float("inf"), Decimal128("NaN"), Decimal128("sNaN"), Decimal128("-Infinity")]
NO_NUMBERS += [Decimal128("1E+6000"), "1e9999", "1e99999999999", "8" * 5000, NOW, DatetimeMS(8)]


@pytest.mark.parametrize("found", NO_NUMBERS, ids=lambda found: repr(found)[:30])
def test_what_is_no_number_is_none_and_raises_nothing(found):
    assert values.number(found) is None
    assert values.whole(found) is None


def test_a_number_is_infinite_only_where_that_may_be():
    assert (
        values.number(Decimal128("Infinity"), infinite=True)
        == values.number(float("inf"), infinite=True)
        == INF
    )
    assert values.number(float("nan"), infinite=True) is None


YES = [True, 1, Int64(1), 1.0, Decimal128("1"), "true", " True ", "1", "1.0"]
NO = [False, 0, 0.0, Decimal128("0.0"), "false", "FALSE", "0"]
NEITHER = [None, 2, 0.5, "yes", "", [True], {}, float("nan"), b"1", NOW]


@pytest.mark.parametrize(
    ("found", "truth"),
    [(each, truth) for some, truth in ((YES, True), (NO, False), (NEITHER, None)) for each in some],
)
def test_truth_values(found, truth):
    assert values.truth(found) is truth


def test_an_end_that_cannot_be_read_is_not_that_of_a_run_that_is_being_taken():
    assert documents.ended(document()) is None
    assert documents.ended(document(end=None)) is None
    assert documents.ended(document(end=[NOW])) == NOW
    with pytest.raises(
        CaxflowError, match="161101_1600: end is 'soon', not a time -> correct the run document"
    ):
        documents.ended(document(end="soon"))


EAST = datetime.timezone(datetime.timedelta(hours=14))
NEVER = [5, "soon", [], [[5]], {}, True, 1e300, float("nan"), b"x", datetime.datetime(1, 1, 1, tzinfo=EAST)]
NEVER += [datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59), DatetimeMS(10**15)]


@pytest.mark.parametrize("found", NEVER, ids=repr)
def test_b1_what_no_clock_has_is_no_time_and_as_a_lease_it_is_over(found):
    """Nor does it end in an overflow where a zone is taken off, or days are added."""
    assert documents.time_of(found) is None
    note = {"owner": "midway", "token": "t", "lease": found}
    copy = documents.Copy("raw", "h", "transferring", "/data/raw/160315_1432", note=note)
    held = documents.is_held(copy, datetime.datetime(2017, 1, 1))
    assert held is not isinstance(found, datetime.datetime | DatetimeMS)
    assert ("by a claim that does not hold" in copystate.remark(copy)) is not held
