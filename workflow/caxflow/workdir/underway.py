"""How far local jobs are: small files in the work directory, for whoever shows it.

``.caxflow/underway/<site>.<run>.<stage>.json`` is replaced a few times a second while bytes move and removed
when the job ends. Nothing relies on it: a file that a killed job left behind is known by its process.
"""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from caxflow import plainfile, processes, receipts, targets
from caxflow.errors import CaxflowError
from caxflow.targets import Target
from caxflow.workdir import journal

# Set in the environment of jobs whose failures are shown from the journal.
SHOWN = "CAXFLOW_SHOWN"
# The last line in the log of a job that was.
INTERRUPTED = "interrupted; the next call goes on from here"
INTERVAL = 0.5  # s between two writes of a job
_NAME = re.compile(rf"({targets.SITE})\.(?:(pax_{targets.VERSION})\.)?({targets.RUN}\..+)")


@dataclass(frozen=True)
class State:
    """A moment of a job.

    Parameters
    ----------
    phase : str
        As in `caxflow.transfer.Progress`.
    done, total : int
        Bytes of the phase.
    rate : float
        Bytes a second of late.
    host, pid, started, machine
        Which process does it, see `caxflow.processes`.
    """

    phase: str
    done: int
    total: int
    rate: float
    host: str
    pid: int
    started: int | None = None
    machine: str | None = None

    @property
    def alive(self) -> bool:
        """Whether the process that said so may still be there.

        True for another host, where that cannot be known. Another machine of this host's name is, most
        often, this one before it was rebooted.
        """
        if self.host != receipts.who()["host"]:
            return True
        here = self.machine is not None and self.machine == processes.machine()
        return here and not processes.has_ended(asdict(self))


class Teller:
    """Tells how far one job is; keeps to a few writes a second.

    Parameters
    ----------
    work_dir : Path
    target : Target
        What the job makes.
    """

    def __init__(self, work_dir: Path, target: Target):
        self._file = path(work_dir, target)
        self._who = {key: value for key, value in receipts.who().items() if key != "user"}
        self._next = 0.0

    def tell(self, phase: str, done: int, total: int, rate: float) -> None:
        """Say how far the job is; a disk that cannot take it is no reason to end the job."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + INTERVAL
        state = State(phase, done, total, rate, **self._who)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            plainfile.replace(self._file, json.dumps(asdict(state)).encode())
        except OSError:
            return

    def end(self) -> None:
        """The job is over."""
        try:
            self._file.unlink(missing_ok=True)
        except OSError:
            return


def path(work_dir: Path, target: Target) -> Path:
    """Where the job that makes `target` tells how far it is."""
    return work_dir / journal.STATE / "underway" / f"{str(target).replace('/', '.')}.json"


def read(work_dir: Path, target: Target) -> State | None:
    """How far the job that makes `target` is, if it says so and is still there."""
    return _read(path(work_dir, target))


def listed(work_dir: Path) -> Iterator[tuple[Target, State]]:
    """Yield what the jobs that are at work make, and how far each is."""
    folder = work_dir / journal.STATE / "underway"
    for file in sorted(folder.glob("*.json")):
        match = _NAME.fullmatch(file.stem)
        if match and (state := _read(file)):
            with contextlib.suppress(CaxflowError):
                yield targets.parse("/".join(filter(None, match.groups()))), state


def sweep(work_dir: Path) -> None:
    """Remove what killed jobs left; in time another process may have the number of theirs."""
    folder = work_dir / journal.STATE / "underway"
    for file in folder.iterdir() if folder.is_dir() else ():
        # Without a file that was not renamed yet, a job that lives just tells it a moment later.
        if file.suffix != ".json" or _read(file) is None:
            with contextlib.suppress(OSError):
                file.unlink()


def _read(file: Path) -> State | None:
    try:
        with receipts.intact(file):
            state = State(**receipts.read(file))
            numbers = state.done, state.total, state.rate, state.pid
            return state if all(isinstance(each, int | float) for each in numbers) and state.alive else None
    except CaxflowError:
        return None
