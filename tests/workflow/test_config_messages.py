"""A bad configuration ends the real command with one line that says what, where and how to mend it."""

import pytest


def wrong_key(clone):
    clone.configure(batchsize=3)
    return [], ["config/config.yaml", "batchsize", "did you mean 'batch_size'"]


def unknown_site(clone):
    clone.site("tegner", pull_from=["midway", "nowhere"])
    return [], ["config/sites/tegner.yaml", "pull_from", "'nowhere'", "lngs, midway, nikhef, tegner"]


def unquoted_run(clone):
    clone.configure(runs=[1603151432])
    return [], ["config/config.yaml", "runs[0]", "1603151432", "quote it: runs: ['160315_1432']"]


def one_run_on_the_command_line(_clone):
    return ["--config", "runs=160315_1432"], ["--config: runs: '160315_1432'", "\"['160315_1432']\""]


def relative_root(clone):
    clone.site("midway", roots={"raw": "project/raw", "processed": "/p"})
    return [], ["config/sites/midway.yaml", "roots.raw", "'project/raw'", "begin with /"]


def missing_file(clone):
    (clone.folder / "config/config.yaml").unlink()
    return [], ["config/config.yaml does not exist", "restore it"]


def missing_site_file(clone):
    (clone.folder / "config/sites/midway.yaml").unlink()
    return [], ["'midway'", "config/sites"]


def not_yaml(clone):
    (clone.folder / "config/sites/midway.yaml").write_text("host: [a\n")
    return [], ["config/sites/midway.yaml line 2", "not valid YAML"]


def password_in_the_file(clone):
    clone.configure(rundb={"uri": "mongodb://reader:hunter2@127.0.0.1:1/run"})
    return [], ["config/config.yaml", "rundb.uri", "MONGODB_PASSWORD"]


def password_typed(_clone):
    words = ["--config", "site=midway", "rundb={uri: 'mongodb://reader:hunter2/run'}"]
    return words, ["--config", "rundb.uri", "may hold a password"]


def site_lost(_clone):
    words = ["--configfile", "empty.yaml", "--config", "dry=True"]
    return words, ["which site", "--profile", "profiles/<site>/caxflow.yaml"]


def database_away(clone):
    clone.configure(rundb={"uri": "mongodb://reader@127.0.0.1:1/run", "timeout": 0.2})
    return [], ["127.0.0.1:1", "does not answer", "Connection refused", "rundb.uri"]


def missing_configfile(_clone):
    return ["--configfile", "missing.yaml"], ["missing.yaml", "no such file", "--configfile"]


def broken_configfile(clone):
    (clone.folder / "broken.yaml").write_text("runs: []\nselect: [a\n")
    return ["--configfile", "empty.yaml", "broken.yaml"], ["broken.yaml line 3", "not valid YAML"]


def target_behind_config(_clone):
    return ["--config", "dry=true", "all"], [
        "--config: 'all' is no key with a value",
        "targets before --config",
    ]


def bad_value_in_a_file_of_its_own(clone):
    (clone.folder / "mine.yaml").write_text("batch_size: many\n")
    return ["--configfile", "empty.yaml", "mine.yaml"], [f"{clone.folder}/mine.yaml: batch_size", "'many'"]


def bad_value_over_a_file_that_is_right(clone):
    (clone.folder / "mine.yaml").write_text("select: {numbers: {first: 7, last: 9}}\n")
    words = ["--configfile", "empty.yaml", "mine.yaml", "--config"]
    words += ["site=midway", "select={'numbers': {'last': 'x'}}"]
    return words, ["caxflow: --config", "select.numbers.last", "'x'"]


def option_without_its_value(_clone):
    return ["--groups", "process_raw"], ["RULE=GROUP", "'process_raw'", "--verbose"]


def key_that_is_none(_clone):
    return ["--config", "1=2"], ["must start with a valid identifier", "--verbose"]


CASES = [
    option_without_its_value,
    key_that_is_none,
    bad_value_in_a_file_of_its_own,
    bad_value_over_a_file_that_is_right,
    target_behind_config,
    wrong_key,
    unknown_site,
    unquoted_run,
    one_run_on_the_command_line,
    relative_root,
    missing_file,
    missing_site_file,
    not_yaml,
    password_in_the_file,
    password_typed,
    site_lost,
    database_away,
    missing_configfile,
    broken_configfile,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_one_line(clone, case):
    (clone.folder / "empty.yaml").write_text("{}\n")
    words, expected = case(clone)
    said = clone.snakemake("-n", "all", *words, MONGODB_PASSWORD="hunter2")
    line = said.refused()
    for word in expected:
        assert word in line
    assert "hunter2" not in said.text
    kept = (clone.folder / ".snakemake/log").glob("*")
    assert not any("hunter2" in log.read_text() for log in kept)
    # Snakemake names the profile on a line of its own; nothing else is said.
    assert len(said.text.splitlines()) <= 2, said.text
    assert not clone.work().exists() or case is database_away


def test_a_word_that_no_rule_makes(clone):
    said = clone.snakemake("-n", "midway/160315_1432.procesed.root")
    assert said.refused() == (
        "caxflow: no rule makes 'midway/160315_1432.procesed.root' "
        "-> did you mean midway/160315_1432.processed.root?"
    )
    # Previews are answers, on standard output; this is none.
    assert said.out == ""


def test_command_of_another_file_says_what_it_runs_in(clone, runs):
    """A profile's command keeps the conda of config.yaml, as all its keys; null takes it out."""
    clone.site("midway", processed={"version": "pax_v6.11.2", "make": True, "cores": 1})
    runs.insert_one(clone.document(at=("lngs", "midway")))
    for site in ("lngs", "midway"):
        (clone.data / site / "raw" / "160315_1432").mkdir(parents=True)
    own = clone.folder / "profiles/midway/caxflow.yaml"

    def say(**keys):
        processors = {"pax_v6.11.2": {"command": "mine {input} {output}"} | keys}
        clone.change(own, lambda document: document | {"processors": processors})
        said = clone.snakemake("-n", "all")
        assert said.rules["process_raw"] == 1, said.text
        return [line for line in said.lines if "inherits" in line]

    where = f"{clone.folder}/config/config.yaml"
    line = f"caxflow: the command of pax_v6.11.2 inherits conda of {where}, which null takes out"
    assert say() == [line]
    assert say(conda=None) == []
    assert say(conda="mine") == []
