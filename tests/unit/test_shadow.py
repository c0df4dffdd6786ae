"""The shadow: what cax would do, what caxflow would, and where they differ."""

import dataclasses
import datetime

import pytest
import yaml

from caxflow import config
from caxflow.config import Selection
from caxflow.switching import shadow

NOW = datetime.datetime(2017, 3, 1)
START = datetime.datetime(2017, 2, 27)
HOST = {
    "name": "midway-login1",
    "data_type": ["raw", "processed"],
    "download_options": ["login", "xe1t-datamanager"],
    "upload_options": ["tegner-login-1"],
    "purge": 5,
}
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


def cax(made, settings, **host):
    return [str(action) for action in shadow.cax_actions(made, HOST | host, settings, NOW)]


LNGS = entry("xe1t-datamanager")
LONG_AGO = NOW - datetime.timedelta(days=10)


def test_cax_pulls_from_the_first_that_has_it(settings):
    assert cax(document(LNGS), settings) == ["pull raw from xe1t-datamanager"]
    both = document(LNGS, entry("login"))
    assert cax(both, settings) == ["pull raw from login"]


def test_cax_pulls_nothing_that_is_old_enough_to_be_purged(settings):
    assert cax(document(LNGS, start=LONG_AGO), settings) == []


def test_cax_does_only_the_tasks_of_its_list(settings):
    assert cax(document(LNGS), settings, task_list=["AddChecksum"]) == []
    assert cax(document(LNGS), settings, dataset_list=["160315_1432"]) == []


@pytest.mark.parametrize(
    ("mine", "expected"),
    [
        ([entry("midway-login1", "verifying")], ["verify raw"]),
        ([entry("midway-login1", "transferring", made=NOW)], []),
        ([entry("midway-login1", "transferring")], ["pull raw from xe1t-datamanager"]),
        ([entry("midway-login1", "error", made=NOW)], ["pull raw from xe1t-datamanager"]),
        ([entry("midway-login1")], ["push raw to tegner-login-1", "process processed"]),
        ([entry("midway-login1"), entry("tegner-login-1", "error")], ["process processed"]),
        (
            [entry("midway-login1"), entry("tegner-login-1"), entry("midway-login1", kind="processed")],
            ["push processed to tegner-login-1"],
        ),
    ],
)
def test_cax_here(settings, mine, expected):
    assert cax(document(LNGS, *mine), settings) == expected


def test_cax_counts_its_own_copy_and_rucios_when_it_purges(settings):
    mine = [entry("midway-login1"), entry("tegner-login-1", "error"), entry("rucio-catalogue", checksum=None)]
    old = document(LNGS, *mine, start=LONG_AGO, ready=False)
    (action,) = shadow.cax_actions(old, HOST, settings, NOW)
    assert (str(action), action.why) == ("remove raw", "cax counts 3 copies with this one")


def test_cax_deletes_what_differs_from_its_master(settings):
    mine = [entry("midway-login1", checksum="bb"), entry("tegner-login-1")]
    assert cax(document(LNGS, *mine, ready=False), settings) == ["remove raw"]


def compare(settings, *made):
    return shadow.compare(made, HOST, settings, NOW)


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


def test_document_that_nobody_understands_is_named(settings):
    result = compare(settings, document(LNGS, name="../../etc"))
    assert result.runs == 0
    assert "etc" in result.problems[0]
