"""Replacing a copy by what was made anew elsewhere, such as a file processed with newer corrections."""

import posixpath
import secrets

from caxflow import transfer
from caxflow.copies.removal import TRASH
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.rundb import audit
from caxflow.transfer import Copied, Place


def renew(
    subject: Subject, source: Place, source_path: str, location: str, *, expected: Manifest | None, old: str
) -> Copied:
    """Copy a single file over the one at `location`, which may be gone already.

    The new one arrives beside it under a hidden name; once it is whole they change places, and the old one
    goes through the trash. After a crash at any step the same call goes on.

    Parameters
    ----------
    subject : Subject
        The copy, claimed.
    expected : Manifest, optional
        What the source must hold.
    old : str
        Digest of the manifest of the file that is replaced, for the audit.
    """
    place, root = subject.place, subject.root
    folder, name = posixpath.split(location)
    arrived = posixpath.join(folder, f".{name}.part-anew")
    copied = transfer.copy(source, source_path, place, arrived, expected=expected, progress=subject.progress)
    token = secrets.token_hex(8)
    aside = subject.aside(TRASH, location, token)
    there = transfer.exists(place, location) is not None
    if there:
        facts = {"site": subject.site.name, "manifest": old, "by_manifest": copied.manifest.digest}
        grounds = "it was made anew elsewhere"
        audit.record(subject.database, "replaced", subject.run, subject.key, grounds=grounds, **facts)
        transfer.rename(place, location, aside, root=root)
    try:
        transfer.rename(place, arrived, location, root=root)
    except CaxflowError:
        if there:
            # Whoever took this over while we were stopped may have done it: then that was the new one.
            transfer.rename(place, aside, location, root=root)
        raise
    if there:
        transfer.remove_tree(place, aside, root=root)
    return copied
