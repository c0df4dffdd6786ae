"""Two sites of one storage: whatever is mounted where, and by what, a copy is no evidence against itself."""

import contextlib
import shutil

import pytest

import needs
from caxflow.config.retention import Demand
from caxflow.copies.removal import Removal
from caxflow.demo.sshd import SshSites
from caxflow.errors import CaxflowError
from caxflow.files import marker
from caxflow.targets import Run
from copies import SITES, Copies, just_read

RUN = Run("160315_1432")
# What shows the files of one folder in another, and the options with which it is mounted.
WAYS = {
    "sshfs": ("fuse.sshfs", "-o", "ssh_command=ssh -F {config}", "gate:{folder}"),
    "sshfs that remembers": (
        "fuse.sshfs",
        "-o",
        "ssh_command=ssh -F {config},dcache_timeout=600,cache_timeout=600,entry_timeout=600,attr_timeout=600",
        "gate:{folder}",
    ),
    "bindfs": ("fuse.bindfs", "{folder}"),
    "bind": ("none", "-o", "bind", "{folder}"),
}
# The folder of the one site that is mounted on the same folder of the other.
WHAT = {"the root": "", "a folder of the root": "sr0", "the dataset": f"sr0/{RUN}"}


@pytest.fixture(scope="module")
def gate(tmp_path_factory, require):
    for tool in ("sshd", "ssh", "ssh-keygen", "sshfs", "bindfs"):
        require(tool)
    with SshSites(tmp_path_factory.mktemp("lab") / "sites", ["gate"], embedded=False) as sites:
        yield sites


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add()
        for site in SITES:
            deep = copies.path(site).parent / "sr0"
            deep.mkdir()
            copies.set(site, location=str(shutil.move(copies.path(site), deep)))
        yield copies


@contextlib.contextmanager
def over(target, kind, *options):
    """Mount over a folder, with nothing under it."""
    shutil.rmtree(target)
    target.mkdir()
    with needs.mounted(target, "-t", kind, *options):
        yield


def removal_of(copies, site, count):
    return Removal(copies.subject(site, here=site), Demand(copies=count), "a test")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", WHAT)
def test_l5_the_last_copy_does_not_go_on_the_word_of_itself(copies, gate, way, what):
    """tegner's data are midway's, mounted: `rm` at midway wants one other copy, and there is none."""
    midway, tegner = (copies.folder / site / "raw" for site in ("midway", "tegner"))
    copies.database.runs.update_one({}, {"$pull": {"data": {"host": SITES["lngs"]}}})
    shutil.rmtree(copies.folder / "lngs/raw/sr0")
    values = {"config": gate.ssh_config, "folder": midway / WHAT[what]}
    kind, *options = (word.format(**values) for word in WAYS[way])
    with over(tegner / WHAT[what], kind, *options):
        assert sorted(path.name for path in (tegner / f"sr0/{RUN}").iterdir()) == ["a.zip", "b.zip", "log"]
        for site in ("midway", "tegner"):
            copies.note(site, verified=just_read())
        for site in ("midway", "tegner"):
            with pytest.raises(CaxflowError):
                removal_of(copies, site, 1).perform()
            assert (midway / f"sr0/{RUN}/a.zip").exists()
            assert copies.row("midway")["status"] == "transferred"
            assert "removing" not in copies.row("midway")["caxflow"]
    assert sorted(path.name for path in midway.iterdir() if path.name != ".caxflow-trash") == [
        marker.NAME,
        "sr0",
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["the root", "a folder of the root"])
def test_l5_two_names_of_one_copy_are_one_witness(copies, gate, way, what):
    """lngs has the only other copy, and tegner shows the same files."""
    lngs, tegner = (copies.folder / site / "raw" for site in ("lngs", "tegner"))
    values = {"config": gate.ssh_config, "folder": lngs / WHAT[what]}
    kind, *options = (word.format(**values) for word in WAYS[way])
    with over(tegner / WHAT[what], kind, *options):
        for site in ("lngs", "tegner"):
            copies.note(site, verified=just_read())
        with pytest.raises(CaxflowError, match="the very files of"):
            removal_of(copies, "midway", 2).perform()
        assert copies.row("midway")["status"] == "transferred"
        removal_of(copies, "midway", 1).perform()
        assert copies.row("midway") is None
