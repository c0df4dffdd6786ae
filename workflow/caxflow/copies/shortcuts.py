"""Links by which hax finds minitrees.

hax looks for ``<run>_<Treemaker>.root`` right in the folder of a version (``hax.minitrees.check``), while the
minitrees of a run are in a folder of their own there, which its entry in the runs database names.
"""

import posixpath
import re
from collections.abc import Callable

from caxflow import transfer
from caxflow.errors import CaxflowError
from caxflow.targets import Run
from caxflow.transfer import Place


def put(place: Place, run: Run, location: str, root: str, say: Callable[[str], None]) -> None:
    """Have a link lead to each of a run's minitrees at `location`; say where that does not go."""
    for path, target in _links(place, run, location, location):
        try:
            if not transfer.link(place, path, target, root=root):
                say(f"{path} is something else than a link to {target}: hax reads that")
        except CaxflowError as error:
            say(f"hax does not find {target}, for there can be no link to it: {error}")


def clear(place: Place, run: Run, location: str, root: str, say: Callable[[str], None]) -> None:
    """Remove the links to a run's minitrees that were at `location`; say where that does not go."""
    for path, target in _links(place, run, location, posixpath.dirname(location.rstrip("/"))):
        try:
            transfer.unlink(place, path, target, root=root)
        except CaxflowError as error:
            say(f"{path} may be a link to nothing: {error}")


def _links(place: Place, run: Run, location: str, listed: str) -> list[tuple[str, str]]:
    """Return paths and texts of the links, by the names of minitrees in the folder that is `listed`."""
    folder, own = posixpath.split(location.rstrip("/"))
    try:
        there = transfer.names(place, listed)
    except CaxflowError:
        return []  # there is no such folder
    names = [name for name in there if re.fullmatch(rf"{run}_[A-Z][A-Za-z0-9]*\.root", name)]
    return [(posixpath.join(folder, name), posixpath.join(own, name)) for name in names]
