"""A small experiment for system tests: SSH sites, a runs database, and the command that users type."""

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from bson import Decimal128

from caxflow import processes
from caxflow.simulate import run_document, simulate_run
from caxflow.targets import SUFFIXES
from copies import mark
from mortal import Gate

ROOT = Path(__file__).resolve().parents[1]
HOSTS = {
    "lngs": "xe1t-datamanager",
    "midway": "midway-login1",
    "tegner": "tegner-login-1",
    "control": "control",
}


def _seconds(at: datetime.datetime) -> Decimal128:
    return Decimal128(str(at.replace(tzinfo=datetime.UTC).timestamp()))


# How other programs and people write the numbers, times and truth values of documents.
HOW = {
    "doubles": (float, lambda at: [at, at], float),
    "decimals": (lambda number: Decimal128(str(number)), _seconds, int),
    "texts": (" {} ".format, "{}Z".format, lambda truth: str(truth).lower()),
}


def written(value: object, how: str) -> object:
    """Return (a part of) a document with all its numbers, times and truth values written otherwise."""
    number, time, truth = HOW[how]
    if isinstance(value, dict):
        return {key: written(each, how) for key, each in value.items()}
    if isinstance(value, list):
        return [written(each, how) for each in value]
    if isinstance(value, bool):
        return truth(value)
    if isinstance(value, int | float):
        return number(value)
    return time(value) if isinstance(value, datetime.datetime) else value


class Experiment:
    """Three sites, lngs, midway and tegner, and one without data, control, from which others are relayed.

    Parameters
    ----------
    folder : Path
        Configuration and work directories.
    sites : SshSites
    uri, name : str
        Of the database.
    """

    def __init__(self, folder: Path, sites, uri: str, name: str):
        self.folder, self.sites, self.uri, self.name = folder, sites, uri, name
        for site in ("lngs", "midway", "tegner"):
            for kind in ("raw", "processed"):
                (sites[site].root / kind).mkdir(exist_ok=True)
        self.site("lngs", origin=True, roots=["raw"])
        self.site(
            "midway", pull_from=["lngs"], push_to=["tegner"], processed={"version": "mini_v1", "cores": 1}
        )
        self.site("tegner", pull_from=["midway", "lngs"], processed={"version": "mini_v1", "make": False})
        self.write(
            "sites/control.yaml", {"host": "control", "roots": {"raw": "/nowhere"}, **self._work("control")}
        )

    def site(self, name: str, *, roots=("raw", "processed"), method: str = "stream", **keys) -> None:
        """Write a site's file."""
        access = {"method": method, "host": name, "ssh_config": str(self.sites.ssh_config), "timeout": 60}
        folders = {kind: str(self.sites[name].root / kind) for kind in roots}
        mark(name, folders)
        document = {"host": HOSTS[name], "access": access, "roots": folders}
        self.write(f"sites/{name}.yaml", document | self._work(name) | keys)

    def _work(self, name: str) -> dict:
        return {"work_dir": str(self.folder / "work" / name)}

    def write(self, path: str, document: dict) -> Path:
        """Write a YAML file below the folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(document))
        return file

    def work(self, target: str = "", site: str = "midway") -> Path:
        """A path in a site's work directory."""
        return self.folder / "work" / site / target

    def raw(self, site: str, run: str = "160315_1432") -> Path:
        """Where a site keeps a raw dataset."""
        return self.sites[site].root / "raw" / run

    def add_run(
        self, runs, name="160315_1432", *, kind="tpc", events=8, events_per_file=4, **document
    ) -> str:
        """Simulate a run at lngs and have the database (collection `runs`) know it; the run's name."""
        detector = "muon_veto" if kind == "muon_veto" else "tpc"
        run = name + SUFFIXES[detector]
        number = int(name[-4:])
        raw = self.raw("lngs", run)
        simulate_run(
            raw, name, kind=kind, number=number, events=events, events_per_file=events_per_file, seed=number
        )
        made = run_document(
            name,
            kind=kind,
            number=number,
            events=events,
            events_per_file=events_per_file,
            locations={HOSTS["lngs"]: str(raw)},
        )
        runs.insert_one(made | document)
        return run

    def command(self, *words: str, site: str = "midway", **config) -> list[str]:
        """The command line, as a profile would complete it."""
        rundb = {"uri": self.uri, "database": self.name, "timeout": 3}
        settings = {
            "site": site,
            "sites_dir": str(self.folder / "sites"),
            "rundb": rundb,
            "pause": 0,
        } | config
        file = self.write(f"{site}.config.yaml", settings)
        options = ["--cores", "2", "--configfile", str(file), "--rerun-triggers", "mtime", "--keep-going"]
        options += ["--rerun-incomplete", "--nolock", "--drop-metadata", "--quiet", "host", "reason"]
        return [sys.executable, "-m", "snakemake", *options, "--", *words] if words else []

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of the command; nothing of the user's."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # A Snakemake that is killed leaves a folder behind where temporary files are: beside ours, which is
        # compared before and after what may change nothing.
        temporary = self.folder.with_name(f"{self.folder.name}-tmp")
        temporary.mkdir(exist_ok=True)
        own = {"PATH": path, "XDG_CONFIG_HOME": str(self.folder / "xdg"), "TMPDIR": str(temporary)}
        return os.environ | own | more

    def start(self, *words: str, site: str = "midway", python_path: str = "", **config) -> subprocess.Popen:
        """Start snakemake; its output goes to one stream, and it finds modules in `python_path` first."""
        return self.program(self.command(*words, site=site, **config), python_path)

    def program(self, command: list[str], python_path: str = "") -> subprocess.Popen:
        """Start a program as `start` does."""
        known = os.environ.get("PYTHONPATH")
        paths = os.pathsep.join(path for path in (python_path, known) if path)
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment(**({"PYTHONPATH": paths} if paths else {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @contextlib.contextmanager
    def held_up(self, gate: Gate, *words: str, **config) -> Iterator[tuple[subprocess.Popen, int]]:
        """A workflow that stands at a gate, and the id of the process that stands there; then it is ended."""
        process = self.start(*words, python_path=str(gate.folder), **config)
        try:
            yield process, gate.wait(process)
        finally:
            gate.open()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            self.wait_until_gone()

    def wait_until_gone(self, *others: int) -> None:
        """Wait until nothing of a killed workflow runs, nor these processes of it."""
        deadline = time.monotonic() + 120
        while self._jobs() or any(map(runs, others)):
            assert time.monotonic() < deadline, self._jobs()
            time.sleep(0.05)

    def _jobs(self) -> list[str]:
        """Commands of the jobs that run."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if ".snakemake/scripts" in words and str(self.folder) in words:
                    found.append(words)
        return found

    def snakemake(self, *words: str, site: str = "midway", **config) -> tuple[int, str]:
        """Run snakemake to its end; the exit code and all it said."""
        process = self.start(*words, site=site, **config)
        said, _ = process.communicate(timeout=300)
        assert "Traceback" not in said, said
        return process.returncode, said


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    seen = processes.status(pid)
    return seen is not None and seen.state != "Z"


def entry(runs, kind: str, host: str, name: str = "160315_1432", detector: str = "tpc") -> dict | None:
    """The entry of a run's document for a copy."""
    document = runs.find_one({"name": name, "detector": detector})
    found = [each for each in document["data"] if (each["type"], each["host"]) == (kind, HOSTS[host])]
    assert len(found) <= 1, found
    return found[0] if found else None
