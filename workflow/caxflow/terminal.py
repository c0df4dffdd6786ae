"""Where programs print: whatever gets to a terminal gets through here, and foreign text loses its effect.

Colours, and what is drawn again, are only those of the program's own: no markup is looked for in text.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from caxflow import legible


class Terminal(Console):
    """A console that shows each text as one printable line; parameters as of rich's."""

    def __init__(self, file: TextIO | None = None, **options: Any):
        file = file or _bare(sys.stdout)
        super().__init__(file=file, highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text of a string, also of a cell of a table."""
        return super().render_str(legible.line(text, legible.WIDEST), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object, or one inside another."""
        return super().render(_inert(renderable) if isinstance(renderable, Text) else renderable, options)


def show_json(value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Print plain data as JSON, in which no text is very long; `default` makes them of what is none."""
    stream = _bare(sys.stdout)
    stream.write(json.dumps(legible.short(value), indent=1, default=default) + "\n")
    stream.flush()


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Let what is printed be printable lines, one for each text, until the end of the block."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Guarded(_bare(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


class _Guarded:
    """A stream each text of which is one line."""

    def __init__(self, bare: TextIO):
        self.bare = bare

    def write(self, text: str) -> int:
        body, end = (text[:-1], "\n") if text.endswith("\n") else (text, "")
        self.bare.write(legible.line(body, legible.WIDEST) + end)
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


def _bare(stream: TextIO) -> TextIO:
    return getattr(stream, "bare", stream)


def _inert(text: Text) -> Text:
    """Return a text without odd characters, in the same colours unless much is left out."""
    shown = legible.line(text.plain, legible.WIDEST)
    if shown == text.plain:
        return text
    if len(text.plain) > legible.WIDEST:
        return text.blank_copy(shown)
    made = text.blank_copy()
    for piece in text.divide(sorted({edge for span in text.spans for edge in (span.start, span.end)})):
        part = Text(legible.line(piece.plain, legible.WIDEST))
        for span in piece.spans:
            part.stylize(span.style)
        made.append_text(part)
    return made
