"""Receipts in the work directory that state what was wanted once: another version, or older corrections.

Snakemake takes a file that is there for good, so before anything is planned such receipts make room. Those of
another version of the processing become that version's own; those of older corrections go.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from caxflow import documents, receipts, targets
from caxflow.config import Site
from caxflow.errors import CaxflowError
from caxflow.targets import Run, Target
from caxflow.workdir import journal

PROCESSED = (
    "settings.json",
    "processed.root",
    "processed.done",
    "processed.checksum",
    "minitrees.done",
    "report.html",
)
# The same facts, as those of a version.
_OWN = {"settings.json": "settings.json", "processed.root": "root", "processed.done": "done"}


def find(
    work_dir: Path,
    site: Site,
    run: Run,
    version: str,
    *,
    corrections: Mapping | None,
    anew: bool,
    renewed: str | None = None,
) -> Collection[str]:
    """Stages of a run at a site whose receipts are not what is wanted now.

    Parameters
    ----------
    version : str
        Version that the site keeps.
    corrections : mapping or None
        Versions of the corrections with which the run would be processed here; None where it is not.
    anew : bool
        Whether the run is processed again.
    renewed : str, optional
        Digest of the manifest of a kept file that has been made anew elsewhere.
    """
    done = _read(work_dir, site, run, "processed.done")
    if done:
        other = documents.value(done, "entry", "version") != version
        superseded = renewed and documents.value(done, "manifest", "digest") == renewed
        if other or superseded or (anew and done.get("correction_versions") != corrections):
            return PROCESSED
    stale = []
    frozen = _read(work_dir, site, run, "settings.json")
    if frozen and corrections is not None and not done:
        made_for = documents.value(frozen, "made_for", "pax_version")
        if made_for != version or frozen.get("correction_versions") != corrections:
            stale.append("settings.json")
    made = _read(work_dir, site, run, "minitrees.done")
    if made and site.minitrees:
        there = documents.value(made, "treemakers", type_=list) or []
        lacking = any(each not in there for each in site.minitrees.treemakers)
        lacking |= Path(str(made.get("location"))).name != str(run)  # it is the folder of all runs
        if lacking or documents.value(made, "entry", "version") != version:
            stale.append("minitrees.done")
    return stale


def retire(work_dir: Path, site: Site, run: Run, stages: Collection[str], version: str) -> None:
    """Have outdated receipts make room."""
    other = None
    if "processed.done" in stages:
        receipt = _read(work_dir, site, run, "processed.done") or {}
        other = documents.value(receipt, "entry", "version", type_=str)
    for stage in stages:
        old = Target(site.name, run, stage)
        path = work_dir / str(old)
        own = f"pax_{other}.{_OWN[stage]}" if stage in _OWN and other not in (None, version) else None
        if own and path.is_symlink() | path.exists() and targets.is_stage(own):
            new = Target(site.name, run, own)
            (work_dir / str(new)).parent.mkdir(parents=True, exist_ok=True)
            if own.endswith(".done"):
                journal.announce(work_dir, new)
            path.replace(work_dir / str(new))
        receipts.remove(path)
        journal.settle(work_dir, old)
        journal.succeed(work_dir, old)


def _read(work_dir: Path, site: Site, run: Run, stage: str) -> dict | None:
    path = work_dir / targets.path(site.name, run, stage)
    try:
        return receipts.read(path) if path.exists() else None
    except CaxflowError:
        return {}  # damaged: it states nothing that could be wanted
