"""What it costs to remove copies over SSH, side by side with doing it by hand, on one machine.

    python benchmarks/removal.py --runs 10 --repeats 3 --json

Each run has three copies, at sites behind an sshd each; those at one of them are removed, on the word of
the other two. ``caxflow``: one ``caxflow rm`` for all. Its peers log in at the witnesses, and then where
they remove, for each run: ``look`` compares names and sizes, ``read`` has ``sha256sum -c`` read all bytes
there. All are done in turn, `--repeats` times; ratios are our time over theirs of the same turn: median,
smallest and largest.

The last line with `--json` is one object: by peer the medians of ``s_per_run``, of ``cpu_s_per_run`` (here,
and of what the servers have run) and of ``logins`` in all, and ``ratio``.
"""

import argparse
import datetime
import json
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pymongo
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from transfer import _stat  # noqa: E402

from caxflow.demo.database import DatabaseServer  # noqa: E402
from caxflow.demo.sshd import SshSites  # noqa: E402
from experiment import Experiment  # noqa: E402

SITES, AT = ("lngs", "midway", "tegner"), "tegner"
FIRST = datetime.datetime(2016, 3, 15)


class Scene:
    """Three sites, the runs that have copies at all of them, and the ways to remove those at one."""

    def __init__(self, stack: ExitStack, base: Path, runs: int, events: int):
        self.base, self.log = base, base / "logins"
        self.ssh = stack.enter_context(SshSites(base / "sites", SITES, embedded=False))
        uri = stack.enter_context(DatabaseServer(base / "rundb", durable=False)).uri
        self.experiment = Experiment(base / "experiment", self.ssh, uri, "removal")
        self.database = stack.enter_context(pymongo.MongoClient(uri, tz_aware=False))["removal"]
        (base / "bin").mkdir()
        (base / "bin/ssh").write_text(f'#!/bin/sh\necho >>{self.log}\nexec {shutil.which("ssh")} "$@"\n')
        (base / "bin/ssh").chmod(0o755)
        self.environment = self.experiment.environment(
            PATH=f"{base}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            PYTHONPATH=str(ROOT / "workflow"),
        )
        self.profile = base / "profile"
        self.profile.mkdir()
        own = {"site": "midway", "sites_dir": str(self.experiment.folder / "sites"), "kinds": ["raw"]}
        own["rundb"] = {"uri": uri, "database": "removal", "timeout": 30}
        (self.profile / "caxflow.yaml").write_text(yaml.safe_dump(own))
        (self.profile / "config.yaml").write_text(yaml.safe_dump({"configfile": "caxflow.yaml", "cores": 2}))
        times = [FIRST + datetime.timedelta(hours=number) for number in range(runs)]
        collection = self.database["runs_new"]
        self.runs = [
            self.experiment.add_run(collection, f"{at:%y%m%d_%H%M}", events=events, events_per_file=2)
            for at in times
        ]
        self.run("-m", "snakemake", "all", "--quiet", "all")
        for site in SITES:  # so that no copy has to be read before it counts
            own = [f"site={site}", "scrub={every_days: 0}"]
            self.run("-m", "snakemake", "scrub", "--quiet", "all", "--config", *own)
        self.lists = {run: self._list(run) for run in self.runs}
        self.saved = {
            name: list(self.database[name].find()) for name in self.database.list_collection_names()
        }
        for folder in (self.raw(AT), self.experiment.folder / "work"):
            shutil.copytree(folder, base / "saved" / folder.name, symlinks=True)

    def raw(self, site: str) -> Path:
        return self.ssh[site].root / "raw"

    def run(self, *words: str) -> None:
        """Run a program of ours with the profile."""
        words = [sys.executable, *words, "--profile", str(self.profile)]
        done = subprocess.run(
            words, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{shlex.join(words)}: {done.stdout}{done.stderr}")

    def _list(self, run: str) -> tuple[str, str]:
        """Sizes and names of a run's files, and their digests, as the peers know them."""
        words = "find . -type f -printf '%s %P\\n' | sort", "find . -type f -exec sha256sum {} + | sort"
        here = self.raw("midway") / run
        return tuple(subprocess.check_output(word, shell=True, cwd=here, text=True) for word in words)

    def restore(self) -> None:
        """Have all copies again; their files are no younger than when they were read."""
        for folder in (self.raw(AT), self.experiment.folder / "work"):
            shutil.rmtree(folder)
            shutil.copytree(self.base / "saved" / folder.name, folder, symlinks=True)
        for name, documents in self.saved.items():
            self.database[name].delete_many({})
            if documents:
                self.database[name].insert_many(documents)

    def caxflow(self) -> None:
        self.run("-m", "caxflow.cli", "rm", *self.runs, "--at", AT, "--because", "benchmark", "--copies", "2")

    def _by_hand(self, read: bool) -> None:
        for run in self.runs:
            for site in SITES:
                if site != AT:
                    check = "sha256sum -c --quiet -" if read else "find . -type f -printf '%s %P\\n' | sort"
                    said = self.far(
                        site, f"cd {self.raw(site) / run} && {check}", self.lists[run][1] if read else ""
                    )
                    if said != ("" if read else self.lists[run][0]):
                        raise RuntimeError(f"{run} at {site} differs")
            self.far(AT, f"rm -r {self.raw(AT) / run}")

    def far(self, site: str, command: str, stdin: str = "") -> str:
        words = ["ssh", "-F", str(self.ssh.ssh_config), site, command]
        return subprocess.run(
            words, env=self.environment, input=stdin, capture_output=True, text=True, check=True
        ).stdout

    def look(self) -> None:
        self._by_hand(read=False)

    def read(self) -> None:
        self._by_hand(read=True)

    def cpu(self) -> float:
        """CPU seconds of what has ended: our children, and the servers' sessions."""
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        ticks = 0
        for site in self.ssh:
            server = _stat(site.server.pid)
            ticks += sum(int(each[at]) for each in (server, _stat(int(server[1]))) for at in (13, 14))
        return own.ru_utime + own.ru_stime + ticks / os.sysconf("SC_CLK_TCK")

    def measure(self, way: str) -> dict[str, float]:
        self.restore()
        self.log.write_text("")
        begun, cpu = time.monotonic(), self.cpu()
        getattr(self, way)()
        took = time.monotonic() - begun
        left = [run for run in self.runs if (self.raw(AT) / run).exists()]
        if left:
            raise RuntimeError(f"{way} left {left}")
        time.sleep(0.5)  # until the servers have collected what they ran
        logins = len(self.log.read_text().splitlines())
        return {
            "s_per_run": took / len(self.runs),
            "cpu_s_per_run": (self.cpu() - cpu) / len(self.runs),
            "logins": logins,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--events", type=int, default=200, help="of a run; each has some 120 kB")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    ways = ("caxflow", "look", "read")
    found: dict[str, list[dict]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="removal-") as folder, ExitStack() as stack:
        scene = Scene(stack, Path(folder), arguments.runs, arguments.events)
        for _ in range(arguments.repeats):
            for way in ways:
                found[way].append(scene.measure(way))
    answer = {}
    for way, turns in found.items():
        answer[way] = {key: round(statistics.median(turn[key] for turn in turns), 3) for key in turns[0]}
        ratios = [
            ours["s_per_run"] / theirs["s_per_run"]
            for ours, theirs in zip(found["caxflow"], turns, strict=True)
        ]
        answer[way]["ratio"] = [
            round(each, 2) for each in (statistics.median(ratios), min(ratios), max(ratios))
        ]
        print(f"{way:8} {answer[way]}", file=sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
