"""Import of cax's configuration: what becomes a site, and what is named because it cannot."""

import json

import pytest
import yaml

from caxflow import cli, config
from caxflow.errors import CaxflowError
from caxflow.switching import caximport

HOSTS = [
    {
        "name": "xe1t-datamanager",
        "method": "rsync",
        "hostname": "xe1t-datamanager.lngs.infn.it",
        "username": "xe1ttransfer",
        "dir_raw": "/data/xenon/raw/",
        "dir_tsm": "/data/xenon/tsm/",
        "dir_processed": None,
        "upload_options": ["tsm-server", "midway-login1"],
        "download_options": None,
    },
    {
        "name": "midway-login1",
        "method": "scp",
        "hostname": "midway.rcc.uchicago.edu",
        "username": "daq",
        "dir_raw": "/project/raw",
        "dir_processed": "/project/processed",
        "data_type": ["raw", "processed"],
        "upload_options": [],
        "download_options": ["xe1t-datamanager", "lfc"],
        "dataset_list": ["160315_1432"],
        "nstreams": 4,
        "purge": 5,
        "shoe_size": 43,
    },
    {"name": "tsm-server", "method": "tsm", "hostname": None, "dir_raw": None},
    {"name": "lfc", "method": "gfal-copy", "hostname": "lfn:", "dir_raw": "/grid/raw"},
]


def said(made, *words):
    return [note for note in made.notes if all(word in note for word in words)]


def test_sites_say_what_cax_said():
    made = caximport.translate(HOSTS, {"midway-login1": "midway", "xe1t-datamanager": "lngs"})
    assert made.sites["lngs"] == {
        "host": "xe1t-datamanager",
        "origin": True,
        "access": {"method": "stream", "host": "xe1t-datamanager.lngs.infn.it", "user": "xe1ttransfer"},
        "roots": {"raw": "/data/xenon/raw"},
        "work_dir": "/data/xenon/caxflow",
        "push_to": ["midway"],
    }
    assert made.sites["midway"]["access"]["connections"] == 4
    assert made.sites["midway"]["pull_from"] == ["lngs"]
    assert made.here["midway"] == {
        "kinds": ["raw", "processed"],
        "purge": {"after_days": 5},
        "runs": ["160315_1432"],
    }


def test_what_has_no_translation_is_named():
    made = caximport.translate(HOSTS)
    assert set(made.sites) == {"xe1t-datamanager", "midway-login1"}
    for words in (
        ("tsm-server", "tape"),
        ("lfc", "grid storage"),
        ("upload_options names tsm-server",),
        ("download_options names lfc",),
        ("dir_tsm",),
        ("shoe_size",),
        ("midway-login1", "pax it found"),
    ):
        assert len(said(made, *words)) == 1, words


def test_processor_is_what_sites_with_a_folder_keep():
    made = caximport.translate(HOSTS, version="pax_v6.11.2")
    assert made.sites["midway-login1"]["processed"] == {"version": "pax_v6.11.2", "make": True}
    assert "processed" not in made.sites["xe1t-datamanager"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"nowhere": "x"}, "no host 'nowhere'"),
        ({"midway-login1": "Midway"}, "'Midway' is not a site's name"),
        ({"midway-login1": "xe1t-datamanager"}, "two hosts would be site"),
    ],
)
def test_names_are_checked(names, message):
    with pytest.raises(CaxflowError, match=message):
        caximport.translate(HOSTS, names)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '[{"method": "scp"}]', '[{"name": 5}]'])
def test_what_is_no_configuration_is_one_line(tmp_path, text):
    (tmp_path / "cax.json").write_text(text)
    with pytest.raises(CaxflowError, match=r"cax\.json is not"):
        caximport.read(tmp_path / "cax.json")


def test_key_given_twice_counts_as_for_cax(tmp_path):
    (tmp_path / "cax.json").write_text('[{"name": "a", "purge": 1, "purge": 2}]')
    hosts, twice = caximport.read(tmp_path / "cax.json")
    assert hosts == [{"name": "a", "purge": 2}]
    assert twice == ["a: purge is given twice; the last one counts, as it did for cax"]


@pytest.fixture
def command(tmp_path):
    source = tmp_path / "cax.json"
    source.write_text(json.dumps(HOSTS))
    words = ["import", str(source), "--sites", str(tmp_path / "sites"), "--profiles", str(tmp_path / "p")]
    return lambda *more: cli.main([*words, *more])


def test_files_are_of_the_schema_and_name_each_other(command, tmp_path, capsys):
    assert command("--here", "midway-login1", "--processor", "mini_v1") == 0
    assert f"next: caxflow doctor --profile {tmp_path}/p/midway-login1; " in capsys.readouterr().out
    overrides = yaml.safe_load((tmp_path / "p" / "midway-login1" / "caxflow.yaml").read_text())
    settings = config.load(overrides)
    assert settings.here.work_dir == "/project/caxflow"
    assert settings.here.pull_from == ("xe1t-datamanager",)
    assert settings.purge.after.days == 5
    assert settings.selection.runs == ("160315_1432",)
    # Where other workflows run is their matter.
    assert settings.sites["xe1t-datamanager"].work_dir is None


def test_nothing_is_replaced(command, tmp_path, capsys):
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "midway-login1.yaml").write_text("mine")
    assert command() == 1
    assert "midway-login1.yaml: is there already, and nothing was written" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "sites").iterdir()] == ["midway-login1.yaml"]
