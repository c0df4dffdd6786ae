"""A throw-away clone, its profiles linked as `make install` does, whose sites are folders of this machine."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from caxflow import install
from caxflow.simulate.document import run_document
from copies import mark

ROOT = Path(__file__).resolve().parents[1]
HOSTS = {
    "lngs": "xe1t-datamanager",
    "midway": "midway-login1",
    "tegner": "tegner-login-1",
    "nikhef": "nikhef-bongo",
}


@dataclass
class Said:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def text(self):
        return self.out + self.err

    @property
    def lines(self):
        """What caxflow itself said."""
        return [line for line in self.text.splitlines() if line.startswith("caxflow: ")]

    @property
    def rules(self):
        """Rules that would run, and how often, as the last line of a preview says."""
        found = re.search(r"^(\d+) jobs?: (.*)$", self.out, re.MULTILINE)
        if found is None:
            return {}
        rules = {rule: int(count) for count, rule in (item.split() for item in found[2].split(", "))}
        assert sum(rules.values()) == int(found[1])
        return rules

    def refused(self):
        """The one line with which the command ended; nothing else was said that looks like an error."""
        assert self.status != 0, self.text
        assert "Traceback" not in self.text, self.text
        assert not re.search(r"\w+(Error|Exception)\b", self.text), self.text
        (line,) = self.lines
        assert " -> " in line
        return line


class Clone:
    """A copy of the repository's workflow, configuration and profiles."""

    def __init__(self, folder: Path, uri: str, name: str):
        self.folder, self.home, self.data = folder / "clone", folder / "home", folder / "data"
        for part in ("workflow", "config", "profiles"):
            shutil.copytree(ROOT / part, self.folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (self.folder / "config/sites").glob("*.yaml"):
            self.change(path, self._local, path.stem)
        self.configure(rundb={"uri": uri, "database": name, "timeout": 3})
        done, refused = install.link_profiles(self.folder / "profiles", self.home / ".config/snakemake")
        assert done
        assert not refused

    def change(self, path, function, *arguments):
        """Pass a YAML file through a function."""
        document = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(function(document, *arguments)))

    def configure(self, **keys):
        """Change keys of config.yaml."""
        self.change(self.folder / "config/config.yaml", lambda document: document | keys)

    def site(self, name, **keys):
        """Change keys of a site file; None takes one out."""
        path = self.folder / f"config/sites/{name}.yaml"
        self.change(path, lambda old: {k: v for k, v in (old | keys).items() if v is not None})

    def _local(self, document, name):
        document["access"] = {"method": "local"}
        document["roots"] = {kind: str(self.data / name / kind) for kind in document["roots"]}
        mark(name, document["roots"])
        document["work_dir"] = str(self.work(name))
        if "processed" in document:
            document["processed"] = {"version": "mini_v1", "make": name != "tegner", "cores": 1}
        return document

    def work(self, site="midway"):
        """Work directory of a site."""
        return self.data / site / "work"

    def environment(self, **more):
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("XDG_", "MONGO", "SNAKEMAKE"))
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return kept | {"HOME": str(self.home), "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"} | more

    def run(self, *words, **environment):
        """Run a command in the clone, to its end."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def snakemake(self, *words, profile="midway", **environment):
        """What a user types at a site."""
        return self.run("snakemake", "--profile", profile, *words, **environment)

    def document(self, name="160315_1432", *, at=("lngs",), kind="tpc", **keys):
        """The document of a run whose raw data are at some sites."""
        suffix = "_MV" if kind == "muon_veto" else ""
        places = {HOSTS[site]: f"{self.data}/{site}/raw/{name}{suffix}" for site in at}
        made = run_document(
            name,
            kind=kind,
            number=7,
            events=8,
            events_per_file=4,
            locations=places,
            raw_size_byte=41_234_567_890,
        )
        return made | keys


def snapshot(*folders):
    """Names of all folders; names, sizes and times of all files; but those of Snakemake itself."""
    return {
        str(path): None if path.is_dir() else (path.lstat().st_size, path.lstat().st_mtime_ns)
        for folder in folders
        for path in Path(folder).rglob("*")
        if not {".snakemake", ".cache"} & set(path.parts)
    }


def changed(before, after):
    """Names in which two snapshots differ."""
    return {name for name in before.keys() | after.keys() if before.get(name, 0) != after.get(name, 0)}


def contents(database):
    """Every document of every collection."""
    return {name: list(database[name].find().sort("_id", 1)) for name in database.list_collection_names()}
