"""The seven corrections: what they say of a run, how they are written, and what makes a file stale."""

import datetime
import time

import pytest
from bson import Decimal128, Int64

from caxflow.conditions import corrections, expressions, slowcontrol
from caxflow.conditions.corrections import CORRECTIONS, Update, Waiting
from caxflow.errors import CaxflowError

BY_NAME = {correction.name: correction for correction in CORRECTIONS}
CALCULATED = datetime.datetime(2017, 1, 2, 3, 4, 5, 678000)
START = datetime.datetime(2016, 11, 1, 16, 0, 1)
DAY = datetime.timedelta(days=1)

NEWEST = {
    "gains": {"version": "5.0", "function": "Piecewise((2e6 + (t - t0)/1e9, Eq(pmt, 7)), (1e6, True))"},
    "drift_velocity": {"version": "1.0.0", "function": "Poly(1.0 + 0.04*v, v, domain='RR')"},
    "purity": {"version": "2.1", "function": "450 + (t - 1478016001)/1000"},
    "neural_network": {
        "version": "1.6",
        "correction": [
            {"min": 0, "max": 4000, "value": "old.npz"},
            {"min": 4000, "max": float("inf"), "value": "new.npz"},
            {"min": 4000, "max": 5000, "value": "never.npz"},
        ],
    },
    "field_distortion": {"version": "1.1", "correction": [{"min": 0, "max": 4242, "value": "map.json"}]},
}


def run_document(**changes):
    document = {
        "_id": 1,
        "name": "161101_1600",
        "number": 4242,
        "detector": "tpc",
        "start": START,
        "end": START + datetime.timedelta(hours=1),
        "reader": {"self_trigger": True},
    }
    return {key: value for key, value in (document | changes).items() if value is not None}


def edition(name, **changes):
    correction = BY_NAME[name]
    return corrections.read_edition(correction, NEWEST[correction.collection] | changes)


def twelve_kilovolts(*_):
    return 12.0


def test_gains_of_a_physics_run_come_from_the_function():
    gains = corrections.propose(edition("AddGains"), run_document(), slowcontrol.nothing).value
    assert len(gains) == 260
    assert gains[7] == pytest.approx(2e6 + 1.478016001)  # seconds since 1970 in UTC
    assert {*gains[:7], *gains[8:]} == {1e6}


@pytest.mark.parametrize("self_trigger", [True, False, None])
def test_gains_of_the_muon_veto_do_not_depend_on_its_trigger(self_trigger):
    document = run_document(detector="muon_veto", number=0, reader={"self_trigger": self_trigger})
    assert corrections.propose(edition("AddGains"), document, slowcontrol.nothing).value == [1e6] * 88


def test_gains_of_an_led_run_are_one():
    document = run_document(reader={"self_trigger": False})
    assert corrections.propose(edition("AddGains"), document, slowcontrol.nothing).value == [1.0] * 260


def test_whether_it_is_an_led_run_is_not_guessed():
    with pytest.raises(CaxflowError, match=r"161101_1600: AddGains 5\.0: reader\.self_trigger"):
        corrections.propose(edition("AddGains"), run_document(reader={}), slowcontrol.nothing)


def test_drift_velocity_in_cm_per_ns_from_the_cathode_voltage():
    update = corrections.propose(edition("AddDriftVelocity"), run_document(), twelve_kilovolts)
    assert update.value == pytest.approx(1.48e-4)


def test_the_voltage_is_asked_for_the_run_and_its_time():
    asked = []
    corrections.propose(edition("AddDriftVelocity"), run_document(), lambda *about: asked.append(about))
    assert asked == [("161101_1600", 4242, START, START + datetime.timedelta(hours=1))]


def test_without_a_voltage_the_drift_velocity_waits():
    outcome = corrections.propose(edition("AddDriftVelocity"), run_document(), slowcontrol.nothing)
    assert isinstance(outcome, Waiting)
    assert "waiting for slow control" in outcome.reason


def test_electron_lifetime_in_ns():
    update = corrections.propose(edition("AddElectronLifetime"), run_document(), slowcontrol.nothing)
    assert update.value == pytest.approx(450_000)


@pytest.mark.parametrize(("number", "value"), [(0, "old.npz"), (3999, "old.npz"), (4000, "new.npz")])
def test_the_first_range_that_holds_the_number_counts(number, value):
    document = run_document(number=number)
    assert corrections.propose(edition("SetNeuralNetwork"), document, slowcontrol.nothing).value == value


def test_a_run_outside_all_ranges_waits():
    outcome = corrections.propose(edition("SetFieldDistortion"), run_document(), slowcontrol.nothing)
    assert isinstance(outcome, Waiting)
    assert "4242" in outcome.reason


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "AddGains"])
def test_what_describes_the_tpc_is_not_applied_to_the_muon_veto(name):
    collection = BY_NAME[name].collection
    content = NEWEST.get(collection) or NEWEST["field_distortion"]
    document = run_document(detector="muon_veto", number=0)
    assert corrections.propose(corrections.read_edition(BY_NAME[name], content), document, None) is None


def test_a_run_being_taken_is_left_alone():
    assert corrections.propose(edition("AddGains"), run_document(end=None), slowcontrol.nothing) is None


def test_the_same_version_is_nothing_to_do():
    document = run_document(processor={"correction_versions": {"AddGains": "5.0"}})
    assert corrections.propose(edition("AddGains"), document, slowcontrol.nothing) is None
    assert corrections.propose(edition("AddGains", version="5.1"), document, slowcontrol.nothing)


def test_without_a_version_the_calculation_time_is_the_version():
    content = {"calculation_time": CALCULATED, "function": "1e6"}
    assert corrections.read_edition(BY_NAME["AddGains"], content).version == "2017-01-02 03:04:05.678000"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("AddGains", {"function": "1"}, "AddGains: the newest document has neither"),
        ("AddGains", {"version": {"$gt": ""}, "function": "1"}, "neither a version"),
        ("AddGains", {"version": "6"}, "AddGains 6: the expression is a NoneType"),
        ("AddGains", {"version": "6", "function": "__import__('os')"}, "AddGains 6: '_' is not admitted"),
        ("AddElectronLifetime", {"version": "6", "function": "v"}, "'v' is not a known symbol"),
        ("SetS2xyMap", {"version": "6"}, "SetS2xyMap 6: the table of run ranges is a NoneType"),
        ("SetS2xyMap", {"version": "6", "correction": "abc"}, "table of run ranges is a str"),
        ("SetS2xyMap", {"version": "6", "correction": [{"min": 1, "max": 2}]}, "range 0 has no value"),
        ("SetS2xyMap", {"version": "6", "correction": [{"min": "a", "max": 2, "value": 1}]}, "range 0 runs"),
        (
            "SetS2xyMap",
            {"version": "6", "correction": [{"min": 9, "max": 9, "value": 1}, None]},
            "range 1 has no value",
        ),
    ],
)
def test_a_bad_correction_document_is_named(name, content, message):
    with pytest.raises(CaxflowError) as caught:
        corrections.read_edition(BY_NAME[name], content)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "document", "message"),
    [
        ("AddGains", {"function": "1 - pmt"}, {}, "the gain of PMT 2 is -1"),
        ("AddGains", {"function": "1/(pmt - 9)"}, {}, "not a finite real number (at pmt = 9)"),
        ("AddElectronLifetime", {"function": "-t"}, {}, "electron lifetime"),
        ("AddElectronLifetime", {}, {"start": "soon"}, "start is 'soon', not a time"),
        ("AddDriftVelocity", {"function": "0*v"}, {}, "drift velocity"),
        ("AddDriftVelocity", {}, {"number": "many"}, "number is 'many'"),
        ("SetNeuralNetwork", {}, {"number": None}, "number is None"),
        (
            "SetNeuralNetwork",
            {"correction": [{"min": 0, "max": 9999, "value": {}}]},
            {},
            "not the name of a file",
        ),
        ("AddGains", {}, {"processor": "text"}, "processor does not map"),
        ("AddGains", {}, {"processor": {"correction_versions": {"AddGains": {"$gt": ""}}}}, "does not map"),
        ("AddGains", {}, {"processor": {"correction_versions": ["5.0"]}}, "does not map"),
    ],
)
def test_what_cannot_be_computed_names_the_run_and_the_correction(name, changes, document, message):
    with pytest.raises(CaxflowError) as caught:
        corrections.propose(edition(name, **changes), run_document(**document), twelve_kilovolts)
    assert str(caught.value).startswith(f"161101_1600: {name} ")
    assert message in str(caught.value)


def test_stale_names_the_corrections_that_changed():
    document = run_document(
        processor={"correction_versions": {"AddGains": "5.1", "AddElectronLifetime": "2", "SetS2xyMap": "1"}}
    )
    processed = {"AddGains": "5.0", "AddElectronLifetime": "2"}
    assert corrections.stale(processed, document) == {"AddGains": ("5.0", "5.1"), "SetS2xyMap": (None, "1")}
    assert corrections.stale({}, run_document()) == {}


@pytest.fixture
def filled(database):
    """A database with run documents and, for each correction, an older and the newest document."""
    for collection, content in NEWEST.items():
        older = {
            "calculation_time": CALCULATED - datetime.timedelta(days=1),
            "version": "0",
            "function": "0/0",
        }
        database[collection].insert_many([content | {"calculation_time": CALCULATED}, older])
    database.runs_new.insert_one(run_document())
    return database


def bring_up_to_date(database, voltage=twelve_kilovolts, **options):
    editions, problems = corrections.read_newest(database)
    assert problems == []
    document = database.runs_new.find_one({"name": "161101_1600"})
    return list(corrections.correct(database.runs_new, document, editions, voltage, **options))


@pytest.mark.parametrize("newer", [str(CALCULATED + DAY), [CALCULATED, CALCULATED + DAY], 1483412646.0])
def test_the_newest_document_is_found_however_its_time_is_written(filled, newer):
    filled.gains.insert_one(NEWEST["gains"] | {"calculation_time": newer, "version": "5.1"})
    filled.gains.insert_one(NEWEST["gains"] | {"calculation_time": str(CALCULATED - DAY), "version": "4"})
    editions, problems = corrections.read_newest(filled)
    assert (problems, editions[0].version) == ([], "5.1")


def test_a_time_of_calculation_that_cannot_be_read_is_named(filled):
    odds = ["soon", datetime.datetime(9999, 12, 31), {}]
    for odd in odds:
        filled.gains.insert_one(NEWEST["gains"] | {"_id": str(odd), "calculation_time": odd, "version": "6"})
    editions, problems = corrections.read_newest(filled)
    assert editions[0].version == "5.0"
    for problem, odd in zip(problems, odds, strict=True):
        said = f"AddGains: calculation_time of its document {odd} is {odd!r}, not a time: "
        assert str(problem).startswith(said)


@pytest.mark.parametrize("version", [5, 5.0, Int64(5), Decimal128("5.0")], ids=repr)
def test_a_version_is_the_same_however_it_is_written(filled, version):
    filled.gains.update_many({"version": "5.0"}, {"$set": {"version": 5}})
    filled.runs_new.update_one({}, {"$set": {"processor.correction_versions.AddGains": version}})
    assert bring_up_to_date(filled, dry=True)[0].edition.correction.name == "AddDriftVelocity"
    # One that is another is written over, whatever its type.
    filled.gains.update_many({"version": 5}, {"$set": {"version": 6}})
    assert bring_up_to_date(filled)[0].edition.version == 6
    assert filled.runs_new.find_one()["processor"]["correction_versions"]["AddGains"] == 6


@pytest.mark.parametrize("low", [4000, 4000.0, Decimal128("4000"), "4000"], ids=repr)
@pytest.mark.parametrize("high", [float("inf"), Decimal128("Infinity"), 5000.5, "5000"], ids=repr)
def test_ranges_hold_numbers_of_any_type(low, high):
    table = [{"min": Int64(0), "max": low, "value": "old.npz"}, {"min": low, "max": high, "value": "new.npz"}]
    for number in (4242, 4242.0, Decimal128("4242"), "4242"):
        document, given = run_document(number=number), edition("SetNeuralNetwork", correction=table)
        assert corrections.propose(given, document, slowcontrol.nothing).value == "new.npz"


def test_corrections_are_written_where_cax_wrote_them(filled):
    outcomes = bring_up_to_date(filled)
    assert [type(outcome) for outcome in outcomes] == [Update, Update, Update, Update, Waiting]
    processor = filled.runs_new.find_one({"name": "161101_1600"})["processor"]
    assert len(processor["DEFAULT"]["gains"]) == 260
    assert processor["DEFAULT"]["drift_velocity_liquid"] == pytest.approx(1.48e-4)
    assert processor["DEFAULT"]["electron_lifetime_liquid"] == pytest.approx(450_000)
    assert processor["NeuralNet|PosRecNeuralNet"] == {"neural_net_file": "new.npz"}
    assert "WaveformSimulator" not in processor
    assert processor["correction_versions"] == {
        "AddGains": "5.0",
        "AddDriftVelocity": "1.0.0",
        "AddElectronLifetime": "2.1",
        "SetNeuralNetwork": "1.6",
    }


def test_a_second_time_changes_nothing_and_a_newer_document_does(filled):
    bring_up_to_date(filled)
    before = filled.runs_new.find_one()
    assert [type(outcome) for outcome in bring_up_to_date(filled)] == [Waiting]
    assert filled.runs_new.find_one() == before
    newer = {"calculation_time": CALCULATED + datetime.timedelta(days=1), "function": "300"}
    filled.purity.insert_one(newer)
    assert Update in map(type, bring_up_to_date(filled))
    processor = filled.runs_new.find_one()["processor"]
    assert processor["DEFAULT"]["electron_lifetime_liquid"] == 300_000
    assert processor["correction_versions"]["AddElectronLifetime"] == "2017-01-03 03:04:05.678000"


def test_a_dry_run_writes_nothing(filled):
    before = filled.runs_new.find_one()
    assert Update in map(type, bring_up_to_date(filled, dry=True))
    assert filled.runs_new.find_one() == before


def test_an_update_does_not_go_over_a_newer_one(filled):
    editions, _ = corrections.read_newest(filled)
    stale_copy = filled.runs_new.find_one()
    update = corrections.propose(editions[0], stale_copy, twelve_kilovolts)
    assert corrections.apply(filled.runs_new, stale_copy, update)
    filled.runs_new.update_one({}, {"$set": {"processor.correction_versions.AddGains": "9.9"}})
    assert not corrections.apply(filled.runs_new, stale_copy, update)
    assert filled.runs_new.find_one()["processor"]["correction_versions"]["AddGains"] == "9.9"


def test_one_bad_document_does_not_stop_the_other_corrections(filled):
    filled.gains.insert_one({"calculation_time": CALCULATED + datetime.timedelta(1), "function": "open('x')"})
    filled.purity.insert_one({"calculation_time": CALCULATED + datetime.timedelta(1), "function": "log(-t)"})
    editions, problems = corrections.read_newest(filled)
    assert [str(problem).split()[0] for problem in problems] == ["AddGains"]
    outcomes = list(
        corrections.correct(filled.runs_new, filled.runs_new.find_one(), editions, twelve_kilovolts)
    )
    assert [type(outcome) for outcome in outcomes] == [Update, CaxflowError, Update, Waiting]
    versions = filled.runs_new.find_one()["processor"]["correction_versions"]
    assert sorted(versions) == ["AddDriftVelocity", "SetNeuralNetwork"]


def test_a_function_that_takes_long_is_refused_and_then_at_once():
    """It has 80 kB, and all within the limits of what may be read: 95 s a run."""
    gains = edition("AddGains", function="+".join(["pmt**1.2345678901"] * 4500))
    for number in range(200):
        document = run_document(name=f"161101_{number:04}")
        with pytest.raises(CaxflowError, match=rf"^161101_{number:04}: {gains}: its evaluation takes more"):
            corrections.propose(gains, document, twelve_kilovolts)
    assert time.thread_time() < 60  # those of the session's other tests, too
    lifetime = corrections.propose(edition("AddElectronLifetime"), run_document(), twelve_kilovolts)
    assert isinstance(lifetime, Update)


@pytest.mark.parametrize(
    "function",
    [
        "+".join(["exp(-t/123456789.1)"] * 100),
        "Add(" + ", ".join(["log(t + pmt, 7.1)"] * 100) + ")",
        "Add(" + ", ".join(["Pow(pmt, 1.234567)"] * 100) + ")",
        "Max(" + ", ".join(["erf(pmt)"] * 500) + ")",
        "Piecewise(" + ", ".join(["(1, (t < pmt) & (pmt < t0))"] * 3000) + ", (2, True))",
        "Piecewise((1, ~~~(" + " | ".join(["(t < pmt)"] * 3000) + ")), (2, True))",
        "+".join(["-" * 30 + "t"] * 3000),
        "*".join(["1"] * 10_000),
        "Add(" + ", ".join(["Rational(1, 3)"] * 5000) + ")",
    ],
    ids=lambda function: function[:12],
)
def test_whatever_takes_long_is_counted(function, monkeypatch):
    gains = edition("AddGains", function=function)
    monkeypatch.setattr(expressions, "MAX_STEPS", 260 * 2000)
    with pytest.raises(CaxflowError, match="its evaluation takes more than"):
        corrections.propose(gains, run_document(), twelve_kilovolts)


def test_gains_of_all_tubes_over_years_are_computed():
    months = [f"(2e6 + 1e5*exp(-(t - {n}e6)/4.1e6), t < {n}e6)" for n in range(1440, 1480, 4)]
    of_tube = "Piecewise(" + ", ".join([*months, "(2e6, True)"]) + ")"
    function = "Piecewise(" + ", ".join(f"({of_tube}, Eq(pmt, {n}))" for n in range(254)) + ", (1, True))"
    gains = corrections.propose(edition("AddGains", function=function), run_document(), twelve_kilovolts)
    assert len(gains.value) == 260
    assert len(set(gains.value)) == 2


def test_a_table_is_of_so_many_ranges():
    table = [{"min": n, "max": n + 1, "value": f"{n}.npz"} for n in range(10_000)]
    nets = edition("SetNeuralNetwork", correction=table)
    assert corrections.propose(nets, run_document(), twelve_kilovolts).value == "4242.npz"
    with pytest.raises(CaxflowError, match="10001 run ranges; 10000 are the most"):
        edition("SetNeuralNetwork", correction=[*table, table[0]])
