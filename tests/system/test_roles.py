"""The roles that `caxflow rundb roles` prints are enough for what they are for, and for nothing else."""

import json
import re
from pathlib import Path

import pymongo
import pytest

from caxflow.config import RunDBAddress
from caxflow.errors import CaxflowError
from caxflow.rundb import RunsDB, queries, roles
from caxflow.simulate import simulate_run
from clones import Clone
from copies import mark
from rolekeeper import RoleKeeper

RUNS = "runs_new"
SITES = ("lngs", "midway", "nikhef", "tegner")


@pytest.fixture
def administered(database, database_uri):
    """The database as its administrator leaves it: the printed commands have made the indexes."""
    printed = roles.script(RunDBAddress(database_uri, database.name), dict.fromkeys(SITES))
    for collection, words in re.findall(
        r'^runs\.getCollection\("(\w+)"\)\.createIndex\((.*)\);$', printed, re.M
    ):
        keys, options = json.loads(f"[{words}]")
        database[collection].create_index(list(keys.items()), **options)
    return database


def test_a_site_works_and_its_readers_read(tmp_path, administered, database_uri):
    allowed = roles.privileges(RUNS)
    with (
        RoleKeeper(database_uri, allowed[roles.SITE]) as site,
        RoleKeeper(database_uri, allowed[roles.READER]) as reader,
    ):
        clone = Clone(tmp_path, site.uri, administered.name)
        library = {"PYTHONPATH": str(clone.folder / "workflow")}
        folders = {kind: str(clone.data / f"lngs/{kind}") for kind in ("raw", "processed")}
        mark("lngs", folders)
        (clone.data / "tegner/raw").mkdir(parents=True, exist_ok=True)
        clone.site("lngs", roots=folders, processed={"version": "mini_v1", "cores": 1}, push_to=["tegner"])
        clone.configure(processors={"mini_v1": {"kind": "mini"}}, scrub={"every_days": 0})
        run = clone.document()
        place = Path(run["data"][0]["location"])
        simulate_run(place, run["name"], kind="tpc", number=7, events=8, events_per_file=4)
        administered[RUNS].insert_one(run)
        for words in (
            ["caxflow", "rundb", "init", "--profile", "lngs"],
            ["caxflow", "run", "--profile", "lngs", "--once"],
            ["snakemake", "--profile", "lngs", "scrub"],
            [
                "caxflow",
                "rm",
                "--profile",
                "lngs",
                "--kind",
                "processed",
                "160315_1432",
                "--because",
                "a test",
            ],
        ):
            said = clone.run(*words, **library)
            assert "not authorized" not in said.text
            assert said.status == 0 or "rm" in words, said.text
        assert site.refused == []
        assert {"update", "insert", "find"} <= set(site.seen)
        actions = {record["action"] for record in administered[queries.AUDIT].find()}
        assert {"registered", "copied", "verified", "made"} <= actions
        rundb = {"uri": reader.uri, "database": administered.name, "timeout": 3}
        clone.configure(rundb=rundb)
        for words in (["status"], ["why", "160315_1432", "--history"], ["rundb", "check"]):
            said = clone.run("caxflow", *words, "--profile", "lngs", **library)
            assert "not authorized" not in said.text, said.text
        assert reader.refused == []


def test_nobody_is_given_what_would_take_away():
    for role, allowed in roles.privileges(RUNS).items():
        given = {action for actions in allowed.values() for action in actions}
        assert given <= {"find", "listIndexes", "changeStream", "insert", "update", "remove"}, role
        assert "remove" not in allowed[RUNS]
        assert set(allowed.get(queries.AUDIT, ())) <= {"find", "listIndexes", "insert"}
        removing = {collection for collection, actions in allowed.items() if "remove" in actions}
        assert removing <= {queries.HEALTH}
    assert "insert" not in roles.privileges(RUNS)[roles.SITE][RUNS]


def test_the_printed_roles_are_these(tmp_path):
    printed = roles.script(RunDBAddress("mongodb://h", "run", RUNS), dict.fromkeys(SITES))
    for role, allowed in roles.privileges(RUNS).items():
        lines = printed.partition(f'make("{role}", [')[2].partition("]);")[0].strip().splitlines()
        said = [json.loads(line.rstrip(",")) for line in lines]
        assert {each["resource"]["collection"]: each["actions"] for each in said} == allowed
        assert {each["resource"]["db"] for each in said} == {"run"}


def test_init_without_the_right_to_make_indexes(administered, database_uri):
    with RoleKeeper(database_uri, roles.privileges(RUNS)[roles.SITE]) as keeper:
        address = RunDBAddress(keeper.uri, administered.name, timeout=5)
        with RunsDB(address) as database:
            assert "caxflow_run" in database.init()
            database.init_site("lngs")
            assert keeper.refused == []
            administered[RUNS].drop_index("caxflow_hosts")
            with pytest.raises(CaxflowError, match=r"missing: caxflow_hosts -> .*caxflow rundb roles"):
                database.init()
            for name, change in (
                ("delete", lambda own: own[RUNS].delete_many({})),
                ("update", lambda own: own[queries.AUDIT].update_many({}, {"$set": {"by": "x"}})),
                ("delete", lambda own: own[queries.AUDIT].delete_many({})),
                ("createIndexes", lambda own: own[queries.AUDIT].create_index("at", expireAfterSeconds=1)),
                ("insert", lambda own: own[RUNS].insert_one({})),
            ):
                with pytest.raises(pymongo.errors.OperationFailure, match=f"not authorized for {name}"):
                    change(database._database)
