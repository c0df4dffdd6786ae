"""One transfer from beginning to end: compare, plan, move, check, publish."""

import os
import secrets
import time

from caxflow import threads
from caxflow.errors import CaxflowError, Occupied
from caxflow.files import digests
from caxflow.files.folder import Folder
from caxflow.files.listing import Listing, printable
from caxflow.files.manifest import Manifest
from caxflow.transfer import plan
from caxflow.transfer.crew import Crew
from caxflow.transfer.dataset import Dataset, some
from caxflow.transfer.frontier import Frontier
from caxflow.transfer.pieces import altered
from caxflow.transfer.place import Place
from caxflow.transfer.progress import Copied
from caxflow.transfer.protocol import SMALL
from caxflow.transfer.session import BLOCK
from caxflow.transfer.task import StoppedError, Task, any_remote


class Job(Task):
    """A transfer; parameters as of `caxflow.transfer.copy`."""

    def __init__(
        self,
        source: Place,
        source_path: str,
        destination: Place,
        destination_path: str,
        *,
        expected: Manifest | None,
        extra_algorithms: tuple[str, ...],
        allow_existing: bool,
        root: str | None,
    ):
        super().__init__(source, destination)
        self.source_place, self.source_path = source, os.fspath(source_path)
        self.destination_place = destination
        self.destination_path = os.fspath(destination_path).rstrip("/")
        self.expected, self.extra, self.allow_existing = expected, tuple(extra_algorithms), allow_existing
        self._root = root
        self.dataset = Dataset(source.site, self.source_path, self.destination_path, expected)
        self.rate = min((place.bandwidth for place in self.places if place.bandwidth), default=None)
        self._token = secrets.token_hex(8)
        self.source = self.destination = None
        self.data = ""  # the directory that is written to
        self.algorithm = ""  # the digest that both ends compare
        self.kept: set[int] = set()  # files that are only hashed here, as the destination has them already
        self.adopting = False  # whether that is all there is to do
        self._digests: dict[int, dict[str, str]] = {}
        self._frontier: Frontier | None = None
        self._followed: set[int] = set()
        self._work: list[plan.Piece] = []
        self._crew = Crew(self)
        self._sent = 0
        self._remarks: dict[str, None] = {}
        self._login = 0.3  # seconds that a login takes, or more

    # What movers use

    @property
    def listing(self) -> Listing:
        """The source's files."""
        return self.dataset.listing

    @property
    def names(self) -> list[str]:
        """Of the same files at the destination."""
        return self.dataset.names

    def source_folder(self) -> Folder:
        """Open the folder that the source's files are in, which are reached from here."""
        return self.source.folder(self.listing.root)

    def destination_folder(self) -> Folder:
        """Open the folder that is written to, which is reached from here."""
        return self.destination.folder(self.data)

    def hold_back(self, count: int) -> None:
        """Take note of bytes that go by, and wait as the limits demand of sites whose files are just opened.

        What comes from and goes to others is held back by their connections.
        """
        for place in self.places:
            if not place.remote and (limit := self.limit(place)):
                limit(count)
        self._sign(count, count)

    def read_here(self, count: int) -> None:
        """Wait as the limit demands of a site whose files are just opened, for what is read again."""
        place = self.source_place if self.destination.remote else self.destination_place
        if limit := self.limit(place):
            limit(count)
        self.beat()

    def further(self):
        """A further pair of ends for a mover, or None if it cannot be had: the others go on without."""
        ends = []
        for place in self.places:
            try:
                ends.append(self.open(place, self._sign, needed=False))
            except (CaxflowError, OSError, RuntimeError, MemoryError) as error:
                if self.stopped.is_set():
                    raise StoppedError from None
                known = threads.explained(error)
                self.remark([f"a connection fewer: {getattr(known, 'what', known)}"])
                return None
        return ends

    def joined(self, source, destination) -> bool:
        """Have further ends take part; False where a machine does not see the data."""
        for end, take_part in ((source, self._check_source), (destination, self._join)):
            if not end.remote:
                continue
            try:
                take_part(end)
            except CaxflowError as error:
                if self.stopped.is_set():
                    raise StoppedError from None
                what = f"{end.connection.host} is left out, it does not see the data: {error.what}"
                self.remark([what])
                return False
        return True

    def acknowledged(self, pieces: int, length: int) -> None:
        """Take note of what the far end has written."""
        self.sign(max(length, pieces * SMALL))

    def _check_source(self, end) -> None:
        file = self.listing.files[0]
        path = f"{self.listing.root.rstrip('/')}/{file.path}"
        look = end.call("look", paths=[path])[0]
        same = list(map(list, look["identity"])) in ([], [[file.inode, file.ctime_ns]])
        if [*look["files"].values()] != [file.size] or not same:
            what = look["error"] or f"{printable(path)} is not there, or another one"
            raise CaxflowError(f"{end.place.site}: {what}")

    def _join(self, end) -> None:
        if not self.adopting:
            end.call("join", destination=self.destination_path, token=self._token)

    def remark(self, lines) -> None:
        """Take note of what is lacking or has failed, and takes nothing from the copy; each thing once."""
        with self.lock:
            self._remarks |= dict.fromkeys(filter(None, lines))

    def piece_done(self, piece: plan.Piece, found: dict[str, str]) -> None:
        """Take note of a piece that was moved, with its digests."""
        with self.lock:
            self._sent += 0 if piece.index in self.kept else piece.length
            if piece.whole and piece.index not in self._followed:
                self._digests.setdefault(piece.index, found)
                self.files_done += 1
            self.passed += SMALL  # what a small file takes, whatever its size
        if piece.index in self._followed:
            self._frontier.done(piece.index, piece.offset, piece.length)

    def next_piece(self) -> plan.Piece | None:
        """The next piece to be moved, or None at the end."""
        if self.stopped.is_set():
            raise StoppedError
        with self.lock:
            return self._work.pop() if self._work else None

    @property
    def goes_on(self) -> bool:
        """Whether there is more to do than was done so far."""
        return self.pieces_left and self.total - self.done > self.done

    @property
    def pieces_left(self) -> bool:
        """Whether there are pieces that no mover has taken."""
        return bool(self._work)

    def stop(self, error: BaseException) -> None:
        """End it; the first error it was stopped with is the one that counts."""
        super().stop(error)
        self._crew.wake()

    def wanted(self) -> tuple[str, ...]:
        """Digests to take at our end; the first is the one both ends compare."""
        names = [self.algorithm, *self.extra]
        if self.expected:
            names.append(self.expected.algorithm)
        if "xxh128" in digests.available():
            names.append("xxh128")
        return tuple(dict.fromkeys(names))

    def _needed(self) -> set[str]:
        """The digests of those that the transfer cannot do without."""
        return {self.algorithm, *self.extra, *([self.expected.algorithm] if self.expected else [])}

    # The transfer

    def work(self) -> Copied:
        """Do it."""
        try:
            self._open_ends()
            return self._copy()
        finally:
            if self._frontier:
                self._frontier.close()
            for end in (self.source, self.destination):
                if end is not None and not (end.remote and end.helped):
                    end.close()

    def _open_ends(self) -> None:
        self.source, self.destination = threads.at_once(self._open_source, self._open_destination)
        common = set(self.source.algorithms) & set(self.destination.algorithms)
        self.algorithm = next(name for name in ("xxh128", "sha256") if name in common)

    def _open_source(self):
        """Open the source and list its files, perhaps while the other end still logs in."""
        end = self._open(self.source_place)
        self.dataset.take(end.call("scan", path=self.source_path))
        self.beat()
        return end

    def _open_destination(self):
        """Open the destination, unless our key may make no copy there: then nothing is read in vain."""
        end = self._open(self.destination_place)
        if end.remote and end.helped:
            end.must_allow("begin", {"destination": self.destination_path})
        return end

    def _open(self, place: Place):
        began = time.monotonic()
        note = self.sign if place.remote else lambda _, done: self.beat(done)
        end = self.open(place, lambda count: note(count, count if self.phase == "comparing" else 0))
        self._login = max(self._login, time.monotonic() - began)
        if end.remote and end.helped:
            end.measure()
        return end

    def _sign(self, passed: int, done: int = 0) -> None:
        """Take note that something goes on; where a far end takes part, only bytes are progress."""
        if any_remote(self.places):
            self.sign(passed, done)
        else:
            self.beat(done)

    def _copy(self) -> Copied:
        self.files = len(self.listing.files)
        self.source.size = self.destination.size = self.listing.size
        begun = self._start()
        self.beat()
        if begun["exists"]:
            return self._adopt(begun["exists"])
        self.data = begun["data"]
        missing = self._compare(begun["present"])
        self.beat()
        self._move(missing)
        self.beat()
        manifests = self.dataset.manifests(self._digests, self.wanted())
        self.dataset.check(manifests)
        self._publish()
        return self._copied(manifests, adopted=False)

    def _move(self, missing: dict[int, list[tuple[int, int]]]) -> None:
        """Move all pieces; `missing` are the ranges of files of which something is there."""
        count, at_once = self._connection_count()
        self._work = plan.pieces(self.listing.files, missing, count, self._may_split())
        self._work.reverse()
        self._follow()
        self.phase, self.done = "moving", 0
        self.total = sum(piece.length for piece in self._work)
        count = min(count, len(self._work))
        if count:
            self._crew.work(count, at_once, self._login)
        if self.error:
            raise self.error
        if self._frontier:
            self._digests |= self._frontier.finish()
        if self._relayed():
            self._hash_what_was_split()

    def _publish(self) -> None:
        """Publish the copy, unless the source is no longer what was copied."""
        self.phase = "publishing"
        self.dataset.refuse_changes(self.source.call("scan_again", path=self.source_path))
        self.beat()
        try:
            remarks = self.destination.call(
                "publish",
                files=[
                    [name, file.size, file.mtime_ns]
                    for name, file in zip(self.names, self.listing.files, strict=True)
                ],
                directories=list(self.listing.directories),
                single=self.listing.single,
            )
        except CaxflowError as error:
            if not self._is_published():
                raise
            remarks = [error.what]
        self.remark(remarks)

    def _is_published(self) -> bool:
        """Whether the copy was published by a far end that could not say so any more."""
        try:
            end = self.open(self.destination_place, self._sign)
            there, growing = end.call("look", paths=[self.destination_path, self.data])
        except CaxflowError:
            return False
        sizes = {name: file.size for name, file in zip(self.names, self.listing.files, strict=True)}
        gone = not growing["files"] and not growing["error"]
        return gone and there["files"] == sizes

    def _start(self) -> dict:
        return self.destination.call(
            "begin",
            destination=self.destination_path,
            token=self._token,
            # A helper whose connection broke lives on until its own time-out.
            wait=self.destination_place.timeout + 15,
            files=[[name, file.size] for name, file in zip(self.names, self.listing.files, strict=True)],
            directories=list(self.listing.directories),
            root=self._root,
            site=self.destination_place.site if self._root else None,
        )

    def _both(self, at_source: dict, at_destination: dict) -> tuple:
        """Call an operation at both ends at the same time."""
        first, second = threads.at_once(
            lambda: self.source.call(**at_source) if at_source else None,
            lambda: self.destination.call(**at_destination),
        )
        return first, second

    # A copy that is there already

    def _adopt(self, kind: str) -> Copied:
        where = f"{self.destination_place.site}: {printable(self.destination_path)}"
        if not self.allow_existing or kind != ("file" if self.listing.single else "directory"):
            raise Occupied(f"{where} exists already", "verify it or move it away, then start again")
        self.phase, self.done = "comparing", 0
        trusted = self.expected is not None and self.expected.algorithm in self.destination.algorithms
        self.total = self.listing.size * (1 if trusted else 2)
        algorithms = [self.expected.algorithm if trusted else self.algorithm]
        of_source = [name for name in self.wanted() if name in self.source.algorithms]
        at_destination = {
            "operation": "manifests",
            "path": self.destination_path,
            "algorithms": algorithms,
            "drop_cache": False,
        }
        if trusted or not self.expected or self.expected.algorithm in of_source:
            at_source = at_destination | {"path": self.source_path, "algorithms": of_source}
            theirs, ours = self._both({} if trusted else at_source, at_destination)
            theirs = {name: Manifest.from_json(found) for name, found in (theirs or {}).items()}
        else:
            theirs, ours = self._look(), self.destination.call(**at_destination)
        there = self.dataset.renamed(Manifest.from_json(ours[algorithms[0]]))
        if trusted:
            manifests = {self.expected.algorithm: self.dataset.expected}
        else:
            manifests = theirs
            self.dataset.check(manifests)
        found = manifests[algorithms[0]].differences(there)
        if found:
            raise Occupied(
                f"{where} exists already and differs from {self.source_place.site}: {some(found)}",
                "find out which one is right, move the other away, then start again",
            )
        return self._copied(manifests, adopted=True)

    def _look(self) -> dict[str, Manifest]:
        """Manifests of a source that cannot compute what is expected: its bytes come here to be hashed."""
        self.adopting, self.kept = True, set(range(len(self.listing.files)))
        self._work = plan.pieces(self.listing.files, {}, 1, split=False)
        self._work.reverse()
        count, at_once = self._connection_count()
        self._crew.work(min(count, len(self._work)), at_once, self._login)
        if self.error:
            raise self.error
        return self.dataset.manifests(self._digests, self.wanted())

    # What an earlier attempt left

    def _compare(self, present) -> dict[int, list[tuple[int, int]]]:
        """Find the ranges that are missing of files of which something is there."""
        sizes = dict(map(tuple, present))
        candidates = [
            (index, file)
            for index, file in enumerate(self.listing.files)
            if min(sizes.get(self.names[index], 0), file.size) > 0
        ]
        if not candidates:
            return {}
        there = [[self.names[index], min(sizes[self.names[index]], file.size)] for index, file in candidates]
        self.phase, self.done = "comparing", 0
        if not self.source.helped and not self._relayed():
            return self._compare_here(candidates, there)
        self.total = sum(file.size for _, file in candidates) + sum(size for _, size in there)
        of_source = [name for name in self.wanted() if name in self.source.algorithms]
        theirs, ours = self._both(
            {
                "operation": "blocks",
                "root": self.listing.root,
                "files": [list(file) for _, file in candidates],
                "algorithms": of_source,
            },
            {"operation": "blocks", "root": self.data, "files": there, "algorithms": [self.algorithm]},
        )
        known = set(of_source) >= (self._needed() if self._relayed() else set(self.wanted()))
        missing = {}
        for (index, file), (whole, wanted), (_, found) in zip(candidates, theirs, ours, strict=True):
            missing[index] = plan.missing_ranges(file.size, BLOCK, found, wanted)
            if known:
                self._known(index, whole)
            elif self._relayed():
                # Nobody could take all digests of a file of which only a part passes through here.
                if not missing[index]:
                    self.kept.add(index)
                missing[index] = [(0, file.size)]
        return missing

    def _known(self, index: int, whole: dict[str, str]) -> None:
        self._digests[index] = whole
        self.files_done += 1

    def _compare_here(self, candidates, there) -> dict[int, list[tuple[int, int]]]:
        """The same for a source without a helper, at which every byte that is compared is a byte to fetch.

        A whole file needs none if the expected manifest has its digest; else what is there is read.
        """
        expected = (
            {entry.path: entry.digest for entry in self.dataset.expected.entries} if self.expected else {}
        )
        missing, asked = {}, []
        self.total = 2 * sum(size for _, size in there)
        blocks = {"root": self.data, "files": there, "algorithms": list(self.wanted())}
        ours = self.destination.call("blocks", **blocks)
        for (index, file), (_, size), (whole, found) in zip(candidates, there, ours, strict=True):
            if size == file.size and expected:
                if whole[self.expected.algorithm] == expected[file.path]:
                    missing[index] = []
                    self._known(index, whole)
            elif length := size if size == file.size else size // BLOCK * BLOCK:
                asked.append((index, file, length, whole, found))
        lengths = [[file.path, length] for _, file, length, _, _ in asked]
        blocks = {"root": self.listing.root, "files": lengths, "algorithms": [self.algorithm]}
        theirs = self.source.call("blocks", **blocks) if asked else []
        for (index, file, _, whole, found), (_, wanted) in zip(asked, theirs, strict=True):
            unseen = -(-file.size // BLOCK) - len(wanted)
            missing[index] = plan.missing_ranges(file.size, BLOCK, found, [*wanted, *[None] * unseen])
            if not missing[index]:
                self._known(index, whole)
        return missing

    # Moving

    def _relayed(self) -> bool:
        return self.source.remote and self.destination.remote

    def _may_split(self) -> bool:
        if self._relayed() and not self._needed() <= set(self.source.algorithms):
            return False  # nobody could take all digests of the file
        return self.source.helped and self.destination.helped

    def _given(self) -> int | None:
        """Number of connections that the configuration demands."""
        given = [place.connections for place in self.places if place.remote and place.connections]
        if given and self.source_place.site == self.destination_place.site:
            return max(1, min(given) // 2)  # a move within a site has both ends there
        return min(given, default=None)

    def _connection_count(self) -> tuple[int, int]:
        """Return the most connections, and those that surely pay."""
        given = self._given()
        if not (self.source.helped and self.destination.helped):
            given, longest = given or 2, 0.0
        else:
            longest = max(self.source.round_trip, self.destination.round_trip)
        most = given or plan.wanted(longest, self.rate)
        return most, min(most, plan.worth(longest, self.listing.size))

    def _follow(self) -> None:
        """Have those files hashed behind the transfer that do not move as one piece."""
        moved = {}
        for piece in self._work:
            moved.setdefault(piece.index, []).append((piece.offset, piece.length))
        parts = {piece.index for piece in self._work if not piece.whole}
        parts |= set(range(len(self.listing.files))) - moved.keys()
        parts -= self._digests.keys()
        if not parts or self._relayed():
            return
        here = self.source_folder() if not self.source.remote else self.destination_folder()
        names = [file.path for file in self.listing.files] if not self.source.remote else self.names
        self._frontier = Frontier(here, self.wanted(), self.read_here, self.stop)
        self._followed = parts
        for index in parts:
            size = self.listing.files[index].size
            self._frontier.add(index, names[index], size)
            position = 0
            for offset, length in [*sorted(moved.get(index, [])), (size, 0)]:
                if offset > position:
                    self._frontier.done(index, position, offset - position)
                position = offset + length

    def _hash_what_was_split(self) -> None:
        """Have both ends read once more the files of which no digest could be taken as they passed."""
        lacking = [index for index in range(len(self.listing.files)) if index not in self._digests]
        if not lacking:
            return
        files = [self.listing.files[index] for index in lacking]
        names = [self.names[index] for index in lacking]
        of_source = [name for name in self.wanted() if name in self.source.algorithms]
        blocks = {"operation": "blocks", "root": self.listing.root, "algorithms": of_source}
        there = {"operation": "blocks", "root": self.data, "algorithms": [self.algorithm]}
        theirs, ours = self._both(
            blocks | {"files": list(map(list, files))},
            there | {"files": [[name, file.size] for name, file in zip(names, files, strict=True)]},
        )
        for index, file, (whole, _), (found, _) in zip(lacking, files, theirs, ours, strict=True):
            if whole[self.algorithm] != found[self.algorithm]:
                raise altered(file.path)
            self._known(index, whole)

    # The result

    def _copied(self, manifests: dict[str, Manifest], *, adopted: bool) -> Copied:
        seconds = time.monotonic() - self.began
        method = {
            (False, False): "local",
            (False, True): "push",
            (True, False): "pull",
            (True, True): "relay",
        }[self.source.remote, self.destination.remote]
        ciphers = [end.connection.cipher for end in (self.source, self.destination) if end.remote]
        return Copied(
            manifest=next(iter(manifests.values())),
            manifests=manifests,
            size=self.listing.size,
            sent=self._sent,
            seconds=seconds,
            rate=self._sent / seconds,
            adopted=adopted,
            method=method if self.source.helped and self.destination.helped else f"scp-{method}",
            connections=max(1, self._crew.worked) if method != "local" else 0,
            cipher=", ".join(dict.fromkeys(ciphers)),
            remarks=tuple(self._remarks),
        )
