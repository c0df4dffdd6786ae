import ast
import inspect
import textwrap
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow.rawdata import completeness
from caxflow.rawdata.completeness import check_raw, count_members, judge_raw
from caxflow.rawdata.rawformat import SIDE_FILES, ZipName
from caxflow.simulate import run_document, simulate_run


def dataset(events=2500, detector="tpc", number=7, per_file=1000, *, old=False):
    """Listing and member counts of a complete dataset."""
    number = 0 if detector == "muon_veto" else number
    names = [
        ZipName(
            first, min(first + per_file, events) - 1, number, None if old else min(per_file, events - first)
        )
        for first in range(0, events, per_file)
    ]
    files = dict.fromkeys(SIDE_FILES[detector], 100) | {str(name): 10**6 for name in names}
    return files, {str(name): name.last - name.first + 1 for name in names}


def problems(files, members, detector="tpc", number=7, events_built=2500):
    return check_raw(files, members, detector=detector, number=number, events_built=events_built)


@pytest.mark.parametrize("old", [False, True])
def test_complete_tpc_run(old):
    files, members = dataset(old=old)
    assert problems(files, members) == []
    assert problems(files, members, number=None) == []
    assert judge_raw(files, members, detector="tpc", number=7, events_built=2500).state == "complete"


def test_complete_muon_veto_run_whatever_its_number():
    files, members = dataset(detector="muon_veto")
    assert "acquisition_monitor_data.pickles" not in files
    assert problems(files, members, "muon_veto", number=4242) == []


@given(st.sampled_from(["tpc", "muon_veto"]), st.integers(1, 6000), st.booleans(), st.data())
def test_a_file_that_is_lost_is_always_missed(detector, events, old, data):
    files, members = dataset(events, detector, old=old)
    lost = data.draw(st.sampled_from(sorted(files)))
    del files[lost]
    members.pop(lost, None)
    assert problems(files, members, detector, events_built=events) != []


def test_lost_zip_is_told_by_its_events():
    files, members = dataset()
    name = "XENON1T-7-000001000-000001999-000001000.zip"
    del files[name], members[name]
    found = problems(files, members)
    assert "events 1000 to 1999 are missing (no zip has them)" in found
    assert "the zips have 1500 events, the trigger built 2500" in found


def test_lost_last_zip_is_told_by_the_trigger():
    files, members = dataset(old=True)
    name = "XENON1T-7-000002000-000002499.zip"
    del files[name], members[name]
    assert problems(files, members) == ["the zips have 2000 events, the trigger built 2500"]


def test_members_are_counted_against_the_name():
    files, members = dataset()
    name = "XENON1T-7-000002000-000002499-000000500.zip"
    assert problems(files, members | {name: 499}) == [f"{name} holds 499 events instead of 500"]
    assert problems(files, members | {name: None}) == [f"{name} cannot be read as a zip"]
    files, members = dataset(old=True)
    name = "XENON1T-7-000002000-000002499.zip"
    assert f"{name} holds 499 events instead of 500" in problems(files, members | {name: 499})


def test_name_that_contradicts_itself():
    files, members = dataset(events=1000)
    (good,) = members
    bad = "XENON1T-7-000000000-000000999-000000990.zip"
    files[bad], members = files.pop(good), {bad: 990}
    assert f"{bad} says 990 events in a range of 1000" in problems(files, members, events_built=990)


def test_overlap_and_strange_names():
    files, members = dataset()
    extra = "XENON1T-7-000001500-000001999-000000500.zip"
    found = problems(files | {extra: 5}, members | {extra: 500})
    assert f"{extra} repeats events before 2000" in found
    (found,) = problems(files | {"copy of XENON1T.zip": 5}, members)
    assert "copy of XENON1T.zip" in found


def test_zip_of_another_run():
    files, members = dataset(number=8)
    assert all("belongs to run number 8, not 7" in problem for problem in problems(files, members))
    assert len(problems(files, members)) == 3


@pytest.mark.parametrize("name", ["pax_info.json", "trigger_monitor_data.zip"])
def test_empty_files(name):
    files, members = dataset()
    assert problems(files | {name: 0}, members) == [f"{name} is empty"]
    assert problems(files | {"eventbuilder.log": 0}, members) == []


def test_unknown_number_of_events_is_no_proof():
    files, members = dataset()
    assert problems(files, members, events_built=None) == [
        "the run document does not say how many events were built"
    ]


def test_being_built_and_broken_are_told_apart():
    files, members = dataset()

    def judge(listing):
        return judge_raw(listing, members, detector="tpc", number=7, events_built=2500)

    assert judge({}).state == "building"
    building = judge(files | {"temp.zip": 12})
    assert building.state == "building"
    assert "still writing" in building.problems[0]
    del files["pax_info.json"]
    assert judge(files) == completeness.Verdict("broken", ("pax_info.json is missing",))


def test_simulated_runs_are_complete(tmp_path):
    for kind, detector in (("tpc", "tpc"), ("led", "tpc"), ("muon_veto", "muon_veto")):
        directory = tmp_path / kind
        simulate_run(directory, "160315_1432", kind=kind, number=7, events=5, events_per_file=2)
        document = run_document("160315_1432", kind=kind, number=7, events=5)
        files = {path.name: path.stat().st_size for path in directory.iterdir()}
        members = {path.name: count_members(path) for path in directory.glob("XENON1T-*.zip")}
        assert len(members) == 3
        assert (
            problems(files, members, detector, document["number"], document["trigger"]["events_built"]) == []
        )


def test_count_members_stands_alone_on_old_pythons(tmp_path):
    source = textwrap.dedent(inspect.getsource(count_members))
    ast.parse(source, feature_version=(3, 8))
    names = {}
    exec(source, names)  # as a far end does, where nothing of caxflow is
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0", b"")
        archive.writestr("1", b"")
    assert names["count_members"](tmp_path / "a.zip") == 2
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-5])
    with pytest.raises(zipfile.BadZipFile):
        names["count_members"](tmp_path / "b.zip")
