"""From rows as the event builder and cax leave them to processed data, beside cax at other sites."""

import datetime
import os
import shutil

import pytest

import caxrows
from copies import Copies, names
from experiment import HOSTS, entry

RUN, VETO = "160315_1432", "160315_1500_MV"
VERSION = "v0.0.1"


@pytest.fixture
def experiment(experiment):
    """Sites that register, process with minitrees, and keep copies."""
    (experiment.sites["midway"].root / "minitrees").mkdir()
    experiment.site(
        "midway",
        roots=("raw", "processed", "minitrees"),
        pull_from=["lngs"],
        push_to=["tegner"],
        processed={"version": "mini_v1", "cores": 1},
        minitrees={"make": ["Basics"]},
    )
    return experiment


@pytest.fixture
def hosts(experiment):
    """cax.json of these sites, where all of its tasks find something to do."""
    found = []
    for site, host in HOSTS.items():
        root = experiment.sites[site].root if site != "control" else "/nowhere"
        folders = {f"dir_{kind}": f"{root}/{kind}" for kind in ("raw", "processed", "minitrees")}
        known = {"name": host, "method": "rsync", "hostname": host, "username": "cax", "purge": 5}
        found.append(known | folders | {"data_type": ["raw", "processed"], "upload_options": []})
    found[0]["upload_options"] = [HOSTS["midway"], HOSTS["tegner"]]
    found[1]["download_options"], found[2]["download_options"] = [HOSTS["lngs"]], [HOSTS["midway"]]
    # Its table of owners has two hosts.
    tasks = [task for task in caxrows.TASKS if task != "SetPermission"]
    return [host | {"task_list": tasks} for host in found]


def test_from_the_event_builder_to_minitrees_beside_cax(experiment, runs, hosts):
    experiment.add_run(runs)
    experiment.add_run(runs, name="160315_1500", kind="muon_veto")
    for document in list(runs.find()):
        runs.replace_one({"_id": document["_id"]}, caxrows.as_the_event_builder_ends(document))
    # Of one it was killed when it had written all, years ago.
    old = {"data.$.status": "transferring", "data.$.creation_time": [caxrows.NOW - caxrows.AGO]}
    runs.update_one({"detector": "muon_veto", "data.host": HOSTS["lngs"]}, {"$set": old})
    for site in ("lngs", "midway", "tegner"):
        code, said = experiment.snakemake("all", site=site)
        assert code == 0, said
    for document in runs.find():
        for site in ("lngs", "midway", "tegner"):
            found = entry(runs, "raw", site, document["name"], document["detector"])
            assert found["status"] == "transferred", found
            assert found["checksum"] == caxrows.checksum(experiment.raw("lngs", _run(document)))
            assert "pax_version" not in found
    assert entry(runs, "processed", "midway")["status"] == "transferred"
    assert entry(runs, "processed", "tegner")["status"] == "transferred"
    made = entry(runs, "minitrees", "midway")
    assert names(experiment.sites["midway"].root / f"minitrees/pax_{VERSION}/{RUN}") == [f"{RUN}_Basics.root"]
    # cax at each of the sites does what it would do, had it made the same copies itself.
    for later in (datetime.timedelta(), datetime.timedelta(days=3), datetime.timedelta(days=1000)):
        for document in runs.find():
            ours = caxrows.passes(document, hosts, VERSION, later)
            assert ours == caxrows.passes(caxrows.as_caxs_own(document), hosts, VERSION, later)
            assert [death for _, death in ours.values()] == [None] * 4
    # What its PurgeProcessed removes of a version are that run's files alone.
    unwanted = [host | {"pax_version_purge": VERSION} for host in hosts]
    document = runs.find_one({"name": "160315_1432"})
    steps, death = caxrows.passes(document, unwanted, VERSION, datetime.timedelta())[HOSTS["midway"]]
    removed = [location for task, _, location in steps if task == "PurgeProcessed"]
    assert (removed, death) == ([entry(runs, "processed", "midway")["location"], made["location"]], None)
    assert made["location"].endswith(f"/{RUN}")


def _run(document):
    return document["name"] + ("_MV" if document["detector"] == "muon_veto" else "")


def age(path, days=400):
    """Have files look as if they had been written long ago."""
    then = datetime.datetime.now().timestamp() - days * 86400
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        os.utime(each, (then, then))


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path / "world", database_uri, database.name) as copies:
        yield copies


STATES = [
    (status, there, begun)
    for status in ("transferring", "verifying", "error")
    for there in ("a part", "all", "more", "nothing")
    for begun in caxrows.BEGUN
]


@pytest.mark.parametrize("to", ["midway", "tegner"])
def test_rows_of_every_state_that_cax_left(copies, zygote, to):
    """Where caxflow runs, and where it brings copies to; ages of years."""
    left = {}
    for number, (status, there, begun) in enumerate(STATES):
        run = f"160315_{number // 60:02d}{number % 60:02d}"
        copies.add(run, sites=["lngs"] if to == "midway" else ["lngs", "midway"])
        left[run] = there
        copy = copies.path(to, run)
        if there != "nothing":
            shutil.copytree(copies.path("lngs", run), copy)
        if there == "a part":
            (copy / "a.zip").write_bytes(b"fir")
        if there == "more":
            (copy / "core.12345").write_bytes(b"of something that died")
        if there != "nothing":
            age(copy)
        row = {"type": "raw", "host": HOSTS[to], "status": status, "location": str(copy), "checksum": None}
        row |= caxrows.BEGUN[begun]
        copies.database.runs.update_one({"name": run}, {"$push": {"data": row}})
    done = zygote.call("perform", "all", copies.overrides())
    assert done["status"] == 0, done["said"]
    aside = names(copies.path(to).parent / ".caxflow-quarantine")
    for run, there in left.items():
        found = copies.row(to, run)
        assert (found["status"], found["manifest"]) == ("transferred", copies.row("lngs", run)["manifest"])
        assert found["caxflow"]["verified"]
        assert "abandoned" not in found["caxflow"]
        assert copies.whole(to, run)
        moved = [name for name in aside if run in name]
        assert len(moved) == (there in ("a part", "more")), (run, there, moved)


@pytest.mark.parametrize("there", ["a part", "nothing"])
def test_what_cax_may_still_be_at_is_left_alone(copies, zygote, there):
    """Begun long ago, it still writes; or it began lately."""
    begun = (
        {"creation_time": caxrows.NOW - caxrows.AGO} if there == "a part" else {"creation_time": caxrows.NOW}
    )
    copies.add(RUN, sites=["lngs"])
    if there == "a part":
        shutil.copytree(copies.path("lngs", RUN), copies.path("midway", RUN))
        (copies.path("midway", RUN) / "a.zip").write_bytes(b"fir")
    row = {"type": "raw", "host": HOSTS["midway"], "status": "transferring", "checksum": None} | begun
    row["location"] = str(copies.path("midway", RUN))
    copies.database.runs.update_one({}, {"$push": {"data": row}})
    done = zygote.call("perform", "all", copies.overrides(attempts=1))
    assert copies.row("midway") == row
    assert names(copies.path("midway").parent) == ([RUN] if there == "a part" else [])
    if there == "a part":
        assert "another program wrote to" in done["said"]
