"""Transfers over real SSH servers: every way and client, refusals, hostile names and far ends."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from caxflow import transfer
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.simulate import simulate_run
from caxflow.transfer import Place, copy, plan
from caxflow.transfer.task import Visit, attend
from copies import mark
from lab import pythons
from lab.logins import OddSite

HERE = Place("here")
NAMES = [
    b"plain.zip",
    b"with space",
    b"line\nbreak",
    b"quote'\"`",
    b"$(touch pwned);&|<>*?",
    b"\xff\xfe not utf-8",
    b"-rf",
    b"--option=x",
    b"~root",
    b".hidden",
    b"#comment",
    b"back\\slash",
    "größe".encode(),
    b"x" * 255,
    b"\x1b[31mred",
]


@pytest.fixture
def far(lab):
    def place(name="far", method="stream", **options):
        return Place(name, method, host=name, ssh_config=str(lab.ssh_config), **options)

    return place


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "160315_1432"
    (folder / "sub" / "empty").mkdir(parents=True)
    for number in range(6):
        (folder / f"XENON1T-{number}.zip").write_bytes(os.urandom(1_500_000))
    (folder / "large").write_bytes(os.urandom(40_000_000))
    (folder / "none").touch()
    (folder / "sub" / "small").write_bytes(b"small")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


WAYS = {
    "push": lambda far, **options: (HERE, far(**options)),
    "pull": lambda far, **options: (far(**options), HERE),
    "relay": lambda far, **options: (far(**options), far("other", **options)),
    "scp-push": lambda far, **options: (HERE, far(method="scp", **options)),
    "scp-pull": lambda far, **options: (far(method="scp", **options), HERE),
    "scp-relay": lambda far, **options: (far(method="scp", **options), far("other", "scp", **options)),
    "scp to stream": lambda far, **options: (far(method="scp", **options), far("other", **options)),
    "stream to scp": lambda far, **options: (far(**options), far("other", "scp", **options)),
}


EVERY = [(way, client) for way in WAYS for client in ("auto", "paramiko")]


@pytest.mark.parametrize(("way", "client"), EVERY)
def test_every_way(far, dataset, tmp_path, way, client, require):
    source, destination = WAYS[way](far, client=client)
    expected = take(dataset)
    states = []
    copied = copy(source, dataset, destination, tmp_path / "copy", expected=expected, progress=states.append)
    assert copied.manifest == take(tmp_path / "copy") == expected
    assert (tmp_path / "copy" / "sub" / "empty").is_dir()
    assert names(tmp_path) == ["copy"]
    assert (copied.sent, copied.size, copied.adopted) == (expected.size, expected.size, False)
    assert copied.method == way if " to " not in way else copied.method == "scp-relay"
    assert "aes" in copied.cipher
    assert states[-1].total == expected.size
    # By a program that shares nothing with ours.
    rsync = [require("rsync"), "-rnci", "--delete", f"{dataset}/", f"{tmp_path}/copy/"]
    assert subprocess.run(rsync, capture_output=True, text=True, check=True).stdout == ""
    again = copy(source, dataset, destination, tmp_path / "copy")
    assert (again.adopted, again.sent, again.manifest) == (True, 0, expected)
    (tmp_path / "copy" / "none").write_bytes(b"x")
    with pytest.raises(CaxflowError, match=r"exists already and differs .*: none has 1 bytes instead of 0"):
        copy(source, dataset, destination, tmp_path / "copy")


@pytest.mark.parametrize("xxhash", [True, False], ids=["xxhash", "none"])
def test_one_file_of_a_relay_goes_in_parts(far, dataset, tmp_path, xxhash, monkeypatch):
    """Where the source can take all digests: what passed here in parts, both ends read once more."""
    options = {"connections": 3} | ({} if xxhash else {"python": pythons.without_xxhash(tmp_path)})
    source, destination = far(**options), far("other", **options)
    expected = take(dataset / "large")
    planned = []
    pieces = plan.pieces
    monkeypatch.setattr(plan, "pieces", lambda *given: planned.extend(pieces(*given)) or planned[:])
    copied = copy(source, dataset / "large", destination, tmp_path / "copy", expected=expected)
    assert len(planned) > 2 if xxhash else len(planned) == 1
    assert copied.manifests["xxh128"] == expected
    assert (tmp_path / "copy").read_bytes() == (dataset / "large").read_bytes()
    assert copied.sent == expected.size


@pytest.mark.parametrize("way", ["push", "pull", "relay", "scp-push", "scp-pull"])
def test_single_file(far, dataset, tmp_path, way):
    source, destination = WAYS[way](far)
    copied = copy(
        source, dataset / "large", destination, tmp_path / "renamed", expected=take(dataset / "large")
    )
    assert (tmp_path / "renamed").read_bytes() == (dataset / "large").read_bytes()
    assert copied.manifest == take(dataset / "large")
    assert names(tmp_path) == ["renamed"]


def make_odd(folder, odd):
    folder.mkdir()
    for number, name in enumerate(odd):
        (folder / os.fsdecode(name)).write_bytes(b"content %d" % number)


@pytest.mark.parametrize("way", ["push", "pull", "relay", "scp-push", "scp-pull"])
def test_odd_names(far, tmp_path, way):
    make_odd(tmp_path / "source dir $(x)", NAMES)
    (tmp_path / "out").mkdir()
    source, destination = WAYS[way](far)
    target = tmp_path / "out" / "-target 'dir'\n"
    copy(source, tmp_path / "source dir $(x)", destination, target)
    assert take(target) == take(tmp_path / "source dir $(x)")
    assert names(target) == sorted(map(os.fsdecode, NAMES))
    assert names(tmp_path) == ["out", "source dir $(x)"]
    assert names(tmp_path / "out") == ["-target 'dir'\n"]


def test_what_is_no_file_is_refused_over_there_too(far, tmp_path):
    odd = [
        (lambda path: path.symlink_to("/etc/passwd"), "symbolic link"),
        (lambda path: path.symlink_to(path), "symbolic link"),
        (os.mkfifo, "named pipe"),
    ]
    if os.geteuid() == 0:
        odd.append((lambda path: os.mknod(path, 0o20600, os.makedev(1, 5)), "character device"))
    for make, kind in odd:
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "file").write_bytes(b"x")
        make(tmp_path / "source" / "odd")
        for method, text in (("stream", f"odd is a {kind}"), ("scp", "odd is neither file nor directory")):
            with pytest.raises(CaxflowError, match=f"far: .*{text}"):
                copy(far(method=method), tmp_path / "source", HERE, tmp_path / "copy")
        (tmp_path / "source" / "odd").unlink()
        (tmp_path / "source" / "file").unlink()
        (tmp_path / "source").rmdir()
    assert names(tmp_path) == []


@pytest.mark.parametrize("way", ["push", "pull", "relay"])
def test_sha256_where_there_is_no_xxhash(far, dataset, tmp_path, way):
    simple_python = pythons.without_xxhash(tmp_path)
    source, destination = WAYS[way](far, python=simple_python)
    expected = take(dataset)
    copied = copy(
        source, dataset, destination, tmp_path / "copy", expected=expected, extra_algorithms=("adler32",)
    )
    assert copied.manifest == take(tmp_path / "copy", "sha256")
    assert copied.manifests["xxh128"] == expected == take(tmp_path / "copy")
    assert copied.manifests["adler32"] == take(tmp_path / "copy", "adler32")
    place = far(python=simple_python)
    assert transfer.take_manifest(place, tmp_path / "copy") == copied.manifest
    again = copy(source, dataset, destination, tmp_path / "copy", expected=expected)
    assert (again.adopted, again.sent) == (True, 0)
    (tmp_path / "copy" / "large").write_bytes(bytes(40_000_000))
    with pytest.raises(CaxflowError, match="large has the right size but other contents"):
        copy(source, dataset, destination, tmp_path / "copy", expected=expected)


def old_pythons():
    return [*sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python")), Path("/usr/bin/python3")]


@pytest.mark.parametrize("python", old_pythons(), ids=str)
def test_other_pythons(far, dataset, tmp_path, python):
    copied = copy(HERE, dataset, far(python=str(python)), tmp_path / "copy", expected=take(dataset))
    assert take(tmp_path / "copy", copied.manifest.algorithm) == copied.manifest


@pytest.mark.parametrize("method", ["shared", "stream", "scp", "sftp"])
def test_links_are_made_where_nothing_is_and_only_these_go_again(lab, far, tmp_path, method):
    if method == "sftp":
        with OddSite(lab, "sftponly", ForceCommand="internal-sftp") as site:
            check_links(site.place(method="scp"), tmp_path / "root")
    else:
        check_links(HERE if method == "shared" else far(method=method), tmp_path / "root")


def check_links(place, root):
    root.mkdir()
    (root / "out").symlink_to(root.parent)
    link, foreign, file = (root / name for name in ("link", "foreign", "file"))
    foreign.symlink_to("/etc")
    file.touch()
    for _ in "twice":
        assert transfer.link(place, link, "some/where", root=root) is True
        assert link.readlink() == Path("some/where")
    for taken in (foreign, file):
        assert transfer.link(place, taken, "some/where", root=root) is False
    for change in (transfer.link, transfer.unlink):
        with pytest.raises(CaxflowError, match="is not below"):
            change(place, root / "out" / "new", "some/where", root=root)
    for _ in "twice":
        for path in (link, foreign, file, root / "none" / "x"):
            transfer.unlink(place, path, "some/where", root=root)
        assert names(root) == ["file", "foreign", "out"]


@pytest.mark.parametrize("method", ["stream", "scp", "sftp"])
def test_zips_are_examined_from_afar(lab, far, tmp_path, method):
    simulate_run(tmp_path / "run", "160315_1432", kind="tpc", number=7, events=6, events_per_file=2, seed=1)
    first, second, third = sorted((tmp_path / "run").glob("XENON1T-*.zip"))
    (tmp_path / "run" / ".nfs0001").touch()
    with second.open("r+b") as file:
        file.seek(100)
        file.write(bytes(8))
    with zipfile.ZipFile(third, "a") as archive:
        archive.comment = b"by hand"
    first.write_bytes(first.read_bytes()[:-30])
    if method == "sftp":
        with OddSite(lab, "sftponly", ForceCommand="internal-sftp") as site:
            check_examination(site.place(method="scp"), tmp_path / "run")
    else:
        check_examination(far(method=method), tmp_path / "run")


def check_examination(place, path):
    found = transfer.inventory(place, path)
    assert found == transfer.inventory(HERE, path)
    assert found.leftovers == [".nfs0001"]
    bad = {
        name: each.faults + each.oddities for name, each in found.zips.items() if each.faults or each.oddities
    }
    first, _, third = sorted(path.glob("XENON1T-*.zip"))
    assert bad == {first.name: ["cannot be read as a zip"], third.name: ["has a comment of 7 bytes"]}
    examined = transfer.examine(place, path, algorithms=("xxh128", "sha512"))
    assert examined == transfer.examine(HERE, path, algorithms=("xxh128", "sha512"))
    assert examined.manifests["xxh128"] == take(path)
    (fault,) = examined.faults
    assert fault.endswith("-000000002-000000003-000000002.zip member 2 does not have its checksum (CRC)")


def test_questions_from_afar(far, dataset, tmp_path):
    (tmp_path / "root" / "trash").mkdir(parents=True)
    mark(far().site, {"raw": str(tmp_path / "root")})
    for method in ("stream", "scp"):
        place = far(method=method)
        assert transfer.take_manifest(place, dataset) == take(dataset)
        assert transfer.inventory(place, dataset) == transfer.inventory(HERE, dataset)
        assert transfer.exists(place, dataset) == "directory"
        assert transfer.exists(place, tmp_path / "absent") is None
        assert transfer.free_space(place, tmp_path / "absent") == pytest.approx(
            transfer.free_space(HERE, tmp_path), rel=0.2
        )
        (tmp_path / "root" / "a").mkdir()
        (tmp_path / "root" / "a" / "link").symlink_to(dataset)
        (tmp_path / "root" / "out").symlink_to(dataset)
        (found,) = transfer.look(place, [str(tmp_path / "root" / "out")], opened=True)
        assert (found.kind, found.files) == ("other", {})
        with pytest.raises(CaxflowError, match=r"is a symbolic link|neither file nor directory"):
            transfer.take_manifest(place, tmp_path / "root" / "out")
        (found,) = transfer.look(place, [str(dataset)], opened=True)
        assert (found.error, found.changed > 0) == ("", True)
        transfer.rename(
            place, tmp_path / "root" / "a", tmp_path / "root" / "trash" / "b", root=tmp_path / "root"
        )
        for path in (dataset, tmp_path / "root" / "out" / "large"):
            with pytest.raises(CaxflowError, match="is not below"):
                transfer.remove_tree(place, path, root=tmp_path / "root")
        transfer.touch(place, tmp_path / "root" / "trash" / "c", root=tmp_path / "root")
        with pytest.raises(CaxflowError):
            transfer.touch(place, tmp_path / "root" / "trash" / "c", root=tmp_path / "root")
        transfer.remove_tree(place, tmp_path / "root" / "trash" / "c", root=tmp_path / "root")
        transfer.remove_tree(place, tmp_path / "root" / "trash" / "b", root=tmp_path / "root")
        transfer.remove_tree(place, tmp_path / "root" / "out", root=tmp_path / "root")
        assert (dataset / "large").exists()
        assert names(tmp_path / "root") == [".caxflow-root", "trash"]
        assert names(tmp_path / "root" / "trash") == []
        (tmp_path / "root" / ".old.part-caxflow" / "data").mkdir(parents=True)
        for folder in (
            tmp_path / "root" / ".old.part-caxflow" / "data",
            tmp_path / "root" / ".old.part-caxflow",
        ):
            os.utime(folder, (1, 1))
        assert len(transfer.remove_leftovers(place, tmp_path / "root", 3600)) == 1
        assert names(tmp_path / "root") == [".caxflow-root", "trash"]


def test_nothing_is_said_before_the_helper_runs(far, monkeypatch):
    """A sign of life during a long login would be taken for the helper's program."""
    keep = Visit._keep

    def early(self, connection):
        keep(self, connection)
        self.keep_alive()
        return connection

    monkeypatch.setattr(Visit, "_keep", early)
    assert attend(Visit(far(), "kind", path="/")) == "directory"


def test_noisy_logins(lab, far, dataset, tmp_path):
    profile = lab["far"].root / ".bashrc"
    profile.write_text("echo Welcome to far; printf 'no newline'; echo to stderr >&2\n")
    try:
        copy(HERE, dataset, far(), tmp_path / "copy", expected=take(dataset))
        copy(far(), dataset, HERE, tmp_path / "copy2", expected=take(dataset))
    finally:
        profile.unlink()


@pytest.mark.parametrize("client", ["openssh", "paramiko"])
def test_jump_host(lab, far, dataset, tmp_path, client):
    here = lab["far"]
    behind = {"host": lab["other"].host, "port": lab["other"].port}
    ways = (
        {"jump": "far", "ssh_config": str(lab.ssh_config)},
        {
            "jump": f"{lab.user}@{here.host}:{here.port}",
            "user": lab.user,
            "identity": str(lab.identity),
            "known_hosts": str(lab.known_hosts),
        },
    )
    for number, way in enumerate(ways):
        place = Place("behind", "stream", client=client, **behind, **way)
        copy(HERE, dataset, place, tmp_path / str(number), expected=take(dataset))


@pytest.mark.parametrize("client", ["openssh", "paramiko", "scp"])
def test_refusals_are_one_line(lab, far, dataset, tmp_path, client):
    """Nothing is written, and the line says what to do."""
    site = lab["far"]
    changed = tmp_path / "known_hosts"
    key = lab["other"].host_key.split()[:2]
    changed.write_text(f"[{site.host}]:{site.port} {' '.join(key)}\nfar {' '.join(key)}\n")
    empty = tmp_path / "empty"
    empty.touch()
    from caxflow.demo.sshd import make_key

    make_key(tmp_path / "stranger", "stranger")
    base = {
        "host": site.host,
        "port": site.port,
        "user": lab.user,
        "identity": str(lab.identity),
        "known_hosts": str(lab.known_hosts),
    }
    cases = [
        ({"known_hosts": str(changed)}, r"far: the host key of \S+ has changed -> compare it"),
        ({"known_hosts": str(empty)}, r"far: the host key of \S+ is not known -> get its fingerprint"),
        ({"identity": str(tmp_path / "stranger")}, r"far: \S+ refuses our key -> check access.user"),
        ({"port": 1}, r"far: \S+ cannot be reached.* -> check access.host and access.port|is not known"),
        ({"host": "no-such-host.invalid"}, r"far: .*(resolved|reached).* -> check access.host"),
    ]
    if client != "scp":
        cases += [
            ({"python": "/absent/python"}, r"far: /absent/python cannot be run at .* -> set access.python")
        ]
        cases += [({"python": "/bin/true"}, r"far: no helper could be started at .* -> try: ssh ")]
    for options, pattern in cases:
        method = {"method": "scp"} if client == "scp" else {"method": "stream", "client": client}
        with pytest.raises(CaxflowError, match=pattern) as caught:
            copy(HERE, dataset, Place("far", **method, **(base | options)), tmp_path / "copy")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "copy").exists()


HOSTILE = [
    "climbs", "absolute", "climbs-directory", "twice", "negative", "ageless", "mangled", "words", "several",
    "more", "elsewhere", "other-file", "wrong-digest", "short", "renamed", "named", "unknown", "huge-message",
    "result", "not-json", "no-object", "nested", "acknowledges", "error", "odd-error", "hello", "noisy",
]  # fmt: skip


@pytest.mark.parametrize("behaviour", HOSTILE)
def test_hostile_source(far, tmp_path, behaviour):
    """Whatever a far end says, nothing is written outside the copy and nothing is published."""
    program = tmp_path / "programs" / behaviour
    program.parent.mkdir()
    helper = Path(__file__).with_name("hostile_helper.py").read_text()
    program.write_text(f"#!{sys.executable}\n{helper}")
    program.chmod(0o755)
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(CaxflowError, match=r"far|file") as caught:
        copy(far(python=str(program), connections=1), "/data", HERE, tmp_path / "a" / "b" / "copy")
    assert str(caught.value).isprintable()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} - {
        "programs", f"programs/{behaviour}", "a", "a/b", "a/b/.copy.part-caxflow",
        "a/b/.copy.part-caxflow/lock", "a/b/.copy.part-caxflow/data", "a/b/.copy.part-caxflow/data/file",
    }  # fmt: skip
    assert found == set()
    assert not Path("/tmp/climbed").exists()


def test_mute_far_end_is_given_up(far, tmp_path):
    program = tmp_path / "mute"
    helper = Path(__file__).with_name("hostile_helper.py").read_text()
    program.write_text(f"#!{sys.executable}\n{helper}")
    program.chmod(0o755)
    waited = r"no progress for 2 s \(at far, the answer of what was started there\) -> check the link"
    with pytest.raises(CaxflowError, match=waited):
        copy(far(python=str(program), timeout=2), "/data", HERE, tmp_path / "copy")
