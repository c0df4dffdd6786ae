"""A copy that something is to be done to, with what that takes."""

import contextlib
import dataclasses
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from caxflow import documents, transfer
from caxflow.config import Settings, Site, reach
from caxflow.copies import roots
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.legible import printable
from caxflow.rundb import Claim, Key, RunsDB
from caxflow.targets import Run
from caxflow.transfer import Place, Progress
from caxflow.transfer.folder import HELD_UP


@dataclass(frozen=True)
class OnDisk:
    """A copy on disk: the path of its folder or file, and what it is to hold; None if that is not known."""

    path: str
    manifest: Manifest | None


def folder_of(location: str) -> str:
    """Return the folder that holds a copy, which may be empty without it."""
    return posixpath.dirname(location.rstrip("/"))


def asides(root: str, folder: str, location: str, token: str) -> tuple[str, str]:
    """Return where a copy may be put inside a hidden folder; the token makes its name new.

    That is a folder of the root or, of a copy on a file system that is mounted below the root, one beside the
    copy: it is only renamed.
    """
    name = f"{posixpath.basename(location.rstrip('/'))}.{token}"
    return posixpath.join(root, folder, name), posixpath.join(folder_of(location), folder, name)


def aside(place: Place, root: str, folder: str, location: str, token: str) -> str:
    """Return which of `asides` it is, of a copy at a place."""
    first, second = asides(root, folder, location, token)
    if first != second:
        with contextlib.suppress(CaxflowError):  # then nothing can be renamed there
            if not transfer.have_one_file_system(place, root, folder_of(location)):
                return second
    return first


def sign_of(path: str, run: object) -> str:
    """Return where a file lies, beside what a move left at a path, that shows that its disk is there."""
    return posixpath.join(folder_of(path), f".{run}.part-left")


@dataclass
class Subject:
    """One copy at one site.

    Parameters
    ----------
    settings : Settings
    database : RunsDB
    site : Site
    run : Run
    key : Key
        Which entry of the run document.
    work_dir : Path
        Where receipts are.
    say : callable
        Takes lines for whoever reads the log.
    progress : callable, optional
        As transfers call it.
    way : callable, optional
        How sites are reached, where that is not what their files say alone.
    """

    settings: Settings
    database: RunsDB
    site: Site
    run: Run
    key: Key
    work_dir: Path
    say: Callable[[str], None]
    progress: Callable[[Progress], None] | None = None
    way: Callable[[Site], Place] | None = None

    def __str__(self) -> str:
        version = f" {self.key.version}" if self.key.version else ""
        return f"{self.run}: its {self.key.kind} copy{version} at {self.site.name}"

    @property
    def place(self) -> Place:
        """How the site is reached."""
        return self.way(self.site) if self.way else reach.place(self.settings, self.site)

    @property
    def root(self) -> str:
        """The site's folder for that kind of data."""
        if self.key.kind not in self.site.roots:
            raise CaxflowError(
                f"site {self.site.name} has no folder for {self.key.kind} data",
                f"name roots.{self.key.kind} in its site file",
            )
        return self.site.roots[self.key.kind]

    def find(self, document: Mapping) -> Copy | None:
        """The copy's entry in a document; one that points outside the root, or at other data, is an error."""
        copy = documents.find(document, self.key.kind, self.key.host, self.key.version)
        if copy and not documents.inside(copy.location, self.root):
            raise CaxflowError(
                f"{self} is said to be in {copy.location!r}, outside {self.root}",
                f"mend the document's location, or roots.{self.key.kind} of site {self.site.name}",
            )
        if copy and (why := documents.misplaced(self.key.kind, self.run, copy.location, self.root)):
            raise CaxflowError(
                f"{self} is said to be in {printable(copy.location)}, {why}",
                "correct the document's location",
            )
        return copy

    def check_alone(self, document: Mapping, copy: Copy, path: str | None = None) -> None:
        """See that no other entry of the host speaks of the same data, or of some in it or around it.

        Parameters
        ----------
        path : str, optional
            Of a part of the copy; by default all of it.
        """
        own = dataclasses.replace(copy, location=path or copy.location)
        if other := next(documents.sharing(document, own), ""):
            raise CaxflowError(
                f"{self}: another entry of {copy.host} is in {other}, its own place",
                "correct the document's locations",
            )

    def check_mounted(self, location: str = "", folder: str | None = None) -> None:
        """See that the disk is there on which the copy is to be, as `caxflow.copies.roots.check` does.

        Parameters
        ----------
        location : str, optional
            Where there is nothing, for the message.
        """
        try:
            roots.check(self.settings, self.site, self.key.kind, folder)
        except CaxflowError as error:
            missing = f"there is nothing at {location}; " if location else ""
            raise type(error)(f"{self}: {missing}{error.what}", error.mend) from error

    def manifest(self, digest: object) -> Manifest | None:
        """The manifest with a digest that a document names; None where the database has none."""
        stated = self.database.manifest(digest) if digest and isinstance(digest, str) else None
        return Manifest.from_json(stated) if stated else None

    def may_be_renamed(self, old: str, new: str) -> bool:
        """Whether something is at `old`, and nothing at `new`; or one file at both.

        The latter is what a rename left that was killed where a file system has only links for it.
        """
        there, taken = transfer.look(self.place, [old, new])
        one = there.kind == "file" and list(there.identity) == list(taken.identity) != []
        return there.kind is not None and (taken.kind is None or one)

    def rename(self, old: str, new: str) -> None:
        """Rename something within the root; nothing may be at the new path."""
        transfer.rename(self.place, old, new, root=self.root)

    def bring(self, old: str, new: str) -> None:
        """Rename something within the root, unless that was done already."""
        if self.may_be_renamed(old, new):
            self.rename(old, new)

    def remove(self, path: str, root: str | None = None, *, asked: float | None = None) -> None:
        """Remove a file or folder below the root, or below another one of the site.

        Parameters
        ----------
        asked : float, optional
            When it was asked whether that may be (monotonic clock): it must begin not long after.
        """
        begin_by = None if asked is None else asked + HELD_UP
        transfer.remove_tree(self.place, path, root=root or self.root, begin_by=begin_by)

    def prune(self, folder: str, root: str | None = None) -> None:
        """Remove a folder, and those above it, as far as they are empty."""
        transfer.prune(self.place, folder, root=root or self.root)

    def hold(self, token: str) -> Claim:
        """Hold the copy by a token: the lease is renewed with the progress of what is done to it."""
        claim, report = Claim(self.database, self.run, self.key, token, self.settings.lease), self.progress

        def progress(state: Progress) -> None:
            claim.renew()
            if report:
                report(state)

        self.progress = progress
        return claim

    def aside(self, folder: str, location: str, token: str) -> str:
        """Return where the copy is put inside a hidden folder; see `asides`."""
        return aside(self.place, self.root, folder, location, token)
