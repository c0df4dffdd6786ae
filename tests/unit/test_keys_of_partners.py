"""What doctor says of the keys in authorized_keys at the site that has the data."""

import pytest

from caxflow.monitoring.doctor import BAD, DOUBTFUL, GOOD, keys
from operators import configured

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ1dCBub3QgYSBrZXkgYXQgYWxs"


@pytest.fixture
def say(tmp_path, monkeypatch):
    """Return what is said of the lines of an authorized_keys."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "midway" / "raw").mkdir(parents=True)
    settings = configured(tmp_path, site="lngs")

    def said(*lines):
        (tmp_path / ".ssh" / "authorized_keys").write_text("\n".join(lines) + "\n")
        return [(each.verdict, each.said, each.mend) for each in keys.examine(settings)]

    return said


def serve(options: str) -> str:
    return f'command="sh serve {options}"'


@pytest.mark.parametrize(
    ("line", "verdict", "said", "mend"),
    [
        ("restrict,{serve}", GOOD, "x starts caxflow serve: --read-only, below /", ""),
        ("{serve}", DOUBTFUL, "below /, but it may forward ports and agents", "with restrict,"),
        ("restrict,{none}", BAD, "it has no --root, and serves nothing", "correct its command"),
        ("restrict,{gone}", DOUBTFUL, "--no-delete, below /nowhere: /nowhere is no folder", "correct"),
        ("restrict,{away}", DOUBTFUL, "there is no /bin/no-caxflow on the PATH here", "correct its command"),
        ('restrict,from="*.org",command="internal-sftp -R"', GOOD, "x starts internal-sftp -R, and noth", ""),
        (
            'command="echo \\"a, b\\" #"',
            DOUBTFUL,
            'starts echo "a, b" #, and nothing else, but',
            "restrict,",
        ),
        ("", GOOD, "a shell is opened by: x", ""),
        ('no-pty,environment="A=command=b c"', GOOD, "a shell is opened by: x", ""),
    ],
)
def test_a_key(say, line, verdict, said, mend):
    line = line.format(
        serve=serve("--root / --read-only"), none=serve("--read-only"),
        gone=serve("--root=/nowhere --no-delete"),
        away='command="/bin/no-caxflow serve --root /"',
    )  # fmt: skip
    ((found, what, how),) = say("# a comment", "", f"{line} {PUBLIC} x".strip())
    assert found == verdict
    assert said in what
    assert mend in how


def test_the_key_of_a_partner_that_opens_a_shell_is_looked_at(say, tmp_path):
    """Midway pulls from here; what it needs is said as it is to be typed."""
    found = say(f"{PUBLIC} pax@midway", f"{PUBLIC} midway2 of old", PUBLIC, "no key at all")
    assert found == [
        (
            DOUBTFUL,
            "pax@midway, by its name that of site midway, opens a shell",
            f"if that is not wanted, begin its line in {tmp_path}/.ssh/authorized_keys with restrict,"
            f'command="caxflow serve --root {tmp_path}/lngs/raw --read-only --name midway"',
        ),
        (GOOD, "a shell is opened by: midway2 of old, line 3", ""),
    ]
