"""What happens to transfers when something breaks, and that the next attempt goes on from there."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from caxflow.demo.sshd import SshSites
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.transfer import Place, copy
from lab import links
from lab.copying import Copying

HERE = Place("here")
SIZE = 30_000_000
SLOW = 25e6  # bytes/s


@pytest.fixture(scope="module")
def lab(tmp_path_factory, require):
    require("sshd")
    require("ssh")
    with SshSites(tmp_path_factory.mktemp("lab") / "sites", ["far", "other"], embedded=False) as sites:
        yield sites


@pytest.fixture
def far(lab):
    def place(name="far", **options):
        return Place(name, "stream", host=name, ssh_config=str(lab.ssh_config), **options)

    return place


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(SIZE // 2))
    for number in range(10):
        (folder / "sub" / f"{number}.zip").write_bytes(os.urandom(SIZE // 20))
    (folder / "none").touch()
    return folder


WAYS = {
    "push": lambda far, **options: (HERE, far(**options)),
    "pull": lambda far, **options: (far(**options), HERE),
    "relay": lambda far, **options: (far(**options), far("other", **options)),
}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def helpers(site) -> list[int]:
    """Processes that are helpers, below a site's server."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, below = [], [site.server.pid]
    while below:
        below = [child for parent in below for child in children.get(parent, [])]
        for pid in below:
            try:
                if b"zlib.decompress" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def finish(dataset, source, destination, out, *, most=SIZE) -> None:
    """The next attempt sends at most that much, ends with an identical dataset and leaves nothing else."""
    expected = take(dataset)
    copied = copy(source, dataset, destination, out / "copy", expected=expected)
    assert copied.manifest == take(out / "copy") == expected
    assert names(out) == ["copy"]
    assert copied.sent <= most


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_killed_here(far, dataset, out, way):
    ends = WAYS[way](far, bandwidth=SLOW)
    copying = Copying(ends[0], dataset, ends[1], out / "copy")
    copying.wait_for(SIZE // 2)
    copying.kill()
    assert names(out) == [".copy.part-caxflow"]
    finish(dataset, *WAYS[way](far), out, most=SIZE * 2 // 3)


@pytest.mark.parametrize("way", WAYS)
def test_helper_killed(lab, far, dataset, out, way):
    ends = WAYS[way](far, bandwidth=SLOW)
    copying = Copying(ends[0], dataset, ends[1], out / "copy")
    copying.wait_for(SIZE // 2)
    victims = helpers(lab["other" if way == "relay" else "far"])
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    error = copying.end()["error"]
    assert "broke -> start again" in error
    assert names(out) == [".copy.part-caxflow"]
    finish(dataset, *WAYS[way](far), out, most=SIZE * 2 // 3)


@pytest.mark.parametrize("way", ["push", "pull"])
def test_server_restarted(lab, far, dataset, out, way):
    ends = WAYS[way](far, bandwidth=SLOW)
    copying = Copying(ends[0], dataset, ends[1], out / "copy")
    copying.wait_for(SIZE // 2)
    lab["far"].kill()
    assert "far: the connection to far broke" in copying.end()["error"]
    with pytest.raises(CaxflowError, match="far: far cannot be reached"):
        copy(*(ends[0], dataset, ends[1], out / "copy"))
    lab["far"].start()
    finish(dataset, *WAYS[way](far), out, most=SIZE * 2 // 3)


@pytest.mark.parametrize("way", ["push", "pull"])
def test_helper_that_stops_is_given_up(lab, far, dataset, out, way):
    source, destination = WAYS[way](far, bandwidth=SLOW, timeout=2)
    copying = Copying(source, dataset, destination, out / "copy")
    copying.wait_for(SIZE // 3)
    stopped = helpers(lab["far"])
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    assert "no progress for 2 s" in copying.end()["error"]
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    finish(dataset, *WAYS[way](far), out, most=SIZE * 3 // 4)


def test_helpers_end_with_their_connection(lab, far, dataset, out):
    copying = Copying(HERE, dataset, far(bandwidth=SLOW), out / "copy")
    copying.wait_for(SIZE // 3)
    assert helpers(lab["far"])
    copying.kill()
    deadline = time.monotonic() + 10
    while helpers(lab["far"]):
        assert time.monotonic() < deadline, "a helper outlives its connection"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def link(lab, tmp_path_factory):
    reason = links.why_not()
    if reason:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no link: {reason}")
    with (
        links.Link(rate=400, round_trip=20) as link,
        links.FarSite(link, lab, "far", tmp_path_factory.mktemp("link")) as site,
    ):
        yield link, site


@pytest.mark.parametrize("client", ["openssh", "paramiko"])
@pytest.mark.parametrize("way", ["push", "pull"])
def test_link_cut(link, dataset, out, way, client):
    link, site = link

    def far(**options):
        return Place("far", "stream", host="far", ssh_config=str(site.ssh_config), client=client, **options)

    inside = link.inside(link.near)
    source, destination = WAYS[way](far, bandwidth=SLOW, timeout=3)
    copying = Copying(source, dataset, destination, out / "copy", prefix=inside)
    copying.wait_for(SIZE // 2)
    link.cut()
    error = copying.end()["error"]
    link.mend()
    assert "no progress for 3 s" in error or "broke -> start again" in error
    assert names(out) == [".copy.part-caxflow"]
    source, destination = WAYS[way](far)
    ended = Copying(source, dataset, destination, out / "copy", prefix=inside).end()
    assert ended.get("copied") == take(dataset).digest == take(out / "copy").digest, ended
    assert ended["sent"] <= SIZE * 2 // 3
    assert names(out) == ["copy"]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE + 4_000_000}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("way", WAYS)
def test_disk_that_fills(far, dataset, small_disk, way):
    site = {"push": "far", "pull": "here", "relay": "other"}[way]
    filler = small_disk / "filler"
    filler.write_bytes(bytes(8_000_000))
    with pytest.raises(CaxflowError, match=rf"{site}: no space for .*/copy: 0\.030 GB to come"):
        copy(*_args(WAYS[way](far), dataset, small_disk))
    assert names(small_disk) == ["filler"]
    filler.unlink()
    copying = Copying(*_args(WAYS[way](far, bandwidth=SLOW), dataset, small_disk))
    copying.wait_for(SIZE // 3)
    filler.write_bytes(bytes(10_000_000))
    error = copying.end()["error"]
    assert f"{site}: " in error
    assert "No space left on device -> free space there" in error
    filler.unlink()
    finish(dataset, *WAYS[way](far), small_disk, most=SIZE * 4 // 5)


def _args(ends, dataset, folder):
    return ends[0], dataset, ends[1], folder / "copy"


@pytest.mark.parametrize("way", WAYS)
def test_corrupt_partial_files_are_sent_again(far, dataset, out, way):
    ends = WAYS[way](far, bandwidth=SLOW)
    copying = Copying(*_args(ends, dataset, out))
    copying.wait_for(SIZE * 2 // 3)
    copying.kill()
    data = out / ".copy.part-caxflow" / "data"
    for file in (data / "large", *(data / "sub").iterdir()):
        if file.stat().st_size:
            with file.open("r+b") as opened:
                opened.seek(random.randrange(file.stat().st_size))
                byte = opened.read(1)
                opened.seek(-1, os.SEEK_CUR)
                opened.write(bytes([byte[0] ^ 4]))
    (data / "sub" / "0.zip").write_bytes((dataset / "sub" / "0.zip").read_bytes() + b"longer")
    (data / "stray").write_bytes(b"stray")
    finish(dataset, *WAYS[way](far), out)


CHANGES = {
    "grow": lambda file: file.open("ab").write(b"x"),
    "shrink": lambda file: os.truncate(file, 1000),
    "rewrite": lambda file: file.write_bytes(os.urandom(file.stat().st_size)),
    "vanish": lambda file: file.unlink(),
    "link": lambda file: (file.unlink(), file.symlink_to("/etc/passwd")),
    "pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "directory": lambda file: (file.unlink(), file.mkdir()),
    "add": lambda file: (file.parent / "added").write_bytes(b"x"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", WAYS)
def test_source_that_changes(far, dataset, out, way, change):
    """Both for a file that was read already and for one that was not: the copy fails and names it."""
    copying = Copying(*_args(WAYS[way](far, bandwidth=SLOW), dataset, out))
    copying.wait_for(SIZE // 4)
    changed = dataset / "sub" / random.choice(["0.zip", "9.zip"])
    CHANGES[change](changed)
    error = copying.end().get("error", "")
    assert ("added" if change == "add" else changed.name) in error
    assert names(out) in ([".copy.part-caxflow"], [])
    if change in ("link", "pipe", "directory"):
        changed.rmdir() if change == "directory" else changed.unlink()
        changed.write_bytes(b"new")
    finish(dataset, *WAYS[way](far), out)


def test_unreadable_file_is_named(far, dataset, out):
    """Root may read everything, so the file is one that gives an error to everybody."""
    (dataset / "sub" / "0.zip").unlink()
    target = dataset / "sub" / "0.zip"
    target.touch()
    mount = ["mount", "--bind", "/proc/self/mem", str(target)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("may not mount")
    try:
        for way in ("push", "pull"):
            with pytest.raises(CaxflowError, match=r"0\.zip"):
                copy(*_args(WAYS[way](far), dataset, out))
            assert "copy" not in names(out)
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_two_at_once(far, dataset, out):
    """One makes the copy, the other waits for it and takes it over."""
    both = [Copying(*_args(WAYS[way](far, bandwidth=SLOW), dataset, out)) for way in ("push", "pull")]
    ended = [each.end() for each in both]
    assert {each.get("copied") for each in ended} == {take(dataset).digest}, ended
    assert sorted(each["adopted"] for each in ended) == [False, True]
    assert names(out) == ["copy"]


@pytest.mark.parametrize("way", ["push", "pull"])
def test_servers_that_limit_logins(far, dataset, out, way, tmp_path):
    """Further connections that are refused, or hang, cost no more than their share of the speed."""
    gate = tmp_path / "gate"
    gate.write_text(f'#!/bin/sh\nmkdir {tmp_path}/first 2>/dev/null || exit 9\nexec python3 "$@"\n')
    gate.chmod(0o755)
    ends = WAYS[way](far, connections=4, python=str(gate))
    copied = copy(*_args(ends, dataset, out))
    assert copied.connections == 1
    assert take(out / "copy") == take(dataset)
    slow = far(connections=4, bandwidth=SLOW)
    assert copy(HERE, dataset, slow, out / "copy2").connections > 1


@pytest.mark.soak
def test_random_faults(lab, far, dataset, out, request):
    """Faults at random moments: byte identity, no stray, no lie; CAXFLOW_SOAK_ROUNDS of them."""
    seed = int(os.environ.get("CAXFLOW_SOAK_SEED", time.time_ns() % 1_000_000))
    chance = random.Random(seed)
    expected = take(dataset)
    for turn in range(int(os.environ.get("CAXFLOW_SOAK_ROUNDS", "30"))):
        way = chance.choice(list(WAYS))
        fault = chance.choice(["here", "helper", "server", "flip", "none"])
        where = f"seed {seed}, round {turn}: {way}, {fault}"
        copying = Copying(*_args(WAYS[way](far, bandwidth=60e6), dataset, out))
        time.sleep(chance.uniform(0, 1.2))
        if fault == "here":
            copying.process.kill()
        elif fault == "helper":
            for pid in helpers(lab["other" if way == "relay" else "far"])[:1]:
                os.kill(pid, signal.SIGKILL)
        elif fault == "server":
            lab["far"].kill()
        ended = copying.end()
        if fault == "server":
            lab["far"].start()
        if ended.get("copied"):
            assert ended["copied"] == expected.digest, where
        if (out / "copy").exists():
            assert take(out / "copy") == expected, where
            assert names(out) in (["copy"], [".copy.part-caxflow", "copy"]), where
            shutil.rmtree(out / "copy")
        elif fault == "flip":
            for file in (out / ".copy.part-caxflow" / "data").rglob("*.zip"):
                file.write_bytes(os.urandom(file.stat().st_size))
    shutil.rmtree(out / "copy", ignore_errors=True)
    finish(dataset, *WAYS["push"](far), out)
