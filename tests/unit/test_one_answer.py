"""How a run stands at a site is the same for why, status, the page, -n, metrics and messages."""

import datetime
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from caxflow import cli, documents, page, receipts
from caxflow.conditions.corrections import CORRECTIONS
from caxflow.errors import CaxflowError
from caxflow.monitoring import metrics, notify
from caxflow.page import rows
from caxflow.planning import planner, standing, summary
from caxflow.planning.standing import Standings
from caxflow.planning.tidy import Tidy
from caxflow.rundb import PLANNING, RunsDB, marks
from caxflow.targets import Run, Target, parse
from caxflow.workdir import journal
from copies import mark
from operators import HOSTS, MANIFEST, RUN, configured, document, fail, raw, state

NOW = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
LATER, BEFORE = NOW + datetime.timedelta(hours=5), NOW - datetime.timedelta(hours=5)
FAR = NOW + datetime.timedelta(days=3653)  # as a clock says it that is wrong
BY = {"user": "joe", "host": "login", "pid": 7}
PROVEN = {"manifest": MANIFEST.digest, "checksum": MANIFEST.digest, "caxflow": {"verified": BEFORE}}


class World:
    """A site's configuration, its run in the runs database, and everybody who may be asked about it."""

    def __init__(self, folder: Path, uri: str, database):
        self.folder, self.uri, self.database, self.here = folder, uri, database, "midway"
        self.options = {"kinds": ["raw"]}
        configured(folder, uri, database.name)

    @property
    def settings(self):
        main = yaml.safe_load((self.folder / "config/config.yaml").read_text())
        return configured(
            self.folder, main["rundb"]["uri"], self.database.name, site=self.here, **self.options
        )

    @property
    def work(self):
        return self.folder / "work" / self.here

    def copy(self, site, status="transferred", *, kind="raw", **keys):
        """An entry: of a good copy in its place that was read again, if nothing else is said."""
        made = raw(self.folder, site, status, **(PROVEN | keys))
        if kind != "raw":
            place = self.folder / site / kind / "pax_v0.0.1"
            place.mkdir(parents=True, exist_ok=True)
            made |= {"type": kind, "pax_version": "v0.0.1", "location": str(place / f"{RUN}.root")}
            (place / f"{RUN}.root").touch()
        return made

    def add(self, *entries, born=True, **more):
        """Write the document; `born`: there is the copy at lngs."""
        made = document(self.folder, *entries, **more)
        made["data"][0] |= PROVEN
        made["data"] = made["data"][0 if born else 1 :]
        self.database.runs_new.insert_one(made)

    def place(self, site="midway"):
        return self.folder / site / "raw" / str(RUN)

    def profile(self):
        folder = self.folder / "profiles" / self.here
        folder.mkdir(parents=True, exist_ok=True)
        main = yaml.safe_load((self.folder / "config/config.yaml").read_text())
        main |= {"site": self.here, "sites_dir": str(self.folder / "config/sites")} | self.options
        (folder / "caxflow.yaml").write_text(yaml.safe_dump(main))
        (folder / "config.yaml").write_text(yaml.safe_dump({"configfile": "caxflow.yaml"}))
        return str(folder)

    def ask(self, capsys, command):
        code = cli.main([command, "--profile", self.profile(), "--json", str(RUN)])
        return code, json.loads(capsys.readouterr().out)[0]

    def page(self, capsys):
        """State, targets and reasons of the run on the page."""
        folder = self.folder / "page"
        assert cli.main(["page", "--profile", self.profile(), str(folder)]) == 0
        capsys.readouterr()
        month = (folder / f"data/runs/{RUN.name[:4]}.js").read_text()
        day = (folder / f"data/days/{RUN.name[:6]}.js").read_text()
        (row,) = json.loads(re.search(r", (\{.*\})\);", month)[1])["rows"]
        (run,) = json.loads(re.search(r", (\[.*\])\);", day)[1])
        return row, run

    def public(self, reasons):
        """Reasons as the page has them: without the account at work, and paths as of the work directory."""
        return [re.sub(r" \([^()]*@[^()]*\)", "", each).replace(f"{self.work}/", "") for each in reasons]

    def plan(self):
        """What `-n all` finds, its lines, and the metrics and alarms of a call that has planned so."""
        settings = self.settings
        with RunsDB(settings.rundb, dry=True) as database:
            made = planner.look(database, settings, tidy=Tidy(settings, self.work).check)
        lines = list(summary.lines(made, made.targets, settings))
        made.write(self.work)
        told = metrics.collect(settings, self.work, 0, True, 0.0)
        counts = {each.name.removeprefix("runs_"): each.values[0][1] for each in told if each.values}
        return made, lines, counts, list(notify.alarms(settings, self.work, []))


@pytest.fixture
def world(tmp_path, database_uri, database):
    return World(tmp_path, database_uri, database)


def wrong_disk(text):
    """Have a run to copy, and a marker in the root here that is not its own."""

    def act(world):
        world.add()
        root = world.place().parent
        (root / "160101_0000").mkdir(parents=True)
        (root / ".caxflow-root").write_text(text)

    return act


def settled(world, **more):
    world.add(world.copy("midway"), world.copy("tegner"), **more)


def with_copy(site="midway", status="transferred", others=("tegner",), **keys):
    """A run with one copy that is as the keys say."""
    return lambda world: world.add(world.copy(site, status, **keys), *(world.copy(each) for each in others))


def left_out(option, value):
    def act(world):
        world.options["select"] = {option: value}
        world.add(tags=[{"name": "bad"}])

    return act


def failed_here(stage="raw.done", site="lngs", reason="lngs: no route -> check the network", times=1):
    def act(world):
        world.add()
        for _ in range(times):
            journal.fail(world.work, Target(site, RUN, stage), reason)
            journal.settle(world.work, Target(site, RUN, stage))

    return act


def failed_at(at):
    def act(world):
        world.add()
        target = Target("lngs", RUN, "raw.done")
        journal.fail(world.work, target, "lngs: no route", at=at.isoformat())
        journal.settle(world.work, target)

    return act


def missing(spoil):
    def act(world):
        settled(world)
        spoil(world.place())

    return act


def link(place):
    place.rmdir()
    place.symlink_to("/")


def processing_failed(here):
    """Y: at midway; the page of every site said that it failed."""

    def act(world):
        world.here, world.options["kinds"] = here, ["raw", "processed"]
        error = {"owner": "midway", "error": "pax: division by zero", "attempts": 5}
        made = world.copy("midway", "error", kind="processed", caxflow=error, manifest=None, checksum=None)
        world.add(world.copy("midway"), world.copy("tegner"), made)

    return act


def odd_to_process(**odd):
    def act(world):
        world.options["kinds"] = ["processed"]
        world.add(world.copy("midway"), **odd)

    return act


def no_gains(world):
    world.options["kinds"] = ["processed"]
    world.add(world.copy("midway"), processor={"DEFAULT": {"drift_velocity_liquid": 1e-4}})


def slow_control(world):
    """Only slow control can say how to process it, and does not yet."""
    correction = next(each for each in CORRECTIONS if each.name == "AddDriftVelocity")
    world.database[correction.collection].insert_one({"version": "1.1", "function": "1.4 + 0.001*v"})
    ranges = [{"min": 9000, "max": 9999, "value": 12}]
    world.options |= {
        "kinds": ["processed"],
        "corrections": {"apply": ["AddDriftVelocity"], "slow_control": {"ranges": ranges}},
    }
    parameters = {"gains": [1e6], "electron_lifetime_liquid": 5e5}
    world.add(world.copy("midway"), processor={"DEFAULT": parameters})


def renewal_fails(world):
    world.options |= {"kinds": ["processed"], "corrections": {"apply": ["AddGains"], "reprocess": True}}
    note = {"verified": BEFORE, "owner": "midway", "attempts": 5, "error": "no memory"}
    note["correction_versions"] = {"AddGains": "5.0"}
    made = world.copy("midway", kind="processed", caxflow=note)
    processor = {"DEFAULT": {"gains": [1e6], "drift_velocity_liquid": 1e-4, "electron_lifetime_liquid": 5e5}}
    processor["correction_versions"] = {"AddGains": "6.0"}
    world.add(world.copy("midway"), made, processor=processor)


def told_late(world):
    """The receipts stand, the database has yet to be told."""
    world.add(world.copy("tegner"))
    for stage in ("raw.done", "checksum"):
        journal.announce(world.work, state(world.work, world.folder, "midway", stage))


def damaged(stage="raw.done", *, told=True, text="{"):
    """A receipt of the copy here cannot be read; the database has been told of it or has yet to be."""

    def act(world):
        settled(world) if told is False else world.add(world.copy("midway"))
        for each in ("raw.done", "checksum"):
            state(world.work, world.folder, "midway", each)
        receipts.write(world.work / f"midway/{RUN}.{stage}", text)
        if not told:
            journal.announce(world.work, Target("midway", RUN, stage))

    return act


def excluded_after_it_failed(world):
    failed_here(times=5)(world)
    world.database.runs_new.update_one({}, {"$set": {"tags": [{"name": "bad"}]}})


def suspect(**more):
    note = {"suspect": {"files": ["a.zip"]} | more, "error": "a.zip differs", "owner": "midway"}
    return {"caxflow": note}


def claim(owner, until=LATER, **more):
    return {"caxflow": {"owner": owner, "lease": until, "by": BY} | more}


def dead(world):
    world.add(world.copy("midway", "transferring", **claim("midway", by=receipts.who() | {"pid": 2**30})))


# What is done to the run, then its state at the site, and whether `why` ends with 0.
CASES = {
    "U1 left out by a tag": (left_out("without_tags", ["bad"]), standing.EXCLUDED, False),
    "left out by its number": (left_out("numbers", {"first": 2000}), standing.EXCLUDED, False),
    "left out by its source": (left_out("sources", ["Rn220"]), standing.EXCLUDED, False),
    "left out after it failed": (excluded_after_it_failed, standing.EXCLUDED, False),
    "to be copied": (lambda world: world.add(), standing.TODO, True),
    "to be told only": (told_late, standing.TODO, True),
    "to be copied to a root with a damaged one": (wrong_disk("{"), standing.WAITS, False),
    "to be copied to a root of another site": (
        wrong_disk('{"site": "tegner", "kind": "raw", "id": "1"}'),
        standing.WAITS,
        False,
    ),
    "settled": (settled, standing.SETTLED, True),
    "still being taken": (lambda world: world.add(end=None), standing.TAKING, False),
    "two entries": (
        lambda world: world.add(world.copy("midway"), world.copy("midway")),
        standing.PROBLEM,
        False,
    ),
    "held by another site": (
        with_copy("tegner", "transferring", ("midway",), **claim("tegner")),
        standing.BUSY,
        True,
    ),
    "held by a process here": (
        with_copy("midway", "transferring", (), **claim("midway")),
        standing.BUSY,
        True,
    ),
    "held by a dead process": (dead, standing.TODO, True),
    "verified by another program": (
        with_copy("tegner", "verifying", ("midway",), caxflow={}),
        standing.WAITS,
        False,
    ),
    "no source": (lambda world: world.add(born=False), standing.WAITS, False),
    "U2 processing failed, seen from where": (processing_failed("midway"), standing.FAILED, False),
    "U2 processing failed, seen from the origin": (processing_failed("lngs"), standing.SETTLED, True),
    "U2 processing failed, seen from a keeper": (processing_failed("tegner"), standing.SETTLED, True),
    "Y6 it fails each time": (
        with_copy("midway", "error", caxflow={"error": "no space", "attempts": 2}),
        standing.FAILED,
        False,
    ),
    "it is tried again later": (
        with_copy("midway", "error", caxflow={"error": "no space", "attempts": 2, "next": LATER}),
        standing.FAILED,
        False,
    ),
    "it failed too often": (
        with_copy("midway", "error", caxflow={"error": "no space", "attempts": 5}),
        standing.FAILED,
        False,
    ),
    "what was pushed from here failed": (
        with_copy("tegner", "error", ("midway",), caxflow={"error": "x", "attempts": 5, "owner": "midway"}),
        standing.FAILED,
        False,
    ),
    "the site cannot be reached": (failed_here(), standing.FAILED, False),
    "the journal knows that it failed too often": (failed_here(times=5), standing.FAILED, False),
    "making it anew fails": (renewal_fails, standing.FAILED, False),
    "Y6 missing from its root": (missing(lambda place: place.rmdir()), standing.FAILED, False),
    "a link in its place": (missing(link), standing.FAILED, False),
    "the root is not mounted": (
        missing(lambda place: shutil.rmtree(place.parent)),
        standing.FAILED,
        False,
    ),
    "the only copy is suspect": (
        lambda world: world.add(world.copy("midway", "error", **suspect()), born=False),
        standing.FAILED,
        False,
    ),
    "a suspect copy elsewhere": (
        with_copy("tegner", "error", ("midway",), caxflow=suspect()["caxflow"] | {"owner": "tegner"}),
        standing.TODO,
        True,
    ),
    "a removal that was begun here": (
        with_copy(status="transferring", **claim("midway", BEFORE, removing={"trash": "/x"})),
        standing.TODO,
        True,
    ),
    "a removal that another site began": (
        with_copy(status="transferring", **claim("tegner", BEFORE, removing={"trash": "/x"})),
        standing.WAITS,
        False,
    ),
    "a move that was begun": (
        with_copy(status="transferring", **claim("midway", BEFORE, moving={"from": "/x", "to": "/y"})),
        standing.WAITS,
        False,
    ),
    "a move at work": (
        with_copy(status="transferring", **claim("midway", moving={"from": "/x", "to": "/y"})),
        standing.BUSY,
        True,
    ),
    "left behind by a move": (
        with_copy(caxflow={"verified": BEFORE, "left": {"path": "/old/place", "root": "/old"}}),
        standing.WAITS,
        False,
    ),
    "not like the others": (with_copy(manifest="xxh128:" + "1" * 32), standing.WAITS, False),
    "nothing says how to process it": (no_gains, standing.WAITS, False),
    "waits for slow control": (slow_control, standing.WAITS, False),
    "U1 left out by a tag that is in no list": (
        lambda world: world.add(tags={"name": "bad"}),
        standing.EXCLUDED,
        False,
    ),
    "tags that are words, and it is processed": (
        odd_to_process(tags=["good", {"name": "better"}]),
        standing.WAITS,
        False,
    ),
    "corrections that are a number, and it is processed": (
        odd_to_process(processor=7),
        standing.WAITS,
        False,
    ),
    "versions of corrections that are a word": (
        odd_to_process(processor={"correction_versions": "all", "DEFAULT": 7}),
        standing.WAITS,
        False,
    ),
    "held by a claim of a wrong clock": (
        with_copy("midway", "transferring", (), **claim("midway", FAR)),
        standing.TODO,
        True,
    ),
    "held elsewhere by a claim of a wrong clock": (
        with_copy("tegner", "transferring", ("midway",), **claim("tegner", since=FAR)),
        standing.TODO,
        True,
    ),
    "it is tried again in ten years": (
        with_copy("midway", "error", caxflow={"error": "no space", "attempts": 2, "next": FAR}),
        standing.FAILED,
        False,
    ),
    "it failed in ten years": (failed_at(FAR), standing.FAILED, False),
    "a receipt that is to be told is damaged": (damaged(told=False), standing.FAILED, False),
    "a receipt that is to be told states nothing": (
        damaged(told=False, text='{"entry": {"kind": "raw"}}'),
        standing.FAILED,
        False,
    ),
    "a receipt that the next step builds upon is damaged": (damaged(), standing.FAILED, False),
    "its mark is a number": (
        lambda world: world.add(caxflow={"settled": {"midway": 7}}),
        standing.TODO,
        True,
    ),
    "its marks are a list": (lambda world: world.add(caxflow=[]), standing.TODO, True),
}


@pytest.mark.parametrize("case", CASES)
def test_everybody_says_the_same(world, capsys, case):
    act, expected, well = CASES[case]
    act(world)
    code, why = world.ask(capsys, "why")
    assert (why["verdict"], code) == (expected, 0 if well else 1), why
    code, status = world.ask(capsys, "status")
    assert status["standing"]["state"] == expected
    assert code == 1 or expected not in (standing.FAILED, standing.PROBLEM)
    row, run = world.page(capsys)
    assert row[7] == rows.STATES[expected]
    assert run["said"] == standing.WORDS[expected].format(here=world.here)
    same = ("todo", "waits", "troubles")
    assert [why[key] for key in same[:2]] == [status["standing"][key] for key in same[:2]]
    assert run["todo"] == why["todo"]
    assert run["why"] == world.public([*why["waits"], *why["claims"]])
    reasons = [each["reason"] for each in why["troubles"]]
    assert [each["reason"] for each in run["troubles"]] == world.public(reasons)
    made, lines, counts, alarms = world.plan()
    # What `-n all` would do is what everybody says that `all` does.
    if expected in (standing.EXCLUDED, standing.PROBLEM, standing.TAKING, standing.SETTLED):
        assert made.targets == why["todo"] == []
    else:
        assert set(why["todo"]) <= set(made.targets)
        assert bool(made.targets) == bool(why["todo"])
    assert counts["actionable"] == bool(made.targets)
    if not made.targets:
        assert lines[0] == f"nothing to do at {world.here}"
    silent = expected in (standing.EXCLUDED, standing.SETTLED)
    said = [line for line in lines if str(RUN) in line]
    assert not said or not silent
    assert counts["waiting"] == len(made.waiting)
    assert not why["waits"] or expected in (standing.EXCLUDED, standing.PROBLEM) or made.waiting
    if expected == standing.PROBLEM:
        assert made.problems == why["waits"]
    assert counts["problems"] == len(made.problems)
    planned = {alarm.what for alarm in alarms if alarm.group == "to be mended"}
    assert planned == set(made.problems)


@pytest.mark.parametrize(
    ("case", "state"),
    [
        ("Y6 missing from its root", "missing"),
        ("a link in its place", "missing"),
        ("the root is not mounted", "missing"),
        ("a removal that was begun here", "removing"),
        ("a move that was begun", "moving"),
        ("settled", "proven"),
    ],
)
def test_y6_a_copy_is_called_what_it_is(world, capsys, case, state):
    """What is done: `rm -r` of a proven dataset; `caxflow status` said "proven", exit code 0."""
    CASES[case][0](world)
    _, status = world.ask(capsys, "status")
    (copy,) = [copy for copy in status["copies"] if copy["site"] == "midway"]
    assert copy["state"] == state
    code = cli.main(["status", "--profile", world.profile(), "--json"])
    (row,) = [row for row in json.loads(capsys.readouterr().out)["rows"] if row["site"] == "midway"]
    assert row["state"] == state
    assert code == (1 if state == "missing" else 0)
    _, run = world.page(capsys)
    (shown,) = [copy for copy in run["copies"] if copy.get("site") == "midway"]
    assert shown["word"] == state


def test_minitrees_are_missed_one_by_one(world, capsys):
    folder = world.folder / "midway/minitrees"
    site = world.folder / "config/sites/midway.yaml"
    world.options["kinds"] = ["minitrees"]
    place = folder / f"pax_v0.0.1/{RUN}"
    place.mkdir(parents=True)
    (place / f"{RUN}_Basics.root").touch()
    note = {"treemakers": ["Basics", "Fundamentals"]}
    made = world.copy("midway", caxflow=note) | {"type": "minitrees", "pax_version": "v0.0.1"}
    made["location"] = str(place)
    world.add(made)
    settings = world.settings
    settings.here.roots["minitrees"] = str(folder)
    mark("midway", {"minitrees": str(folder)})
    stands = standing.Standings(settings, NOW, world.work).of(world.database.runs_new.find_one())
    assert site.exists()
    (trouble,) = stands.troubles
    assert f"{RUN}_Fundamentals.root" in trouble.reason


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        ({}, "not read again yet: `all` at midway does that"),
        ({"tags": [{"name": "bad"}]}, "not read again yet, and no `all` at midway does that: caxflow why"),
    ],
)
def test_u5_nothing_is_about_to_be_read_that_is_not(world, capsys, change, remark):
    """What is typed: snakemake midway/R.raw.done of a run that is left out; "about to be read again"."""
    entry = world.copy("midway", "verifying", caxflow={"owner": "midway"})
    world.add(entry, world.copy("tegner"), **change)
    _, status = world.ask(capsys, "status")
    (copy,) = [copy for copy in status["copies"] if copy["site"] == "midway"]
    assert copy["remark"].startswith(remark)
    assert cli.main(["status", "--profile", world.profile(), str(RUN)]) == 0
    assert "about to be read" not in capsys.readouterr().out


def test_rundb_init_has_all_look_at_a_run_that_waited_too(world, capsys):
    """No site had it; another program adds a copy. `why` named `rundb init`, which passed it by."""
    world.add(born=False)
    look(world)
    world.database.runs_new.update_one({}, {"$push": {"data": raw(world.folder, "lngs", **PROVEN)}})
    _, why = world.ask(capsys, "why")
    assert (why["verdict"], why["todo"]) == (standing.WAITS, [])
    assert any("`caxflow rundb init` has it look at once" in text for text in why["waits"])
    assert world.plan()[0].targets == []
    assert cli.main(["rundb", "check", "--profile", world.profile()]) == 1
    assert f"{RUN} is marked as settled or waiting at midway, and wants" in capsys.readouterr().out
    assert cli.main(["rundb", "init", "--profile", world.profile()]) == 0
    capsys.readouterr()
    assert world.ask(capsys, "why")[1]["todo"] == world.plan()[0].targets != []


def test_a_problem_is_named_by_its_run_and_not_by_a_path_with_its_name(world):
    missing(lambda place: place.rmdir())(world)
    made, lines, _, _ = world.plan()
    (problem,) = made.problems
    assert problem.startswith(f"{RUN}: its raw copy at midway is missing: there is no ")
    assert problem in lines


@pytest.mark.parametrize("spoil", [lambda place: place.rmdir(), link])
def test_what_goes_after_all_has_settled_the_run_is_said_to_be_found_by_a_scrub(world, capsys, spoil):
    """`all` does not look at each settled run at each call; who looks says when it does, and what to do."""
    from caxflow.planning import readings

    settled(world)
    look(world)
    spoil(world.place())
    code, why = world.ask(capsys, "why")
    assert (why["verdict"], code) == (standing.FAILED, 1)
    (said,) = why["waits"]
    assert said.endswith("a scrub finds what is missing at once")
    (until,) = re.findall(r"from (\S+ \S+) UTC on", said)
    _, status = world.ask(capsys, "status")
    row, run = world.page(capsys)
    assert (status["standing"]["waits"], run["why"], row[7]) == ([said], [said], rows.FAILED)
    made, lines, counts, alarms = world.plan()
    assert (made.targets, lines, counts["problems"], alarms) == ([], ["nothing to do at midway"], 0, [])
    # As it was said: a scrub reads it first, and from that time on `all` tells it.
    found = readings.readings([world.database.runs_new.find_one()], world.settings)
    assert readings.select_readings(found, world.settings, NOW)[2] == 1
    later = datetime.datetime.fromisoformat(until) + datetime.timedelta(minutes=1)
    document = world.database.runs_new.find_one()
    policy = Standings(world.settings, NOW).policy
    assert marks.spared(document, "midway", policy, later - datetime.timedelta(hours=1))
    assert marks.spared(document, "midway", policy, later) is None
    (trouble,) = Standings(world.settings, later, world.work).of(document).troubles
    assert trouble.reason in Standings(world.settings, later, world.work).decide(document).wrong


def test_failures_of_a_run_that_is_left_out_alarm_nobody(world, capsys):
    """It failed too often, then it is tagged bad: messages and metrics had it on and on."""
    failed_here(times=5)(world)
    here = {"site": "lngs", "stage": "raw.done", "final": "true"}

    def told():
        _, _, counts, alarms = world.plan()
        code = cli.main(["status", "--profile", world.profile()])
        return "failures" in counts, len(alarms), code, "failed here" in capsys.readouterr().out

    assert told() == (True, 1, 1, True)
    collected = metrics.collect(world.settings, world.work, 0, True, 0.0)
    assert [each.values for each in collected if each.name == "failures"] == [[(here, 1)]]
    world.options["runs"] = ["160101_0000"]  # a call for another run leaves nothing out
    assert told()[:2] == (True, 2)  # that run is not in the database
    del world.options["runs"]
    world.database.runs_new.update_one({}, {"$set": {"tags": [{"name": "bad"}]}})
    assert told() == (False, 0, 0, False)
    assert world.ask(capsys, "why")[1]["verdict"] == standing.EXCLUDED
    world.database.runs_new.update_one({}, {"$unset": {"tags": ""}})
    assert told() == (True, 1, 1, True)


STATED = {
    "raw.done": "raw",
    "checksum": "raw",
    "processed.done": "processed",
    "processed.root": "processed",
    "processed.checksum": "processed",
    "pax_v0.0.1.done": "processed",
    "minitrees.done": "minitrees",
    "raw.purged": "",
    "settings.json": "",
}


@pytest.mark.parametrize("kind", ["raw", "processed", "minitrees"])
@pytest.mark.parametrize("stage", STATED)
def test_what_is_typed_and_stated_must_lie_in_its_place(world, monkeypatch, stage, kind):
    """Data vanish behind their receipts, and their target is typed: "Nothing to be done" was said."""
    file = world.folder / "config/sites/midway.yaml"
    folder = world.folder / "midway/minitrees"
    (folder / "pax_v0.0.1").mkdir(parents=True)
    trees = {"type": "minitrees", "pax_version": "v0.0.1", "location": str(folder / "pax_v0.0.1")}
    trees |= {"host": HOSTS["midway"], "status": "transferred", "caxflow": {"treemakers": ["Basics"]}}
    world.add(world.copy("midway"), world.copy("midway", kind="processed"), trees)
    tree = folder / "pax_v0.0.1" / f"{RUN}_Basics.root"
    tree.touch()
    site = yaml.safe_load(file.read_text())
    site["roots"]["minitrees"] = str(folder)
    mark("midway", site["roots"])
    settings = world.settings
    settings.here.roots["minitrees"] = str(folder)
    target = Target("midway", RUN, stage)
    receipts.write(world.work / str(target), "{}")
    monkeypatch.chdir(world.work)

    def ask(*named):
        asked = planner.Planner(settings, True, lambda: True, lambda: named)
        with asked.database:
            return asked.facts(str(RUN))

    assert ask("all", str(target)).run == str(RUN)
    file = {"raw": world.place(), "minitrees": tree}.get(
        kind, world.folder / f"midway/processed/pax_v0.0.1/{RUN}.root"
    )
    file.rmdir() if kind == "raw" else file.unlink()
    if STATED[stage] == kind:
        with pytest.raises(CaxflowError, match=f"{RUN}: its {kind} copy at midway is missing: there is no"):
            ask(str(target))
    else:
        assert ask(str(target)).run == str(RUN)
    # Without the receipt it is made, or the job says what is missing.
    (world.work / str(target)).unlink()
    assert ask(str(target)).run == str(RUN)
    assert ask("all").run == str(RUN)


def test_what_has_no_place_in_the_next_batch_is_not_promised_it(world, capsys):
    """`batch_size: 1`, and two runs to copy: "the next `all` at midway works on it" was said of both."""
    world.options["batch_size"] = 1
    newer = Run("160316_0900")
    world.add()
    world.add(name=newer.name)
    place = raw(world.folder, "lngs", run=newer)["location"]
    this = {"name": newer.name}
    world.database.runs_new.update_one(this, {"$set": {"data.0.location": place}})
    made, lines, *_ = world.plan()
    assert ({str(parse(target).run) for target in made.targets}, made.more) == ({str(newer)}, 1)
    assert "1 older run left for the next calls (batch_size 1)" in lines
    code, why = world.ask(capsys, "why")
    assert (why["verdict"], code) == (standing.TODO, 0)
    assert cli.main(["why", "--profile", world.profile(), str(RUN)]) == 0
    assert cli.main(["status", "--profile", world.profile(), str(RUN)]) == 0
    said = capsys.readouterr().out
    assert said.count("in its turn, the newest runs first") == 2
    assert "the next" not in said
    world.database.runs_new.delete_one(this)
    assert world.plan()[0].targets == why["todo"]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"ROOTClass": {"extra_fields": {"Event": [["n", "Int_t", "import os"]]}}},
            "processor.ROOTClass.extra_fields is nothing that a run document may set",
        ),
        (
            {"WaveformSimulator": {"s2_light_yield_map": "/tmp/evil.json"}},
            "processor.WaveformSimulator.s2_light_yield_map is '/tmp/evil.json', "
            "not the name of a file without a folder",
        ),
    ],
)
def test_what_a_document_may_not_set_keeps_its_run_alone_from_being_processed(world, capsys, section, said):
    world.options = {"kinds": ["raw", "processed"]}
    other = Run("160315_1433")
    for run in (RUN, other):
        here = [raw(world.folder, each, run=run) | PROVEN for each in ("midway", "tegner")]
        made = document(world.folder, *here, run=run)
        made["data"][0] |= PROVEN
        made["processor"] |= section if run == RUN else {}
        world.database.runs_new.insert_one(made)
    made, *_ = world.plan()
    assert f"midway/{other}.processed.root" in made.targets
    assert not any(str(RUN) in target for target in made.targets)
    _, why = world.ask(capsys, "why")
    assert (why["verdict"], why["todo"]) == (standing.WAITS, [])
    assert f"not processed: {said}" in why["waits"]
    assert cli.main(["status", "--profile", world.profile(), str(RUN)]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in made.waiting[str(RUN)]


def test_a_change_that_all_does_not_look_at_yet_is_not_promised(world, capsys):
    """`all` has settled the run, then another program takes a copy away: it looks again later."""
    settled(world)
    with RunsDB(world.settings.rundb) as database:
        planner.look(database, world.settings)
    world.database.runs_new.update_one({}, {"$pull": {"data": {"host": HOSTS["midway"]}}})
    code, why = world.ask(capsys, "why")
    assert (why["verdict"], why["todo"], code) == (standing.WAITS, [], 1)
    assert "has it look at once" in why["waits"][0]
    row, _ = world.page(capsys)
    assert row[7] == rows.WAITS
    made, lines, *_ = world.plan()
    assert (made.targets, lines[0]) == ([], "nothing to do at midway")
    assert cli.main(["rundb", "init", "--profile", world.profile()]) == 0
    capsys.readouterr()
    assert world.ask(capsys, "why")[1]["verdict"] == standing.TODO


SECOND = {
    "to be copied, too": (lambda world: (world.add(), world.add()), {}),
    "settled": (lambda world: (world.add(), settled(world)), {}),
    "settled, and looked at before": (lambda world: (settled(world), look(world), world.add()), {}),
    "left out": (lambda world: (world.add(), world.add(tags=[{"name": "bad"}])), {}),
    "left out, both": (lambda world: [world.add(tags=[{"name": "bad"}]) for _ in range(2)], {}),
    "of another number": (lambda world: (world.add(), world.add(number=9)), {"numbers": {"last": 1500}}),
}


def look(world):
    with RunsDB(world.settings.rundb) as database:
        planner.look(database, world.settings)


@pytest.mark.parametrize("case", SECOND)
def test_two_documents_of_a_run_are_told_by_all_and_neither_is_gone_by(world, capsys, case):
    act, select = SECOND[case]
    world.options["select"] = select | {"without_tags": ["bad"]}
    act(world)
    _, first = world.ask(capsys, "why")
    said = f"{RUN}: the runs database has two documents of it -> remove the wrong one"
    assert (first["verdict"], first["waits"], first["todo"]) == (standing.PROBLEM, [said], [])
    code, told = world.ask(capsys, "status")
    assert (code, told["standing"]["state"], told["standing"]["waits"]) == (1, standing.PROBLEM, [said])
    assert cli.main(["page", "--profile", world.profile(), str(world.folder / "page")]) == 0
    capsys.readouterr()
    month = (world.folder / f"page/data/runs/{RUN.name[:4]}.js").read_text()
    found = json.loads(re.search(r", (\{.*\})\);", month)[1])["rows"]
    assert [row[7] for row in found] == [rows.ODD, rows.ODD]
    made, lines, counts, alarms = world.plan()
    assert (made.targets, made.problems, counts["problems"]) == ([], [said], 1)
    assert said in lines
    assert said in [alarm.what for alarm in alarms]
    assert cli.main(["rundb", "check", "--profile", world.profile()]) == 1
    assert said in capsys.readouterr().out.splitlines()
    assert cli.main(["rundb", "init", "--profile", world.profile()]) == 1
    assert said in capsys.readouterr().err
    # One of them is removed: the other one counts.
    world.database.runs_new.delete_one({})
    assert world.ask(capsys, "why")[1]["verdict"] != standing.PROBLEM


def test_where_the_index_forbids_two_documents_none_are_looked_for(world, capsys):
    world.add()
    assert cli.main(["rundb", "init", "--profile", world.profile()]) == 0
    capsys.readouterr()
    with RunsDB(world.settings.rundb) as database:
        assert database.twice() == set()
        assert database.get(RUN)["name"] == RUN.name


TIMES = [
    ("transferring", claim("midway", FAR)["caxflow"]),
    ("transferring", claim("midway", since=FAR)["caxflow"]),
    ("transferred", {"owner": "lngs", "verified": FAR}),
    ("error", {"error": "no space", "attempts": 2, "next": FAR}),
]


@pytest.mark.parametrize(("status", "note"), TIMES)
def test_a_time_in_the_future_is_said_by_none(world, capsys, status, note):
    """A claim until 2036 was said to hold that planning takes over, a reading of 2036 proved a copy."""
    world.add(world.copy("midway", status, caxflow=note), world.copy("tegner"))
    code, why = world.ask(capsys, "why")
    _, told = world.ask(capsys, "status")
    (copy,) = [copy for copy in told["copies"] if copy["site"] == "midway"]
    assert copy["state"] == ("copied" if status == "transferred" else status)
    _, run = world.page(capsys)
    known = {key: told[key] for key in ("copies", "standing")}
    assert str(FAR.year) not in json.dumps([why, known, run])
    assert cli.main(["why", "--profile", world.profile(), str(RUN)]) == code
    assert cli.main(["status", "--profile", world.profile(), str(RUN)]) in (0, 1)
    said = capsys.readouterr().out
    assert str(FAR.year) not in said
    assert "waits for a human" not in said


def test_a_call_for_one_target_keeps_what_all_found_for_metrics_and_messages(world):
    CASES["the only copy is suspect"][0](world)
    made, _, before, alarms = world.plan()
    assert before["problems"] == len(made.problems) == 1
    planner.Plan(world.here).write(world.work)  # as `purge`, `scrub` and targets by name do
    after = {
        each.name.removeprefix("runs_"): each.values[0][1]
        for each in metrics.collect(world.settings, world.work, 0, True, 0.0)
        if each.values
    }
    assert after["problems"] == before["problems"]
    assert list(notify.alarms(world.settings, world.work, [])) == alarms


def test_y6_a_scrub_looks_at_what_is_missing_at_once(world):
    """`why` says that a scrub finds it: also where the copy was read an hour ago."""
    from caxflow.planning import readings

    settled(world)
    world.place().rmdir()
    settings = world.settings
    found = readings.readings([world.database.runs_new.find_one()], settings)
    todo, _, count = readings.select_readings(found, settings, NOW)
    assert (count, [each.run for each in todo]) == (1, [str(RUN)])
    assert "not in its place" in str(todo[0])


def test_a_failure_that_another_site_made_good_is_no_failure_for_anybody(world, capsys):
    settled(world)
    fail(world.work, "midway", "raw.done", "disk full")
    journal.settle(world.work, Target("midway", RUN, "raw.done"))
    code, why = world.ask(capsys, "why")
    assert (why["verdict"], why["troubles"], code) == (standing.SETTLED, [], 0)
    assert cli.main(["status", "--profile", world.profile()]) == 0
    assert "failed here" not in capsys.readouterr().out
    assert world.page(capsys)[0][7] == rows.DONE


def test_u4_history_is_in_the_order_of_doing(world, capsys):
    """What is done: a copy is made while the database is away, removed elsewhere meanwhile, then told."""
    audit = world.database["caxflow_audit"]
    common = {"run": str(RUN), "kind": "raw", "grounds": "", "host": HOSTS["midway"]}
    hours = [NOW + datetime.timedelta(hours=hour) for hour in range(6)]
    audit.insert_many(
        [
            {"_id": "1", "action": "removing", "at": hours[2]} | common,
            {"_id": "2", "action": "verified", "at": hours[5], "done": hours[1]} | common,
            {"_id": "3", "action": "copied", "at": hours[4], "done": hours[0]} | common,
            {"_id": "4", "action": "removed", "at": hours[3]} | common,
        ]
    )
    settled(world)
    _, why = world.ask(capsys, "why")
    assert [deed["action"] for deed in why["history"]] == ["copied", "verified", "removing", "removed"]


def test_names_of_runs_of_both_detectors_are_kept_apart(world, capsys):
    """Jobs at work are those of the run that was asked for."""
    from caxflow.workdir.underway import Teller

    settled(world)
    Teller(world.work, Target("midway", Run("160315_1432", "muon_veto"), "raw.done")).tell(
        "moving", 1, 2, 1.0
    )
    assert world.ask(capsys, "why")[1]["verdict"] == standing.SETTLED
    Teller(world.work, Target("midway", RUN, "pax_v6.8.0.done")).tell("processing", 1, 2, 1.0)
    _, why = world.ask(capsys, "why")
    assert (why["verdict"], list(why["underway"])) == (standing.BUSY, [f"midway/pax_v6.8.0/{RUN}.done"])


# Documents as nobody should write them.

WORDS = st.sampled_from([*HOSTS, *HOSTS.values(), "raw", "processed", "transferred", "verifying", "error"])
ODD = st.sampled_from([None, True, 0, 7, -1, 2.0, 0.5, float("nan"), "", "x", b"x", NOW, FAR, [], {}]) | WORDS
MAPPINGS = st.dictionaries(st.sampled_from(["name", "type", "midway", "owner"]), ODD, max_size=2)
VALUES = ODD | MAPPINGS | st.lists(ODD | MAPPINGS, max_size=2)
SELECTIONS = st.sampled_from(
    [
        {},
        {"numbers": {"first": 1}},
        {"numbers": {"last": 1500}},
        {"sources": ["none", "x"]},
        {"tags": ["good", "x"]},
        {"without_tags": ["x", "better"]},
        {"start": {"after": "2016-03-01"}},
        {"start": {"before": "2016-04-01"}},
        {"detectors": ["tpc"]},
    ]
)


def whole(world, run, kind):
    """A document with most keys that are looked at, of one of several kinds."""
    note = {"owner": "midway", "lease": LATER, "since": BEFORE, "attempts": 2, "next": LATER, "by": BY}
    here = {
        "settled": [world.copy("midway"), world.copy("tegner")],
        "failed": [world.copy("midway", "error", caxflow=note), world.copy("tegner")],
        "held": [world.copy("midway"), world.copy("tegner", "transferring", caxflow=note)],
        "processed": [world.copy("midway"), world.copy("midway", kind="processed")],
    }[kind]
    gone = [{"type": "raw", "host": HOSTS["tegner"], "at": BEFORE, "why": "removed", "token": "t"}]
    made = document(
        world.folder,
        *here,
        tags=[{"name": "good", "user": "y"}, {"name": "better"}],
        caxflow={"revision": 3, "settled": {"midway": "p settled 2016"}, "gone": gone},
    )
    made["processor"]["correction_versions"] = {"AddGains": "5.0"}
    text = json.dumps(made, default=lambda time: {"$at": time.isoformat()}).replace(str(RUN), str(run))
    read = lambda pairs: datetime.datetime.fromisoformat(pairs["$at"]) if "$at" in pairs else pairs  # noqa: E731
    return json.loads(text, object_hook=read) | {"name": run.name}


def spoil(value, path, junk):
    """Put something else into a place of a nested value, if that is there still."""
    *above, last = path
    for key in above:
        value = value[key] if isinstance(value, dict | list) and _has(value, key) else None
    if isinstance(value, dict | list) and _has(value, last):
        value[last] = junk


def _has(value, key):
    return isinstance(key, str) == isinstance(value, dict) and (
        key in value if isinstance(value, dict) else key < len(value)
    )


def paths(value, path=()):
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))


@effort(max_examples=20, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_document_says_all_say_the_same_of_it(world, data):
    world.options = {"kinds": data.draw(st.sampled_from([["raw"], ["raw", "processed"]]))}
    world.options["select"] = data.draw(SELECTIONS)
    world.database.runs_new.delete_many({})
    names = [Run(f"160315_15{minute:02}") for minute in range(12)]
    for run in names:
        for site in HOSTS:
            (world.folder / site / "raw" / str(run)).mkdir(exist_ok=True, parents=True)
        file = world.folder / f"midway/processed/pax_v0.0.1/{run}.root"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.touch()
    for run in names:
        made = whole(world, run, data.draw(st.sampled_from(["settled", "failed", "held", "processed"])))
        for _ in range(data.draw(st.integers(1, 2))):
            key = data.draw(st.sampled_from(sorted(made.keys() - {"name", "detector"})))
            path = data.draw(st.sampled_from(list(paths({key: made[key]}))))
            spoil(made, path, data.draw(VALUES))
        world.database.runs_new.insert_one(made)
    settings = world.settings
    with RunsDB(settings.rundb, dry=True) as database:
        now = database.now()
        ask = Standings(settings, now, world.work)
        asked = {str(run): ask.of(database.find(run, PLANNING)) for run in names}
        ask = Standings(settings, now, world.work)
        shown = {str(documents.run_of(each)): ask.of(each) for each in database.everything(page.PROJECTION)}
    assert {run: (each, shown[run]) for run, each in asked.items() if each != shown[run]} == {}
    made, *_ = world.plan()
    acted = {str(parse(target).run) for target in made.targets}
    troubled = "\n".join(made.problems)
    for run, stands in asked.items():
        targets = [target for target in made.targets if str(parse(target).run) == run]
        assert stands.todo == targets, stands
        if stands.state == standing.EXCLUDED:
            assert run not in acted | made.waiting.keys()
            assert run not in troubled
        elif stands.state == standing.PROBLEM:
            assert stands.waits[0] in made.problems
        elif stands.waits:
            assert run in made.waiting, stands
        if stands.state == standing.SETTLED and stands.well:
            assert run not in acted | made.waiting.keys()
            assert run not in troubled
        if stands.missing and stands.state not in (standing.EXCLUDED, standing.PROBLEM):
            assert run in troubled
