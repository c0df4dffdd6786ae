"""Moving a copy to another path of its site: the entry, the data and the receipts move together.

The intent is written down first and makes the entry no source. On one file system the data are renamed, then
the entry says the new path. To another one they are copied (hashed at both ends, published by one rename) and
read again from the disk there; the entry says the new path, and which one is left behind; the old files go
last, and the entry forgets them. Whatever ends it on the way, the same command completes it; as long as the
old files are whole, a failure leaves the entry as it was. Where something else came to one of the two paths
meanwhile, that stays as it is; and where a move was interrupted before the old files went, the new ones are
read again before: if they are bad or gone, the copy is at its old path again.
"""

import contextlib
import datetime
import posixpath
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from caxflow import documents, receipts, transfer
from caxflow.copies import evidence, proof, quarantine, shortcuts
from caxflow.copies.subject import OnDisk, Subject, folder_of, sign_of
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files import marker
from caxflow.files.manifest import Manifest
from caxflow.rundb import Claim, Held, audit, claims, identity
from caxflow.workdir import journal


@dataclass
class Move:
    """The move of one copy.

    Parameters
    ----------
    subject : Subject
    new : str
        Absolute path below the site's root.
    old_root : str, optional
        A folder that was the root before and holds the copy; by default the present one.
    """

    subject: Subject
    new: str
    old_root: str | None = None
    claim: Claim | None = None
    old: str = ""
    _manifest: Manifest | None = field(default=None, repr=False)
    # What a copy without a manifest looked like when it began to move.
    _outline: str | None = None
    _resumed: bool = False
    # What this attempt published; when it began to read it (server's time), and what it was then.
    _made: transfer.Look | None = field(default=None, repr=False)
    _read: tuple[datetime.datetime, transfer.Look] | None = field(default=None, repr=False)

    def perform(self) -> str:
        """Move the copy; where it was. A dry database is told nothing, and then nothing is moved.

        Raises
        ------
        CaxflowError
            In one line, saying where the copy is.
        """
        subject, copy = self.subject, self._find()
        self._check_paths(copy)
        if "left" in copy.note:
            self._complete(copy)
            copy = self._find()
        moving = documents.value(copy.note, "moving", type_=Mapping)
        self.old = copy.location.rstrip("/")
        if moving and moving.get("from") != self.old:
            raise CaxflowError(
                f"{subject} is in {self.old}, and said to be moved from {moving.get('from')!r}",
                "correct the document",
            )
        if self.old == self.new and not moving:
            self._put_links(self.new, subject.root)
            return self.old
        self._check(copy, moving)
        self._manifest = self.subject.manifest(copy.manifest)
        if moving:
            self._outline = documents.value(moving, "outline", type_=str)
        elif self._manifest is None:
            self._outline = proof.outline(proof.glance(subject.place, self.old))
        own = OnDisk(self.old, self._manifest)
        self._look(own, begun=bool(moving))
        if subject.database.dry:
            return self.old
        self._resumed = bool(moving)
        self.claim = subject.hold(self._take_over(copy) if moving else self.intend(copy))
        try:
            copied = self.transport(own)
        except Held:
            raise
        except CaxflowError:
            self.put_back(own)
            raise
        if not copied:
            self._clear_links(self.old, self._root)
        try:
            self.tell(copied)
        except Held:
            self._give_back(own)
            raise
        if copied:
            self.clear(self._find())
        else:
            self._prune(self.old, self._root)
        self._put_links(self.new, subject.root)
        return self.old

    def intend(self, seen: Copy) -> str:
        """Write down that the copy moves, unless it changed since it was `seen`; the token that holds it."""
        subject, token = self.subject, secrets.token_hex(8)
        now = subject.database.now()

        def change(document: Mapping) -> tuple[dict, dict] | None:
            copy = self._find(document)
            if not evidence.good(copy) or identity(copy) != identity(seen):
                return None
            note = dict(copy.note) | {
                "owner": subject.settings.here.name,
                "by": receipts.who(),
                "token": token,
                "since": now,
                "lease": now + datetime.timedelta(minutes=subject.settings.lease),
                "moving": {"from": self.old, "to": self.new}
                | ({"outline": self._outline} if self._outline else {}),
            }
            update = {"data.$.status": documents.TRANSFERRING, "data.$.caxflow": note}
            match = subject.key.match(status=documents.TRANSFERRED)
            return {"data": {"$elemMatch": match}}, {"$set": update}

        if not subject.database.revise(subject.run, change):
            raise CaxflowError(f"{subject} is not a good copy that could be moved", "see caxflow status")
        return token

    def transport(self, own: OnDisk) -> bool:
        """Bring the copy to the new path; whether it was copied, so that the old one is still there."""
        subject, copied = self.subject, False
        if self._is_there(own, own.path):  # else it was renamed before
            roots = {"root": self._root, "new_root": subject.root}
            free = subject.may_be_renamed(own.path, self.new)
            if not (free and transfer.try_rename(subject.place, own.path, self.new, **roots)):
                self.copy(own)
                copied = True
        if not self._is_there(own, self.new):
            raise CaxflowError(f"{subject}: what is at {self.new} is not what was moved there", "look there")
        return copied

    def copy(self, own: OnDisk) -> None:
        """Copy it to another file system, and read it there again from the disk."""
        subject, new = self.subject, self.new
        subject.say(f"{own.path} and {new} are on different file systems: copying")
        made = transfer.copy(
            subject.place,
            own.path,
            subject.place,
            new,
            expected=own.manifest,
            progress=subject.progress,
            root=subject.root,
        )
        # What has just been compared byte by byte is what an interrupted attempt published.
        if not made.adopted or self._resumed:
            self._made = proof.glance(subject.place, new)
        if self._manifest is None:
            self._manifest = made.manifest
        if wanted := subject.site.permissions.get(subject.key.kind):
            try:
                transfer.permissions(subject.place, new, wanted, apply=True)
            except CaxflowError as error:
                subject.say(f"{new} is there, but its permissions are not as the site wants them: {error}")
        stated = [each.to_json() for each in made.manifests.values()]
        self._read = subject.database.now(), proof.glance(subject.place, new)
        _, wrong = proof.read_again(subject.place, new, stated, subject.progress)
        if wrong:
            raise CaxflowError(
                f"{subject}: what was copied to {new} reads differently: {proof.summary(wrong)}",
                "it was removed; the disk may be failing",
            )

    def put_back(self, own: OnDisk) -> None:
        """Undo the intent, if all of the copy is where it was; what this attempt published goes first."""
        subject = self.subject
        ours = self._find().note.get("token") == self.claim.token
        if ours and self._is_there(own, own.path):
            if made := self._made:
                now = proof.glance(subject.place, self.new)
                if now.files == made.files and now.identity == made.identity and not now.error:
                    subject.remove(self.new)
                elif now.kind:
                    subject.say(f"{self.new} stays: it is not what was published there")
            self._take_sign(self.old)
            changes = {"status": documents.TRANSFERRED} | _ended("moving", "token", "lease", "since")
            subject.database.tell(subject.run, subject.key, changes, {"token": self.claim.token})

    def _give_back(self, own: OnDisk) -> None:
        """Rename back what was renamed after somebody else had taken the move over, and undone it."""
        subject, copy = self.subject, self._find()
        if "moving" in copy.note or copy.location.rstrip("/") != self.old:
            return
        if subject.may_be_renamed(self.new, own.path) and self._is_there(own, self.new):
            roots = {"root": subject.root, "new_root": self._root}
            transfer.try_rename(subject.place, self.new, own.path, **roots)
        self._put_links(self.old, self._root)

    def tell(self, copied: bool) -> None:
        """Have the entry say the new path and, of what was copied, the old one that is left."""
        subject, token = self.subject, self.claim.token
        facts = {"site": subject.site.name, "from": self.old, "to": self.new}
        grounds = "asked for by hand"
        record = audit.entry(
            subject.database, "moved", subject.run, subject.key, grounds=grounds, ident=token, **facts
        )
        told = {"status": documents.TRANSFERRED, "location": self.new}
        told |= _ended("moving", "token", "lease", "since")
        if copied:
            self._show_left()
            subject.database.keep_manifest(self._manifest.to_json())
            left = {"path": self.old, "root": self._root, "manifest": self._manifest.digest}
            told |= {"caxflow.left": left}
        # Receipts speak of the old path; they go first, for once the entry has the new one all is done.
        key = subject.key
        journal.forget(subject.work_dir, subject.site.name, subject.run, key.kind, key.version)
        if not subject.database.tell(subject.run, subject.key, told, {"token": token}, record=record):
            if "left" not in self._find().note:
                self._take_sign(self.old)
            raise Held(f"{subject} was taken over by somebody else", f"see what lies in {self.new}")

    def _complete(self, copy: Copy) -> None:
        """Complete a move that was interrupted before what it left went: the new copy is read again first."""
        subject = self.subject
        left, manifest = self._left(copy)
        if copy.status not in (documents.TRANSFERRED, documents.ERROR):
            raise Held(f"{subject} is being made or verified", "try again when that is done")
        if subject.database.dry:
            subject.say(f"would read {copy.location}, and remove what is left in {left} if it is good")
            return
        subject.say(f"{subject}: a move that was begun goes on; reading {copy.location} again")
        own = OnDisk(copy.location.rstrip("/"), manifest)
        if not transfer.exists(subject.place, own.path):
            subject.check_mounted(copy.location)
        now = subject.database.now()
        self._read = now, proof.glance(subject.place, own.path)
        if not (wrong := self._differences(own)):
            told = _good(now) if copy.manifest else {}
            if told and not subject.database.confirm(subject.run, subject.key, copy, told):
                raise CaxflowError(f"{subject} was changed while it was read", "try again")
            self.clear(self._find())
            return
        now = subject.database.now()
        if self._differences(OnDisk(left, manifest)):
            raise CaxflowError(
                f"{subject} in {copy.location} is damaged, and so is what it left in {left}: "
                f"{proof.summary(wrong)}",
                "nothing is removed; look at both, and at other sites for a good one",
            )
        self._return_to(copy, left, own, wrong, now)

    def _return_to(
        self, copy: Copy, left: str, own: OnDisk, wrong: list[str], now: datetime.datetime
    ) -> None:
        """Have the entry say the old path again, and move the damaged new files aside."""
        subject, token = self.subject, secrets.token_hex(8)
        what = f"{subject} was moved to {copy.location}, and is damaged there: {proof.summary(wrong)}"
        facts = {"site": subject.site.name, "from": copy.location, "to": left}
        facts |= {"grounds": what, "ident": token}
        record = audit.entry(subject.database, "restored", subject.run, subject.key, **facts)
        told = {"location": left} | _good(now) | _ended("left")
        if not subject.database.confirm(subject.run, subject.key, copy, told, record=record):
            raise CaxflowError(f"{subject} was changed while it was read", "try again")
        self._take_sign(left)
        aside = subject.aside(quarantine.FOLDER, copy.location, token)
        # What is there instead of it is somebody else's.
        if damaged := self._is_there(own, own.path):
            subject.bring(own.path, aside)
        where_it_is = f"; the damaged one is in {aside}" if damaged else ""
        raise CaxflowError(what, f"it is in {left} again, where it is good{where_it_is}")

    def _differences(self, own: OnDisk) -> list[str]:
        """How a copy differs from its manifest, after every byte was read."""
        place = self.subject.place
        if not self._is_there(own, own.path):
            return [proof.same_files(place, own.path, own.manifest) or "it is not there"]
        return proof.read_again(place, own.path, [own.manifest.to_json()], self.subject.progress)[1]

    def _left(self, copy: Copy) -> tuple[str, Manifest]:
        """Where a move to another file system left the old files, and their manifest.

        The path stands in the document, the root that it must be below in a site file or on the command line.
        """
        subject, left = self.subject, documents.value(copy.note, "left", type_=Mapping) or {}
        path, manifest = str(left.get("path")), self.subject.manifest(left.get("manifest"))
        location = copy.location.rstrip("/")
        within = documents.inside(path, location) or documents.inside(location, path)
        if manifest is None or path == location or within:
            raise CaxflowError(
                f"{subject} is said to have left {path!r} behind, which cannot be", "correct the document"
            )
        if not documents.inside(path, self._root):
            raise CaxflowError(
                f"{subject} is said to have left {path!r} behind, which is not below {self._root}",
                "name the root that it was moved out of: --from FOLDER",
            )
        self._check_name(path, self._root)
        return path, manifest

    def clear(self, copy: Copy) -> None:
        """Remove what a move to another file system left at the old path: files of its manifest, no other.

        It is remembered until the old path was looked at on its own disk.
        """
        subject = self.subject
        path, manifest = self._left(copy)
        if transfer.exists(subject.place, path):
            if foreign := proof.foreign_files(subject.place, path, manifest):
                raise CaxflowError(
                    f"{subject} is in {copy.location}; what it left in {path} stays: its manifest does "
                    f"not know {proof.summary(foreign)}",
                    "look at what is there, take it away, and give the same command again",
                )
            self._check_apart(path, OnDisk(copy.location.rstrip("/"), manifest), copy)
            subject.remove(path, self._root, asked=time.monotonic())
        else:
            self._check_old_disk(path)
        self._clear_links(path, self._root)
        subject.database.tell(subject.run, subject.key, _ended("left"))
        self._take_sign(path)
        self._prune(path, self._root)

    def _sign(self, path: str) -> str:
        return sign_of(path, self.subject.run)

    def _show_left(self) -> None:
        with contextlib.suppress(CaxflowError):  # it is there, or nothing can be written: the marker may tell
            transfer.touch(self.subject.place, self._sign(self.old), root=self._root)

    def _take_sign(self, path: str) -> None:
        with contextlib.suppress(CaxflowError):  # it says nothing of what is not left
            self.subject.remove(self._sign(path), self._root)

    def _check_old_disk(self, path: str) -> None:
        """See that where nothing is left the disk is there on which it was."""
        subject, root, sign = self.subject, self._root, self._sign(path)
        if transfer.exists(subject.place, sign):
            return
        folder = posixpath.dirname(sign)
        look = transfer.root(subject.place, root, folder)
        try:
            marker.check(look.marker, root, subject.site.name)
            wrong = "" if look.folder == "full" else f"there is nothing in {folder}"
        except CaxflowError as error:
            wrong = error.what
        if wrong:
            raise CaxflowError(
                f"{subject} is moved; what it left in {path} cannot be looked at: {wrong}",
                f"mount its file system; if it is there, without the copy: mkdir -p {folder}; touch {sign}",
            )

    def _check_apart(self, old: str, new: OnDisk, seen: Copy) -> None:
        """See, right before the old files go, that the new ones are there, as they were read, and others.

        And that the entry is what it was when they were.
        """
        subject = self.subject
        ours, theirs = transfer.look(subject.place, [old, new.path], opened=True)
        wrong = proof.difference(theirs, new.path, new.manifest)
        if not wrong and proof.are_same_files(ours, theirs):
            wrong = f"{old} and {new.path} are the same files"
        read, earlier = self._read
        if not wrong and proof.has_changed(theirs, read, subject.database.now, earlier):
            wrong = f"files at {new.path} changed after they were read"
        now = self._find()
        if not wrong and (
            identity(now) != identity(seen) or not evidence.good(now) or "left" not in now.note
        ):
            wrong = "its entry was changed by somebody else"
        if wrong:
            raise CaxflowError(f"{subject}: {old} is not removed: {wrong}", "look there")

    def _is_there(self, own: OnDisk, path: str) -> bool:
        """Whether the copy is at a path, by names and sizes: of its manifest, or of when its move began."""
        place = self.subject.place
        if own.manifest is None:
            return self._outline is not None and proof.outline(proof.glance(place, path)) == self._outline
        return not proof.same_files(place, path, own.manifest, renamed=True)

    def _absence(self, own: OnDisk) -> str:
        """Why the copy is not where it was."""
        found = proof.glance(self.subject.place, own.path)
        if own.manifest and (wrong := proof.difference(found, own.path, own.manifest)):
            return wrong
        if found.kind is None:
            return f"there is nothing at {own.path}"
        return found.error or f"what is at {own.path} is not all that was there when its move began"

    @property
    def _root(self) -> str:
        """The folder that the copy is moved out of."""
        return self.old_root or self.subject.root

    def _find(self, document: Mapping | None = None) -> Copy | None:
        """The entry, wherever it points; from the database it must be there."""
        subject, key = self.subject, self.subject.key
        found = subject.database.get(subject.run) if document is None else document
        copy = documents.find(found, key.kind, key.host, key.version)
        if copy is None and document is None:
            raise CaxflowError(f"{subject} is not in the runs database", "there is nothing to move")
        return copy

    def _check_paths(self, copy: Copy) -> None:
        """See that no path leads to the data of another run, or of another entry."""
        subject = self.subject
        if not documents.inside(self.new, subject.root):
            raise CaxflowError(
                f"{self.new} is not below {subject.root}", f"name a path below roots.{subject.key.kind}"
            )
        self._check_name(self.new, subject.root)
        self._check_name(copy.location.rstrip("/"), self._root)
        document = subject.database.get(subject.run)
        for path in (self.new, copy.location.rstrip("/")):
            subject.check_alone(document, copy, path)

    def _check_name(self, path: str, root: str) -> None:
        """See that a path is called as a copy of that run is."""
        if why := documents.misplaced(self.subject.key.kind, self.subject.run, path, root):
            raise CaxflowError(
                f"{self.subject} is not moved: its path is {path}, {why}",
                "correct the document's location, or name another path",
            )

    def _check(self, copy: Copy, moving: Mapping | None) -> None:
        subject, root = self.subject, self._root
        if moving and moving.get("to") != self.new:
            raise CaxflowError(f"{subject} is on its way to {moving.get('to')}", "complete that first")
        if not documents.inside(self.old, root):
            raise CaxflowError(f"{subject} is in {self.old}, outside {root}", "name its root: --from FOLDER")
        if not moving and not evidence.good(copy):
            raise CaxflowError(f"{subject} is not a good copy that could be moved", "see caxflow status")
        transfer.must_allow(subject.place, "rename", self.old)

    def _look(self, own: OnDisk, *, begun: bool) -> None:
        """The copy must be at one of the two paths; at both only where it was being copied."""
        subject, new = self.subject, self.new
        if not self._is_there(own, own.path) and not (begun and self._is_there(own, new)):
            raise CaxflowError(
                f"{subject} is not moved: {self._absence(own)}",
                f"look there{f', and at {new}' if begun else ''}",
            )
        if not begun and transfer.exists(subject.place, new):
            raise CaxflowError(f"{subject}: there is both {own.path} and {new}", "look there")

    def _put_links(self, path: str, root: str) -> None:
        subject = self.subject
        if subject.key.kind == "minitrees" and not subject.database.dry:
            shortcuts.put(subject.place, subject.run, path, root, subject.say)

    def _clear_links(self, path: str, root: str) -> None:
        """Remove the links to what was at a path, as long as the same command would do so again."""
        subject = self.subject
        if subject.key.kind == "minitrees":
            shortcuts.clear(subject.place, subject.run, path, root, subject.say)

    def _prune(self, path: str, root: str) -> None:
        """Leave no empty folders behind."""
        folder = folder_of(path)
        if documents.inside(folder, root):
            self.subject.prune(folder, root)

    def _take_over(self, copy: Copy) -> str:
        """Go on with a move that was interrupted; the token that holds it from now on."""
        subject = self.subject
        claims.check_free(subject.database, copy, f"{subject} is being moved")
        return claims.take_over(subject.database, subject.run, subject.key, copy, subject.settings.lease)


def _good(now: datetime.datetime) -> dict:
    """What an entry says of a copy that was found good by a reading that began `now`."""
    return {"status": documents.TRANSFERRED, "caxflow.verified": now} | _ended("suspect", "error")


def _ended(*names: str) -> dict[str, None]:
    """What takes keys out of an entry's note."""
    return {f"caxflow.{name}": None for name in names}
