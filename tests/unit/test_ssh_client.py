"""What is made of an ssh client's words, and what becomes of one that nobody needs any more."""

import os
import threading

import pytest

from caxflow import transfer
from caxflow.errors import CaxflowError
from caxflow.monitoring.doctor.login import Login
from caxflow.transfer import Place
from caxflow.transfer import ssh as transfer_ssh
from caxflow.transfer.ssh import HelperConnection
from caxflow.transfer.task import Task

FAR = Place("far", "stream", host="far", client="openssh")


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Have a script be `ssh`."""

    def be(script):
        program = tmp_path / "ssh"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return be


def test_what_the_far_end_says_is_told_though_ssh_breaks_in_on_it(ssh):
    ssh(r"printf 'sh: 1: python3: not founddebug1: channel 0: exit-status\r\n\n' >&2; exit 127")
    with pytest.raises(CaxflowError, match="cannot be run at far: sh: 1: python3: not found ->"):
        transfer.inventory(FAR, "/data")


def test_a_connection_that_comes_when_all_is_done_ends(ssh):
    ssh("exit 0")
    task = Task(FAR)
    task.close()
    with pytest.raises(CaxflowError, match="far: is not needed any more"):
        task.open(FAR, lambda _: None)


def test_what_ssh_has_started_may_outlive_it(ssh, tmp_path):
    """It keeps ssh's standard error open, which is closed when it ends, not left for a later test to find."""
    os.mkfifo(tmp_path / "gate")
    # What is still in ssh's own group when that ends, ends with it.
    apart = f"setsid sh -c ': >$APART; exec cat {tmp_path}/gate' >/dev/null </dev/null &"
    ssh(
        f"export APART={tmp_path}/apart.$$; {apart} while ! [ -e $APART ]; do sleep 0.01; done\n"
        "echo no way >&2; exit 255"
    )
    before = set(threading.enumerate())
    with pytest.raises(CaxflowError, match="no way"):
        transfer.inventory(FAR, "/data")
    (listener,) = [new for new in set(threading.enumerate()) - before if "_listen" in new.name]
    (tmp_path / "gate").write_text("")
    listener.join(60)
    assert not listener.is_alive()


class Closed:
    """A channel to a far end that has printed something and ended before it took what we sent."""

    cipher = ""
    authenticated, begun = True, False

    def __init__(self, printed):
        self.printed = printed

    def start(self, step):
        step()

    def write_some(self, view):
        raise OSError("Socket is closed")

    def read_into(self, view):
        printed, self.printed = self.printed, b""
        view[: len(printed)] = printed
        return len(printed)

    def kill(self):
        pass

    def end(self, wait):
        return "", 1


def test_a_far_end_that_takes_nothing_is_quoted():
    connection = HelperConnection(FAR, Closed(b"This service allows sftp connections only.\n"))
    with pytest.raises(CaxflowError, match=r"far: far lets us run no program -> set access\.method"):
        connection.greet()


@pytest.mark.parametrize("where", ["1", "2"])
def test_a_login_that_prints_without_end_is_ended(ssh, where):
    ssh(f'case "$*" in *" -G "*) exit;; esac; exec yes "Authenticated to far" >&{where}')
    said = Login(FAR, "cat").end()
    assert len(said.out) <= 1 << 20
    assert said.failed


def test_words_of_a_far_end_do_not_prolong_a_login(ssh, monkeypatch):
    """It prints what ssh prints when it gets on, again and again."""
    monkeypatch.setattr(transfer_ssh, "_LOGIN_AT_MOST", 0.05)  # of 20 s
    ssh(
        'case "$*" in *" -G "*) exit;; esac; '
        'while sleep 0.1; do echo "debug1: Connecting to far [127.0.0.1] port 22." >&2 || exit; done'
    )
    with pytest.raises(
        CaxflowError, match=r"^far: far: a connection to 127\.0\.0\.1, port 22 took longer than"
    ):
        transfer.inventory(FAR, "/data")
