"""What the runs database has yet to be told, and what failed: kept as small files in the work directory.

``.caxflow/pending/<site>.<run>.<stage>`` is made *before* the receipt of that target is written and removed
once the database knows, so whatever crashes in between, the next sync catches up without looking at every
receipt. ``.caxflow/failures/<site>.<run>.<stage>.json`` keeps the last error and the number of attempts
until the stage succeeds.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from caxflow import receipts, targets
from caxflow.targets import Run

STATE = ".caxflow"
_NAME = re.compile(f"({targets.SITE})\\.({targets.RUN})\\.(.+)")


def announce(work_dir: Path, site: str, run: Run, stage: str) -> None:
    """Note that the database is to be told about this target."""
    mark = _mark(work_dir, site, run, stage)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    receipts.sync_folder(mark.parent)


def settle(work_dir: Path, site: str, run: Run, stage: str) -> None:
    """The database knows about this target."""
    _mark(work_dir, site, run, stage).unlink(missing_ok=True)


def pending(work_dir: Path) -> Iterator[tuple[str, Run, str]]:
    """Site, run and stage of everything that the database has yet to be told."""
    folder = work_dir / STATE / "pending"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and match[3] in targets.STAGES:
            yield match[1], Run.parse(match[2]), match[3]


def fail(work_dir: Path, site: str, run: Run, stage: str, reason: str, **facts: object) -> dict:
    """Keep the reason of a failure, count the attempt, and have it told to the database."""
    before = failure(work_dir, site, run, stage)
    attempts = (before or {}).get("attempts", 0) + 1
    content = receipts.statement(stage, site, run, reason=reason, attempts=attempts, **facts)
    receipts.write(_failure(work_dir, site, run, stage), content)
    announce(work_dir, site, run, stage)
    return content


def failure(work_dir: Path, site: str, run: Run, stage: str) -> dict | None:
    """The last failure of this target, or None."""
    path = _failure(work_dir, site, run, stage)
    return receipts.read(path) if path.exists() else None


def succeed(work_dir: Path, site: str, run: Run, stage: str) -> None:
    """Forget the failures of a target that is there now."""
    with contextlib.suppress(FileNotFoundError):
        _failure(work_dir, site, run, stage).unlink()


def _mark(work_dir: Path, site: str, run: Run, stage: str) -> Path:
    targets.path(site, run, stage)  # refuses what is not of the vocabulary
    return work_dir / STATE / "pending" / f"{site}.{run}.{stage}"


def _failure(work_dir: Path, site: str, run: Run, stage: str) -> Path:
    targets.path(site, run, stage)
    return work_dir / STATE / "failures" / f"{site}.{run}.{stage}.json"
