"""Where commands print: tables that fit, colour only where it is wanted, help that wraps."""

from caxflow.cli.paragraphs import Paragraphs
from caxflow.planning import standing
from caxflow.terminal import Terminal

__all__ = ["COLOURS", "Paragraphs", "console"]

# Of what a run's state is called, and of answers without one.
COLOURS = dict.fromkeys((standing.SETTLED, standing.TODO, standing.BUSY), "green")
COLOURS |= dict.fromkeys((standing.WAITS, standing.EXCLUDED, standing.TAKING, "unasked"), "yellow")
COLOURS |= dict.fromkeys((standing.FAILED, standing.PROBLEM, "unknown"), "red")


def console() -> Terminal:
    """Standard output; in colour on a terminal unless NO_COLOR is set, 80 columns wide where it is none."""
    return Terminal()
