"""Case U3: the log of a job has what its program said, how it was called, and then the earlier attempts."""

import re
import shlex
import subprocess
import sys

import pytest

import nasty
from caxflow import joblogs
from caxflow.errors import CaxflowError
from caxflow.processing import commands


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "logs/midway/160315_1432.process_raw.log"
    path.parent.mkdir(parents=True)
    return path


def python(program):
    return [sys.executable, "-c", program]


def script(first, mode=0o755):
    """A file with that first line, started by its path."""

    def make(folder):
        path = folder / "program"
        path.write_text(f"{first}\n")
        path.chmod(mode)
        return [str(path)]

    return make


PROGRAMS = {
    "it is nowhere": (["no-such-program"], "cannot be started: no such program", []),
    "it may not be executed": (script("#!/bin/sh", 0o644), "program may not be executed -> chmod +x ", []),
    "its interpreter is nowhere": (script("#!/no/such/python"), "its #! line: No such file", ["127"]),
    "it is no program": (script("\0\1"), "Exec format error", ["126"]),
    "its setup does not find it": (
        commands.Environment(setup="export A=1").wrap(["no-such-program"], "/"),
        "exec: no-such-program: not found",
        ["127"],
    ),
    "its module is nowhere": (
        commands.Environment(module="pax/1").wrap(["true"], "/"),
        "module: command not found",
        ["127"],
    ),
    "a signal ends it": (["sh", "-c", "echo so far; kill -SEGV $$"], "signal 11 (Segmentation", ["so far"]),
    "a signal ends what it runs": (
        ["bash", "-c", "sh -c 'kill -SEGV $$'; exit"],
        "exited with 139, as after signal 11 (Segmentation",
        [],
    ),
    "it only writes to standard output": (python("print('one\\ntwo'); exit(4)"), "4: two", ["one\ntwo\n"]),
    "it does not end its line": (["sh", "-c", "printf 'one\\ntwo'; exit 4"], "4: two", ["one\ntwo\n"]),
    "it writes Latin-1": (["sh", "-c", "printf 'Gr\\374n\\n'; exit 4"], "4: Gr\ufffdn", ["Gr\ufffdn"]),
    "it writes bytes": (["sh", "-c", "printf 'a\\0\\377\\033[1mb\\n'; exit 4"], "4: a", ["a\\x00\ufffdb"]),
    "it shows progress": (["sh", "-c", "printf '1 %%\\r2 %%\\rfailed\\r'; exit 4"], "4: failed", ["1 %"]),
    "it writes for hours": (
        ["sh", "-c", "echo first; yes | head -c 70000000; echo last; exit 4"],
        "4: last",
        ["first\n", "last\n", "bytes are left out"],
    ),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_u3_the_log_says_what_was_run_where_and_how_it_ended(tmp_path, log, case, monkeypatch):
    words, said, expected = PROGRAMS[case]
    words = words(tmp_path) if callable(words) else words
    monkeypatch.setenv("A_VARIABLE", "its-value")
    with pytest.raises(CaxflowError) as caught:
        commands.run(words, tmp_path, log, ["A_VARIABLE"])
    assert said in str(caught.value)
    assert f"read {log}" in str(caught.value)
    with log.open(errors="replace") as stream:
        kept = stream.read()
    assert kept.startswith(f"in {tmp_path}\nenvironment: set for it TMPDIR, PYTHONUNBUFFERED; inherited ")
    assert " A_VARIABLE, " in kept
    assert "its-value" not in kept
    assert f"\n$ {shlex.join(words)}\n" in kept
    assert kept.endswith("\n")
    joblogs.end(tmp_path, log, str(caught.value))
    with log.open(newline="", errors="replace") as stream:
        kept = stream.read()
    assert all(word in kept for word in [said, *expected])
    assert len(kept) < 4_000_000


def test_u3_the_command_can_be_pasted_and_has_no_secret(tmp_path, log, monkeypatch):
    monkeypatch.setenv("PAX_API_TOKEN", "open sesame")
    words = [*python("import sys; print(sys.argv[1:])"), "it's", "a b", "", "--token=open sesame!"]
    commands.run(words, tmp_path, log)
    kept = log.read_text()
    (line,) = re.findall(r"^\$ (.*)$", kept, re.MULTILINE)
    assert "sesame" not in line
    pasted = subprocess.run(line, shell=True, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert kept.endswith(pasted.stdout)


def attempt(work_dir, log, said):
    """What Snakemake and a job do: the log begins anew, and its end is kept."""
    log.unlink(missing_ok=True)
    log.write_text(said)
    joblogs.end(work_dir, log, "it failed")


def test_u3_earlier_attempts_stand_behind_the_newest(tmp_path, log):
    for number in range(3):
        attempt(tmp_path, log, f"attempt {number}")
        assert joblogs.last_line(log).endswith("it failed")
    kept = log.read_text()
    assert re.findall(r"attempt \d", kept) == ["attempt 2", "attempt 1", "attempt 0"]
    assert kept.startswith("attempt 2\n")
    assert kept.count("======== earlier: ") == 2
    # One that was interrupted, or is not made again, shows them, too; and is none itself.
    for _ in range(2):
        log.write_text("interrupted\n")
        joblogs.recall(tmp_path, log)
        assert joblogs.last_line(log) == "interrupted"
        assert re.findall(r"attempt \d", log.read_text()) == ["attempt 2", "attempt 1", "attempt 0"]
    joblogs.forget(tmp_path, log)
    attempt(tmp_path, log, "attempt 3")
    assert "earlier" not in log.read_text()


def test_u3_what_is_added_to_a_log_that_has_ended_stands_before_the_earlier_attempts(tmp_path, log):
    attempt(tmp_path, log, "attempt 0")
    attempt(tmp_path, log, "attempt 1")
    joblogs.end(tmp_path, log, "the batch system killed it")
    assert joblogs.last_line(log).endswith("the batch system killed it")


def test_u3_earlier_attempts_are_cut_and_do_not_grow_for_ever(tmp_path, log):
    for number in range(8):
        attempt(tmp_path, log, f"begin {number}\n{'x' * 1_000_000}\nend {number}\n")
    kept = log.read_text()
    assert len(kept) < 1_000_000 + joblogs.MOST + 1000
    assert re.findall(r"(?:begin|end) \d", kept)[:6] == [
        "begin 7",
        "end 7",
        "begin 6",
        "end 6",
        "begin 5",
        "end 5",
    ]
    assert "bytes are left out" in kept
    for number in range(8, 300):
        attempt(tmp_path, log, f"attempt {number}")
    (path,) = (tmp_path / joblogs.FOLDER).iterdir()
    assert path.stat().st_size <= joblogs.MOST
    assert "attempt 298" in log.read_text()
    assert log.stat().st_size < joblogs.MOST + 1000


@pytest.mark.parametrize("text", [each for each in nasty.TEXTS if "\ud800" not in each], ids=nasty.called)
def test_what_a_program_says_has_no_effect(log, text, tmp_path):
    said = text.encode("utf-8", "surrogateescape")
    (tmp_path / "said").write_bytes(b"begins\n" + said + b"\nends " + said)
    log.write_bytes("before µ\n".encode())
    with pytest.raises(CaxflowError) as raised:
        commands.run(["sh", "-c", f"cat {tmp_path}/said; exit 3"], tmp_path, log)
    assert nasty.effects(str(raised.value)) == []
    kept = log.read_bytes().decode()
    assert kept.startswith("before µ\n")
    assert "begins\n" in kept
    assert "\nends " in kept
    for line in kept.split("\n"):
        assert set(nasty.effects(line)) <= {f"{len(line)} characters"}


def test_a_progress_bar_makes_lines_and_colours_are_taken_out(log, tmp_path):
    program = python("print('\\x1b[32m10 %\\r\\x1b[1;31m90 %\\r\\n\\tµ 日本', end='')")
    commands.run(program, tmp_path, log)
    assert log.read_text().endswith("10 %\n90 %\n        µ 日本\n")


def test_what_is_ordinary_is_not_written_again(log, tmp_path):
    log.write_text("a\tb é µ\n" * 1000)
    before = log.stat()
    joblogs.tidy(log, 0)
    assert log.stat().st_mtime_ns == before.st_mtime_ns
