"""S7, S12, S13, B4: whatever a command is called with and wherever, it works, or ends in a line."""

import argparse
import contextlib
import importlib
import io
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import needs
from caxflow import cli
from copies import Copies

RUN = "160315_1432"
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MANUALS = [ROOT / "README.md", *(ROOT / folder / "README.md" for folder in ("config", "profiles"))]
MANUALS += sorted((ROOT / "docs").glob("*.md"))


class Place:
    """A site's account: a home with the profile of the copies' midway, and an empty environment."""

    def __init__(self, folder, copies):
        self.folder, self.copies, self.home = folder, copies, folder / "home"
        self.page, self.metrics = folder / "public/runs", folder / "caxflow.prom"
        profile = Path(copies.profile(page={"folder": str(self.page)}, metrics=str(self.metrics)))
        shipped = yaml.safe_load((ROOT / "profiles/demo/config.yaml").read_text())
        (profile / "config.yaml").write_text(yaml.safe_dump(shipped | {"cores": 2}))
        (self.home / ".config/snakemake").mkdir(parents=True)
        (self.home / ".config/snakemake/midway").symlink_to(profile)
        self.profile = profile

    def call(self, line, **environment):
        """Run a line of shell as ``env -i`` has it; the exit code, standard output, standard error."""
        kept = {"PATH": "/usr/bin:/bin", "HOME": str(self.home)} | environment
        kept = {name: value for name, value in kept.items() if value is not None}
        kept |= {"PYTHONPATH": str(ROOT / "workflow"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [needs.tool("bash"), "-c", line],
            cwd=ROOT,
            env=kept,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=200,
            check=False,
        )
        said = done.stdout + done.stderr
        for bad in ("Traceback", "Exception ignored", "Error in sys.excepthook", "command not found"):
            assert bad not in said, f"{line}: {said}"
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def place(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add(RUN, sites=["lngs"])
        yield Place(tmp_path, copies)


def commands():
    """The command lines of all manuals: in blocks and in text, and those that a service or cron starts."""
    found = {}
    for manual in MANUALS:
        text = manual.read_text(encoding="utf-8").replace("\\\n", "")
        for block, word in re.findall(r"^ {4,}(.*)$|`([^`\n]+)`", text, re.MULTILINE):
            line = re.sub(r"^ExecStart=|.*&& (?=\S*caxflow )| {2,}#.*| +# .*", "", block or word)
            line = re.sub(r"^(\S*/)?(caxflow|snakemake)(?= -| [a-z])", r"\2", line.strip().rstrip("`"))
            if line.startswith(("caxflow ", "snakemake ")) and "import" not in line and "shadow" not in line:
                found.setdefault(filled(line), manual.name)
    return found


def filled(line):
    """Fill in what stands for something, and see that the command ends, and does nothing that lasts."""
    for placeholder in ("<site>", "%i", "SITE"):
        line = line.replace(placeholder, "midway")
    words = shlex.split(re.sub(r"\bRUN\b", RUN, line))
    if words[0] == "caxflow" and words[1] in ("run", "rm", "mv"):
        rest = {"run": ["--once"], "rm": [RUN, "-n"], "mv": [RUN, "-n", "--to", "/x"]}[words[1]]
        words = [*words[:2], *(word for word in words[2:] if word != RUN), *rest]
    if words[0] == "snakemake" and "--report" not in words and "-n" not in words:
        words.insert(1, "-n")
    if words[:2] == ["caxflow", "serve"]:
        return shlex.join(words if "--write" in words else [*words, "--help"])
    if "--profile" not in words and "--help" not in words:
        words += ["--profile", "midway"]
    return shlex.join(words)


# Runs lines of a file, each in a process of its own, which has imported what it needs.
EACH = """\
import os, shlex, sys
import caxflow.cli, snakemake.cli

for line in open(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.argv = shlex.split(line)
        try:
            sys.exit(caxflow.cli.main() if sys.argv[0] == "caxflow" else snakemake.cli.main(sys.argv[1:]))
        except SystemExit as ended:
            code = ended.code
        if isinstance(code, str):
            print(code)
        sys.stdout.flush()
        os._exit(1 if isinstance(code, str) else code or 0)
    print(f"\\0{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\\0", flush=True)
"""


def test_s7_every_command_of_the_manuals_works_without_an_environment(place):
    """Each command line that a manual has, walked for, from ``env -i``."""
    (place.folder / "reprocessing.yaml").write_text("site: midway\n")
    lines = commands()
    assert len(lines) > 25
    assert {line.split()[1] for line in lines if line.startswith("caxflow")} > {"run", "status", "why", "rm"}
    typed = place.folder / "typed"
    files = {name: str(place.folder / name) for name in ("runs.html", "reprocessing.yaml", "caxflow-serve")}
    typed.write_text("".join(f"{re.sub('|'.join(files), lambda at: files[at[0]], line)}\n" for line in lines))
    (place.folder / "each.py").write_text(EACH)
    code, out, err = place.call(f"{sys.executable} {place.folder}/each.py {typed} 2>&1")
    assert code == 0, err
    ends = re.findall(r"(.*?)\x00(\d+)\x00\n", out, re.DOTALL)
    for (line, manual), (said, code) in zip(lines.items(), ends, strict=True):
        assert code in "01", f"{manual}: {line}: {said}"
        assert "error: " not in said, f"{manual}: {line}: {said}"  # of argparse
        assert code == "0" or re.search("^caxflow|->|look at$|surprise", said, re.M), (
            f"{manual}: {line}: {said}"
        )


# Of many things that are amiss, several at once; each has ended a call with a traceback, or might.
CIRCUMSTANCES = {
    "no cache, as cron": ("umask 077; exec <&-", {"XDG_CACHE_HOME": "/proc/nowhere", "LC_ALL": "C"}, ""),
    "a home that is a file": ("umask 002", {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}, ">&-"),
    "no home": ("umask 022", {"HOME": None, "TMPDIR": "/nowhere", "LC_ALL": "POSIX"}, ">/dev/full"),
    "nobody listens": (
        "umask 077",
        {"TERM": "none", "COLUMNS": "3", "PYTHONIOENCODING": "latin-1"},
        ">&- 2>&-",
    ),
}


@pytest.mark.parametrize("case", CIRCUMSTANCES)
def test_s12_s13_all_works_whatever_the_account_lacks(place, case):
    before, environment, streams = CIRCUMSTANCES[case]
    profile = place.profile
    if "file" in case:
        (place.folder / "file").write_text("")
        environment = environment | {"HOME": str(place.folder / "file")}
    code, *said = place.call(f"{before}; {BIN}/snakemake --profile {profile} all {streams}", **environment)
    assert code == 0, said
    if "full" in streams:
        code, _, err = place.call(
            f"{before}; {BIN}/snakemake --profile {profile} -n all {streams}", **environment
        )
        assert code == 0, err
        assert "caxflow: what is said here is lost: No space left on device" in err
    for words in ("why " + RUN, "page"):
        line = f"{before}; {sys.executable} -m caxflow.cli {words} --profile {profile} {streams}"
        code, _, err = place.call(line, **environment)
        assert code in ((1,) if "full" in streams else (0, 1)), err
        assert len(err.splitlines()) <= 1, err
        assert "full" not in streams or "caxflow: standard output: No space left on device -> " in err
    assert place.copies.whole("tegner")
    # A web server and node_exporter are other accounts.
    for path in (place.page, place.metrics, *place.page.rglob("*")):
        wanted = 0o055 if path.is_dir() else 0o044
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 & ~0o022 == wanted, path
    # H3: whatever umask the account has.
    made = [place.copies.work(), place.copies.path("tegner")]
    made = [path for folder in made for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    assert [path for path in made if path.stat().st_mode & 0o022] == []
    assert {"scripts", "lock", "log", "logs"} <= {path.name for path in made}


def test_h3_in_a_work_directory_that_others_may_write_to_nothing_is_run(place):
    """Of a version that left Snakemake's scripts to the account's umask, 002, and after the remedy."""
    scripts = place.copies.work() / ".snakemake/scripts"
    scripts.mkdir(parents=True)
    scripts.chmod(0o775)
    line = f"{BIN}/snakemake --profile {place.profile}"
    code, *said = place.call(f"{line} all")
    assert code == 1
    (told,) = [each for each in "".join(said).splitlines() if each.startswith("caxflow: ")]
    remedy = f"chmod -R go-w {place.copies.work()}"
    assert f"{scripts} may be written by group root" in told
    assert told.endswith(remedy)
    assert not place.copies.path("tegner").exists()
    code, *said = place.call(f"{remedy}; {line} all")
    assert code == 0, said
    assert place.copies.whole("tegner")


def test_s12_a_page_that_was_made_under_umask_077_is_opened_up(place):
    for folder, _, files in os.walk(place.page):
        assert not files, folder
    line = f"umask 077; {sys.executable} -m caxflow.cli page --profile midway"
    assert place.call(line)[0] == 0
    for path in place.page.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert place.call(line)[0] == 0
    assert {oct(path.stat().st_mode & 0o777) for path in place.page.rglob("*")} == {"0o755", "0o644"}


def test_s13_another_account_without_rights_is_answered_in_a_line(place):
    """Of a profile, a site file and a page that it may not read or write."""
    needs.root()
    other = f"exec {needs.tool('setpriv')} --reuid 65533 --regid 65533 --clear-groups"
    for folder in (place.folder, *place.folder.parents):
        if folder.owner() == "root" and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    profile = place.profile
    page = f"{other} {sys.executable} -m caxflow.cli page --profile {profile} /root/x"
    code, _, err = place.call(page)
    assert (code, len(err.splitlines())) == (1, 1), err
    for path in (
        place.copies.folder / "config/sites/lngs.yaml",
        profile / "caxflow.yaml",
        profile / "config.yaml",
    ):
        path.chmod(0)
        for program in (f"{BIN}/snakemake -n all", f"{sys.executable} -m caxflow.cli status"):
            code, _, err = place.call(f"{other} {program} --profile {profile}")
            (line,) = [each for each in err.splitlines() if each.startswith("caxflow: ")]
            assert code in (1, 2)
            assert str(path) in line
            assert "ermission denied" in line
        path.chmod(0o644)


ODD = [
    "",
    "\x1b[31m\n",
    "\udcff",
    "nan",
    "-1",
    "1e999",
    "9" * 5000,
    "x" * 5000,
    "/dev/zero",
    "/",
    "PIPE",
    "[",
    "=",
    "--",
]


def leaves(parser, *way):
    """Every command of the program, with its parser."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield way, parser
    for action in inner:
        for name, each in action.choices.items():
            yield from leaves(each, *way, name)


def odd_calls(profile, pipe):
    """Each argument of each command with each odd value; what all commands share, of one of them."""
    parser = argparse.ArgumentParser()
    added = parser.add_subparsers()
    for name in cli.COMMANDS:
        importlib.import_module(f"caxflow.cli.{name}").add(added)
    shared = ("--profile", "--configfile", "--config")
    for way, command in leaves(parser):
        actions = [each for each in command._actions if each.nargs != 0]
        needed = [RUN for each in actions if not each.option_strings and each.nargs not in ("*", "?")]
        for action in actions:
            option = action.option_strings[:1]
            if way == ("run",) or (option and option[0] in shared and way != ("status",)):
                continue
            for value in ODD:
                words = [*way, *(needed if option else ()), *option, value.replace("PIPE", pipe)]
                yield words if "--profile" in option else [*words, "--profile", profile]


def test_s13_no_argument_ends_in_a_traceback(place, tmp_path, monkeypatch):
    """`caxflow page FILE`, `strays --at` NaN, `--config 'runs=[a'`: every argument with every odd value."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("CAXFLOW_CHECKED", "")
    profile = place.profile
    count = 0
    for words in odd_calls(str(profile), str(tmp_path / "pipe")):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli.main(words)
            except SystemExit as ended:
                code = ended.code
        assert code in (0, 1, 2), words
        said = [line for line in err.getvalue().splitlines() if not line.startswith((" ", "usage:"))]
        assert len(said) <= 1, (words, said)
        assert "Traceback" not in out.getvalue()
        assert not re.search("[\x00\x1b\r]", out.getvalue() + err.getvalue()), words
        count += 1
    assert count > 250
