"""Times of modification of the receipts, by which Snakemake orders them.

A receipt that a wrong clock has put into the future would make Snakemake refuse what is made of it ("clock
skew"), or make that anew in each call. Which receipt is older than which tells nothing here: what does not
hold any more is taken away.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from caxflow import targets
from caxflow.targets import Run


def repair(work_dir: Path, sites: Iterable[str], run: Run, now: float) -> None:
    """Give all receipts of a run one time, that of the oldest, if some lie in the future.

    Parameters
    ----------
    sites : iterable of str
        Whose receipts may be here.
    now : float
        The time of the work directory's file system, `caxflow.clock.of_files`.
    """
    times: dict[Path, float] = {}
    for site in sites:
        for stage in targets.STAGES:
            path = work_dir / targets.path(site, run, stage)
            with contextlib.suppress(OSError):
                times[path] = os.lstat(path).st_mtime
    if all(at <= now for at in times.values()):
        return
    oldest = min((at for at in times.values() if at <= now), default=1)
    for path in times:
        with contextlib.suppress(OSError):
            os.utime(path, (oldest, oldest), follow_symlinks=False)
