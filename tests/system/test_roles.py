"""The roles that `caxflow rundb roles` prints are enough for what they are for, and for nothing else."""

import json
import re
import uuid
from pathlib import Path

import pymongo
import pytest

from caxflow import cli, config
from caxflow.config import HOME, RunDBAddress
from caxflow.demo.database import DatabaseServer
from caxflow.errors import CaxflowError
from caxflow.rundb import RunsDB, queries, roles
from caxflow.simulate import simulate_run
from caxflow.targets import Run
from clones import Clone
from copies import mark
from rolekeeper import RoleKeeper

RUNS, SECRET = "runs_new", f"hunter2-{uuid.uuid4()}"
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
        clone.configure(processors={"mini_v1": {"kind": "mini"}})
        run = clone.document()
        place = Path(run["data"][0]["location"])
        simulate_run(place, run["name"], kind="tpc", number=7, events=8, events_per_file=4)
        administered[RUNS].insert_one(run)
        for words in (
            ["caxflow", "rundb", "init", "--profile", "lngs"],
            ["caxflow", "run", "--profile", "lngs", "--once"],
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
        for words in (["why", "160315_1432", "--history"], ["rundb", "check"]):
            said = clone.run("caxflow", *words, "--profile", "lngs", **library)
            assert "not authorized" not in said.text, said.text
        assert reader.refused == []


def test_nobody_is_given_what_would_take_away():
    for role, allowed in roles.privileges(RUNS).items():
        given = {action for actions in allowed.values() for action in actions}
        assert given <= {
            "find",
            "listIndexes",
            "killCursors",
            "changeStream",
            "insert",
            "update",
            "remove",
        }, role
        assert "remove" not in allowed[RUNS]
        assert set(allowed.get(queries.AUDIT, ())) <= {"find", "listIndexes", "killCursors", "insert"}
        removing = {collection for collection, actions in allowed.items() if "remove" in actions}
        assert removing <= {queries.HEALTH}
    assert "insert" not in roles.privileges(RUNS)[roles.SITE][RUNS]


def test_the_printed_roles_are_these():
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


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that asks for passwords, and has our roles, for whole databases, and a user of each."""
    folder = tmp_path_factory.mktemp("guarded")
    with DatabaseServer(folder, durable=False) as server, pymongo.MongoClient(server.uri) as client:
        for role, allowed in roles.privileges(RUNS).items():
            held = [
                {"resource": {"db": "run", "collection": collection}, "actions": actions}
                for collection, actions in allowed.items()
            ]
            client["run"].command("createRole", role, privileges=held, roles=[])
            client["run"].command("createUser", role, pwd=SECRET, roles=[role])
        with RunsDB(RunDBAddress(server.uri)) as database:
            database.init()
            database.init_site("lngs")
    with DatabaseServer(folder, durable=False, auth=True) as server:
        yield server.uri.replace("//", "//{}@") + "/run?authSource=run"


def test_a_server_keeps_to_the_roles(guarded, monkeypatch):
    monkeypatch.setenv("MONGODB_PASSWORD", SECRET)
    with RunsDB(RunDBAddress(guarded.format(roles.SITE))) as site:
        assert "caxflow_run" in site.init()
        site.try_writing()
        assert site.privileges() is not None
        site.append_audit({"_id": "one", "run": "160315_1432"})
        for change in (
            lambda: site._database[queries.AUDIT].create_index("at", expireAfterSeconds=1),
            site._database[queries.AUDIT].drop,
            site.runs.drop,
        ):
            with pytest.raises(pymongo.errors.OperationFailure, match="not authorized"):
                change()
    with RunsDB(RunDBAddress(guarded.format(roles.READER))) as reader:
        assert [each["_id"] for each in reader.audit(Run("160315_1432"))] == ["one"]
        assert reader.missing_indexes("lngs") == []
        with pytest.raises(CaxflowError, match=r"not authorized .*-> .*caxflow rundb roles"):
            reader.try_writing()
        with pytest.raises(CaxflowError, match="not authorized"):
            reader.append_audit({"_id": "two"})


@pytest.mark.parametrize(
    ("resource", "actions", "expected"),
    [
        ({"db": "run", "collection": ""}, ["find", "insert", "update"], {queries.AUDIT: ["update"]}),
        ({"db": "run", "collection": RUNS}, ["find", "remove"], {RUNS: ["remove"]}),
        ({"db": "run", "collection": queries.AUDIT}, ["collMod"], {queries.AUDIT: ["collMod"]}),
        ({"anyResource": True}, ["anyAction"], {RUNS: ["anyAction"], queries.AUDIT: ["anyAction"]}),
        (
            {"db": "", "collection": ""},
            ["dropDatabase"],
            {RUNS: ["dropDatabase"], queries.AUDIT: ["dropDatabase"]},
        ),
        ({"db": "other", "collection": ""}, ["remove"], {}),
        ({"cluster": True}, ["anyAction"], {}),
        ({"db": "run", "collection": queries.HEALTH}, ["remove"], {}),
    ],
)
def test_rights_that_nobody_needs_are_found(resource, actions, expected):
    """As MongoDB's manual has them, of `connectionStatus`."""
    held = [{"resource": resource, "actions": actions}]
    assert dict(roles.excess(held, RunDBAddress("mongodb://h"))) == expected


def test_our_roles_are_no_more_than_that():
    for allowed in roles.privileges(RUNS).values():
        held = [{"resource": {"db": "run", "collection": each}, "actions": allowed[each]} for each in allowed]
        assert list(roles.excess(held, RunDBAddress("mongodb://h"))) == []


def test_the_command_prints_a_file_for_mongosh(capsys):
    assert cli.main(["rundb", "roles", "--profile", str(HOME / "profiles/midway")]) == 0
    settings = config.load([("midway", {"site": "midway"})])
    assert capsys.readouterr().out == roles.script(settings.rundb, settings.sites).rstrip("\n") + "\n"
