"""``caxflow run``: the daemon, which keeps a site at work: it plans and runs, again and again."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from caxflow.cli import screen, site
from caxflow.config import HOME
from caxflow.daemon import Daemon

_EPILOG = """\
It looks into the runs database for what is to be done at the site of the profile, has snakemake do it in
batches (batch_size), and waits for new runs: they wake it at once where the server has change streams (a
replica set), else it looks again after the pause. After failures, and while the database is away, the pause
grows up to eightfold. Edits of the configuration count from the next look on.

From time to time it also has scrub and purge done, as `daemon` in the configuration says.

One daemon a site. SIGTERM or Ctrl-C: nothing new begins, jobs at work have the grace to end, then they are
interrupted, as by Ctrl-C in snakemake; a second signal interrupts at once. Nothing is lost: an interrupted
copy goes on where it was.

exit code: 0 stopped when asked to, or (--once) all went well; 1 something failed, or another daemon serves
the site; 2 the command line or the configuration is wrong

examples:
  caxflow run --profile midway
  caxflow run --profile midway --once      # for cron: one look, one batch
  systemctl start caxflow@midway           # profiles/README.md has the unit
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "run",
        help="keep a site at work: plan and run, again and again",
        description=__doc__.partition(": ")[2].capitalize(),
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    parser.add_argument("--once", action="store_true", help="look once, work off one batch, and end")
    parser.add_argument(
        "--pause", metavar="SECONDS", type=_seconds, default=60, help="between two looks, 60 by default"
    )
    parser.add_argument(
        "--grace", metavar="SECONDS", type=_seconds, default=60, help="for jobs at work to end, 60 by default"
    )
    site.add_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    daemon = Daemon(
        load=lambda: site.settings(arguments),
        command=_snakemake(arguments),
        directory=Path(HOME),
        pause=arguments.pause,
        grace=arguments.grace,
        say=_say,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, daemon.stop)
    if arguments.once:
        return 0 if daemon.once() else 1
    daemon.run()
    return 0


def _snakemake(arguments: argparse.Namespace) -> Callable[[str], list[str]]:
    """The command line that makes a target; profiles by their full paths, the target before --config."""
    profiles = site.profile_files(arguments)
    if not profiles:
        raise site.WrongCallError("which profile snakemake is to use, is not known", "add --profile SITE")
    named = [word for file in profiles for word in ("--profile", str(file.absolute()))]
    files = [str(file.absolute()) for file in arguments.configfile or ()]
    given = ["--configfile", *files] if files else []
    given += ["--config", *arguments.config] if arguments.config is not None else []
    return lambda target: [sys.executable, "-m", "snakemake", *named, target, *given]


def _say(line: str) -> None:
    print(f"caxflow run: {line}", file=sys.stderr, flush=True)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return seconds
