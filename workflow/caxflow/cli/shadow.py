"""``caxflow shadow``: where would cax and caxflow act differently? Reads only."""

import argparse
from pathlib import Path

from caxflow.cli import screen, site
from caxflow.rundb import RunsDB
from caxflow.switching import caximport, shadow
from caxflow.switching.caxtasks import Cax

_EPILOG = """\
One line for each way in which the two differ, with the reason and how many runs it concerns, the most
frequent first. Where cax's own code raises, and so ends, that is said, with the run and the task. Nothing is
changed anywhere, so it can run beside a cax daemon.

exit code: 0 compared, whatever came of it; 1 the runs database could not be asked; 2 the command line or the
configuration is wrong

examples:
  caxflow shadow /project/cax/cax.json --profile midway
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "shadow",
        help="compare with what cax would do, read-only",
        description="Compares, run by run, what cax's tasks would do at this host with what caxflow would.",
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    parser.add_argument("source", type=Path, help="cax's configuration, cax.json")
    site.add_options(parser)
    parser.set_defaults(run=_shadow)


def _shadow(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    hosts, _ = caximport.read(arguments.source)
    here = settings.here
    if here.host not in {host["name"] for host in hosts}:
        raise site.WrongCallError(
            f"{arguments.source} has no host {here.host}, as site {here.name} is called",
            "mend 'host' in the site's file",
        )
    version = settings.processor(here).pax_version if here.processed else None
    with RunsDB(settings.rundb, dry=True) as database:
        cax = Cax(hosts, here.host, version, database.newest_corrections())
        differences = shadow.compare(database.everything(), cax, settings, database.now())
    print(*differences.lines(), sep="\n")
    return 0
