"""Rounds in which all is done at once at three sites while something breaks, and a checker looks on.

A round begins with a state of the world (nothing copied, copied, processed), has a few episodes, and a calm
at its end. In an episode commands run side by side, at sites behind SSH; meanwhile processes are killed or
stopped, and things break. In the calm all that broke is whole again, and each site has its calls. What is to
happen is drawn from the round's seed before it begins; when within an episode is up to the machine.
"""

import contextlib
import datetime
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pymongo
import yaml

import checker
import garbage
import mortal
import needs
from caxflow.demo.database import DatabaseServer
from caxflow.demo.server import reserve_port
from caxflow.demo.sshd import SshSites
from checker import Books, Checker, Site, Watcher, content
from experiment import HOSTS, Experiment

SITES = ("lngs", "midway", "tegner")
RUNS = {"160315_1432": "tpc", "160316_1000_MV": "muon_veto", "160317_0900": "tpc"}
ASIDE = ("calibration", "elsewhere")  # folders of a root to which copies are moved
MARK = "CAXFLOW_CHAOS"
PATIENCE = 180  # s, for an action
PURGE = {"after_days": 1, "copies": 2, "processed": False}


class World:
    """Three sites behind SSH, a runs database that survives its death, and processes that run calls.

    Parameters
    ----------
    stack : ExitStack
        Ends all of it.
    folder : Path
    """

    def __init__(self, stack: ExitStack, folder: Path):
        self.folder, self.word = folder, f"{MARK}={folder}"
        self.ssh = stack.enter_context(SshSites(folder / "sites", SITES, embedded=False))
        self.server = DatabaseServer(folder / "db", port=reserve_port(self))
        self.start_database()
        stack.callback(self.server.kill)
        self.experiment = Experiment(folder / "experiment", self.ssh, self.server.uri, "chaos")
        client = stack.enter_context(pymongo.MongoClient(self.server.uri, tz_aware=False))
        self.database = client["chaos"]
        self.roots = {
            name: {kind: self.ssh[name].root / kind for kind in ("raw", "processed")} for name in SITES
        }
        self.disk = self.roots["midway"]["raw"] / "disk2"
        self.disk.mkdir()
        stack.enter_context(needs.mounted(self.disk, "-t", "tmpfs", "-o", "size=32m", "tmpfs"))
        os.environ[MARK] = str(folder)
        stack.callback(lambda: os.environ.pop(MARK))
        for site in SITES:
            self.experiment.work(site=site).mkdir(parents=True, exist_ok=True)
            self.profile(site)
        self.zygotes = [mortal.Zygote(folder, "onecall") for _ in range(4)]
        for each in self.zygotes:
            stack.callback(each.close)
        self.saved: dict[str, dict] = {}
        self._prepare()

    def start_database(self) -> None:
        """Start its server, again after it was killed."""
        self.server.start()
        garbage.SERVICES.add(self.server.server._keeper.pid)

    @property
    def folders(self) -> list[Path]:
        """All that a state of the world is made of, but for the database."""
        roots = [root for site in self.roots.values() for root in site.values()]
        return [*roots, *(self.experiment.work(site=site) for site in SITES)]

    def overrides(self, site: str, **more) -> dict:
        """What a profile says over ``config.yaml``."""
        return {
            "site": site,
            "sites_dir": str(self.experiment.folder / "sites"),
            "rundb": {"uri": self.server.uri, "database": "chaos", "timeout": 5},
            "kinds": ["raw"],
            "pause": 0,
            "attempts": 1000,
            "lease": 1,
        } | more

    def profile(self, site: str, **more) -> str:
        """A profile's folder; another one for other settings."""
        overrides = self.overrides(site, **more)
        name = "-".join([site, *(f"{key}" for key in sorted(more))])
        folder = self.experiment.folder / "profiles" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "caxflow.yaml").write_text(yaml.safe_dump(overrides))
        profile = {"configfile": "caxflow.yaml", "cores": 2, "rerun-triggers": ["mtime"], "keep-going": True}
        profile |= {"rerun-incomplete": True, "nolock": True, "drop-metadata": True, "latency-wait": 2}
        profile |= {"quiet": ["host", "reason"]}
        (folder / "config.yaml").write_text(yaml.safe_dump(profile))
        return str(folder)

    def _prepare(self) -> None:
        """Make the states that rounds begin with."""
        for run, kind in RUNS.items():
            self.experiment.add_run(
                self.database["runs_new"], run[:11], kind=kind, events=4, events_per_file=2
            )
        self.origin = {run: content(self.roots["lngs"]["raw"] / run) for run in RUNS}
        self.gains("6.0")
        self._save("nothing copied")
        self._succeed("all", self.overrides("midway"))
        for site in ("lngs", "tegner"):
            self._succeed("all", self.overrides(site))
        self._save("copied")
        for site in ("midway", "tegner"):
            code, said = self.experiment.snakemake("all", site=site, **processing())
            assert code == 0, said
        self._save("processed")

    def _succeed(self, target: str, overrides: dict) -> None:
        done = self.zygotes[0].call("perform", target, overrides)
        assert done["status"] == 0, done

    def gains(self, version: str) -> None:
        """A new version of a correction; what was processed with older ones is to be made anew."""
        day = datetime.datetime(2017, 1, 1) + datetime.timedelta(days=float(version))
        function = f"{float(version)}e5 + 0*pmt"
        self.database["gains"].insert_one({"version": version, "calculation_time": day, "function": function})

    def dump(self) -> dict[str, list[dict]]:
        """All of the database."""
        names = self.database.list_collection_names()
        return {name: list(self.database[name].find()) for name in names}

    def load(self, dump: dict[str, list[dict]]) -> None:
        """Make the database what it was; no document is away in between."""
        for name in {*self.database.list_collection_names(), *dump}:
            documents = dump.get(name, [])
            self.database[name].delete_many({"_id": {"$nin": [each["_id"] for each in documents]}})
            for each in documents:
                self.database[name].replace_one({"_id": each["_id"]}, each, upsert=True)

    def _save(self, name: str) -> None:
        self.saved[name] = self.dump()
        for number, folder in enumerate(self.folders):
            shutil.copytree(folder, self.folder / "saved" / name / str(number), symlinks=True)

    def restore(self, name: str) -> None:
        """Make all what it was."""
        for number, folder in enumerate(self.folders):
            empty(folder)
            saved = self.folder / "saved" / name / str(number)
            shutil.copytree(saved, folder, symlinks=True, dirs_exist_ok=True)
        self.load(self.saved[name])

    def sites(self) -> dict[str, Site]:
        """The sites as the checker wants them."""
        return {name: Site(HOSTS[name], self.roots[name], self.experiment.work(site=name)) for name in SITES}

    def servers(self) -> list[int]:
        """What serves the sites."""
        return [site.server.pid for site in self.ssh if site.server and site.server.pid]

    def running(self) -> dict[int, str]:
        """All processes of actions, here and at the far ends."""
        services = {zygote.pid for zygote in self.zygotes}
        here = {
            pid: command
            for pid, command in checker.running(self.word).items()
            if pid not in services and "secantusd" not in command
        }
        return here | checker.below(*self.servers())


def processing() -> dict:
    """Settings of rounds in which data are processed."""
    return {
        "kinds": ["raw", "processed"],
        "corrections": {"apply": ["AddGains"], "reprocess": True},
        "attempts": 1000,
        "lease": 1,
    }


def empty(folder: Path) -> None:
    """Remove what is in a folder, but for what is mounted there."""
    for path in folder.iterdir():
        if path.is_mount():
            empty(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@dataclass
class Action:
    """Something that is done at a site: a call of the workflow, a command, or a program."""

    name: str
    site: str
    target: str = ""
    words: list[str] = field(default_factory=list)
    program: str = ""
    more: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} at {self.site}: {self.target or ' '.join(self.words)} {self.more or ''}".rstrip()


class Round:
    """One round.

    Parameters
    ----------
    world : World
    seed : int
    """

    def __init__(self, world: World, seed: int):
        self.world, self.seed = world, seed
        self.chance = random.Random(seed)
        self.story: list[str] = []
        self.books = Books(world.origin)
        self.checker = Checker(world.database, world.sites(), self.books)
        self.stopped: set[int] = set()
        self.signalled = False
        self.away: dict[Path, tuple[Path, bool]] = {}
        self.findings: list[str] = []
        self.version = 6
        self.subject = ""
        self.story_lock = threading.Lock()
        state = self.chance.choices(["nothing copied", "copied", "processed"], [2, 7, 1])[0]
        self.processed = state == "processed"
        self.strict = self.chance.random() < 0.4
        self.tell(f"begin: {state}, evidence {'always read again' if self.strict else 'as it is kept'}")
        world.restore(state)
        self.dumps = [world.dump()]
        for root in (roots["raw"] for roots in world.roots.values()):
            self.books.plant(root / "notes.txt")
            for folder in ASIDE:
                self.books.plant(root / folder / "notes.txt")
            self.books.plant(root / ".caxflow-trash" / "kept by hand" / "file")
        self.books.plant(world.disk / "notes.txt")

    def tell(self, text: str) -> None:
        """Add to the round's log."""
        with self.story_lock:
            self.story.append(text)

    def play(self) -> None:
        """All of it; a failure has the story."""
        raw = {roots["raw"]: HOSTS[name] for name, roots in self.world.roots.items()}
        folders = raw | {root / each: host for root, host in raw.items() for each in ASIDE}
        folders[self.world.disk] = HOSTS["midway"]
        watcher = Watcher(folders, self.books)
        try:
            try:
                for _ in range(self.chance.choice([1, 2, 2, 3])):
                    self._episode()
                self._calm()
            finally:
                self.findings += watcher.close()
                self._heal()
            assert not self.findings, "\n".join(["what was found:", *self.findings])
        except BaseException as error:
            error.add_note(f"CAXFLOW_SOAK_SEED={self.seed}:\n  " + "\n  ".join(self.story))
            raise

    # Episodes

    def _episode(self) -> None:
        chance = self.chance
        self.tell("episode")
        self.subject = chance.choice(list(RUNS))
        kind = chance.random()
        if kind < 0.3:
            # All copies of a run are to go at once, each on the word of the others.
            actions = [self._rm(chance.choice(SITES), self.subject, at) for at in SITES]
        else:
            actions = [self._draw() for _ in range(chance.choice([2, 3, 3, 4]))]
            if kind < 0.7 and (last := self._remove_last(chance.choice([rot, lose_file, lose_all]))):
                actions = last + actions[: chance.choice([0, 1])]
        pace = chance.choice([0.1, 0.5, 1.5])  # some steps are over at once, some take longer
        faults = [(chance.choice(FAULTS), pace * chance.random()) for _ in range(chance.choice([0, 1, 2, 3]))]
        luck = random.Random(chance.random())
        self.signalled = False
        with ThreadPoolExecutor(len(actions)) as pool:
            together = [pool.submit(self._perform, action, lane) for lane, action in enumerate(actions)]
            for fault, pause in faults:
                time.sleep(pause)
                self._break(fault, luck)
            wait(together, luck.choice([0, 0.5, 2]))
            self._heal()
            for action, each in zip(actions, together, strict=True):
                try:
                    each.result(PATIENCE)
                except TimeoutError:
                    self.findings.append(f"{action} hangs")
                    self._end_all()
        self._heal()
        self.findings += checker.left_running(self.world.running)
        self._look()
        if chance.random() < 0.5:
            self.dumps.append(self.world.dump())

    def _look(self, **how) -> None:
        try:
            self.checker.check(**how)
        except AssertionError as error:
            self.findings.append(str(error))
        if self.findings:
            raise AssertionError("\n".join(self.findings))

    def _draw(self) -> Action:
        """What is done next, and where."""
        chance = self.chance
        weights = WEIGHTS | ({"snakemake": 6, "anew": 8} if self.processed else {})
        name = chance.choices(list(weights), weights.values())[0]
        site = chance.choice(SITES)
        # Mostly one run for all, so that they meet.
        run = self.subject if chance.random() < 0.7 else chance.choice(list(RUNS))
        return getattr(self, f"_{name}")(site, run)

    def _all(self, site, run):
        return Action("all", site, target="all")

    def _scrub(self, site, run):
        return Action("scrub", site, target="scrub", more={"scrub": {"every_days": 0}})

    def _demand(self, **purge) -> dict:
        return {"purge": PURGE | purge | ({"verified_within_days": 3e-5} if self.strict else {})}

    def _purge(self, site, run):
        return Action("purge", site, target="purge", more=self._demand())

    def _rm(self, site, run, at=None):
        at = at or self.chance.choice(SITES)
        words = ["rm", run, "--at", at, "--because", "chaos", "--copies", "2"]
        return Action("rm", site, words=words, more=self._demand())

    def _remove_last(self, how: Callable[[Path], object]) -> list[Action]:
        """Damage all copies of a run but one, as no row tells; calls that would remove that one."""
        luck = random.Random(self.chance.random())
        # What was never read is read before it counts, which would find the damage in any case.
        self._together("scrub", {"scrub": {"every_days": 0}})
        at_rest = {run: self._at_rest(run) for run in RUNS}
        if not (found := [run for run, rows in at_rest.items() if len(rows) > 1]):
            return []
        run = luck.choice(found)
        rows = {self.checker.names[entry["host"]]: entry for entry in at_rest[run]}
        keep = luck.choice(sorted(rows))
        for name, entry in rows.items():
            if name != keep:
                how(Path(entry["location"]))
                self.books.damaged(run, entry["host"])
        self.tell(f"  ! {run}: all copies but that at {keep} are damaged: {how.__name__}")
        demand = {"purge": PURGE | {"copies": len(rows) - 1}}
        words = ["rm", run, "--at", keep, "--because", "chaos", "--copies", str(len(rows) - 1)]
        return [
            Action("rm", luck.choice(SITES), words=words, more=demand),
            Action("purge", keep, target="purge", more=demand),
        ]

    def _at_rest(self, run: str) -> list[dict]:
        """Rows of whole raw copies of a run with which nothing is being done."""
        return [
            entry
            for each, entry in self.checker.entries()
            if (each, entry["type"], entry["status"]) == (run, "raw", "transferred")
            and not {"removing", "moving"} & set(entry.get("caxflow") or {})
            and self.checker.is_whole(run, entry["location"])
        ]

    def _mv(self, site, run):
        at = self.chance.choice(SITES)
        root = self.world.roots[at]["raw"]
        places = [root / run, root / ASIDE[0] / run, root / ASIDE[1] / run]
        places += [self.world.disk / run] * 2 if at == "midway" else []
        return Action("mv", site, words=["mv", run, "--at", at, "--to", str(self.chance.choice(places))])

    def _dry(self, site, run):
        words = self.chance.choice(
            [
                ["rm", run, "-n"],
                ["mv", run, "-n", "--to", f"{self.world.roots[site]['raw']}/{ASIDE[0]}/{run}"],
            ]
        )
        return Action("dry", site, words=words)

    def _strays(self, site, run):
        return Action("strays --remove", site, words=["strays", "--at", self.chance.choice(SITES)])

    def _ask(self, site, run):
        words = self.chance.choice([["doctor"], ["status"], ["why", run, "--history"], ["strays"]])
        return Action("ask", site, words=words)

    def _daemon(self, site, run):
        return Action("daemon", site, program="daemon")

    def _snakemake(self, site, run):
        target = self.chance.choice(["all", "all", "scrub", f"{site}/{run}.checksum"])
        return Action("snakemake", site, target=target, program="snakemake")

    def _anew(self, site, run):
        return Action("snakemake, newer corrections", "midway", target="all", program="anew")

    def _perform(self, action: Action, lane: int) -> None:
        """Do it; what it said must be of one line each, whatever breaks."""
        world, more = self.world, dict(action.more)
        begun = time.monotonic()
        if action.program:
            status, said = self._run(action)
        elif action.target:
            done = world.zygotes[lane].call("perform", action.target, world.overrides(action.site, **more))
            status, said = done["status"], done["out"] + done["said"]
        else:
            if action.name == "strays --remove":
                self._remove_strays(action, lane)
                return
            words = [*action.words, "--profile", world.profile(action.site, **more)]
            done = world.zygotes[lane].call("command", words)
            status, said = done["status"], done["out"]
        self._judge(action, status, said, time.monotonic() - begun)

    def _judge(self, action, status, said, seconds) -> None:
        last = said.strip().splitlines()[-1] if said.strip() else ""
        self.tell(f"  {action} -> {status} in {seconds:.1f} s: {last[:300]}")
        if "Traceback" in said and not self.signalled:
            self.findings.append(f"{action}: a traceback:\n{said[-2000:]}")

    def _run(self, action: Action) -> tuple[int, str]:
        world, settings = self.world, self.settings()
        if action.program == "anew":
            self.version += 1
            world.gains(f"{self.version}.0")
        profile = world.profile(action.site, **settings)
        if action.program == "daemon":
            words = ["caxflow.cli", "run", "--profile", profile, "--once"]
        else:
            words = ["snakemake", "--profile", profile, action.target]
        process = world.experiment.program([sys.executable, "-m", *words])
        try:
            said, _ = process.communicate(timeout=PATIENCE)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return process.returncode, said

    def settings(self) -> dict:
        """Those of snakemake's calls."""
        return processing() if self.processed else {}

    def _remove_strays(self, action: Action, lane: int) -> None:
        """Have what is listed removed by name, but for what others or tests need: one thing that is."""
        world = self.world
        words = [*action.words, "--profile", world.profile(action.site)]
        done = world.zygotes[lane].call("command", [*words, "--json"])
        found = re.findall(r'"path": "([^"]*)"', done["out"])
        foreign = [path for path in found if any(each.startswith(path) for each in self.books.foreign)]
        others = [
            path
            for path in found
            if path not in foreign and (".part-" in path or ".caxflow-" in path) and "disk2" not in path
        ]
        for path in others[:1]:
            done = world.zygotes[lane].call("command", [*words, "--remove", path])
            self._judge(action, done["status"], f"{path}: {done['out']}", 0)

    # Faults

    def _break(self, fault: str, luck: random.Random) -> None:
        said = getattr(self, f"_fault_{fault}")(luck)
        self.tell(f"  ! {fault.replace('_', ' ')}: {said}")

    def _signal(self, luck: random.Random, number: int) -> str:
        """Send a signal to a process of a kind that runs."""
        kinds: dict[str, list[int]] = {}
        for pid, command in self.world.running().items():
            kinds.setdefault(kind_of(command), []).append(pid)
        if not kinds:
            return "nothing runs"
        kind = luck.choice(sorted(kinds))
        pid = luck.choice(sorted(kinds[kind]))
        try:
            self.signalled = True
            os.kill(pid, number)
        except ProcessLookupError:
            return f"{kind} had ended"
        if number == signal.SIGSTOP:
            self.stopped.add(pid)
        return kind

    def _fault_kill(self, luck):
        return self._signal(luck, signal.SIGKILL)

    def _fault_terminate(self, luck):
        return self._signal(luck, signal.SIGTERM)

    def _fault_stop(self, luck):
        return self._signal(luck, signal.SIGSTOP)

    def _fault_database_dies(self, luck):
        self.world.server.kill()
        time.sleep(luck.uniform(0, 0.5))
        self.world.start_database()
        return "and is started again"

    def _fault_database_is_restored(self, luck):
        self.world.load(luck.choice(self.dumps))
        self._forget()
        return "to an older dump"

    def _forget(self) -> None:
        """Write down what the database does not know any more, and which of its rows have become untrue."""
        for run in RUNS:
            self.books.forgotten |= {(run, host) for host in HOSTS.values()}
        for run, entry in self.checker.entries():
            if entry["type"] == "raw" and not self.checker.is_whole(run, entry["location"]):
                self.books.damaged(run, entry["host"])

    def _fault_row_is_pulled(self, luck):
        run = luck.choice(list(RUNS))
        host = HOSTS[luck.choice(SITES[1:])]
        if len(self.checker.whole(run)) < 3:
            return "not now"
        name, detector = run[:11], "muon_veto" if run.endswith("_MV") else "tpc"
        self.books.forgotten.add((run, host))
        this = {"name": name, "detector": detector}
        self.world.database["runs_new"].update_one(
            this,
            {"$pull": {"data": {"type": "raw", "host": host}}, "$unset": {"caxflow.settled": 1}},
        )
        return f"{run} at {host}"

    def _victim(self, luck) -> tuple[str, str, Path] | None:
        """A copy that may be damaged: two others are whole then, of which a removal may take one."""
        run = luck.choice(list(RUNS))
        rows = [
            entry
            for each, entry in self.checker.entries()
            if each == run
            and entry["type"] == "raw"
            and entry["status"] == "transferred"
            and self.checker.is_whole(run, entry["location"])
        ]
        if len(rows) < 3:
            return None
        entry = luck.choice(rows)
        return run, entry["host"], Path(entry["location"])

    def _fault_rot(self, luck):
        return self._damage(luck, rot)

    def _fault_file_vanishes(self, luck):
        return self._damage(luck, lose_file)

    def _fault_copy_vanishes(self, luck):
        return self._damage(luck, lose_all)

    def _damage(self, luck, how: Callable[[Path], object]) -> str:
        victim = self._victim(luck)
        if victim is None:
            return "not now"
        run, host, place = victim
        try:
            how(place)
        except OSError as error:
            return f"it went just now: {error}"
        self.books.damaged(run, host)
        return f"{run} at {host}"

    def _fault_receipt_is_cut_short(self, luck):
        found = sorted(
            path for site in SITES for path in self.world.experiment.work(site=site).glob("*/*.raw.done")
        )
        if not found:
            return "there is none"
        path = luck.choice(found)
        self.books.spoiled.add(path)
        with contextlib.suppress(FileNotFoundError):
            os.truncate(path, 100)
        return str(path.relative_to(self.world.experiment.folder))

    def _fault_place_is_taken(self, luck):
        """A folder of somebody else's where a copy may be moved to."""
        name = f"{luck.choice(['.', *ASIDE])}/{luck.choice(list(RUNS))}"
        root = self.world.roots[luck.choice(SITES)]["raw"]
        if root in self.away:
            return "its file system is away"
        place = root / name
        try:
            place.mkdir()
        except OSError:
            return "there is something"
        self.books.plant(place / "data.txt")
        return str(place.relative_to(self.world.ssh.directory))

    def _fault_leases_run_out(self, luck):
        """As if all that holds a claim had been stopped for long."""
        runs, past = self.world.database["runs_new"], checker.utc() - datetime.timedelta(hours=1)
        number = 0
        for document in runs.find({"data.caxflow.lease": {"$ne": None}}):
            for at, entry in enumerate(document["data"]):
                if token := (entry.get("caxflow") or {}).get("token"):
                    this = {"_id": document["_id"], f"data.{at}.caxflow.token": token}
                    found = runs.update_one(this, {"$set": {f"data.{at}.caxflow.lease": past}})
                    number += found.modified_count
        return str(number)

    def _fault_file_system_goes(self, luck):
        root = self.world.roots[luck.choice(SITES)]["raw"]
        if self.away:
            return "another is away"
        held = any(checker.RUN.match(path.name) for path in root.iterdir())
        away = root.with_name("away")
        root.rename(away)
        root.mkdir(exist_ok=True)
        self.away[root] = away, held
        return str(root.parent.name)

    def _heal(self) -> None:
        """Make whole again what a fault has left broken for a while."""
        for pid in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped.clear()
        for root, (away, held) in self.away.items():
            written = [str(path) for path in root.rglob("*")]
            shutil.rmtree(root)
            away.rename(root)
            if written and held:
                self.findings.append(f"written into {root} while its file system was away: {written}")
        self.away.clear()
        if not self.world.server.server.running:
            self.world.start_database()

    def _end_all(self) -> None:
        for pid in self.world.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _together(self, target: str, more: dict) -> None:
        """Have a target made at all sites at once."""
        actions = [Action(target, site, target=target, more=more) for site in SITES]
        with ThreadPoolExecutor(len(actions)) as pool:
            list(pool.map(self._perform, actions, range(len(actions))))

    # Calm

    def _calm(self) -> None:
        """Each site completes what was begun, reads all it has again, and has what it lacks made."""
        self.tell("calm")
        self.signalled = False
        # As long as moves and removals are under way, somebody gives their command again.
        for run, entry in list(self.checker.entries()):
            note = entry.get("caxflow") or {}
            at = self.checker.names[entry["host"]]
            again = []
            if "moving" in note:
                again = ["mv", run, "--at", at, "--to", note["moving"]["to"]]
            elif "left" in note:
                again = ["mv", run, "--at", at, "--to", entry["location"]]
            elif "removing" in note:
                again = ["rm", run, "--at", at, "--because", "chaos", "--copies", "2"]
            if again and entry["type"] == "raw":
                self._perform(Action("again", note.get("owner", at), words=again), 0)
        for target, more in (("scrub", {"scrub": {"every_days": 0}}), ("all", {}), ("all", {})):
            self._together(target, more)
        self.findings += checker.left_running(self.world.running)
        listed: set[str] = set()
        for lane, site in enumerate(SITES):
            words = ["strays", "--json", "--profile", self.world.profile(site)]
            done = self.world.zygotes[lane].call("command", words)
            with contextlib.suppress(ValueError):
                listed |= {each["path"] for each in json.loads(done["out"])["strays"]}
        self._look(calm=True, more=list(self.checker.unknown(listed)))


def kind_of(command: str) -> str:
    """What kind of process a command line is of."""
    kinds = {
        "far helper": " -c import",
        "ssh": "ssh ",
        "sshd": "sshd",
        "job": ".snakemake/scripts",
        "snakemake": "snakemake",
        "daemon": "caxflow.cli",
        "call": "mortal",
    }
    return next((kind for kind, word in kinds.items() if word in command), "worker")


def size(path: Path) -> int:
    return path.stat().st_size


def rot(place: Path) -> None:
    """Flip a bit of the largest file."""
    with max(place.iterdir(), key=size).open("r+b") as file:
        data = file.read()
        file.seek(len(data) // 2)
        file.write(bytes([data[len(data) // 2] ^ 1]))


def lose_file(place: Path) -> None:
    """Remove the largest file."""
    max(place.iterdir(), key=size).unlink()


def lose_all(place: Path) -> None:
    """Remove a dataset; its name goes first, so that nobody sees half of it under that."""
    gone = place.rename(place.with_name(f".gone-{time.time_ns()}"))
    shutil.rmtree(gone)


WEIGHTS = {
    "all": 6, "scrub": 3, "purge": 3, "rm": 5, "mv": 6, "dry": 1, "strays": 2, "ask": 2, "daemon": 1,
    "snakemake": 1,
}  # fmt: skip
FAULTS = [
    "kill", "kill", "kill", "kill", "terminate", "stop", "stop", "rot", "rot", "file_vanishes",
    "copy_vanishes", "row_is_pulled", "database_is_restored", "database_dies", "file_system_goes",
    "leases_run_out", "leases_run_out", "receipt_is_cut_short", "place_is_taken",
]  # fmt: skip
