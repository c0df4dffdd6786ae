"""A run at three sites that this machine reaches itself, and calls in processes that may be killed."""

import shutil
from pathlib import Path

import yaml

import invariants
import mortal
from caxflow.simulate import run_document, simulate_run
from copies import SITES, Copies

RUN = "160315_1432"


class Scene:
    """Three sites, a run at one of them, and calls in processes that may be killed."""

    def __init__(self, folder: Path, uri: str, database):
        self.folder, self.database = folder, database
        self.copies = Copies(folder / "scene", uri, database.name)
        self.work = [self.copies.work(site) for site in SITES]
        self.raw = [self.copies.path(site).parent for site in SITES]
        shape = {"kind": "tpc", "number": 1432, "events": 4, "events_per_file": 2}
        simulate_run(self.copies.path("lngs"), RUN, seed=1, **shape)
        self.truth = {RUN: invariants.sums(self.copies.path("lngs"))}
        places = {SITES["lngs"]: str(self.copies.path("lngs"))}
        database["runs_new"].insert_one(run_document(RUN, locations=places, **shape))
        self.rundb: dict = {}
        self.zygote = mortal.Zygote(folder / "scene", "onecall")
        self.configure()

    def configure(self, push_to=("tegner",), **keys):
        """Write what the sites' files and midway's profile say."""
        file = self.copies.folder / "config/sites/midway.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"push_to": list(push_to)}))
        keys |= {"rundb": self.rundb} if self.rundb else {}
        self.profile, self.overrides = self.copies.profile(**keys), self.copies.overrides(**keys)

    def call(self, *words: str, die_at: int | None = None) -> dict:
        """A target for the workflow, or ``caxflow`` and its words."""
        if words[0] == "caxflow":
            return self.zygote.call("command", [*words[1:], "--profile", self.profile], die_at=die_at)
        return self.zygote.call("perform", words[0], self.overrides, die_at=die_at)

    def do(self, *words: str) -> None:
        """A call that must succeed."""
        done = self.call(*words)
        assert done["status"] == 0, done["said"]

    def save(self) -> None:
        """Keep the state of sites and database, for `restore`."""
        names = self.database.list_collection_names()
        self._saved = {name: list(self.database[name].find()) for name in names}
        shutil.rmtree(self.folder / "saved", ignore_errors=True)
        for number, folder in enumerate(self.raw + self.work):
            shutil.copytree(folder, self.folder / "saved" / str(number), symlinks=True)

    def restore_database(self) -> None:
        """Make the database what it was when it was saved."""
        for name in self.database.list_collection_names():
            self.database[name].delete_many({})
            if self._saved.get(name):
                self.database[name].insert_many(self._saved[name])

    def restore(self) -> None:
        """Make all what it was when it was saved."""
        self.restore_database()
        for number, folder in enumerate(self.raw + self.work):
            _empty(folder)
            shutil.copytree(self.folder / "saved" / str(number), folder, symlinks=True, dirs_exist_ok=True)

    def check(self, copies: int, *, done: bool = False, rot: bool = False) -> None:
        """See that all holds, with so many good copies at least; of rot that nobody knows, only that."""
        sites = {
            name: invariants.Site(host, {"raw": root}, (work,))
            for (name, host), root, work in zip(SITES.items(), self.raw, self.work, strict=True)
        }
        seen = invariants.Invariants(self.database, sites, self.truth)
        if rot:
            assert list(seen.lost(copies)) == []
        else:
            seen.check(copies=copies, done=done)

    def close(self) -> None:
        self.zygote.close()
        self.copies.__exit__()


def _empty(folder: Path) -> None:
    """Remove what is in a folder, but for what is mounted there."""
    for path in folder.iterdir():
        if path.is_mount():
            _empty(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
