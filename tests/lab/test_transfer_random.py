"""Faults at random moments, for a few rounds or, under the mark soak, for many.

A round makes a dataset, has it copied once to a few times by random ways while something breaks, and then
once undisturbed. Whatever was published is byte for byte the source, what the transfers said of it is true,
the last one succeeds, and nothing else is left.

CAXFLOW_SOAK_ROUNDS is their number, CAXFLOW_SOAK_SEED the seed of the first.
"""

import os
import random
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import needs
from caxflow.demo.sshd import SshSites
from caxflow.files.manifest import take
from caxflow.transfer import Place, remove_leftovers
from lab import links
from lab.copying import Copying
from lab.processes import helpers

HERE = Place("here")
SIZE = 16_000_000
DISK = 2 * SIZE + 8_000_000


class World:
    """Two sites behind a link that can be cut, and a small disk that all of them see."""

    def __init__(self, stack: ExitStack, folder: Path):
        self.sites = stack.enter_context(SshSites(folder / "sites", ["far", "other"], embedded=False))
        self.disk = folder / "disk"
        self.disk.mkdir()
        stack.enter_context(needs.mounted(self.disk, "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs"))
        self.link = stack.enter_context(links.Link(rate=800, round_trip=4))
        self.far = {}
        for port, name in enumerate(("far", "other"), 2222):
            self.far[name] = links.FarSite(self.link, self.sites, name, folder, port)
            stack.enter_context(self.far[name])
        self.prefix = self.link.inside(self.link.near)

    def place(self, name="far", method="stream", **options) -> Place:
        return Place(name, method, host=name, ssh_config=str(self.far[name].ssh_config), **options)


WAYS = {
    "push": lambda place, **options: (HERE, place(**options)),
    "pull": lambda place, **options: (place(**options), HERE),
    "relay": lambda place, **options: (place(**options), place("other", **options)),
    "scp-push": lambda place, **options: (HERE, place(method="scp", **options)),
    "scp-pull": lambda place, **options: (place(method="scp", **options), HERE),
    "scp to stream": lambda place, **options: (place(method="scp", **options), place("other", **options)),
    "stream to scp": lambda place, **options: (place(**options), place("other", "scp", **options)),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, require):
    require("sshd")
    require("ssh")
    needs.link()
    with ExitStack() as stack:
        yield World(stack, tmp_path_factory.mktemp("world"))


class Round:
    """One round: a dataset, and where it is copied to."""

    def __init__(self, world: World, chance: random.Random, source: Path):
        self.world, self.chance, self.source = world, chance, source
        self.out = world.disk / "out"
        self.copy = self.out / "copy"
        self.story: list[str] = []
        self.legal: list = []  # what the source has been
        self._fill()

    def _fill(self) -> None:
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.rmtree(self.out, ignore_errors=True)
        (self.source / "sub" / "empty").mkdir(parents=True)
        self.out.mkdir()
        left = SIZE
        for number in range(self.chance.randrange(1, 12)):
            size = min(left, int(self.chance.expovariate(1 / 3e6)))
            left -= size
            (self.source / f"XENON1T-{number}.zip").write_bytes(self.chance.randbytes(size))
        (self.source / "sub" / "last").write_bytes(self.chance.randbytes(left))
        (self.source / "sub" / "none").touch()

    def _start(self, *, quick: bool) -> Copying:
        way = self.chance.choice(list(WAYS))
        client = self.chance.choice(["openssh", "openssh", "paramiko"])
        options = {"connections": self.chance.randrange(1, 4), "timeout": 60.0, "client": client}
        if not quick:
            options |= {"bandwidth": self.chance.uniform(0.5, 2) * SIZE, "timeout": 5.0}
        ends = WAYS[way](self.world.place, **options)
        more = {"expected": take(self.source).to_json()} if self.chance.random() < 0.6 else {}
        self.story.append(
            f"{way}{' of what is expected' if more else ''}, {options['connections']} connections"
        )
        return Copying(ends[0], self.source, ends[1], self.copy, prefix=self.world.prefix, **more)

    def disturbed(self) -> None:
        """A copy that something happens to."""
        self.legal.append(take(self.source))
        copying = self._start(quick=False)
        fault = self.chance.choice(list(FAULTS))
        done = int(self.chance.uniform(-0.2, 0.9) * SIZE)
        self.story[-1] += f", {fault} at {done}"
        if done >= 0:
            copying.until(lambda state: state["phase"] != "connecting" and state["done"] >= done)
        time.sleep(self.chance.uniform(0, 0.3 if done < 0 else 0.1))
        after = FAULTS[fault](self, copying)
        ended = copying.end()
        if after:
            after()
        self.legal.append(take(self.source))
        self.story[-1] += f": {ended.get('error') or ended.get('copied') or 'killed'}"
        assert "copied" in ended or "error" in ended or fault in ("killed here", "part rots"), ended
        self._check(ended)

    def _check(self, ended: dict) -> None:
        """Nothing but whole copies is visible, and what was said of them is true."""
        if "copied" in ended:
            assert self.copy.is_dir()
            assert ended["copied"] == take(self.copy).digest
            assert ended["sent"] <= SIZE + 1000
            assert not (ended["adopted"] and ended["sent"])
        if self.copy.exists():
            assert take(self.copy) in self.legal
            assert (self.copy / "sub" / "empty").is_dir()
        hidden = {path.name for path in self.out.iterdir()} - {"copy"}
        assert all(name.startswith(".copy.part-") and name.endswith("caxflow") for name in hidden)
        if self.copy.exists() and self.chance.random() < 0.8:
            shutil.rmtree(self.copy)  # what comes next has something to do

    def undisturbed(self) -> None:
        """A copy that must succeed, unless an earlier one was published and the source has changed since."""
        if self.copy.exists() and take(self.copy) != take(self.source):
            shutil.rmtree(self.copy)
        whole = self.copy.exists()
        ended = self._start(quick=True).end()
        self.story[-1] += f", undisturbed: {ended}"
        assert ended.get("copied") == take(self.source).digest == take(self.copy).digest
        assert ended["adopted"] == whole
        remove_leftovers(HERE, self.out, 0)  # of other ways
        assert [path.name for path in self.out.iterdir()] == ["copy"]


def killed_here(this: Round, copying: Copying):
    copying.process.kill()


def killed_there(this: Round, copying: Copying):
    found = [pid for site in this.world.far.values() for pid in helpers(site.server.pid)]
    for pid in this.chance.sample(sorted(found), min(1, len(found))):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def server_restarts(this: Round, copying: Copying):
    site = this.chance.choice(list(this.world.far.values()))
    site.restart()


def link_is_cut(this: Round, copying: Copying):
    this.world.link.cut()
    return this.world.link.mend


def link_stutters(this: Round, copying: Copying):
    this.world.link.cut()
    time.sleep(this.chance.uniform(0.1, 1))
    this.world.link.mend()


def disk_fills(this: Round, copying: Copying):
    filler = this.world.disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
    return filler.unlink


def source_changes(this: Round, copying: Copying):
    file = this.chance.choice(sorted(path for path in this.source.rglob("*") if path.is_file()))
    what = this.chance.choice(["grows", "shrinks", "other bytes", "vanishes", "comes"])
    this.story[-1] += f" ({file.name} {what})"
    if what == "grows":
        with file.open("ab") as opened:
            opened.write(b"more")
    elif what == "shrinks":
        os.truncate(file, file.stat().st_size // 2)
    elif what == "other bytes":
        file.write_bytes(this.chance.randbytes(file.stat().st_size))
    elif what == "vanishes" and file.name != "last":
        file.unlink()
    else:
        (file.parent / "came").write_bytes(b"came")


def part_rots(this: Round, copying: Copying):
    """What has arrived is damaged by the time that the next attempt finds it."""
    copying.process.kill()

    def damage():
        files = [path for path in this.out.glob(".copy.part-*/data/**/*") if path.is_file()]
        for file in files:
            if size := file.stat().st_size:
                with file.open("r+b") as opened:
                    opened.seek(this.chance.randrange(size))
                    opened.write(this.chance.randbytes(this.chance.randrange(1, 5)))

    return damage


def nothing(this: Round, copying: Copying):
    pass


FAULTS = {
    function.__name__.replace("_", " "): function
    for function in (
        killed_here, killed_there, server_restarts, link_is_cut, link_stutters, disk_fills, source_changes,
        part_rots, nothing,
    )
}  # fmt: skip


def play(world: World, seed: int, source: Path) -> None:
    """One round."""
    chance = random.Random(seed)
    this = Round(world, chance, source)
    try:
        for _ in range(chance.randrange(1, 4)):
            this.disturbed()
        this.undisturbed()
    except BaseException as error:
        error.add_note(f"CAXFLOW_SOAK_SEED={seed}: " + "\n  then ".join(this.story))
        raise
    print(f"seed {seed}: " + "\n  then ".join(this.story))


# Their stories: pulls, pushes, relays, by stream and scp; kill, cut, full disk, rot, change.
@pytest.mark.parametrize("seed", [5, 7, 9])
def test_random_faults(world, tmp_path, seed):
    play(world, seed, tmp_path / "source")


@pytest.mark.soak
def test_many_random_faults(world, tmp_path):
    first = int(os.environ.get("CAXFLOW_SOAK_SEED", time.time_ns() % 1_000_000))
    for seed in range(first, first + int(os.environ.get("CAXFLOW_SOAK_ROUNDS", "30"))):
        play(world, seed, tmp_path / "source")
