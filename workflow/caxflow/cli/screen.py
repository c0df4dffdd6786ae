"""Where commands print: tables that fit, colour only where it is wanted, help that wraps."""

import argparse
from typing import NoReturn

from caxflow import legible
from caxflow.cli.paragraphs import Paragraphs
from caxflow.planning import standing
from caxflow.terminal import Terminal

# Of what a run's state is called, and of answers without one.
COLOURS = dict.fromkeys((standing.SETTLED, standing.TODO, standing.BUSY), "green")
COLOURS |= dict.fromkeys((standing.WAITS, standing.EXCLUDED, standing.TAKING, "unasked"), "yellow")
COLOURS |= dict.fromkeys((standing.FAILED, standing.PROBLEM, "unknown"), "red")


WIDEST_CELL = 32  # columns; of names that documents give


def console() -> Terminal:
    """Standard output; in colour on a terminal unless NO_COLOR is set, 80 columns wide where it is none."""
    return Terminal()


class Parser(argparse.ArgumentParser):
    """A parser whose errors are printable, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end."""
        super().error(legible.line(message))
