"""Case S5: what the profile will ask for is tried, on a real Slurm, odd file systems and odd sites."""

import dataclasses
import re
import sys

import pytest

import needs
import oddfs
from caxflow.config import Access
from caxflow.demo.sshd import SshSites
from caxflow.errors import CaxflowError
from caxflow.monitoring.doctor import BAD, DOUBTFUL, GOOD, folders, partners, submission
from copies import names
from lab import pythons
from lab.logins import OddSite
from operators import configured
from slurm import ACCOUNT, ACCOUNTING_PROGRAMS, PROGRAMS, Slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory, require):
    for program in (*PROGRAMS, *ACCOUNTING_PROGRAMS):
        require(program)
    needs.root()
    with Slurm(tmp_path_factory.mktemp("slurm") / "accounted", accounting=True) as slurm:
        yield slurm


# What a profile says, how much memory a core needs, what is found, in whose words, and which key fixes it.
SUBMISSIONS = {
    "as it should be": ({"set-resources": ["process_raw:runtime=600"]}, 500, GOOD, "account pi-lgrandi", ""),
    "no such partition": (
        {"slurm_partition": "nope"},
        500,
        BAD,
        "invalid partition specified: nope",
        "slurm_partition in default-resources of {file}, now nope",
    ),
    "no such account": (
        {"slurm_account": "pi-nobody"},
        500,
        BAD,
        "Invalid account or account/partition combination",
        "slurm_account in default-resources of {file}, now pi-nobody",
    ),
    "no such feature": (
        {"caxflow-options": "--constraint=gpu"},
        500,
        BAD,
        "Invalid feature specification",
        "caxflow-options in {file}",
    ),
    "no such reservation": (
        {"caxflow-options": "--reservation=tuesday"},
        500,
        BAD,
        "Requested reservation is invalid",
        "caxflow-options in {file}",
    ),
    "long runs get too little time": (
        {},
        500,
        DOUBTFUL,
        "PartitionTimeLimit: the time limit is 1-00:00:00",
        "cpu_ms_per_event of the processor",
    ),
    "last attempts want more memory than there is": (
        {},
        1000,
        DOUBTFUL,
        "Requested node configuration is not available",
        "memory_mb_per_core of the processor",
    ),
    "no attempt gets its memory": (
        {},
        9000,
        BAD,
        "Requested node configuration is not available",
        "memory_mb_per_core of the processor",
    ),
    "too many cores are set": (
        {"set-threads": {"process_raw": 9}},
        500,
        BAD,
        "Requested node configuration is not available",
        "processed.cores",
    ),
}


@pytest.mark.parametrize("case", SUBMISSIONS)
def test_s5_slurm_looks_at_the_largest_job(slurm, tmp_path, monkeypatch, case):
    said, memory, verdict, words, key = SUBMISSIONS[case]
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    default = {"mem_mb": 1000, "slurm_partition": "xenon1t", "slurm_account": ACCOUNT}
    of_profile = {key: value for key, value in said.items() if not key.startswith("slurm_")}
    default |= {key: value for key, value in said.items() if key.startswith("slurm_")}
    profile = {"executor": "caxflow", "caxflow-system": "slurm", "default-resources": default} | of_profile
    settings = configured(tmp_path, processors={"mini_v1": {"kind": "mini", "memory_mb_per_core": memory}})
    file = tmp_path / "config.yaml"
    answer, found = submission.examine(settings, file, profile)
    assert answer.verdict == GOOD
    assert (found.about, found.verdict) == ("test submission", verdict), found
    assert words in found.said
    assert key.format(file=file) in found.mend
    assert slurm.jobs() == []


FAULTS = {
    "seconds": [],
    "fsync=EINVAL": ["syncing a file is refused (Invalid argument): a crash"],
    "fsyncdir=EBADF": ["syncing a folder is refused (Bad file descriptor): a new copy"],
    "link=EXDEV": ["a second name for a file is refused (Invalid cross-device link): two jobs"],
    "timeless": ["setting times is ignored: copies"],
    "utimens=EPERM": ["setting times is refused (Operation not permitted): copies"],
    "chmod=EPERM": ["setting modes is refused (Operation not permitted): permissions"],
    "noblocks": ["how many blocks a file takes is not told: copies"],
    "truncate=EFBIG": ["making a file longer in advance is refused (File too large): a full disk"],
    "fsync=EPERM": ["syncing a file is refused (Operation not permitted): copies there fail"],
    "fsync=EIO": ["syncing a file is refused (Input/output error): copies there fail"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_s5_what_an_odd_file_system_refuses_is_said_with_what_is_lost(tmp_path, fault):
    with oddfs.mounted(tmp_path / "seen", fault) as root:
        found, refused = folders.written(str(root))
        left = [name for name in names(root) if not name.startswith(".fuse_hidden")]
    said = list(folders.remarks("raw data here", "/data/raw", refused))
    assert found == "can be written"
    assert left == []
    hidden = [each for each in said if "removing an open file leaves .fuse_hidden" in each.said]
    assert len(hidden) == 1
    said.remove(hidden[0])
    assert len(said) == len(FAULTS[fault])
    for finding, words in zip(said, FAULTS[fault], strict=True):
        assert finding.said.startswith(f"/data/raw: {words}")
        assert finding.verdict == (BAD if "copies there fail" in words else DOUBTFUL)


def test_s5_what_a_file_system_refuses_altogether_is_one_line(tmp_path):
    refused = pytest.raises(CaxflowError, match="cannot be written: Read-only file system")
    with needs.mounted(tmp_path, "-t", "tmpfs", "-o", "ro", "none"), refused:
        folders.written(str(tmp_path))


@pytest.fixture(scope="module")
def lab(tmp_path_factory, require):
    for tool in ("sshd", "ssh", "ssh-keygen"):
        require(tool)
    with SshSites(tmp_path_factory.mktemp("lab") / "sites", ["gate"], embedded=False) as sites:
        yield sites


@pytest.fixture
def examine(lab, tmp_path):
    """Look at tegner, to which midway pushes, behind an sshd with these settings; what is found."""

    def examine(start_up="", access=(), **settings):
        command = f"sh -c '{start_up}\neval \"$SSH_ORIGINAL_COMMAND\"'".replace("\n", " ; ")
        if start_up:
            settings["ForceCommand"] = command
        configuration = configured(tmp_path)
        tegner = configuration.site("tegner")
        with OddSite(lab, "tegner", **settings) as site:
            way = {"method": "stream", "host": site.name, "ssh_config": str(site.ssh_config)}
            way |= {"python": sys.executable} | dict(access)
            tegner = dataclasses.replace(tegner, access=Access(**way))
            found = list(partners.examine(configuration, tegner))
            assert names(tmp_path / "tegner/raw") == []
        return [(one.about, one.verdict, one.said, one.mend) for one in found]

    return examine


def only(found, about):
    (one,) = [each[1:] for each in found if each[0] == about]
    return one


def test_s5_a_partner_as_it_should_be(examine):
    found = examine()
    assert {verdict for _, verdict, _, _ in found} <= {GOOD, DOUBTFUL}
    assert [said for _, verdict, said, _ in found if verdict == DOUBTFUL and "are free" not in said] == []
    assert only(found, "connections to tegner")[1] == "8 connections at the same time can be opened"
    assert "has all that is of use" in only(found, "Python at tegner")[1]
    assert only(found, "clock at tegner")[0] == GOOD


def test_s5_a_partner_that_tells_no_free_space_is_looked_at_all_the_same(examine, tmp_path):
    with oddfs.mounted(tmp_path / "tegner/raw", "untold"):
        found = examine()
    raw = [each for each in found if each[0] == "raw data at tegner"]
    assert (GOOD, f"{tmp_path}/tegner/raw can be written, its free space is not told") in [
        each[1:3] for each in raw
    ]
    assert only(found, "connections to tegner")[0] == GOOD


def test_s5_a_partner_that_takes_few_connections(examine):
    # Of those that have not logged in yet; the first two come alone.
    verdict, said, mend = only(examine(MaxStartups="2:100:2"), "connections to tegner")
    assert verdict == DOUBTFUL
    (number,) = re.findall(r"^(\d) of 8 at the same time could be opened, and no further one: ", said)
    assert f"set access.connections: {number} in the file of site tegner" in mend
    assert "MaxStartups" in mend


def test_s5_as_many_connections_are_tried_as_a_copy_opens(examine):
    found = examine(access={"connections": 2}, MaxStartups="2:100:2")
    assert only(found, "connections to tegner")[1] == "2 connections at the same time can be opened"


def test_s5_connections_of_a_site_that_has_only_sftp(examine):
    found = examine(access={"method": "scp"}, MaxStartups="100")
    assert only(found, "connections to tegner")[1] == "8 connections at the same time can be opened"


@pytest.mark.parametrize(
    ("start_up", "verdict", "said"),
    [
        (
            "echo Welcome to this site",
            DOUBTFUL,
            "print: 'Welcome to this site'; rsync, scp and sftp may fail",
        ),
        ("echo stty: not a tty >&2", DOUBTFUL, "complain: 'stty: not a tty'"),
        ("read x", BAD, "read what is meant for the program"),
        # The first login waits for its time-out.
        pytest.param("cat > /dev/null", BAD, "read what is meant for the program", marks=pytest.mark.soak),
    ],
)
def test_s5_start_up_files_that_print_or_read(examine, start_up, verdict, said):
    found = examine(start_up)
    (one,) = [one for one in found if one[1] != GOOD and "are free" not in one[2]]
    assert one[:2] == ("site tegner", verdict)
    assert said in f"{one[2]} {one[3]}"
    assert "~/.bashrc" in one[3]


def test_s5_a_python_that_lacks_something(examine, tmp_path):
    found = examine(access={"python": pythons.without_xxhash(tmp_path)})
    verdict, said, mend = only(found, "Python at tegner")
    assert verdict == DOUBTFUL
    assert "no xxhash: both ends use sha256, which is slower" in said
    assert "-m pip install --user xxhash" in mend


def test_s5_a_far_folder_without_locks(examine, tmp_path):
    found = examine(access={"python": pythons.without_locks(tmp_path)})
    said = [one[2] for one in found if one[0] == "raw data at tegner" and one[1] == DOUBTFUL]
    refused = f"{tmp_path}/tegner/raw: locking a file is refused (No locks available): two that write there"
    assert [one for one in said if one.startswith(refused)]
