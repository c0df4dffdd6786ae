"""Import of cax's configuration: what becomes a site, and what is named because it cannot."""

import json
import math

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
    names = {"midway-login1": "midway", "xe1t-datamanager": "lngs"}
    made = caximport.translate(HOSTS, names, here="midway-login1")
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
    assert made.here == {
        "kinds": ["raw", "processed"],
        "purge": {"after_days": 5},
        # cax compares names alone, which both detectors have.
        "runs": ["160315_1432", "160315_1432_MV"],
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


def host(name="lena", **keys):
    """A host of cax's, with what a site needs."""
    same = {"name": name, "method": "rsync", "hostname": f"{name}.org", "dir_raw": "/data/raw"}
    return same | keys


def site(*hosts, version="mini_v1", here=None):
    """Translate, and return the last host's site and the notes about it."""
    made = caximport.translate(list(hosts), version=version, here=here)
    name = hosts[-1]["name"]
    return made.sites.get(name), [note for note in made.notes if note.startswith(f"{name}: ")]


def test_site_processes_only_where_cax_has_a_batch_script():
    """`dir_processed` alone says that files are kept."""
    batch, said = site(host("tegner-login-1", dir_processed="/data/processed"))
    assert batch["processed"] == {"version": "mini_v1", "make": True}
    assert not [note for note in said if "processed.make" in note]
    other, said = site(host("lena", dir_processed="/data/processed"))
    assert other["processed"] == {"version": "mini_v1", "make": False}
    assert [note for note in said if "processed.make is false" in note and "batch script" in note]
    told, said = site(host("midway-login1", dir_processed="/data/processed", task_list=["CopyPull"]))
    assert told["processed"]["make"] is False
    assert [note for note in said if "processed.make is false" in note and "task_list" in note]


def test_what_a_host_makes_is_among_its_kinds_whatever_it_copied():
    here = host("midway-login1", dir_processed="/data/processed", data_type=["raw"])
    made = caximport.translate([here], version="mini_v1", here="midway-login1")
    assert made.here["kinds"] == ["raw", "processed"]
    made = caximport.translate([here | {"dir_minitrees": "/m"}], version="mini_v1", here="midway-login1")
    assert made.here["kinds"] == ["raw", "processed", "minitrees"]
    assert made.sites["midway-login1"]["minitrees"] == {"make": ["Basics", "Fundamentals"]}
    made = caximport.translate([host(data_type=["raw"])], here="lena")
    assert made.here["kinds"] == ["raw"]


def test_what_holds_at_other_hosts_is_named_with_what_it_would_be_there():
    made = caximport.translate(
        [host(purge=2, data_type=["raw"], dataset_list=["160315_1432"]), host("stash", dir_raw="/x")],
        here="stash",
    )
    (note,) = said(made, "lena: for the profile of a workflow that runs there")
    assert 'kinds: ["raw"]' in note
    assert 'purge: {"after_days": 2}' in note
    assert "160315_1432_MV" in note
    assert made.here == {}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"download_options": ["x"]}, "download_options is left out, since its task_list has no CopyPull"),
        ({"upload_options": ["x"]}, "upload_options is left out, since its task_list has no CopyPush"),
        ({"purge": 5}, "purge 5 is left out: its task_list has no BufferPurger"),
    ],
)
def test_key_of_a_task_that_is_not_done_is_not_translated(keys, words):
    made, said = site(host("x", dir_raw="/x"), host(task_list=["AddChecksum"], **keys), here="lena")
    assert not {"pull_from", "push_to"} & set(made)
    assert any(words in note for note in said)


def test_tasks_that_cax_has_not_are_named():
    _, said = site(host(task_list=["CopyPull", "RucioRule"]))
    assert [note for note in said if '"RucioRule", which is none of the tasks' in note]


def test_one_storage_is_one_site():
    first = host("midway-login1", hostname="midway")
    for other in (
        host("midway-login2", hostname="midway"),
        host("midway-login2", hostname="midway", dir_raw="/data/raw/inner"),
        host("midway-login2", hostname="midway", dir_raw="/elsewhere", dir_processed="/data"),
    ):
        made, said = site(first, other)
        assert made is None
        assert "that is one storage, and no site was made of it" in said[0]
    made, said = site(first, host("midway-login2", hostname="another"))
    assert made
    assert "if that is one storage, remove its file" in said[0]
    made, _ = site(host("a", hostname=None), host("b", hostname=None), here="a")
    assert made is None


def test_host_that_is_there_twice_counts_once():
    made = caximport.translate([host(purge=1), host(purge=2)], here="lena")
    assert made.here == {"purge": {"after_days": 1}}
    assert said(made, "lena: is there twice; the first entry counts")


def test_no_host_where_data_are_born_is_named():
    assert said(caximport.translate([host()]), "set origin: true in one's file")


def test_folder_in_another_of_the_same_host_is_left_out():
    made, said = site(host(dir_processed="/data/raw/processed"))
    assert made["roots"] == {"raw": "/data/raw"}
    assert [note for note in said if "dir_processed" in note and "left out" in note]


ODD = [None, "", [], {}, 0, -1, 1.5, True, "x y", "/", "relative", ["x"], [None], [[]], {"a": 1}, math.inf]
KEYS = ["method", "hostname", "username", "nstreams", "dir_raw", "dir_processed", "dir_minitrees", "dir_tsm"]
KEYS += ["upload_options", "download_options", "data_type", "purge", "pax_version_purge", "dataset_list"]
KEYS += ["task_list", "grid_cert", "pax_processing_versions", "rucio_account", "shoe_size"]


@pytest.mark.parametrize(
    ("key", "here"),
    [(key, "lena") for key in KEYS] + [(key, None) for key in ("purge", "data_type", "dataset_list")],
)
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_every_value_is_translated_or_named(key, here, value, tmp_path):
    usual = {"username": "me", "dir_processed": "/data/processed", "dir_minitrees": "/m", "nstreams": 3}
    whole = host(**usual, data_type=["raw"], purge=5, download_options=["xe1t-datamanager"])
    hosts = [host("xe1t-datamanager", dir_raw="/data/lngs"), whole | {key: value}]
    if here and key == "dataset_list" and value not in (None, []):
        # The profile would have all runs.
        with pytest.raises(CaxflowError, match=r"dataset_list .* names no run, and none means all"):
            caximport.translate(hosts, version="mini_v1", here=here)
        return
    made = caximport.translate(hosts, version="mini_v1", here=here)
    text = json.dumps([made.sites.get("lena"), made.here])
    named = [note for note in made.notes if note.startswith("lena: ") and key in note]
    assert value in (None, "", []) or named or json.dumps(value) in text
    # What is written can be read.
    for name, content in made.sites.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    if here in made.sites:
        config.load({"site": here, "sites_dir": str(tmp_path)} | made.here)


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
    assert settings.selection.runs == ("160315_1432", "160315_1432_MV")
    # Where other workflows run is their matter.
    assert settings.sites["xe1t-datamanager"].work_dir is None


def profile(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


SHIPPED = config.HOME / "profiles"


def test_host_with_a_batch_system_keeps_the_profile_that_comes_with_it(command, tmp_path, capsys):
    assert command("--here", "midway-login1", "--name", "midway-login1=chicago") == 0
    assert "its profile is as profiles/midway: processing goes to slurm" in capsys.readouterr().out
    made, shipped = profile(tmp_path / "p" / "chicago"), profile(SHIPPED / "midway")
    assert made.pop("config") == ["site=chicago"]
    assert shipped.pop("config") == ["site=midway"]
    assert made == shipped
    assert (made["executor"], made["caxflow-system"]) == ("caxflow", "slurm")


def test_other_host_gets_what_all_profiles_have(tmp_path, capsys):
    (tmp_path / "cax.json").write_text(json.dumps([host()]))
    folders = ["--sites", str(tmp_path / "sites"), "--profiles", str(tmp_path / "p")]
    assert cli.main(["import", str(tmp_path / "cax.json"), "--here", "lena", *folders]) == 0
    assert "one without a batch system" in capsys.readouterr().out
    made = profile(tmp_path / "p" / "lena")
    of_sites = [profile(SHIPPED / name) for name in ("lngs", "midway", "nikhef", "tegner")]
    same = {
        key: value for key, value in of_sites[0].items() if all(each.get(key) == value for each in of_sites)
    }
    assert {key: made.get(key) for key in same} == same
    assert made["logger"] == "caxflow"
    assert "executor" not in made
    assert made["cores"] == of_sites[0]["cores"]


def test_what_could_not_be_read_is_not_written(command, tmp_path, capsys):
    assert command("--here", "midway-login1", "--processor", "pax_v1.2.3") == 1
    err = capsys.readouterr().err
    assert "there is no processor 'pax_v1.2.3'; nothing was written -> the processors are" in err
    assert not (tmp_path / "sites").exists()


@pytest.mark.parametrize(
    ("host", "why"), [("tsm-server", " (tsm-server: tape (tsm) is no site"), ("nowhere", " ->")]
)
def test_why_there_is_no_profile_for_a_host_is_said(command, tmp_path, capsys, host, why):
    assert command("--here", host) == 2
    err = capsys.readouterr().err
    assert f"--here {host}: no site was made for it{why}" in err
    assert "-> hosts that are sites: xe1t-datamanager, midway-login1" in err
    assert not (tmp_path / "sites").exists()


def test_nothing_is_replaced(command, tmp_path, capsys):
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "midway-login1.yaml").write_text("mine")
    assert command() == 1
    assert "midway-login1.yaml: is there already, and nothing was written" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "sites").iterdir()] == ["midway-login1.yaml"]
