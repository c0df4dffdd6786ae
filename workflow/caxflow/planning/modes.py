"""Ways to call Snakemake that do no jobs, or not as jobs are done, and what they would do here."""

import contextlib
import io
import os
from argparse import Namespace
from collections.abc import Callable, Mapping

from caxflow.errors import CaxflowError

_ASK = "leave it out"
_REMOVE = "to remove copies: caxflow rm, or the target purge"

# By the name of the option as Snakemake's parser keeps it: what it would do, and what to do instead. Others
# that do no jobs (--dag, --summary, --list-…, --lint, --report, --containerize, …) look, and write nothing.
REFUSED: Mapping[str, tuple[str, str]] = {
    "touch": ("would pass off what was never done as done", _ASK),
    "delete_all_output": ("would delete receipts, by which this site knows what it has", _REMOVE),
    "delete_temp_output": ("would take from a job at work what it reads", f"{_ASK}: they go by themselves"),
    "all_temp": ("would delete receipts, by which this site knows what it has", _REMOVE),
    "export_cwl": ("does nothing in this Snakemake, which would run the targets instead", _ASK),
    "trust_io_cache": ("would take what is on the disks from the pickle of an earlier call", _ASK),
    "archive": ("would pack receipts and links without the data that they are about", _ASK),
    "generate_unit_tests": ("would copy data into a folder of tests", _ASK),
    "draft_notebook": ("wants a rule with a notebook, and there is none", _ASK),
    "edit_notebook": ("wants a rule with a notebook, and there is none", _ASK),
}


def given(parse: Callable[[list[str]], tuple[object, Namespace]], words: list[str]) -> Mapping[str, object]:
    """Return the command line and profile, as Snakemake's own parser understands them."""
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        return vars(parse(words)[1])
    return {}  # the workflow was not started by a command line


def check(arguments: Mapping[str, object], directory: str | os.PathLike | None = None) -> None:
    """See that Snakemake was not called in a way that would state what is not so, or take away what is.

    Parameters
    ----------
    arguments : mapping
        As `given` has them.
    directory : path, optional
        What ``--directory`` says.

    Raises
    ------
    CaxflowError
        If it was; nothing was done then.
    """
    if directory is not None:
        raise CaxflowError(
            f"--directory {directory} would keep receipts where no other call looks for them",
            f"{_ASK}: work_dir of the site's file says where they are",
        )
    wanted = [name for name in REFUSED if arguments.get(name)]
    if arguments.get("executor") == "touch":
        wanted.append("touch")
    for name in wanted:
        what, mend = REFUSED[name]
        raise CaxflowError(f"--{name.replace('_', '-')} {what}", mend)
