"""What a workflow shows of itself while it works: one line a finished or failed job, and how far all is.

On a terminal the jobs at work stand below these lines, with what they have moved; elsewhere (a log, cron)
there are lines only.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from caxflow import documents, joblogs, legible, receipts, targets, words
from caxflow.errors import CaxflowError
from caxflow.planning.plan import Plan
from caxflow.targets import Target
from caxflow.terminal import Terminal
from caxflow.workdir import journal, underway
from caxflow.workdir.underway import State

TOGETHER = ("all", "purge", "report")  # rules that make nothing themselves
MOST = 8  # jobs at work that are shown one by one
BAR = 12  # characters


@dataclass
class Work:
    """A job at work.

    Parameters
    ----------
    text : str
        What it does, in words.
    made : list of Target
        What it makes.
    size : int or None
        Bytes of raw data it moves.
    """

    text: str
    made: list[Target]
    size: int | None = None
    began: float = field(default_factory=time.monotonic)
    failures: dict[Target, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.monotonic() - self.began


class Display:
    """Shows the jobs of one call.

    Parameters
    ----------
    stream : text stream
    live : bool
        Whether `stream` is a terminal whose lines may be drawn again.
    colour : bool
    """

    def __init__(self, stream: TextIO, live: bool, colour: bool):
        self.console = Terminal(file=stream, no_color=not colour, soft_wrap=not live)
        self.work: dict[int, Work] = {}
        self.failed: dict[int, str] = {}  # the run of each job that failed, by the job's number
        self.done = self.total = 0
        self.runs: set[str] = set()
        self.moved, self.to_move = 0, None
        self._moving = 0.0  # seconds in which bytes moved, by however many jobs at a time
        self._moving_since = 0.0
        self.plan: Plan | None = None
        self._began = time.monotonic()
        self._live = live
        self._drawing: Live | None = None

    def expect(self, counts: Mapping[str, int]) -> None:
        """Take note of what will be done: the number of jobs by rule, and ``total``."""
        self.total, self._began = sum(_jobs(counts).values()), time.monotonic()
        try:
            self.plan = Plan.read(Path.cwd())
        except CaxflowError:
            return
        sizes = [
            facts.size
            for facts in self.plan.facts.values()
            for site, source in facts.source["raw"].items()
            if site != source
        ]
        # The plan knows more than what is asked for where single targets are.
        if len(sizes) == counts.get("copy_raw", 0) and all(sizes):
            self.to_move = sum(sizes)

    def start(self, job: int, rule: str, text: str | None, made: Sequence[str]) -> None:
        """A job begins; one without words is not worth a line."""
        if not text:
            return
        stated = _targets(made)
        run = str(stated[0].run) if stated else ""
        facts = self.plan.facts.get(run) if self.plan else None
        size = facts.size if facts and rule == "copy_raw" else None
        failures = {target: _failures(target) for target in stated}
        if size is not None and not self._moves():
            self._moving_since = time.monotonic()
        self.work[job] = Work(text, stated, size, failures=failures)
        if self._live and self._drawing is None:
            self._drawing = Live(
                console=self.console, get_renderable=self._at_work, refresh_per_second=4, transient=True
            )
            self._drawing.start()

    def finish(self, job: int) -> None:
        """A job has made what it should."""
        work = self._end(job)
        if work is None:
            return
        self.done += 1
        self.failed.pop(job, None)
        self.runs |= {str(target.run) for target in work.made}
        if work.size is not None:
            sent = sum(_sent(target) for target in work.made)
            self.moved += sent
            # What was there already, of a copy that went on or was adopted, need not move.
            self.to_move = self.to_move and max(0, self.to_move - work.size + sent)
        took = f", {words.duration(work.seconds)}" if work.seconds >= 1 else ""
        self._line("done", "green", f"{work.text}{took}", f"{self.done}/{self.total}" if self.total else "")

    def fail(self, job: int, rule: str, made: Sequence[str], said: str | None, log: str) -> None:
        """A job failed; its reason stands in the journal, unless it was killed: `said` is what is known."""
        work = self._end(job)
        if work is None and job in self.failed:
            # What fails in a group is told twice: of the job, and of its group.
            return
        work = work or Work(rule, _targets(made))
        reason = next(filter(None, (self._reason(work, target) for target in work.made)), None)
        if reason is None and _was_interrupted(log):
            reason = underway.INTERRUPTED
        if reason == underway.INTERRUPTED:
            # Nobody's fault: it counts as one that was not run.
            self._line("halted", "yellow", f"{work.text}: {reason}")
            return
        if reason is None:
            reason = " ".join(
                (said or _last_words(work, log) or "it was ended before it could say why").split()
            )
            reason += f" -> see {log}" if log else ""
        self.failed[job] = next((str(target.run) for target in work.made), "")
        self._line("FAILED", "red", f"{work.text}: {reason}")

    def message(self, text: str, bad: bool = False) -> None:
        """Show anything else that was said, which may have several lines."""
        for line in legible.lines(text).split("\n"):
            self.console.print(Text(line, style="yellow" if bad else ""))

    def preview(self, text: str | None) -> None:
        """A job that would be done; one without words is not worth a line."""
        if text:
            self.console.print(Text(f"would {text}"))

    def sum_up_preview(self, counts: Mapping[str, int]) -> None:
        """The last line of a preview: the number of jobs by rule."""
        jobs = _jobs(counts)
        each = ", ".join(f"{number} {rule}" for rule, number in jobs.items())
        self.console.print(
            Text(f"{words.count(sum(jobs.values()), 'job')}: {each}" if jobs else "nothing to do")
        )

    def sum_up(self, log: str = "") -> None:
        """The last line; `log` holds everything that Snakemake said."""
        self.close()
        if not self.total:
            return
        seconds = time.monotonic() - self._began
        rate = words.size(self.moved / max(self._moving, 1e-9))
        moved = f", {words.size(self.moved)} moved at {rate}/s" if self.moved else ""
        runs = f" for {words.count(len(self.runs), 'run')}" if self.runs else ""
        line = f"{self.done} of {words.count(self.total, 'job')} done{runs}{moved}, {words.duration(seconds)}"
        left = self.total - self.done - len(self.failed)
        if self.failed:
            rest = (
                f", so {words.count(left, 'other')} {'was' if left == 1 else 'were'} not run" if left else ""
            )
            run = next(filter(None, self.failed.values()), "RUN")
            line += f"; {len(self.failed)} failed{rest}: `caxflow why {run}` tells more"
        elif left:
            line += f"; {words.count(left, 'job')} not run: the next call goes on from here"
        self.console.print(Text(line, style="bold red" if self.failed else "bold"))
        if self.failed and log:
            self.console.print(f"all that Snakemake said: {log}")
        self.total = 0

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._drawing is not None:
            self._drawing.stop()
            self._drawing = None

    def _end(self, job: int) -> Work | None:
        """Take a job from those at work, if it is shown."""
        work = self.work.pop(job, None)
        if work and work.size is not None and not self._moves():
            self._moving += time.monotonic() - self._moving_since
        return work

    def _moves(self) -> bool:
        return any(work.size is not None for work in self.work.values())

    def _line(self, word: str, colour: str, text: str, aside: str = "") -> None:
        line = Text(f"{time.strftime('%H:%M:%S')} ")
        line.append(f"{word:6} ", style=colour)
        line.append(text)
        if aside:
            line.append(f" [{aside}]", style="dim")
        self.console.print(line)

    def _reason(self, work: Work, target: Target) -> str | None:
        """Why the stage failed, if the journal has a failure that is newer than the job's beginning."""
        failure = _failure(target)
        if failure is None or failure.get("times", 0) <= work.failures.get(target, 0):
            return None
        return str(failure.get("reason", ""))

    def _at_work(self) -> Group:
        """The jobs at work, and one line about all of them."""
        # Jobs come and go in another thread than the one that draws.
        jobs = list(self.work.values())
        states = [(work, _state(work)) for work in jobs]
        rows = [(work.text, *_progress(work, state)) for work, state in states[:MOST]]
        beside = sum(max(map(_width, column)) + 1 for column in list(zip(*rows, strict=True))[1:])
        table = Table.grid(padding=(0, 1), expand=False)
        table.add_column(
            no_wrap=True, overflow="ellipsis", max_width=max(20, self.console.width - beside - 1)
        )
        for column in range(4):
            table.add_column(no_wrap=True, justify="right" if column else "left")
        for row in rows:
            table.add_row(*row)
        rest = [Text(f"and {len(jobs) - MOST} more")] if len(jobs) > MOST else []
        return Group(
            table, *rest, Text(self._summary(states), style="bold", overflow="ellipsis", no_wrap=True)
        )

    def _summary(self, states: list[tuple[Work, State | None]]) -> str:
        moving = [(work, state) for work, state in states if work.size is not None and state]
        now = self.moved + sum(_moved(state) for _, state in moving)
        rate = sum(state.rate for _, state in moving if state.phase == "moving")
        parts = [f"{self.done} of {words.count(self.total, 'job')}"]
        if self.to_move:
            parts.append(f"{words.size(now)} of {words.size(self.to_move)}")
        elif now:
            parts.append(words.size(now))
        if rate:
            parts.append(f"{words.size(rate)}/s")
        if rate and self.to_move and self.to_move > now:
            parts.append(f"copies done in {words.duration((self.to_move - now) / rate)}")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return " · ".join(parts)


def _jobs(counts: Mapping[str, int]) -> dict[str, int]:
    """Numbers of jobs by rule, without the sum and the rules that only ask for others."""
    return {rule: number for rule, number in counts.items() if rule not in (*TOGETHER, "total")}


def _targets(files: Sequence[str]) -> list[Target]:
    found = []
    for file in files:
        try:
            found.append(targets.parse(file))
        except CaxflowError:
            continue
    return found


def _failure(target: Target) -> dict | None:
    try:
        return journal.failure(Path.cwd(), target)
    except CaxflowError:
        return None


def _failures(target: Target) -> int:
    return (_failure(target) or {}).get("times", 0)


def _sent(target: Target) -> int:
    """Bytes that a finished copy moved, by its receipt."""
    try:
        return documents.value(receipts.read(Path.cwd() / str(target)), "sent", type_=int) or 0
    except CaxflowError:
        return 0


def _state(work: Work) -> State | None:
    return next(filter(None, (underway.read(Path.cwd(), target) for target in work.made)), None)


def _last_words(work: Work, log: str) -> str:
    """How the log of a job that makes no target ends, whose failures no journal keeps."""
    if work.made:
        return ""
    try:
        return re.sub(r"^[-0-9]+ [:0-9]+ ", "", joblogs.last_line(Path(log)))
    except OSError:
        return ""


def _was_interrupted(log: str) -> bool:
    try:
        return joblogs.last_line(Path(log)).endswith(underway.INTERRUPTED)
    except OSError:
        return False


def _moved(state: State) -> int:
    return {"moving": state.done, "publishing": state.total}.get(state.phase, 0)


def _width(cell: str | ProgressBar) -> int:
    return len(cell) if isinstance(cell, str) else BAR


def _progress(work: Work, state: State | None) -> tuple:
    """Cells of a job at work: a bar, bytes, rate, time."""
    if state is None or not state.total:
        return ("", "", "", words.duration(work.seconds))
    bar = ProgressBar(total=state.total, completed=state.done, width=BAR)
    left = (state.total - state.done) / state.rate if state.rate > 0 else None
    return (
        bar,
        f"{100 * state.done // state.total} %",
        f"{words.size(state.rate)}/s",
        f"{words.duration(left)} left" if left else state.phase,
    )
