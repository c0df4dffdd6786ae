"""What the runs database has yet to be told, and what failed: kept as small files in the work directory.

``.caxflow/pending/<site>.<run>.<stage>`` is made *before* the receipt of that target is written and removed
once the database knows, so whatever crashes in between, the next sync catches up without looking at every
receipt. ``.caxflow/failures/<site>.<run>.<stage>.json`` keeps the last error and the number of attempts
until the stage succeeds.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from caxflow import receipts, targets
from caxflow.errors import CaxflowError
from caxflow.targets import Run, Target
from caxflow.workdir import proofs

STATE = ".caxflow"

# Targets that state something about a copy of that kind, or point at it.
STAGES_OF = {
    "raw": ("checksum", "raw.done"),
    "processed": ("processed.checksum", "processed.root", "processed.done"),
    "minitrees": ("minitrees.done",),
}
_NAME = re.compile(f"({targets.SITE})\\.({targets.RUN})\\.(.+)")


def announce(work_dir: Path, target: Target) -> None:
    """Note that the database is to be told about this target."""
    mark = _mark(work_dir, target)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    receipts.sync_folder(mark.parent)


def settle(work_dir: Path, target: Target) -> None:
    """The database knows about this target."""
    _mark(work_dir, target).unlink(missing_ok=True)


def announced(work_dir: Path, target: Target) -> float:
    """When the target was announced, in seconds since the epoch; 0 if it was not."""
    try:
        return _mark(work_dir, target).stat().st_mtime
    except FileNotFoundError:
        return 0


def pending(work_dir: Path) -> Iterator[Target]:
    """Everything that the database has yet to be told."""
    folder = work_dir / STATE / "pending"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and targets.is_stage(match[3]):
            yield Target(match[1], Run.parse(match[2]), match[3])


def fail(work_dir: Path, target: Target, reason: str, **facts: object) -> dict:
    """Keep the reason of a failure, count the attempt, and have it told to the database.

    Attempts that say in which `call` they were made count once a call; ``times`` counts each failure.
    """
    before = None
    with contextlib.suppress(CaxflowError):
        # A damaged record must not hide what failed now.
        before = failure(work_dir, target)
    again = before is not None and facts.get("call") is not None and before.get("call") == facts["call"]
    attempts = (before or {}).get("attempts", 0) + (not again)
    times = (before or {}).get("times", 0) + 1
    content = receipts.statement(target, reason=reason, attempts=attempts, times=times, **facts)
    receipts.write(_failure(work_dir, target), content)
    announce(work_dir, target)
    return content


def call_of(main: Mapping) -> str:
    """Return the name of a call, by its main process."""
    return " ".join(str(main.get(key)) for key in ("host", "machine", "pid", "started"))


def failure(work_dir: Path, target: Target) -> dict | None:
    """The last failure of this target, or None."""
    path = _failure(work_dir, target)
    return receipts.read(path) if path.exists() else None


def failures(work_dir: Path) -> Iterator[Target]:
    """Everything that failed and has not succeeded since."""
    folder = work_dir / STATE / "failures"
    for path in sorted(folder.glob("*.json")):
        match = _NAME.fullmatch(path.stem)
        if match and targets.is_stage(match[3]):
            yield Target(match[1], Run.parse(match[2]), match[3])


def succeed(work_dir: Path, target: Target) -> None:
    """Forget the failures of a target that is there now."""
    with contextlib.suppress(FileNotFoundError):
        _failure(work_dir, target).unlink()


def forget(work_dir: Path, site: str, run: Run, kind: str, version: str | None = None) -> None:
    """Take the receipts about a copy away, and what was to be told of them: it is there no more.

    Parameters
    ----------
    version : str, optional
        Of what is made in versions; those of another one than the receipts state have receipts of their own.
    """
    stages = STAGES_OF[kind]
    if version and _version(work_dir, Target(site, run, stages[-1])) not in (None, version):
        own = (f"pax_{version}.{last}" for last in ("root", "done"))
        stages = [stage for stage in own if kind == "processed" and targets.is_stage(stage)]
    for stage in stages:
        target = Target(site, run, stage)
        (work_dir / str(target)).unlink(missing_ok=True)
        proofs.forget(work_dir, target)
        settle(work_dir, target)


def _version(work_dir: Path, done: Target) -> str | None:
    """Version of what a receipt states, empty if it has none; None where nothing is stated."""
    try:
        entry = receipts.read(work_dir / str(done)).get("entry")
    except CaxflowError:
        return None
    return (entry.get("version") if isinstance(entry, dict) else None) or ""


def _mark(work_dir: Path, target: Target) -> Path:
    return work_dir / STATE / "pending" / _name(target)


def _failure(work_dir: Path, target: Target) -> Path:
    return work_dir / STATE / "failures" / f"{_name(target)}.json"


def _name(target: Target) -> str:
    return ".".join(map(str, target))
