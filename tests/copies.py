"""Copies of a run at three sites that this machine reaches itself, and the runs database that knows them."""

import datetime
from pathlib import Path

import pytest
import yaml

from caxflow import config
from caxflow.copies import roots
from caxflow.copies.subject import Subject
from caxflow.files import manifest, marker
from caxflow.rundb import Key, RunsDB
from caxflow.targets import Run
from caxflow.transfer import Place, renaming
from caxrows import checksum

SITES = {"lngs": "xe1t-datamanager", "midway": "midway-login1", "tegner": "tegner-login-1"}
FILES = {"a.zip": b"first" * 1000, "b.zip": b"second" * 1000, "log/eventbuilder.log": b"built"}


def now():
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)


# That a copy was read a while after it was written, longer than any question takes, costs a test no time.
A_WHILE = datetime.timedelta(seconds=1)


def just_read():
    """When something was read that had been written a while before."""
    return _this_moment() + A_WHILE


def _this_moment():
    """Not before what was written just now, to the millisecond."""
    time = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(milliseconds=1)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


_READ = -A_WHILE / datetime.timedelta(days=1)


def mark(site: str, folders: dict[str, str]) -> None:
    """Make the data roots of a site of this machine, with their markers."""
    for kind, root in folders.items():
        Path(root).mkdir(parents=True, exist_ok=True)
        roots.make(Place(site=site), root, site, kind)


def names(folder: Path) -> list[str]:
    """Names of what is in a data root, but for its marker."""
    return sorted(path.name for path in folder.iterdir() if path.name != marker.NAME)


class Killed(BaseException):
    """Ends what is under way as a kill does."""


def two_names(monkeypatch, attempt):
    """Kill an attempt right after a link, on a file system that has no other way to rename a file safely."""
    monkeypatch.setattr(renaming, "_renameat2", lambda: None)

    def killed_there(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(renaming, "_drop", killed_there)
        with pytest.raises(Killed):
            attempt()


class Copies:
    """The runs database and the sites' folders, below one folder of the test.

    Parameters
    ----------
    folder : Path
    uri, name : str
        Of the database.
    """

    def __init__(self, folder: Path, uri: str, name: str):
        self.folder, self.uri, self.name = folder, uri, name
        (folder / "config/sites").mkdir(parents=True)
        for site, host in SITES.items():
            document = {"host": host, "origin": site == "lngs"}
            document["roots"] = {
                kind: str(folder / site / kind)
                for kind in ("raw", "processed", "minitrees")
                if kind == "raw" or site != "lngs"
            }
            document["work_dir"] = str(self.work(site))
            if site == "midway":
                document |= {"pull_from": ["lngs"], "push_to": ["tegner"]}
            self.work(site).mkdir(parents=True)
            mark(site, document["roots"])
            (folder / f"config/sites/{site}.yaml").write_text(yaml.safe_dump(document))
        rundb = {"uri": uri, "database": name, "timeout": 5}
        main = {"rundb": rundb, "processors": {"mini_v1": {"kind": "mini"}}, "pause": 0, "kinds": ["raw"]}
        (folder / "config/config.yaml").write_text(yaml.safe_dump(main))
        self._open: list[RunsDB] = []
        self.database = self.connect(self.settings())

    def profile(self, site: str = "midway", **overrides) -> str:
        """A profile, as ``--profile`` takes it."""
        folder = self.folder / "profiles" / site
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "caxflow.yaml").write_text(yaml.safe_dump(self.overrides(site, **overrides)))
        (folder / "config.yaml").write_text(yaml.safe_dump({"configfile": "caxflow.yaml"}))
        return str(folder)

    def overrides(self, site: str = "midway", **more) -> dict:
        """What a profile says over ``config.yaml``."""
        main = yaml.safe_load((self.folder / "config/config.yaml").read_text())
        return main | {"site": site, "sites_dir": str(self.folder / "config/sites")} | more

    def connect(self, settings: config.Settings) -> RunsDB:
        """The runs database; closed with this."""
        self._open.append(RunsDB(settings.rundb, dry=settings.dry))
        return self._open[-1]

    def __enter__(self) -> "Copies":
        return self

    def __exit__(self, *_) -> None:
        for database in self._open:
            database.close()

    def settings(self, site: str = "midway", **overrides) -> config.Settings:
        """The configuration of a site's workflow."""
        return config.load({"site": site} | overrides, self.folder / "config")

    def work(self, site: str = "midway", target: str = "") -> Path:
        """A path in a site's work directory."""
        return self.folder / "work" / site / target

    def path(self, site: str, run: str = "160315_1432") -> Path:
        """Where a site keeps the raw copy."""
        return self.folder / site / "raw" / run

    def add(self, run: str = "160315_1432", sites=tuple(SITES), verified_days_ago=_READ, **keys) -> dict:
        """Make copies of a run at sites, and the document that knows them; the document.

        With ``verified_days_ago=0`` they were read at this moment: what happens to them now came after it.
        """
        entries = []
        for site in sites:
            for name, content in FILES.items():
                file = self.path(site, run) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            entries.append(self.entry(site, run, verified_days_ago))
        parsed = Run.parse(run)
        start = datetime.datetime.strptime(parsed.name, "%y%m%d_%H%M")
        document = {
            "name": parsed.name,
            "detector": parsed.detector,
            "number": int(parsed.name[-4:]),
            "start": start,
            "end": start + datetime.timedelta(hours=1),
            "raw_size_byte": entries[0]["size"] if entries else 0,
            "data": entries,
        } | keys
        self.database.runs.insert_one(document)
        return document

    def entry(self, site: str, run: str, verified_days_ago: float | None) -> dict:
        """What the database says of a copy."""
        taken = manifest.take(str(self.path(site, run)))
        self.database.keep_manifest(taken.to_json())
        note = {"owner": "midway"}
        if verified_days_ago is not None:
            note["verified"] = _this_moment() - datetime.timedelta(days=verified_days_ago)
        return {
            "type": "raw",
            "host": SITES[site],
            "status": "transferred",
            "location": str(self.path(site, run)),
            "checksum": checksum(self.path(site, run)),
            "manifest": taken.digest,
            "size": taken.size,
            "creation_time": now(),
            "caxflow": note,
        }

    def keep_processed(self, version: str = "mini_v1", site: str = "midway") -> str:
        """Have a site keep processed files; the version that documents carry."""
        path = self.folder / f"config/sites/{site}.yaml"
        path.write_text(path.read_text() + f"processed: {{version: {version}}}\n")
        settings = self.settings()
        return settings.processor(settings.sites[site]).pax_version

    def add_made(self, kind: str, version: str, run: str = "160315_1432", **keys) -> list[Path]:
        """Make a processed file, or minitrees, of a version at midway, and tell the document; the files."""
        folder = self.folder / "midway" / kind / f"pax_{version}"
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"{run}.root"] if kind == "processed" else [f"{run}_Basics.root", f"{run}_Extended.root"]
        if kind == "minitrees":
            folder /= run
            folder.mkdir()
            for name in names:
                (folder.parent / name).symlink_to(f"{run}/{name}")
        files = [folder / name for name in names]
        for file in files:
            file.write_text(f"{version} {file.name}")
        taken = [manifest.take(str(file)) for file in files]
        together = manifest.Manifest(taken[0].algorithm, tuple(each.entries[0] for each in taken))
        self.database.keep_manifest(together.to_json())
        entry = {"type": kind, "host": SITES["midway"], "status": "transferred", "pax_version": version}
        entry["location"] = str(files[0] if kind == "processed" else folder)
        entry |= {"manifest": together.digest, "size": together.size}
        entry["checksum"] = checksum(files[0]) if kind == "processed" else None
        entry |= {"creation_time": now(), "caxflow": {"owner": "midway", "verified": just_read()}} | keys
        name = Run.parse(run)
        self.database.runs.update_one(
            {"name": name.name, "detector": name.detector},
            {"$push": {"data": entry}, "$inc": {"caxflow.revision": 1}},
        )
        return files

    def made(self, kind: str, run: str = "160315_1432") -> dict[str, dict]:
        """Entries of what was made at midway, by version."""
        data = self.database.get(Run.parse(run))["data"]
        return {each["pax_version"]: each for each in data if each["type"] == kind}

    def subject(
        self,
        site: str = "midway",
        run: str = "160315_1432",
        here: str = "midway",
        *,
        kind: str = "raw",
        version: str | None = None,
        **overrides,
    ) -> Subject:
        """A copy that something is to be done to; what is said is kept in ``said``."""
        settings = self.settings(here, **overrides)
        self.said: list[str] = []
        return Subject(
            settings=settings,
            database=self.connect(settings),
            site=settings.sites[site],
            run=Run.parse(run),
            key=Key(kind, SITES[site], version),
            work_dir=self.work(here),
            say=self.said.append,
        )

    def row(self, site: str, run: str = "160315_1432") -> dict | None:
        """The entry of a site's copy."""
        data = self.database.get(Run.parse(run))["data"]
        found = [each for each in data if (each["type"], each["host"]) == ("raw", SITES[site])]
        assert len(found) <= 1, found
        return found[0] if found else None

    def note(self, site: str, run: str = "160315_1432", **changes) -> None:
        """Change keys of an entry's note."""
        document = self.database.get(Run.parse(run))
        for each in document["data"]:
            if each["host"] == SITES[site]:
                each["caxflow"].update(changes)
        self.database.runs.update_one({"_id": document["_id"]}, {"$set": {"data": document["data"]}})

    def set(self, site: str, run: str = "160315_1432", **changes) -> None:
        """Change keys of an entry."""
        document = self.database.get(Run.parse(run))
        for each in document["data"]:
            if each["host"] == SITES[site]:
                each.update(changes)
        self.database.runs.update_one({"_id": document["_id"]}, {"$set": {"data": document["data"]}})

    def spoil(self, site: str, run: str = "160315_1432") -> None:
        """Change a byte of a copy."""
        file = self.path(site, run) / "a.zip"
        content = bytearray(file.read_bytes())
        content[100] ^= 1
        file.write_bytes(content)

    def whole(self, site: str, run: str = "160315_1432") -> bool:
        """Whether a site has all bytes of the copy where it belongs."""
        path = self.path(site, run)
        return (
            path.is_dir()
            and {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
            == FILES
        )

    def check(self) -> None:
        """Whatever happened: what a row promises is there, and at least two sites have every byte."""
        for document in self.database.runs.find():
            run = str(Run(document["name"], document["detector"]))
            for site, host in SITES.items():
                rows = [each for each in document["data"] if (each["type"], each["host"]) == ("raw", host)]
                assert len(rows) <= 1
                if rows and rows[0]["status"] == "transferred":
                    assert self.whole(site, run), f"{site} promises {run}, which is not there"
            assert sum(self.whole(site, run) for site in SITES) >= 2, f"{run} has too few copies left"
