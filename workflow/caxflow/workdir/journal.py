"""What the runs database has yet to be told, and what failed: kept as small files in the work directory.

``.caxflow/pending/<site>.<run>.<stage>`` is made *before* the receipt of that target is written and removed
once the database knows, so whatever crashes in between, the next sync catches up without looking at every
receipt; it says ``again`` where the database knew before. ``.caxflow/failures/<site>.<run>.<stage>.json``
keeps the last error and the number of attempts until the stage succeeds.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from caxflow import clock, legible, receipts, targets
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
_AGAIN = "again"  # in a mark of what the database knew once
_NAME = re.compile(f"({targets.SITE})\\.({targets.RUN})\\.(.+)")


def announce(work_dir: Path, target: Target, *, again: bool = False) -> None:
    """Note that the database is to be told about this target, or `again`: it knew, and has lost it."""
    mark = _mark(work_dir, target)
    if not again:
        receipts.touch(mark)
    elif not os.path.lexists(mark):
        receipts.write(mark, _AGAIN)


def settle(work_dir: Path, target: Target) -> None:
    """The database knows about this target."""
    receipts.remove(_mark(work_dir, target))


def announced(work_dir: Path, target: Target) -> float | None:
    """Return how many seconds ago the target was announced; None if it was not."""
    return clock.age(_mark(work_dir, target))


def is_new(work_dir: Path, target: Target) -> bool:
    """Return whether the database was never told about this target."""
    try:
        return receipts.content_of(_mark(work_dir, target)) != _AGAIN.encode()
    except CaxflowError:
        return False


def is_pending(work_dir: Path, target: Target) -> bool:
    """Return whether the database has yet to be told about this target."""
    return os.path.lexists(_mark(work_dir, target))


def pending(work_dir: Path) -> Iterator[Target]:
    """Everything that the database has yet to be told."""
    yield from _targets(receipts.names(work_dir / STATE / "pending"))


def fail(work_dir: Path, target: Target, reason: str, *, counts: bool = True, **facts: object) -> dict:
    """Keep the reason of a failure, count the attempt, and have it told to the database.

    Attempts that say in which `call` they were made count once a call; ``times`` counts each failure.

    Parameters
    ----------
    counts : bool
        Whether it counts as an attempt.
    """
    before = None
    with contextlib.suppress(CaxflowError):
        # A damaged record must not hide what failed now.
        before = failure(work_dir, target)
    again = before is not None and facts.get("call") is not None and before.get("call") == facts["call"]
    attempts = (before["attempts"] if before else 0) + (counts and not again)
    times = (before["times"] if before else 0) + 1
    content = receipts.statement(target, reason=legible.line(reason), attempts=attempts, times=times, **facts)
    receipts.write(_failure(work_dir, target), content)
    announce(work_dir, target)
    return content


def call_of(main: Mapping) -> str:
    """Return the name of a call, by its main process."""
    return " ".join(str(main.get(key)) for key in ("host", "machine", "pid", "started"))


def failure(work_dir: Path, target: Target) -> dict | None:
    """The last failure of this target, or None.

    Raises
    ------
    CaxflowError
        If its record is damaged.
    """
    path = _failure(work_dir, target)
    if not os.path.lexists(path):
        return None
    found = receipts.read(path)
    with receipts.intact(path):
        counts = {name: int(found.get(name, 1)) for name in ("attempts", "times")}
        if not isinstance(found["reason"], str) or not isinstance(found.get("entry", {}), dict):
            raise TypeError("of reason or entry")
        if counts["attempts"] < 0 or counts["times"] < 1:
            raise ValueError("no number of attempts")
        return found | counts | {"reason": legible.line(found["reason"])}


def failures(work_dir: Path) -> Iterator[Target]:
    """Everything that failed and has not succeeded since."""
    names = receipts.names(work_dir / STATE / "failures")
    yield from _targets(name.removesuffix(".json") for name in names if name.endswith(".json"))


def succeed(work_dir: Path, target: Target) -> None:
    """Forget the failures of a target that is there now."""
    receipts.remove(_failure(work_dir, target))


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
        receipts.remove(work_dir / str(target))
        proofs.forget(work_dir, target)
        settle(work_dir, target)


def _version(work_dir: Path, done: Target) -> str | None:
    """Version of what a receipt states, empty if it has none; None where nothing is stated."""
    try:
        entry = receipts.read(work_dir / str(done)).get("entry")
    except CaxflowError:
        return None
    return (entry.get("version") if isinstance(entry, dict) else None) or ""


def _targets(names: Iterable[str]) -> Iterator[Target]:
    for name in names:
        match = _NAME.fullmatch(name)
        if match and targets.is_stage(match[3]):
            yield Target(match[1], Run.parse(match[2]), match[3])


def _mark(work_dir: Path, target: Target) -> Path:
    return work_dir / STATE / "pending" / _name(target)


def _failure(work_dir: Path, target: Target) -> Path:
    return work_dir / STATE / "failures" / f"{_name(target)}.json"


def _name(target: Target) -> str:
    return ".".join(map(str, target))
