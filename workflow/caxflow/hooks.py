"""The end of each call: database and people are told, where configured: metrics, messages, the runs page."""

from collections.abc import Callable
from pathlib import Path

from caxflow import clock, receipts
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.planning import planner, sync
from caxflow.planning.sync import Synced
from caxflow.rundb import RunsDB
from caxflow.workdir import journal


def report(settings: Settings) -> None:
    """Tell the database what a finished call has proven; for ``onsuccess`` and ``onerror``."""
    try:
        with RunsDB(settings.rundb, dry=settings.dry) as database:
            done = sync.sync(database, settings, Path.cwd())
    except CaxflowError as error:
        done = Synced(away=str(error), waiting=sum(1 for _ in journal.pending(Path.cwd())))
    if done.told or done.problems or done.away:
        planner.say(str(done), *done.problems)
    inform(settings, Path.cwd(), done, planner.say)


def inform(settings: Settings, work_dir: Path, done: Synced, say: Callable[[str], None]) -> None:
    """Do all of it; what goes wrong here is said, and spoils nothing else.

    Parameters
    ----------
    done : Synced
        What the sync of this call did.
    say : callable
        Takes a line for the user.
    """
    for wanted, act in (
        (settings.metrics, _metrics),
        (settings.notify, _notify),
        (settings.page and not done.away, _page),
    ):
        if wanted:
            try:
                for line in act(settings, work_dir, done):
                    say(line)
            except CaxflowError as error:
                say(str(error))


def _metrics(settings: Settings, work_dir: Path, done: Synced) -> list[str]:
    from caxflow.monitoring import metrics

    metrics.write(
        Path(settings.metrics),
        settings,
        work_dir,
        waiting=done.waiting + len(done.problems),
        reached=not done.away,
        now=receipts.now().timestamp(),
    )
    return []


def _notify(settings: Settings, work_dir: Path, done: Synced) -> list[str]:
    from caxflow.monitoring import notify

    return notify.tell(settings, work_dir, problems=done.problems, away=done.away, now=receipts.now())


def _page(settings: Settings, work_dir: Path, _: Synced) -> list[str]:
    from caxflow import page

    folder = Path(settings.page.folder)
    index = folder / "index.html"
    age = clock.age(index)
    if age is not None and age < settings.page.every * 60:
        return []
    with RunsDB(settings.rundb, dry=True) as database:
        editions, _ = planner.applied(database, settings)
        found = database.everything(page.PROJECTION)
        told = {"editions": editions, "voltage": planner.remembered(settings), "twice": database.twice()}
        page.write(found, settings, folder, work_dir, database.now(), **told)
    return []
