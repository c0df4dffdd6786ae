"""``caxflow why RUN``: what a run waits for, what went wrong, and what happens next."""

import argparse
from collections.abc import Iterator

from rich.text import Text

from caxflow import receipts, terminal, words
from caxflow.cli import colours, screen, site
from caxflow.config import Settings
from caxflow.legible import printable
from caxflow.monitoring import status, why
from caxflow.monitoring.why import Answer, Deed
from caxflow.planning import planner, standing
from caxflow.planning.troubles import Trouble
from caxflow.rundb import PLANNING, DatabaseAway, RunsDB
from caxflow.targets import Run
from caxflow.workdir import underway

_EPILOG = """\
Seen from the site of the profile. Without the runs database the answer comes from the receipts and the
journal in the work directory alone.

exit code: 0 nothing is wrong here: it is done, it is being worked on, or `all` does all that remains; 1
something failed or is missing here, it waits for something, is still being taken or is left out by the
configuration, nothing is known of it, or the database could not be asked; 2 the command line or the
configuration is wrong

examples:
  caxflow why --profile midway 160315_1432
  caxflow why --profile midway 160315_1432 --history
"""
_UNANSWERED = {
    why.UNKNOWN: "neither the runs database nor a receipt at {here} knows it",
    why.UNASKED: "the runs database could not be asked; this is what {here} knows",
}


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "why",
        help="what a run waits for, the last error, who holds it, what happens next",
        description=__doc__.partition(": ")[2].capitalize(),
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="160315_1432, or 160315_1432_MV")
    parser.add_argument("--json", action="store_true", help="as JSON; times in UTC")
    parser.add_argument(
        "--history", action="store_true", help="also who did what to its copies, when and on what grounds"
    )
    site.add_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    runs = site.runs(arguments)
    settings = site.settings(arguments)
    found = [_ask(run, settings) for run in runs]
    if arguments.json:
        terminal.show_json(status.plain(found))
    else:
        console = screen.console()
        profile = " --profile ".join(map(printable, site.profiles(arguments))) or settings.here.name
        for each in found:
            lines = _lines(each, profile)
            for line in [*lines, *(_deed(deed) for deed in each.history if arguments.history)]:
                console.print(line, soft_wrap=True)
    return 0 if all(each.well for each in found) else 1


def _ask(run: Run, settings: Settings) -> Answer:
    folder, document, away, audit, editions, twice = site.work_dir(settings), None, "", [], [], set()
    now = receipts.now().replace(tzinfo=None)
    try:
        with RunsDB(settings.rundb, dry=True) as database:
            document, now, audit = database.find(run, PLANNING), database.now(), database.audit(run)
            editions, _ = planner.applied(database, settings)
            twice = database.twice()
    except DatabaseAway as error:
        away = str(error)
    known = {"away": away, "audit": audit, "editions": editions, "twice": twice}
    voltage = planner.remembered(settings)
    return why.answer(run, document, settings, folder, now=now, voltage=voltage, **known)


def _lines(found: Answer, profile: str) -> Iterator[Text]:
    verdict = {**standing.WORDS, **_UNANSWERED}[found.verdict].format(here=found.here)
    yield Text(f"{found.run}: ", style="bold").append(verdict, style=colours.OF_RUNS[found.verdict])
    if found.away:
        yield Text(f"  {found.away}", style="yellow")
        if not (found.receipts or found.troubles):
            yield Text(f"  no receipt and no failure at {found.here} speaks of it")
    for target, state in found.underway.items():
        moving = underway.State(**state)
        done = f"{words.size(moving.done)} of {words.size(moving.total)}, {words.size(moving.rate)}/s"
        yield Text(f"  at work on {target}: {moving.phase}, {done}")
    for trouble in found.troubles:
        yield from _trouble(trouble, profile)
    unclaimed = [text for text in found.waits if not any(claim.startswith(text) for claim in found.claims)]
    for text in [*unclaimed, *found.claims]:
        yield Text(f"  {text}")
    for trouble in found.elsewhere:
        yield Text(f"  {trouble.where}, which is not the business of {found.here}, failed: {trouble.reason}")
    for text in [*found.removed, *found.odd]:
        yield Text(f"  {text}")
    if found.todo:
        yield Text(f"  `snakemake --profile {profile} all` makes {', '.join(found.todo)}")
    if found.untold:
        yield Text(f"  the runs database has yet to be told of {', '.join(found.untold)}")
    for name, stages in found.receipts.items():
        yield Text(f"  receipts for {name}: {', '.join(stages)}", style="dim")


def _deed(deed: Deed) -> Text:
    at = f"{deed.at:%Y-%m-%d %H:%M} UTC" if deed.at else "at an unknown time"
    return Text(f"  {at}: {deed.action} {deed.copy}, by {deed.by}: {deed.grounds}")


def _trouble(trouble: Trouble, profile: str) -> Iterator[Text]:
    when = f", {trouble.at:%Y-%m-%d %H:%M} UTC" if trouble.at else ""
    times = f", {words.count(trouble.attempts, 'attempt')}" if trouble.attempts else ""
    yield Text(f"  failed: {trouble.where}{times}{when}", style="red")
    yield Text(f"    {trouble.reason}")
    if trouble.next:
        yield Text(f"    next attempt from {trouble.next:%Y-%m-%d %H:%M} UTC on")
    elif trouble.watched:
        yield Text("    `all` looks at it again once its files, or its run document, change")
    elif trouble.attempts:
        again = f": snakemake --profile {profile} {trouble.where}" if "/" in trouble.where else ""
        yield Text(f"    it waits for a human: mend the cause, then type its target{again}")
    if trouble.log:
        yield Text(f"    log: {trouble.log}", style="dim")
