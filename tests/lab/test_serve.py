"""A partner whose key starts ``caxflow serve``: what works, what is refused, and that no client does more."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

import needs
from caxflow import __version__, transfer
from caxflow.config import Access
from caxflow.demo.sshd import SshSites
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.files.permissions import Wanted
from caxflow.monitoring.doctor import BAD, GOOD, partners
from caxflow.transfer import Place, bootstrap, copy, kept, protocol, singlefile, ssh
from caxflow.transfer.session import Session
from copies import mark
from lab.logins import OddSite
from lab.processes import below
from operators import configured
from waiting import until

HERE = Place("here")
READS = "may only read there (caxflow serve --read-only)"
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
        lambda: transfer.remove_leftovers(place, str(raw), 0),
        lambda: transfer.permissions(place, path, [None, None, 0o700, 0o600, []], apply=True),
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
        lambda: transfer.permissions(place, f"{raw}/new", [None, None, 0o700, 0o600, []], apply=True),
        # What is published is not added to, and what is the root's own is not made.
        lambda: copy(HERE, dataset, place, raw / "160315_1432" / "more"),
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
    with kept.connections():
        assert transfer.try_rename(
            place, f"{other}/pax_v1/b.root", f"{raw}/moved", root=str(other), new_root=str(raw)
        )
        assert transfer.link(place, f"{raw}/link", "moved", root=str(raw))
        transfer.unlink(place, f"{raw}/link", "moved", root=str(raw))
        transfer.remove_tree(place, f"{raw}/moved", root=str(raw))
        transfer.prune(place, f"{other}/pax_v1", root=str(other))
    assert sorted(path.name for path in other.iterdir()) == [".caxflow-root"]
    for ask in (
        lambda: transfer.take_manifest(place, f"{tmp_path}/secret"),
        lambda: transfer.remove_tree(place, f"{tmp_path}/secret", root=str(tmp_path)),
        lambda: copy(HERE, dataset, place, tmp_path / "elsewhere"),
        lambda: transfer.link(place, f"{raw}/link", str(tmp_path / "secret"), root=str(raw)),
    ):
        with pytest.raises(CaxflowError, match="is not below what the key of this account may use") as caught:
            ask()
        assert f"(caxflow serve --root: {raw}, {other})" in str(caught.value)


def test_no_file_is_made_to_run_as_the_account(partner, raw):
    place, path = partner.allow(roots=[raw]), raw / "160315_1432"
    for bits in (0o4755, 0o2755, 0o6755):
        with pytest.raises(CaxflowError, match="with which a file runs as the account that owns it"):
            transfer.permissions(place, str(path), [None, None, None, bits, []], apply=True)
    transfer.permissions(place, str(path), [None, None, 0o2750, 0o640, []], apply=True)
    assert path.stat().st_mode & 0o7777 == 0o2750
    assert {file.stat().st_mode & 0o7777 for file in path.glob("*.zip")} == {0o640}


def test_links_lead_out_of_no_root_wherever_they_are_moved_to(partner, raw):
    place = partner.allow(roots=[raw])
    (raw / "a" / "b").mkdir(parents=True)
    (raw / "a" / "up").symlink_to("b")
    # Up from where a link leads; up from a folder that it is moved out of; and what is the same everywhere.
    for name, target in (("x", "a/up/../../secret"), ("a/b/x", "../../a"), ("x", f"{raw}/a"), ("x", "./a")):
        with pytest.raises(CaxflowError, match="is not below what the key of this account may use"):
            transfer.link(place, f"{raw}/{name}", target, root=str(raw))
        assert not (raw / name).is_symlink()
    assert transfer.link(place, f"{raw}/x", "a/b", root=str(raw))


def test_a_root_that_is_not_mounted_is_said_to_be_away(partner, raw, tmp_path):
    place = partner.allow("--read-only", roots=[tmp_path / "away"])
    assert transfer.root(place, f"{tmp_path}/away").kind is None
    with pytest.raises(CaxflowError, match=f"^partner: {tmp_path}/away.*No such file"):
        transfer.names(place, f"{tmp_path}/away")


def test_roots_do_not_hold_what_would_open_a_shell(partner, program, tmp_path):
    """Keys of the account, and for those who write also the program that is run."""
    home = partner.root.resolve()
    for options in (["--read-only"], ["--no-delete"], []):
        place = partner.allow(*options, roots=[tmp_path, home])
        with pytest.raises(CaxflowError, match=rf"~/\.ssh, which has .* is below --root {home}, where"):
            transfer.exists(place, str(tmp_path))
    folder = program.parent
    with pytest.raises(CaxflowError, match=f"the program {program}, which this key runs, is below --root"):
        transfer.exists(partner.allow("--no-delete", roots=[folder]), str(folder))
    assert transfer.exists(partner.allow("--read-only", roots=[folder]), str(folder)) == "directory"


def test_a_log_that_is_rotated_goes_on_in_the_new_file(partner, raw):
    place = partner.allow("--read-only", roots=[raw])
    with Raw(place) as client:
        partner.log.rename(partner.log.with_suffix(".1"))
        assert client.ask("kind", path=str(raw)) == "directory"
    assert partner.lines() == [f"kind {raw} 0 allowed"]


def test_further_connections_take_part_in_a_copy(partner, raw, tmp_path):
    (tmp_path / "large").mkdir()
    for number in range(12):
        (tmp_path / "large" / str(number)).write_bytes(os.urandom(2_000_000))
    partner.allow("--no-delete", roots=[raw])
    copied = copy(HERE, tmp_path / "large", partner.place(connections=2, bandwidth=8e6), raw / "new")
    assert (copied.connections, copied.remarks) == (2, ())
    assert copied.manifest == take(raw / "new")


# A client that was modified


class Raw:
    """A connection on which anything may be said; a context manager."""

    def __init__(self, place, command=None, program=b"00000000"):
        called = [*ssh.arguments(place), command or bootstrap.command("python3")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(called, **pipes)
        self.say(program)
        self.stream = protocol.Stream(
            protocol.FdChannel(self.process.stdout.fileno(), self.process.stdin.fileno())
        )
        try:
            self.stream.skip_noise()
            self.greeting = self.message()["hello"]
        except BaseException:
            self.end()
            raise

    def say(self, frames: bytes) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.write(frames)
            self.process.stdin.flush()

    def message(self) -> dict:
        """Return the next message that is no progress; acknowledgements are passed over."""
        while True:
            kind, _, _, length = self.stream.header()
            message = self.stream.json(length) if kind == protocol.JSON else {"progress": 0}
            if "progress" not in message:
                return message

    def tell(self, **message) -> None:
        self.say(protocol.frame_json(message))

    def ask(self, operation: str, **arguments):
        """Return the result, or the error as text."""
        self.tell(do=operation, **{"with": arguments})
        return self.answer()

    def answer(self):
        message = self.message()
        return message["result"] if "error" not in message else " -> ".join(message["error"])

    def begin(self, destination, files, **more):
        given = {"token": "aa", "wait": 0, "directories": [], "root": None} | more
        return self.ask("begin", destination=str(destination), files=files, **given)

    def bring(self, index: int, name: str, content: bytes) -> None:
        """Send a small file."""
        path = protocol.pack_name(name, 1)
        self.say(FRAME.pack(b"F", index, len(path), len(content)) + path + content + sha256(content).digest())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def starts(place, *words: str) -> subprocess.CompletedProcess:
    """What comes of an ssh with a command of one's own."""
    called = [*ssh.arguments(place), *words]
    return subprocess.run(called, input=b"echo\ntouch canary\n", capture_output=True, timeout=60, check=False)


def test_the_program_that_is_sent_is_not_run(partner, raw, tmp_path):
    place = partner.allow("--read-only", roots=[raw])
    text = f"open({str(tmp_path / 'canary')!r}, 'w')\n"
    packed = zlib.compress(text.encode())
    command = f"{bootstrap.command('python3')}; touch {tmp_path}/canary"
    with Raw(place, command, b"%08x" % len(packed) + packed) as raw_one:
        assert raw_one.greeting["serve"] == {
            "roots": [str(raw)], "read_only": True, "no_delete": False, "version": __version__,
        }  # fmt: skip
        assert raw_one.ask("kind", path=str(raw)) == "directory"
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "words",
    [
        "sh -c 'touch {canary}'", "scp -t {canary}", "rsync --server -e.LsfxC . {canary}", "",
        "python3 -c 'open({canary}, 1)'",
    ],
)  # fmt: skip
def test_nothing_else_is_started(partner, raw, tmp_path, words):
    place = partner.allow("--no-delete", roots=[raw])
    ended = starts(place, *filter(None, [words.format(canary=tmp_path / "canary")]))
    assert (ended.returncode, ended.stdout) == (1, b"")
    (line,) = [line for line in ended.stderr.decode().splitlines() if line.startswith("caxflow serve: ")]
    assert f"this key is for caxflow only (no-delete, roots {raw})" in line
    assert "and opens no login" in line if not words else "and does not start" in line
    assert " -> for copies: caxflow, with access.method stream for this site" in line
    assert not (tmp_path / "canary").exists()
    (line,) = partner.lines()
    assert line.startswith("start ")
    assert " refused: " in line


@pytest.mark.parametrize("tool", ["sftp", "scp", "scp -O"])
def test_those_who_copy_otherwise_get_nothing(partner, raw, tmp_path, require, tool):
    place = partner.allow("--read-only", roots=[raw])
    require(tool.split()[0])
    source = f"partner:{raw}/160315_1432/XENON1T-0.zip"
    called = [*tool.split(), "-F", place.ssh_config, source, str(tmp_path / "got")]
    ended = subprocess.run(called, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert not (tmp_path / "got").exists()
    if tool == "scp -O":  # sshd passes on nothing of what an SFTP server complains of
        assert f"caxflow serve: this key is for caxflow only (read-only, roots {raw})" in ended.stderr
    assert "refused: this key is for caxflow only" in partner.lines()[-1]


def test_method_scp_is_told_what_the_key_is_for(partner, raw):
    partner.allow("--read-only", roots=[raw])
    told = (
        r"partner: partner: this key is for caxflow only \(read-only, .* -> for copies: .*method stream for"
    )
    for client in ("openssh", "paramiko"):
        with pytest.raises(CaxflowError, match=told):
            transfer.exists(partner.place("scp", client=client), str(raw))


def test_what_comes_in_the_place_of_a_program_is_refused(partner, raw):
    place = partner.allow("--read-only", roots=[raw])
    for garbage in (b"not hexa", b"ffffffff", b"\0" * 100, b"-0000001"):
        with pytest.raises(protocol.LostError), Raw(place, program=garbage):
            pass
        assert "refused: this key is for caxflow only" in partner.lines()[-1]


def test_pieces_are_sent_from_below_the_roots_only(partner, raw, tmp_path):
    place = partner.allow("--read-only", roots=[raw])
    (raw / "link").symlink_to(tmp_path)
    (raw / "160315_1432" / "link").symlink_to(tmp_path / "secret")
    secret = [9, 1, 1, 1]
    for root, file in (
        (tmp_path, "secret"),
        (f"{raw}/..", "secret"),
        (raw, "../secret"),
        (raw, "link/secret"),
        (f"{raw}/link", "secret"),
        (f"{raw}/160315_1432", "link"),
    ):
        with Raw(place) as client:
            client.tell(send={"root": str(root), "algorithm": "sha256"})
            client.tell(get=[[0, [file, *secret], 0, 9]])
            kind, _, _, length = client.stream.header()
            assert kind == protocol.JSON
            assert "error" in client.stream.json(length)
            client.process.stdin.close()
            assert b"a secret" not in client.process.stdout.read()


def test_nothing_is_received_with_a_key_that_reads(partner, raw):
    place = partner.allow("--read-only", roots=[raw])
    before = everything(raw)
    with Raw(place) as client:
        client.tell(receive={"data": f"{raw}/160315_1432", "algorithm": "sha256"})
        client.bring(0, "XENON1T-0.zip", b"other")
        assert READS in client.answer()
    with Raw(place) as client:
        client.bring(0, "XENON1T-0.zip", b"other")
        assert "data came for no copy" in client.answer()
    assert everything(raw) == before


def test_what_is_received_goes_into_the_copy_that_was_begun(partner, raw, tmp_path):
    place = partner.allow("--no-delete", roots=[raw])
    before = everything(raw)
    for data in (f"{raw}/160315_1432", f"{raw}/.new.part-caxflow", None):
        with Raw(place) as client:
            begun = client.begin(raw / "new", [["a", 1]])
            assert begun["data"] == f"{raw}/.new.part-caxflow/data"
            client.tell(receive={"data": data, "algorithm": "sha256"})
            client.bring(0, "a", b"b")
            assert "no copy was begun there" in client.answer()
    (tmp_path / "outside").mkdir()
    for name in ("../../160315_1432/XENON1T-0.zip", "link/evil", ".."):
        (raw / ".new.part-caxflow" / "data" / "link").unlink(missing_ok=True)
        with Raw(place) as client:
            begun = client.begin(raw / "new", [["a", 1]])
            (raw / ".new.part-caxflow" / "data" / "link").symlink_to(tmp_path / "outside")
            client.tell(receive={"data": begun["data"], "algorithm": "sha256"})
            client.bring(0, name, b"b")
            assert isinstance(client.answer(), str)
    assert not list((tmp_path / "outside").iterdir())
    after = everything(raw)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} <= {".new.part-caxflow"}


def test_what_is_published_is_written_to_no_more(partner, raw):
    """Neither by who published it, nor by another connection that took part."""
    place = partner.allow("--no-delete", roots=[raw])
    publish = {"files": [["a", 1, 1]], "directories": [], "single": False}
    with Raw(place) as one, Raw(place) as two:
        data = one.begin(raw / "new", [["a", 1]])["data"]
        assert two.ask("join", destination=str(raw / "new"), token="aa") is None
        for client in (one, two):
            client.tell(receive={"data": data, "algorithm": "sha256"})
            client.bring(0, "a", b"a")
        one.tell(finish=True)
        assert one.answer() == []
        one.tell(do="publish", **{"with": publish})
        assert not (raw / "new").exists()
        two.tell(finish=True)
        assert two.answer() == []
        assert one.answer() == []
        assert (raw / "new" / "a").read_bytes() == b"a"
        for client in (one, two):
            client.tell(receive={"data": data, "algorithm": "sha256"})
            client.bring(0, "a", b"b")
            assert "no copy was begun there" in client.answer()
    with Raw(place) as client:  # with data under way there is no end
        data = client.begin(raw / "other", [["a", 1]])["data"]
        client.tell(receive={"data": data, "algorithm": "sha256"})
        client.bring(0, "a", b"a")
        assert "data are still to come" in client.ask("publish", **publish)
    with Raw(place) as client:
        client.begin(raw / "other", [["a", 1]])
        assert "another copy was begun" in client.begin(raw / "third", [])
    assert (raw / "new" / "a").read_bytes() == b"a"
    assert not (raw / "other").exists()


def test_a_copy_that_another_connection_still_writes_is_not_published(partner, raw):
    """The end of that connection is waited for."""
    place = partner.allow("--no-delete", roots=[raw])
    with Raw(place) as one:
        data = one.begin(raw / "new", [["a", 1]])["data"]
        with Raw(place) as two:
            assert two.ask("join", destination=str(raw / "new"), token="aa") is None
            two.tell(receive={"data": data, "algorithm": "sha256"})
            two.bring(0, "a", b"a")
            one.tell(do="publish", **{"with": {"files": [["a", 1, 1]], "directories": [], "single": False}})
            assert not (raw / "new").exists()
        assert one.answer() == []
    assert (raw / "new" / "a").read_bytes() == b"a"


def test_unfinished_copies_of_others_are_left_alone(partner, raw):
    """Those of the site itself, of another key, and of method scp."""
    session = Session(lambda _: None)
    session.begin(f"{raw}/theirs", "bb", 0, files=[["a", 3]], directories=[], root=None)
    (raw / ".theirs.part-caxflow" / "data" / "a").write_text("abc")
    session.let_go()
    (raw / ".scp.part-0123-caxflow" / "data").mkdir(parents=True)
    place = partner.allow("--no-delete", "--name", "tegner", roots=[raw])
    with Raw(place) as client:
        client.begin(raw / "tegner", [["a", 1]])
        (raw / ".tegner.part-caxflow" / "data" / "a").write_text("a")
    place = partner.allow("--no-delete", roots=[raw])
    before = everything(raw)
    for name in ("theirs", "tegner"):
        with Raw(place) as client:
            assert "was left by another account or key -> at that site: caxflow strays" in client.begin(
                raw / name, [["a", 1]]
            )
    with Raw(place) as client:
        client.begin(raw / "own", [["a", 2]])
        (raw / ".own.part-caxflow" / "data" / "a").write_text("a")
    with Raw(place) as client:
        assert client.begin(raw / "own", [["a", 2]])["present"] == [["a", 1]]
    assert transfer.remove_leftovers(place, str(raw), 0) == [f"{raw}/.own.part-caxflow"]
    with Raw(place) as client:
        assert "has a name that none has" in client.begin(raw / "own", [], token="aa\nprocess 1 on x\ntegner")
    after = everything(raw)
    after.pop(".own.part-caxflow", None)
    assert after == before


# What doctor says at the caller's side


@pytest.fixture
def examined(partner, tmp_path):
    """Look at tegner, to which midway pushes, with a key of some options."""
    configuration = configured(tmp_path)

    def examine(*options, roots=("raw", "processed"), **keys):
        place = partner.allow(*options, roots=[tmp_path / "tegner" / root for root in roots])
        way = {"method": "stream", "host": place.host, "ssh_config": place.ssh_config, "connections": 2}
        tegner = dataclasses.replace(configuration.site("tegner"), access=Access(**way), **keys)
        settings = dataclasses.replace(configuration, sites=configuration.sites | {"tegner": tegner})
        with kept.connections():
            found = list(partners.examine(settings, tegner))
        return [(one.about, one.verdict, one.said, one.mend) for one in found]

    return examine


def test_doctor_says_what_our_key_may_do(examined, tmp_path):
    roots = f"{tmp_path}/tegner/raw, {tmp_path}/tegner/processed"
    restricted = f"our key is restricted there by caxflow serve {__version__}: "
    found = examined("--no-delete")
    assert ("connections to tegner", GOOD, "2 connections at the same time can be opened", "") in found
    assert BAD not in {verdict for _, verdict, _, _ in found}
    assert ("site tegner", GOOD, f"{restricted}no-delete, roots {roots}", "") in found
    assert not [said for _, _, said, _ in found if "can be written" in said]

    found = examined("--no-delete", permissions={"raw": Wanted(None, None, None, 0o640, ())})
    (fix,) = [fix for _, _, said, fix in found if "set no permissions" in said]
    assert fix.startswith("ask its manager to see which are not as wanted: caxflow strays --permissions")

    found = examined("--read-only", roots=("raw",))
    assert [(about, said, mend) for about, verdict, said, mend in found if verdict == BAD] == [
        (
            "site tegner",
            "copies are pushed there, and our key may only read (caxflow serve --read-only)",
            "ask its manager for --no-delete, or take it out of push_to of midway",
        ),
        (
            "processed data at tegner",
            f"{tmp_path}/tegner/processed is none of the folders that our key may use",
            f"ask its manager for a further --root {tmp_path}/tegner/processed",
        ),
    ]


# Where no program of ours may run


def read_by_sftp(place, root, raw, dataset, tmp_path):
    """Pull from where only `internal-sftp -R` answers; nothing can be changed there."""
    before = everything(raw)
    path = f"{root}/160315_1432"
    assert copy(place, path, HERE, tmp_path / "copy").manifest == take(raw / "160315_1432")
    assert transfer.take_manifest(place, path) == take(raw / "160315_1432")
    assert transfer.names(place, root) == transfer.names(HERE, str(raw))
    assert len(transfer.census(place, root)) == len(transfer.census(HERE, str(raw)))
    assert transfer.root(place, root).marker == transfer.root(HERE, str(raw)).marker
    for ask in (
        lambda: copy(HERE, dataset, place, f"{root}/new"),
        lambda: transfer.remove_tree(place, path, root=root),
        lambda: transfer.rename(place, path, f"{root}/other", root=root),
        lambda: transfer.touch(place, f"{root}/touched", root=root),
    ):
        with pytest.raises(CaxflowError, match=rf"^{place.site}: .*[Pp]ermission denied"):
            ask()
    ended = starts(place, f"touch {tmp_path}/canary")
    assert b"This service allows sftp connections only" in ended.stdout + ended.stderr
    with pytest.raises(CaxflowError, match=r"lets us run no program -> set access.method of the site to scp"):
        transfer.exists(dataclasses.replace(place, method="stream"), root)
    assert everything(raw) == before
    assert not (tmp_path / "canary").exists()


def test_internal_sftp_that_reads(partner, raw, dataset, tmp_path):
    partner.keys.write_text(f'restrict,command="internal-sftp -R" {partner._public}')
    read_by_sftp(partner.place("scp"), str(raw), raw, dataset, tmp_path)


def test_internal_sftp_in_a_folder_that_is_all_there_is(partner, dataset, tmp_path):
    """ChrootDirectory: every folder down to it belongs to root."""
    needs.root()
    shown = Path(tempfile.mkdtemp(prefix="caxflow-chroot-", dir="/run"))
    try:
        shown.chmod(0o755)
        raw = shown / "raw"
        (raw / "160315_1432").mkdir(parents=True)
        (raw / "160315_1432" / "a.zip").write_bytes(os.urandom(100_000))
        mark("caged", {"raw": str(raw)})
        cage = {"ChrootDirectory": str(shown), "ForceCommand": "internal-sftp -R", "DisableForwarding": "yes"}
        with OddSite(partner._lab, "caged", **cage) as site:
            place = site.place("scp")
            read_by_sftp(place, "/raw", raw, dataset, tmp_path)
            assert transfer.exists(place, str(shown)) is None
            assert transfer.names(place, "/") == ["raw"]
    finally:
        shutil.rmtree(shown)


# What is tied to the command itself, and to the single file


def test_the_command_and_other_pythons_serve_alike(partner, raw, tmp_path):
    pythons = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))
    path = f"{raw}/160315_1432"
    command = f"PYTHONPATH={Path(transfer.__file__).parents[2]} {sys.executable} -m caxflow.cli serve"
    programs = [command, *(f"{python} -I {partner._program}" for python in pythons)]
    for number, program in enumerate(programs):
        place = partner.allow("--read-only", roots=[raw], program=program)
        assert copy(place, path, HERE, tmp_path / str(number)).manifest == take(path)


def test_a_root_may_be_a_link_and_what_is_below_may_not(partner, raw, tmp_path):
    (tmp_path / "data").symlink_to(raw)
    (raw / "link").symlink_to(raw / "160315_1432")
    place = partner.allow("--read-only", roots=[tmp_path / "data"])
    copied = copy(place, f"{tmp_path}/data/160315_1432", HERE, tmp_path / "copy")
    assert copied.manifest == take(raw / "160315_1432")
    with pytest.raises(CaxflowError, match="is not below what the key of this account may use"):
        transfer.exists(place, str(raw / "160315_1432"))
    with pytest.raises(CaxflowError, match=f"{tmp_path}/data/link.*: it is a symbolic link"):
        transfer.exists(place, f"{tmp_path}/data/link/sub")
    assert transfer.exists(place, f"{tmp_path}/data/link") == "other"


def test_each_operation_is_one_line_of_the_log(partner, raw, dataset, tmp_path):
    place = partner.allow("--no-delete", roots=[raw])
    (raw / "new\nline").mkdir()
    copy(HERE, dataset, place, raw / "new")
    assert transfer.exists(place, f"{raw}/new\nline") == "directory"
    with pytest.raises(CaxflowError):
        transfer.exists(place, f"{tmp_path}/secret")
    size = sum(path.stat().st_size for path in dataset.iterdir())
    lines = partner.lines()
    assert f"begin {raw}/new 0 allowed" in lines
    assert f"receive {raw}/.new.part-caxflow/data {size} allowed, ended" in lines
    assert f"kind {raw}/new\\nline 0 allowed" in lines
    (line,) = [line for line in lines if " refused: " in line]
    assert line.startswith(f"kind {tmp_path}/secret 0 refused: {tmp_path}/secret is not below")
    for line in partner.log.read_text().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ midway 127\.0\.0\.1 \w+ ", line)


def test_without_its_log_nothing_is_done(partner, raw, tmp_path):
    place = partner.allow("--read-only", "--log", f"{tmp_path}/none/log", roots=[raw])
    with pytest.raises(CaxflowError, match=f"the log {tmp_path}/none/log: No such file or directory -> ask"):
        transfer.exists(place, str(raw))
    place = partner.allow("--read-only", "--log", f"{raw}/log", roots=[raw])
    with pytest.raises(CaxflowError, match=f"the log {raw}/log is below --root {raw}, where callers are"):
        transfer.exists(place, str(raw))
    assert transfer.exists(partner.allow("--read-only", "--log", "syslog", roots=[raw]), str(raw))
    if Path("/dev/full").exists():
        place = partner.allow("--read-only", "--log", "/dev/full", roots=[raw])
        with pytest.raises(CaxflowError, match="No space left on device"):
            transfer.exists(place, str(raw))


def test_the_file_is_always_the_same_and_says_its_version(program, tmp_path):
    written = [sys.executable, "-m", "caxflow.cli", "serve", "--write", tmp_path / "serve"]
    subprocess.run(written, check=True, capture_output=True)
    assert (tmp_path / "serve").read_bytes() == program.read_bytes() == singlefile.content()
    assert (tmp_path / "serve").stat().st_mode & 0o777 == 0o755
    for place in (tmp_path, tmp_path / "none" / "serve"):
        ended = subprocess.run([*written[:-1], place], check=False, capture_output=True, text=True)
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"caxflow: {place}: ")
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    assert said == f"caxflow serve {__version__}\n"


def test_ends_of_other_versions_are_told_so(partner, raw, tmp_path):
    place = partner.allow("--read-only", roots=[raw])
    known = "is not known there by caxflow serve .* -> use the same version of caxflow at both sites"
    for arguments in ({"path": str(raw), "newer": 1}, {}):
        with Raw(place) as client:
            assert re.search(known, client.ask("kind", **arguments))
    with Raw(place) as client:
        assert re.search(f"'newer', as it was asked for, {known}", client.ask("newer", path=str(raw)))
    with zipfile.ZipFile(partner._program) as old, zipfile.ZipFile(tmp_path / "newer", "a") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"caxflow-helper-1", b"caxflow-helper-2"))
    place = partner.allow("--read-only", roots=[raw], program=f"{sys.executable} {tmp_path / 'newer'}")
    with pytest.raises(
        CaxflowError, match=r"^partner: caxflow speaks version 2 of its protocol, not ours -> use"
    ):
        transfer.exists(place, str(raw))
