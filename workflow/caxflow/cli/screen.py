"""Where commands print: tables that fit, colour only where it is wanted, help that wraps."""

import argparse
import itertools
import textwrap
from typing import NoReturn

from caxflow import legible
from caxflow.terminal import Terminal

WIDEST_CELL = 32  # columns; of names that documents give


def console() -> Terminal:
    """Standard output; in colour on a terminal unless NO_COLOR is set, 80 columns wide where it is none."""
    return Terminal()


class Parser(argparse.ArgumentParser):
    """A parser whose errors are printable, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end."""
        super().error(legible.line(message))


class Paragraphs(argparse.HelpFormatter):
    """Help whose paragraphs are wrapped, and whose indented lines stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # As argparse's own formatters do it: this is the one place to say how a text is set.
        def wraps(line: str) -> bool:
            return bool(line) and not line.startswith(" ")

        lines: list[str] = []
        for paragraph, group in itertools.groupby(text.strip("\n").splitlines(), wraps):
            block = list(group)
            lines += textwrap.wrap(" ".join(block), width) if paragraph else block
        return "\n".join(lines)
