"""What happens to transfers when something breaks, and that the next attempt goes on from there."""

import os
import random
import re
import signal
import subprocess
from pathlib import Path

import pytest

import garbage
import needs
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.transfer import Place, copy
from lab import links, pythons
from lab.copying import Copying
from lab.processes import helpers
from waiting import until

HERE = Place("here")
SIZE = 30_000_000
# By itself a copy would have more connections on a machine that is busy just now, whose round trips take
# long, and each of them loses what is on its way.
SLOW = {"bandwidth": 25e6, "connections": 1}


@pytest.fixture
def far(lab):
    def place(name="far", method="stream", **options):
        return Place(name, method, host=name, ssh_config=str(lab.ssh_config), **options)

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
    "scp-push": lambda far, **options: (HERE, far(method="scp", **options)),
    "scp-pull": lambda far, **options: (far(method="scp", **options), HERE),
}


def moment(way: str) -> tuple[int, int]:
    """Bytes after which to break a transfer, and how many the next attempt may send at most.

    What is on its way is lost, and a block of each file that has begun.
    """
    return (SIZE * 2 // 3, SIZE * 4 // 5) if "scp" in way else (SIZE // 2, SIZE * 2 // 3)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def only_partial(folder) -> Path:
    """The one hidden folder in which a copy has grown."""
    (name,) = names(folder)
    assert re.fullmatch(r"\.copy\.part-([0-9a-f]{16}-)?caxflow", name)
    return folder / name


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
    ends = WAYS[way](far, **SLOW)
    sent, most = moment(way)
    copying = Copying(ends[0], dataset, ends[1], out / "copy", pause=sent)
    copying.kill()
    only_partial(out)
    finish(dataset, *WAYS[way](far), out, most=most)


def test_relay_between_sites_without_xxhash_goes_on(far, dataset, out, tmp_path):
    """Files that are there already the source sends once more, but only to here, to take their digests."""
    options = {"python": pythons.without_xxhash(tmp_path)}
    copying = Copying(*_args(WAYS["relay"](far, **SLOW, **options), dataset, out), pause=SIZE * 2 // 3)
    copying.kill()
    source, destination = WAYS["relay"](far, **options)
    expected = take(dataset)
    copied = copy(source, dataset, destination, out / "copy", expected=expected)
    assert copied.manifests["xxh128"] == take(out / "copy") == expected
    assert copied.manifest.algorithm == "sha256"
    assert copied.sent <= SIZE * 2 // 3
    assert names(out) == ["copy"]


@pytest.mark.parametrize("way", WAYS)
def test_helper_killed(lab, far, dataset, out, way):
    ends = WAYS[way](far, **SLOW)
    sent, most = moment(way)
    copying = Copying(ends[0], dataset, ends[1], out / "copy", pause=sent)
    victims = helpers(lab["other" if way == "relay" else "far"].server.pid)
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    error = copying.end()["error"]
    assert re.search(r" broke( \(.+\))? -> start again", error)
    only_partial(out)
    finish(dataset, *WAYS[way](far), out, most=most)


@pytest.mark.parametrize("way", ["push", "pull", "scp-push", "scp-pull"])
def test_server_restarted(lab, far, dataset, out, way):
    ends = WAYS[way](far, **SLOW)
    sent, most = moment(way)
    copying = Copying(ends[0], dataset, ends[1], out / "copy", pause=sent)
    lab["far"].kill()
    assert "far: the connection to far broke" in copying.end()["error"]
    with pytest.raises(CaxflowError, match="far: far cannot be reached"):
        copy(*(ends[0], dataset, ends[1], out / "copy"))
    lab["far"].start()
    garbage.SERVICES.add(lab["far"].server._keeper.pid)
    finish(dataset, *WAYS[way](far), out, most=most)


@pytest.mark.parametrize("way", ["push", "pull"])
def test_helper_that_stops_is_given_up(lab, far, dataset, out, way):
    source, destination = WAYS[way](far, **SLOW, timeout=2)
    copying = Copying(source, dataset, destination, out / "copy", pause=SIZE // 3)
    stopped = helpers(lab["far"].server.pid)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    assert "no progress for 2 s" in copying.end()["error"]
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    finish(dataset, *WAYS[way](far), out, most=SIZE * 3 // 4)


def test_helpers_end_with_their_connection(lab, far, dataset, out):
    copying = Copying(HERE, dataset, far(**SLOW), out / "copy", pause=SIZE // 3)
    assert helpers(lab["far"].server.pid)
    copying.kill()
    until(lambda: not helpers(lab["far"].server.pid), "the end of helpers without a connection", 120)


@pytest.fixture(scope="module")
def link(lab, tmp_path_factory):
    needs.link()
    with (
        links.Link(rate=400, round_trip=20) as link,
        links.FarSite(link, lab, "far", tmp_path_factory.mktemp("link")) as site,
    ):
        yield link, site


CUT = [
    *((way, client) for way in ("push", "pull") for client in ("openssh", "paramiko")),
    ("scp-push", "openssh"),
]


@pytest.mark.parametrize(("way", "client"), CUT)
def test_link_cut(link, dataset, out, way, client):
    link, site = link

    def far(method="stream", **options):
        return Place("far", method, host="far", ssh_config=str(site.ssh_config), client=client, **options)

    inside = link.inside(link.near)
    source, destination = WAYS[way](far, **SLOW, timeout=3)
    sent, most = moment(way)
    copying = Copying(source, dataset, destination, out / "copy", prefix=inside, pause=sent)
    link.cut()
    error = copying.end()["error"]
    link.mend()
    assert "no progress for 3 s" in error or re.search(r" broke( \(.+\))? -> start again", error)
    only_partial(out)
    source, destination = WAYS[way](far)
    ended = Copying(source, dataset, destination, out / "copy", prefix=inside).end()
    assert ended.get("copied") == take(dataset).digest == take(out / "copy").digest, ended
    assert ended["sent"] <= most
    assert names(out) == ["copy"]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    with needs.mounted(folder, "-t", "tmpfs", "-o", f"size={SIZE + 4_000_000}", "tmpfs"):
        yield folder


@pytest.mark.parametrize("way", WAYS)
def test_disk_that_fills(far, dataset, small_disk, way):
    site = "other" if way == "relay" else "here" if way.endswith("pull") else "far"
    filler = small_disk / "filler"
    filler.write_bytes(bytes(8_000_000))
    with pytest.raises(CaxflowError, match=rf"{site}: no space for .*/copy: 0\.030 GB to come"):
        copy(*_args(WAYS[way](far), dataset, small_disk))
    assert names(small_disk) == ["filler"]
    filler.unlink()
    copying = Copying(*_args(WAYS[way](far, **SLOW), dataset, small_disk), pause=SIZE // 3)
    filler.write_bytes(bytes(10_000_000))
    error = copying.end()["error"]
    assert f"{site}: " in error
    assert "No space left on device -> free space there" in error
    filler.unlink()
    finish(dataset, *WAYS[way](far), small_disk, most=SIZE * 9 // 10)


def remount(disk, option) -> None:
    """Give it another option, as soon as the far end of an earlier copy has let go of it."""
    command = ["mount", "-o", f"remount,{option}", str(disk)]
    until(lambda: not subprocess.run(command, check=False).returncode, " ".join(command), 120)


@pytest.mark.parametrize("way", ["push", "pull", "scp-push"])
def test_disks_that_take_no_more_files_or_nothing_at_all(far, tmp_path, small_disk, way):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(20):
        (many / f"XENON1T-{number}.zip").write_bytes(b"zip")
    for option, cause in (
        ("nr_inodes=15", r"/.copy.part-\S*caxflow\S*: No space left on device -> .*files, see df -i"),
        ("ro", r"/.copy.part-\S*caxflow\S*: Read-only file system -> the file system is mounted read-only"),
    ):
        remount(small_disk, option)
        with pytest.raises(CaxflowError, match=f"^(far|here): {small_disk}{cause}"):
            copy(*_args(WAYS[way](far), many, small_disk))
        assert not (small_disk / "copy").exists()


def _args(ends, dataset, folder):
    return ends[0], dataset, ends[1], folder / "copy"


@pytest.mark.parametrize("way", WAYS)
def test_corrupt_partial_files_are_sent_again(far, dataset, out, way):
    ends = WAYS[way](far, **SLOW)
    copying = Copying(*_args(ends, dataset, out), pause=SIZE * 2 // 3)
    copying.kill()
    data = only_partial(out) / "data"
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


CHANGED = [(way, change) for way in ("push", "pull", "relay") for change in CHANGES]
CHANGED += [("scp-push", "rewrite"), ("scp-push", "vanish"), ("scp-pull", "shrink"), ("scp-pull", "pipe")]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("way", "change"), CHANGED)
def test_source_that_changes(far, dataset, out, way, change):
    """Both for a file that was read already and for one that was not: the copy fails and names it."""
    copying = Copying(*_args(WAYS[way](far, **SLOW), dataset, out), pause=SIZE // 4)
    changed = dataset / "sub" / random.choice(["0.zip", "9.zip"])
    CHANGES[change](changed)
    error = copying.end().get("error", "")
    assert ("added" if change == "add" else changed.name) in error
    assert not re.match(r"\w+: (here|far|other): ", error), error
    if names(out):
        only_partial(out)
    if change in ("link", "pipe", "directory"):
        changed.rmdir() if change == "directory" else changed.unlink()
        changed.write_bytes(b"new")
    finish(dataset, *WAYS[way](far), out)


@pytest.mark.parametrize("way", ["push", "scp-push"])
def test_a_data_root_is_never_made(far, dataset, out, way):
    """Its file system may not be mounted, and the copy would fill the one below."""
    root = out / "raw"
    with pytest.raises(CaxflowError, match=r"far: .*/raw, which is to hold the data, does not exist"):
        copy(*_args(WAYS[way](far), dataset, root), root=str(root))
    assert names(out) == []


def test_unreadable_file_is_named(far, dataset, out):
    """Root may read everything, so the file is one that gives an error to everybody."""
    (dataset / "sub" / "0.zip").unlink()
    target = dataset / "sub" / "0.zip"
    target.touch()
    with needs.mounted(target, "--bind", "/proc/self/mem"):
        for way in ("push", "pull"):
            with pytest.raises(CaxflowError, match=r"0\.zip"):
                copy(*_args(WAYS[way](far), dataset, out))
            assert "copy" not in names(out)


@pytest.mark.parametrize("ways", [("push", "pull"), ("scp-push", "scp-push")], ids=str)
def test_two_at_once(far, dataset, out, ways):
    """One makes the copy, the other waits for it and takes it over."""
    both = [Copying(*_args(WAYS[way](far, **SLOW), dataset, out)) for way in ways]
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
    slow = far(bandwidth=6e6, connections=4)
    assert copy(HERE, dataset, slow, out / "copy2").connections > 1
