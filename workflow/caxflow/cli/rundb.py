"""``caxflow rundb``: looks after the runs database itself."""

import argparse

from caxflow import planner, summary
from caxflow.cli import site
from caxflow.rundb import RunsDB


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser("rundb", help="look after the runs database", description=__doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    init = actions.add_parser(
        "init",
        help="make the indexes that planning needs",
        description="Makes the indexes that planning and claims need, for the database and for each "
        "site, and marks the runs for which nothing remains to be done here, so that planning need not look "
        "at them again. Repeating it changes nothing.",
    )
    site.add_options(init)
    init.set_defaults(run=_init)


def _init(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    with RunsDB(settings.rundb, dry=settings.dry) as database:
        names = [*database.init(), *(database.init_site(name) for name in sorted(settings.sites))]
        collection = f"{settings.rundb.database}.{settings.rundb.collection}"
        print(f"indexes of {collection}: {', '.join(names)}")
        made = planner.look(database, settings)
    print(*summary.lines(made, made.targets, settings), sep="\n")
    return 0
