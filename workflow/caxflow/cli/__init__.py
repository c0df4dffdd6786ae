"""The command ``caxflow``: what is not a file target.

Each sub-command is a module of this package with a function ``add`` that describes it to the parser and sets
``run``, which takes the parsed arguments and returns the exit code: 0 done, 1 something is wrong with the
data or the sites, 2 the command line or the configuration is wrong.
"""

import sys

from caxflow import signals

COMMANDS = ("run", "status", "why", "doctor", "page", "strays", "rm", "mv", "rundb", "shadow", "import_")


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
    import argparse
    import importlib
    import os

    from caxflow import __version__, preview
    from caxflow.cli.site import WrongCallError
    from caxflow.errors import CaxflowError

    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 (it was closed by the caller)
    parser = argparse.ArgumentParser(
        prog="caxflow",
        description="Looks after what is not a file target; targets are made by snakemake --profile SITE.",
        epilog="caxflow COMMAND --help tells more.",
    )
    parser.add_argument("--version", action="version", version=f"caxflow {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"caxflow.cli.{name}").add(commands)
    arguments = parser.parse_args(words)
    try:
        signals.raise_again()
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
        # Whoever read along has seen enough; what Python flushes at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error
        print(f"caxflow: {what} -> mend it, then ask again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        preview.only_look(False)
