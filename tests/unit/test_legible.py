"""Foreign text made printable and short."""

import json
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nasty
from caxflow import legible
from caxflow.errors import CaxflowError

# Names as people have them.
ORDINARY = ["160315_1432", "Müller", "µ = 5 %", "日本語", "Ångström", "Ελλάδα", "an → b", "שלום", "हिन्दी"]
ORDINARY += ["tiếng Việt", "✓ •", "ไทยก็"]
SHORT = [*ORDINARY, *(each for each in nasty.TEXTS if len(each) < 1000), "-", "~root", "a'b", "!!", "=a", ""]
ANY = st.text(st.characters(), max_size=50)  # surrogates too


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text):
    assert legible.line(text) == legible.lines(text) == text
    assert unicodedata.normalize("NFD", text) == legible.line(unicodedata.normalize("NFD", text))


@pytest.mark.parametrize("text", nasty.TEXTS, ids=nasty.called)
def test_nasty_text_is_inert(text):
    assert nasty.effects(legible.line(f"a {text} b")) == []
    assert nasty.effects(legible.html(text)) == []
    for line in legible.lines(f"a {text} b").split("\n"):
        assert nasty.effects(line) == []


@given(ANY | st.sampled_from(nasty.TEXTS), st.integers(40, 200))
def test_whatever_it_is_one_line_that_is_no_longer_and_stays(text, most):
    shown = legible.line(text, most)
    assert nasty.effects(shown) == []
    assert len(shown) <= most + legible._SLACK
    assert legible.line(shown, most) == shown
    shown.encode()


def test_what_is_left_out_is_counted_also_where_errors_quote_errors():
    said = legible.line("x" * 8_000_000)
    for site in ("midway", "lngs", "tegner"):
        said = legible.line(f"{site}: {said} -> call its manager")
    assert len(said) < legible.LONGEST + 100
    assert said.startswith("tegner: lngs: midway: xxx")
    assert said.endswith("-> call its manager")
    (left_out,) = legible._REMARK.findall(said)
    kept = said.count("x")
    assert int(left_out.replace(",", "")) >= 8_000_000 - kept
    assert int(left_out.replace(",", "")) <= 8_000_000 - kept + 100  # of what stands around it


def test_an_endless_error_counts_all_that_it_leaves_out():
    error = CaxflowError("it said: " + "x" * 8_000_000, "y" * 8_000_000)
    for text in (error.what, error.mend):
        assert len(text) < legible.LONGEST + 100
        (left_out,) = legible._REMARK.findall(text)
        assert abs(int(left_out.replace(",", "")) - 8_000_000 + text.count("x") + text.count("y")) < 20
    assert len(str(error)) < 2 * legible.LONGEST + 200


def test_very_many_lines_are_cut():
    shown = legible.lines("\n".join(map(str, range(1_000_000)))).split("\n")
    assert len(shown) == legible.MOST_LINES + 1
    assert (shown[0], shown[-1]) == ("0", "999999")
    assert "… 999,600 lines are left out …" in shown


@pytest.mark.parametrize("name", SHORT, ids=nasty.called)
def test_a_file_name_is_shown_as_it_is_typed(name):
    shown = legible.printable(name)
    assert nasty.effects(shown) == []
    shell = shutil.which("bash")
    try:
        wanted = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return  # no file has such a name
    if b"\0" in wanted:
        return
    program = [shell, "-c", f"printf %s {shown}"]
    done = subprocess.run(program, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stdout == wanted


def test_plain_data_stay_plain_data():
    value = {"a": ["x" * 1_000_000, 1, None, True], "b\x1b": {"c": "\x1b"}}
    assert legible.short({"a": [1, "b\x1b"]}) == {"a": [1, "b\x1b"]}
    assert len(json.dumps(legible.short(value))) < 20_000
    assert legible.data(value)["b\\x1b"] == {"c": "\\x1b"}
    assert legible.data(value)["a"][1:] == [1, None, True]
