"""What is printed has no effect but the program's own colours."""

import io
import json
import re
import sys

import pytest
from rich.table import Table
from rich.text import Text

import nasty
from caxflow import terminal
from caxflow.cli import screen
from caxflow.terminal import Terminal


def shown(*objects, width=200, **options):
    """What a terminal gets."""
    stream = io.StringIO()
    Terminal(stream, force_terminal=True, color_system="standard", width=width).print(*objects, **options)
    return stream.getvalue()


def table(*cells):
    made = Table(box=None, show_header=False)
    for _ in cells:
        made.add_column()
    made.add_row(*cells)
    return made


@pytest.mark.parametrize("text", nasty.TEXTS, ids=nasty.called)
@pytest.mark.parametrize(
    "make",
    [
        lambda text: f"a {text}",
        lambda text: Text(f"a {text}"),
        lambda text: Text("a ").append(text),
        lambda text: table("x", f"a {text}"),
        lambda text: table("x", Text(f"a {text}")),
    ],
    ids=["string", "text", "appended", "cell", "cell of text"],
)
def test_objects_are_inert(make, text):
    said = shown(make(text), soft_wrap=True)
    assert nasty.shown_effects(said) == []
    if isinstance(make(text), str | Text):
        assert said.count("\n") == 1


def test_own_colours_stay_also_where_text_is_odd():
    line = Text("failed", style="bold red").append(" midway\x1b[2J\n", style="green").append("日本")
    said = shown(line, soft_wrap=True)
    assert said.startswith("\x1b[1;31mfailed\x1b[0m\x1b[1;32m midway\\x1b[2J\\n\x1b[0m")
    assert "日本" in said
    assert said.count("\n") == 1


def test_markup_and_emoji_are_text():
    for each in ("[bold]x[/bold] [link=http://evil.example]y[/link] :bomb:", "[/]", "[red"):
        assert shown(each) == f"{each}\n"
        assert each in shown(table(each))


def test_a_wide_cell_leaves_the_others_in_sight():
    made = Table(box=None)
    for name in ("site", "state"):
        made.add_column(name, no_wrap=True, max_width=screen.WIDEST_CELL)
    made.add_row("x" * 5000, "漢" * 5000)
    made.add_row("midway", "proven")
    said = re.sub(r"\x1b\[[0-9;]*m", "", shown(made, width=80))
    assert "proven" in said
    assert max(map(len, said.split("\n"))) <= 80


@pytest.mark.parametrize("text", nasty.TEXTS, ids=nasty.called)
def test_what_is_printed_is_inert(text, capsys):
    with terminal.guarded():
        print("a", text)
        print(f"caxflow: {text}", file=sys.stderr)
        sys.stdout.write(text)
        sys.stderr.writelines([text, "\n"])
        terminal.show_json({"a": text})
    out, err = capsys.readouterr()
    said, _, data = out.rpartition("{\n")
    assert nasty.shown_effects(f"{said}\n{err}") == []
    assert err.count("\n") == 2
    assert data.isascii()
    (told,) = json.loads("{" + data).values()
    assert told == text or len(told) < nasty.LONGEST


def test_the_guard_ends(capsys):
    with pytest.raises(ZeroDivisionError), terminal.guarded(), terminal.guarded():
        raise ZeroDivisionError
    print("\x1b[0m")
    assert capsys.readouterr().out == "\x1b[0m\n"
