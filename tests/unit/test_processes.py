"""Which process did something, and whether it has ended: by number, start, boot and container."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading

import pytest
from bson import Decimal128, Int64

import needs
from caxflow import processes
from caxflow.receipts import who

SLEEP = [sys.executable, "-c", "print('ready', flush=True); import sys; sys.stdin.read()"]
# The number of exit(2), which ends one thread, by machine (asm/unistd.h).
EXIT = {"x86_64": 60, "aarch64": 93}


@pytest.fixture
def child():
    """A process that waits, and how it is described."""
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        started = processes.status(process.pid).started
        yield process, processes.identify() | {"pid": process.pid, "started": started}
        process.kill()


def test_this_process_is_this_one_and_lives():
    for described in (processes.identify(), who()):
        assert processes.is_this(described)
        assert not processes.has_ended(described)


def test_a_process_has_ended_before_its_parent_collects_it(child):
    process, described = child
    assert not processes.is_this(described)
    assert not processes.has_ended(described)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes.status(process.pid).state == "Z"
    assert processes.has_ended(described)
    process.wait()
    assert processes.status(process.pid) is None
    assert processes.has_ended(described)


def test_a_stopped_process_lives(child):
    process, described = child
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert processes.status(process.pid).state == "T"
    assert not processes.has_ended(described)


def test_a_number_that_is_in_use_again_is_another_process(child):
    _, described = child
    before = described | {"started": described["started"] - 1}
    assert processes.has_ended(before)
    assert processes.has_ended(processes.identify() | {"started": 1})
    assert not processes.is_this(processes.identify() | {"started": 1})
    assert processes.has_ended(described | {"pid": 2**22 + 1})
    assert processes.has_ended(described | {"pid": 2**62})


def test_a_number_that_a_thread_has_is_another_process():
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert processes.status(thread.native_id) is not None
        assert processes.has_ended(processes.identify() | {"pid": thread.native_id})
    finally:
        done.set()
        thread.join()


@pytest.mark.skipif(
    platform.machine() not in EXIT, reason="the number of exit(2) is not known for this machine"
)
def test_a_process_whose_main_thread_has_ended_lives_as_long_as_the_others():
    program = (
        "import ctypes, sys, threading\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "print('ready', flush=True)\n"
        f"ctypes.CDLL(None).syscall({EXIT[platform.machine()]}, 0)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        while (seen := processes.status(process.pid)).state != "Z":
            pass
        described = processes.identify() | {"pid": process.pid, "started": seen.started}
        assert not processes.has_ended(described)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.has_ended(described)


def test_what_cannot_be_known_has_not_ended(child):
    process, described = child
    process.kill()
    process.wait()
    # A database may have written the numbers as it likes.
    for write in (int, float, str, Int64, lambda number: Decimal128(str(number))):
        assert processes.has_ended(described | {key: write(described[key]) for key in ("pid", "started")})
    boot, _, spaces = described["machine"].partition("/")
    for odd in (
        {"machine": f"{boot[::-1]}/{spaces}"},
        {"machine": f"{boot}/1/1"},
        {"machine": None},
        {"started": None},
        {"started": described["started"] + 0.5},
        {"pid": f"process {described['pid']}"},
        {"pid": True},
        {"pid": 0},
        {"pid": -1},
    ):
        assert not processes.has_ended(described | odd), odd
    for missing in ("pid", "started", "machine"):
        assert not processes.has_ended({key: described[key] for key in described if key != missing})
    assert not processes.has_ended({})
    assert not processes.is_this({"pid": os.getpid()})


def elsewhere(*prefix, value="None", user=0):
    """How a process behind `prefix` describes itself, and a value that it computes as another user."""
    program = (
        "import json, os; from caxflow import processes\n"
        "processes.identify()  # imports what it needs, which the other user may not read\n"
        f"if {user}: os.setgroups([]); os.setgid({user}); os.setuid({user})\n"
        f"print(json.dumps([processes.identify(), {value}]))"
    )
    done = subprocess.run(
        [*prefix, sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


NOBODY = 65534


def test_a_process_of_another_user_lives():
    """It may not be sent a signal, and may be hidden."""
    needs.root()
    ended = f"processes.has_ended({processes.identify()})"
    assert elsewhere(value=ended, user=NOBODY)[1] is False
    seen = f"[processes.status({os.getpid()}), {ended}, processes.is_this(processes.identify())]"
    assert elsewhere(*needs.hidden_processes(), value=seen, user=NOBODY)[1] == [None, False, True]


def test_containers_of_one_host_name_do_not_know_each_others_processes():
    needs.root()
    ask = f"processes.has_ended({processes.identify() | {'pid': 2**22 + 1}})"
    contained = ["unshare", "--pid", "--fork", "--mount-proc"]
    inside, known = elsewhere(*contained, value=ask)
    assert known is False
    assert inside["machine"] != processes.machine()
    assert not processes.has_ended(inside)
    # Its /proc shows the processes of its parent: nothing is known by that.
    inside, known = elsewhere("unshare", "--pid", "--fork", value=ask)
    assert set(inside) == {"pid"}
    assert known is False
    own = "processes.is_this(processes.identify())"
    assert elsewhere("unshare", "--pid", "--fork", value=own)[1] is False
    # What counts its time from another moment.
    if os.path.exists("/proc/self/ns/time"):  # noqa: PTH110
        inside, known = elsewhere("unshare", "--time", "--boottime", "1000", "--fork", value=ask)
        assert known is False
        assert not processes.has_ended(inside)
