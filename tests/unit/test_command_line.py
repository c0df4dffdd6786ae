"""The command: help that teaches and fits, errors in one line, exit codes that mean something."""

import argparse
import os
import subprocess
import sys

import pytest
import yaml

import nasty
from caxflow import cli
from caxflow.cli import site
from caxflow.errors import CaxflowError
from operators import configured

HELP = [[name] for name in cli.COMMANDS if name != "rundb"]
HELP += [["rundb", action] for action in ("init", "check", "rebuild")]


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_fits_and_teaches(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    # Commands go by their own names, which may be words that modules cannot have.
    with pytest.raises(SystemExit) as ended:
        cli.main([word.rstrip("_") for word in [*words, "--help"]])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    # Examples are indented, and stay on one line to be copied.
    assert [line for line in said.splitlines() if len(line) > 80 and not line.startswith("  ")] == []
    assert "exit code" in said or words == ["rundb", "init"]


def test_without_a_command_it_says_which_there_are(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (CaxflowError("it is broken", "mend it"), 1, "caxflow: it is broken -> mend it\n"),
        (site.WrongCallError("what is that", "say it again"), 2, "caxflow: what is that -> say it again\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_it_ends(raised, code, said, capsys, monkeypatch):
    def fail(arguments):
        raise raised

    monkeypatch.setattr("caxflow.cli.status._run", fail)
    assert cli.main(["status"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("text", ["x", "nan", "0", "1e9", "-1"])
def test_a_pause_that_is_no_time(text, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", f"--pause={text}"])
    assert ended.value.code == 2
    assert f"argument --pause: {text} is not a number of seconds\n" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    configured(tmp_path)
    ours, theirs = os.pipe()
    os.close(ours)
    config = [
        f"sites_dir={tmp_path}/config/sites",
        "site=midway",
        "rundb={uri: 'mongodb://127.0.0.1:1', timeout: 1}",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "caxflow.cli", "status", "--config", *config],
        env=environment,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, "")


def profile(folder, **said):
    (folder / "caxflow.yaml").write_text(yaml.safe_dump(said))
    (folder / "config.yaml").write_text(yaml.safe_dump({"configfile": "caxflow.yaml"}))
    return ["--profile", str(folder)]


def test_u6_a_bad_value_in_a_profile_is_told_of_the_profiles_file(tmp_path, capsys):
    words = profile(tmp_path, site="midway", batch_size="many")
    assert cli.main(["status", *words]) == 2
    assert capsys.readouterr().err.startswith(f"caxflow: {tmp_path}/caxflow.yaml: batch_size: 'many'")
    assert cli.main(["status", *words, "--config", "batch_size=3", "pause=often"]) == 2
    assert capsys.readouterr().err.startswith("caxflow: --config: pause: 'often'")


def test_config_goes_over_a_profile_key_by_key_as_in_snakemake(tmp_path):
    configured(tmp_path, "mongodb://of.the.file", "run")
    words = profile(tmp_path, site="midway", sites_dir=f"{tmp_path}/config/sites", rundb={"database": "own"})
    given = argparse.Namespace(profile=words[1:], configfile=None, config=["rundb={timeout: 3}"])
    settings = site.settings(given)
    assert (settings.rundb.database, settings.rundb.timeout) == ("own", 3)


@pytest.mark.parametrize("text", [each for each in nasty.TEXTS if len(each) < 1000], ids=nasty.called)
@pytest.mark.parametrize("words", ["{}", "status {}", "rundb check --{}", "rm --copies {}"])
def test_what_was_typed_has_no_effect(words, text, capsys):
    try:
        code = cli.main([word.replace("{}", text) for word in words.split()])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert nasty.shown_effects(capsys.readouterr().err) == []
