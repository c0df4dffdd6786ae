"""A run's journeys through the real commands: what goes well, what goes wrong, and what users are told."""

import datetime
import os
import re
import signal
import subprocess
import time

import pytest

import needs
from copies import names
from experiment import HOSTS, entry
from mortal import Gate

RUN = "160315_1432"


def reasons(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("caxflow: ") and "->" in line]


def absent_or_whole(experiment, site: str) -> bool:
    """Whether nothing stands under the dataset's name, or just what lngs has."""
    copy = experiment.raw(site)
    if not copy.exists():
        return True
    compare = ["rsync", "-rnc", "--delete", "--itemize-changes", f"{experiment.raw('lngs')}/", f"{copy}/"]
    return subprocess.run(compare, capture_output=True, text=True, check=True).stdout == ""


def test_relay_through_a_site_that_has_no_data(experiment, runs):
    experiment.add_run(runs)
    code, said = experiment.snakemake(f"tegner/{RUN}.checksum", site="control")
    assert code == 0, said
    assert "relay 160315_1432 from lngs to tegner" in said
    assert absent_or_whole(experiment, "tegner")
    assert experiment.raw("tegner").exists()
    found = entry(runs, "raw", "tegner")
    assert (found["status"], found["caxflow"]["owner"]) == ("transferred", "control")


def test_dry_does_nothing_and_is_previewed(experiment, runs):
    experiment.add_run(runs)
    before = list(runs.database["runs_new"].find())
    code, said = experiment.snakemake("all", dry=True)
    assert code == 1
    assert reasons(said) == [
        "caxflow: dry: true in the configuration lets nothing be made, moved or removed -> add -n to see "
        "what would be done, or take dry out"
    ]
    assert names(experiment.raw("midway").parent) == []
    assert list(runs.find()) == before
    assert runs.database.list_collection_names() == ["runs_new"]
    code, said = experiment.snakemake("all")
    assert code == 0, said
    assert entry(runs, "raw", "midway")["status"] == "transferred"
    assert entry(runs, "raw", "tegner")["status"] == "transferred"


def test_a_flipped_bit_is_found_named_and_told(experiment, runs):
    experiment.add_run(runs)
    code, said = experiment.snakemake(f"midway/{RUN}.raw.done")
    assert code == 0, said
    assert entry(runs, "raw", "midway")["status"] == "verifying"
    victim = sorted(experiment.raw("midway").glob("XENON1T-*.zip"))[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    code, said = experiment.snakemake(f"midway/{RUN}.checksum")
    assert code == 1
    assert any(victim.name in line and "midway" in line for line in reasons(said)), said
    assert not experiment.work(f"midway/{RUN}.checksum").exists()
    found = entry(runs, "raw", "midway")
    assert found["status"] == "error"
    assert victim.name in found["caxflow"]["error"]


def test_a_broken_run_is_reported_and_looked_at_again(experiment, runs):
    experiment.add_run(runs)
    zips = sorted(experiment.raw("lngs").glob("XENON1T-*.zip"))
    lost = zips[0].read_bytes()
    zips[0].unlink()
    code, said = experiment.snakemake(f"lngs/{RUN}.raw.done")
    assert code == 1
    assert any("not complete" in line for line in reasons(said)), said
    assert not experiment.work(f"lngs/{RUN}.raw.done").exists()
    assert entry(runs, "raw", "lngs")["status"] == "error"

    # It keeps nobody from the other runs, and is looked at again.
    experiment.add_run(runs, name="160315_1500")
    code, said = experiment.snakemake("all", site="lngs")
    assert code == 1
    assert any("not complete" in line for line in reasons(said)), said
    assert entry(runs, "raw", "lngs", name="160315_1500")["manifest"]
    zips[0].write_bytes(lost)
    code, said = experiment.snakemake("all", site="lngs")
    assert code == 0, said
    assert entry(runs, "raw", "lngs")["status"] == "transferred"
    assert "error" not in entry(runs, "raw", "lngs")["caxflow"]


def test_a_run_that_is_only_not_ready_yet_is_no_error(experiment, runs):
    ended = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(days=29)
    experiment.add_run(runs, end=ended)
    (experiment.raw("lngs") / "temp.zip").touch()
    code, said = experiment.snakemake(f"lngs/{RUN}.raw.done")
    assert code == 1
    assert any("still being built" in line for line in reasons(said)), said
    assert entry(runs, "raw", "lngs")["status"] == "transferred"


def test_a_source_that_vanishes_then_comes_back(experiment, runs):
    experiment.add_run(runs)
    code, said = experiment.snakemake(f"lngs/{RUN}.raw.done")
    assert code == 0, said
    victim = sorted(experiment.raw("lngs").glob("XENON1T-*.zip"))[0]
    hidden = victim.rename(experiment.sites["lngs"].root / "hidden")
    code, said = experiment.snakemake(f"midway/{RUN}.checksum")
    assert code == 1
    assert any(victim.name in line for line in reasons(said)), said
    assert not experiment.raw("midway").exists()
    assert not experiment.work(f"midway/{RUN}.raw.done").exists()
    found = entry(runs, "raw", "midway")
    assert found["status"] == "error"
    assert victim.name in found["caxflow"]["error"]
    hidden.rename(victim)
    # A copy that was found damaged is no source before it was read again.
    code, said = experiment.snakemake(f"midway/{RUN}.checksum")
    assert code == 1
    assert f"once its files are back, have them read again: lngs/{RUN}.raw.done" in said
    for target in (f"lngs/{RUN}.raw.done", f"midway/{RUN}.checksum"):
        code, said = experiment.snakemake(target)
        assert code == 0, said
    assert entry(runs, "raw", "midway")["status"] == "transferred"
    assert "error" not in entry(runs, "raw", "midway")["caxflow"]


@pytest.mark.parametrize("fault", ["changed host key", "refused key", "site is down"])
def test_a_site_that_cannot_be_reached_is_not_to_blame_for_its_data(experiment, runs, fault):
    experiment.add_run(runs)
    if fault == "changed host key":
        other = experiment.sites["tegner"].host_key
        lines = experiment.sites.known_hosts.read_text().splitlines()
        mine = f"[{experiment.sites['lngs'].host}]:{experiment.sites['lngs'].port} "
        lines = [mine + other if line.startswith(mine) else line for line in lines]
        experiment.sites.known_hosts.write_text("\n".join(lines) + "\n")
        word = "host key"
    elif fault == "refused key":
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", experiment.folder / "other"], check=True
        )
        (experiment.folder / "other").replace(experiment.sites.identity)
        word = "key"
    else:
        experiment.sites["lngs"].stop()
        word = "lngs"
    code, said = experiment.snakemake(f"midway/{RUN}.checksum")
    assert code == 1
    assert any(word in line and "lngs" in line for line in reasons(said)), said
    assert not experiment.work(f"lngs/{RUN}.raw.done").exists()
    assert not experiment.raw("midway").exists()
    assert entry(runs, "raw", "lngs")["status"] == "transferred"


def test_a_full_disk_publishes_nothing_and_says_so(experiment, runs):
    experiment.add_run(runs, events=16, events_per_file=8)
    code, said = experiment.snakemake(f"lngs/{RUN}.raw.done")
    assert code == 0, said
    root = experiment.raw("midway").parent
    with needs.mounted(root, "-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        code, said = experiment.snakemake(f"midway/{RUN}.checksum")
        assert code == 1
        assert any("midway" in line and ("space" in line or "full" in line) for line in reasons(said)), said
        assert not experiment.raw("midway").exists()
        assert entry(runs, "raw", "midway")["status"] == "error"
    code, said = experiment.snakemake(f"midway/{RUN}.checksum")
    assert code == 0, said


def test_killed_at_any_moment_it_goes_on_where_it_stopped(experiment, runs):
    experiment.add_run(runs, events=16, events_per_file=4)
    for delay in (1.5, 2.2, 2.9, 3.6, 4.5):
        process = experiment.start("all")
        time.sleep(delay)
        if process.poll() is None:
            # Only Snakemake: what it started must end by itself.
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert absent_or_whole(experiment, "midway")
        assert absent_or_whole(experiment, "tegner")
    experiment.wait_until_gone()
    code, said = experiment.snakemake("all")
    assert code == 0, said
    for site in ("midway", "tegner"):
        assert experiment.raw(site).exists()
        assert absent_or_whole(experiment, site)
        assert entry(runs, "raw", site)["status"] == "transferred"
        assert names(experiment.raw(site).parent) == [RUN]


def test_two_workflows_in_one_work_directory_the_second_is_refused(experiment, runs, tmp_path):
    experiment.add_run(runs, events=16, events_per_file=4)
    gate = Gate(tmp_path / "gate", rf"os\.rename data {RUN}")
    with experiment.held_up(gate, "all") as (first, _):
        code, said = experiment.snakemake("all")
        assert code == 1
        assert any("another workflow is at work" in line for line in reasons(said)), said
        gate.open()
        told, _ = first.communicate(timeout=300)
    assert first.returncode == 0, told


def test_two_sites_want_the_same_copy_and_one_makes_it(experiment, runs):
    experiment.add_run(runs, events=16, events_per_file=4)
    code, said = experiment.snakemake(f"midway/{RUN}.checksum")
    assert code == 0, said
    both = [experiment.start("all", site=site) for site in ("midway", "tegner")]
    said = [process.communicate(timeout=300)[0] for process in both]
    # The one that comes second is told that the copy is being made or there; nobody makes it twice.
    assert any(process.returncode == 0 for process in both), said
    for site in ("midway", "tegner"):
        code, told = experiment.snakemake("all", site=site)
        assert code == 0, told
    assert absent_or_whole(experiment, "tegner")
    assert experiment.raw("tegner").exists()
    assert entry(runs, "raw", "tegner")["status"] == "transferred"
    assert names(experiment.raw("tegner").parent) == [RUN]


def test_the_database_goes_away_in_mid_work_and_the_next_call_catches_up(experiment, runs, tmp_path):
    from caxflow.demo.database import DatabaseServer

    server = DatabaseServer(tmp_path / "own").start()
    try:
        experiment.uri = server.uri
        experiment.add_run(runs)
        import pymongo

        with pymongo.MongoClient(server.uri) as client:
            own = client[experiment.name]["runs_new"]
            own.insert_one(runs.find_one())
            process = experiment.start(f"midway/{RUN}.processed.root")
            deadline = time.monotonic() + 60
            while not experiment.work(f"midway/{RUN}.settings.json").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            while not experiment.work(f"midway/{RUN}.checksum").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        server.kill()
        said, _ = process.communicate(timeout=120)
        # Processing needs no database: work in hand goes on.
        assert process.returncode == 0, said
        assert re.search(r"facts? waits? for the runs database", said), said
        code, refused = experiment.snakemake(f"tegner/{RUN}.checksum")
        assert code == 1
        assert any("does not answer" in line for line in reasons(refused)), refused
        server = DatabaseServer(tmp_path / "own").start()
        experiment.uri = server.uri
        code, said = experiment.snakemake("all")
        assert code == 0, said
        with pymongo.MongoClient(server.uri) as client:
            own = client[experiment.name]["runs_new"]
            assert entry(own, "processed", "midway")["status"] == "transferred"
            assert entry(own, "raw", "midway")["status"] == "transferred"
    finally:
        server.kill()


def test_a_site_where_only_files_may_be_copied(experiment, runs):
    experiment.site(
        "tegner",
        method="scp",
        pull_from=["midway"],
        processed={"version": "mini_v1", "make": False},
    )
    experiment.add_run(runs)
    code, said = experiment.snakemake("all")
    assert code == 0, said
    assert experiment.raw("tegner").exists()
    assert absent_or_whole(experiment, "tegner")
    assert entry(runs, "raw", "tegner")["status"] == "transferred"
    assert entry(runs, "processed", "tegner")["status"] == "transferred"
    checked = subprocess.run(
        ["xxhsum", "-c", experiment.work(f"tegner/{RUN}.checksum")],
        cwd=experiment.raw("tegner"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_origin_takes_note_of_its_own_runs(experiment, runs):
    experiment.add_run(runs)
    experiment.add_run(runs, name="160315_1500", kind="muon_veto")
    code, said = experiment.snakemake("all", site="lngs")
    assert code == 0, said
    found = entry(runs, "raw", "lngs")
    assert found["manifest"].startswith("xxh128:")
    assert runs.find_one({"name": RUN})["raw_size_byte"] == found["size"] > 0
    # Another site takes the manifest over from the database, and asks lngs for nothing but the bytes.
    code, said = experiment.snakemake(f"midway/{RUN}.checksum")
    assert code == 0, said
    assert "the runs database states it" in experiment.work(f"lngs/{RUN}.raw.done").read_text()
    assert entry(runs, "raw", "midway")["manifest"] == found["manifest"]
    assert HOSTS["lngs"] == found["host"]
