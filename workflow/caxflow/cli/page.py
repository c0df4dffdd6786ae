"""``caxflow page``: writes the runs page, a static site of all runs; open its index.html."""

import argparse
from pathlib import Path

from caxflow import page, words
from caxflow.cli import site
from caxflow.errors import CaxflowError
from caxflow.rundb import RunsDB


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "page",
        help="write the runs page",
        description="Writes a static site of all runs, their copies and why they are where they are. No "
        "server is needed and nothing is loaded from elsewhere. Repeating it rewrites what changed.",
    )
    site.add_options(parser)
    parser.add_argument(
        "folder", nargs="?", type=Path, help="where; by default page.folder of the configuration"
    )
    parser.set_defaults(run=_page)


def _page(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    folder = arguments.folder or (settings.page and Path(settings.page.folder))
    if folder is None:
        raise CaxflowError("where the runs page is to be, is not said", "type caxflow page FOLDER")
    with RunsDB(settings.rundb, dry=True) as database:
        found = database.everything(page.PROJECTION)
        work_dir = Path(settings.here.work_dir or ".")
        count = page.write(found, settings, folder.absolute(), work_dir, database.now())
    print(f"{words.count(count, 'run')} on {folder / 'index.html'}")
    return 0
