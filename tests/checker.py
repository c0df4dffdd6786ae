"""What must hold whatever was done and whatever broke, told by a program of its own.

It shares no code with caxflow, and takes none of its words for granted: it reads documents with pymongo and
files with `os`, and compares SHA-256 of all bytes with what it wrote down of the origin before anything
began. A test tells it in `Books` which faults it injected: what is wrong is excused by them alone.

* A row that promises a copy is true: or the test damaged the copy after the row's ``verified``.
* Of each run a whole copy is left that the database knows, unless the test destroyed the last one.
* What belongs to others is as it was.
* Receipts say what rows say.
* A name that appears in a root is whole from the first moment.
* Nothing runs on.
"""

import contextlib
import ctypes
import datetime
import hashlib
import json
import os
import re
import select
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

RUN = re.compile(r"\d{6}_\d{4}(_MV)?")
RECEIPT = re.compile(rf"(?P<run>{RUN.pattern})\.(?P<stage>raw\.done|checksum|raw\.purged)")
PROMISES = ("transferred", "verifying")
HIDDEN = (".caxflow-trash", ".caxflow-quarantine")
Content = dict[str, tuple[int, str]]


def content(place: str | os.PathLike) -> Content | None:
    """Size and SHA-256 by path of what lies at a place; None for nothing, and for a symbolic link."""
    place = Path(place)
    try:
        kind = place.lstat().st_mode
    except OSError:
        return None
    if stat.S_ISREG(kind):
        return {"": _digest(place)}
    if not stat.S_ISDIR(kind):
        return None
    found: Content = {}
    for folder, folders, files in os.walk(place):
        for path in (Path(folder, name) for name in [*files, *folders]):
            if path.is_symlink() or not path.is_dir():
                with contextlib.suppress(FileNotFoundError):
                    found[str(path.relative_to(place))] = _digest(path)
    return found


def _digest(path: Path) -> tuple[int, str]:
    if path.is_symlink():
        return -1, f"-> {path.readlink()}"
    data = path.read_bytes()
    return len(data), hashlib.sha256(data).hexdigest()


def utc() -> datetime.datetime:
    """The time as documents have it: naive UTC."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class Site:
    """Host, roots by kind and work directory of a site."""

    host: str
    roots: dict[str, Path]
    work: Path


@dataclass
class Books:
    """What the test knows by itself: the origin's bytes, others' files, and all that it broke.

    Parameters
    ----------
    origin : dict
        By run, `content` of its raw dataset.
    """

    origin: dict[str, Content]
    # Run, host and the time at which a copy's bytes had been damaged.
    damages: list[tuple[str, str, datetime.datetime]] = field(default_factory=list)
    # Runs whose last whole copy the test destroyed.
    sacrificed: set[str] = field(default_factory=set)
    # Run and host of rows that the test took away, and of copies that it knows to be in no document.
    forgotten: set[tuple[str, str]] = field(default_factory=set)
    # Receipts and the like that the test spoiled.
    spoiled: set[Path] = field(default_factory=set)
    # Places of others, with what is in them.
    foreign: dict[str, Content] = field(default_factory=dict)
    # SHA-256 of each processed file by its manifest's digest, as it was when first seen.
    made: dict[str, str] = field(default_factory=dict)
    # What receipts say of each file, as it was when first seen.
    stated: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def plant(self, path: Path, data: bytes = b"of somebody else") -> None:
        """Write a file that no command may touch."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.foreign[str(path)] = content(path)

    def damaged(self, run: str, host: str) -> None:
        """Write down that a copy is not what it was, once that has been done."""
        self.damages.append((run, host, utc()))

    def excuses(self, run: str, host: str, verified: datetime.datetime | None) -> bool:
        """Whether the test damaged the copy, and nobody has claimed to have read it since."""
        times = [at for each, where, at in self.damages if (each, where) == (run, host)]
        return bool(times) and (verified is None or verified <= max(times))


class Checker:
    """An independent look at sites and database.

    Parameters
    ----------
    database : pymongo.database.Database
    sites : dict of str to Site
    books : Books
    """

    def __init__(self, database, sites: dict[str, Site], books: Books):
        self.database, self.sites, self.books = database, sites, books
        self.names = {site.host: name for name, site in sites.items()}

    def check(self, *, calm: bool = False, more: Iterable[str] = ()) -> None:
        """See that all holds.

        Parameters
        ----------
        calm : bool
            Whether every copy was read again since the last fault, and every site has had a call: then no
            fault excuses a row or a receipt any more.
        more : iterable of str
            What else was found.
        """
        wrong = [*self.rows(calm), *self.lost(calm), *self.foreign(), *self.receipts(calm)]
        wrong += [*self.removed(), *more]
        assert not wrong, "\n".join(["what does not hold:", *wrong])

    def documents(self) -> Iterator[tuple[str, dict]]:
        """Run and document."""
        for document in self.database["runs_new"].find():
            yield document["name"] + ("_MV" if document["detector"] == "muon_veto" else ""), document

    def entries(self) -> Iterator[tuple[str, dict]]:
        """Run and entry of each copy at one of the sites."""
        for run, document in self.documents():
            for entry in document["data"]:
                if entry["host"] in self.names:
                    yield run, entry

    def is_whole(self, run: str, place: str | os.PathLike) -> bool:
        """Whether a raw dataset has all bytes of the origin, and no others."""
        return content(place) == self.books.origin[run]

    # Rows

    def rows(self, calm: bool) -> Iterator[str]:
        """What is wrong with rows that promise a copy."""
        seen: dict[tuple, str] = {}
        places: dict[tuple[int, int], str] = {}
        for run, entry in self.entries():
            what = f"{run}: {entry['type']} at {self.names[entry['host']]}, {entry['status']}"
            key = (run, entry["type"], entry["host"], entry.get("pax_version"))
            if key in seen:
                yield f"{what} has a second row"
            seen[key] = what
            if entry["status"] not in PROMISES:
                continue
            if wrong := self._false(run, entry):
                note = entry.get("caxflow") or {}
                if calm or not self.books.excuses(run, entry["host"], note.get("verified")):
                    yield f"{what}, verified {note.get('verified')}: {entry['location']} {wrong}"
                continue
            status = os.lstat(entry["location"])
            same = (status.st_dev, status.st_ino)
            if same in places:
                yield f"{what} is the same as {places[same]}"
            places[same] = what

    def _false(self, run: str, entry: dict) -> str:
        """How what lies at a row's place differs from what it must be."""
        found = content(entry["location"])
        if found is None:
            return "is a link" if Path(entry["location"]).is_symlink() else "is not there"
        if entry["type"] == "raw":
            if found == self.books.origin[run]:
                return ""
            return f"differs from the origin in {_unlike(found, self.books.origin[run])}"
        if entry["type"] != "processed" or not entry.get("manifest"):
            return ""
        (_, digest) = found.get("", (0, "a folder"))
        first = self.books.made.setdefault(entry["manifest"], digest)
        return "" if first == digest else "has other bytes than when its row was first seen"

    # Loss

    def whole(self, run: str) -> list[str]:
        """Places of whole copies that can be had again: where rows say, or where an action has them."""
        places = set()
        for each, entry in self.entries():
            if each == run and entry["type"] == "raw":
                note = entry.get("caxflow") or {}
                places |= {entry["location"].rstrip("/"), *(note.get("moving") or {}).values()}
                places |= {(note.get("removing") or {}).get("trash"), (note.get("left") or {}).get("path")}
        for gone in (dict(self.documents())[run].get("caxflow") or {}).get("gone") or []:
            places.add(gone.get("trash"))
        return sorted(place for place in places if place and self.is_whole(run, place))

    def lost(self, calm: bool) -> Iterator[str]:
        """Runs of which no whole copy is left; in the calm none that a row promises."""
        for run in sorted(self.books.origin.keys() - self.books.sacrificed):
            places = self.whole(run)
            if not places and not self._forgotten_but_there(run, calm):
                yield f"{run}: NO WHOLE COPY IS LEFT that the database knows"
            elif calm and not any(
                each == run
                and entry["type"] == "raw"
                and entry["status"] == "transferred"
                and entry["location"].rstrip("/") in places
                for each, entry in self.entries()
            ):
                yield f"{run}: of its whole copies {places} no row says that it is good"

    def _forgotten_but_there(self, run: str, calm: bool) -> bool:
        """Whether a whole copy lies at a site whose row the test took away."""
        hosts = {host for each, host in self.books.forgotten if each == run}
        roots = [] if calm else [site.roots["raw"] for site in self.sites.values() if site.host in hosts]
        return any(self.is_whole(run, path) for root in roots for path in root.rglob(run))

    def unknown(self, listed: Iterable[str]) -> Iterator[str]:
        """What lies under a run's name in a root, hidden too, in no row, and is not `listed` as a stray."""
        known = set(listed) | set(self.books.foreign)
        for _, entry in self.entries():
            note = entry.get("caxflow") or {}
            known |= {entry["location"].rstrip("/"), *(note.get("moving") or {}).values()}
            known |= {(note.get("left") or {}).get("path")}
        for site in self.sites.values():
            for path in [*site.roots["raw"].glob("*"), *site.roots["raw"].glob("[!.]*/*")]:
                if path.parent.name in self.books.origin or not RUN.match(path.name.removeprefix(".")):
                    continue
                if not {str(path), str(path.parent)} & known:
                    yield f"{path} is in no row, and not told as a stray"

    def removed(self) -> Iterator[str]:
        """Removals that the audit states, of what is there still, in no row."""
        rows = {(run, entry["type"], entry["host"]) for run, entry in self.entries()}
        for record in self.database["caxflow_audit"].find({"action": "removed", "kind": "raw"}):
            run, host = record["run"], record["host"]
            if (run, "raw", host) in rows or (run, host) in self.books.forgotten:
                continue
            if self.is_whole(run, record["entry"]["location"]):
                yield f"{record['entry']['location']} is there, and the audit says that it was removed"

    # What is others'

    def foreign(self) -> Iterator[str]:
        """What of others has been touched."""
        for path, was in self.books.foreign.items():
            found = content(path)
            if found != was:
                yield f"{path} is of somebody else, and was {'changed' if found else 'taken away'}"

    # Receipts

    def receipts(self, calm: bool) -> Iterator[str]:
        """Receipts that say something else than rows, or than the origin's bytes."""
        documents = dict(self.documents())
        for site in self.sites.values():
            for name, about in self.sites.items():
                folder = site.work / name
                for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                    match = RECEIPT.fullmatch(path.name)
                    if match and path not in self.books.spoiled:
                        found = self._receipt(path, match["run"], match["stage"], about, documents, calm)
                        yield from (f"{path}: {each}" for each in found)

    def _receipt(self, path, run, stage, about, documents, calm) -> Iterator[str]:
        text = path.read_text()
        beside = path.with_name(f"{run}.raw.done")
        if stage == "checksum":
            digests = {
                file: digest for digest, _, file in (line.partition("  ") for line in text.splitlines())
            }
            if digests.keys() != self.books.origin[run].keys():
                yield f"it names other files than the origin has: {sorted(digests)}"
            if not beside.exists() or beside in self.books.spoiled:
                return
            receipt = json.loads(beside.read_text())
            if digests != {file: digest for file, _, digest in receipt["manifest"]["files"]}:
                yield "it has other digests than the receipt beside it"
        else:
            receipt = json.loads(text)
        if receipt["run"] != run or receipt["site"] != path.parent.name:
            yield f"it is about {receipt['site']}/{receipt['run']}"
        rows = [
            entry for entry in documents[run]["data"] if (entry["type"], entry["host"]) == ("raw", about.host)
        ]
        if stage == "raw.purged":
            hosts = {each["host"] for each in receipt["evidence"]}
            if not hosts or about.host in hosts:
                yield f"it rests on {sorted(hosts)}"
            if not rows and self.is_whole(run, receipt["location"]):
                yield f"it states a removal, and {receipt['location']} is there, in no row"
            return
        sizes = {file: size for file, size, _ in receipt["manifest"]["files"]}
        if sizes != {file: size for file, (size, _) in self.books.origin[run].items()}:
            yield "its manifest is not that of the origin"
        for file, _, digest in receipt["manifest"]["files"]:
            key = (receipt["manifest"]["algorithm"], run, file)
            if self.books.stated.setdefault(key, digest) != digest:
                yield f"it has another digest of {file} than other receipts"
        calm = calm and not self._is_passed_by(path.parent.parent, beside.name)
        if (run, about.host) in self.books.forgotten and not calm:
            return
        if not rows:
            if calm or not _gone_since(documents[run], about.host, receipt):
                yield "the database has no such copy"
        elif rows[0]["status"] in PROMISES and not {"removing", "moving"} & set(rows[0].get("caxflow") or {}):
            place = rows[0]["location"].rstrip("/")
            if calm and place != receipt["location"].rstrip("/"):
                yield f"it says {receipt['location']}, and the row {place}"

    def _is_passed_by(self, work: Path, name: str) -> bool:
        """Whether a receipt of a run is damaged in a work directory: each call there says so, and goes on."""
        return any(
            (each.parent.parent, each.name) == (work, name) and _is_cut(each) for each in self.books.spoiled
        )


def _is_cut(receipt: Path) -> bool:
    try:
        json.loads(receipt.read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def _gone_since(document: dict, host: str, receipt: dict) -> bool:
    at = datetime.datetime.fromisoformat(receipt["at"]).astimezone(datetime.UTC).replace(tzinfo=None)
    return any(
        (gone["type"], gone["host"]) == ("raw", host) and gone["at"] >= at
        for gone in (document.get("caxflow") or {}).get("gone") or []
    )


def _unlike(one: Content, other: Content) -> list[str]:
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


# Processes


def running(word: str, *except_for: int) -> dict[int, str]:
    """Processes whose environment has a word, and have not ended; their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), *except_for):
            continue
        with contextlib.suppress(OSError):
            if word.encode() in (entry / "environ").read_bytes() and _status(entry)[0] not in "ZX":
                found[int(entry.name)] = _command(entry)
    return found


def below(*parents: int) -> dict[int, str]:
    """All processes that others have led to, with their command lines."""
    children: dict[int, list[Path]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = _status(entry)[:2]
                if state not in "ZX":
                    children.setdefault(int(parent), []).append(entry)
    found: dict[int, str] = {}
    todo = list(parents)
    while todo:
        for child in children.get(todo.pop(), []):
            todo.append(int(child.name))
            with contextlib.suppress(OSError):
                found[int(child.name)] = _command(child)
    return found


def _status(entry: Path) -> list[str]:
    """State, parent and the rest."""
    return (entry / "stat").read_text().rpartition(")")[2].split()


def _command(entry: Path) -> str:
    return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:160]


def left_running(look: Callable[[], dict[int, str]], seconds: float = 30) -> Iterator[str]:
    """What of some processes still runs after that time."""
    deadline = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid, command in found.items():
        yield f"process {pid} runs on: {command}"


# Names that appear

IN_CREATE, IN_MOVED_TO, IN_ONLYDIR, IN_ISDIR = 0x100, 0x80, 0x01000000, 0x40000000


class Watcher:
    """Looks at each run's name that appears in a folder, at once: it must be whole, and come by a rename.

    Parameters
    ----------
    folders : dict of Path to str
        Folders of raw datasets, and the host of each.
    books : Books
    """

    def __init__(self, folders: dict[Path, str], books: Books):
        self.books, self.seen = books, 0
        self._odd: list[tuple[str, str, str, int]] = []
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watched: dict[int, tuple[Path, str]] = {}
        for folder, host in folders.items():
            mask = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR
            number = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), mask)
            assert number >= 0, os.strerror(ctypes.get_errno())
            self._watched[number] = folder, host
        self._ending, self._end = os.pipe()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._handle, self._ending], [], [])
            if self._handle in ready:
                self._take(os.read(self._handle, 1 << 16))
            elif self._ending in ready:
                return

    def _take(self, events: bytes) -> None:
        at = 0
        while at < len(events):
            number, mask, _, length = struct.unpack_from("iIII", events, at)
            name = events[at + 16 : at + 16 + length].rstrip(b"\0").decode()
            at += 16 + length
            folder, host = self._watched.get(number, (None, ""))
            match = RUN.match(name)
            if folder and match and match[0] in self.books.origin:
                self._look(folder / name, match[0], host, mask)

    def _look(self, path: Path, run: str, host: str, mask: int) -> None:
        try:
            status = path.lstat()
            found = content(path)
        except OSError:
            return  # it went while it was looked at
        self.seen += 1
        if found is not None and found != self.books.origin[run] and self._stays(path, status.st_ino):
            how = "renamed" if mask & IN_MOVED_TO else "created"
            text = f"{path} appeared ({how}) without {_unlike(found, self.books.origin[run])}"
            self._odd.append((text, run, host, status.st_ino))

    def _stays(self, path: Path, inode: int) -> bool:
        """Whether it is not being taken away: then it was less than whole since it went."""
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            try:
                if path.lstat().st_ino != inode:
                    return False
            except OSError:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> list[str]:
        """End the watch; names that were half made when they appeared."""
        os.write(self._end, b".")
        self._thread.join()
        for handle in (self._handle, self._ending, self._end):
            os.close(handle)
        damaged = {(run, host) for run, host, _ in self.books.damages}
        return [
            text for text, run, host, _ in self._odd if (run, host) not in damaged and not self._own(text)
        ]

    def _own(self, text: str) -> bool:
        place = Path(text.partition(" appeared ")[0])
        return any(place == Path(each) or place in Path(each).parents for each in self.books.foreign)
