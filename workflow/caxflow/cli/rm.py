"""``caxflow rm``: removes copies by name, by the same rules of evidence as a purge."""

import argparse
import dataclasses
import sys

from caxflow import documents, words
from caxflow.cli import copies, screen, site
from caxflow.config import retention
from caxflow.config.retention import Demand
from caxflow.copies.hearing import Hearing
from caxflow.copies.removal import Removal
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError
from caxflow.legible import printable
from caxflow.rundb import RunsDB
from caxflow.stages.scrub import STAGES
from caxflow.targets import Target
from caxflow.transfer import kept

_EPILOG = """\
A copy goes only if enough others are good: read again from disk lately, equal to it, and there. Others whose
evidence is stale are read again first; with purge.evidence: read, all that were not read from here, and the
copy itself. Nothing lets the last good copy go. An entry that points at nothing goes on the same evidence,
once the site has been looked at. Minitrees go if the processed file that they can be made of again is good.
What was removed is not made or fetched again unless it is asked for by its name.

-n looks at all places, and at all that is said; what reading other copies again would find, it cannot know.

exit code: 0 all went; 1 something stays, or would; 2 the command line or the configuration is wrong

examples:
  caxflow rm --profile midway -n 160315_1432
  caxflow rm --profile midway 160315_1432 --because "disk full"
  caxflow rm --profile midway 160315_1432 --kind processed --copies 1 --because "tegner keeps it"
  caxflow rm --profile midway 160315_1432 --kind processed --version v6.8.0 --because "superseded"
  caxflow rm --profile midway 160315_1432 --kind minitrees --because "wrong cuts"
"""
_WITHOUT = "nothing is removed without it"


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
        help="a processed file, or minitrees, of this version; where it is not the version that the site "
        "keeps, the processed file of that, there, is the one that must be good",
    )
    parser.set_defaults(run=_run)


@kept.connections()
def _run(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    if not arguments.because and not arguments.dry_run:
        raise site.WrongCallError("no reason is given", 'add --because "why it goes"')
    if arguments.copies is not None and arguments.copies < 1:
        raise site.WrongCallError(f"--copies {arguments.copies}: one other copy is the least", "ask for 1")
    if arguments.version and arguments.kind not in documents.VERSIONED:
        raise site.WrongCallError("--version is of processed files", "add --kind processed")
    stays = 0
    with RunsDB(settings.rundb, dry=settings.dry or arguments.dry_run, without=_WITHOUT) as database:
        subjects = list(copies.subjects(arguments, settings, database))
        for subject in subjects:
            database.get(subject.run)  # a name that nobody knows removes nothing of the others
        for subject in subjects:
            try:
                if _is_gone(subject):
                    continue
                subject.check_mounted()
                planned = Removal(subject, _demand(subject, arguments.copies), arguments.because or "")
                (_preview if arguments.dry_run else _remove)(planned)
            except CaxflowError as error:
                print(f"caxflow: {error}", file=sys.stderr)
                stays += 1
    return 1 if stays else 0


def _demand(subject: Subject, copies: int | None) -> Demand:
    """What must be known of the others: what the command line says, or a purge would demand."""
    demand = retention.demand(subject.settings.purge)
    if copies is None and Hearing(subject, demand).own_manifests:
        copies = 1
    return demand if copies is None else dataclasses.replace(demand, copies=copies)


def _is_gone(subject: Subject) -> bool:
    """Whether there is nothing to remove any more; an error if there is nothing yet that may be."""
    document = subject.database.get(subject.run)
    copy, key = subject.find(document), subject.key
    if copy is not None and copy.status == documents.VERIFYING and key.kind in STAGES:
        target = Target(subject.site.name, subject.run, STAGES[key.kind])
        raise CaxflowError(
            f"{subject} was not verified yet",
            f"let it be read again first: snakemake --profile {subject.settings.here.name} {target}",
        )
    gone = documents.gone(document, key.kind, key.host, key.version) if copy is None else None
    if gone is None or gone.get("why") != "removed":
        return False
    at = documents.time_of(gone.get("at"))
    print(f"{subject} is gone already" + (f", since {at:%Y-%m-%d %H:%M} UTC" if at else ""))
    return True


def _preview(planned: Removal) -> None:
    verdict, subject = planned.preview(), planned.subject
    where = f"{printable(verdict.location)} at {subject.site.name}"
    if verdict.missing:
        what = f"there is nothing at {printable(verdict.location)}"
        print(f"would remove the entry at {subject.site.name}: {what}")
    elif verdict.begun:
        print(f"would go on removing {where}")
    else:
        print(f"would remove {where}, {words.size(verdict.size)}")
    for each in verdict.sure:
        print(f"  {each}")
    for each in verdict.hoped:
        print(f"  {each.site}, if it is good: it would be read again first ({each.against})")


def _remove(planned: Removal) -> None:
    facts = planned.perform()
    others = ", ".join(each["site"] for each in facts["evidence"])
    # That it is removed was said.
    print(f"  {printable(facts['location'])}, {words.size(facts['bytes'])}; good copies: {others}")
