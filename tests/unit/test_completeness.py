"""What a raw dataset must hold, judged by what is listed of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow import transfer
from caxflow.rawdata.completeness import judge_raw
from caxflow.rawdata.rawformat import SIDE_FILES, ZipName
from caxflow.simulate import run_document, simulate_run
from caxflow.transfer import Contents, Inventory, Place


def dataset(events=2500, detector="tpc", number=7, per_file=1000, *, old=False):
    """What a complete dataset holds."""
    number = 0 if detector == "muon_veto" else number
    names = [
        ZipName(
            first, min(first + per_file, events) - 1, number, None if old else min(per_file, events - first)
        )
        for first in range(0, events, per_file)
    ]
    files = dict.fromkeys(SIDE_FILES[detector], 100) | {str(name): 10**6 for name in names}
    zips = {str(name): Contents([[name.first, name.last]]) for name in names}
    return Inventory(files, zips=zips | {"trigger_monitor_data.zip": Contents(others=["'batch=0'"])})


def judge(found, detector="tpc", number=7, events_built=2500):
    return judge_raw(found, detector=detector, number=number, events_built=events_built)


def damage(found, **facts):
    """What is wrong, which is damage and nothing else."""
    verdict = judge(found, **facts)
    assert (verdict.unclear, verdict.foreign, verdict.building) == ((), (), "")
    return list(verdict.damage)


def is_good(verdict):
    return not (verdict.damage or verdict.unclear or verdict.foreign or verdict.building)


def with_zip(found, name, contents, size=10**6):
    """The dataset with a zip in it, in the place of one of the same name."""
    return Inventory(found.files | {name: size}, zips=found.zips | {name: contents})


def without(found, *names):
    return Inventory(
        {name: size for name, size in found.files.items() if name not in names},
        zips={name: each for name, each in found.zips.items() if name not in names},
    )


FIRST = "XENON1T-7-000000000-000000999-000001000.zip"
SECOND = "XENON1T-7-000001000-000001999-000001000.zip"
LAST = "XENON1T-7-000002000-000002499-000000500.zip"


@pytest.mark.parametrize("old", [False, True])
def test_complete_tpc_run(old):
    assert is_good(judge(dataset(old=old)))
    assert is_good(judge(dataset(old=old), number=None))


def test_complete_muon_veto_run_whatever_its_number():
    found = dataset(detector="muon_veto")
    assert "acquisition_monitor_data.pickles" not in found.files
    assert is_good(judge(found, "muon_veto", number=4242))


def test_a_run_of_no_events_has_no_zips():
    assert is_good(judge(dataset(0), events_built=0))
    assert damage(dataset(0)) == ["there are no zips of events, the trigger built 2500"]


@given(st.sampled_from(["tpc", "muon_veto"]), st.integers(1, 6000), st.booleans(), st.data())
def test_a_file_that_is_lost_is_always_missed(detector, events, old, data):
    found = dataset(events, detector, old=old)
    lost = data.draw(st.sampled_from(sorted(found.files)))
    assert damage(without(found, lost), detector=detector, events_built=events)


def test_lost_zip_is_told_by_its_events():
    assert damage(without(dataset(), SECOND)) == [
        "no zip has events 1000 to 1999",
        "the zips have 1500 events, the trigger built 2500",
    ]


def test_lost_last_zip_is_told_by_the_trigger():
    found = without(dataset(old=True), "XENON1T-7-000002000-000002499.zip")
    assert damage(found) == ["the zips have 2000 events, the trigger built 2500"]


@pytest.mark.parametrize(
    ("numbers", "problems"),
    [
        ([[2000, 2498]], ["lacks event 2499"]),
        ([[2001, 2499]], ["lacks event 2000"]),
        ([], ["lacks events 2000 to 2499"]),
        ([[2000, 2100], [2103, 2499]], ["lacks events 2101 to 2102"]),
        # As many as the name says, and yet not those.
        ([[2000, 2000], [2000, 2000], [2002, 2499]], ["holds event 2000 twice", "lacks event 2001"]),
        ([[2000, 2498], [9999, 9999]], ["lacks event 2499", "holds event 9999, which is none of its own"]),
        ([[2000, 2500]], ["holds event 2500, which is none of its own"]),
        ([[1999, 2499]], ["holds event 1999, which is none of its own"]),
        ([[0, 0], [2000, 2499]], ["holds event 0, which is none of its own"]),
    ],
)
@pytest.mark.parametrize("name", [LAST, "XENON1T-7-000002000-000002499.zip"])
def test_members_are_those_of_the_name(numbers, problems, name):
    found = with_zip(without(dataset(), LAST), name, Contents(numbers))
    assert damage(found) == [f"{name} {problem}" for problem in problems]


@given(st.lists(st.integers(0, 12), max_size=14))
def test_only_the_events_themselves_each_once_are_good(events):
    from caxflow.transfer.zips import _ranges

    name = str(ZipName(2, 9, 7, 8))
    found = Inventory(
        dict.fromkeys(SIDE_FILES["tpc"], 1) | {str(ZipName(0, 1, 7)): 1, name: 1},
        zips={str(ZipName(0, 1, 7)): Contents([[0, 1]]), name: Contents(_ranges(sorted(events)))},
    )
    assert (damage(found, events_built=10) == []) == (sorted(events) == list(range(2, 10)))


def test_what_else_is_in_a_zip_is_named():
    found = with_zip(dataset(), LAST, Contents([[2000, 2499]], others=["'core'"]))
    assert damage(found) == [f"{LAST} holds 'core', which is no event's number"]
    found = with_zip(dataset(), LAST, Contents(faults=["cannot be read as a zip"]))
    assert damage(found) == [f"{LAST} cannot be read as a zip"]
    found = with_zip(dataset(), LAST, Contents([[2000, 2499]], oddities=["has a comment of 3 bytes"]))
    assert judge(found).foreign == (f"{LAST} has a comment of 3 bytes",)
    found = with_zip(dataset(), "trigger_monitor_data.zip", Contents(faults=["cannot be read as a zip"]))
    assert damage(found) == ["trigger_monitor_data.zip cannot be read as a zip"]


def test_a_zip_of_which_nothing_is_told_is_not_taken_for_good():
    found = dataset()
    del found.zips[LAST]
    assert damage(found) == [f"{LAST} was not looked into"]


def test_name_that_contradicts_itself():
    bad = "XENON1T-7-000000000-000000999-000000990.zip"
    found = with_zip(without(dataset(1000), FIRST), bad, Contents([[0, 999]]))
    assert damage(found, events_built=1000) == [f"{bad} says 990 events in a range of 1000"]
    bad = "XENON1T-7-000001000-000000999-000000000.zip"
    found = with_zip(dataset(1000), bad, Contents())
    assert f"{bad} says 0 events in a range of 0" in damage(found, events_built=1000)


def test_doubled_events_are_named_with_both_zips():
    extra = "XENON1T-7-000001500-000001999-000000500.zip"
    assert damage(with_zip(dataset(), extra, Contents([[1500, 1999]]))) == [
        f"{extra} repeats events 1500 to 1999, which {SECOND} has"
    ]
    # An old and a new name of the same events.
    old = "XENON1T-7-000000000-000000999.zip"
    assert damage(with_zip(dataset(), old, Contents([[0, 999]]))) == [
        f"{FIRST} repeats events 0 to 999, which {old} has"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "core.12345",
        ".DS_Store",
        "copy of XENON1T.zip",
        "XENON1T-7-0-9.zip",
        "XENON1T-\u0667-000000000-000000999.zip",
    ],
)
def test_foreign_files_are_named_and_no_damage(name):
    found = dataset()
    verdict = judge(Inventory(found.files | {name: 0}, zips=found.zips))
    assert not verdict.damage
    (foreign,) = verdict.foreign
    assert foreign.endswith("is no file of a raw dataset")
    assert name in foreign
    verdict = judge(Inventory(found.files | {"old/core": 1}, directories=["old"], zips=found.zips))
    assert verdict.foreign == ("old/core is no file of a raw dataset", "old is a folder")


def test_a_side_file_of_the_tpc_is_foreign_to_the_muon_veto():
    found = dataset(detector="muon_veto")
    found.files["acquisition_monitor_data.pickles"] = 5
    verdict = judge(found, "muon_veto")
    assert verdict.foreign == ("acquisition_monitor_data.pickles is no file of a raw dataset",)


@pytest.mark.parametrize("name", ["pax_info.json", "trigger_monitor_data.zip", LAST])
def test_empty_files(name):
    found = dataset()
    files = found.files | {name: 0}
    zips = found.zips | ({name: Contents(faults=["cannot be read as a zip"])} if "zip" in name else {})
    assert damage(Inventory(files, zips=zips)) == [f"{name} is empty"]
    assert damage(Inventory(found.files | {"eventbuilder.log": 0}, zips=found.zips)) == []


def test_what_only_the_document_contradicts_is_no_damage():
    verdict = judge(dataset(), events_built=None)
    assert verdict.unclear == ("the run document does not say how many events were built",)
    assert not verdict.damage
    verdict = judge(dataset(), events_built=2000)
    assert verdict.unclear == ("the zips have 2500 events, by the run document the trigger built 2000",)
    assert not verdict.damage
    verdict = judge(dataset(number=8))
    assert verdict.unclear == ("its zips belong to run number 8, the run document says 7",)
    assert not verdict.damage


def test_zips_of_two_runs_are_damage():
    name = LAST.replace("-7-", "-8-")
    found = with_zip(without(dataset(), LAST), name, Contents([[2000, 2499]]))
    assert damage(found) == ["its zips belong to runs number 7 and 8"]


def test_what_may_still_be_built_is_told():
    assert judge(Inventory({})).building == "there are no files in it"
    found = dataset()
    verdict = judge(with_zip(found, "temp.zip", Contents(faults=["cannot be read as a zip"]), size=0))
    assert verdict.building == "temp.zip is there, which the event builder writes into"
    assert not verdict.damage
    assert not verdict.foreign
    assert damage(without(found, "pax_info.json")) == ["pax_info.json is missing"]


def test_simulated_runs_are_complete(tmp_path):
    for kind, detector in (("tpc", "tpc"), ("led", "tpc"), ("muon_veto", "muon_veto")):
        directory = tmp_path / kind
        simulate_run(directory, "160315_1432", kind=kind, number=7, events=5, events_per_file=2)
        document = run_document("160315_1432", kind=kind, number=7, events=5)
        found = transfer.inventory(Place("here"), directory)
        assert len(found.zips) == 4
        verdict = judge(found, detector, document["number"], document["trigger"]["events_built"])
        assert is_good(verdict), verdict
