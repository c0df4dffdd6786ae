"""A partner whose key starts ``caxflow serve``: what works, what is refused, and that no client does more."""

import os
import sys
from pathlib import Path

import pytest

from caxflow import transfer
from caxflow.demo.sshd import SshSites
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.transfer import Place, copy, kept, protocol, singlefile
from copies import mark
from lab.logins import OddSite
from lab.processes import below
from waiting import until

HERE = Place("here")
READS, ADDS = "may only read there (caxflow serve --read-only)", "may only add copies there"
FRAME = protocol.HEADER


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The single file."""
    path = tmp_path_factory.mktemp("program") / "caxflow-serve"
    singlefile.write(path)
    return path


class Partner(OddSite):
    """A site at which our key starts what `allow` says."""

    def __init__(self, lab, program: Path):
        self.keys, self.log = lab.directory / "keys", lab.directory / "serve.log"
        super().__init__(lab, "partner", AuthorizedKeysFile=str(self.keys))
        self._program, self._public = program, lab.identity.with_suffix(".pub").read_text()

    def allow(self, *options: str, roots=(), program: str = "") -> Place:
        """Tie the key to the roots."""
        command = [program or f"{sys.executable} {self._program}", *(f"--root {root}" for root in roots)]
        command += [f"--log {self.log}", "--name midway", *options]
        self.keys.write_text(f'restrict,command="{" ".join(command)}" {self._public}')
        self.log.write_text("")
        return self.place()

    def lines(self) -> list[str]:
        """What the log says, without times, once all sessions are over."""
        until(lambda: not below(self.server.pid), "the end of all sessions")
        return [line.split(" ", 3)[3] for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def partner(tmp_path_factory, require, program):
    for tool in ("sshd", "ssh"):
        require(tool)
    folder = tmp_path_factory.mktemp("serve") / "sites"
    with SshSites(folder, [], embedded=False) as lab, Partner(lab, program) as site:
        yield site


@pytest.fixture
def raw(tmp_path):
    """A root with a copy, its marker, and an empty folder beside it."""
    root = tmp_path / "raw"
    dataset = root / "160315_1432"
    (dataset / "sub").mkdir(parents=True)
    for number in range(4):
        (dataset / f"XENON1T-{number}.zip").write_bytes(os.urandom(300_000))
    (dataset / "sub" / "pax_info.json").write_text("{}")
    (tmp_path / "secret").write_text("a secret\n")
    mark("partner", {"raw": str(root)})
    return root


@pytest.fixture
def dataset(tmp_path):
    """What is to be pushed."""
    path = tmp_path / "own" / "160316_0000"
    path.mkdir(parents=True)
    (path / "a.zip").write_bytes(os.urandom(2_500_000))
    (path / "b.zip").write_bytes(b"b")
    return path


def everything(folder) -> dict:
    """Whatever is below a folder, with content, mode and time of files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        what = path.read_bytes() if path.is_file() and not path.is_symlink() else status.st_mode
        found[str(path.relative_to(folder))] = what, status.st_mode, status.st_mtime_ns
    return found


def pull_and_look(place, raw, tmp_path):
    """All that reads."""
    path = str(raw / "160315_1432")
    copied = copy(place, path, HERE, tmp_path / "copy")
    assert copied.manifest == take(raw / "160315_1432") == take(tmp_path / "copy")
    assert transfer.take_manifest(place, path) == copied.manifest
    assert not transfer.examine(place, path).oddities
    assert set(transfer.inventory(place, path).files) == {entry.path for entry in copied.manifest.entries}
    assert transfer.exists(place, path) == "directory"
    assert transfer.exists(place, str(raw)) == "directory"
    assert transfer.exists(place, f"{raw}/none/deeper") is None
    looks = transfer.look(place, [path, f"{raw}/none", f"{path}/XENON1T-0.zip"], opened=True)
    assert [look.kind for look in looks] == ["directory", None, "file"]
    assert transfer.look(HERE, [path]) == [looks[0]]
    assert transfer.names(place, str(raw)) == transfer.names(HERE, str(raw))
    assert transfer.census(place, str(raw)) == transfer.census(HERE, str(raw))
    assert transfer.root(place, str(raw)) == transfer.root(Place("partner"), str(raw))
    assert transfer.root(place, str(raw), f"{raw}/none").folder is None
    assert transfer.markers(place, str(raw)) == transfer.markers(HERE, str(raw))
    assert transfer.have_one_file_system(place, str(raw), path)
    assert transfer.free_space(place, f"{raw}/none/deeper") > 0


def test_read_only(partner, raw, dataset, tmp_path):
    place = partner.allow("--read-only", roots=[raw])
    before = everything(raw)
    with kept.connections():
        pull_and_look(place, raw, tmp_path)
    path = str(raw / "160315_1432")
    for ask in (
        lambda: copy(HERE, dataset, place, raw / "new"),
        lambda: transfer.remove_tree(place, path, root=str(raw)),
        lambda: transfer.rename(place, path, f"{raw}/other", root=str(raw)),
        lambda: transfer.remove_leftovers(place, str(raw), 0),
        lambda: transfer.touch(place, f"{raw}/touched", root=str(raw)),
        lambda: transfer.permissions(place, path, [None, None, 0o700, 0o600, []], apply=True),
        lambda: transfer.mark(place, str(raw), "{}"),
    ):
        with pytest.raises(CaxflowError) as caught:
            ask()
        assert str(caught.value).startswith("partner: ")
        assert READS in str(caught.value)
        assert " -> ask the site's manager" in str(caught.value)
    assert transfer.permissions(place, path, [None, None, 0o700, 0o600, []], apply=False)
    assert everything(raw) == before


def test_no_delete(partner, raw, dataset, tmp_path):
    place = partner.allow("--no-delete", roots=[raw])
    before = everything(raw)
    with kept.connections():
        pull_and_look(place, raw, tmp_path)
    copied = copy(HERE, dataset, place, raw / "new", root=str(raw))
    assert copied.manifest == take(raw / "new")
    assert copy(HERE, dataset, place, raw / "new").adopted
    for ask in (
        lambda: transfer.remove_tree(place, f"{raw}/new", root=str(raw)),
        lambda: transfer.rename(place, f"{raw}/new", f"{raw}/.caxflow-trash/new", root=str(raw)),
        lambda: transfer.link(place, f"{raw}/link", "new", root=str(raw)),
        lambda: transfer.prune(place, f"{raw}/new", root=str(raw)),
        lambda: transfer.permissions(place, f"{raw}/new", [None, None, 0o700, 0o600, []], apply=True),
        # What is published is not added to, and what is the root's own is not made.
        lambda: copy(HERE, dataset, place, raw / "160315_1432" / "more"),
        lambda: copy(HERE, dataset / "b.zip", place, raw / ".caxflow-root"),
        lambda: copy(HERE, dataset, place, raw / ".caxflow-trash"),
    ):
        with pytest.raises(CaxflowError, match=r"^partner: .* may only add copies there .*--no-delete"):
            ask()
    after = everything(raw)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"new"}


def test_without_further_options_the_roots_are_what_it_may_use(partner, raw, dataset, tmp_path):
    other = tmp_path / "processed"
    other.mkdir()
    mark("partner", {"processed": str(other)})
    place = partner.allow(roots=[raw, other])
    copy(HERE, dataset / "b.zip", place, other / "pax_v1" / "b.root", root=str(other))
    assert transfer.try_rename(
        place, f"{other}/pax_v1/b.root", f"{raw}/moved", root=str(other), new_root=str(raw)
    )
    assert transfer.link(place, f"{raw}/link", "moved", root=str(raw))
    transfer.unlink(place, f"{raw}/link", "moved", root=str(raw))
    transfer.remove_tree(place, f"{raw}/moved", root=str(raw))
    transfer.prune(place, f"{other}/pax_v1", root=str(other))
    assert sorted(path.name for path in other.iterdir()) == [".caxflow-root"]
    for ask in (
        lambda: transfer.exists(place, str(tmp_path)),
        lambda: transfer.take_manifest(place, f"{tmp_path}/secret"),
        lambda: transfer.remove_tree(place, f"{tmp_path}/secret", root=str(tmp_path)),
        lambda: copy(HERE, dataset, place, tmp_path / "elsewhere"),
        lambda: transfer.link(place, f"{raw}/link", str(tmp_path / "secret"), root=str(raw)),
    ):
        with pytest.raises(CaxflowError, match="is not below what the key of this account may use") as caught:
            ask()
        assert f"(caxflow serve --root: {raw}, {other})" in str(caught.value)


def test_further_connections_take_part_in_a_copy(partner, raw, tmp_path):
    (tmp_path / "large").mkdir()
    for number in range(12):
        (tmp_path / "large" / str(number)).write_bytes(os.urandom(2_000_000))
    partner.allow("--no-delete", roots=[raw])
    copied = copy(HERE, tmp_path / "large", partner.place(connections=2, bandwidth=16e6), raw / "new")
    assert (copied.connections, copied.remarks) == (2, ())
    assert copied.manifest == take(raw / "new")
    copied = copy(partner.place(connections=2, bandwidth=16e6), raw / "new", HERE, tmp_path / "back")
    assert (copied.connections, copied.remarks) == (2, ())
