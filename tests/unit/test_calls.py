"""S10: profiles, ``--configfile`` and ``--config`` mean the same to ``snakemake`` and to ``caxflow``."""

import argparse
import os
import pickle
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_args, parse_config
from snakemake.settings.types import ConfigSettings

import needs
from caxflow import config
from caxflow.cli import site
from caxflow.config import calls
from caxflow.errors import CaxflowError
from caxflow.planning import modes, planner
from operators import configured


class Place:
    """A folder where commands are typed, with profiles and files of configuration."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        configured(folder)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(calls, "HOME", folder)
        for name in ("SNAKEMAKE_PROFILE", "XDG_CONFIG_DIRS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(folder / "home"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "home/.config"))

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    def caxflow(self, *words):
        parser = argparse.ArgumentParser()
        site.add_options(parser)
        return site.settings(parser.parse_args(words))

    def load(self, said):
        return config.load(said)

    def snakemake(self, *words):
        """What the main process, its jobs and their scripts make of it: all the same."""
        call = modes.given(parse_args, ["all", *words])
        layers = planner.layers(None, call)
        main = config.load(layers)
        given = ConfigSettings(configfiles=call["configfile"], config=parse_config(call["config"]))
        # As it is handed to the job, and read by it once more.
        given = ConfigSettings(configfiles=given.configfiles, config=parse_config(given.config_args))
        job = planner.layers(argparse.Namespace(config_settings=given), {})
        assert config.load(job) == main
        assert config.load(pickle.loads(pickle.dumps(config.merge_all(job)))) == main
        return main

    def both(self, *words):
        """The one configuration that both have, or the one line with which both refuse it."""
        ends = []
        for program in (self.snakemake, self.caxflow):
            try:
                ends.append(program(*words))
            except CaxflowError as error:
                ends.append(str(error))
        assert ends[0] == ends[1]
        return ends[0]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("caxflow.config.HOME", tmp_path)
    return Place(tmp_path, monkeypatch)


BASE = {"site": "midway", "batch_size": 7, "rundb": {"database": "profile", "timeout": 4}}
FILES = {
    "none": None,
    "one beside it": "own.yaml",
    "one of the folder": "deep/other.yaml",
    "by a variable": "$HOME/far.yaml",
    "by a tilde": "~/far.yaml",
    "several": ["own.yaml", "deep/other.yaml"],
}
WORDS = {
    "none": None,
    "words": ["site=midway", "batch_size=3", "rundb={database: words}"],
    "a word": "site=midway",
    "a mapping": {"site": "midway", "verify": False, "rundb": {"timeout": 2.5}, "runs": ["160315_1432"]},
}
TYPED = {
    "nothing": [],
    "words": ["--config", "rundb={timeout: 3}", "dry=true"],
    "words twice": ["--config", "rundb={timeout: 3}", "rundb={database: twice}", "--config", "lease=5"],
    "short": ["-C", "site=tegner", "runs=[160315_1432, 160316_0907_MV]"],
    "a file": ["--configfile", "typed.yaml"],
    "files and words": ["--configfiles", "typed.yaml", "deep/other.yaml", "--config", "batch_size=9"],
}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("files", FILES)
def test_s10_both_programs_have_one_configuration(place, files, words):
    place.write("own.yaml", {"site": "lngs", "lease": 11})
    place.write("deep/other.yaml", {"site": "tegner", "rundb": {"database": "other"}, "lease": 12})
    place.write("home/far.yaml", BASE | {"lease": 13})
    place.write("typed.yaml", "site: midway\nruns: [160315_1432]\nselect: {tags: [on, 6.10]}\n")
    place.write("prof/own.yaml", BASE)
    profile = {"configfile": FILES[files], "config": WORDS[words]}
    place.write("prof/config.yaml", {key: value for key, value in profile.items() if value})
    for typed in TYPED.values():
        found = place.both("--profile", "prof", *typed)
        assert isinstance(found, config.Settings) or "which site this is" in found
    assert place.both("--profile", "prof", *TYPED["short"]).selection.runs == (
        "160315_1432",
        "160316_0907_MV",
    )
    named = place.both("--profile", "prof", *TYPED["a file"])
    assert (named.selection.runs, named.selection.tags) == (("160315_1432",), ("on", "6.10"))
    assert named.rundb.database == ("words" if words == "words" else "run")


def test_s10_words_over_two_databases(place):
    """The case: both name a database, and `--config 'rundb={timeout: 3}'` has snakemake ask the profile's."""
    place.write("prof/own.yaml", BASE)
    place.write("prof/config.yaml", {"configfile": "own.yaml", "config": ["rundb={database: words}"]})
    both = place.both("--profile", "prof", "--config", "rundb={timeout: 3}")
    # What is typed takes the place of the same option of the profile, as with all of Snakemake's options.
    assert (both.rundb.database, both.rundb.timeout) == ("profile", 3)
    assert place.both("--profile", "prof").rundb.database == "words"


@pytest.mark.parametrize(
    "written",
    [
        "prof/profile.yaml",
        "prof/config.v8+.yaml",
        "prof/profile.v9+.yaml",
        "home/.config/snakemake/prof/config.yaml",
        "prof",
    ],
)
@pytest.mark.parametrize("beside", [None, "config.v3+.yaml", "profile.v99+.yaml"])
def test_s10_a_profile_is_found_where_snakemake_finds_it(place, written, beside):
    place.write(written, "config: [site=midway, lease=5]\n")
    if beside and "/" in written:
        place.write(str(Path(written).parent / beside), "config: [site=midway, lease=6]\n")
    lease = 6 if "/" in written and "+" not in written and beside == "config.v3+.yaml" else 5
    assert place.both("--profile", "prof").lease == lease


def test_s10_the_profile_of_the_environment_and_that_of_the_workflow(place, monkeypatch):
    place.write("prof/config.yaml", "config: [site=midway, lease=5]\n")
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "prof")
    assert place.both().lease == 5
    (place.folder / "workflow").mkdir()
    (place.folder / "workflow/Snakefile").touch()
    place.write("profiles/default/config.yaml", "config: [site=tegner, pause=6]\n")
    both = place.both()
    assert (both.here.name, both.lease, both.pause) == ("tegner", 30, 6)


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["--workflow-profile", "own"], "profiles/own/config.yaml"),
        (["--workflow-profile", "prof/other.yaml"], "prof/other.yaml"),
        (["--workflow-profile", "none"], "prof/config.yaml"),
        (["--snakefile", "far/Snakefile"], "far/profiles/default/config.yaml"),
        ([], "workflow/profiles/default/config.yaml"),
    ],
)
def test_s10_the_profile_of_the_workflow_is_named(place, words, file):
    for path in ("workflow/profiles/default/config.yaml", "far/profiles/default/config.yaml"):
        place.write(path, f"config: [site=midway, lease={path}]\n")
        place.write(str(Path(path).parents[2] / "Snakefile"), "")
    for path in ("profiles/own/config.yaml", "prof/other.yaml", "prof/config.yaml"):
        place.write(path, f"config: [site=midway, lease={path}]\n")
    call = modes.given(parse_args, ["all", "--profile", "prof", *words])
    with pytest.raises(CaxflowError, match=f"{file}: config: lease: '{file}' is not a number"):
        config.load(planner.layers(None, call))


@pytest.mark.parametrize(
    "word",
    ["0200", "0x1F", "1:30", "12:30:45.5", "1_000", "160315_1432", "6.10", "on", "NO", "2016-03-15", "0o17"],
)
def test_s10_what_snakemake_reads_otherwise_in_a_profile_is_refused_by_both(place, word):
    for content in (f"runs: [{word}]", f"select: {{tags: [{word}]}}", f"rundb: {{database: {word}}}"):
        place.write("prof/config.yaml", f"cores: 1\nconfig:\n  site: midway\n  {content}\n")
        said = place.both("--profile", "prof")
        if word == "0o17":  # text to Snakemake, too
            assert isinstance(said, config.Settings) or "not the name of a run" in said
        else:
            assert f"prof/config.yaml line 4: config: Snakemake reads '{word}' as " in said
            assert f"write '{word}' in quotes" in said
    place.write("prof/config.yaml", f"config:\n  site: midway\n  select: {{tags: ['{word}']}}\n")
    assert place.both("--profile", "prof").selection.tags == (word,)


@pytest.mark.parametrize(
    "words",
    [
        ["lease=0200"],
        ["lease=1:30"],
        ["batch_size=1_000"],
        ["verify=on"],
        ["rundb={timeout: 1:30}"],
        ["runs=160315_1432"],
        ["runs=[1603151432]"],
        ["runs=[a"],
        ["lease=nan"],
        ["lease=1e999"],
        ["attempts=" + "9" * 5000],
        ["rundb=" + "[" * 3000],
        ["batch_size="],
        ["site=\x1b[31m"],
        ["site=\udcff"],
        ["metrics=null"],
        ["dry"],
    ],
    ids=lambda words: repr(words[0][:20]),
)
def test_s10_both_refuse_the_same_words_in_one_line(place, words):
    # Snakemake itself may refuse them first; what it does not, the Snakefile does.
    def snakemake(*typed):
        return config.load(planner.layers(None, modes.given(parse_args, typed)))

    said = []
    for program in (snakemake, place.caxflow):
        with pytest.raises(CaxflowError) as caught:
            program("--config", "site=midway", *words)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert " -> " in said[0]
    assert said[0].isprintable()
    assert len(said[0]) < 500


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("default-resources: {slurm_account: 0123}", "default-resources: Snakemake reads '0123' as '83'"),
        ("default-resources: {slurm_partition: on}", "default-resources: Snakemake reads 'on' as 'True'"),
        ("set-resources: {process_raw: {runtime: 1:30}}", "set-resources: Snakemake reads '1:30' as '90'"),
        ("latency-wait: 010", "latency-wait: Snakemake reads '010' as '8'"),
        ("caxflow-lost-after: 1_0", "caxflow-lost-after: Snakemake reads '1_0' as '10'"),
    ],
)
def test_s10_options_of_a_profile_that_snakemake_reads_otherwise_are_refused(place, written, said):
    place.write("prof/config.yaml", f"config: [site=midway]\n{written}\n")
    assert f"prof/config.yaml line 2: {said} -> " in place.both("--profile", "prof")


def test_s10_options_of_a_profile_that_are_what_they_look_like(place):
    place.write(
        "prof/config.yaml",
        "config: [site=midway]\ndefault-resources: {slurm_account: '0123', runtime: 90, mem_mb: 2 * 500}\n"
        "latency-wait: 5\nkeep-going: on\nnolock: false\nmax-status-checks-per-second: 1.50\n"
        "resources: [transfers=2]\nset-threads: {process_raw: 4}\nquiet: [host, reason]\n",
    )
    assert place.both("--profile", "prof").here.name == "midway"


def test_s10_several_profiles(place, monkeypatch):
    place.write("one/config.yaml", "config: [site=midway, lease=5]\n")
    place.write("two/config.yaml", "configfile: own.yaml\n")
    place.write("two/own.yaml", {"lease": 6, "pause": 7})
    both = place.both("--profile", "one", "--profile", "two")
    assert (both.here.name, both.lease, both.pause) == ("midway", 5, 7)
    for named in ("[one, two]", '["one", "two"]'):
        monkeypatch.setenv("SNAKEMAKE_PROFILE", named)
        assert place.both() == both
    assert place.both("--profile", "none", "--config", "site=tegner").lease == 30


@pytest.mark.parametrize("written", ["'0200'", "'1e3'", "1e3", "'5'", "5", "0o17"])
def test_s10_numbers_and_quoted_numbers_of_a_profile(place, written):
    place.write("prof/config.yaml", f"config:\n  site: midway\n  lease: {written}\n")
    said = place.both("--profile", "prof")
    assert isinstance(said, config.Settings) or "prof/config.yaml: config: lease: " in said
    place.write("prof/config.yaml", f"config:\n  site: midway\n  select: {{tags: [{written}]}}\n")
    assert place.both("--profile", "prof").selection.tags == (written.strip("'"),)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("metrics: null", "turns null, in metrics, into other text"),
        ("corrections: {slow_control: {table: ~}}", "turns null, in corrections, into other text"),
        (r"select: {tags: ['a\b']}", r"turns 'a\\b', in select, into other text"),
        ("select: {start: {after: 2016-11-01}}", "line 3: config: Snakemake reads '2016-11-01' as a date"),
    ],
)
def test_s10_what_snakemake_hands_on_as_something_else_is_refused(place, written, said):
    place.write("prof/config.yaml", f"config:\n  site: midway\n  {written}\n")
    assert said in place.both("--profile", "prof")


def test_a_word_of_a_profile_without_a_value_is_one_of_the_profile(place):
    place.write("prof/config.yaml", "config: [site=midway, lease: 5]\n")
    assert place.both("--profile", "prof").startswith("prof/config.yaml: config: \"{'lease': 5}\" is no key")


def test_a_profile_with_templates_is_refused(place):
    place.write("prof/config.yaml", "__use_yte__: true\nconfig: [site=midway]\n")
    assert "templates are not filled in" in place.both("--profile", "prof")


@pytest.mark.parametrize("theirs", ["midway", "midway/config.yaml", "file"])
def test_a_profile_that_another_account_put_where_one_works_is_refused(tmp_path, monkeypatch, theirs):
    needs.root()
    (tmp_path / "midway").mkdir()
    for name in ("midway/config.yaml", "file"):
        (tmp_path / name).write_text("cores: 1\n")
    monkeypatch.chdir(tmp_path)
    name = Path(theirs).parts[0]
    assert calls.profile_file(name).is_file()
    os.chown(tmp_path / theirs, 65534, -1)
    with pytest.raises(
        CaxflowError, match=f"profile {name}: {tmp_path / theirs} belongs to nobody -> call from"
    ):
        calls.profile_file(name)
    assert calls.profile_file(f"./{name}").is_file()  # named by its path, it is meant
