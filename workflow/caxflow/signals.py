"""Ctrl-C where ending at once loses nothing: while a program imports and plans, and after its answer.

Python's own way is an exception wherever the program is just then, and a traceback where nothing catches it.
"""

import signal


def end_at_once() -> None:
    """Have Ctrl-C end this process without a word, unless it is ignored or taken in another way."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """Have Ctrl-C raise KeyboardInterrupt again after `end_at_once`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
