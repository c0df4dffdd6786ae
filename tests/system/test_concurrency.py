"""Several workflows at once, some of them killed: each copy is made once, and all that is said is true."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pymongo
import yaml

import invariants
from caxflow.demo.database import DatabaseServer
from caxflow.demo.server import reserve_port
from experiment import HOSTS, Experiment, entry
from mortal import Gate

RUN = "160315_1432"
RUNS = {RUN: "tpc", "160316_1000_MV": "muon_veto"}
PURGE = {"after_days": 30, "copies": 2, "processed": True}


def look(experiment, database, truth, *others) -> invariants.Invariants:
    """The independent checker of the three sites, and of their work directories in all experiments."""
    sites = {}
    for name in ("lngs", "midway", "tegner"):
        root = experiment.sites[name].root
        roots = {kind: root / kind for kind in ("raw", "processed")}
        work = tuple(each.work(site=name) for each in (experiment, *others))
        sites[name] = invariants.Site(HOSTS[name], roots, work)
    return invariants.Invariants(database, sites, truth)


def until_nothing_is_left(experiment, site, target, **config) -> str:
    """Call the workflow of a site until it says so; what it said, all in all."""
    told = ""
    for _ in range(8):
        code, said = experiment.snakemake(target, site=site, **config)
        told += said
        if code == 0 and ("nothing to do" in said or "nothing to remove" in said):
            break
    return told


def test_of_all_workflows_at_once_one_makes_each_copy(experiment, runs, database, tmp_path):
    for name, kind in RUNS.items():
        experiment.add_run(runs, name[:11], kind=kind, events=4, events_per_file=2)
    truth = {run: invariants.sums(experiment.raw("lngs", run)) for run in RUNS}
    # A second workflow of the same site, in a work directory of its own.
    second = Experiment(tmp_path / "second", experiment.sites, experiment.uri, experiment.name)
    calls = [
        (experiment, "lngs", "all", {}),
        (experiment, "midway", "all", {}),
        (experiment, "tegner", "all", {}),
        (second, "midway", "all", {"kinds": ["raw"]}),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        together = [pool.submit(until_nothing_is_left, *call[:3], **call[3]) for call in calls]
    told = [each.result() for each in together]
    seen = look(experiment, database, truth, second)
    seen.check(copies=1)

    # Then midway makes room, while the others look whether there is anything to do.
    calls = [
        (experiment, "midway", "purge", {"purge": PURGE}),
        (second, "midway", "purge", {"purge": PURGE, "kinds": ["raw"]}),
        (experiment, "tegner", "all", {}),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        together = [pool.submit(until_nothing_is_left, *call[:3], **call[3]) for call in calls]
    told += [each.result() for each in together]
    code, said = experiment.snakemake("all", purge=PURGE)
    assert code == 0, said
    assert "nothing to do" in said, said
    seen.check(copies=2, done=True)
    for run in RUNS:
        assert not experiment.raw("midway", run).exists(), told
        records = list(database["caxflow_audit"].find({"run": run}))
        size = sum(path.stat().st_size for path in experiment.raw("lngs", run).iterdir())
        for site in ("midway", "tegner"):
            sent = [each["sent"] for each in records if _is(each, "copied", site) and each["sent"]]
            assert sent == [size], records
        assert sum(_is(each, "removed", "midway") for each in records) == 1
        assert not [each for each in records if each["action"] in ("suspect", "restored")]


def _is(record, action, site) -> bool:
    return (record["action"], record["kind"], record["host"]) == (action, "raw", HOSTS[site])


def test_whoever_of_a_workflow_is_killed_the_next_call_goes_on(experiment, runs, database, tmp_path):
    """A job alone, all of it, the helper at the far end, and the main process alone, each at another step."""
    experiment.add_run(runs, events=4, events_per_file=2)
    truth = {RUN: invariants.sums(experiment.raw("lngs"))}
    seen = look(experiment, database, truth)

    # A job, right before it publishes what it pulled.
    published = rf"os\.rename data {RUN}"
    with experiment.held_up(Gate(tmp_path / "1", published), "all", kinds=["raw"]) as (process, job):
        os.kill(job, signal.SIGKILL)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert entry(runs, "raw", "midway")["status"] == "transferring"
    assert not experiment.raw("midway").exists()
    seen.check()

    # All of it, when the copy was read again, and the receipt is about to be there.
    proven = f"midway/{RUN}.checksum"
    stated = rf"os\.rename \S+ (\S+/)?midway/{RUN}\.checksum"
    # Of midway only: a push to tegner beside it might be done before it is killed.
    with experiment.held_up(Gate(tmp_path / "2", stated), proven, kinds=["raw"]) as (process, _):
        os.killpg(process.pid, signal.SIGKILL)
    assert not experiment.work(proven).exists()
    assert not experiment.raw("tegner").exists()
    assert entry(runs, "raw", "midway")["status"] == "verifying"
    seen.check()

    # The helper at the far end, right before it publishes what was pushed to it.
    gate = Gate(tmp_path / "3", published)
    file = experiment.folder / "sites/tegner.yaml"
    as_it_was = yaml.safe_load(file.read_text())
    access = as_it_was["access"] | {"python": gate.python()}
    file.write_text(yaml.safe_dump(as_it_was | {"access": access}))
    process = experiment.start("all", kinds=["raw"])
    try:
        helper = gate.wait(process)
        os.kill(helper, signal.SIGKILL)
        said, _ = process.communicate(timeout=120)
    finally:
        gate.open()
        process.kill()
        process.communicate()
    assert process.returncode == 1, said
    (reason,) = [line for line in said.splitlines() if line.startswith("caxflow: tegner")]
    assert " -> " in reason
    assert not experiment.raw("tegner").exists()
    file.write_text(yaml.safe_dump(as_it_was))
    seen.check(copies=2)

    # The main process, when a copy was pushed, and its receipt is about to be there: the job ends by itself.
    stated = rf"os\.rename \S+ (\S+/)?tegner/{RUN}\.raw\.done"
    with experiment.held_up(Gate(tmp_path / "4", stated), "all", kinds=["raw"]) as (process, job):
        process.kill()
        process.wait()
        experiment.wait_until_gone(job)
    assert not experiment.work(f"tegner/{RUN}.raw.done").exists()
    assert entry(runs, "raw", "tegner")["status"] == "transferring"
    seen.check(copies=2)

    code, said = experiment.snakemake("all", kinds=["raw"])
    assert code == 0, said
    seen.check(copies=3, done=True)


def test_the_database_dies_under_a_copy_and_comes_back(experiment, runs, tmp_path):
    """It is killed with kill -9 while a copy is about to be published, and started again from its journal."""
    port = reserve_port(experiment)
    server = DatabaseServer(tmp_path / "own", port=port).start()
    try:
        experiment.uri = server.uri
        there = {"uri": server.uri, "database": experiment.name, "timeout": 1}
        with pymongo.MongoClient(server.uri) as client:
            database = client[experiment.name]
            own = database["runs_new"]
            experiment.add_run(own, events=4, events_per_file=2)
            truth = {RUN: invariants.sums(experiment.raw("lngs"))}
            gate = Gate(tmp_path / "gate", rf"os\.rename data {RUN}")
            with experiment.held_up(gate, "all", kinds=["raw"], rundb=there) as (process, _):
                server.kill()
                gate.open()
                said, _ = process.communicate(timeout=120)
                # What was in hand went on: the copy is there, and proven.
                assert experiment.work(f"midway/{RUN}.checksum").exists()
            # Nothing new was claimed.
            assert process.returncode == 1, said
            assert "does not answer" in said
            assert "wait for the runs database" in said
            assert not experiment.raw("tegner").exists()
            server = DatabaseServer(tmp_path / "own", port=port).start()
            assert entry(own, "raw", "midway")["status"] == "transferring"
            code, said = experiment.snakemake("all", kinds=["raw"])
            assert code == 0, said
            look(experiment, database, truth).check(copies=3, done=True)
    finally:
        server.kill()
