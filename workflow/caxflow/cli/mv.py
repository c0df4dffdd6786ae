"""``caxflow mv``: moves copies to another path of their site, with their entry in the runs database."""

import argparse
import sys

from caxflow.cli import copies, screen, site
from caxflow.copies import moving
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError
from caxflow.rundb import RunsDB

_EPILOG = """\
Without --to, a copy goes to where the site's file wants it; after a root has changed, --from names the old
one. Both paths must be on one file system. Interrupted, the same command completes it.

exit code: 0 all is where it is to be; 1 something is not; 2 the command line or the configuration is wrong

examples:
  caxflow mv --profile midway 160315_1432 --from /project/old/raw
  caxflow mv --profile midway 160315_1432 --to /project/xenon1t/raw/sr0/160315_1432
"""
_WITHOUT = "nothing is moved without it"


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "mv",
        help="move copies to another path of their site",
        description=__doc__.partition(": ")[2].capitalize(),
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    copies.add_options(parser)
    parser.add_argument("--to", metavar="PATH", help="the new path; only for one run")
    parser.add_argument("--from", dest="old_root", metavar="FOLDER", help="the root where the copies are now")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    if arguments.to and len(arguments.runs) > 1:
        raise site.WrongCallError("--to names one path for several runs", "move them one by one")
    failed = 0
    with RunsDB(settings.rundb, dry=settings.dry or arguments.dry_run, without=_WITHOUT) as database:
        for subject in copies.subjects(arguments, settings, database):
            try:
                new = (arguments.to or _wanted(subject)).rstrip("/")
                old = moving.move(subject, new, arguments.old_root)
                verb = "would move" if database.dry else "moved"
                print(f"{old} is where it is to be" if old == new else f"{verb} {old} to {new}")
            except CaxflowError as error:
                print(f"caxflow: {error}", file=sys.stderr)
                failed += 1
    return 1 if failed else 0


def _wanted(subject: Subject) -> str:
    if subject.key.kind == "raw":
        return subject.site.raw_path(subject.run)
    return subject.settings.processed_path(subject.site, subject.run)
