"""``caxflow strays``: what lies at a site that no document knows, and entries that point at nothing."""

import argparse
import dataclasses
import datetime

from rich.table import Table

from caxflow import receipts, terminal, words
from caxflow.cli import screen, site
from caxflow.copies import strays
from caxflow.copies.strays import Stray
from caxflow.legible import printable
from caxflow.rundb import RunsDB
from caxflow.transfer import kept

_EPILOG = """\
Listed are: data that no document knows; unfinished copies; what waits in the trash and in quarantine; entries
whose data are not there (caxflow rm drops them, on evidence), or outside the site's roots; what cannot be
read; with --permissions, copies that are not as the site's file wants. What is a file system's own, as
lost+found or .snapshot, is not looked at. Nothing is removed but what --remove names, by its full path.

exit code: 0 nothing is astray; 1 something is; 2 the command line or the configuration is wrong

examples:
  caxflow strays --profile midway
  caxflow strays --profile midway --json
  caxflow strays --profile midway --remove /project/xenon1t/raw/test_run
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "strays",
        help="what no document knows, and entries that point at nothing",
        description=__doc__.partition(": ")[2].capitalize(),
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    parser.add_argument("--at", metavar="SITE", help="where to look; by default here")
    parser.add_argument("--json", action="store_true", help="as JSON; times in UTC, sizes in bytes")
    parser.add_argument("--permissions", action="store_true", help="look at owners, modes and lists as well")
    parser.add_argument("--remove", metavar="PATH", nargs="+", default=[], help="remove these strays")
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="say what --remove would do; nothing changes anywhere"
    )
    site.add_options(parser)
    parser.set_defaults(run=_run)


@kept.connections()
def _run(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    where = settings.site(arguments.at or settings.here.name)
    with RunsDB(settings.rundb, dry=settings.dry or arguments.dry_run) as database:
        found = strays.find(database, settings, where)
        if arguments.permissions:
            found += strays.deviating(database, settings, where)
        if arguments.remove:
            size = strays.remove(database, settings, where, found, arguments.remove)
            verb = "would be removed" if database.dry else "removed"
            print(f"{words.count(len(arguments.remove), 'stray')} {verb}, {words.size(size)}")
            return 0
    if arguments.json:
        rows = [dataclasses.asdict(each) for each in found]
        terminal.show_json({"site": where.name, "strays": rows}, default=_plain)
    else:
        _show(found, where.name)
    return 1 if found else 0


def _show(found: list[Stray], name: str) -> None:
    console = screen.console()
    if not found:
        console.print(f"nothing is astray at {name}")
        return
    if not console.is_terminal:
        console.width = 1 << 16  # a path that goes into a pipe stays in one piece
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (("what", "left"), ("size", "right"), ("age", "right"), ("path", "left")):
        shown.add_column(heading, justify=justify, overflow="fold")
    for each in sorted(found, key=lambda stray: (stray.what, -(stray.size or 0))):
        note = ": ".join(filter(None, (each.run, each.note)))
        note = f" ({note})" if note else ""
        size = words.size(each.size) if each.size is not None else ""
        shown.add_row(each.what, size, _age(each), printable(each.path) + note)
    console.print(shown)
    size = sum(each.size or 0 for each in found)
    console.print(f"{words.count(len(found), 'thing')} astray at {name}, {words.size(size)}")


def _age(stray: Stray) -> str:
    if stray.changed is None:
        return ""
    days = (receipts.now().replace(tzinfo=None) - stray.changed) / datetime.timedelta(days=1)
    return f"{max(days, 0):.1f} d"


def _plain(value: datetime.datetime) -> str:
    return value.isoformat()
