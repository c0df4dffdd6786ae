"""kill -9 before every single step that lasts: nothing is lost, nothing lies, and the next call completes it.

A call is run once to learn its steps (`mortal`), then again and again from the same state, and killed at
each; `invariants` looks at what is left, and at what the next call makes of it. `make soak` takes every step
of every scene; `make test` passes over those that only prepare the next one, as making a folder does.
"""

import datetime
import itertools
import re

import pytest
import yaml

import invariants
import mortal
import wires
from copies import SITES
from scenes import RUN, Scene

FUTURE = datetime.datetime(2099, 1, 1)
PURGE = {"after_days": 1, "copies": 2, "processed": False}
# What prepares a step, or tells those who watch.
MINOR = re.compile(
    r"os\.(chmod|utime|truncate|mkdir)|createIndexes|/underway/|open (\S+\.\w{8}|[^/]+)$|\.raw\.purged -1$"
)


@pytest.fixture
def scene(tmp_path, database, database_uri):
    scene = Scene(tmp_path, database_uri, database)
    yield scene
    scene.close()


def copying(scene):
    """Nothing is copied yet."""


def pulling(scene):
    """Nothing is copied yet, and midway keeps its copy to itself."""
    scene.configure(push_to=())


def purging(scene):
    """There are three good copies, and midway's may go."""
    scene.do("all")
    scene.configure(purge=PURGE)


def syncing(scene):
    """The database went away after the claims: it knows no more than these, and all else is to be told."""
    runs = scene.database["runs_new"]
    born = runs.find_one()
    scene.do("all")
    for name in ("caxflow_manifests", "caxflow_audit"):
        scene.database[name].delete_many({})
    claimed = [each for each in runs.find_one()["data"] if each["host"] != SITES["lngs"]]
    for entry in claimed:
        del entry["manifest"], entry["size"]
        entry |= {"status": "transferring", "checksum": None}
        entry["caxflow"] = {"owner": "midway", "token": "0", "by": {"host": "elsewhere"}, "lease": FUTURE}
    runs.replace_one({"_id": born["_id"]}, born | {"data": born["data"] + claimed})
    work = scene.copies.work("midway")
    receipts = [*work.glob("*/*.raw.done"), *work.glob("*/*.checksum")]
    assert len(receipts) == 5
    for path in receipts:
        (work / ".caxflow/pending" / f"{path.parent.name}.{path.name}").touch()


def rotting(scene):
    """There are three good copies, then a bit flips in midway's."""
    scene.do("all")
    scene.configure(scrub={"every_days": 0})
    file = max(scene.copies.path("midway").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def mending(scene):
    """A scrub found it, and has set the bad copy aside."""
    rotting(scene)
    assert "has the right size but other contents" in scene.call("scrub")["said"]


def moving(scene):
    """There are three good copies, and midway's is to be in another place."""
    scene.do("all")


MOVE = ("caxflow", "mv", RUN, "--to", "{midway}/160315_1432.moved")
# What is prepared, what is done and killed, what is done after that, and how many good copies there are at
# least before and after that.
SCENES = {
    "register, pull and verify": (pulling, ["all"], ["all"], 1, 2),
    "purge": (purging, ["purge"], ["purge"], 2, 2),
    "sync": (syncing, ["all"], ["all"], 1, 3),
    "scrub": (rotting, ["scrub"], ["scrub", "all"], 2, 3),
    "copy anew what was bad": (mending, ["all"], ["all"], 2, 3),
    "move": (moving, [MOVE], [MOVE], 2, 3),
    "push": (copying, ["all"], ["all"], 1, 3),
}
ROTTEN = ["scrub"]
OFTEN = list(SCENES)[:4]


def prepared(scene, name):
    """What is done in a scene that is ready for it, what completes that, and numbers of good copies."""
    prepare, action, completion, before, after = SCENES[name]
    places = {"midway": scene.copies.path("midway").parent}
    (action,), completion = (
        [(each,) if isinstance(each, str) else tuple(w.format(**places) for w in each) for each in calls]
        for calls in (action, completion)
    )
    prepare(scene)
    scene.save()
    return action, completion, before, after


def killed_at_each_step(scene, name, minor):
    action, completion, before, after = prepared(scene, name)
    steps = scene.call(*action)["steps"]
    assert len(steps) > 5
    chosen = [number for number, step in enumerate(steps, 1) if minor or not MINOR.search(step)]
    died = 0
    for number in chosen:
        scene.restore()
        died += scene.call(*action, die_at=number)["status"] == -9
        completed(
            scene, f"killed before {number}, {steps[number - 1]}", name in ROTTEN, completion, before, after
        )
    # The order of what several threads do is not always the same.
    assert died >= len(chosen) - 5


def completed(scene, what, rot, completion, before, after):
    """See that all holds now, and after the next calls."""
    try:
        scene.check(before, rot=rot)
        ended = [scene.call(*each) for each in completion]
        assert ended[-1]["status"] == 0, ended[-1]["out"] + ended[-1]["said"]
        scene.check(after, done=True)
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None


@pytest.mark.parametrize("name", OFTEN)
def test_killed_at_each_step_that_counts(scene, name):
    killed_at_each_step(scene, name, minor=False)


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENES)
def test_killed_at_each_step(scene, name):
    killed_at_each_step(scene, name, minor=True)


def weather(scene, name, number, fate):
    """A call during which the database fails at the command of that number; what became of it."""
    scene.wire.reset()
    scene.wire.fate = lambda at, _: fate(at, number)
    done = scene.call(*name)
    scene.wire.reset()
    return done


# What becomes of a command: it is lost, its answer is lost, or all are lost from then on.
FATES = {
    "command": lambda at, number: "command" if at == number else None,
    "answer": lambda at, number: "reply" if at == number else None,
    "everything": lambda at, number: "command" if at >= number else None,
}


def broken_at_each_command(scene, name, fate, every):
    action, completion, before, after = prepared(scene, name)
    scene.wire.reset()
    scene.do(*action)
    commands = list(scene.wire.commands)
    assert len(commands) >= 7  # of a move, which asks least
    for number in range(1, len(commands) + 1, every):
        scene.restore()
        done = weather(scene, action, number, FATES[fate])
        try:
            if fate != "everything" and commands[number - 1] != "createIndexes":
                # The driver asks again, and the server does nothing twice: nobody notices.
                assert done["status"] == 0, done["said"]
            elif done["status"]:
                lines = done["said"].splitlines()
                assert all(re.match(r"caxflow: .* -> ", line) for line in lines), lines
                assert any("runs database" in line for line in lines), lines
            scene.check(before)
            for each in completion:
                scene.do(*each)
            scene.check(after, done=True)
        except AssertionError as error:
            raise AssertionError(f"{fate} lost at {number}, {commands[number - 1]}: {error}") from None


@pytest.fixture
def behind_wire(scene, database_uri):
    with wires.Wire(database_uri) as wire:
        scene.wire = wire
        scene.rundb = {"uri": wire.uri, "database": scene.database.name, "timeout": 2}
        scene.configure()
        yield scene


@pytest.mark.parametrize("name", ["register, pull and verify", "purge"])
@pytest.mark.parametrize("fate", FATES)
def test_the_database_fails_at_some_commands(behind_wire, name, fate):
    broken_at_each_command(behind_wire, name, fate, every=7 if fate == "everything" else 17)


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in SCENES if name not in ROTTEN])
@pytest.mark.parametrize("fate", FATES)
def test_the_database_fails_at_each_command(behind_wire, name, fate):
    broken_at_each_command(behind_wire, name, fate, every=1)


def test_a_slow_database_makes_things_slow_and_no_worse(behind_wire):
    behind_wire.wire.delay = 0.1
    behind_wire.do("all")
    behind_wire.check(3, done=True)


class FarScene(Scene):
    """The same with lngs and tegner behind SSH."""

    def __init__(self, experiment, runs, database):
        self.folder, self.database, self.experiment = experiment.folder, database, experiment
        self.work = [experiment.work(site=site) for site in SITES]
        for folder in self.work:
            folder.mkdir(parents=True)
        self.raw = [experiment.raw(site).parent for site in SITES]
        experiment.add_run(runs, RUN, events=4, events_per_file=2)
        self.truth = {RUN: invariants.sums(experiment.raw("lngs"))}
        self.overrides = {"site": "midway", "sites_dir": str(experiment.folder / "sites"), "kinds": ["raw"]}
        rundb = {"uri": experiment.uri, "database": experiment.name, "timeout": 5}
        self.overrides |= {"rundb": rundb, "pause": 0, "attempts": 1000}
        self.zygote = mortal.Zygote(experiment.folder.parent, "onecall")

    def close(self) -> None:
        self.zygote.close()


@pytest.fixture
def far(experiment, runs, database):
    scene = FarScene(experiment, runs, database)
    yield scene
    scene.close()


@pytest.mark.soak
def test_killed_at_each_step_over_ssh(far):
    far.save()
    steps = far.call("all")["steps"]
    assert len(steps) > 100
    for number, step in enumerate(steps, 1):
        far.restore()
        far.call("all", die_at=number)
        completed(far, f"killed before {number}, {step}", False, [("all",)], 1, 3)


@pytest.mark.soak
@pytest.mark.parametrize("site", ["lngs", "tegner"])
def test_the_helper_at_the_far_end_is_killed_at_each_step(far, site, tmp_path):
    """At lngs it reads, at tegner it writes; each time what it did is kept or done again."""
    doom = mortal.Doom(tmp_path / "doom", far.experiment.sites[site].root)
    file = far.folder / f"sites/{site}.yaml"
    document = yaml.safe_load(file.read_text())
    document["access"]["python"] = doom.python()
    file.write_text(yaml.safe_dump(document))
    far.save()
    for number in itertools.count(1):
        far.restore()
        doom.at(number)
        done = far.call("all")
        if not doom.struck:
            break
        assert done["status"] in (0, 1), done["said"]
        assert all(re.match(r"caxflow: .* -> ", line) for line in done["said"].splitlines()), done["said"]
        doom.at(None)
        completed(far, f"the helper at {site} killed before {number}", False, [("all",)], 1, 3)
    assert number > 5
