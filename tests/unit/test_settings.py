"""Which runs are processed, and what is frozen for the job."""

import ast
import configparser
import copy
import datetime
import json

import bson
import pytest
from bson import Decimal128, Int64

from caxflow.conditions import settings
from caxflow.errors import CaxflowError
from caxflow.mini.parameters import Parameters
from caxflow.processing import paxini
from caxflow.targets import Run

NOW = datetime.datetime(2017, 1, 1, tzinfo=datetime.UTC)
START = datetime.datetime(2016, 11, 1, 16, 0, 1)


def tpc_document():
    return {
        "name": "161101_1600",
        "number": 4242,
        "detector": "tpc",
        "start": START,
        "end": START + datetime.timedelta(hours=1),
        "tags": [{"name": "_sciencerun0"}],
        "reader": {
            "self_trigger": True,
            "ini": {"write_mode": 2, "trigger_config_override": {"Zip": {"events_per_file": 500}}},
        },
        "trigger": {"events_built": 31877},
        "processor": {
            "DEFAULT": {
                "gains": [1e6] * 260,
                "drift_velocity_liquid": 1.44e-4,
                "electron_lifetime_liquid": 452000.0,
            },
            "NeuralNet|PosRecNeuralNet": {"neural_net_file": "nn.npz"},
            "correction_versions": {"AddGains": "5.0", "SetNeuralNetwork": "1.6"},
        },
    }


def led_document():
    document = tpc_document() | {"name": "161101_1700"}
    document["reader"]["self_trigger"] = False
    del document["processor"]
    return document


def muon_veto_document():
    document = tpc_document() | {"detector": "muon_veto", "number": 0}
    del document["processor"]
    document["reader"].pop("self_trigger")
    return document


def changed(document, key, value="absent"):
    """A copy with a dotted key set to another value, or taken out."""
    document = copy.deepcopy(document)
    *path, last = key.split(".")
    at = document
    for name in path:
        at = at.setdefault(name, {})
    if value == "absent":
        del at[last]
    else:
        at[last] = value
    return document


def freeze(document, **options):
    return settings.freeze(document, processor="pax_v6.11.2", pax_version="v6.11.2", now=NOW, **options)


@pytest.mark.parametrize("document", [tpc_document(), led_document(), muon_veto_document()])
def test_a_good_run_is_processed(document):
    assert settings.skip_reason(document, has_verified_raw=True) is None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (changed(tpc_document(), "tags", [{"name": "donotprocess"}]), "tagged donotprocess"),
        (changed(tpc_document(), "end"), "still being taken"),
        (changed(tpc_document(), "reader.self_trigger"), "self_trigger is not set"),
        (changed(tpc_document(), "reader.self_trigger", "yes"), "self_trigger is 'yes'"),
        (changed(tpc_document(), "reader.ini.write_mode", 1), "write_mode is 1, not 2"),
        (changed(tpc_document(), "reader.ini"), "write_mode is None, not 2"),
        (changed(muon_veto_document(), "reader"), "write_mode is None, not 2"),
        (changed(tpc_document(), "trigger"), "no events built"),
        (changed(tpc_document(), "trigger.events_built", 0), "no events built"),
        (changed(tpc_document(), "processor"), "gains, drift_velocity_liquid, electron_lifetime_liquid"),
        (changed(tpc_document(), "processor.DEFAULT.drift_velocity_liquid"), "of drift_velocity_liquid"),
        (changed(tpc_document(), "processor.DEFAULT.gains", None), "of gains"),
        (changed(tpc_document(), "processor", []), "waiting for the corrections"),
    ],
)
def test_what_is_skipped_says_why(document, reason):
    assert reason in settings.skip_reason(document, has_verified_raw=True)
    assert reason in settings.skip_reason(document, has_verified_raw=False)


def test_without_a_verified_raw_copy_nothing_is_processed():
    reason = settings.skip_reason(tpc_document(), has_verified_raw=False)
    assert reason == "no verified raw copy here"


@pytest.mark.parametrize(
    ("document", "kind", "configuration"),
    [
        (tpc_document(), "tpc", "XENON1T"),
        (led_document(), "led", "XENON1T_LED"),
        (muon_veto_document(), "muon_veto", "XENON1T_MV"),
    ],
)
def test_each_kind_has_its_configuration(document, kind, configuration):
    frozen = freeze(document)
    assert (frozen["kind"], frozen["configuration"]) == (kind, configuration)


def test_frozen_settings_hold_what_a_job_needs():
    frozen = freeze(tpc_document())
    assert frozen["run"] == frozen["name"] == "161101_1600"
    assert freeze(muon_veto_document())["run"] == "161101_1600_MV"
    assert (frozen["number"], frozen["events_built"], frozen["events_per_file"]) == (4242, 31877, 500)
    assert "correction_versions" not in frozen["processor"]
    assert frozen["processor"]["NeuralNet|PosRecNeuralNet"] == {"neural_net_file": "nn.npz"}
    assert frozen["correction_versions"] == {"AddGains": "5.0", "SetNeuralNetwork": "1.6"}
    assert frozen["made_for"] == {"processor": "pax_v6.11.2", "pax_version": "v6.11.2"}
    assert frozen["frozen"] == "2017-01-01T00:00:00+00:00"


def test_every_value_says_where_it_is_from():
    assert freeze(tpc_document())["sources"] == {
        "DEFAULT.gains": "AddGains 5.0",
        "DEFAULT.drift_velocity_liquid": "run document",
        "DEFAULT.electron_lifetime_liquid": "run document",
        "NeuralNet|PosRecNeuralNet.neural_net_file": "SetNeuralNetwork 1.6",
        "events_per_file": "run document",
    }
    without = changed(tpc_document(), "reader.ini.trigger_config_override")
    assert freeze(without)["events_per_file"] == 1000
    assert freeze(without)["sources"]["events_per_file"] == "default"


def test_what_is_frozen_is_plain_json_and_the_same_every_time():
    document = tpc_document()
    document["number"] = Int64(4242)
    document["processor"]["DEFAULT"]["gains"] = [Int64(1000000)] * 260
    read_back = bson.decode(bson.encode(document), bson.CodecOptions(document_class=bson.SON))
    turned = dict(reversed(read_back.items()))
    turned["processor"] = dict(reversed(read_back["processor"].items()))
    frozen = freeze(read_back)
    assert json.dumps(frozen) == json.dumps(freeze(turned))
    assert json.loads(json.dumps(frozen)) == frozen
    assert type(frozen["number"]) is int
    assert type(frozen["processor"]["DEFAULT"]["gains"][0]) is int


def written(number):
    """Return a number in all ways in which documents have it."""
    found = [float(number), Decimal128(f"{number}"), f"{number}", f" {number} ", str(float(number))]
    return found + ([number, Int64(number)] if isinstance(number, int) else [])


DEFAULT = tpc_document()["processor"]["DEFAULT"]
WAYS = {
    "number": written(4242),
    "trigger.events_built": written(31877),
    "reader.ini.trigger_config_override.Zip.events_per_file": written(500),
    "reader.ini.write_mode": written(2),
    "reader.self_trigger": [*written(1), "true", "True"],
    "start": [START.isoformat(), str(START), "2016-11-01T17:00:01+01:00", [START], *written(1478016001)],
    "end": [str(START), [None, START], *written(1478016001)],
    "processor.DEFAULT.gains": [[each] * 260 for each in written(1000000)],
    "processor.DEFAULT.drift_velocity_liquid": written(1.44e-4),
    "processor.DEFAULT.electron_lifetime_liquid": written(452000),
}


@pytest.mark.parametrize(("key", "found"), [(key, found) for key, ways in WAYS.items() for found in ways])
def test_numbers_and_times_are_frozen_as_the_same_ones_however_they_are_written(key, found):
    document = bson.decode(bson.encode(changed(tpc_document(), key, found)))
    assert settings.skip_reason(document, has_verified_raw=True) is None
    frozen, plain = freeze(document), freeze(tpc_document())
    assert json.loads(json.dumps(frozen)) == plain
    # So do those who read them: pax, and the processor of our own.
    values = configparser.ConfigParser(interpolation=None, default_section="there is none")
    values.read_string(paxini.render(frozen))
    gains = ast.literal_eval(values["DEFAULT"]["gains"])
    assert gains == DEFAULT["gains"]
    assert {type(gain) for gain in gains} <= {int, float}
    ours, same = (Parameters.from_settings(each, Run("161101_1600")) for each in (frozen, plain))
    assert ours.drift_velocity == DEFAULT["drift_velocity_liquid"]
    assert (ours.photoelectrons == same.photoelectrons).all()


def test_a_number_of_another_section_is_plain_and_a_text_stays_one():
    document = tpc_document()
    document["processor"] = {"Plugin": {"cut": Decimal128("1.5"), "count": Decimal128("7"), "text": "8"}}
    document["processor"]["correction_versions"] = {"AddGains": Decimal128("5.5"), "SetS2xyMap": Int64(3)}
    also = ["Plugin.cut", "Plugin.count", "Plugin.text"]
    frozen = freeze(bson.decode(bson.encode(document)), also=also)
    assert json.dumps(frozen["processor"]["Plugin"]) == '{"count": 7, "cut": 1.5, "text": "8"}'
    assert json.dumps(frozen["correction_versions"]) == '{"AddGains": 5.5, "SetS2xyMap": 3}'


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("number", "many"),
        ("number", 4242.5),
        ("number", Decimal128("NaN")),
        ("number", True),
        ("trigger.events_built", "many"),
        ("trigger.events_built", -1),
        ("trigger.events_built", float("nan")),
        ("processor", "text"),
        ("processor.DEFAULT", [1]),
        ("processor.DEFAULT.gains", "1e6"),
        ("processor.DEFAULT.gains", [1e6] * 261),
        ("processor.DEFAULT.gains", []),
        ("processor.DEFAULT.gains", [1e6] * 259 + ["much"]),
        ("processor.DEFAULT.gains", [1e6] * 259 + [float("nan")]),
        ("processor.DEFAULT.drift_velocity_liquid", 0),
        ("processor.DEFAULT.electron_lifetime_liquid", float("inf")),
        ("processor.DEFAULT.electron_lifetime_liquid", "long"),
        ("processor.Plugin", {"when": START}),
        ("processor.Plugin", {"id": bson.ObjectId()}),
        ("processor.Plugin", {"code": b"\0"}),
        ("processor.correction_versions", ["5.0"]),
    ],
)
def test_a_bad_document_names_the_run_and_the_key(key, value):
    with pytest.raises(CaxflowError) as caught:
        freeze(changed(tpc_document(), key, value))
    assert str(caught.value).startswith(f"161101_1600: {key}")


@pytest.mark.parametrize("tags", ["donotprocess", [["donotprocess"]], {"name": "donotprocess"}])
def test_tags_that_cannot_be_read_are_no_permission(tags):
    with pytest.raises(CaxflowError, match=r"161101_1600: tags is"):
        settings.skip_reason(tpc_document() | {"tags": tags}, has_verified_raw=True)


@pytest.mark.parametrize("name", [None, 3, "../../etc", "161101_1600; rm"])
def test_a_document_without_a_run_name_is_refused(name):
    for function in (freeze, lambda document: settings.skip_reason(document, has_verified_raw=True)):
        with pytest.raises(CaxflowError):
            function(tpc_document() | {"name": name})


def test_an_led_run_is_not_guessed_at():
    with pytest.raises(CaxflowError, match=r"reader\.self_trigger is not set"):
        freeze(changed(tpc_document(), "reader.self_trigger"))


def test_simulated_documents_can_be_frozen():
    from caxflow.simulate import run_document

    for kind in ("tpc", "led", "muon_veto"):
        document = run_document("160315_1432", kind=kind, number=1, events=10)
        assert settings.skip_reason(document, has_verified_raw=True) is None
        assert freeze(document)["kind"] == kind
