"""Replacing a copy by what was made anew elsewhere, such as a file processed with newer corrections."""

import posixpath
import secrets
import time

from caxflow import transfer
from caxflow.copies import proof
from caxflow.copies.removal import TRASH
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.rundb import audit
from caxflow.transfer import Copied, Place


def renew(
    subject: Subject,
    source: Place,
    source_path: str,
    location: str,
    *,
    expected: Manifest | None,
    old: str,
    extra_algorithms: tuple[str, ...] = (),
) -> Copied:
    """Copy a single file over the one at `location`, which may be gone already.

    The new one arrives beside it under a hidden name; once it is whole they change places, and the old one
    goes through the trash. After a crash at any step the same call goes on. What is neither of the two stays.

    Parameters
    ----------
    subject : Subject
        The copy, claimed.
    expected : Manifest, optional
        What the source must hold.
    old : str
        Digest of the manifest of the file that is replaced.
    extra_algorithms : tuple of str
        As `caxflow.transfer.copy` takes them.

    Raises
    ------
    CaxflowError
        If something else is at `location`, or the new file is not there when the old one is to be deleted.
    """
    place = subject.place
    folder, name = posixpath.split(location)
    arrived = posixpath.join(folder, f".{name}.part-anew")
    copied = transfer.copy(
        source,
        source_path,
        place,
        arrived,
        expected=expected,
        progress=subject.progress,
        extra_algorithms=extra_algorithms,
        root=subject.root,
    )
    token = secrets.token_hex(8)
    aside = subject.aside(TRASH, location, token)
    replaced = subject.manifest(old)
    either = [copied.manifest, *([replaced] if replaced else [])]
    there = transfer.exists(place, location) is not None
    if there:
        _check(subject, location, either)
        subject.rename(location, aside)
    try:
        if there:
            _check(subject, aside, either)
        subject.rename(arrived, location)
    except CaxflowError:
        if there:
            # Whoever took this over while we were stopped may have done it: then that was the new one.
            subject.rename(aside, location)
        raise
    facts = {"site": subject.site.name, "manifest": old, "by_manifest": copied.manifest.digest}
    grounds = "it was made anew elsewhere"
    audit.record(subject.database, "replaced", subject.run, subject.key, grounds=grounds, **facts)
    if there:
        try:
            _check(subject, location, [copied.manifest])
            subject.remove(aside, asked=time.monotonic())
        except CaxflowError as error:
            subject.say(f"{location} is the new one; the old one stays in {aside}: {error}")
    return copied


def _check(subject: Subject, path: str, either: list[Manifest]) -> None:
    """See that one of the two files is at a path, by its bytes."""
    wrong = [_difference(subject, path, manifest) for manifest in either]
    if all(wrong):
        raise CaxflowError(f"{path} is not replaced, nor removed: {wrong[-1]}", "look at what is there")


def _difference(subject: Subject, path: str, expected: Manifest) -> str:
    if wrong := proof.same_files(subject.place, path, expected, renamed=True):
        return wrong
    found = transfer.take_manifest(
        subject.place, path, algorithm=expected.algorithm, drop_cache=False, size=expected.size
    )
    same = found.entries[0].digest == expected.entries[0].digest
    return "" if same else f"{path} has other contents than its manifest says"
