"""``caxflow rm``: removes copies by name, by the same rules of evidence as a purge."""

import argparse
import dataclasses
import sys

from caxflow import documents, words
from caxflow.cli import copies, screen, site
from caxflow.config import retention
from caxflow.copies import evidence, removal
from caxflow.copies.removal import Removal
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError
from caxflow.rundb import RunsDB
from caxflow.stages.scrub import STAGES
from caxflow.targets import Target

_EPILOG = """\
A copy goes only if enough others are good: read again from disk lately, equal to it, and there. Others whose
evidence is stale are read again first. Nothing lets the last good copy go.

exit code: 0 all went; 1 something stays, or would; 2 the command line or the configuration is wrong

examples:
  caxflow rm --profile midway -n 160315_1432
  caxflow rm --profile midway 160315_1432 --because "disk full"
  caxflow rm --profile midway 160315_1432 --kind processed --copies 1 --because "tegner keeps it"
  caxflow rm --profile midway 160315_1432 --kind processed --version v6.8.0 --because "superseded"
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "rm",
        help="remove copies by name, if enough others are good",
        description=__doc__.partition(": ")[2].capitalize(),
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    copies.add_options(parser)
    parser.add_argument("--because", metavar="TEXT", help="the grounds, for the audit; wanted unless -n")
    parser.add_argument(
        "--copies",
        metavar="N",
        type=int,
        help="so many other copies must be good, at least 1 (default: as purge)",
    )
    parser.add_argument(
        "--version",
        metavar="V",
        help="a processed file of this version; the file of the version that the site "
        "keeps, there, is then the one that must be good",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    if not arguments.because and not arguments.dry_run:
        raise site.WrongCallError("the grounds are missing", 'add --because "why it goes"')
    if arguments.copies is not None and arguments.copies < 1:
        raise site.WrongCallError(f"--copies {arguments.copies}: one other copy is the least", "ask for 1")
    if arguments.version and arguments.kind != "processed":
        raise site.WrongCallError("--version is of processed files", "add --kind processed")
    demand = retention.demand(settings.purge)
    if arguments.version:
        demand = dataclasses.replace(demand, copies=1)
    if arguments.copies is not None:
        demand = dataclasses.replace(demand, copies=arguments.copies)
    stays = 0
    with RunsDB(settings.rundb, dry=settings.dry or arguments.dry_run) as database:
        subjects = list(copies.subjects(arguments, settings, database))
        for subject in subjects:
            database.get(subject.run)  # a name that nobody knows removes nothing of the others
        for subject in subjects:
            try:
                if _is_gone(subject):
                    continue
                if arguments.dry_run:
                    _preview(Removal(subject, demand, "", superseded=bool(arguments.version)))
                else:
                    _remove(Removal(subject, demand, arguments.because, superseded=bool(arguments.version)))
            except CaxflowError as error:
                print(f"caxflow: {error}", file=sys.stderr)
                stays += 1
    return 1 if stays else 0


def _is_gone(subject: Subject) -> bool:
    """Whether there is nothing to remove any more; an error if there is nothing yet that may be.

    A removal that was begun, or whose trash is not empty, is not over.
    """
    document = subject.database.get(subject.run)
    copy, key = subject.find(document), subject.key
    if copy is not None and copy.status == documents.VERIFYING:
        target = Target(subject.site.name, subject.run, STAGES[key.kind])
        raise CaxflowError(
            f"{subject} was not verified yet",
            f"let it be read again first: snakemake --profile {subject.settings.here.name} {target}",
        )
    gone = documents.gone(document, key.kind, key.host, key.version) if copy is None else None
    if gone is None or gone.get("why") != "removed" or gone.get("trash"):
        return False
    at = documents.time_of(gone.get("at"))
    print(f"{subject} is gone already" + (f", since {at:%Y-%m-%d %H:%M} UTC" if at else ""))
    return True


def _preview(planned: Removal) -> None:
    subject, demand = planned.subject, planned.demand
    document = subject.database.get(subject.run)
    copy = subject.find(document)
    if copy is None:
        raise CaxflowError(f"{subject} is not in the runs database", "there is nothing to remove")
    found = planned.judge()
    if sum(each.counts or each.renewable for each in found) < demand.copies:
        raise CaxflowError(
            f"{subject} stays: {evidence.wanting(found, demand)}", "copy or verify it elsewhere first"
        )
    print(f"would remove {copy.location} at {subject.site.name}, {words.size(copy.size)}")
    for each in found:
        print(f"  {each}" + (" (would be read again first)" if each.renewable else ""))


def _remove(planned: Removal) -> None:
    subject, facts = planned.subject, planned.perform()
    removal.conclude(subject.database, subject.run, subject.key, facts["token"])
    others = ", ".join(each["site"] for each in facts["evidence"])
    # That it is removed was said.
    print(f"  {facts['location']}, {words.size(facts['bytes'])}; good copies: {others}")
