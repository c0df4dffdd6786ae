"""The systemd unit that profiles/README.md gives: systemd understands it, and it leaves little open."""

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "profiles/README.md"


@pytest.fixture
def unit(tmp_path):
    """The unit as a file, with a program and folders that are here."""
    text = re.search(r"^    \[Unit\]\n(?:(?:    .*)?\n)+", README.read_text(), re.MULTILINE)[0]
    text = re.sub(r"/home/xenon1t/caxflow/\.venv/bin/caxflow\b", "/bin/true", textwrap.dedent(text))
    text = re.sub(r"^WorkingDirectory=.*$", f"WorkingDirectory={tmp_path}", text, flags=re.MULTILINE)
    file = tmp_path / "caxflow@midway.service"
    file.write_text(text.replace("User=xenon1t", "User=root"))
    return file


def analyze(require, *words):
    return subprocess.run([require("systemd-analyze"), *words], capture_output=True, text=True, check=False)


def test_systemd_understands_each_line(unit, require):
    said = analyze(require, "verify", "--man=no", str(unit))
    assert (said.returncode, said.stderr) == (0, "")


def test_little_is_left_open(unit, require):
    said = analyze(require, "security", "--offline=true", "--threshold=25", "--no-pager", str(unit))
    assert said.returncode == 0, said.stdout[-600:]


def test_the_password_is_a_credential(unit):
    lines = unit.read_text().splitlines()
    assert "LoadCredential=MONGODB_PASSWORD:/etc/caxflow/%i.password" in lines
    assert not any(line.startswith("Environment") for line in lines)
