"""What the work directory states of the runs, a file a day: only days with other receipts are written anew.

The folders of the sites are listed once; a day's file begins with how many receipts the day had and when the
last of them was written, so that a refresh reads no receipt of a day that stayed as it was.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from caxflow import targets
from caxflow.errors import CaxflowError
from caxflow.page.details import from_work_dir
from caxflow.targets import Run


class Stated:
    """The receipts of a work directory by day.

    Parameters
    ----------
    work_dir : Path
    sites : iterable of str
    """

    def __init__(self, work_dir: Path, sites: Iterable[str]):
        self.work_dir, self.sites = work_dir, list(sites)
        self._runs: dict[str, set[Run]] = defaultdict(set)
        self._listed: dict[str, list[str]] = defaultdict(list)
        for site in self.sites:
            for name, time in _files(work_dir / site):
                try:
                    run = targets.parse(f"{site}/{name}").run
                except CaxflowError:
                    continue
                day = run.name[:6]
                self._runs[day].add(run)
                self._listed[day].append(f"{site}/{name} {time}")

    def __contains__(self, run: Run) -> bool:
        return run in self._runs.get(run.name[:6], ())

    def days(self) -> Iterator[tuple[str, str]]:
        """Each day that has receipts, and a stamp that changes with them."""
        for day, listed in self._listed.items():
            yield day, hashlib.sha256("\n".join(sorted(listed)).encode()).hexdigest()[:16]

    def of(self, day: str) -> dict[str, dict]:
        """What is stated of each run of a day."""
        runs = sorted(self._runs[day], key=str)
        return {str(run): from_work_dir(self.work_dir, run, self.sites) for run in runs}


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Names and times of the files in a folder, of which there may be hundreds of thousands."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as found:
        for entry in found:
            # A link to a product that is gone is a fact, too.
            yield entry.name, entry.stat(follow_symlinks=False).st_mtime_ns
