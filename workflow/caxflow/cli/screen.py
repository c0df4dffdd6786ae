"""Where commands print: tables that fit, colour only where it is wanted."""

from rich.console import Console


def console() -> Console:
    """Standard output; in colour on a terminal unless NO_COLOR is set, 80 columns wide where it is none."""
    return Console(highlight=False, markup=False, emoji=False)
