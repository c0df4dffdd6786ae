"""Ends without a helper: who may write where nothing can be locked, and servers that misbehave."""

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import needs
from caxflow.demo.sshd import SshSites
from caxflow.errors import CaxflowError
from caxflow.transfer import Place, copy
from caxflow.transfer.protocol import FdChannel
from caxflow.transfer.sftp_client import CREATE, WRITE, SftpClient
from caxflow.transfer.sftp_part import Beacon, SftpPart
from lab.logins import OddSite, sftp_server

NONE = -2  # no time at all
FOREIGN = "0123456789abcdef another-boot/4026531840 process 1 on elsewhere\n"


@contextmanager
def connected(*options):
    """An SFTP session with this machine, without SSH."""
    server = subprocess.Popen(
        [sftp_server(), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    try:
        client = SftpClient(FdChannel(server.stdout.fileno(), server.stdin.fileno()))
        client.greet()
        yield client
    finally:
        server.stdin.close()
        server.wait()
        server.stdout.close()


@pytest.fixture
def client(require):
    require("sshd")
    with connected() as found:
        yield found


@pytest.fixture
def destination(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw" / "copy"


def begin(client, destination, token: str, wait: float = 0):
    part = SftpPart(client, str(destination), token)
    return part, part.begin(wait, alive=lambda: None)


def left_by(client, destination, token="aa"):
    """An attempt that brought a file and was killed, as far as anybody can tell."""
    part, exists = begin(client, destination, token)
    assert exists is None
    (destination.parent / f".copy.part-{token}-caxflow" / "data" / "file").write_bytes(b"content")
    part._presence.close()
    return part


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_dead_attempt_left_is_taken_over(client, destination):
    left_by(client, destination)
    part, _ = begin(client, destination, "bb")
    assert names(destination.parent) == [".copy.part-bb-caxflow"]
    assert part.keep_only({"file": 7, "other": 1}, ["sub"]) == [("file", 7)]
    assert names(destination.parent / ".copy.part-bb-caxflow" / "data") == ["file", "sub"]
    part.let_go(client)
    part, _ = begin(client, destination, "aa")  # one that let go does not live, though its process does
    assert part.keep_only({"file": 6}, []) == []
    part.publish([], single=False)
    assert names(destination.parent) == ["copy"]
    assert begin(client, destination, "cc")[1] == "directory"
    assert names(destination.parent) == ["copy"]


def test_who_lives_is_waited_for(client, destination):
    part, _ = begin(client, destination, "bb")
    for token in ("aa", "cc"):  # whatever order the names are in
        with pytest.raises(
            CaxflowError, match=f"being written by another transfer .process {os.getpid()} on"
        ):
            begin(client, destination, token, wait=NONE)
    assert names(destination.parent) == [".copy.part-bb-caxflow"]
    part.let_go(client)
    assert names(destination.parent) == []


def left_elsewhere(client, destination, age: float):
    """An attempt of another machine that touched something so many seconds ago."""
    left_by(client, destination)
    container = destination.parent / ".copy.part-aa-caxflow"
    (container / "owner").write_text(FOREIGN)
    for path in (container, *container.rglob("*")):
        os.utime(path, (1, 1))
    Beacon(client, f"{container}/data")()
    os.utime(container / "alive", (time.time() - age,) * 2)


def test_an_attempt_of_another_machine_is_over_when_it_is_quiet(client, destination):
    left_elsewhere(client, destination, age=1000)
    part, exists = begin(client, destination, "bb", wait=900)
    assert exists is None
    assert part.keep_only({"file": 7}, []) == [("file", 7)]
    part.let_go(client)


def test_an_attempt_of_another_machine_that_shows_life_is_left_alone(client, destination):
    left_elsewhere(client, destination, age=-1000)
    with pytest.raises(CaxflowError, match=r"by another transfer .process 1 on elsewhere"):
        begin(client, destination, "bb", wait=NONE)
    assert names(destination.parent) == [".copy.part-aa-caxflow"]


def test_of_many_at_once_one_begins(destination, require):
    require("sshd")
    for turn in range(8):
        won, lost = [], []
        together = threading.Barrier(4)

        def attempt(token, together=together, won=won, lost=lost):
            with connected() as client:
                together.wait()
                try:
                    won.append(begin(client, destination, token, wait=NONE)[0])
                except CaxflowError as error:
                    lost.append(error)
                together.wait()
                for part in won:
                    if part._client is client:
                        part.let_go(client)

        threads = [threading.Thread(target=attempt, args=(f"{turn}{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) <= 1
        assert len(won) + len(lost) == 4
        assert names(destination.parent) == []


@pytest.fixture(scope="module")
def lab(tmp_path_factory, require):
    require("sshd")
    require("ssh")
    with SshSites(tmp_path_factory.mktemp("lab") / "sites", [], embedded=False) as sites:
        yield sites


@contextmanager
def misbehaving(lab, folder: Path, behaviour: str):
    """A site with such an SFTP server."""
    program = folder / "programs" / behaviour
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{Path(__file__).with_name('hostile_sftp.py').read_text()}")
    program.chmod(0o755)
    with OddSite(lab, "odd", Subsystem=f"sftp {program}") as site:
        yield site


HOSTILE = {
    "climbs": "file name .* may not be used",
    "absolute": "file name .* may not be used",
    "dots": "file name .* may not be used",
    "odd": "file name .* may not be used",
    "link": "is neither file nor directory",
    "many": "broke",
    "cut": "broke",
    "huge": "broke",
    "more": "broke",
    "unasked": "broke",
    "less": "became shorter while it was read",
    "changes": "read a second time it is not the same",
    "noisy": "odd begins no SFTP .*prints 131072 bytes",
}


@pytest.mark.parametrize("behaviour", HOSTILE)
def test_hostile_server(lab, tmp_path, behaviour):
    """Whatever it says, nothing is written outside the copy and nothing is published."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    with misbehaving(lab, tmp_path, behaviour) as site, pytest.raises(CaxflowError) as caught:
        copy(site.place("scp", connections=1), "/data", Place("here"), tmp_path / "a" / "b" / "copy")
    assert str(caught.value).isprintable()
    caught.match(f"odd: .*{HOSTILE[behaviour]}")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} - {
        "programs", f"programs/{behaviour}", "a", "a/b", "a/b/.copy.part-caxflow",
        "a/b/.copy.part-caxflow/lock", "a/b/.copy.part-caxflow/data", "a/b/.copy.part-caxflow/data/file",
    }  # fmt: skip
    assert found == set()
    assert not Path("/tmp/climbed").exists()


def test_times_that_sftp_has_no_word_for(lab, tmp_path):
    (tmp_path / "data").mkdir()
    times = {"long ago": -7, "now": 10**9, "far ahead": 1 << 33}
    for name, seconds in times.items():
        (tmp_path / "data" / name).touch()
        os.utime(tmp_path / "data" / name, (seconds, seconds))
    with OddSite(lab, "odd") as site:
        copy(Place("here"), tmp_path / "data", site.place("scp"), tmp_path / "copy")
    found = {name: (tmp_path / "copy" / name).stat().st_mtime for name in times}
    assert found == {"long ago": 0, "now": 10**9, "far ahead": 0xFFFFFFFF}


def test_mute_server_is_given_up(lab, tmp_path):
    given_up = r"odd and here: no progress for 2 s \(at odd, the answer of .*\) -> check the link"
    with misbehaving(lab, tmp_path, "mute") as site, pytest.raises(CaxflowError, match=given_up):
        copy(site.place("scp", timeout=2), "/data", Place("here"), tmp_path / "copy")


def test_h3_others_may_write_to_nothing_that_is_made_whatever_the_server_lets_them(destination, require):
    require("sshd")
    with connected("-u", "000") as client:
        part, exists = begin(client, destination, "aa")
        assert exists is None
        part.keep_only({"a": 1}, ["sub"])
        handle = client.open(f"{part.data}/sub/a", WRITE | CREATE)
        client.write(handle, 0, [b"a"])
        client.close(handle)
        part.close()
    made = [destination.parent / f".{destination.name}.part-aa-caxflow", *destination.parent.rglob("*/*")]
    assert len(made) > 4
    assert [path for path in made if path.stat().st_mode & 0o022] == []


@pytest.mark.parametrize("how", ["of another account", "writable"])
def test_h7_a_growing_copy_of_others_is_neither_continued_nor_waited_for(client, destination, how):
    theirs = destination.parent / f".{destination.name}.part-0bad-caxflow"
    (theirs / "data").mkdir(parents=True)
    (theirs / "data/a").write_text("theirs")
    (theirs / "owner").write_text(FOREIGN)
    (theirs / "alive").touch()
    if how == "writable":
        theirs.chmod(0o777)
    else:
        needs.root()
        os.chown(theirs, 65534, 65534)
    part, exists = begin(client, destination, "aa")
    assert exists is None
    assert part.keep_only({"a": 6}, []) == []
    part.let_go(client)
    assert (theirs / "data/a").read_text() == "theirs"
