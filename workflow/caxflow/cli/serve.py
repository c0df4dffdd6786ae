"""``caxflow serve``: what the key of a partner starts in the place of a shell; restricts what it may do."""

import argparse
from pathlib import Path

from caxflow.cli import screen
from caxflow.errors import CaxflowError


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    from caxflow.transfer import serve

    parser = commands.add_parser(
        "serve",
        help="what a partner's key may start, and nothing else",
        description=serve.DESCRIPTION,
        epilog=serve.EPILOG,
        formatter_class=screen.Paragraphs,
    )
    serve.add_options(parser)
    parser.add_argument("--write", metavar="FILE", type=Path, help="write this command as a single file")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from caxflow.transfer import serve, singlefile

    if arguments.write is None:
        return serve.run(arguments)
    if arguments.root:
        raise CaxflowError(
            "--write writes the program, which takes --root when it is run", "leave --root out"
        )
    singlefile.write(arguments.write)
    print(f"{arguments.write} is written: caxflow serve of this version, for Python 3.8 or newer")
    return 0
