"""``caxflow mv``: moves copies to another path of their site, with their entry in the runs database."""

import argparse
import sys

from caxflow import documents
from caxflow.cli import copies, screen, site
from caxflow.copies import roots
from caxflow.copies.moving import Move
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError
from caxflow.legible import printable
from caxflow.rundb import RunsDB
from caxflow.transfer import kept

_EPILOG = """\
Without --to, a copy goes to where the site's file wants it; after a root has changed, --from names the old
one. To another file system a copy is copied, read again there from the disk, and only then removed where it
was. Interrupted, the same command completes it. The minitrees of a run move together, in their folder.

exit code: 0 all is where it should be; 1 something is not; 2 the command line or the configuration is wrong

examples:
  caxflow mv --profile midway 160315_1432 --from /project/old/raw
  caxflow mv --profile midway 160315_1432 --to /project/xenon1t/raw/sr0/160315_1432
  caxflow mv --profile midway 160315_1432 --kind minitrees --from /project/old/minitrees
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
    parser.add_argument(
        "--version",
        metavar="V",
        help="of a processed file or minitrees, instead of the one that the site keeps",
    )
    parser.set_defaults(run=_run)


@kept.connections()
def _run(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    if arguments.to and len(arguments.runs) > 1:
        raise site.WrongCallError("--to names one path for several runs", "move them one by one")
    if arguments.version and arguments.kind not in documents.VERSIONED:
        raise site.WrongCallError("--version is of processed files", "add --kind processed")
    failed = 0
    with RunsDB(settings.rundb, dry=settings.dry or arguments.dry_run, without=_WITHOUT) as database:
        for subject in copies.subjects(arguments, settings, database):
            try:
                new = (arguments.to or _wanted(subject)).rstrip("/")
                roots.ensure(settings, database, subject.site, subject.key.kind, new)
                old = Move(subject, new, arguments.old_root).perform()
                verb = "would move" if database.dry else "moved"
                if old == new:
                    print(f"{printable(old)} is already where it should be")
                else:
                    print(f"{verb} {printable(old)} to {printable(new)}")
            except CaxflowError as error:
                print(f"caxflow: {error}", file=sys.stderr)
                failed += 1
    return 1 if failed else 0


def _wanted(subject: Subject) -> str:
    """Where the site's file wants a copy."""
    kind, version = subject.key.kind, subject.key.version
    if kind == "raw":
        return subject.site.raw_path(subject.run)
    return f"{subject.root}/pax_{version}/{subject.run}{'.root' if kind == 'processed' else ''}"
