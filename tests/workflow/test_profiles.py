"""Profiles: found by name, every value with its reason, and nothing is lost by an option."""

import sys
from pathlib import Path

import pytest
import yaml

from caxflow import config
from clones import HOSTS, ROOT, changed, contents, snapshot

PROFILES = sorted(path.parent for path in (ROOT / "profiles").glob("*/config.yaml"))
NAMES = [path.name for path in PROFILES]
RUN = "160315_1432"


def options():
    """Names of Snakemake's options, those of the installed plugins with them."""
    from snakemake.cli import get_argument_parser

    return {
        option.removeprefix("--")
        for action in get_argument_parser()._actions
        for option in action.option_strings
    }


def test_there_is_one_for_every_site_and_the_demo_and_none_called_default():
    sites = {path.stem for path in (ROOT / "config/sites").glob("*.yaml")}
    assert set(NAMES) == sites | {"demo"}
    folders = {path.name for path in (ROOT / "profiles").iterdir() if path.is_dir()}
    assert folders == set(NAMES)


def test_no_folder_of_the_repository_hides_a_profile():
    assert not set(NAMES) & {path.name for path in ROOT.iterdir()}
    assert not (ROOT / "default").exists()


@pytest.mark.parametrize("profile", NAMES)
def test_a_profile_names_its_site_and_keeps_receipts_from_being_made_again(profile):
    folder = ROOT / "profiles" / profile
    values = yaml.safe_load((folder / "config.yaml").read_text())
    inner = yaml.safe_load((folder / values["configfile"]).read_text())
    settings = config.load(inner)
    assert settings.here.name == ("midway" if profile == "demo" else profile)
    assert settings.here.work_dir
    assert values["rerun-triggers"] == ["mtime"]
    assert values["keep-going"] is True


@pytest.mark.parametrize("profile", NAMES)
def test_every_key_is_an_option_of_snakemake(profile):
    known = options()
    values = yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text())
    for key in values:
        assert key in known, key


@pytest.mark.parametrize("profile", NAMES)
def test_every_value_has_its_reason_beside_or_above_it(profile):
    lines = (ROOT / "profiles" / profile / "config.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    reason = False
    for line in lines:
        # A reason holds for the keys that follow it, up to an empty line.
        reason = line.startswith("#") or (reason and line != "")
        assert reason or " # " in line or not line, line


def test_the_exact_command_line_works_twice_after_make_install(clone, runs, database):
    clone.site("midway", minitrees=None)
    done = [
        {
            "type": kind,
            "host": HOSTS[site],
            "status": "transferred",
            "location": f"{clone.data}/{site}/{path}",
        }
        | ({"pax_version": "v0.0.1"} if kind == "processed" else {})
        for kind, path in (("raw", f"raw/{RUN}"), ("processed", f"processed/pax_v0.0.1/{RUN}.root"))
        for site in ("lngs", "midway", "tegner")
        if (kind, site) != ("processed", "lngs")
    ]
    for each in done:
        path = Path(each["location"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    runs.insert_one(clone.document() | {"data": done})
    preview = clone.run("snakemake", "--profile", "midway", "-n", "all")
    assert preview.status == 0, preview.text
    assert "caxflow: nothing to do at midway" in preview.lines
    first = clone.run("snakemake", "--profile", "midway", "all")
    assert first.status == 0, first.text
    after = snapshot(clone.folder, clone.data), contents(database)
    second = clone.run("snakemake", "--profile", "midway", "all")
    assert second.status == 0, second.text
    assert first.lines == second.lines == ["caxflow: nothing to do at midway"]
    # The lock names its process, the plan the time: everything else is as it was.
    files, documents = snapshot(clone.folder, clone.data), contents(database)
    assert {Path(name).name for name in changed(after[0], files)} <= {"lock", "plan.json"}
    assert documents == after[1]
    # The work directory is not the clone: no folder of it hides a profile.
    assert not (clone.folder / "midway").exists()


@pytest.mark.parametrize("profile", ["lngs", "tegner"])
def test_other_sites_plan_their_own_work(clone, runs, profile):
    runs.insert_one(clone.document(at=("lngs",)))
    said = clone.snakemake("-n", "all", profile=profile)
    assert said.status == 0, said.text
    expected = {"lngs": {"register_raw": 1}, "tegner": {"register_raw": 1, "copy_raw": 1, "verify_raw": 1}}
    assert said.rules == expected[profile]


def test_make_install_links_every_profile_and_says_where_snakemake_is(clone):
    folder = clone.home / "x"
    words = ["-m", "caxflow.install", "profiles", str(folder)]
    said = clone.run(sys.executable, *words, PYTHONPATH="workflow")
    assert said.status == 0, said.text
    assert "snakemake is on your PATH" in said.out
    assert {path.name for path in folder.iterdir()} == set(NAMES)
