"""The daemon: looks for work again and again, and has Snakemake do it, one bounded batch after the other.

Looking is one indexed query; Snakemake is started only where there is something to do. Between two looks it
waits for new runs: by the server's change stream, or, where it has none, until the pause is over. Before that
it does what is due from time to time: a scrub, a purge.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from caxflow import preview, receipts, words
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.planning import bygones, planner
from caxflow.planning.tidy import Tidy
from caxflow.rundb import RunsDB
from caxflow.targets import Target
from caxflow.workdir import chores, guard, journal, lock

# Longest pause, in pauses, after failures in a row; a new run ends it early.
MOST = 8


@dataclass
class Daemon:
    """One daemon of a site.

    Parameters
    ----------
    load : callable
        Reads the configuration; called before each look, so that edits count without a restart.
    command : callable
        Takes a target, ``all``, ``scrub`` or ``purge``, and returns the words of the command that makes it:
        Snakemake with its profile.
    directory : Path
        Where the command is run.
    pause : float
        Seconds between two looks where nothing new is heard of.
    grace : float
        Seconds that jobs at work have to end when the daemon is to stop; then they are interrupted.
    say : callable
        Takes a line for the user.
    """

    load: Callable[[], Settings]
    command: Callable[[str], Sequence[str]]
    directory: Path
    pause: float = 60
    grace: float = 60
    say: Callable[[str], None] = print
    _stop: threading.Event = field(default_factory=threading.Event)
    _hurry: bool = False
    _said: str = ""
    _untold: set[Target] = field(default_factory=set)

    def stop(self, *_: object) -> None:
        """Begin nothing new and end; called again, interrupt what is at work. May be a signal's handler."""
        self._hurry = self._stop.is_set()
        self._stop.set()

    def run(self) -> None:
        """Look and work until `stop`.

        Raises
        ------
        CaxflowError
            If another daemon serves this site.
        """
        settings = self.load()
        with alone(Path(planner.work_dir(settings))):
            self.say(f"serving {settings.here.name}, process {os.getpid()}")
            failures, before = 0, None
            while not self._stop.is_set():
                # Watched from before the look on: a run that ends during it is not missed.
                with self._changes() as news:
                    wanted, good = self.round()
                    failures = 0 if good else failures + 1
                    # What was done and is wanted still can wait.
                    if not good or not wanted or wanted == before:
                        self._wait(self.pause * min(MOST, 2 ** max(0, failures - 1)), news)
                    before = wanted
            self.say("stopped")

    def once(self) -> bool:
        """Look once, work off one batch; whether all went well."""
        with alone(Path(planner.work_dir(self.load()))):
            return self.round(then="")[1]

    def round(self, then: str = "; waiting for new runs") -> tuple[list[str], bool]:
        """Look once, and work if there is anything to do.

        Parameters
        ----------
        then : str
            What is said to come after a look that finds nothing to do.

        Returns
        -------
        list of str
            Targets that were to be made.
        bool
            Whether all went well.
        """
        try:
            settings = self.load()
            preview.refuse(f"serving {settings.here.name}")
            folder = Path(planner.work_dir(settings))
            with RunsDB(settings.rundb, dry=settings.dry) as database:
                database.now()  # without it there is nothing that could be done
                tidy = {} if settings.dry else {"tidy": Tidy(settings, folder)}
                wanted = planner.look(database, settings, **tidy).targets if settings.daemon.all else []
                bygones.forget(database, settings, folder)
            good = self._chores(settings, folder)
            if self._stop.is_set():
                return wanted, good
            if not wanted and self._untold.issuperset(journal.pending(folder)):
                self._say_once(f"nothing to do at {settings.here.name}{then}")
                return [], good
            self._said = ""
            good &= self._work("all") == 0
            # What cannot be told now cannot be told in a minute either.
            self._untold = set(journal.pending(folder))
        except CaxflowError as error:
            self._say_once(str(error))
            return [], False
        return wanted, good

    def _chores(self, settings: Settings, folder: Path) -> bool:
        """Do what is due from time to time; whether all went well."""
        good = True
        for target in chores.due(folder, settings.daemon.every, receipts.now()):
            if self._stop.is_set():
                break
            self._said = ""
            self.say(f"{target} is due at {settings.here.name}")
            well = self._work(target) == 0
            good &= well
            # What was interrupted is due still.
            if not self._stop.is_set():
                chores.done(folder, target, receipts.now(), good=well)
        return good

    def _work(self, target: str) -> int:
        """Run the command to its end; its exit code."""
        # In its own session: a signal to us is handed on when and how we want.
        process = subprocess.Popen(
            list(self.command(target)), cwd=self.directory, stdin=subprocess.DEVNULL, start_new_session=True
        )
        asked = None
        while True:
            try:
                return process.wait(0.5)
            except subprocess.TimeoutExpired:
                pass
            if not self._stop.is_set():
                continue
            if asked is None:
                asked = time.monotonic()
                self.say(f"stopping: jobs at work have {words.duration(self.grace)} to end")
                process.send_signal(signal.SIGTERM)
            elif self._hurry or time.monotonic() - asked > self.grace:
                # Once, as Ctrl-C does it: to Snakemake and its jobs.
                asked = float("inf")
                self._hurry = False
                os.killpg(process.pid, signal.SIGINT)

    @contextmanager
    def _changes(self) -> Iterator[Iterator[bool]]:
        """Watch the runs database; without it the next look says what is wrong."""
        with ExitStack() as opened:
            news: Iterator[bool] = iter(())
            with suppress(CaxflowError):
                database = opened.enter_context(RunsDB(self.load().rundb, dry=True))
                news = opened.enter_context(database.changes())
            yield news

    def _wait(self, seconds: float, news: Iterator[bool]) -> None:
        """Wait for a new run, for `stop`, or for so long."""
        until = time.monotonic() + seconds
        with suppress(CaxflowError):
            for new in news:
                if new or self._stop.is_set() or time.monotonic() > until:
                    return
        self._stop.wait(max(0, until - time.monotonic()))

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self.say(line)
        self._said = line


@contextmanager
def alone(work_dir: Path) -> Iterator[None]:
    """Be the only daemon of a work directory; the lock ends with the process, even by ``kill -9``.

    Raises
    ------
    CaxflowError
        If there is one already, or nothing may be changed.
    """
    preview.refuse(f"serving {work_dir}")
    guard.check(work_dir)
    handle = lock.take(
        work_dir / journal.STATE / "daemon",
        lambda owner: CaxflowError(
            f"a daemon serves {work_dir} already: {owner}", "one is enough; end it first"
        ),
    )
    try:
        yield
    finally:
        os.close(handle)
