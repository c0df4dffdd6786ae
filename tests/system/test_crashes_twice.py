"""Killed before a step that lasts, and then something else happens before the next call: nothing is lost.

Between the crash and the next call a witness rots or vanishes, the database is restored to before, somebody
takes the place that the next step wants, a file system is not there, or another command moves the copy. Then
the same command is given again, what can be put right is put right, and every site has its calls. Of these
the checker, which shares no code with the program, asks each time: no last whole copy gone, no file of others
touched, every row true or told. `make soak` takes every step, `make test` three of those.
"""

import re
import shutil
import uuid
from contextlib import ExitStack
from pathlib import Path

import pymongo
import pytest

import needs
from checker import Books, Checker, Site, content
from copies import SITES
from scenes import RUN, Scene

PURGE = {"after_days": 1, "copies": 2, "processed": False}
# The first file of the copy goes, or of the receipts where nothing of the copy does.
GOES = re.compile(r"os\.remove (?!lock )([^/.][^/]+|\S+\.checksum -1)$")
RENAMED = re.compile(r"os\.rename ([^/]+$|\S+/raw/)")


class Twice(Scene):
    """The scene, its checker, and a second file system below midway's root."""

    def __init__(self, folder, uri, database):
        super().__init__(folder, uri, database)
        self.root = self.copies.path("midway").parent
        (self.root / "disk2").mkdir()
        sites = {
            name: Site(host, {"raw": root}, work)
            for (name, host), root, work in zip(SITES.items(), self.raw, self.work, strict=True)
        }
        self.origin = content(self.copies.path("lngs"))
        self.checker = Checker(database, sites, Books({}))

    def begin(self) -> None:
        """Restore what was saved; others have files beside each dataset, in the trash and in its folder."""
        self.restore()
        books = self.checker.books = Books({RUN: self.origin})
        for root in self.raw:
            books.plant(root / "notes.txt")
            books.plant(root / "calibration" / "source.txt")
        books.plant(self.root / ".caxflow-trash" / "kept by hand" / "file")
        for folder in ("disk2", "elsewhere", "other"):
            books.plant(self.root / folder / "notes.txt")

    def at(self, site: str, *words: str, **keys) -> dict:
        """A call at another site."""
        if words[0] == "caxflow":
            profile = self.copies.profile(site, **keys)
            return self.zygote.call("command", [*words[1:], "--profile", profile])
        return self.zygote.call("perform", words[0], self.copies.overrides(site, **keys))

    def row(self, site: str) -> dict | None:
        """The entry of a site's copy."""
        return self.copies.row(site)

    def damage(self, site: str, place: Path, how: str) -> bool:
        """Damage a copy; whether there was one."""
        if not place.is_dir():
            return False
        if how == "rots":
            file = max(place.iterdir(), key=lambda path: path.stat().st_size)
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        else:
            shutil.rmtree(place)
        self.checker.books.damaged(RUN, SITES[site])
        if not self.checker.whole(RUN):
            self.checker.books.sacrificed.add(RUN)
        return True


def removing(scene):
    """Two copies, of which one goes on the word of the other."""
    scene.configure(push_to=())
    scene.do("all")
    return "caxflow", "rm", RUN, "--because", "test", "--copies", "1"


def purging(scene):
    """Three copies, of which the policy removes one."""
    scene.do("all")
    scene.configure(purge=PURGE)
    return ("purge",)


def only_copy(scene):
    """Have midway the only copy that there is."""
    scene.configure(push_to=())
    scene.do("all")
    scene.do("caxflow", "rm", RUN, "--at", "lngs", "--because", "test", "--copies", "1")


def moving(scene):
    """The only copy goes to another folder."""
    only_copy(scene)
    return "caxflow", "mv", RUN, "--to", f"{scene.root}/elsewhere/{RUN}"


def moving_away(scene):
    """The only copy goes to another file system."""
    only_copy(scene)
    return "caxflow", "mv", RUN, "--to", f"{scene.root}/disk2/{RUN}"


ACTIONS = {"rm": removing, "purge": purging, "mv": moving, "mv to another disk": moving_away}


@pytest.fixture(scope="module", params=ACTIONS)
def played(request, tmp_path_factory, database_uri):
    """The scene, prepared for an action, the action, and its steps."""
    folder = tmp_path_factory.mktemp("twice")
    with ExitStack() as stack:
        client = stack.enter_context(pymongo.MongoClient(database_uri, tz_aware=False))
        scene = Twice(folder, database_uri, client[f"twice_{uuid.uuid4().hex[:12]}"])
        stack.callback(client.drop_database, scene.database.name)
        stack.callback(scene.close)
        stack.enter_context(needs.mounted(scene.root / "disk2", "-t", "tmpfs", "-o", "size=8m", "tmpfs"))
        action = ACTIONS[request.param](scene)
        scene.save()
        scene.begin()
        done = scene.call(*action)
        assert done["status"] == 0, done["said"]
        yield scene, action, done["steps"]


def new_place(scene, action) -> Path | None:
    return Path(action[-1]) if "--to" in action else None


def witness(scene, action) -> tuple[str, Path]:
    """The copy that the next step relies on: at the origin, or what a move made beside the old one."""
    new = new_place(scene, action)
    if new is None:
        return "lngs", scene.copies.path("lngs")
    return "midway", new if scene.copies.path("midway").exists() else Path("/nowhere")


# What happens between the crash and the next call: each returns what puts it right, or None where it cannot
# happen.


def nothing(scene, action):
    return lambda: None


def witness_rots(scene, action):
    return (lambda: None) if scene.damage(*witness(scene, action), "rots") else None


def witness_rots_and_is_found(scene, action):
    site, place = witness(scene, action)
    if not scene.damage(site, place, "rots"):
        return None
    scene.at(site, "scrub", scrub={"every_days": 0})
    return lambda: None


def witness_vanishes(scene, action):
    return (lambda: None) if scene.damage(*witness(scene, action), "vanishes") else None


def database_is_restored(scene, action):
    scene.restore_database()
    books = scene.checker.books
    books.forgotten |= {(RUN, host) for host in SITES.values()}
    for run, entry in scene.checker.entries():
        if not scene.checker.is_whole(run, entry["location"]):
            books.damaged(run, entry["host"])
    if not scene.checker.whole(RUN):
        books.sacrificed.add(RUN)  # it lies where the database says nothing of it any more
    return lambda: None


def _taken(scene, place: Path | None, name: str):
    if place is None or place.exists():
        return None
    scene.checker.books.plant(place / name if name else place)

    def heal():
        found = content(place / name if name else place)
        assert found == scene.checker.books.foreign.pop(str(place / name if name else place))
        shutil.rmtree(place) if name else place.unlink()

    return heal


def its_place_is_taken(scene, action):
    return _taken(scene, scene.copies.path("midway"), "data.txt")


def its_place_is_taken_by_a_file(scene, action):
    return _taken(scene, scene.copies.path("midway"), "")


def new_place_is_taken(scene, action):
    return _taken(scene, new_place(scene, action), "data.txt")


def new_place_is_taken_by_a_file(scene, action):
    return _taken(scene, new_place(scene, action), "")


def trash_is_taken(scene, action):
    row = scene.row("midway")
    trash = ((row or {}).get("caxflow") or {}).get("removing", {}).get("trash")
    return _taken(scene, Path(trash) if trash else None, "data.txt")


def _unmounted(scene, root: Path):
    away = root.with_name("away")
    root.rename(away)
    root.mkdir()

    def heal():
        written = sorted(str(path) for path in root.rglob("*"))
        shutil.rmtree(root)
        away.rename(root)
        assert not written, f"written where nothing is mounted: {written}"

    return heal


def file_system_is_not_there(scene, action):
    return _unmounted(scene, scene.root)


def file_system_of_the_witness_is_not_there(scene, action):
    return _unmounted(scene, scene.copies.path("lngs").parent)


def another_command_moves_it(scene, action):
    row = scene.row("midway")
    if row is None:
        return None
    scene.at("tegner", "caxflow", "mv", RUN, "--at", "midway", "--to", f"{scene.root}/other/{RUN}")
    return lambda: None


def another_command_removes_it(scene, action):
    if scene.row("midway") is None:
        return None
    words = ["caxflow", "rm", RUN, "--at", "midway", "--because", "another", "--copies", "1"]
    scene.at("tegner", *words)
    return lambda: None


EVENTS = [
    nothing,
    witness_rots,
    witness_rots_and_is_found,
    witness_vanishes,
    database_is_restored,
    its_place_is_taken,
    its_place_is_taken_by_a_file,
    new_place_is_taken,
    new_place_is_taken_by_a_file,
    trash_is_taken,
    file_system_is_not_there,
    file_system_of_the_witness_is_not_there,
    another_command_moves_it,
    another_command_removes_it,
]
# Those that the others nearly say: for `make soak`.
VARIANTS = [
    its_place_is_taken_by_a_file,
    new_place_is_taken_by_a_file,
    file_system_of_the_witness_is_not_there,
]


def named(event) -> str:
    """How a test is called."""
    return event.__name__.replace("_", " ")


def once(scene, action, number, event) -> None:
    """Crash there, have the event happen, give the command again, and come to rest."""
    scene.begin()
    checker = scene.checker
    scene.call(*action, die_at=number)
    checker.check()
    away = "file_system" in event.__name__
    heal = event(scene, action)
    if heal is None:
        return
    said = [scene.call(*action)]
    if not away:
        checker.check()
    heal()
    checker.check()
    said.append(scene.call(*action))
    checker.check()
    said += [scene.at(site, "scrub", scrub={"every_days": 0}) for site in SITES]
    said += [scene.at(site, "all") if site != "midway" else scene.call("all") for site in SITES]
    checker.check(calm=True, more=checker.unknown(listed(scene)))
    for each in said:
        assert each["status"] in (0, 1), each["said"] + each["out"]


def listed(scene) -> set[str]:
    """What ``caxflow strays`` tells of all sites."""
    found = set()
    for site in SITES:
        out = scene.at(site, "caxflow", "strays", "--json")["out"]
        found |= set(re.findall(r'"path": "([^"]*)"', out))
    return found


def play(scene, action, steps, event, numbers) -> None:
    """All those crashes of an action, each followed by the event."""
    wrong = []
    for number in numbers:
        step = steps[number - 1] if number <= len(steps) else "its end"
        try:
            once(scene, action, number, event)
        except AssertionError as error:
            wrong.append(f"killed before {number}, {step}: {error}")
    assert not wrong, "\n\n".join(wrong)


def telling(steps):
    """Right before and after the rename that cannot be taken back, and before the first file goes."""
    renamed = max(number for number, step in enumerate(steps, 1) if RENAMED.match(step))
    goes = next(number for number in range(renamed + 1, len(steps)) if GOES.match(steps[number - 1]))
    return sorted({renamed, renamed + 1, goes})


@pytest.mark.parametrize("event", [each for each in EVENTS if each not in VARIANTS], ids=named)
def test_something_happens_after_a_crash_that_counts(played, event):
    scene, action, steps = played
    play(scene, action, steps, event, telling(steps))


@pytest.mark.soak
@pytest.mark.parametrize("event", EVENTS, ids=named)
def test_something_happens_after_each_crash(played, event):
    scene, action, steps = played
    play(scene, action, steps, event, range(1, len(steps) + 2))
