"""What must hold whatever happened, looked up with pymongo and xxhsum, with nothing of the program itself.

* Of every copy that the database calls good, each byte is there, and is the one that was taken at the origin.
* Every dataset that stands at a site is in a document, or reported as astray.
* Every run has as many good copies as it must have at least.
* Every receipt in a work directory tells the truth, or the database says that its copy has gone since.
* Nobody made a copy twice, and the audit knows of every copy that was made, removed or found bad.
"""

import datetime
import functools
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import needs

PROMISES = ("transferred", "verifying")
RECEIPT = re.compile(
    r"(?P<run>\d{6}_\d{4}(_MV)?)\."
    r"(?P<stage>raw\.done|checksum|raw\.purged|processed\.done|processed\.checksum|processed\.root)"
)
LEFTOVER = re.compile(r"\..*\.part-")
TRASH, QUARANTINE = ".caxflow-trash", ".caxflow-quarantine"


@dataclass
class Site:
    """Where a site keeps what, as this machine sees it; it may have several work directories, or none."""

    host: str
    roots: dict[str, Path]
    work: tuple[Path, ...] = ()


def sums(place: Path) -> dict[str, str]:
    """Digests by path of a directory's files, or of one file, as xxhsum computes them."""
    if place.is_file():
        return {place.name: _xxhsum([place.name], place.parent)[0]}
    paths = sorted(str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir())
    return dict(zip(paths, _xxhsum(paths, place), strict=True)) if paths else {}


def _xxhsum(paths: list[str], folder: Path) -> list[str]:
    done = subprocess.run(
        [needs.tool("xxhsum"), "-H2", "--", *paths], cwd=folder, capture_output=True, text=True, check=True
    )
    return [line.split()[0] for line in done.stdout.splitlines()]


def digest_of(files: list[list]) -> str:
    """The digest that stands for a manifest: over ``digest size path NUL`` of each file, sorted by path."""
    return _digest_of(tuple(map(tuple, files)))


@functools.cache
def _digest_of(files: tuple) -> str:
    records = b"".join(
        f"{digest} {size} ".encode() + path.encode() + b"\0"
        for path, size, digest in sorted(files, key=lambda file: file[0].encode())
    )
    done = subprocess.run(["xxhsum", "-H2", "-"], input=records, capture_output=True, check=True)
    return f"xxh128:{done.stdout.split()[0].decode()}"


class Invariants:
    """An independent look at sites and database.

    Parameters
    ----------
    database : pymongo.database.Database
    sites : dict of str to Site
    truth : dict of str to dict
        By run, what its raw dataset is: `sums` of the origin, taken before anything began.
    """

    def __init__(self, database, sites: dict[str, Site], truth: dict[str, dict[str, str]]):
        self.database, self.sites, self.truth = database, sites, truth

    def check(
        self, *, copies: int = 1, strays: frozenset[str] | set[str] = frozenset(), done: bool = False
    ) -> None:
        """See that all holds.

        Parameters
        ----------
        copies : int
            So many good raw copies of each run, at least.
        strays : set of str
            Paths that were reported as astray.
        done : bool
            Whether nothing is under way: then nothing is half done, either.
        """
        wrong = [*self._entries(), *self._unknown(strays), *self.lost(copies), *self._lies(), *self._twice()]
        wrong += [*self._unfinished(), *self._unaudited()] if done else []
        assert not wrong, "\n".join(["what does not hold:", *wrong])

    def _documents(self):
        for document in self.database["runs_new"].find():
            suffix = "_MV" if document["detector"] == "muon_veto" else ""
            yield document["name"] + suffix, document

    def _known(self):
        """Run, site's name, entry."""
        names = {site.host: name for name, site in self.sites.items()}
        for run, document in self._documents():
            for entry in document["data"]:
                if entry["host"] in names:
                    yield run, names[entry["host"]], entry

    def _entries(self):
        seen = set()
        for run, site, entry in self._known():
            what = f"{run}: {entry['type']} at {site}"
            key = (run, site, entry["type"], entry.get("pax_version"))
            if key in seen:
                yield f"{what} has two entries"
            seen.add(key)
            if entry["status"] not in PROMISES:
                continue
            place = Path(entry["location"])
            if not place.exists():
                yield f"{what} is said to be {entry['status']}, and {place} is not there"
                continue
            found = sums(place)
            if entry["type"] == "raw" and found != self.truth[run]:
                unlike = _unlike(found, self.truth[run])
                yield f"{what} is said to be {entry['status']}, and differs in {unlike}"
            if entry.get("manifest"):
                yield from self._manifest(what, entry, place, found)

    def _manifest(self, what, entry, place, found):
        kept = self.database["caxflow_manifests"].find_one({"_id": entry["manifest"]})
        if kept is None:
            yield f"{what} has a manifest that nobody kept"
            return
        if digest_of(kept["files"]) != entry["manifest"]:
            yield f"{what} has a manifest whose digest is another"
        stated = {path: digest for path, _, digest in kept["files"]}
        if entry["type"] == "processed":
            stated = dict(zip(found, stated.values(), strict=True))
        if stated != found:
            yield f"{what} has a manifest that differs from {place} in {_unlike(found, stated)}"

    def _unknown(self, strays):
        known = set()
        for _, site, entry in self._known():
            note = entry.get("caxflow") or {}
            paths = [entry["location"], *(note.get("moving") or {}).values()]
            paths += [note["left"]["path"]] if "left" in note else []
            known |= {(site, path.rstrip("/")) for path in paths}
        for name, site in self.sites.items():
            for kind, depth in (("raw", 1), ("processed", 2)):
                root = site.roots.get(kind)
                found = root.glob("/".join("*" * depth)) if root else ()
                for path in found:
                    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
                    if not hidden and (name, str(path)) not in known and str(path) not in strays:
                        yield f"{path} is in no document, and not reported"

    def lost(self, copies: int):
        """Runs that have fewer good raw copies than that."""
        whole = dict.fromkeys(self.truth, 0)
        for run, _, entry in self._known():
            good = entry["type"] == "raw" and entry["status"] == "transferred"
            if good and Path(entry["location"]).is_dir():
                whole[run] += sums(Path(entry["location"])) == self.truth[run]
        for run, number in whole.items():
            if number < copies:
                yield f"{run} has {number} good copies left that the database knows"

    def _lies(self):
        for site in self.sites.values():
            for work in site.work:
                for name, about in self.sites.items():
                    folder = work / name
                    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                        match = RECEIPT.fullmatch(path.name)
                        if match:
                            yield from self._lie(path, match["run"], match["stage"], about)

    def _lie(self, path, run, stage, site):
        kind = "processed" if stage.startswith("processed") else "raw"
        if stage == "raw.purged":
            yield from self._purged(path, run, site)
            return
        beside = path.with_name(f"{run}.{kind}.done")
        if not beside.exists():
            if not self._excused(run, kind, site, None):
                yield f"{path} has no receipt of the copy beside it"
            return
        receipt = json.loads(beside.read_text())
        if receipt["run"] != run or receipt["manifest"]["digest"] != digest_of(receipt["manifest"]["files"]):
            yield f"{beside} is about something else"
        if self._excused(run, kind, site, receipt):
            return
        place = Path(receipt["location"])
        stated = {file: digest for file, _, digest in receipt["manifest"]["files"]}
        if stage == "processed.root":
            if path.resolve() != place.resolve() or not place.is_file():
                yield f"{path} points to {path.resolve()}, which is not the file at {place}"
        elif stage.endswith("checksum"):
            folder = place if kind == "raw" else place.parent
            check = ["xxhsum", "--quiet", "--strict", "-c", str(path)]
            done = subprocess.run(check, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                yield f"{path} does not hold: {done.stdout}{done.stderr}"
        elif not place.exists():
            yield f"{path} states a copy, and {place} is not there"
        elif sorted(sums(place).values()) != sorted(stated.values()):
            yield f"{path} states other bytes than those of {place}"
        elif kind == "raw" and stated != self.truth[run]:
            yield f"{path} states other bytes than those of the origin"

    def _excused(self, run, kind, site, receipt) -> bool:
        """Whether the database says that the copy of a receipt goes, went, moved or is bad."""
        document = next(document for each, document in self._documents() if each == run)
        for entry in document["data"]:
            if (entry["type"], entry["host"]) == (kind, site.host):
                going = {"removing", "moving", "suspect"} & set(entry.get("caxflow") or {})
                if going or (receipt and entry["location"].rstrip("/") != receipt["location"].rstrip("/")):
                    return True
        for gone in (document.get("caxflow") or {}).get("gone") or []:
            if (gone["type"], gone["host"]) == (kind, site.host):
                since = receipt and (receipt["entry"].get("since") or receipt["at"])
                if since is None or _time(since) <= gone["at"]:
                    return True
        return False

    def _purged(self, path, run, site):
        receipt = json.loads(path.read_text())
        again = [
            entry
            for each, name, entry in self._known()
            if each == run and self.sites[name] is site and entry["type"] == "raw"
        ]
        if Path(receipt["location"]).exists() and not again:
            yield f"{path} states a removal, and {receipt['location']} is there"
        for witness in receipt["evidence"]:
            if witness["host"] == site.host:
                yield f"{path} rests on the copy that went"

    def _twice(self):
        made: dict[tuple, int] = {}
        for record in self._records():
            key = (record["run"], record["kind"], record["host"], record["pax_version"])
            made[key] = made.get(key, 0) + (record["action"] == "copied" and record["sent"] > 0)
            made[key] -= record["action"] in ("removed", "suspect")
        for key, number in made.items():
            if number > 1:
                yield f"{key} was copied {number} times more often than it went"

    def _records(self):
        """The audit: its collection, and what a change that was killed right after left in a document."""
        found = {each["_id"]: each for each in self.database["caxflow_audit"].find()}
        for _, document in self._documents():
            found |= {each["_id"]: each for each in (document.get("caxflow") or {}).get("audit") or []}
        return found.values()

    def _unaudited(self):
        records = {(each["action"], each["run"], each["kind"], each["host"]) for each in self._records()}
        wanted = set()
        for run, _, entry in self._known():
            note = entry.get("caxflow") or {}
            done = ["copied", "verified"] * (entry["type"] == "raw" and "owner" in note)
            done += ["suspect"] * ("suspect" in note)
            wanted |= {(action, run, entry["type"], entry["host"]) for action in done}
        for run, document in self._documents():
            for gone in (document.get("caxflow") or {}).get("gone") or []:
                wanted.add((gone["why"], run, gone["type"], gone["host"]))
        for action, run, kind, host in sorted(wanted - records):
            yield f"{run}: the audit does not know that its {kind} copy at {host} was {action}"

    def _unfinished(self):
        for run, site, entry in self._known():
            if entry["status"] not in ("transferred", "error"):
                yield f"{run}: {entry['type']} at {site} is still {entry['status']}"
            if left := {"token", "lease", "removing", "moving"} & set(entry.get("caxflow") or {}):
                yield f"{run}: {entry['type']} at {site} still has {sorted(left)}"
        for run, document in self._documents():
            own = document.get("caxflow") or {}
            if own.get("removing") or any(gone.get("trash") for gone in own.get("gone") or []):
                yield f"{run}: something is still being removed"
        for site in self.sites.values():
            for root in site.roots.values():
                for path in root.iterdir():
                    if LEFTOVER.match(path.name) or (path.name == TRASH and any(path.iterdir())):
                        yield f"{path} is left over"
            for work in site.work:
                for path in (work / ".caxflow").rglob("*"):
                    if path.parent.name in ("pending", "underway"):
                        yield f"{path} is left over"


def _unlike(one: dict, other: dict) -> list[str]:
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC).replace(tzinfo=None)


def tree(*folders: Path) -> dict[str, tuple]:
    """Everything below folders: type, size, time of change and, of links, where they point."""
    found = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            status = path.lstat()
            own = str(path.readlink()) if path.is_symlink() else None
            found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino, own)
    return found
