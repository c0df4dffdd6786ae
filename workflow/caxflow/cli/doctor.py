"""``caxflow doctor [SITE]``: checks what a site needs before its first run."""

import argparse

from rich.text import Text

from caxflow import terminal, words
from caxflow.cli import screen, site
from caxflow.errors import CaxflowError
from caxflow.monitoring import doctor, status

_EPILOG = """\
Without SITE: the profile, the work directory, the data folders here, the processor, the batch system, the
runs database, what people are told by, what each key in authorized_keys may do here, and every site that this
one pulls from or pushes to, with what our key may do there; whether two of these sites are one storage. With
SITE: that partner only.

Nothing is only asked that can be tried: a small file is written, sent, read and removed, the database is
written to, SSH checks the host keys. The batch system looks at the largest job that the profile will ask
for, with its partition, account, memory and time; none runs. In each folder that is written to, what odd
file systems refuse: syncs, links, times, modes, locks, removing what is open. A partner gets as many
connections at the same time as a copy opens; its start-up files and its Python are looked at, and the way
back where the partner's own workflow needs it. Webhook and mail server are asked whether they would take a
message; none is sent. What does not keep caxflow from working is something to look at, with what is lost.

--mark-roots gives each data folder here, or at SITE, a file .caxflow-root that says whose data its disk has,
once something is found there of what the runs database knows. Without it, or with another one's, nothing is
written to the folder and nothing in it is called missing: its file system may not be mounted. A folder that
is empty, and of which the runs database knows nothing, gets it with the first copy.

exit code: 0 nothing is in the way; 1 something is, each with the command that mends it; 2 the command line or
the configuration is wrong

examples:
  caxflow doctor --profile midway
  caxflow doctor --profile midway tegner
  caxflow doctor --profile midway --mark-roots
"""
COLOURS = {doctor.GOOD: "green", doctor.DOUBTFUL: "yellow", doctor.BAD: "bold red"}


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "doctor",
        help="check what a site needs before its first run",
        description=__doc__.partition(": ")[2].capitalize(),
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    parser.add_argument("site", metavar="SITE", nargs="?", help="a partner; by default all, and this site")
    parser.add_argument(
        "--mark-roots", action="store_true", help="mark the data folders as those of this site, or of SITE"
    )
    parser.add_argument(
        "--replaced", action="store_true", help="with --mark-roots: the disks are new, and hold nothing yet"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    site.add_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    settings = site.settings(arguments)
    try:
        only = settings.site(arguments.site) if arguments.site else None
    except CaxflowError as error:
        raise site.WrongCallError(error.what, error.mend) from error
    if arguments.replaced and not arguments.mark_roots:
        raise site.WrongCallError("--replaced says how data folders are marked", "add --mark-roots")
    console, found = screen.console(), []
    if arguments.mark_roots:
        findings = doctor.mark_roots(settings, only or settings.here, replaced=arguments.replaced)
    else:
        findings = doctor.examine(settings, site.profile_files(arguments), only)
    for finding in findings:
        found.append(finding)
        if not arguments.json:
            line = Text(f"{finding.verdict:4} ", style=COLOURS[finding.verdict])
            line.append(f"{finding.about}: {finding.said}", style="default not bold")
            console.print(line, soft_wrap=True)
            if finding.mend:
                console.print(Text(f"       -> {finding.mend}"), soft_wrap=True)
    bad = sum(finding.verdict == doctor.BAD for finding in found)
    if arguments.json:
        terminal.show_json(status.plain(found))
    else:
        doubtful = sum(finding.verdict == doctor.DOUBTFUL for finding in found)
        also = f", {words.count(doubtful, 'thing')} to look at" if doubtful else ""
        console.print((f"{words.count(bad, 'thing')} to mend" if bad else "nothing is in the way") + also)
    return 1 if bad else 0
