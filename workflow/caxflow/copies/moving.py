"""Moving a copy to another path of its site: the entry, the data and the receipts move together.

The intent is written down first and makes the entry no source. On one file system the data are renamed, then
the entry says the new path. To another one they are copied (hashed at both ends, published by one rename) and
read again from the disk there; the entry says the new path, and which one is left behind; the old files go
last, and the entry forgets them. Whatever ends it on the way, the same command completes it; as long as the
old files are whole, a failure leaves the entry as it was.
"""

import datetime
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from caxflow import documents, processes, receipts, transfer
from caxflow.copies import evidence, parts, proof
from caxflow.copies.parts import Part
from caxflow.copies.subject import Subject
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.rundb import Claim, Held, audit
from caxflow.workdir import journal


@dataclass
class Move:
    """The move of one copy.

    Parameters
    ----------
    subject : Subject
    new : str
        Absolute path below the site's root; of minitrees, the folder that holds them.
    old_root : str, optional
        A folder that was the root before and holds the copy; by default the present one.
    """

    subject: Subject
    new: str
    old_root: str | None = None
    claim: Claim | None = None
    old: str = ""
    _manifest: Manifest | None = field(default=None, repr=False)
    _made: list[str] = field(default_factory=list, repr=False)

    def perform(self) -> str:
        """Move the copy; where it was. A dry database is told nothing, and then nothing is moved.

        Raises
        ------
        CaxflowError
            In one line, saying where the copy is.
        """
        subject, copy = self.subject, self._find()
        if "left" in copy.note:
            self.clear(copy)
            copy = self._find()
        moving = documents.value(copy.note, "moving", type_=Mapping)
        self.old = str(moving["from"]) if moving else copy.location.rstrip("/")
        if self.old == self.new and not moving:
            return self.old
        self._check(copy, moving)
        self._manifest = self._known_manifest(copy.manifest)
        where = parts.of(subject.key, subject.run, self.old, self._manifest)
        self._look(where, begun=bool(moving))
        # Whatever of it is at the new path already, an earlier attempt has copied.
        self._made = [part.at(self.new) for part in where] if moving else []
        if subject.database.dry:
            return self.old
        self.claim = subject.hold(self._take_over(copy) if moving else self.intend())
        try:
            copied = self.transport(where)
        except Held:
            raise
        except CaxflowError:
            self.put_back(where)
            raise
        try:
            self.tell(copied)
        except Held:
            self._give_back(where)
            raise
        if copied:
            self.clear(self._find())
        else:
            self._prune(self.old, self._root)
        return self.old

    def intend(self) -> str:
        """Write down that the copy moves; the token that holds it."""
        subject, token = self.subject, secrets.token_hex(8)
        now = subject.database.now()

        def change(document: Mapping) -> tuple[dict, dict] | None:
            copy = self._find(document)
            if not evidence.good(copy) or copy.location.rstrip("/") != self.old:
                return None
            note = dict(copy.note) | {
                "owner": subject.settings.here.name,
                "by": receipts.who(),
                "token": token,
                "since": now,
                "lease": now + datetime.timedelta(minutes=subject.settings.lease),
                "moving": {"from": self.old, "to": self.new},
            }
            update = {"data.$.status": documents.TRANSFERRING, "data.$.caxflow": note}
            match = subject.key.match(status=documents.TRANSFERRED)
            return {"data": {"$elemMatch": match}}, {"$set": update}

        if not subject.database.revise(subject.run, change):
            raise CaxflowError(f"{subject} is not a good copy that could be moved", "see caxflow status")
        return token

    def transport(self, where: list[Part]) -> bool:
        """Bring all parts to the new path; whether they were copied, so that the old ones are still there."""
        subject, copied = self.subject, False
        for part in where:
            new = part.at(self.new)
            if transfer.exists(subject.place, part.path) is None:
                continue  # was renamed before
            if not transfer.exists(subject.place, new):
                roots = {"root": self._root, "new_root": subject.root}
                if transfer.try_rename(subject.place, part.path, new, **roots):
                    continue
            self.copy(part, new)
            copied = True
        return copied

    def copy(self, part: Part, new: str) -> None:
        """Copy a part to another file system, and read it there again from the disk."""
        subject = self.subject
        subject.say(f"{part.path} and {new} are on different file systems: copying")
        made = transfer.copy(
            subject.place,
            part.path,
            subject.place,
            new,
            expected=part.manifest,
            progress=subject.progress,
        )
        if not made.adopted:
            self._made.append(new)
        if self._manifest is None:
            self._manifest = made.manifest
        stated = [each.to_json() for each in made.manifests.values()]
        _, wrong = proof.read_again(subject.place, new, stated, subject.progress)
        if wrong:
            transfer.remove_tree(subject.place, new, root=subject.root)
            raise CaxflowError(
                f"{subject}: what was copied to {new} reads differently: {proof.summary(wrong)}",
                "it was removed; the disk may be failing",
            )
        if wanted := subject.site.permissions.get(subject.key.kind):
            transfer.permissions(subject.place, new, wanted, apply=True)

    def put_back(self, where: list[Part]) -> None:
        """Undo the intent, if all of the copy is still where it was; what was copied goes first."""
        subject = self.subject
        ours = self._find().note.get("token") == self.claim.token
        if ours and all(transfer.exists(subject.place, part.path) for part in where):
            for new in self._made:
                transfer.remove_tree(subject.place, new, root=subject.root)
            changes = {"status": documents.TRANSFERRED} | _ended("moving", "token", "lease", "since")
            subject.database.tell(subject.run, subject.key, changes, {"token": self.claim.token})

    def _give_back(self, where: list[Part]) -> None:
        """Rename back what was renamed after somebody else had taken the move over, and undone it."""
        subject, copy = self.subject, self._find()
        if "moving" in copy.note or copy.location.rstrip("/") != self.old:
            return
        for part in where:
            new = part.at(self.new)
            if transfer.exists(subject.place, part.path) is None and transfer.exists(subject.place, new):
                roots = {"root": subject.root, "new_root": self._root}
                transfer.try_rename(subject.place, new, part.path, **roots)

    def tell(self, copied: bool) -> None:
        """Have the entry say the new path and, of what was copied, the old one that is left."""
        subject, token = self.subject, self.claim.token
        facts = {"site": subject.site.name, "from": self.old, "to": self.new}
        grounds = "asked for by hand"
        audit.record(
            subject.database, "moved", subject.run, subject.key, grounds=grounds, ident=token, **facts
        )
        told = {"status": documents.TRANSFERRED, "location": self.new}
        told |= _ended("moving", "token", "lease", "since")
        if copied:
            subject.database.keep_manifest(self._manifest.to_json())
            left = {"path": self.old, "root": self._root, "manifest": self._manifest.digest}
            told |= {"caxflow.left": left}
        if not subject.database.tell(subject.run, subject.key, told, {"token": token}):
            raise Held(f"{subject} was taken over by somebody else", f"see what lies in {self.new}")
        key = subject.key
        journal.forget(subject.work_dir, subject.site.name, subject.run, key.kind, key.version)

    def clear(self, copy: Copy) -> None:
        """Remove what a move to another file system left at the old path: files of its manifest, no other."""
        subject, left = self.subject, documents.value(copy.note, "left", type_=Mapping) or {}
        path, root = str(left.get("path")), str(left.get("root"))
        manifest = self._known_manifest(left.get("manifest"))
        place = subject.place
        if manifest is None or not documents.inside(path, root) or path == copy.location.rstrip("/"):
            raise CaxflowError(
                f"{subject} is said to have left {path!r} behind, which cannot be", "mend the document"
            )
        for part in parts.of(subject.key, subject.run, path, manifest):
            if transfer.exists(place, part.path) is None:
                continue
            if foreign := proof.foreign_files(place, part.path, part.manifest):
                raise CaxflowError(
                    f"{subject} is in {copy.location}; what it left in {part.path} stays: its manifest does "
                    f"not know {proof.summary(foreign)}",
                    "look at what is there, take it away, and give the same command again",
                )
            transfer.remove_tree(place, part.path, root=root)
        self._prune(path, root)
        subject.database.tell(subject.run, subject.key, _ended("left"))

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

    def _check(self, copy: Copy, moving: Mapping | None) -> None:
        subject, root = self.subject, self._root
        if not documents.inside(self.new, subject.root):
            raise CaxflowError(
                f"{self.new} is not below {subject.root}", f"name a path below roots.{subject.key.kind}"
            )
        if moving and moving.get("to") != self.new:
            raise CaxflowError(f"{subject} is on its way to {moving.get('to')}", "complete that first")
        if not documents.inside(self.old, root):
            raise CaxflowError(f"{subject} is in {self.old}, outside {root}", "name its root: --from FOLDER")
        if not moving and not evidence.good(copy):
            raise CaxflowError(f"{subject} is not a good copy that could be moved", "see caxflow status")

    def _look(self, where: list[Part], *, begun: bool) -> None:
        """Each part must be at one of the two paths; at both only where it was being copied."""
        place = self.subject.place
        for part in where:
            new = part.at(self.new)
            there = transfer.exists(place, part.path), transfer.exists(place, new)
            if there == (None, None) or (all(there) and not begun):
                both = "both" if all(there) else "neither"
                raise CaxflowError(f"{self.subject}: there is {both} {part.path} and {new}", "look there")

    def _known_manifest(self, digest: object) -> Manifest | None:
        stated = self.subject.database.manifest(digest) if isinstance(digest, str) else None
        return Manifest.from_json(stated) if stated else None

    def _prune(self, path: str, root: str) -> None:
        """Leave no empty folders behind."""
        folder = parts.folder(self.subject.key, path)
        if documents.inside(folder, root):
            transfer.prune(self.subject.place, folder, root=root)

    def _take_over(self, copy: Copy) -> str:
        """Go on with a move that was interrupted; the token that holds it from now on."""
        subject, now, token = self.subject, self.subject.database.now(), secrets.token_hex(8)
        lease = documents.time_of(copy.note.get("lease"))
        by = copy.by
        if lease and documents.is_held(copy, now) and not (processes.is_this(by) or processes.has_ended(by)):
            raise Held(
                f"{subject} is being moved by {by.get('user', '?')}@{by.get('host', '?')}",
                f"let it finish; its claim ends at {lease:%Y-%m-%d %H:%M} UTC unless renewed",
            )
        until = now + datetime.timedelta(minutes=subject.settings.lease)
        changes = {"caxflow.token": token, "caxflow.lease": until, "caxflow.by": receipts.who()}
        if not subject.database.tell(subject.run, subject.key, changes, {"token": copy.note.get("token")}):
            raise Held(f"{subject} was taken over by somebody else", "nothing was moved")
        return token


def _ended(*names: str) -> dict[str, None]:
    """What takes keys out of an entry's note."""
    return {f"caxflow.{name}": None for name in names}
