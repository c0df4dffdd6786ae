"""The shadow: what cax would do, what caxflow would, and where they differ."""

import dataclasses
import datetime

import pytest
import yaml
from bson.datetime_ms import DatetimeMS

from caxflow import config
from caxflow.config import Selection
from caxflow.switching import shadow
from caxflow.switching.caxtasks import Cax

NOW = datetime.datetime(2017, 3, 1)
START = datetime.datetime(2017, 2, 27)
HOST = {
    "name": "midway-login1",
    "method": "rsync",
    "dir_raw": "/midway/raw",
    "dir_processed": "/midway/processed",
    "dir_minitrees": "/midway/minitrees",
    "data_type": ["raw", "processed"],
    "download_options": ["login", "xe1t-datamanager"],
    "upload_options": ["tegner-login-1"],
    "purge": 5,
}
OTHERS = [
    {"name": name, "method": "scp", "dir_raw": "/there/raw", "dir_processed": "/there/processed"}
    for name in ("login", "xe1t-datamanager", "tegner-login-1")
]
PLACES = {"xe1t-datamanager": "lngs", "midway-login1": "midway", "tegner-login-1": "tegner"}


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "sites").mkdir()
    keys = {
        "lngs": {"origin": True},
        "midway": {"pull_from": ["lngs"], "push_to": ["tegner"], "processed": {"version": "mini_v1"}},
        "tegner": {},
    }
    for host, site in PLACES.items():
        roots = {"raw": f"/{site}/raw", "processed": f"/{site}/processed"}
        content = {"host": host, "roots": roots} | keys[site]
        (tmp_path / "sites" / f"{site}.yaml").write_text(yaml.safe_dump(content))
    main = {
        "site": "midway",
        "rundb": {"uri": "mongodb://127.0.0.1:1"},
        "processors": {"mini_v1": {"kind": "mini"}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(main))
    return config.load({}, tmp_path)


def entry(host, status="transferred", *, kind="raw", made=START, checksum="aa", **more):
    location = f"/{PLACES.get(host, host)}/{kind}/170227_0000"
    if kind == "processed":
        location = f"/{PLACES[host]}/processed/pax_v0.0.1/170227_0000.root"
        more = {"pax_version": "v0.0.1"} | more
    same = {"type": kind, "host": host, "status": status, "location": location, "checksum": checksum}
    return same | {"creation_time": made} | more


def document(*data, ready=True, start=START, **more):
    parameters = (
        {"gains": [1], "drift_velocity_liquid": 1e-4, "electron_lifetime_liquid": 1e5} if ready else {}
    )
    return {
        "_id": 1,
        "name": "170227_0000",
        "detector": "tpc",
        "number": 7,
        "start": start,
        "end": start + datetime.timedelta(hours=1),
        "reader": {"self_trigger": True, "ini": {"write_mode": 2}},
        "trigger": {"events_built": 2000},
        "processor": {"DEFAULT": parameters},
        "data": list(data),
    } | more


def one_pass(made, **host):
    return Cax([HOST | host, *OTHERS], "midway-login1", "v0.0.1").one_pass(made, NOW)


def cax(made, **host):
    looked = one_pass(made, **host)
    assert looked.death is None
    return [str(action) for action in looked.actions]


LNGS = entry("xe1t-datamanager")
LONG_AGO = NOW - datetime.timedelta(days=10)


def test_cax_pulls_from_the_first_that_has_it(settings):
    assert cax(document(LNGS)) == ["pull raw from xe1t-datamanager"]
    both = document(LNGS, entry("login"))
    assert cax(both) == ["pull raw from login"]


def test_cax_pulls_nothing_that_is_old_enough_to_be_purged(settings):
    assert cax(document(LNGS, start=LONG_AGO)) == []


def test_cax_does_only_the_tasks_of_its_list(settings):
    assert cax(document(LNGS), task_list=["AddChecksum"]) == []
    assert cax(document(LNGS), dataset_list=["160315_1432"]) == []


@pytest.mark.parametrize(
    ("mine", "expected"),
    [
        ([entry("midway-login1", "verifying")], ["verify raw"]),
        ([entry("midway-login1", "transferring", made=NOW)], []),
        ([entry("midway-login1", "transferring")], ["forget raw", "pull raw from xe1t-datamanager"]),
        ([entry("midway-login1", "error", made=NOW)], ["forget raw", "pull raw from xe1t-datamanager"]),
        ([entry("midway-login1")], ["push raw to tegner-login-1", "process processed"]),
        ([entry("midway-login1"), entry("tegner-login-1", "error")], ["process processed"]),
        (
            [entry("midway-login1"), entry("tegner-login-1"), entry("midway-login1", kind="processed")],
            ["push processed to tegner-login-1"],
        ),
    ],
)
def test_cax_here(settings, mine, expected):
    assert cax(document(LNGS, *mine)) == expected


def test_cax_counts_its_own_copy_and_rucios_when_it_purges(settings):
    mine = [entry("midway-login1"), entry("tegner-login-1", "error"), entry("rucio-catalogue", checksum=None)]
    old = document(LNGS, *mine, start=LONG_AGO, ready=False)
    (action,) = one_pass(old).actions
    assert (str(action), action.why) == ("remove raw", "cax counts 3 copies with this one")


def test_cax_deletes_what_differs_from_its_master():
    mine = [entry("midway-login1", checksum="bb", pax_version=None), entry("tegner-login-1")]
    assert cax(document(LNGS, *mine, ready=False))[0] == "remove raw"


HERE, THERE = entry("midway-login1"), entry("tegner-login-1")
MADE = entry("midway-login1", kind="processed")


def without(row, *keys):
    return {key: value for key, value in row.items() if key not in keys}


@pytest.mark.parametrize(
    ("rows", "task", "error"),
    [
        # All tasks look for untriggered data first.
        (
            [without(LNGS, "type")],
            "AddGains",
            "KeyError 'type', as the row of a copy at xe1t-",
        ),
        (["raw"], "AddGains", "TypeError"),
        ([HERE, without(MADE, "pax_version")], "CopyPush", "KeyError 'pax_version', as the row of processed"),
        ([LNGS, HERE | {"checksum": "xxh128:aa"}], "CompareChecksums", "KeyError 'pax_version'"),
        # Its master is not transferred yet: nothing is like it.
        ([entry("xe1t-datamanager", "verifying"), HERE], "CompareChecksums", "KeyError 'pax_version'"),
        ([without(LNGS, "checksum"), HERE], "CompareChecksums", "KeyError 'checksum'"),
        ([LNGS, THERE, HERE, without(entry("x"), "status")], "CopyPush", "KeyError 'status'"),
        ([LNGS, without(entry("x", "error"), "host")], "RetryStalledTransfer", "KeyError 'host'"),
        ([LNGS, HERE | {"creation_time": []}], "RetryStalledTransfer", "IndexError"),
        ([LNGS, HERE | {"creation_time": "2017"}], "RetryStalledTransfer", "TypeError"),
        ([LNGS, HERE | {"location": None}], "CopyPush", "AttributeError"),
        ([MADE, without(MADE, "checksum")], "RetryBadChecksumTransfer", "KeyError 'checksum'"),
        ([LNGS, without(entry("rucio-catalogue"), "location")], "AddSize", "KeyError 'location'"),
    ],
)
def test_rows_at_which_cax_ends(rows, task, error):
    death = one_pass(document(*rows, ready=False), upload_options=["tegner-login-1"]).death
    assert (death.task, death.error[: len(error)]) == (task, error)


@pytest.mark.parametrize(
    ("change", "task", "error"),
    [
        ({"data": None}, "AddGains", "TypeError"),
        ({"number": "7"}, "CopyPush", "TypeError"),
        ({"start": None}, "CopyPull", "TypeError"),
        ({"reader": {"self_trigger": True}}, "AddSize", "KeyError 'ini', as the document's reader has none"),
        ({"trigger": {"events_built": "many"}}, "AddSize", "ValueError"),
        ({"source": {"since": [DatetimeMS(10**15)]}}, "AddGains", "InvalidBSON, as a time"),
        ({"tags": [{"user": "x"}]}, "ProcessBatchQueue", "KeyError: 'name'"),
        ({"detector": "nveto"}, "ProcessBatchQueue", "UnboundLocalError: its detector is 'nveto'"),
    ],
)
def test_documents_at_which_cax_ends(change, task, error):
    death = one_pass(document(LNGS, HERE) | change).death
    assert (death.task, death.error[: len(error)]) == (task, error)


@pytest.mark.parametrize(
    ("change", "task", "error"),
    [
        ({"data_type": ...}, "CopyPush", "exit(), as midway-login1 in cax.json has no data_type"),
        ({"upload_options": ["nowhere"]}, "CopyPush", "LookupError: cax.json has no host nowhere"),
        ({"upload_options": ["mute"]}, "CopyPush", "RuntimeError: mute in cax.json has no method"),
        ({"purge": "5"}, "CopyPull", "TypeError"),
        ({"dir_processed": None}, "ProcessBatchQueue", "TypeError: None is no text"),
        ({"dir_minitrees": ...}, "ProcessBatchQueueHax", "KeyError 'dir_minitrees', as midway-login1 in"),
    ],
)
def test_configuration_at_which_cax_ends(change, task, error):
    host = {key: value for key, value in (HOST | change).items() if value is not ...}
    hosts = [host, *OTHERS, {"name": "mute", "method": None}]
    death = Cax(hosts, "midway-login1", "v0.0.1").one_pass(document(LNGS, HERE, MADE), NOW).death
    assert (death.task, death.error[: len(error)]) == (task, error)


def test_permissions_are_set_at_two_hosts_only():
    host = HOST | {"name": "lena"}
    death = Cax([host, *OTHERS], "lena", "v0.0.1").one_pass(document(entry("lena", made=NOW)), NOW).death
    assert str(death) == "CompareChecksums: KeyError 'pax_version', as the row of raw at lena has none"
    death = Cax([host, *OTHERS], "lena", "v0.0.1").one_pass(document(LNGS, entry("lena")), NOW).death
    assert str(death) == "SetPermission: KeyError 'lena', as cax's table of owners has none"


@pytest.mark.parametrize(
    ("newest", "change", "error"),
    [
        (None, {}, "AttributeError, as there is no document of this correction"),
        ({"version": "1"}, {}, "KeyError 'calculation_time', as the newest document of AddGains has none"),
        ({"version": "1", "calculation_time": NOW}, {"reader": {}}, "KeyError 'self_trigger', as the docum"),
        ({"version": "1", "calculation_time": NOW}, {"start": "2017"}, "TypeError"),
    ],
)
def test_corrections_at_which_cax_ends(newest, change, error):
    run = document(LNGS) | change
    cax = Cax([HOST, *OTHERS], "midway-login1", "v0.0.1", {"AddGains": newest})
    death = cax.one_pass(run, NOW).death
    assert (death.task, death.error[: len(error)]) == ("AddGains", error)
    # One that has not ended, or has this version, is not looked at.
    later = cax.one_pass(without(run, "end"), NOW).death
    assert later is None or later.task != "AddGains"


def test_what_cax_did_before_it_ends_is_done():
    looked = one_pass(document(LNGS, HERE | {"checksum": "bb"}))
    assert [str(action) for action in looked.actions] == ["push raw to tegner-login-1"]
    assert looked.death.task == "CompareChecksums"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"number": 7.0}, "ValueError: invalid literal for int() with base 10: '7.0'"),
        ({"number": None}, "ValueError: invalid literal for int() with base 10: 'None'"),
        ({"detector": "muon_veto", "number": 0.0}, None),
    ],
)
def test_massive_cax_ends_at_numbers_that_are_doubles(change, error):
    death = Cax([HOST, *OTHERS], "midway-login1").submit(document(LNGS) | change)
    assert (death and death.error) == error


def test_massive_cax_has_scripts_of_two_hosts():
    assert "no batch script for login" in Cax(OTHERS, "login").submit(document(LNGS)).error


def test_a_task_of_cax_goes_on_with_what_it_read():
    # Both are taken, since the second is still counted by the first and the other way round.
    twice = [entry("midway-login1"), entry("midway-login1", location="/midway/raw/other")]
    old = document(LNGS, *twice, start=LONG_AGO, ready=False)
    looked = one_pass(old, upload_options=[])
    assert [action.location for _, action in looked.steps] == [row["location"] for row in twice]


def compare(settings, *made):
    cax = Cax([HOST, *OTHERS], "midway-login1", "v0.0.1")
    return shadow.compare(made, cax, settings, NOW)


def test_agreement_is_counted(settings):
    result = compare(settings, document(LNGS, ready=False))
    # caxflow would push it on in the same call, cax in a later pass: that is no difference.
    assert (result.agree, dict(result.cases)) == (1, {})


def test_differences_say_why(settings):
    failed = entry("midway-login1", "error", caxflow={"attempts": 5, "error": "the disk is full"})
    (sentence,) = compare(settings, document(LNGS, failed, ready=False)).cases
    assert "only cax would pull raw from xe1t-datamanager" in sentence
    assert "failed 5 times, the last time: the disk is full" in sentence


def test_what_cax_left_for_a_day_is_taken_over_by_both(settings):
    left = document(LNGS, entry("midway-login1", "transferring"), ready=False)
    result = compare(settings, left)
    assert (result.agree, dict(result.cases)) == (1, {})


def left_out(settings):
    return dataclasses.replace(settings, selection=Selection(detectors=("muon_veto",)))


def test_run_that_the_selection_leaves_out(settings):
    (sentence,) = compare(left_out(settings), document(LNGS)).cases
    assert "caxflow's selection does not admit it" in sentence


def test_report_counts_runs_of_a_case(settings):
    made = [document(LNGS, name=f"170227_000{minute}") for minute in range(5)]
    lines = list(compare(left_out(settings), *made).lines())
    assert lines[0] == "5 runs: both would do 0 actions, and differ on 5 runs"
    assert lines[1].startswith("5 runs: only cax would pull raw from xe1t-datamanager")
    assert lines[1].endswith("(170227_0000, 170227_0001, 170227_0002 and 2 more)")


def test_what_lies_behind_the_end_of_cax_is_said(settings):
    bad = document(LNGS, HERE | {"checksum": "bb"}, ready=False)
    newer = document(LNGS, ready=False, name="170228_0000", start=NOW - datetime.timedelta(days=1))
    older = document(HERE | {"checksum": None}, ready=False, name="170226_0000", start=START)
    lines = list(compare(settings, older, bad, newer).lines())
    assert lines[1] == (
        "cax as a daemon ends at 170227_0000, in CompareChecksums: KeyError 'pax_version', as the row of raw "
        "at midway-login1 has none; never done after that: 1 action"
    )
    assert any(line.startswith("1 run: cax ends in CompareChecksums: KeyError") for line in lines)


def test_action_that_cax_never_reaches_is_not_one_of_cax(settings):
    bad = document(LNGS, HERE | {"checksum": "bb"}, ready=False)
    newer = document(LNGS, ready=False, name="170228_0000", start=NOW - datetime.timedelta(days=1))
    result = compare(left_out(settings), bad, newer)
    (pull,) = [sentence for sentence, runs in result.cases.items() if "would pull" in sentence]
    assert pull.startswith("only cax would pull raw from xe1t-datamanager, had it not ended before; caxflow:")
    (push,) = [sentence for sentence, runs in result.cases.items() if "would push" in sentence]
    assert "had it not ended" not in push


def test_document_that_nobody_understands_is_named(settings):
    result = compare(settings, document(LNGS, name="../../etc"))
    assert result.runs == 0
    assert "etc" in result.problems[0]
