"""The configuration: read as meant, and refused in one line that names the file, the key and the mend."""

import contextlib
import datetime
import itertools
import math
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from caxflow import config
from caxflow.config import address, calls, retention
from caxflow.errors import CaxflowError
from caxflow.planning import plan
from caxflow.transfer.session import OPERATIONS
from caxflow.transfer.sftp import SftpEnd

MAIN = {
    "rundb": {"uri": "mongodb://reader@db.example:27017/run"},
    "processors": {"mini_v1": {"kind": "mini"}},
}
SITES = {
    "lngs": {"host": "xe1t-datamanager", "origin": True, "roots": {"raw": "/data/raw"}},
    "midway": {
        "host": "midway-login1",
        "access": {"method": "stream", "host": "login.midway.example", "port": 2222, "bandwidth": 40},
        "roots": {"raw": "/project/raw/", "processed": "/project/processed"},
        "work_dir": "/project/caxflow",
        "pull_from": ["lngs"],
        "processed": {"version": "mini_v1"},
    },
}


def changed(document, key, value):
    """A copy of a nested mapping with a dotted key set, or taken out where the value is None."""
    head, _, tail = key.partition(".")
    copy = dict(document)
    if tail:
        copy[head] = changed(copy.get(head, {}), tail, value)
    elif value is None:
        del copy[head]
    else:
        copy[head] = value
    return copy


class Folder:
    """A configuration folder that can be spoiled."""

    def __init__(self, path):
        self.path = path
        (path / "sites").mkdir(parents=True)
        self.write("config.yaml", yaml.safe_dump(MAIN))
        for name, site in SITES.items():
            self.write(f"sites/{name}.yaml", yaml.safe_dump(site))

    def write(self, name, text):
        (self.path / name).write_text(text, encoding="utf-8")

    def set(self, name, key, value):
        document = yaml.safe_load((self.path / name).read_text(encoding="utf-8"))
        self.write(name, yaml.safe_dump(changed(document, key, value)))

    def load(self, **overrides):
        return config.load({"site": "midway"} | overrides, self.path)

    def refused(self, **overrides):
        with pytest.raises(CaxflowError) as caught:
            self.load(**overrides)
        message = str(caught.value)
        assert "\n" not in message
        assert caught.value.mend, message
        assert len(message) < 500, message
        return message


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "config")


def test_what_is_configured_is_what_is_read(folder):
    settings = folder.load(
        runs=["160315_1432"],
        select={"numbers": {"first": 3, "last": 9}, "start": {"after": "2016-11-01 12:00"}},
    )
    assert settings.here.name == "midway"
    assert settings.here.roots == {"raw": "/project/raw", "processed": "/project/processed"}
    assert settings.here.access.port == 2222
    assert settings.here.access.connections is None
    assert settings.site("lngs").origin
    assert not settings.here.origin
    assert settings.selection.runs == ("160315_1432",)
    assert (settings.selection.first, settings.selection.last) == (3, 9)
    assert settings.selection.after == datetime.datetime(2016, 11, 1, 12)
    assert settings.processor(settings.here).name == "mini_v1"
    assert settings.kinds == ("raw", "processed", "minitrees")
    assert settings.verify
    assert not settings.dry


def test_the_files_that_are_shipped_are_accepted_for_every_site():
    sites = {path.stem for path in (config.HOME / "config/sites").glob("*.yaml")}
    assert sites == {"lngs", "midway", "tegner", "nikhef"}
    for site in sites:
        assert config.load({"site": site}).here.name == site
    for site in ("lngs", "midway", "tegner"):
        assert set(config.load({"site": site, "sites_dir": "demo"}).sites) == {"lngs", "midway", "tegner"}


def test_the_examples_of_the_manual_are_accepted(folder):
    text = (config.HOME / "config/README.md").read_text(encoding="utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)]
    examples = {re.match(r"[\w.]+:", block)[0]: block for block in blocks if "snakemake" not in block}
    assert set(examples) == {"pax_v6.11.2:", "processors:", "corrections:", "purge:"}
    over = yaml.safe_load(examples.pop("processors:"))
    main = yaml.safe_dump(MAIN, sort_keys=False) + textwrap.indent(examples.pop("pax_v6.11.2:"), "  ")
    folder.write("config.yaml", "\n".join([main, *examples.values()]))
    settings = folder.load()
    assert "pax_v6.11.2" in settings.processors
    assert settings.processors["pax_v6.11.2"].environment.conda == "pax_v6.11.2"
    assert settings.purge.bytes == settings.scrub.bytes == 10**13
    assert folder.load(**over).processors["pax_v6.11.2"].environment.conda == ""


def test_the_site_that_the_manual_sets_up(folder):
    text = (config.HOME / "profiles/README.md").read_text(encoding="utf-8")
    example = textwrap.dedent(re.search(r"^ +host: (?:.+\n)+", text, re.MULTILINE)[0])
    folder.write("sites/sydney.yaml", example.replace("pax_v6.11.2", "mini_v1"))
    sydney = config.load({"site": "sydney"}, folder.path).here
    assert (sydney.pull_from, sydney.access.method, sydney.processed.make) == (("midway",), "stream", True)


def test_overrides_are_merged_key_by_key_and_lists_are_replaced(folder):
    folder.set("config.yaml", "select", {"detectors": ["tpc"], "tags": ["a"]})
    settings = folder.load(select={"tags": ["b"]}, rundb={"timeout": 3}, dry=True)
    assert settings.selection.detectors == ("tpc",)
    assert settings.selection.tags == ("b",)
    assert settings.rundb.timeout == 3
    assert settings.rundb.uri == MAIN["rundb"]["uri"]
    assert settings.dry


def test_words_of_the_command_line_are_read_where_numbers_belong(folder):
    # Snakemake makes text of false, and of everything inside brackets.
    settings = folder.load(
        verify="false",
        dry="true",
        batch_size="3",
        select={"numbers": {"first": "3"}, "tags": ["7", "true"]},
        processors={"mini_v1": {"memory_mb_per_core": "1500.5"}},
    )
    assert (settings.verify, settings.dry, settings.batch_size) == (False, True, 3)
    assert settings.selection.first == 3
    assert settings.selection.tags == ("7", "true")
    assert settings.processors["mini_v1"].memory_mb_per_core == 1500.5
    for odd in ("many", "[", "0x_", "1.5", "", "null", "*a"):
        assert "batch_size" in folder.refused(batch_size=odd)


def test_dates_may_be_written_as_yaml_has_them(folder):
    # Snakemake's loader makes dates of them, ours keeps the text.
    day = datetime.date(2016, 11, 1)
    assert folder.load(select={"start": {"before": day}}).selection.before == datetime.datetime(2016, 11, 1)
    folder.write("config.yaml", yaml.safe_dump(MAIN) + "select: {start: {before: 2016-11-01}}\n")
    assert folder.load().selection.before == datetime.datetime(2016, 11, 1)


def test_environment_variables_in_folders(folder, monkeypatch):
    folder.set("sites/midway.yaml", "roots.raw", "${SCRATCH_OF_TEST}/raw")
    message = folder.refused()
    assert "midway.yaml" in message
    assert "SCRATCH_OF_TEST" in message
    monkeypatch.setenv("SCRATCH_OF_TEST", "/scratch/xenon")
    assert folder.load().here.roots["raw"] == "/scratch/xenon/raw"
    monkeypatch.setenv("SCRATCH_OF_TEST", "relative")
    assert "roots.raw" in folder.refused()
    folder.set("sites/midway.yaml", "roots.raw", "${CAXFLOW_HOME}/raw")
    monkeypatch.delenv("CAXFLOW_HOME", raising=False)
    assert folder.load().here.roots["raw"] == f"{config.HOME}/raw"


MAIN_WRONG = {
    "misspelt key": ("batchsize", 3, ["batchsize", "did you mean 'batch_size'"]),
    "unknown nested key": ("select", {"tag": ["a"]}, ["select.tag", "did you mean 'tags'"]),
    "unknown kind": ("kinds", ["raw", "cooked"], ["kinds[1]", "cooked", "processed"]),
    "no kind": ("kinds", [], ["kinds"]),
    "not a number": ("batch_size", "many", ["batch_size", "many", "not a whole number"]),
    "not a whole number": ("batch_size", 200.0, ["batch_size", "200.0", "not a whole number"]),
    "no number at all": ("lease", math.nan, ["lease", "nan", "not a number"]),
    "not a list": ("kinds", "raw", ["kinds: 'raw' is not a list", "write kinds: [raw]"]),
    "number out of a calendar's range": ("purge", {"after_days": 1e12}, ["purge.after_days", "36500"]),
    "range of runs without its end": (
        "corrections",
        {"slow_control": {"ranges": [{"min": 1, "value": 12}]}},
        ["corrections.slow_control.ranges[0].max", "missing"],
    ),
    "unknown master": ("masters", ["atlantis"], ["masters", "atlantis", "lngs, midway"]),
    "out of range": ("batch_size", 0, ["batch_size", "0"]),
    "truth as a number": ("attempts", True, ["attempts"]),
    "no URI": ("rundb", {"database": "run"}, ["rundb.uri", "missing"]),
    "no runs database": ("rundb", None, ["rundb", "missing"]),
    "unquoted run": ("runs", [1603151432], ["runs[0]", "1603151432", "'160315_1432'", "quote"]),
    "one run, no list": ("runs", "160315_1432", ["runs", "['160315_1432']"]),
    "no run": ("runs", ["160315-1432"], ["runs[0]", "160315-1432"]),
    "a number as name": ("runs", [7], ["runs[0]", "7"]),
    "no such month": ("select", {"start": {"after": "2016-13-01"}}, ["select.start.after", "2016-13-01"]),
    "no such hour": (
        "select",
        {"start": {"before": "2016-11-01 25:00"}},
        ["select.start.before", "2016-11-01 25:00"],
    ),
    "not a time": ("select", {"start": {"after": "yesterday"}}, ["select.start.after", "yesterday"]),
    "numbers the wrong way round": (
        "select",
        {"numbers": {"first": 9, "last": 3}},
        ["select.numbers", "9", "3"],
    ),
    "times the wrong way round": (
        "select",
        {"start": {"after": "2017-01-01", "before": "2016-01-01"}},
        ["select.start", "2017-01-01", "2016-01-01"],
    ),
    "wrong detector": ("select", {"detectors": ["mv"]}, ["select.detectors[0]", "mv", "muon_veto"]),
    "wrong kind of processor": ("processors.other", {"kind": "root"}, ["processors.other.kind", "root"]),
    "processor's unknown placeholder": (
        "processors.pax_v6",
        {"kind": "command", "command": "paxer {inptu} {output}"},
        ["pax_v6", "inptu"],
    ),
    "processor that is a number": ("processors", {7: {"kind": "mini"}}, ["line", "7", "quoted"]),
    "key that is no text": (7, "x", ["line", "7", "quoted"]),
    "key that YAML reads as truth": (True, "x", ["line", "true", "quoted"]),
    "password in the URI": (
        "rundb.uri",
        "mongodb://reader:hunter2@db.example/run",
        ["rundb.uri", "MONGODB_PASSWORD"],
    ),
    "password with a slash": (
        "rundb.uri",
        "mongodb://reader:hun/hunter2@db.example/run",
        ["rundb.uri", "MONGODB_PASSWORD"],
    ),
    "password with an at sign": (
        "rundb.uri",
        "mongodb://reader:h@hunter2@db.example/run",
        ["rundb.uri", "MONGODB_PASSWORD"],
    ),
    "password without an at sign": (
        "rundb.uri",
        "mongodb://reader:hunter2/run",
        ["rundb.uri", "mongodb://user@"],
    ),
    "password behind the host": (
        "rundb.uri",
        "mongodb://db.example:hunter2",
        ["rundb.uri", "mongodb://user@"],
    ),
    "password in percent signs": (
        "rundb.uri",
        "mongodb://reader%3Ahun%ter2hunter2@db.example",
        ["MONGODB_PASSWORD"],
    ),
    "password behind a slash alone": ("rundb.uri", "mongodb://reader/hunter2@db.example", ["rundb.uri"]),
    "password with a blank": ("rundb.uri", "mongodb://reader:hun hunter2@db.example", ["rundb.uri"]),
    "password without a scheme": ("rundb.uri", "reader:hunter2@db.example/run", ["rundb.uri"]),
    "password behind half a scheme": ("rundb.uri", "mongodb:/reader:hunter2@db.example/run", ["rundb.uri"]),
    "password as a mapping": ("rundb.uri", {"password": "hunter2"}, ["rundb.uri"]),
    "password as an option": (
        "rundb.uri",
        "mongodb://db.example/?tlsCertificateKeyFilePassword=hunter2",
        ["rundb.uri"],
    ),
    "password of a proxy": (
        "rundb.uri",
        "mongodb://db.example/?tls=true&proxyPassword=hunter2",
        ["rundb.uri"],
    ),
    "token of a cloud": (
        "rundb.uri",
        "mongodb://db.example/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
        ["rundb.uri"],
    ),
    "port that is none": ("rundb.uri", "mongodb://reader@db.example:99999/run", ["rundb.uri"]),
    "password of a web service": (
        "corrections",
        {"slow_control": {"service": {"url": "ftp://me:hunter2@sc.example/x", "user": "sc"}}},
        ["url"],
    ),
    "password in another scheme": ("rundb.uri", "mongo://reader:hunter2@db.example/run", ["rundb.uri"]),
    "password where a mapping belongs": ("rundb", "mongodb://reader:hunter2@db.example/run", ["rundb"]),
    "password under a wrong key": (
        "rundb",
        {"url": "mongodb://reader:hunter2@db.example/run"},
        ["rundb.u"],
    ),
    "password in a list": ("rundb.uri", ["mongodb://reader:hunter2@db.example/run"], ["rundb.uri"]),
    "unknown site": ("site", "midwai", ["site", "midwai", "config/sites", "lngs, midway"]),
    "folder of sites missing": ("sites_dir", "elsewhere", ["config/elsewhere", "sites_dir"]),
}


@pytest.mark.parametrize("case", MAIN_WRONG)
def test_what_is_wrong_in_the_main_file(folder, case):
    key, value, expected = MAIN_WRONG[case]
    if isinstance(key, str):
        folder.set("config.yaml", key, value)
    else:
        folder.write("config.yaml", yaml.safe_dump(MAIN | {key: value}))
    with pytest.raises(CaxflowError) as caught:
        # The site comes from the file here, where the file has one.
        config.load({} if key == "site" else {"site": "midway"}, folder.path)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.mend
    assert "hunter2" not in message
    assert str(folder.path) in message
    for word in expected:
        assert word in message


@pytest.mark.parametrize(
    "words",
    [
        ["rundb=mongodb://me:hunter2@db"],
        ["mongodb://me:hunter2@db"],
        ["notify={webhook: 'https://hooks.example.org/hunter2'}"],
        ["notify=https://hooks.example.org/hunter2"],
    ],
)
def test_a_password_on_the_command_line_is_not_said_again(folder, words):
    with pytest.raises(CaxflowError) as caught:
        config.load(calls.layers([], ["site=midway", *words]), folder.path)
    assert "hunter2" not in str(caught.value)
    assert "--config" in str(caught.value)


HERE = [
    "",
    "localhost",
    "127.0.0.1",
    "127.8.8.8:27017",
    "[::1]",
    "[::1]:27017",
    "%2Frun%2Fmongodb-27017.sock",
]
RISKS = [
    *((f"mongodb://{host or 'localhost'}/run", []) for host in HERE),
    *((f"mongodb://{host or 'localhost'}/run?tls=true&tlsInsecure=true", []) for host in HERE),
    ("mongodb://me@db.example:27017/run?authSource=run", ["without TLS"]),
    ("mongodb://localhost:1,db.example:2/run", ["without TLS"]),
    ("mongodb://127.0.0.1.example/run", ["without TLS"]),
    ("mongodb://192.168.0.1/run?tls=false", ["without TLS"]),
    ("mongodb+srv://db.example/run?tls=false", ["without TLS"]),
    ("mongodb+srv://db.example/run", []),
    ("mongodb://db.example/run?ssl=true", []),
    ("mongodb://db.example/run?tls=true&tlsCAFile=/ca.pem", []),
    ("mongodb://db.example/?TLS=true&TLSINSECURE=true", ["tlsinsecure"]),
    ("mongodb://db.example/?tls=true&tlsAllowInvalidCertificates=true", ["tlsallowinvalidcertificates"]),
    ("mongodb://db.example/?tls=true&tlsAllowInvalidHostnames=true", ["tlsallowinvalidhostnames"]),
]


@pytest.mark.parametrize(("uri", "expected"), RISKS)
def test_what_is_open_on_the_way_to_the_database_is_told(uri, expected):
    address.check(uri, "config.yaml")
    found = list(address.risks(uri))
    assert len(found) == len(expected)
    for (said, fix), word in zip(found, expected, strict=True):
        assert word in said
        assert "rundb.uri" in fix


def test_the_shipped_configuration_reaches_the_database_by_tls():
    shipped = config.load({"site": "lngs"}, config.HOME / "config")
    assert list(address.risks(shipped.rundb.uri)) == []


OVERRIDE_KEYS = ("batchsize", "kinds", "runs", "select", "attempts")


@pytest.mark.parametrize("case", [case for case, wrong in MAIN_WRONG.items() if wrong[0] in OVERRIDE_KEYS])
def test_the_same_on_the_command_line_is_told_from_the_file(folder, case):
    key, value, expected = MAIN_WRONG[case]
    message = folder.refused(**{key: value})
    assert "--config" in message
    for word in expected:
        assert word in message


# Not a key that is missing, which another place has, nor what the reader of a file refuses.
OVER_OTHERS = MAIN_WRONG.keys() - {"no URI", "no runs database", "processor that is a number"}


@pytest.mark.parametrize("place", ["the first file", "the second file", "the command line"])
@pytest.mark.parametrize(
    "case", [case for case in sorted(OVER_OTHERS) if isinstance(MAIN_WRONG[case][0], str)]
)
def test_u6_the_place_that_has_a_bad_value_is_named(folder, case, place):
    """What is done: `batch_size: many` in a profile's caxflow.yaml; the message named config/config.yaml."""
    key, value, expected = MAIN_WRONG[case]
    first = {"site": "midway", "attempts": 3, "select": {"tags": ["a"]}}
    said = {"the first file": first, "the second file": {}, "the command line": {}}
    said[place] = config.merge(said[place], changed({}, key, value))
    with pytest.raises(CaxflowError) as caught:
        config.load(list(said.items()), folder.path)
    message = str(caught.value)
    assert place in message
    assert "config.yaml" not in message
    assert "hunter2" not in message
    for word in expected:
        assert word in message


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("page", {"folder": "runs"}, "page.folder"),
        ("page", {"folder": "/x", "every": "often"}, "page.every"),
        ("metrics", "x.prom", "metrics"),
        ("corrections", {"slow_control": {"table": "x.csv"}}, "corrections.slow_control.table"),
        ("daemon", {"purge": 3}, "daemon.purge"),
        ("scrub", {"every_days": -1}, "scrub.every_days"),
        ("notify", {"mail": {"to": "me"}}, "notify.mail"),
        ("processors", {"mini_v1": {"memory_mb_per_core": 0}}, "mini_v1"),
        ("processors", {"mini_v01": {"kind": "mini"}}, "pax_version"),
        ("rundb", {"timeout": "long"}, "rundb.timeout"),
        ("masters", ["lngs", "nowhere"], "masters"),
    ],
)
def test_u6_whatever_the_key(folder, key, value, word):
    said = {"profiles/midway/caxflow.yaml": {"site": "midway", key: value}, "--config": {"batch_size": 3}}
    with pytest.raises(CaxflowError) as caught:
        config.load(list(said.items()), folder.path)
    assert str(caught.value).startswith("profiles/midway/caxflow.yaml: ")
    assert word in str(caught.value)


SITE_WRONG = {
    "misspelt key": ("pull_form", ["lngs"], ["pull_form", "did you mean 'pull_from'"]),
    "misspelt nested key": ("access.hots", "x", ["access.hots", "did you mean 'host'"]),
    "unknown site in a list": ("pull_from", ["lngs", "nowhere"], ["pull_from", "nowhere", "lngs, midway"]),
    "itself in a list": ("push_to", ["midway"], ["push_to", "midway", "itself"]),
    "relative root": ("roots.raw", "project/raw", ["roots.raw", "project/raw", "/"]),
    "root that goes up": ("roots.raw", "/project/../etc", ["roots.raw", ".."]),
    "the root of everything": ("roots.raw", "/", ["roots.raw"]),
    "relative work_dir": ("work_dir", "work", ["work_dir", "'work'"]),
    "the clone as work_dir": ("work_dir", str(config.HOME), ["work_dir: ", "holds the clone"]),
    "a number in quotes": ("access.port", "22", ["access.port", "without quotes: 22"]),
    "a truth value in quotes": ("origin", "true", ["origin", "without quotes: true"]),
    "relative ssh_config": ("access.ssh_config", "ssh_config", ["access.ssh_config"]),
    "no raw root": ("roots", {"processed": "/project/processed"}, ["roots.raw", "missing"]),
    "no processed root": ("roots", {"raw": "/project/raw"}, ["roots.processed", "missing"]),
    "no host": ("host", None, ["host", "missing"]),
    "no host to reach": ("access", {"method": "stream"}, ["access.host", "missing"]),
    "unknown method": ("access.method", "ftp", ["access.method", "ftp", "stream"]),
    "root in another": ("roots.processed", "/project/raw/processed", ["roots.processed", "roots.raw"]),
    "work_dir among the data": ("work_dir", "/project/raw/work", ["work_dir", "roots.raw"]),
    "root that breaks lines": ("roots.raw", "/project\n/raw", ["roots.raw", "\\n"]),
    "port as text": ("access.port", "22", ["access.port", "22"]),
    "unknown processor": ("processed.version", "pax_v9", ["processed.version", "pax_v9", "mini_v1"]),
    "another site's name in the database": ("host", "xe1t-datamanager", ["host", "xe1t-datamanager", "lngs"]),
}


@pytest.mark.parametrize("case", SITE_WRONG)
def test_what_is_wrong_in_a_site_file(folder, case):
    key, value, expected = SITE_WRONG[case]
    folder.set("sites/midway.yaml", key, value)
    message = folder.refused()
    assert str(folder.path / "sites" / "midway.yaml") in message
    for word in expected:
        assert word in message


def test_the_wrong_site_file_is_named_though_another_site_runs(folder):
    folder.set("sites/lngs.yaml", "pull_from", ["atlantis"])
    assert str(folder.path / "sites/lngs.yaml") in folder.refused()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host: a\n  roots: b\n", "line 2"),
        ("host: [a\n", "line 2"),
        ("host: a\nhost: b\n", "'host' is given twice"),
        ("roots: {raw: /a, raw: /b}\n", "'raw' is given twice"),
        ("- host\n- roots\n", "not a mapping"),
        ("just text\n", "not a mapping"),
        ("host: a\0b\n", "not valid YAML"),
        ("? [host]\n: a\n", "not valid YAML"),
        ("host: !!int many\n", "not valid YAML"),
        ("host: 0x_\n", "'roots' is missing"),
        ("host: !!python/object/apply:os.getpid []\n", "not valid YAML"),
        ("host: *nobody\n", "line 1"),
        ("", "missing"),
        ("# nothing\n", "missing"),
    ],
)
def test_a_file_that_is_no_yaml_mapping(folder, text, expected):
    folder.write("sites/midway.yaml", text)
    message = folder.refused()
    assert "midway.yaml" in message
    assert expected in message


def test_a_file_that_is_not_utf8(folder):
    (folder.path / "sites/midway.yaml").write_bytes(b"host: M\xfcnchen\n")
    assert "midway.yaml" in folder.refused()


def test_a_missing_file_is_named(folder):
    (folder.path / "config.yaml").unlink()
    assert str(folder.path / "config.yaml") in folder.refused()


def test_a_folder_in_the_place_of_a_file(folder):
    (folder.path / "config.yaml").unlink()
    (folder.path / "config.yaml").mkdir()
    assert "config.yaml cannot be read" in folder.refused()


def test_a_site_file_with_an_unusable_name(folder):
    folder.write("sites/Mid way.yaml", yaml.safe_dump(SITES["midway"]))
    assert "Mid way.yaml" in folder.refused()


def test_what_an_editor_leaves_is_no_site(folder):
    (folder.path / "sites/.#midway.yaml").symlink_to("user@host.4711")
    folder.write("sites/midway.yaml~", "rubbish")
    assert set(folder.load().sites) == {"lngs", "midway"}


def test_a_site_file_with_another_suffix_is_not_passed_over(folder):
    (folder.path / "sites/midway.yaml").rename(folder.path / "sites/midway.yml")
    assert "midway.yml: site files end in .yaml" in folder.refused()


def test_a_policy_is_told_in_the_words_of_the_configuration():
    keys = {"after_days": 90, "copies": 1, "verified_within_days": 0.5, "at_most": {"runs": 5}}
    told = "after_days: 90, copies: 1, verified_within_days: 0.5, processed: true"
    assert str(retention.read_purge(keys)) == told
    assert str(retention.read_purge(keys | {"evidence": "rows"})) == told
    assert str(retention.read_purge(keys | {"evidence": "read"})) == f"{told}, evidence: read"
    assert retention.demand(retention.read_purge({"evidence": "read"})).read
    assert not retention.demand(None).read


@pytest.mark.parametrize("key", ["runs", "select", "purge", "notify", "rundb"])
def test_a_key_whose_lines_are_commented_out(folder, key):
    main = yaml.safe_dump({name: value for name, value in MAIN.items() if name != key})
    folder.write("config.yaml", f"{main}{key}:\n  # nothing\n")
    assert f"{key} has no value -> give it one, or take the key out" in folder.refused()


def test_numbers_may_be_written_as_everybody_writes_them(folder):
    folder.write("config.yaml", yaml.safe_dump(MAIN) + "scrub: {at_most: {bytes: 1.0e13, minutes: 3e2}}\n")
    scrub = folder.load().scrub
    assert scrub.bytes == 10**13
    assert scrub.time == datetime.timedelta(hours=5)
    assert folder.load(scrub={"at_most": {"bytes": "2e9"}}).scrub.bytes == 2 * 10**9


def written(folder, name, key, words):
    """Write a word into a file as it is, without quotes, in the place of a value."""
    folder.set(name, key, "TAKE THIS OUT")
    text = (folder.path / name).read_text(encoding="utf-8")
    assert text.count("TAKE THIS OUT") == 1
    folder.write(name, text.replace("TAKE THIS OUT", words))


UNCLEAR = (
    "0200",
    "0o200",
    "0b1",
    "0x1F",
    "1:30",
    "12:30:45.5",
    "1_000",
    "160315_1432",
    "1_0.5",
    "010.5",
    "yes",
    "On",
)


@pytest.mark.parametrize("word", [*UNCLEAR, "6.10", "6.11.2", "1e3", "true", "2016-03-15", "=", "y", ".inf"])
@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.yaml", "select.tags", lambda settings: settings.selection.tags[0]),
        ("config.yaml", "rundb.collection", lambda settings: settings.rundb.collection),
        (
            "config.yaml",
            "processors.pax_v6.conda",
            lambda settings: settings.processors["pax_v6"].environment.conda,
        ),
        ("sites/midway.yaml", "access.python", lambda settings: settings.here.access.python),
    ],
)
def test_a_word_is_itself_where_text_belongs(folder, name, key, value, word):
    folder.set("config.yaml", "processors.pax_v6", {"kind": "command", "command": "paxer {input} {output}"})
    written(folder, name, key, f"[{word}]" if key.endswith("tags") else word)
    found = value(folder.load())
    assert (type(found), found) == (str, word)


def test_run_names_need_no_quotes(folder):
    written(folder, "config.yaml", "runs", "[160315_1432, 160316_0907]")
    assert folder.load().selection.runs == ("160315_1432", "160316_0907")
    written(folder, "config.yaml", "runs", "[160315_1432_MV, '160316_0907']")
    assert folder.load().selection.runs == ("160315_1432_MV", "160316_0907")


@pytest.mark.parametrize("word", UNCLEAR)
@pytest.mark.parametrize(
    ("name", "key", "wanted"),
    [
        ("config.yaml", "batch_size", "a whole number"),
        ("config.yaml", "lease", "a number"),
        ("config.yaml", "select.numbers.first", "a whole number"),
        ("config.yaml", "verify", "true or false"),
        ("config.yaml", "notify.every", "a number"),
        ("sites/midway.yaml", "origin", "true or false"),
        ("sites/midway.yaml", "access.port", "a whole number"),
        ("sites/midway.yaml", "access.timeout", "a number"),
    ],
)
def test_a_word_that_yaml_reads_otherwise_is_refused_where_numbers_belong(folder, name, key, wanted, word):
    written(folder, name, key, word)
    message = folder.refused()
    line = next(n for n, text in enumerate((folder.path / name).read_text().splitlines(), 1) if word in text)
    assert f"{folder.path / name}: {key}: {word!r} is not {wanted} (line {line}) -> write" in message


def test_what_has_no_type_in_the_schema_must_look_the_same_to_all(folder):
    folder.set("config.yaml", "processors.pax_v6", {"kind": "command", "command": "paxer {input} {output}"})
    for word in UNCLEAR:
        written(folder, "config.yaml", "processors.pax_v6.overrides", f"{{pax: {{a: {word}}}}}")
        message = folder.refused()
        assert "config.yaml: processors.pax_v6.overrides.pax.a: " in message
        assert f"write '{word}' in quotes" in message
    plain = "{pax: {a: '0200', b: 7, c: -1.5e-4, d: true, e: a word, f: [1, '1'], g: null, h: 6.10}}"
    written(folder, "config.yaml", "processors.pax_v6.overrides", plain)
    sections = folder.load().processors["pax_v6"].overrides
    wanted = {"a": "0200", "b": 7, "c": -1.5e-4, "d": True, "e": "a word", "f": [1, "1"], "g": None, "h": 6.1}
    assert sections == {"pax": wanted}


def test_permissions_may_be_written_as_chmod_has_them(folder):
    written(folder, "sites/midway.yaml", "permissions", "{raw: {directories: 02750, files: 0640}}")
    assert (
        folder.load().here.permissions["raw"].directories,
        folder.load().here.permissions["raw"].files,
    ) == (
        0o2750,
        0o640,
    )


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in itertools.pairwise("abcdefgh")
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n"
    for before, name in itertools.pairwise("abcdefghijkl")
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (BOMB, "repeat it is too long"),
        (MERGE_BOMB, "repeat it is too long"),
        ("a: &a [*a]\n", "nested too deeply"),
        ("a: &a {<<: *a}\n", "nested too deeply"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "{b: " * 900 + "1" + "}" * 900, "nested too deeply"),
        ("a:\n\t- b\n", "line 2"),
        ("host: !!binary YQ==\n", "tags as"),
        ("host: !!set {a, b}\n", "tags as"),
        ("host: !mine a\n", "tags as"),
        ("on: a\n", "'on' is not text"),
        ("12:30: a\n", "'12:30' is not text"),
        ("<<: 3\n", "<< takes a mapping"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("host: a\n".encode("utf-16"), "not in UTF-8"),
        (b"# " + b"x" * 2_000_000, "larger than 1 MB"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_a_file_that_is_a_trap(folder, content, expected):
    for name in ("config.yaml", "sites/midway.yaml"):
        (folder.path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        assert expected in folder.refused()
        folder.write("config.yaml", yaml.safe_dump(MAIN))


def test_what_yaml_has_for_people_works(folder):
    """A mark of the byte order, aliases, merge keys."""
    text = "rundb: &one {uri: 'mongodb://reader@a.example/run', timeout: 3}\n"
    folder.write("config.yaml", f"\ufeff{text}processors: {{mini_v1: {{kind: mini}}}}\n")
    assert folder.load().rundb.timeout == 3
    folder.write("more.yaml", "one: &one {timeout: 7, database: a}\nrundb: {<<: *one, database: b}\n")
    found = config.read_yaml(folder.path / "more.yaml")["rundb"]
    assert found == {"timeout": 7, "database": "b"}


def test_what_is_no_file_is_not_read(folder):
    os.mkfifo(folder.path / "pipe")
    for path in (folder.path / "pipe", Path("/dev/zero"), folder.path):
        with pytest.raises(CaxflowError, match="cannot be read"):
            config.read_yaml(path)


def numbers(schema, *way):
    """The ways to all numbers that a schema admits, but in lists and under names that are free."""
    if schema.get("type") in ("integer", "number"):
        yield way
    for name, inner in schema.get("properties", {}).items():
        yield from numbers(inner, *way, name)


@pytest.mark.parametrize("value", [math.inf, 10**400, -1])
def test_no_number_is_too_large_or_small_for_one_line(folder, value):
    schema = yaml.safe_load((config.HOME / "workflow/schemas/config.schema.yaml").read_text())
    ways = list(numbers(schema))
    assert len(ways) > 20
    for *outer, last in ways:
        overrides = {last: value}
        for name in reversed(outer):
            overrides = {name: overrides}
        with contextlib.suppress(CaxflowError):
            folder.load(**overrides)


ODD_VALUES = (
    None,
    True,
    [],
    ["x"],
    [[]],
    {},
    {"x": 1},
    -1,
    0,
    1e-300,
    10**30,
    math.nan,
    math.inf,
    "",
    "\x1b[31m\n",
    "\0",
)
ODD_VALUES += (
    "\ud800",
    "x" * 5000,
    "/",
    "/dev/zero",
    "{",
    "${HOME}",
    "mongodb://[",
    "mongodb://h/?timeoutMS=x",
    "9999-12-31",
)


def keys(schema, form, *way):
    """The ways to all that a schema admits; items of lists, and what has a free name, too."""
    if "$ref" in schema:
        schema = form["$defs"][schema["$ref"].rpartition("/")[2]]
    if way:
        yield way
    for name, inner in schema.get("properties", {}).items():
        yield from keys(inner, form, *way, name)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from keys(schema["additionalProperties"], form, *way, "mini_v1")
    if isinstance(schema.get("items"), dict):
        yield from keys(schema["items"], form, *way, 0)


def placed(document, way, value):
    """Return a document with a value at the end of a way of keys."""
    if not way:
        return value
    head, *rest = way
    if head == 0:
        return [placed({}, rest, value)]
    document = document if isinstance(document, dict) else {}
    return {**document, head: placed(document.get(head, {}), rest, value)}


@pytest.mark.parametrize(
    ("kind", "name", "least"), [("config", "config.yaml", 90), ("site", "sites/midway.yaml", 30)]
)
def test_s13_each_key_with_each_odd_value_is_taken_or_refused_in_a_line(folder, kind, name, least):
    form = yaml.safe_load((config.HOME / f"workflow/schemas/{kind}.schema.yaml").read_text())
    original = MAIN if kind == "config" else SITES["midway"]
    ways = list(keys(form, form))
    assert len(ways) >= least
    refused = []
    for way in ways:
        for value in ODD_VALUES:
            folder.write(name, yaml.dump(placed(original, way, value)))
            try:
                config.load({"site": "midway"}, folder.path)
            except CaxflowError as error:
                refused.append((way, value, error))
    assert len(refused) > len(ways)
    for way, value, error in refused:
        assert error.mend, (way, value)
        assert str(folder.path) in str(error) or "work_dir" in str(error), (way, value, str(error))
        assert len(str(error)) < 6000, (way, value)


def test_without_a_site_it_says_how_to_name_one(folder):
    with pytest.raises(CaxflowError, match="--profile"):
        config.load({}, folder.path)


def test_a_password_never_has_a_place_in_an_override(folder):
    message = folder.refused(rundb={"uri": "mongodb://reader:hunter2@db.example/run"})
    assert "hunter2" not in message


@pytest.mark.parametrize("work_dir", [config.HOME, config.HOME.parent, Path("/")])
def test_a_work_directory_that_holds_the_clone_is_refused(folder, work_dir):
    folder.set("sites/midway.yaml", "work_dir", str(work_dir))
    assert "work_dir" in folder.refused()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["runs", "select", "kinds", "rundb", "processors", "lease", "sites_dir", "site", "dry", "else"]
)


@example(overrides={"select": {"a line\nand another": 1}})
@given(overrides=st.dictionaries(KEYS, ANYTHING, max_size=2))
def test_whatever_comes_is_accepted_or_refused_in_one_line(tmp_path_factory, overrides):
    path = tmp_path_factory.getbasetemp() / "any_config"
    if not path.exists():
        Folder(path)
    try:
        settings = config.load({"site": "midway"} | overrides, path)
    except CaxflowError as error:
        message = str(error)
    else:
        message = plan.policy(settings)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("access", "roots", "site", "refused"),
    [
        ({"method": "local"}, {"raw": "/data/raw"}, "midway", True),
        ({"method": "local"}, {"raw": "/data/raw/tegner"}, "midway", True),
        ({"method": "local"}, {"raw": "/data"}, "midway", True),
        ({"method": "local"}, {"raw": "/data/raw2"}, "midway", False),
        (
            {"method": "stream", "host": "login.midway.example", "port": 2222},
            {"raw": "/project"},
            "lngs",
            True,
        ),
        ({"method": "scp", "host": "login.midway.example"}, {"raw": "/project"}, "lngs", False),
        ({"method": "stream", "host": "other.example", "port": 2222}, {"raw": "/project/raw"}, "lngs", False),
        ({"method": "local"}, {"raw": "/project/processed"}, "midway", True),
        ({"method": "local"}, {"raw": "/project/processed"}, "lngs", False),
    ],
    ids=["same", "within", "around", "beside", "remote", "port", "host", "opened here", "elsewhere"],
)
def test_two_sites_in_one_folder_are_refused(folder, access, roots, site, refused):
    document = {"host": "tegner-login-1", "access": access, "roots": roots}
    folder.write("sites/tegner.yaml", yaml.safe_dump(document))
    if not refused:
        folder.load(site=site)
        return
    with pytest.raises(CaxflowError, match=r"tegner\.yaml: roots\.raw: .* are one folder"):
        folder.load(site=site)


def test_a_job_does_not_check_again_what_its_parent_checked(folder):
    """The schemas' library costs more to load than most jobs do; a document that has changed is checked."""
    config.load({"site": "midway"}, folder.path)
    job = "import sys; from caxflow import config; config.load({'site': 'midway'}, sys.argv[1])"
    job += "; print('jsonschema' in sys.modules)"

    def start():
        command = [sys.executable, "-c", job, str(folder.path)]
        path = {"PYTHONPATH": str(Path(config.__file__).parents[2])}
        return subprocess.run(command, env=os.environ | path, capture_output=True, text=True, check=False)

    assert start().stdout == "False\n"
    folder.set("sites/lngs.yaml", "description", "another")
    assert start().stdout == "True\n"
    folder.set("sites/lngs.yaml", "descripton", "misspelt")
    refused = start()
    assert refused.returncode != 0
    assert "did you mean 'description'" in refused.stderr


PAX = {"kind": "command", "command": "paxer {input} {output_stem}", "conda": "pax", "memory_mb_per_core": 9}
MINE = "mine {input} {output}"


def processor(folder, *said):
    """The processor of which config.yaml says `PAX`, and places over it the definitions `said`."""
    folder.set("config.yaml", "processors", {"mini_v1": {"kind": "mini"}, "pax_v6": PAX})
    layers = [(f"{number}.yaml", {"processors": {"pax_v6": each}}) for number, each in enumerate(said)]
    return config.load([*layers, ("--config", {"site": "midway"})], folder.path).processors["pax_v6"]


@pytest.mark.parametrize(
    ("said", "inherits"),
    [
        ([{"command": MINE}], "conda of {main}"),
        ([{"command": MINE}, {"memory_mb_per_core": 5}], "conda of {main}"),
        ([{"module": "x"}, {"command": MINE}], "conda of {main}; module of 0.yaml"),
        ([{"overrides": {"pax": {"a": 1}}}, {"command": MINE, "conda": None}], "overrides of 0.yaml"),
        # What is said with the command, or after it, is meant for it.
        ([{"command": MINE, "conda": "mine"}], ""),
        ([{"command": MINE}, {"conda": "mine"}], ""),
        ([{"command": MINE, "conda": None}], ""),
        ([{"command": MINE}, {"conda": None}], ""),
        ([{"conda": None}, {"command": MINE}], ""),
        # As Snakemake's --config hands it on.
        ([{"command": MINE}, {"conda": "null"}], ""),
        ([{"memory_mb_per_core": 5}], ""),
        ([{"conda": "mine"}], ""),
    ],
)
def test_what_a_command_inherits_is_known(folder, said, inherits):
    found = processor(folder, *said)
    assert found.inherits == inherits.format(main=folder.path / "config.yaml")
    conda = next((each["conda"] for each in reversed(said) if "conda" in each), "pax")
    assert found.environment.conda == (conda if conda not in (None, "null") else "")


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"container": "x.sif"}, "both conda and container are given"),
        ({"kind": "mini"}, "unknown key 'command'"),
        ({"kind": "mini", "command": None}, "unknown key 'conda'"),
    ],
)
def test_what_does_not_go_with_what_is_inherited_says_so(folder, said, wrong):
    with pytest.raises(CaxflowError) as caught:
        processor(folder, said)
    message = str(caught.value)
    assert message.startswith(f"0.yaml: processor pax_v6: {wrong}")
    inherits = message.partition("it inherits ")[2]
    assert "conda" in inherits
    assert f" of {folder.path / 'config.yaml'}, and null takes out what is not wanted" in inherits


def test_null_takes_out_what_another_place_says(folder):
    found = processor(folder, {"kind": "mini", "pax_version": "v0.1", "command": None, "conda": None})
    assert (found.kind, found.template) == ("mini", None)
    assert processor(folder, {"container": "x.sif", "conda": None}).environment.container == "x.sif"


def test_null_in_the_place_itself_is_no_value(folder):
    folder.set("config.yaml", "processors", {"mini_v1": {"kind": "mini"}, "pax_v6": PAX | {"conda": {}}})
    text = (folder.path / "config.yaml").read_text().replace("conda: {}", "conda:")
    folder.write("config.yaml", text)
    assert "processors.pax_v6.conda has no value" in folder.refused()


def test_slow_control_of_another_place_is_taken_out_by_null(folder):
    folder.set("config.yaml", "corrections", {"slow_control": {"table": "/table.csv"}})
    ranges = [{"min": 0, "max": 9, "value": 8}]
    message = folder.refused(corrections={"slow_control": {"ranges": ranges}})
    assert "table and ranges exclude each other -> keep one; null takes out the other" in message
    found = folder.load(corrections={"slow_control": {"ranges": ranges, "table": None}})
    assert found.corrections.slow_control == {"ranges": ranges}


def test_what_a_method_cannot_do_is_refused_when_the_site_file_is_read(folder):
    """Not when a copy was published."""
    site = SITES["lngs"] | {"access": {"method": "scp", "host": "lngs.example"}}
    folder.write("sites/lngs.yaml", yaml.safe_dump(site))
    folder.load()
    for wanted in ({"raw": {"files": "0640"}}, {"processed": {"group": "xenon"}}):
        folder.write("sites/lngs.yaml", yaml.safe_dump(site | {"permissions": wanted}))
        message = folder.refused()
        assert message.startswith(f"{folder.path / 'sites/lngs.yaml'}: permissions: ")
        assert "access.method" in message
    stream = site | {"permissions": wanted, "access": site["access"] | {"method": "stream"}}
    folder.write("sites/lngs.yaml", yaml.safe_dump(stream))
    folder.load()


def test_sftp_does_what_sites_may_ask_of_it():
    """What else there is, a site file is asked for: then it is refused, as its permissions are."""
    lacking = {name for name in OPERATIONS if not hasattr(SftpEnd, f"_do_{name}")}
    assert lacking == {"permissions"}
