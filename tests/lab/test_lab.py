"""The lab itself: what its servers let in, what they refuse, and that nothing of them is ever left over."""

import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pymongo
import pytest
from pymongo import WriteConcern

from caxflow.demo.database import DatabaseServer
from caxflow.demo.server import Server, reserve_port
from caxflow.demo.sshd import SshSites, make_key
from caxflow.errors import CaxflowError
from caxflow.family import descendants
from experiment import runs
from waiting import until


@pytest.fixture(params=["openssh", "embedded"])
def both(request, tmp_path, require):
    """Two sites, served by OpenSSH and then by the embedded server."""
    for tool in ["ssh", "scp", "sftp"] + ["sshd"] * (request.param == "openssh"):
        require(tool)
    with SshSites(tmp_path / "a lab", ["lngs", "midway"], embedded=request.param == "embedded") as running:
        yield running


def ssh(sites, host, command, *options):
    return subprocess.run(
        ["ssh", "-F", sites.ssh_config, *options, host, command], capture_output=True, text=True, check=False
    )


def test_each_site_is_a_place_of_its_own(both):
    for site in both:
        (site.root / "fact").write_text(site.name)
        answer = ssh(both, site.name, f"cat {shlex.quote(str(site.root))}/fact; exit 7")
        assert (answer.stdout, answer.returncode) == (site.name, 7)
    assert both["lngs"].host_key != both["midway"].host_key


def test_sftp_scp_and_binary_streams_pass(both, tmp_path):
    data = bytes(range(256)) * 4096
    (tmp_path / "data").write_bytes(data)
    there = both["midway"].root
    options = ["-q", "-F", both.ssh_config]
    subprocess.run(["scp", *options, tmp_path / "data", f"midway:{there}/by-scp"], check=True)
    subprocess.run(["scp", *options, "-O", tmp_path / "data", f"midway:'{there}/by-old-scp'"], check=True)
    command = f"cat > {shlex.quote(str(there / 'by-stream'))}"
    subprocess.run(["ssh", "-F", both.ssh_config, "midway", command], input=data, check=True)
    assert [(there / f"by-{way}").read_bytes() == data for way in ("scp", "old-scp", "stream")] == [True] * 3
    batch = f'rename "{there}/by-scp" "{there}/renamed"\n'
    subprocess.run(["sftp", *options, "-b", "-", "midway"], input=batch, text=True, check=True)
    assert (there / "renamed").read_bytes() == data


def test_streams_side_by_side_arrive_whole(both, tmp_path):
    data = os.urandom(1 << 20) * 24
    (tmp_path / "source").write_bytes(data)
    pull = f"cat {tmp_path}/source"
    push = f"cat > {tmp_path}/pushed-%d && cat {tmp_path}/pushed-%d"

    def call(command):
        given = data if command.startswith("cat >") else b""
        done = subprocess.run(
            ["ssh", "-F", both.ssh_config, "lngs", command], input=given, stdout=subprocess.PIPE, check=True
        )
        return done.stdout == data

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, [pull, push % (1, 1), pull, push % (2, 2)])) == [True] * 4


def test_login_files_of_the_user_play_no_part(both):
    assert ssh(both, "midway", 'printf %s "$HOME"').stdout == str(both["midway"].root)


def test_python_at_a_site_is_this_one(both):
    assert ssh(both, "midway", "python3 -c 'import sys; print(sys.prefix)'").stdout.strip() == sys.prefix


def test_wrong_key_is_refused(both, tmp_path):
    make_key(tmp_path / "other", "stranger")
    options = ["-F", "none", "-i", tmp_path / "other", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    options += ["-o", f'UserKnownHostsFile="{both.known_hosts}"', "-p", str(both["lngs"].port)]
    answer = ssh_plain(options, f"{both.user}@127.0.0.1")
    assert answer.returncode == 255
    assert "Permission denied (publickey)" in answer.stderr


def ssh_plain(options, target):
    return subprocess.run(["ssh", *options, target, "true"], capture_output=True, text=True, check=False)


def test_password_is_refused(both):
    answer = ssh(both, "lngs", "true", "-o", "PubkeyAuthentication=no")
    assert answer.returncode == 255
    assert "Permission denied (publickey)" in answer.stderr


def test_changed_and_unknown_host_keys_are_refused(both):
    known = both.known_hosts.read_text()
    both.known_hosts.write_text(known.replace(both["lngs"].host_key, both["midway"].host_key))
    changed = ssh(both, "lngs", "true")
    assert changed.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in changed.stderr
    both.known_hosts.write_text("")
    unknown = ssh(both, "lngs", "true")
    assert unknown.returncode == 255
    assert "Host key verification failed" in unknown.stderr


def test_a_site_can_be_a_jump_host(both):
    # What ProxyJump stands for; spelled out, since ProxyJump does not bear a blank in the path after -F.
    through = f'ProxyCommand=ssh -F "{both.ssh_config}" -W %h:%p lngs'
    answer = ssh(both, "midway", "echo jumped", "-o", through)
    assert (answer.stdout, answer.stderr) == ("jumped\n", "")


def test_stopping_a_site_ends_its_sessions_and_leaves_the_others(both):
    session = subprocess.Popen(
        ["ssh", "-F", both.ssh_config, "lngs", "setsid sleep 600 & echo $!; wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with session:
        pid = int(session.stdout.readline())
        assert runs(pid)
        both["lngs"].stop()
        assert not runs(pid)
        assert session.wait() == 255
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", both["lngs"].port))
    assert ssh(both, "midway", "true").returncode == 0
    both["lngs"].start()
    assert ssh(both, "lngs", "true").returncode == 0


def test_a_reserved_port_is_given_to_one_owner():
    class Owner:
        pass

    first, second = Owner(), Owner()
    port = reserve_port(first)
    lowest, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert port < int(lowest)  # else a connection that goes out might get it
    assert reserve_port(second, port) != port
    del first
    assert reserve_port(second, port) == port
    with socket.create_server(("127.0.0.1", reserve_port(second))) as listener:
        taken = listener.getsockname()[1]
        assert reserve_port(Owner(), taken) != taken


def test_keys_are_private_and_survive_a_restart(both):
    before = both["lngs"].host_key
    both.stop()
    again = SshSites(both.directory, ["lngs", "midway"], embedded=both.embedded)
    assert again["lngs"].host_key == before
    assert stat.S_IMODE(both.identity.stat().st_mode) == 0o600
    assert stat.S_IMODE(both.identity.parent.stat().st_mode) == 0o700


OWNER = """
import sys, time
from pathlib import Path
from caxflow.demo.database import DatabaseServer
from caxflow.demo.sshd import SshSites
sites = SshSites(Path(sys.argv[1]), ["lngs"]).start()
database = DatabaseServer(Path(sys.argv[1]) / "rundb").start()
print(sites["lngs"].server.pid, database.server.pid, flush=True)
time.sleep(600)
"""


def test_servers_end_when_their_owner_is_killed(tmp_path, pytestconfig):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(pytestconfig.rootpath / "workflow")},
    )
    with owner:
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 2
        assert all(runs(pid) for pid in pids)
        owner.kill()
    until(lambda: not any(runs(pid) for pid in pids), "the end of its sessions", 120)


def test_a_server_that_ignores_signals_and_its_orphans_are_ended(tmp_path):
    program = "trap '' TERM INT HUP; (setsid sleep 600 & echo $! > orphan); while :; do sleep 0.1; done"
    server = Server("a stubborn one", ["sh", "-c", f"cd {tmp_path}; {program}"], tmp_path / "log")
    server.start()
    orphan = server.wait(lambda: (tmp_path / "orphan").exists() and (tmp_path / "orphan").read_text().strip())
    pid = server.pid
    assert runs(pid)
    assert runs(int(orphan))
    server.kill()
    assert not runs(pid)
    assert not runs(int(orphan))


def test_a_server_that_cannot_start_says_why(tmp_path):
    server = Server("the experiment", ["sh", "-c", "echo no power >&2; exit 3"], tmp_path / "log")
    server.start()
    with pytest.raises(CaxflowError, match="the experiment ended at its start: no power"):
        server.wait(lambda: False)
    missing = Server("the detector", [tmp_path / "nowhere"], tmp_path / "log")
    missing.start()
    with pytest.raises(CaxflowError, match=r"the detector ended at its start: .*No such file"):
        missing.wait(lambda: False)


def test_database_keeps_acknowledged_writes_when_killed(tmp_path):
    kept = DatabaseServer(tmp_path).start()
    with pymongo.MongoClient(kept.uri) as client:
        runs = client.run.get_collection("runs_new", write_concern=WriteConcern("majority"))
        for number in range(50):
            runs.insert_one({"number": number})
    kept.kill()
    with kept, pymongo.MongoClient(kept.uri) as client:
        found = sorted(document["number"] for document in client.run.runs_new.find())
    assert found == list(range(50))
    assert stat.S_IMODE((tmp_path / "storage").stat().st_mode) == 0o700


def test_database_asks_for_a_password_if_told_to(tmp_path):
    with DatabaseServer(tmp_path) as open_to_all, pymongo.MongoClient(open_to_all.uri) as client:
        client.admin.command("createUser", "daq", pwd="not-a-secret", roles=["root"])
    with DatabaseServer(tmp_path, auth=True) as locked:
        with pymongo.MongoClient(locked.uri) as client, pytest.raises(pymongo.errors.OperationFailure):
            client.run.runs_new.find_one()
        with pymongo.MongoClient(locked.uri, username="daq", password="not-a-secret") as client:
            assert client.run.runs_new.find_one() is None


def test_a_signal_to_the_keeper_ends_the_server_gently(tmp_path):
    program = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    log = tmp_path / "log"
    server = Server("a gentle one", ["sh", "-c", program], log)
    server.start()
    server.wait(lambda: log.read_text() == "ready\n")
    os.kill(server._keeper.pid, signal.SIGTERM)
    until(lambda: not server.running, "the end of the server", 120)
    assert log.read_text() == "ready\nbye\n"
    server.stop()


def test_a_process_whose_first_thread_has_ended_is_still_seen_with_its_children():
    # Linux shows it as a zombie then, as it does a server of several threads that is just ending.
    half = (
        "import ctypes, subprocess, threading, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "print(child.pid, flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", half], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        try:
            until(lambda: not runs(process.pid), "its end", 120)
            assert {process.pid, child} <= set(descendants())
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)
    until(lambda: not runs(child), "the end of the server", 120)
    assert not {process.pid, child} & set(descendants())
