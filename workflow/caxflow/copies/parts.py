"""What a copy consists of on disk: a folder or a file."""

import posixpath
from dataclasses import dataclass

from caxflow import transfer
from caxflow.copies import proof
from caxflow.copies.subject import Subject
from caxflow.files.manifest import Manifest
from caxflow.rundb import Key
from caxflow.targets import Run
from caxflow.transfer import Place


@dataclass(frozen=True)
class Part:
    """A part of a copy: its path, and its name where the copy lies elsewhere; empty where it is all of it.

    `manifest` says of which files it consists; None where that is not known.
    """

    name: str
    path: str
    manifest: Manifest | None

    def at(self, place: str) -> str:
        """Where this part is when the copy is at `place`."""
        return posixpath.join(place, self.name) if self.name else place


def of(key: Key, run: Run, location: str, manifest: Manifest | None) -> list[Part]:
    """The parts of a copy at `location`."""
    return [Part("", location.rstrip("/"), manifest)]


def folder(key: Key, location: str) -> str:
    """The folder that holds a copy, which may be empty without it."""
    return posixpath.dirname(location.rstrip("/"))


def wrong(
    parts: list[Part], place: Place, *, at: str | None = None, look: proof.Glance = proof.glance
) -> str:
    """Why what lies there is not those parts, all of them and nothing else; empty if it is.

    Parameters
    ----------
    at : str, optional
        Where the copy lies under another name; by default where it belongs.
    look : callable
        As `caxflow.copies.proof.glance`.
    """
    for part in parts:
        path = part.path if at is None else part.at(at)
        if found := proof.same_files(place, path, part.manifest, renamed=at is not None, look=look):
            return found
    return ""


def any_there(parts: list[Part], place: Place, *, at: str | None = None) -> bool:
    """Return whether anything is where a part belongs, or `at` another place of the copy."""
    return any(transfer.exists(place, part.path if at is None else part.at(at)) for part in parts)


def rename(parts: list[Part], subject: Subject, *, aside: str, back: bool = False) -> None:
    """Rename all parts to where they are aside, or back; those that were renamed already stay."""
    for part in parts:
        old, new = (part.at(aside), part.path) if back else (part.path, part.at(aside))
        if subject.may_be_renamed(old, new):
            subject.rename(old, new)
    if back and parts and parts[0].name:
        subject.prune(aside, root=posixpath.dirname(aside))
