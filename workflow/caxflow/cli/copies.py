"""What commands about copies share: which copies the command line names, as subjects."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from caxflow.cli import site
from caxflow.config import Settings
from caxflow.copies import evidence
from caxflow.copies.subject import Subject
from caxflow.rundb import Key, RunsDB


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the runs, ``--kind``, ``--at``, ``--dry-run`` and what every command has."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="160315_1432, or 160315_1432_MV")
    parser.add_argument(
        "--kind",
        choices=["raw", "processed", "minitrees"],
        default="raw",
        help="which kind of data (default: raw)",
    )
    parser.add_argument("--at", metavar="SITE", help="whose copy; by default the one here")
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="say what would be done; nothing changes anywhere"
    )
    site.add_options(parser)


def subjects(arguments: argparse.Namespace, settings: Settings, database: RunsDB) -> Iterator[Subject]:
    """The copies that the command line names."""
    work_dir = site.work_dir(settings, acts=True) or Path(settings.here.work_dir or ".")
    where = settings.site(arguments.at or settings.here.name)
    key = evidence.key_of(arguments.kind, where, settings)
    if key and getattr(arguments, "version", None):
        key = Key(key.kind, key.host, arguments.version)
    if key is None:
        raise site.WrongCallError(
            f"site {where.name} keeps no {arguments.kind} data", "name another with --at"
        )
    for run in site.runs(arguments):
        yield Subject(
            settings=settings,
            database=database,
            site=where,
            run=run,
            key=key,
            work_dir=work_dir,
            say=lambda text: print(text, flush=True),
        )
