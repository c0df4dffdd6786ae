"""``caxflow rundb``: looks after the runs database itself."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from caxflow import terminal, versions, words
from caxflow.cli import screen, site
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.monitoring import consistency
from caxflow.monitoring.consistency import Stated
from caxflow.planning import planner, settled, summary, sync
from caxflow.rundb import PLANNING, RunsDB, TwoDocuments, roles
from caxflow.targets import Run, Target
from caxflow.workdir import lost as receipts_lost

_CHECK = """\
Reads every run document and names what is odd: a bad name, two documents of a run, half-written or double
entries, a location outside the site's folders, an unknown status, claims that ended; entries that do not say
what the receipts in this site's work directory prove; runs that are marked as settled or waiting here and are
not, since another program changed their document; indexes that are missing. Receipts that this site should
have and has not are named too; that is nothing odd. Nothing is changed.

exit code: 0 all is well; 1 something is odd, or the database could not be asked; 2 the command line or the
configuration is wrong
"""
_REBUILD = """\
Makes the entries of the run documents say again what the receipts in this site's work directory prove, and
puts the manifests back. Run it at each site after the database was restored from an older backup. Only shows
what it would do, unless --apply is given; never steps back from what the database has proven since.

exit code: 0 the database says what the receipts prove (or would, without --apply); 1 something could not be
told; 2 the command line or the configuration is wrong
"""
_ROLES = """\
Prints commands for mongosh: the roles that sites and readers need, the indexes, and how users are made.
No role may remove run documents, change or remove records of the audit, or make indexes, so these
commands are for who administers the database. The database is not asked, and nothing is changed.

examples:
  caxflow rundb roles --profile midway > roles.js
  mongosh 'mongodb://admin@runs.example/?tls=true' --file roles.js     # where the administrator is
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "rundb", help="look after the runs database", description=__doc__.partition(": ")[2].capitalize()
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    init = actions.add_parser(
        "init",
        help="make the indexes that planning needs",
        description="Makes the indexes that planning and claims need, for the database and for each "
        "site, and marks the runs for which nothing remains to be done here, so that planning need not look "
        "at them again. Repeated, it takes away marks that do not hold any more; nothing else changes.",
    )
    site.add_options(init)
    init.set_defaults(run=_init)
    _add_check(actions)
    _add_rebuild(actions)
    roles_ = actions.add_parser(
        "roles",
        help="print the commands that make roles and indexes, for who administers the database",
        description=_ROLES,
        formatter_class=screen.Paragraphs,
    )
    site.add_options(roles_)
    roles_.set_defaults(run=_roles)


def _add_check(actions: argparse._SubParsersAction) -> None:
    check = actions.add_parser(
        "check",
        help="name documents with surprises, entries that contradict receipts, missing indexes",
        description=_CHECK,
        formatter_class=screen.Paragraphs,
    )
    check.add_argument("--json", action="store_true", help="as a JSON list of lines")
    site.add_options(check)
    check.set_defaults(run=_check)


def _add_rebuild(actions: argparse._SubParsersAction) -> None:
    rebuild = actions.add_parser(
        "rebuild",
        help="make entries say again what the receipts here prove",
        description=_REBUILD,
        formatter_class=screen.Paragraphs,
    )
    rebuild.add_argument("--apply", action="store_true", help="do it, instead of showing it")
    rebuild.add_argument(
        "--documents",
        action="store_true",
        help="also make the documents of runs that the database has lost; their end, tags and comments are "
        "not known here",
    )
    site.add_options(rebuild)
    rebuild.set_defaults(run=_rebuild)


def _init(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    with RunsDB(settings.rundb, dry=settings.dry, patient=True) as database:
        if not versions.upgrade_database(database):
            # Written since by a job of an earlier version that still ran, or restored from a backup.
            database.give_checksums_back()
        names = [*database.init(), *(database.init_site(name) for name in sorted(settings.sites))]
        collection = f"{settings.rundb.database}.{settings.rundb.collection}"
        print(f"indexes of {collection}: {', '.join(names)}")
        editions, _ = planner.applied(database, settings)
        wrong = settled.untrue(database.everything(PLANNING), settings, editions, database.now())
        database.unmark([identity for identity, _, _ in wrong], settings.here.name)
        made = planner.look(database, settings)
    print(*summary.lines(made, made.targets, settings), sep="\n")
    return 0


def _roles(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    print(*roles.script(settings.rundb, settings.sites).splitlines(), sep="\n")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    found: list[str] = []
    lost: list[Target] = []
    with RunsDB(settings.rundb, dry=True) as database:
        for line in _odd(database, settings, site.work_dir(settings), lost):
            found.append(line)
            if not arguments.json:
                print(line, flush=True)
    if arguments.json:
        terminal.show_json(found)
    else:
        print(*_lost(lost), sep="", end="")
        print(f"{words.count(len(found), 'surprise')}" if found else "no surprises")
    return 1 if found else 0


def _lost(targets: list[Target]) -> Iterator[str]:
    """What is to be said of receipts that are lost; nothing need be done about them."""
    if targets:
        more = f" and {len(targets) - 3:,} more" if len(targets) > 3 else ""
        yield f"receipts are not here: {', '.join(map(str, targets[:3]))}{more} -> nothing need be done: "
        yield "what is needed is taken note of, and read, again; no data are moved for that\n"


def _odd(database: RunsDB, settings: Settings, folder: Path | None, lost: list[Target]) -> Iterator[str]:
    """Everything that ``check`` names, a line each; `lost` is told of receipts that are not here."""
    missing = database.missing_indexes(*sorted(settings.sites))
    if missing:
        yield f"indexes are missing: {', '.join(missing)} -> caxflow rundb init"
    yield from map(str, map(TwoDocuments, sorted(database.twice())))
    now = database.now()
    editions, _ = planner.applied(database, settings)
    for document in database.everything(PLANNING):
        yield from consistency.surprises(document, settings, now)
        if settings.here.work_dir:
            lost += receipts_lost.missing(document, settings, Path(settings.here.work_dir))
        for _, run, targets in settled.untrue([document], settings, editions, now):
            wanted = (
                f"is marked as settled or waiting at {settings.here.name}, and wants {', '.join(targets)}"
            )
            yield f"{run} {wanted} -> caxflow rundb init, or wait: planning looks at it again by itself"
    for run, stated, problem in _stated(folder, settings):
        if problem:
            yield problem
            continue
        document = database.find(run)
        if document is None:
            yield f"{run} has receipts here, and no document -> caxflow rundb rebuild --documents"
            continue
        for each in stated:
            wrong = consistency.contradictions(document, each)
            yield from (f"{line} -> caxflow rundb rebuild" for line in wrong)
            if not wrong and database.manifest(each.receipt["manifest"]["digest"]) is None:
                digest = each.receipt["manifest"]["digest"]
                yield f"{run}: manifest {digest} is lost, or altered -> caxflow rundb rebuild"


def _stated(folder: Path | None, settings: Settings) -> Iterator[tuple[Run, list[Stated], str]]:
    """What the receipts here state, run by run; or what is wrong with them."""
    for run, targets in consistency.stated(folder, settings.sites) if folder else ():
        try:
            found = [consistency.read(folder, target) for target in targets]
        except CaxflowError as error:
            yield run, [], str(error)
            continue
        yield run, [each for each in found if each], ""


def _rebuild(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    folder, told, lost, problems = site.work_dir(settings, acts=arguments.apply), 0, 0, []
    with RunsDB(settings.rundb, dry=settings.dry or not arguments.apply) as database:
        for run, stated, problem in _stated(folder, settings):
            if problem:
                problems.append(problem)
                continue
            document = database.find(run)
            if document is None and arguments.documents:
                document = consistency.document_from(run, folder, settings.sites, database.now())
                print(f"{run}: {'makes' if arguments.apply else 'would make'} its document, without its end")
                database.add(document)
            if document is None:
                lost += 1
                continue
            for each in stated:
                told += _tell(database, settings, document, each, folder=folder, problems=problems)
    for problem in problems:
        print(problem)
    print(_result(told, lost, arguments.apply))
    return 1 if problems or lost else 0


def _tell(
    database: RunsDB, settings: Settings, document: dict, stated: Stated, *, folder: Path, problems: list[str]
) -> bool:
    """Tell one copy's receipts where the entry does not say what they prove; whether there was anything."""
    wrong = consistency.contradictions(document, stated)
    if not wrong and database.manifest(stated.receipt["manifest"]["digest"]) is None:
        wrong = [
            f"{stated.done.run}: its manifest {stated.receipt['manifest']['digest']} is lost, or altered"
        ]
    for line in wrong:
        print(line)
    if wrong and not database.dry:
        done = sync.sync(database, settings, folder, stated.targets)
        problems += [*done.problems, *([done.away] if done.away else [])]
    return bool(wrong)


def _result(told: int, lost: int, applied: bool) -> str:
    result = f"{words.count(told, 'copy')} {'told' if applied else 'would be told'}"
    if told and not applied:
        result += "; --apply does it"
    if lost:
        result += f"; {words.count(lost, 'run')} have no document: --documents makes them"
    return result
