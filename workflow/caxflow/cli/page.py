"""``caxflow page``: writes the runs page, a static site of all runs; open its index.html."""

import argparse
from pathlib import Path

from caxflow import page, preview, words
from caxflow.cli import screen, site
from caxflow.files.listing import printable
from caxflow.planning import planner
from caxflow.rundb import RunsDB

_EPILOG = """\
No server is needed and nothing is loaded from elsewhere: open index.html from the disk, or copy the folder to
any web server. Repeating it rewrites what changed; with page.folder in the configuration every call of
snakemake refreshes it.

exit code: 0 written; 1 it could not be, or the runs database could not be asked; 2 the command line or the
configuration is wrong

examples:
  caxflow page --profile midway ~/public_html/runs
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "page",
        help="write the runs page",
        description="Writes a static site of all runs, their copies and why they are where they are.",
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, help="where; by default page.folder of the configuration"
    )
    site.add_options(parser)
    parser.set_defaults(run=_page)


def _page(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    folder = arguments.folder or (settings.page and Path(settings.page.folder))
    if folder is None:
        raise site.WrongCallError("where the runs page is to be, is not said", "type caxflow page FOLDER")
    preview.refuse(f"writing {folder}")
    with RunsDB(settings.rundb, dry=True) as database:
        work_dir = Path(settings.here.work_dir or ".")
        editions, _ = planner.applied(database, settings)
        found = database.everything(page.PROJECTION)
        now = database.now()
        told = {"editions": editions, "voltage": planner.remembered(settings), "twice": database.twice()}
        count = page.write(found, settings, folder.absolute(), work_dir, now, **told)
    print(f"{words.count(count, 'run')} on {printable(str(folder / 'index.html'))}")
    return 0
