"""What Ctrl-C does: jobs end in a line; a second one is answered, where it would spoil Snakemake's ending.

A job does not hear it while Python starts and imports, which would end in a traceback (`DEAF`, `hear`); what
it misses then, the main process leaves a note of.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

from caxflow import receipts, signals
from caxflow.errors import CaxflowError
from caxflow.workdir import journal

_BEGINNING = "Select jobs to execute"
_ENDING = "Terminating processes on user request"
_NOTE = ".caxflow/interrupted"
# What the shell does before it starts a job.
DEAF = "trap '' INT; "


def hear() -> None:
    """Take Ctrl-C as Python does it, from now on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def was(work_dir: Path, main: Mapping) -> bool:
    """Return whether the call of that main process has been interrupted."""
    try:
        return receipts.content_of(work_dir / _NOTE) == journal.call_of(main).encode()
    except CaxflowError:
        return False


class Once:
    """A filter for Snakemake's logger: Ctrl-C ends the jobs, from the first one on, and never that ending."""

    def __init__(self, work_dir: Path):
        self.work_dir = work_dir

    def filter(self, record: logging.LogRecord) -> bool:
        """Have the next one answered; the record is shown in any case, in our words."""
        if record.getMessage().startswith(_BEGINNING):
            signals.raise_again()  # which the scheduler takes from here on
        if record.getMessage().startswith(_ENDING):
            record.msg, record.args = "caxflow: interrupted; the jobs at work are being ended", ()
            with contextlib.suppress(CaxflowError):
                receipts.write(self.work_dir / _NOTE, journal.call_of(receipts.who()))
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, _answer)
        return True


def _answer(*_: object) -> None:
    line = f"the jobs are being ended; `kill -9 {os.getpid()}` does not wait, and loses nothing either"
    os.write(2, f"\rcaxflow: {line}\n".encode())
