"""What of a run document reaches a processor: parameters by name, each of one type and size, nothing else."""

import pytest
from bson import Code, Int64
from hypothesis import given
from hypothesis import strategies as st

from caxflow import documents, simulate
from caxflow.conditions import corrections, parameters, settings
from caxflow.errors import CaxflowError
from caxflow.processing import paxini, processors
from caxflow.rundb import PLANNING

NAME = "161101_1600"
CODE = "import os; os.system('touch done')"
PAX = {"kind": "command", "command": "paxer {input} {output}"}


def run_document(**processor):
    made = simulate.run_document(NAME, number=4242, events=30)
    made["processor"] |= processor
    return made


def freeze(found, **options):
    return settings.freeze(found, processor="pax_v6.11.2", pax_version="v6.11.2", **options)


# What pax executes, compiles, unpickles, imports, writes or reads: by section and key.
ATTACKS = {
    "ROOTClass.extra_fields": {"Event": [["n", "Int_t", CODE]]},
    "ROOTClass.type_mapping": {"int": "int x; int y = system(0)"},
    "ROOTClass.force_types": {"start_time": "Long64_t"},
    "ROOTClass|EncodeROOTClass.extra_fields": {"Event": [["n", "Int_t", CODE]]},
    "DEFAULT.extra_fields": {"Event": [["n", "Int_t", CODE]]},
    "DEFAULT.lock_breaking_timeout": 0,
    "DEFAULT.run_number": 3,
    "DEFAULT.run_name": "160101_0000",
    "WaveformSimulator.gas_gap_warping_map": "evil.pkl",
    "WaveformSimulator.real_noise_file": "evil.npz",
    "pax.plugin_paths": ["/tmp"],
    "pax.output_name": "/home/joe/.bashrc",
    "pax.look_for_config_in_runs_db": True,
    "Table|TableWriter.output_name": "/home/joe/x",
    "MongoDB.host": "elsewhere",
    "A.B": 1,
    "x\n[pax]\ny.z": 1,
}
# Of a parameter that may be set, what it may not be.
WRONG = {
    "NeuralNet|PosRecNeuralNet.neural_net_file": [
        *(
            "/tmp/evil.npz",
            "../evil.npz",
            "a/b.npz",
            ".npz",
            "",
            "a" * 201,
            "nn.npz\n",
            "nn\x00.npz",
            "é.npz",
        ),
        *(3, True, ["nn.npz"], {"nn": 1}, b"nn.npz", Code("nn.npz")),
    ],
    "WaveformSimulator.s1_light_yield_map": ["/proc/self/environ", "~/map.json", "map.json; ls"],
    "DEFAULT.drift_velocity_liquid": [0, -1, "os.getcwd()", float("nan"), [1.0], {"a": 1}, True],
    "DEFAULT.gains": [[1e6] * 261, [[1e6]], [1e6, "__import__('os')"], [1e6, -1], {"0": 1e6}, "1e6", []],
}


def with_parameter(path, value):
    section, _, key = path.rpartition(".")
    made = run_document()
    made["processor"].setdefault(section, {})[key] = value
    return made


@pytest.mark.parametrize(
    ("path", "value"),
    [*ATTACKS.items(), *((path, value) for path, found in WRONG.items() for value in found)],
    ids=lambda found: repr(found)[:40],
)
def test_what_no_document_may_set_is_refused_by_name(path, value):
    made = with_parameter(path, value)
    section, _, key = path.rpartition(".")
    reason = settings.skip_reason(made, has_verified_raw=True)
    assert reason.startswith("processor.")
    assert "\n" not in reason
    assert key in reason or repr(key)[:60] in reason
    assert len(reason) < 300
    with pytest.raises(CaxflowError, match=f"^{NAME}: processor"):
        freeze(made)
    # Nor does a settings file that was written by someone else bring it to pax.
    frozen = freeze(run_document())
    frozen["processor"].setdefault(section, {})[key] = value
    with pytest.raises(CaxflowError, match=f"^{NAME}: processor"):
        paxini.render(frozen)


@pytest.mark.parametrize("version", ["v" * 201, {"$gt": ""}, ["5"], b"5", float("nan")])
def test_versions_of_corrections_are_short(version):
    for versions in ({"AddGains": version}, {"Add Gains": "5"}, {f"A{i}": "5" for i in range(101)}):
        with pytest.raises(CaxflowError, match="correction_versions does not map"):
            freeze(run_document(correction_versions=versions))


def test_what_corrections_set_is_what_a_document_may_set():
    made = run_document()
    for each in corrections.CORRECTIONS:
        section = made["processor"].setdefault(each.section, {})
        section.setdefault(each.parameter, "XENON1T_s2_xy_ly_SR1_v2.2.json")
    assert settings.skip_reason(made, has_verified_raw=True) is None
    frozen = freeze(made)["processor"]
    for each in corrections.CORRECTIONS:
        assert frozen[each.section][each.parameter] == made["processor"][each.section][each.parameter]
    # cax writes null where none of its ranges holds the run.
    made["processor"]["WaveformSimulator"]["rz_position_distortion_map"] = None
    assert settings.skip_reason(made, has_verified_raw=True) is None
    assert "rz_position_distortion_map = None\n" in paxini.render(freeze(made))


def test_a_site_may_have_documents_set_more_and_still_no_code():
    processor = processors.read(
        "pax_v6.11.2", PAX | {"run_parameters": ["Own.Plugin.cut", "ROOTClass.extra_fields"]}
    )
    also = processor.run_parameters
    made = run_document(**{"Own|Plugin": {"cut": [Int64(3), 2.5, "word", True]}})
    assert "Own|Plugin.cut" in settings.skip_reason(made, has_verified_raw=True)
    assert settings.skip_reason(made, has_verified_raw=True, also=also) is None
    assert freeze(made, also=also)["processor"]["Own|Plugin"] == {"cut": [3, 2.5, "word", True]}
    made["processor"]["Own|Plugin"]["other"] = 1
    assert "Own|Plugin.other" in settings.skip_reason(made, has_verified_raw=True, also=also)
    attack = run_document(ROOTClass={"extra_fields": ATTACKS["ROOTClass.extra_fields"]})
    assert "ROOTClass.extra_fields" in settings.skip_reason(attack, has_verified_raw=True, also=also)
    with pytest.raises(CaxflowError, match=r"ROOTClass\.extra_fields is .* not a number, a word"):
        freeze(attack, also=also)


@pytest.mark.parametrize("name", ["pax.plugin_paths", "key", "A.b c", "A.b\n[pax]", 3, "A.", ".a", "A|B.c"])
def test_what_a_site_admits_is_named_as_pax_names_it(name):
    with pytest.raises(CaxflowError, match=r"processor pax_v6\.11\.2: run_parameters"):
        processors.read("pax_v6.11.2", PAX | {"run_parameters": [name]})


@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from(["DEFAULT", "WaveformSimulator", "ROOTClass", "pax"]), st.text(max_size=30)
        ),
        st.recursive(
            st.none()
            | st.booleans()
            | st.floats()
            | st.integers(-(2**63), 2**63 - 1)
            | st.text()
            | st.binary(),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["gains", "s1_light_yield_map"]) | st.text(), inner, max_size=4
                )
            ),
            max_leaves=20,
        ),
        max_size=5,
    )
)
def test_whatever_a_document_has_pax_gets_what_is_admitted(processor):
    sections, refused = parameters.read(processor)
    assert all(len(text) < 300 for text in refused)
    for section, found in sections.items():
        for key, value in found.items():
            assert value is None or type(value) in (int, float, str, list)
            assert (section, key) in {(each.section, each.parameter) for each in corrections.CORRECTIONS}
    made = run_document()
    made["processor"] = processor
    if not refused:
        paxini.render(freeze(made | {"detector": "muon_veto"}))
    else:
        with pytest.raises(CaxflowError, match=NAME):
            freeze(made)


def test_planning_sees_it_in_its_own_projection(database):
    made = run_document(
        **{"ROOTClass": {"extra_fields": {}}, "Odd": 3, "WaveformSimulator": {"s2_light_yield_map": "/x"}}
    )
    made["processor"]["DEFAULT"]["extra"] = 1
    odd = {"name": "161101_1602", "processor": "text"}
    database.runs_new.insert_many([made, run_document() | {"name": "161101_1601"}, odd])
    planned, good, _ = database.runs_new.find({}, PLANNING).sort("name", 1)
    assert len(documents.value(planned, "processor", "DEFAULT", "gains")) == 1
    assert sorted(parameters.refused(planned)) == [
        "processor.DEFAULT.extra is nothing that a run document may set",
        "processor.Odd is not a section of parameters",
        "processor.ROOTClass.extra_fields is nothing that a run document may set",
        "processor.WaveformSimulator.s2_light_yield_map is '/x', not the name of a file without a folder",
    ]
    assert list(parameters.refused(good)) == []
