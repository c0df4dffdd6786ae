"""Whether the copies of a site lie where its run documents say; names only, no byte is read."""

import os
from pathlib import Path

from caxflow import documents
from caxflow.config import Site
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files import marker
from caxflow.files.census import is_furniture
from caxflow.processing.minitrees import minitree_path
from caxflow.targets import Run


class Presence:
    """What lies in the folders of a site; each folder is listed once, however many runs are asked for.

    Parameters
    ----------
    site : Site
        The one whose disks this machine has.
    """

    def __init__(self, site: Site):
        self.site = site
        self._listed: dict[Path, dict[str, bool]] = {}
        self._marked: dict[str, str] = {}

    def fault(self, run: Run, copy: Copy) -> str:
        """Return what is wrong with the place of a copy of this site; empty where something is there.

        Copies that are being made, moved or removed are in no certain place.
        """
        root = self.site.roots.get(copy.kind)
        stands = copy.status in (documents.TRANSFERRED, documents.VERIFYING)
        if not stands or copy.host != self.site.host or not (root and documents.inside(copy.location, root)):
            return ""
        where = f"its {copy.kind} copy at {self.site.name}"
        try:
            for path in _paths(run, copy):
                if not (wrong := self._wrong(path)):
                    continue
                if unmarked := self._unmarked(root, copy.kind):
                    return f"{where} cannot be looked at: {unmarked}"
                return f"{where} is missing: {wrong} -> bring it back, or have it read again: scrub"
        except OSError:
            pass  # where this user may not look, nothing is known
        return ""

    def unready(self, kind: str) -> str:
        """Return why nothing may be written to the root of a kind; empty if it may, or may be a new one."""
        root = self.site.roots.get(kind)
        try:
            wrong = root and self._unmarked(root, kind)
            if not wrong or (Path(root).is_dir() and _is_bare(root)):
                return ""
        except OSError as error:
            wrong = f"{error.filename}: {error.strerror} -> mount its file system, or correct its permissions"
        return f"no {kind} data are written at {self.site.name}: {wrong}"

    def _unmarked(self, root: str, kind: str) -> str:
        """Return what is wrong with the marker of a root; empty if it is the one of this site."""
        if root not in self._marked:
            wrong = ""
            try:
                if not Path(root).is_dir():
                    wrong = f"there is no {root} -> mount its file system"
                else:
                    marker.check(marker.read(root, self.site.name), root, self.site.name, kind)
            except CaxflowError as error:
                wrong = str(error)
            self._marked[root] = wrong
        return self._marked[root]

    def _wrong(self, path: Path) -> str:
        link = self._list(path.parent).get(path.name)
        if link is None:
            # It may have come since the folder was listed.
            if not os.path.lexists(path):
                return f"there is no {path}"
            link = path.is_symlink()
        return f"{path} is a link" if link else ""

    def _list(self, folder: Path) -> dict[str, bool]:
        """Return the names in a folder, and whether each is a link."""
        if folder not in self._listed:
            try:
                with os.scandir(folder) as found:
                    self._listed[folder] = {entry.name: entry.is_symlink() for entry in found}
            except (FileNotFoundError, NotADirectoryError):
                self._listed[folder] = {}
        return self._listed[folder]


def _is_bare(folder: str) -> bool:
    """Return whether nothing is in a folder but what is the file system's own."""
    return all(is_furniture(path.name) for path in Path(folder).iterdir())


def _paths(run: Run, copy: Copy) -> list[Path]:
    """Return the paths of a copy; of minitrees, that of each."""
    if copy.kind != "minitrees":
        return [Path(copy.location)]
    made = documents.value(copy.note, "treemakers", type_=list) or []
    folder = Path(copy.location)
    try:
        return [folder / minitree_path(folder, "", run, name).name for name in made if isinstance(name, str)]
    except CaxflowError:
        return []
