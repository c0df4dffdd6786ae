"""Tells people what a human must do, grouped and seldom.

What was told is kept in the work directory, so that the same is told once, and again only after a day or
when it comes back.
"""

import datetime
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caxflow import clock, legible, receipts, words
from caxflow.config import Notify, Settings
from caxflow.errors import CaxflowError
from caxflow.monitoring.delivery import deliver
from caxflow.planning import pauses, plan
from caxflow.workdir import journal

STATE = ".caxflow/notified.json"
AWAY = datetime.timedelta(hours=1)  # a shorter absence mends itself
MOST_RUNS = 8  # named in one line of a message
MOST_LINES = 20
_LONGEST = 400  # characters of a reason, or of what is named


@dataclass(frozen=True)
class Alarm:
    """Something a human must do: alarms of one `group` make one line, `what` they are about is listed."""

    group: str
    what: str

    @property
    def key(self) -> str:
        """What makes it the same alarm as before."""
        return f"{self.group}: {self.what}"


def alarms(settings: Settings, work_dir: Path, problems: list[str]) -> Iterator[Alarm]:
    """What needs a human: targets that failed too often, and what the last call could not understand.

    Parameters
    ----------
    problems : list of str
        What the last sync could not tell.
    """
    for target in plan.failures(work_dir):
        try:
            failure = journal.failure(work_dir, target) or {}
        except CaxflowError as error:
            yield Alarm("records of failures are damaged", str(error))
            continue
        # Where no attempt counts, a disk is not there: all of them tell how long that lasts.
        count = failure.get("attempts", 0) or failure.get("times", 0)
        if count >= settings.attempts and not pauses.is_passing(failure, settings):
            reason = _without_run(str(failure.get("reason")), str(target.run))
            times = words.count(count, "time")
            yield Alarm(f"{target.stage} at {target.site} failed {times}: {reason}", str(target.run))
    for problem in dict.fromkeys([*problems, *plan.survey(work_dir).get("problems", [])]):
        yield Alarm("to be mended", problem)


def tell(
    settings: Settings,
    work_dir: Path,
    *,
    problems: list[str],
    away: str,
    now: datetime.datetime,
    send: Callable[[Notify, str, str], list[str]] = deliver,
) -> list[str]:
    """Tell what is new, if it is time to.

    Parameters
    ----------
    problems : list of str
        What the last sync could not tell.
    away : str
        Why the runs database cannot be reached; empty if it can.
    now : datetime
        With its zone.
    send : callable
        Is given the options, a subject and a text, as `deliver` is.

    Returns
    -------
    list of str
        Ways by which it could not be told, and why.

    Raises
    ------
    CaxflowError
        If it could not be told at all; it is tried again after the next call.
    """
    options, path = settings.notify, work_dir / STATE
    state = _read(path)
    found = list(alarms(settings, work_dir, problems))
    since = ((_time(state.get("away"), now) or now).isoformat()) if away else None
    if since and now - datetime.datetime.fromisoformat(since) >= AWAY:
        found.append(Alarm(f"the runs database is away since {since[:16].replace('T', ' ')} UTC", away))
    before = {alarm.key: state["told"][alarm.key] for alarm in found if alarm.key in state["told"]}
    remind = datetime.timedelta(hours=options.remind)
    new = [alarm for alarm in found if not _is_within(before.get(alarm.key), remind, now)]
    last = state.get("last")
    quiet = _is_within(last, datetime.timedelta(minutes=options.every), now)
    failed = []
    if new and not quiet:
        failed = send(options, *message(settings.here.name, new))
        before |= {alarm.key: now.isoformat() for alarm in new}
        last = now.isoformat()
    after = {"told": before, "last": last, "away": since}
    if after != state:
        receipts.write(path, after)
    return failed


def message(site: str, found: list[Alarm]) -> tuple[str, str]:
    """Subject and text: one line a group, the largest first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for alarm in found:
        groups[alarm.group].append(alarm.what)
    lines = []
    for group, what in sorted(groups.items(), key=lambda item: -len(item[1])):
        more = f" and {len(what) - MOST_RUNS:,} more" if len(what) > MOST_RUNS else ""
        named = ", ".join(legible.line(each, _LONGEST) for each in what[:MOST_RUNS])
        lines.append(f"• {legible.line(group, _LONGEST)} ({named}{more})")
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"• and {len(lines) - MOST_LINES:,} more: caxflow status --profile {site}"]
    subject = f"caxflow at {site}: {words.count(len(found), 'thing')} for a human"
    return subject, "\n".join(lines)


def _without_run(reason: str, run: str) -> str:
    """A reason without the run's name, so that equal ones make one line."""
    text = " ".join(reason.split())
    return re.sub(rf"^{re.escape(run)}:? *", "", text).replace(run, "RUN")


def _read(path: Path) -> dict[str, Any]:
    try:
        state = receipts.read(path) if path.exists() else {}
    except CaxflowError:
        state = {}
    told = state.get("told") if isinstance(state, dict) else None
    return (state if isinstance(state, dict) else {}) | {"told": told if isinstance(told, dict) else {}}


def _is_within(text: object, span: datetime.timedelta, now: datetime.datetime) -> bool:
    """Whether a time that was kept is no longer ago than that."""
    at = _time(text, now)
    return at is not None and now - at < span


def _time(text: object, now: datetime.datetime) -> datetime.datetime | None:
    """A time that was kept; None where it is none, or lies in the future."""
    try:
        at = datetime.datetime.fromisoformat(str(text))
        return clock.past(at if at.tzinfo else at.replace(tzinfo=datetime.UTC), now)
    except ValueError:
        return None
