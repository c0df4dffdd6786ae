"""``caxflow status``: what is where, by site, kind and state; of one run, each copy and its proof."""

import argparse
import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from caxflow import documents, legible, receipts, terminal, words
from caxflow.cli import colours, screen, site
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.legible import printable
from caxflow.monitoring import status
from caxflow.monitoring.status import CopyState, Row, RunStatus
from caxflow.planning import bygones, copystate, pauses, planner, standing
from caxflow.planning.presence import Presence
from caxflow.rundb import PLANNING, DatabaseAway, RunsDB
from caxflow.targets import Run, Target
from caxflow.terminal import Terminal
from caxflow.workdir import journal, underway

COLOURS = {
    status.PROVEN: "green",
    status.COPIED: "cyan",
    copystate.SUSPECT: "bold red",
    copystate.MISSING: "bold red",
    copystate.REMOVING: "yellow",
    copystate.MOVING: "yellow",
    documents.ERROR: "red",
    documents.TRANSFERRING: "yellow",
    documents.VERIFYING: "yellow",
}
_EPILOG = """\
states:
  proven        caxflow read the bytes from disk, and they equal the origin's
  copied        transferred, but not read again by caxflow
  verifying     copied, and not read again yet
  transferring  being made
  removing      on its way out
  moving        on its way to another path
  missing       said to be here, and not in its place
  error         the last attempt failed; caxflow why RUN tells more
  suspect       differs from the origin: no source any more

exit code: 0 all is well; 1 something is in error, suspect or missing, failed here, or the runs database could
not be asked, or does not know the run; 2 the command line or the configuration is wrong

examples:
  caxflow status --profile midway
  caxflow status --profile midway 160315_1432
  caxflow status --profile midway --json | jq .rows
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "status",
        help="what is where; of a run, each copy and its proof",
        description=__doc__.partition(": ")[2].capitalize(),
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    parser.add_argument("runs", metavar="RUN", nargs="*", help="160315_1432, or 160315_1432_MV")
    parser.add_argument("--json", action="store_true", help="as JSON; times in UTC, sizes in bytes")
    site.add_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    runs = site.runs(arguments)
    settings = site.settings(arguments)
    if runs:
        return _runs(runs, settings, arguments.json)
    return _all(settings, arguments.json)


def _all(settings: Settings, as_json: bool) -> int:
    folder, away = site.work_dir(settings), ""
    targets = list(journal.failures(folder)) if folder else []
    targets = [each for each in targets if _has_failed(folder, each, settings)]
    try:
        with RunsDB(settings.rundb, dry=True) as database:
            presence = Presence(settings.here) if folder else None
            rows = status.count(database.everything(status.COUNTED), settings, presence)
            over = bygones.forget(database, settings, folder) if folder else []
            left_out = bygones.left_out(database, settings, folder) if folder else ()
            targets = [each for each in targets if each not in over and each.run not in left_out]
    except DatabaseAway as error:
        away, rows = str(error), status.count_receipts(folder, settings) if folder else []
    pending = sum(1 for _ in journal.pending(folder)) if folder else 0
    if as_json:
        known = {"here": settings.here.name, "at": receipts.now().isoformat(), "away": away, "rows": rows}
        known |= {"pending": pending, "failures": [str(target) for target in targets]}
        terminal.show_json(status.plain(known))
    else:
        console = screen.console()
        if rows:
            console.print(_overview(rows), "")
        elif not away:
            console.print("no copies yet")
        for line in _remarks(folder, away, pending, targets):
            console.print(line, soft_wrap=True)
    bad = any(row.state in copystate.BAD for row in rows)
    return 1 if bad or away or targets else 0


def _has_failed(work_dir: Path, target: Target, settings: Settings) -> bool:
    """Return whether a failure is one; a record that is damaged counts."""
    with contextlib.suppress(CaxflowError):
        return not pauses.is_passing(journal.failure(work_dir, target) or {}, settings)
    return True


def _overview(rows: list[Row]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("site", "left"), ("data", "left"), ("state", "left")):
        shown.add_column(name, justify=justify, no_wrap=True, max_width=screen.WIDEST_CELL)
    for name in ("copies", "size", "oldest read"):
        shown.add_column(name, justify="right", no_wrap=True)
    before = ""
    for row in rows:
        name = row.site if row.site != before else ""
        before = row.site
        state = Text(legible.line(row.state), style=COLOURS.get(row.state, ""))
        size = words.size(row.bytes) if row.bytes else ""
        shown.add_row(name, row.kind, state, f"{row.copies:,}", size, _ago(row.oldest))
    return shown


def _remarks(folder: Path | None, away: str, pending: int, failed: list) -> Iterator[Text]:
    if away:
        yield Text(f"from the receipts here only: {away}", style="yellow")
    if pending:
        yield Text(f"{words.count(pending, 'fact')} of this site not yet told to the runs database", "yellow")
    if failed:
        runs = sorted({str(target.run) for target in failed}, reverse=True)
        more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
        yield Text(f"failed here: {', '.join(runs[:5])}{more}; caxflow why RUN tells why", style="red")


def _runs(runs: list[Run], settings: Settings, as_json: bool) -> int:
    found, bad = [], False
    folder, console = site.work_dir(settings), screen.console()
    for run in runs:
        known, document, away, standings = False, None, "", None
        try:
            with RunsDB(settings.rundb, dry=True) as database:
                document, standings = database.find(run, PLANNING), planner.standings(database, settings)
        except DatabaseAway as error:
            away = str(error)
        one = status.of_run(run, document, settings, folder, standings)
        one.away = away
        known = document is not None or bool(one.receipts)
        bad |= bool(away) or not known or bool(one.wrong)
        bad |= one.standing is not None and one.standing.state in (standing.FAILED, standing.PROBLEM)
        bad |= any(copy.state in copystate.BAD for copy in one.copies)
        found.append(one)
        if not as_json:
            _show(console, one, known)
    if as_json:
        terminal.show_json(status.plain(found))
    return 1 if bad else 0


def _show(console: Terminal, one: RunStatus, known: bool) -> None:
    facts = [f"number {one.number}"] if one.number else []
    facts += [f"started {one.start:%Y-%m-%d %H:%M} UTC"] if one.start else []
    facts += [words.count(one.events, "event")] if one.events else []
    facts += [f"{words.size(one.size)} raw"] if one.size else []
    console.print(Text(one.run, style="bold").append(f"  {', '.join(facts)}", style="not bold"))
    if one.away:
        console.print(Text(f"from the receipts here only: {one.away}", style="yellow"), soft_wrap=True)
    if not known:
        where = (
            "no receipt here speaks of it" if one.away else "neither the runs database nor a receipt knows it"
        )
        console.print(Text(where, style="red"))
        return
    if one.standing:
        verdict = one.standing.in_words(one.here)
        console.print(Text(verdict, style=colours.OF_RUNS[one.standing.state]), soft_wrap=True)
        for text in dict.fromkeys([*one.standing.waits, *map(str, one.standing.batch)]):
            console.print(Text(f"  {text}"), soft_wrap=True)
    console.print(_copies(one.copies) if one.copies else "no copies yet")
    for copy in one.copies:
        line = Text(f"{copy.site} {_kind(copy)}: ").append(printable(copy.location), style="dim")
        console.print(line, soft_wrap=True)
        if copy.remark:
            console.print(Text(f"  {copy.remark}", style=COLOURS.get(copy.state, "")), soft_wrap=True)
    for target, state in one.underway.items():
        console.print(f"{target}: {_moving(underway.State(**state))}", soft_wrap=True)
    if one.receipts:
        console.print(Text("receipts here", style="bold"))
        for name, stages in one.receipts.items():
            console.print(f"{name}: {', '.join(stages)}", soft_wrap=True)
    told = {copy.remark for copy in one.copies}
    for where, reason in one.wrong:
        if reason not in told:
            console.print(Text(f"failed: {where}: {reason}", style="red"), soft_wrap=True)


def _copies(copies: list[CopyState]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("site", "data", "state"):
        shown.add_column(name, no_wrap=True, max_width=screen.WIDEST_CELL)
    shown.add_column("size", justify="right", no_wrap=True)
    shown.add_column("last read", no_wrap=True)
    shown.add_column("digest", no_wrap=True)
    for copy in copies:
        state = Text(legible.line(copy.state), style=COLOURS.get(copy.state, ""))
        size = words.size(copy.size) if copy.size else ""
        digest = f"{copy.manifest[:15]}…" if copy.manifest else ""
        shown.add_row(copy.site, _kind(copy), state, size, _ago(copy.verified), digest)
    return shown


def _kind(copy: CopyState) -> str:
    return f"{copy.kind} {copy.version}" if copy.version else copy.kind


def _moving(state: underway.State) -> str:
    return f"{state.phase}, {words.size(state.done)} of {words.size(state.total)}, {words.size(state.rate)}/s"


def _ago(then: datetime.datetime | None) -> str:
    return words.ago(then, receipts.now().replace(tzinfo=None)) if then else ""
