"""Sites as people have them: login shells, start-up files, old Pythons, certificates, agents, ssh_config."""

import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from caxflow.demo.sshd import SshSites, make_key
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.transfer import Place, copy, paramiko_channel
from caxflow.transfer.paramiko_channel import ParamikoChannel
from experiment import runs
from lab import pythons
from lab.copying import Copying
from lab.logins import OddSite, with_shell
from lab.processes import below
from waiting import until

HERE = Place("here")
CLIENTS = ("openssh", "paramiko")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, require):
    for tool in ("sshd", "ssh", "ssh-keygen", "ssh-agent"):
        require(tool)
    with SshSites(tmp_path_factory.mktemp("lab") / "sites", ["gate"], embedded=False) as sites:
        yield sites


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "160315_1432"
    folder.mkdir()
    (folder / "XENON1T-0.zip").write_bytes(os.urandom(700_000))
    (folder / "pax_info.json").write_bytes(b"{}")
    return folder


@pytest.fixture
def works(dataset, tmp_path):
    """Tries a place: a push and a pull that arrive."""

    def both(place):
        for number, (source, destination) in enumerate(((HERE, place), (place, HERE))):
            target = tmp_path / f"{time.monotonic_ns()}-{number}"
            copied = copy(source, dataset, destination, target, expected=take(dataset))
            assert copied.manifest == take(target)

    return both


@pytest.fixture
def refused(dataset, tmp_path):
    """Tries a place to which nothing can be copied; what the one line says."""

    def message(place) -> str:
        with pytest.raises(CaxflowError) as caught:
            copy(HERE, dataset, place, tmp_path / "refused")
        assert not (tmp_path / "refused").exists()
        text = str(caught.value)
        assert text.isprintable()
        assert text.startswith(f"{place.site}: ")
        assert " -> " in text
        return text

    return message


# Login shells and what they print

NOISE = "echo Welcome to this site\nprintf 'a line without end'\necho to stderr >&2\n"
SHELLS = {
    "bash": {".bashrc": NOISE},
    "dash": {},
    "tcsh": {".cshrc": 'echo Welcome to this site\necho -n "a line without end"\n'},
    "fish": {".config/fish/config.fish": NOISE},
    "rbash": {".bashrc": NOISE},
}


@pytest.fixture(scope="module", params=SHELLS)
def shell(request, lab, require):
    """A site whose account has this login shell, with start-up files that print."""
    name = request.param
    with OddSite(lab, f"has-{name}", **with_shell(require(name))) as site:
        for path, text in SHELLS[name].items():
            (site.root / path).parent.mkdir(parents=True, exist_ok=True)
            (site.root / path).write_text(text)
        yield name, site


@pytest.mark.parametrize("client", CLIENTS)
def test_every_login_shell_works_and_may_print(shell, works, refused, client):
    name, site = shell
    works(site.place(client=client))
    if name != "rbash":
        works(site.place("scp", client=client))
    else:  # the SFTP server's path has a slash, which such a shell does not run
        assert "begins no SFTP" in refused(site.place("scp", client=client))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_python_that_is_not_there_is_named(shell, refused, client):
    name, site = shell
    for python in ("python3-absent", "/absent/python3"):
        said = refused(site.place(python=python, client=client))
        if name == "rbash" and "/" in python:
            assert (
                "the restricted shell at has-rbash does not run /absent/python3 -> set access.python" in said
            )
        else:
            assert f"{python} cannot be run at has-{name}: " in said
            assert said.endswith(
                "-> set access.python of the site to a Python 3.8 or newer, or access.method to scp"
            )


def old_pythons() -> list[Path]:
    """Real ones, where there are any."""
    found = Path.home().glob(".pyenv/versions/*/bin/python")
    return [path for path in sorted(found) if path.parts[-3].startswith(("2.", "3.6.", "3.7."))]


def test_a_python_that_is_too_old_is_named(lab, refused, tmp_path):
    pretends = pythons.of_version(tmp_path, "3.6.8")
    with OddSite(lab, "old") as site:
        for python, version in [(pretends, "3.6.8"), *((path, path.parts[-3]) for path in old_pythons())]:
            assert (
                f"old: {python} at old is Python {version}; 3.8 or newer is needed -> set access.python"
            ) in refused(site.place(python=str(python)))


@pytest.mark.parametrize("client", CLIENTS)
def test_accounts_without_programs(lab, refused, works, client):
    with OddSite(lab, "sftponly", ForceCommand="internal-sftp") as site:
        assert "sftponly lets us run no program -> set access.method of the site to scp" in refused(
            site.place(client=client)
        )
        works(site.place("scp", client=client))
    with OddSite(lab, "nologin", **with_shell("/usr/sbin/nologin")) as site:
        assert "nologin lets us run no program -> " in refused(site.place(client=client))
        assert "nologin begins no SFTP (exit 1): " in refused(site.place("scp", client=client))
    with OddSite(lab, "nosftp", Subsystem="other /bin/true") as site:
        assert "nosftp offers no SFTP -> ask the site's manager" in refused(site.place("scp", client=client))
        works(site.place(client=client))


BANNER = """
*** UNAUTHORISED ACCESS: Permission denied (to strangers). Sessions that have timed out are logged. ***
bash: python3: command not found
No such file or directory
"""


@pytest.mark.parametrize("client", CLIENTS)
def test_a_banner_is_no_error(lab, works, refused, tmp_path, client):
    (tmp_path / "banner").write_text(BANNER)
    make_key(tmp_path / "stranger", "stranger")
    with OddSite(lab, "banner", Banner=str(tmp_path / "banner")) as site:
        works(site.place(client=client))
        works(site.place("scp", client=client))
        said = refused(site.place(client=client, python="/absent/python3"))
        assert "banner: /absent/python3 cannot be run at banner: " in said
        assert "/absent/python3:" in said
        site.configure(IdentityFile=str(tmp_path / "stranger"))
        assert "banner: banner refuses our key -> " in refused(site.place(client=client))


# Certificates


class Authority:
    """Signs keys, as a site's authority for SSH does."""

    def __init__(self, folder: Path):
        self.key = folder / "authority"
        self.public = make_key(self.key, "authority")

    def sign(self, key: Path, *options: str) -> Path:
        command = ["ssh-keygen", "-q", "-s", str(self.key), "-I", key.name, *options, str(key)]
        subprocess.run(command, check=True, capture_output=True)
        return key.with_name(f"{key.name.removesuffix('.pub')}-cert.pub")


@pytest.fixture
def authority(tmp_path):
    (tmp_path / "authority").mkdir()
    return Authority(tmp_path / "authority")


@pytest.mark.parametrize("client", CLIENTS)
def test_user_certificates(lab, authority, works, refused, tmp_path, client):
    """The server knows no key of ours, only the authority."""
    for name in ("beside", "apart", "late"):
        make_key(tmp_path / name, name)
    authority.sign(tmp_path / "beside.pub", "-n", lab.user)
    apart = authority.sign(tmp_path / "apart.pub", "-n", lab.user).rename(tmp_path / "elsewhere.pub")
    authority.sign(tmp_path / "late.pub", "-n", lab.user, "-V", "20160101:20160102")
    trusted = {"TrustedUserCAKeys": f"{authority.key}.pub", "AuthorizedKeysFile": "none"}
    with OddSite(lab, "certified", **trusted) as site:
        site.configure(IdentityFile=str(tmp_path / "beside"))
        works(site.place(client=client))
        site.configure(IdentityFile=str(tmp_path / "apart"), CertificateFile=str(apart))
        works(site.place("scp", client=client))
        for key in ("late", "apart"):
            site.configure(IdentityFile=str(tmp_path / key))
            assert "certified refuses our key -> " in refused(site.place(client=client))


@pytest.fixture
def certified(lab, authority, tmp_path):
    """A site whose host key is certified, under the name that it is known by."""
    key = lab.directory / "ssh" / "proven.host_key"
    make_key(key, "proven")
    certificate = authority.sign(key.with_name("proven.host_key.pub"), "-h", "-n", "proven.example.org")
    with OddSite(lab, "proven", HostCertificate=str(certificate)) as site:
        site.configure(HostKeyAlias="proven.example.org")
        yield site


def test_host_certificates(certified, authority, works, refused, tmp_path):
    key = " ".join(authority.public.split()[:2])
    certified.known_hosts.write_text(f"@cert-authority *.example.org {key}\n")
    works(certified.place(client="openssh"))
    works(certified.place("scp", client="openssh"))
    assert (
        "the host key of proven is not known, and paramiko cannot check its certificate -> install ssh"
    ) in refused(certified.place(client="paramiko"))
    certified.known_hosts.write_text(f"@cert-authority *.example.com {key}\n")
    for client in CLIENTS:
        assert "the host key of proven is not known -> get its fingerprint" in refused(
            certified.place(client=client)
        )
    own = " ".join(certified.host_key.split()[:2])
    certified.known_hosts.write_text(f"proven.example.org {own}\n")
    for client in CLIENTS:
        works(certified.place(client=client))
    with certified.known_hosts.open("a") as file:
        file.write(f"@revoked * {own}\n")
    for client in CLIENTS:
        assert "the host key of proven is revoked -> ask" in refused(certified.place(client=client))


# ssh_config and agents


@pytest.mark.parametrize("client", CLIENTS)
def test_ssh_config_of_many_files(lab, works, tmp_path, client):
    """Patterns, includes, Match, a jump host: an alias is all that the site's file knows."""
    with OddSite(lab, "inner") as site:
        known = tmp_path / "known hosts"
        known.write_text(lab.known_hosts.read_text() + site.known_hosts.read_text())
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "20-keys").write_text(
            f'Match host 127.*\n  User {lab.user}\n  IdentityFile "{lab.identity}"\n  IdentitiesOnly yes\n'
        )
        (tmp_path / "conf.d" / "10-hosts").write_text(
            f"Host data-?.site !data-9.site\n  HostName {site.host}\n  Port {site.port}\n  ProxyJump gate\n"
            "Host data-9.site\n  HostName absent.invalid\n"
            f"Host gate\n  HostName {lab['gate'].host}\n  Port {lab['gate'].port}\n"
        )
        config = tmp_path / "config"
        config.write_text(
            f"Include {tmp_path}/conf.d/*\nInclude {tmp_path}/absent\n"
            f'UserKnownHostsFile="{known}"\nGlobalKnownHostsFile /dev/null\nIdentityAgent none\n'
            "Host *\n  User nobody-of-that-name\n"
        )
        place = Place("inner", "stream", host="data-1.site", ssh_config=str(config), client=client)
        works(place)
        assert "Accepted publickey" in (lab.directory / "ssh" / "gate.log").read_text()


def test_what_paramiko_cannot_read(lab, refused, works):
    with OddSite(lab, "odd") as site:
        (site.root / "conditional").write_text("Host *\n  Port 1\n")
        site.configure(before=f"Host other\nInclude {site.root}/conditional\n")
        works(site.place(client="openssh"))
        assert "what paramiko cannot read (" in refused(site.place(client="paramiko"))
        site.configure(before="Match surely\n")
        assert "ssh refuses its configuration: " in refused(site.place(client="openssh"))
        assert "what paramiko cannot read (" in refused(site.place(client="paramiko"))


def test_keys_that_cannot_be_used_are_named(lab, refused, tmp_path):
    locked, open_to_all, junk, absent = (tmp_path / name for name in ("locked", "open", "junk", "absent"))
    for path, mode in ((locked, 0o600), (open_to_all, 0o644), (junk, 0o600)):
        path.write_text(lab.identity.read_text() if path != junk else "junk")
        path.chmod(mode)
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(locked)]
    subprocess.run(change, check=True, stdout=subprocess.DEVNULL)
    expected = [
        (
            locked,
            f"keys: the key {locked} is locked with a passphrase -> have an agent hold it: ssh-add",
            CLIENTS,
        ),
        (
            open_to_all,
            f"the key {open_to_all}, which others may read -> chmod 600 {open_to_all}",
            CLIENTS[:1],
        ),
        (junk, f"cannot read the key {junk}: ", CLIENTS),
        (absent, f"keys: there is no key {absent} -> correct IdentityFile in ssh_config", CLIENTS),
    ]
    with OddSite(lab, "keys") as site:
        for path, said, clients in expected:
            site.configure(IdentityFile=str(path))
            for client in clients:
                assert said in refused(site.place(client=client))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_jump_host_that_cannot_be_reached_is_named(lab, refused, client):
    with OddSite(lab, "behind") as site:
        said = refused(site.place(client=client, jump="127.0.0.9:1"))
        assert re.search(r"^behind: .* cannot be reached \(.*Connection refused\)", said)
        assert "127.0.0.9" in said


def test_proxy_commands(lab, works):
    """They are run, and ended with the connection: what a test leaves running fails it."""
    through = f"ssh -F '{lab.ssh_config}' -W %h:%p gate"
    with OddSite(lab, "proxied") as site:
        for command in (through, f"{through} 2>/dev/null"):
            site.configure(ProxyCommand=command)
            for client in CLIENTS:
                works(site.place(client=client, connections=2))
                works(site.place("scp", client=client))


@pytest.mark.parametrize("client", CLIENTS)
def test_proxy_commands_that_fail(lab, refused, dataset, tmp_path, client):
    """Each is ended, and paramiko's is quoted."""
    with OddSite(lab, "unproxied") as site:
        for command, said in (
            ("sh -c 'echo there is no way through >&2'", "(there is no way through) -> "),
            ("/absent/proxy %h", ": /absent/proxy: "),
        ):
            site.configure(ProxyCommand=command)
            told = refused(site.place(client=client, timeout=3))
            assert "unproxied cannot be reached" in told
            assert said in told
        # One that says nothing, and goes on when nobody listens any more.
        site.configure(ProxyCommand=f"sh -c 'sleep 600 & echo $! > {tmp_path}/pid; wait'")
        with pytest.raises(CaxflowError):
            copy(HERE, dataset, site.place(client=client, timeout=3), tmp_path / "refused")
        proxy = int((tmp_path / "pid").read_text())
        until(lambda: not runs(proxy), "the end of the proxy command")


@pytest.mark.parametrize("moment", ["before it is reached", "before it is logged in"])
def test_a_login_that_is_not_needed_any_more_ends(lab, monkeypatch, moment):
    """It was given up by another thread while it was under way; its ProxyCommand ends, or the test fails."""
    with OddSite(lab, "late") as site:
        site.configure(ProxyCommand=f"ssh -F '{lab.ssh_config}' -W %h:%p gate")
        channel, log_in = ParamikoChannel(site.place(), "true"), paramiko_channel.open_client

        def slow(place, *reached):
            if moment == "before it is reached":
                give_up()
            client = log_in(place, *reached)
            give_up()
            return client

        def give_up():
            channel.kill()
            others.append(threading.Thread(target=channel.end, args=(0,)))
            others[-1].start()

        others = []
        monkeypatch.setattr(paramiko_channel, "open_client", slow)
        with pytest.raises((OSError, CaxflowError), match="not needed any more"):
            channel.start()
        for thread in others:
            thread.join(60)


@pytest.mark.parametrize("moment", ["start", "write", "read"])
def test_paramiko_finds_the_connection_broken_when_it_sends(lab, monkeypatch, moment):
    """Its EOFError is an OSError like all others; reading sends too, to make room for more."""
    log_in, stopped = paramiko_channel.open_client, []

    def sever(client):
        # What is sent fails, and nothing else: the far end, which would close the rest, stands still.
        for pid in below(os.getpid()):
            with suppress(OSError):  # one that has ended
                if b"sshd" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGSTOP)
                    stopped.append(pid)
        client.get_transport().sock.shutdown(socket.SHUT_WR)

    def sever_at_login(place, *reached):
        client = log_in(place, *reached)
        sever(client)
        return client

    with OddSite(lab, "severed") as site:
        channel = ParamikoChannel(site.place(), "head -c 3000000 /dev/zero; cat")
        use = channel.start
        if moment == "start":
            monkeypatch.setattr(paramiko_channel, "open_client", sever_at_login)
        else:
            channel.start()
            until(lambda: len(channel._session.in_buffer) >= 3_000_000, "what is sent")
            sever(channel._client)
            use = partial(
                channel.write_some if moment == "write" else channel.read_into, memoryview(bytearray(1 << 20))
            )
        try:
            with pytest.raises(OSError, match="the connection is closed"):
                use()
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            channel.kill()
            channel.end(0)


def test_paramiko_prints_nothing_itself(lab, dataset, tmp_path):
    with OddSite(lab, "mute") as site, (tmp_path / "said").open("w") as said:
        site.configure(ProxyCommand="true")
        place = site.place(client="paramiko")
        ended = Copying(HERE, dataset, place, tmp_path / "copy", stderr=said).end()
        assert ended["error"].startswith("mute: mute cannot be reached")
    assert (tmp_path / "said").read_text() == ""


@pytest.fixture
def agent(lab, tmp_path, tmp_path_factory):
    """An agent that holds the lab's key, and asks the program `confirm`; the path of its socket."""
    # Such paths may not be long.
    path = Path(tmp_path_factory.getbasetemp().parent / f"agent-{os.getpid()}-{time.monotonic_ns() % 10**6}")
    environment = {**os.environ, "SSH_ASKPASS": str(tmp_path / "confirm"), "SSH_ASKPASS_REQUIRE": "force"}
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE, env=environment)
    with process.stdout as told:
        assert told.readline()  # once it listens; its socket is there before
    environment["SSH_AUTH_SOCK"] = str(path)
    subprocess.run(["ssh-add", "-q", str(lab.identity)], env=environment, check=True)
    yield path
    process.terminate()
    process.wait()
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_login_that_breaks_once_the_key_is_accepted(lab, agent, refused, monkeypatch, tmp_path, client):
    """It says nothing against the key: the server ended while the agent was asked."""
    with OddSite(lab, "breaks") as site:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        site.configure(IdentityFile="", IdentitiesOnly="no", IdentityAgent="")
        # From now on the agent asks before it signs.
        subprocess.run(["ssh-add", "-q", "-c", str(lab.identity)], check=True)
        confirm = tmp_path / "confirm"
        confirm.write_text(f"#!/bin/sh\npkill -KILL -P {site.server.pid}\n")
        confirm.chmod(0o755)
        for method in ("stream", "scp"):
            said = refused(site.place(method, client=client))
            assert said.startswith("breaks: breaks broke off the login: ")
            assert "sshd may be busy" in said


def test_agents(lab, agent, works, refused, monkeypatch):
    """The key is nowhere but in the agent."""
    with OddSite(lab, "agent") as site:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        site.configure(IdentityFile="", IdentitiesOnly="no", IdentityAgent="")
        for client in CLIENTS:
            works(site.place(client=client))
            works(site.place("scp", client=client))
        site.configure(IdentityFile="", IdentitiesOnly="no", IdentityAgent="none")
        for client in CLIENTS:
            assert "agent refuses our key -> check access.user of the site" in refused(
                site.place(client=client)
            )
        monkeypatch.delenv("SSH_AUTH_SOCK")
        site.configure(IdentityFile="", IdentitiesOnly="no", IdentityAgent=str(agent))
        works(site.place(client="openssh"))
        said = refused(site.place(client="paramiko"))
        assert f"paramiko cannot ask the agent that IdentityAgent names ({agent}) -> install ssh" in said


@pytest.mark.parametrize("client", CLIENTS)
def test_jump_hosts_are_checked_as_the_target_is(lab, works, refused, tmp_path, client):
    """Whatever ssh_config would let pass, and wherever jump hosts are named; what is known is used."""
    lax = (
        "Host *\n  StrictHostKeyChecking no\n  NoHostAuthenticationForLocalhost yes\n  UpdateHostKeys yes\n"
        "  BatchMode no\n  LogLevel QUIET\n"
    )
    with OddSite(lab, "near") as near, OddSite(lab, "next") as following, OddSite(lab, "inside") as inside:
        sites = (near, following, inside)

        def configured(name, known, **jumps):
            """A configuration for all of them that knows the keys of some."""
            (tmp_path / "known").write_text("".join(each.known_hosts.read_text() for each in known))
            path = tmp_path / name
            keys = {"UserKnownHostsFile": str(tmp_path / "known")}
            for each in sites:
                each.configure(**keys, **({"ProxyJump": jumps[each.name]} if each.name in jumps else {}))
            path.write_text("".join(each.ssh_config.read_text() for each in sites) + lax)
            return str(path)

        def place(config, method="stream", **keys):
            return Place("inside", method, host="inside", ssh_config=config, client=client, **keys)

        ways = (
            ({}, {"jump": "near,next"}),
            ({"inside": "near,next"}, {}),
            ({"inside": "next", "next": "near"}, {}),
            ({"next": "near"}, {"jump": "next"}),
        )
        for jumps, keys in ways:
            config = configured("all", sites, **jumps)
            works(place(config, **keys))
            before = (tmp_path / "known").read_text()
            for unknown in (near, following, inside):
                config = configured("some", [each for each in sites if each is not unknown], **jumps)
                said = refused(place(config, **keys))
                assert re.search(
                    r"the host key of \S+(, through which inside is reached,)? is not known", said
                )
                assert unknown is inside or client == "paramiko" or str(unknown.port) in said
            assert before == "".join(each.known_hosts.read_text() for each in sites)
            assert unknown.known_hosts.read_text() not in (tmp_path / "known").read_text()
        works(place(configured("all", sites, inside="near"), "scp"))
        circle = configured("circle", sites, inside="next", next="near", near="next")
        assert "more than 16 jump hosts, or a circle of them" in refused(place(circle))
