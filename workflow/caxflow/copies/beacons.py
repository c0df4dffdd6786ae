"""Files that are put beside copies for a moment: two folders that are one show the same of them.

That holds over protocols that tell no inodes, and whatever is mounted where.
"""

import contextlib
import posixpath
from collections.abc import Iterator, Mapping

from caxflow import transfer
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError

# Which folder of which site, by the site's name.
Folders = Mapping[str, tuple[Subject, str]]


@contextlib.contextmanager
def lit(folders: Folders, token: str) -> Iterator[dict[str, str]]:
    """Put a file into each folder while the block runs.

    Parameters
    ----------
    token : str
        Makes the names new; the same one finds what an interrupted block left.

    Yields
    ------
    dict of str to str
        The file's name by site; a site that lets nothing be written has none.
    """
    names = {}
    try:
        for site, (subject, folder) in folders.items():
            name = _name(subject, site, token)
            with contextlib.suppress(CaxflowError):
                transfer.touch(subject.place, posixpath.join(folder, name), root=subject.root)
                names[site] = name
        yield names
    finally:
        clear({site: folders[site] for site in names}, token)


def clear(folders: Folders, token: str) -> None:
    """Remove the files that `lit` put into folders, as far as that can be."""
    for site, (subject, folder) in folders.items():
        with contextlib.suppress(CaxflowError):
            subject.remove(posixpath.join(folder, _name(subject, site, token)))


def _name(subject: Subject, site: str, token: str) -> str:
    return f".{subject.run}.part-beacon-{token}-{site}"
