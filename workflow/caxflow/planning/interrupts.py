"""What a second Ctrl-C does: it is answered, where it would break Snakemake's ending off in a traceback."""

import logging
import os
import signal
import threading

_ENDING = "Terminating processes on user request"


class Once:
    """A filter for Snakemake's logger: once jobs are being ended, Ctrl-C does not interrupt that."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Have the next one answered; the record is shown in any case, in our words."""
        if record.getMessage().startswith(_ENDING):
            record.msg, record.args = "caxflow: interrupted; the jobs at work are being ended", ()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, _answer)
        return True


def _answer(*_: object) -> None:
    line = f"the jobs are being ended; `kill -9 {os.getpid()}` does not wait, and loses nothing either"
    os.write(2, f"\rcaxflow: {line}\n".encode())
