"""Logins: what they bear, what they wait for, what is said of them, and how they end."""

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from caxflow import transfer
from caxflow.demo.sshd import SshSites
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.transfer import Place, copy, kept
from caxflow.transfer.crew import Crew
from lab.copying import Copying
from lab.logins import OddSite, sftp_server, with_shell
from lab.processes import below, helpers
from waiting import until

HERE = Place("here")
CLIENTS = ("openssh", "paramiko")
METHODS = ("stream", "scp")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, require):
    for tool in ("sshd", "ssh"):
        require(tool)
    with SshSites(tmp_path_factory.mktemp("lab") / "sites", ["gate"], embedded=False) as sites:
        yield sites


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "160315_1432"
    folder.mkdir()
    for number in range(20):
        (folder / f"XENON1T-{number}.zip").write_bytes(os.urandom(700_000))
    return folder


def log(site) -> str:
    """What the site's sshd has said."""
    return (site._ssh / f"{site.name}.log").read_text()


def said_so_far(site) -> int:
    """How long the log is, once all sessions are over; that of those who tried whether it answers, too."""
    until(lambda: not below(site.server.pid), "the end of all sessions")
    return len(log(site))


def dropped(site, since: int) -> list[str]:
    """Logins that were begun and not ended in order, once all of the site's sessions are over."""
    until(lambda: not below(site.server.pid), "the end of all sessions")
    return re.findall(r".*\[preauth\].*", log(site)[since:])


# What an ssh_config may say


HOSTILE = """
Host *
    SessionType none
    ForkAfterAuthentication yes
    StdinNull yes
    RequestTTY force
    RemoteCommand echo not this
    PermitLocalCommand yes
    LocalCommand echo nor this
    LogLevel QUIET
    LogVerbose *:*:*
    Compression yes
    Tunnel yes
    ExitOnForwardFailure yes
    LocalForward {port} 127.0.0.1:9
    ForwardX11 yes
    ForwardAgent yes
    ControlMaster auto
    ControlPath {folder}/control-%C
    ControlPersist yes
    EscapeChar X
    UpdateHostKeys yes
    VisualHostKey yes
    AddKeysToAgent ask
    BatchMode no
    ConnectTimeout 1
    ServerAliveInterval 1
    ServerAliveCountMax 1
"""


@pytest.mark.parametrize("method", METHODS)
def test_no_ssh_config_breaks_the_channel(lab, dataset, tmp_path, method):
    with OddSite(lab, "hostile") as site:
        # Its port is taken, as by another connection of the same user.
        site.configure(before=HOSTILE.format(port=site.port, folder=tmp_path))
        copied = copy(HERE, dataset, site.place(method, client="openssh"), tmp_path / "copy")
        assert copied.manifest == take(tmp_path / "copy")
        assert transfer.take_manifest(site.place(method), tmp_path / "copy") == copied.manifest
        assert not list(tmp_path.glob("control-*"))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_server_with_other_ciphers_than_ours(lab, dataset, tmp_path, client, method):
    with OddSite(lab, "old", Ciphers="aes256-ctr") as site:
        copied = copy(HERE, dataset, site.place(method, client=client), tmp_path / "copy")
        assert copied.cipher == "aes256-ctr"


def test_a_server_with_nothing_in_common_is_told_with_what_helps(lab):
    for name, setting in (("Ciphers", "3des-cbc"), ("KexAlgorithms", "diffie-hellman-group1-sha1")):
        told = pytest.raises(CaxflowError, match=f"in common .*{setting}.* -> name one .* {name}")
        with OddSite(lab, "ancient", **{name: setting}) as site, told:
            transfer.exists(site.place(client="openssh"), "/")


# What a login waits for


@pytest.fixture
def pool(lab, tmp_path, require):
    """A site whose name has a dead address, too, and what a program is run by to know that name."""
    require("unshare")
    site = OddSite(lab, "pool")
    site.host = "127.0.0.3"  # of two addresses like this, 127.0.0.1 is tried first
    with site, ExitStack() as stack:
        dead = stack.enter_context(closing(socket.socket()))
        dead.bind(("127.0.0.1", site.port))
        dead.listen(0)
        for _ in range(4):  # with its queue full, what else comes is not answered
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            assert waiting.connect_ex(("127.0.0.1", site.port)) == errno.EINPROGRESS
        (tmp_path / "hosts").write_text("127.0.0.3 pool.example.org\n127.0.0.1 pool.example.org\n")
        known = site.known_hosts.read_text()
        site.known_hosts.write_text(known + known.replace(site.host, "pool.example.org"))
        own = ["--map-root-user"] if os.getuid() else []
        line = f'mount --bind {tmp_path}/hosts /etc/hosts && exec "$@"'
        yield site, ["unshare", "--mount", *own, "sh", "-c", line, "sh"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_name_with_a_dead_address(pool, dataset, tmp_path, client):
    site, prefix = pool
    site.configure(HostName="pool.example.org")
    place = site.place(client=client, timeout=5)
    ended = Copying(HERE, dataset, place, tmp_path / "copy", prefix=prefix).end()
    assert ended.get("copied") == take(dataset).digest, ended


@pytest.mark.parametrize("client", CLIENTS)
def test_what_was_waited_for_is_said(lab, client):
    """The start-up files of the account wait for something, and have remarks."""
    with OddSite(lab, "waits", **with_shell("bash")) as site:
        (site.root / ".bashrc").write_text("echo nothing is wrong >&2\necho at all\nexec sleep 600\n")
        with pytest.raises(CaxflowError) as caught:
            transfer.exists(site.place(client=client, timeout=3), "/")
        assert "no progress for 3 s (at waits, the answer of what was started there)" in str(caught.value)
        assert "wrong" not in str(caught.value)


# What is no cause

REMARKS = """
for to in 1 2; do
    echo "bash: module: command not found
bash: warning: setlocale: LC_ALL: cannot change locale (xx_XX): No such file or directory
fatal: connect to host git port 22: Connection refused
Permission denied (publickey).
There were too many logins for you. This account is currently not available.
** WARNING: connection is not using a post-quantum key exchange algorithm.
Warning: Permanently added 'git' (ED25519) to the list of known hosts." >&$to
done
"""
WORDS = r"module|setlocale|refused|denied|too many|not available|WARNING|Permanently|no program"


@pytest.fixture(scope="module")
def remarks(lab):
    """A site whose start-up files have remarks."""
    with OddSite(lab, "remarks", **with_shell("bash")) as site:
        (site.root / ".bashrc").write_text(REMARKS)
        yield site


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("method", METHODS)
def test_remarks_are_not_why_a_connection_broke(remarks, dataset, tmp_path, client, method):
    place = remarks.place(method, client=client, bandwidth=3e6)
    copying = Copying(HERE, dataset, place, tmp_path / "copy", pause=1_000_000)
    for pid in helpers(remarks.server.pid) or below(remarks.server.pid):
        with contextlib.suppress(ProcessLookupError):  # it ended with its parent
            os.kill(pid, signal.SIGKILL)
    error = copying.end()["error"]
    assert error.startswith("remarks: the connection to remarks broke")
    assert not re.search(WORDS, error)


@pytest.mark.parametrize("client", CLIENTS)
def test_remarks_are_not_why_a_program_failed(remarks, tmp_path, client):
    program = tmp_path / "python-that-ends"
    program.write_text('#!/bin/sh\nexec python3 "$@" </dev/null\n')
    program.chmod(0o755)
    for python, said in (
        (str(program), "ended without an answer (exit 4)"),
        ("python-absent", "cannot be run at remarks: bash: line 1: python-absent: command not found"),
    ):
        with pytest.raises(CaxflowError) as caught:
            transfer.exists(remarks.place(python=python, client=client), "/")
        assert said in str(caught.value)
        assert not re.search(WORDS, str(caught.value))


# Logins end in order


WAY = """
import os, select, socket, sys, time
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
ways = {0: there.fileno(), there.fileno(): 1}
while True:
    ready = select.select(ways, [], [])[0]
    time.sleep(0.1)
    for way in ready:
        chunk = os.read(way, 65536)
        if not chunk:
            sys.exit()
        while chunk:
            chunk = chunk[os.write(ways[way], chunk):]
"""


@pytest.fixture
def slow(lab, tmp_path):
    """A site a long way off: a login takes a second."""
    (tmp_path / "way.py").write_text(WAY)
    with OddSite(lab, "slow") as site:
        site.configure(ProxyCommand=f"{sys.executable} {tmp_path}/way.py %h %p")
        yield site


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("method", METHODS)
def test_no_login_is_dropped(lab, dataset, tmp_path, client, method, monkeypatch):
    """Servers count those, and after some let nobody in from here."""
    # Further connections log in where a copy takes longer than a login, as one may on a machine that is busy.
    work = Crew.work
    monkeypatch.setattr(Crew, "work", lambda crew, size, at_once, login: work(crew, size, at_once, 60))
    with OddSite(lab, "counts") as site:
        since = said_so_far(site)
        place = site.place(method, client=client, connections=4)
        for number in range(3):
            copy(HERE, dataset, place, tmp_path / f"copy{number}")
            copy(place, dataset, HERE, tmp_path / f"back{number}")
        with pytest.raises(CaxflowError, match="absent"):
            copy(place, tmp_path / "absent", HERE, tmp_path / "copy")
        with pytest.raises(CaxflowError, match="does not exist"):
            copy(HERE, dataset, place, tmp_path / "none" / "copy", root=str(tmp_path / "none"))
        assert dropped(site, since) == []
        assert log(site).count("Accepted publickey") <= 10, "one would have been enough for each"


class Enough(Exception):
    """Ends a copy as an interrupt does."""


@pytest.mark.parametrize("client", CLIENTS)
def test_logins_that_are_under_way_when_a_copy_is_interrupted_end_in_order(slow, dataset, tmp_path, client):
    place, since = slow.place(client=client, connections=3, bandwidth=1e6), said_so_far(slow)

    def interrupt(_):
        if {"mover 1", "mover 2"} <= {thread.name for thread in threading.enumerate()}:
            raise Enough

    with pytest.raises(Enough):
        copy(HERE, dataset, place, tmp_path / "copy", progress=interrupt)
    assert dropped(slow, since) == []


@pytest.mark.parametrize("client", CLIENTS)
def test_an_interrupt_while_the_first_login_is_under_way(slow, dataset, tmp_path, client):
    since = said_so_far(slow)
    copying = Copying(HERE, dataset, slow.place(client=client), tmp_path / "copy", stderr=subprocess.DEVNULL)
    until(lambda: below(slow.server.pid), "a login")
    copying.process.send_signal(signal.SIGINT)
    copying.end()
    assert dropped(slow, since) == []
    assert "Accepted publickey" in log(slow)


@contextmanager
def held(site):
    """Hold the only login that the site's sshd takes at a time."""
    with ExitStack() as stack:

        def taken():
            connection = stack.enter_context(closing(socket.create_connection((site.host, site.port))))
            return connection.recv(4) == b"SSH-"

        until(taken, "a login that is not too many")
        yield


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_that_takes_no_login_now_is_asked_again(lab, client):
    """Others log in just now, as many as it takes at the same time."""
    with OddSite(lab, "busy", MaxStartups="1:100:1") as site:
        with held(site):
            found = []
            asking = threading.Thread(
                target=lambda: found.append(transfer.exists(site.place(client=client), "/"))
            )
            asking.start()
            until(lambda: "maxstartups" in log(site).lower(), "the first refusal")
        asking.join(60)
        assert found == ["directory"]


def test_one_login_does_for_several_questions(lab, tmp_path):
    for method in METHODS:
        with OddSite(lab, f"chatty-{method}") as site:
            place = site.place(method)
            with kept.connections():
                for number in range(4):
                    transfer.touch(place, str(tmp_path / f"{method}-{number}"), root=str(tmp_path))
                with pytest.raises(CaxflowError):
                    transfer.names(place, str(tmp_path / "absent"))
                assert len(transfer.names(place, str(tmp_path))) >= 4
                for pid in below(site.server.pid):
                    with suppress(ProcessLookupError):  # with another it may have gone
                        os.kill(pid, signal.SIGKILL)
                assert transfer.exists(place, str(tmp_path)) == "directory", "a new one"
            until(lambda pid=site.server.pid: not below(pid), "its end")
            assert log(site).count("Accepted publickey") <= 3


@pytest.mark.parametrize(("client", "method"), [("openssh", "stream"), ("paramiko", "scp")])
def test_a_kept_connection_through_which_nothing_comes_any_more_is_replaced(lab, client, method):
    """As when the network has changed meanwhile."""
    with OddSite(lab, "away") as site, kept.connections():
        place = site.place(method, client=client, timeout=6)
        transfer.exists(place, "/")
        sessions = below(site.server.pid)
        assert sessions
        try:
            for pid in sessions:
                os.kill(pid, signal.SIGSTOP)
            assert transfer.exists(place, "/") == "directory"
        finally:
            for pid in sessions:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        assert log(site).count("Accepted publickey") == 2


# Several machines under one name


@pytest.fixture(params=METHODS)
def login(request, lab, tmp_path, require):
    """A function that gives a name of several machines; all but the first, `blind`, do not see the data."""
    require("unshare")
    if os.getuid():
        pytest.skip("needs root")
    (tmp_path / "data").mkdir()
    program = tmp_path / "program"
    # What method scp has written it reads back.
    runs, rate = {"stream": ("python3", 8e6), "scp": (sftp_server(), 16e6)}[request.param]

    def gate(blind: bool) -> Place:
        hidden = f"hostname blind; mount -t tmpfs none {tmp_path}/data;" if blind else ""
        program.write_text(
            f'#!/bin/sh\nmkdir {tmp_path}/first 2>/dev/null && exec {runs} "$@"\n'
            f'exec unshare --mount --uts sh -c \'{hidden} exec {runs} "$@"\' sh "$@"\n'
        )
        program.chmod(0o755)
        return site.place(request.param, python=str(program), connections=2, bandwidth=rate)

    with OddSite(lab, "login", Subsystem=f"sftp {program}") as site:
        yield gate


@pytest.mark.parametrize(
    ("way", "blind"),
    [
        ("push", True),
        ("pull", True),
        pytest.param("push", False, marks=pytest.mark.soak),
        pytest.param("pull", False, marks=pytest.mark.soak),
    ],
)
def test_a_machine_that_does_not_see_the_data_is_left_out(login, tmp_path, way, blind):
    dataset = tmp_path / "source"
    dataset.mkdir()
    for number in range(20):
        (dataset / f"XENON1T-{number}.zip").write_bytes(os.urandom(1_500_000))
    place = login(blind)
    if way == "push":
        copied = copy(HERE, dataset, place, target := tmp_path / "data" / "copy")
    else:
        path = tmp_path / "data" / dataset.name
        subprocess.run(["cp", "-a", dataset, path], check=True)
        copied = copy(place, path, HERE, target := tmp_path / "copy")
    assert take(target) == take(dataset)
    if not blind:
        assert (copied.connections, copied.remarks) == (2, ())
        return
    (remark,) = copied.remarks
    host = "blind" if place.method == "stream" else "login"
    assert remark.startswith(f"{host} is left out, it does not see the data: login: ")
    assert copied.connections == 1
