"""The command ``caxflow``: what is not a file target.

Each sub-command is a module of this package with a function ``add`` that describes it to the parser and sets
``run``, which takes the parsed arguments and returns the exit code: 0 done, 1 something is wrong with the
data or the sites, 2 the command line or the configuration is wrong.
"""

import sys

from caxflow import signals

COMMANDS = (
    "run", "status", "why", "doctor", "page", "strays", "rm", "mv", "serve", "rundb", "shadow", "import_",
)  # fmt: skip


def main(words: list[str] | None = None) -> int:
    """Run the command line `words`; by default the program's own, and then Ctrl-C never shows a traceback."""
    if words is not None:
        return _main(words)
    signals.end_at_once()
    try:
        return _main(None)
    except KeyboardInterrupt:
        return 130
    finally:
        signals.end_at_once()


def _main(words: list[str] | None) -> int:
    # Imported late: until `main` is called, Ctrl-C is a traceback.
    import importlib
    import io
    import os

    from caxflow import __version__, credentials, legible, owners, preview, terminal
    from caxflow.cli import screen
    from caxflow.errors import CaxflowError, WrongCallError

    owners.mask()
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # else the next file takes its number, and gets what programs print
            stream = open(os.devnull, "r+", encoding="utf-8")  # noqa: SIM115, PTH123
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    if words is None:
        credentials.share()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    parser = screen.Parser(
        prog="caxflow",
        description="Looks after what is not a file target; targets are made by snakemake --profile SITE.",
        epilog="caxflow COMMAND --help tells more.",
    )
    parser.add_argument("--version", action="version", version=f"caxflow {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    words = sys.argv[1:] if words is None else words
    named = [name for name in COMMANDS if words[:1] == [name.rstrip("_")]]
    for name in named or COMMANDS:  # of one that is named the others are not needed, and take time
        importlib.import_module(f"caxflow.cli.{name}").add(commands)
    try:
        arguments = parser.parse_args(words)
        signals.raise_again()
        with terminal.guarded():
            code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except WrongCallError as error:
        print(f"caxflow: {error}", file=sys.stderr)
        return 2
    except CaxflowError as error:
        print(f"caxflow: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1  # the reader has seen enough
    except OSError as error:
        print(f"caxflow: {legible.line(_in_words(error))} -> mend it, then ask again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        preview.only_look(False)
        try:
            sys.stdout.flush()
        except OSError:
            # What Python flushes at its end goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _in_words(error: OSError) -> str:
    if error.filename:
        return f"{error.filename}: {error.strerror}"
    try:
        sys.stdout.flush()
    except OSError as again:
        return f"standard output: {again.strerror}"
    return str(error)
