"""Help that wraps."""

import argparse
import itertools
import textwrap


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
