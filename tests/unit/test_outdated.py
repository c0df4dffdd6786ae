"""Receipts of another version or of older corrections make room, and nothing else does."""

import json
from types import SimpleNamespace

import pytest

from caxflow.targets import Run, Target
from caxflow.workdir import journal, outdated

RUN = Run("160315_1432")
SITE = SimpleNamespace(name="midway", minitrees=SimpleNamespace(treemakers=("Basics",)))
NOW = {"AddGains": "6.0"}
MINITREES = {"entry": {"version": "v0.0.1"}, "treemakers": ["Basics"], "location": f"/data/pax_v0.0.1/{RUN}"}


@pytest.fixture
def work(tmp_path):
    """A work directory in which the run was processed by v0.0.1 with gains 5.0."""
    folder = tmp_path / "midway"
    folder.mkdir()
    entry = {"version": "v0.0.1"}
    old = {"AddGains": "5.0"}
    write(tmp_path, "processed.done", {"entry": entry, "correction_versions": old})
    write(tmp_path, "settings.json", {"made_for": {"pax_version": "v0.0.1"}, "correction_versions": old})
    write(tmp_path, "minitrees.done", MINITREES)
    for stage in ("processed.checksum", "checksum", "raw.done"):
        (folder / f"{RUN}.{stage}").write_text("x")
    (tmp_path / "product").write_text("root")
    (folder / f"{RUN}.processed.root").symlink_to(tmp_path / "product")
    return tmp_path


def write(work, stage, content):
    (work / f"midway/{RUN}.{stage}").write_text(json.dumps(content))


def found(work, version="v0.0.1", corrections=NOW, anew=False):
    return set(outdated.find(work, SITE, RUN, version, corrections=corrections, anew=anew))


def test_what_is_wanted_stays(work):
    assert found(work) == set()
    # Older corrections only count where the policy wants the run made anew.
    assert found(work, anew=True) == set(outdated.PROCESSED)
    assert found(work, corrections={"AddGains": "5.0"}, anew=True) == set()
    assert found(work, version="v0.0.2") == set(outdated.PROCESSED)


def test_settings_that_were_frozen_before_a_correction_are_frozen_again(work):
    (work / f"midway/{RUN}.processed.done").unlink()
    assert "settings.json" in found(work)
    assert "settings.json" not in found(work, corrections={"AddGains": "5.0"})
    assert "settings.json" not in found(work, corrections=None)


@pytest.mark.parametrize(
    "change", [{"treemakers": ["Fundamentals"]}, {"location": "/data/pax_v0.0.1"}, {"location": None}]
)
def test_minitrees_that_lack_one_or_lie_among_those_of_others_are_made_again(work, change):
    write(work, "minitrees.done", MINITREES | change)
    assert found(work) == {"minitrees.done"}


def test_receipts_of_another_version_become_its_own(work):
    journal.fail(work, Target("midway", RUN, "processed.done"), "once")
    outdated.retire(work, SITE, RUN, outdated.PROCESSED, "v0.0.2")
    assert sorted(path.name for path in (work / "midway").iterdir() if path.is_file()) == [
        f"{RUN}.checksum",
        f"{RUN}.raw.done",
    ]
    own = work / "midway/pax_v0.0.1"
    assert sorted(path.name for path in own.iterdir()) == [
        f"{RUN}.done",
        f"{RUN}.root",
        f"{RUN}.settings.json",
    ]
    assert (own / f"{RUN}.root").read_text() == "root"
    assert list(journal.failures(work)) == []
    assert list(journal.pending(work)) == [Target("midway", RUN, "pax_v0.0.1.done")]


def test_receipts_of_older_corrections_go_and_the_product_stays(work):
    outdated.retire(work, SITE, RUN, outdated.PROCESSED, "v0.0.1")
    assert not (work / "midway/pax_v0.0.1").exists()
    assert not (work / f"midway/{RUN}.processed.done").exists()
    assert (work / "product").exists()


def test_a_damaged_receipt_is_not_wanted(work):
    (work / f"midway/{RUN}.minitrees.done").write_text("{")
    outdated.retire(work, SITE, RUN, found(work), "v0.0.1")
    assert (work / f"midway/{RUN}.processed.done").exists()
