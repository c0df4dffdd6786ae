"""The daemon: works while there is work, waits for new runs, stops when told to."""

import datetime
import os
import signal
import sys
import threading
import time

import pytest

from caxflow import daemon, receipts
from caxflow.config import load as read_config
from caxflow.daemon import Daemon
from caxflow.demo.server import reserve_port
from caxflow.errors import CaxflowError
from caxflow.workdir import chores
from operators import RUN, configured, document, raw
from waiting import until

# Stands in Snakemake's place: takes a note, and does what the test gave it to do.
NOTE = (
    "import pathlib, sys; file = pathlib.Path({file!r}); file.open('a').write(f'called {{sys.argv[1]}}\\n'); "
)


class Said(list):
    """What the daemon said; `wait` for a line."""

    def wait(self, text, seconds=60):
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self):
            assert time.monotonic() < deadline, self
            time.sleep(0.02)


@pytest.fixture
def runs(database):
    return database["runs_new"]


@pytest.fixture
def make(tmp_path, database, database_uri):
    """Make a daemon whose command is a Python script."""

    def make(script="", uri=database_uri, config=(), **keys):
        # Written once: a daemon at work reads it at any time.
        configured(tmp_path, uri, database.name)

        def load():
            overrides = {"site": "midway", "kinds": ["raw"]} | dict(config)
            return read_config(overrides, tmp_path / "config")

        note = NOTE.format(file=str(tmp_path / "calls"))
        said = Said()

        def command(target):
            return [sys.executable, "-c", note + script, target]

        made = Daemon(load, command, tmp_path, say=said.append, **keys)
        return made, said

    return make


def calls(tmp_path):
    file = tmp_path / "calls"
    return file.read_text().count("called") if file.exists() else 0


def called(tmp_path):
    """The targets of all calls."""
    file = tmp_path / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.removeprefix("called ") for line in lines if line.startswith("called")]


class Serving:
    """A daemon in a thread, stopped at the end of the block."""

    def __init__(self, one):
        self.one, self.thread = one, threading.Thread(target=one.run)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.one.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()


def test_one_look_waits_for_nothing(tmp_path, make, runs):
    runs.insert_one(document(tmp_path, raw(tmp_path, "midway"), raw(tmp_path, "tegner")))
    one, said = make()
    assert one.once()
    assert said == ["nothing to do at midway"]


def test_nothing_to_do_starts_nothing(tmp_path, make, runs):
    runs.insert_one(document(tmp_path, raw(tmp_path, "midway"), raw(tmp_path, "tegner")))
    one, said = make()
    assert one.round() == ([], True)
    assert said == ["nothing to do at midway; waiting for new runs"]
    # It is not said again and again.
    one.round()
    assert len(said) == 1
    assert calls(tmp_path) == 0


@pytest.mark.parametrize("code", [0, 1])
def test_work_is_done_and_its_end_known(tmp_path, make, runs, code):
    runs.insert_one(document(tmp_path))
    one, _ = make(f"sys.exit({code})")
    wanted, good = one.round()
    assert f"midway/{RUN}.checksum" in wanted
    assert good == (code == 0)
    assert calls(tmp_path) == 1


def test_what_the_database_was_not_told_is_work(tmp_path, make):
    from caxflow.targets import Target
    from caxflow.workdir import journal

    journal.announce(tmp_path / "work/midway", Target("midway", RUN, "raw.done"))
    one, _ = make()
    assert one.round() == ([], True)
    assert calls(tmp_path) == 1
    # The command could not tell it: that is no work for ever.
    assert one.round() == ([], True)
    assert calls(tmp_path) == 1


def test_a_scrub_and_a_purge_are_done_from_time_to_time(tmp_path, make, runs):
    runs.insert_one(document(tmp_path, raw(tmp_path, "midway"), raw(tmp_path, "tegner")))
    config = {"daemon": {"scrub": 2, "purge": 1}, "purge": {"after_days": 90}}
    one, said = make(config=config)
    work = tmp_path / "work/midway"
    assert one.once()
    assert called(tmp_path) == ["purge", "scrub"]
    assert said == ["purge is due at midway", "scrub is due at midway", "nothing to do at midway"]
    assert one.once()
    assert called(tmp_path) == ["purge", "scrub"]
    for name, hours in (("scrub", 1.9), ("purge", 1.1)):
        chores.done(work, name, receipts.now() - datetime.timedelta(hours=hours), good=True)
    one.once()
    assert called(tmp_path) == ["purge", "scrub", "purge"]
    # Work comes after what is due, in the same round.
    runs.insert_one(document(tmp_path, run=type(RUN)("160316_0000")))
    chores.done(work, "scrub", receipts.now() - datetime.timedelta(hours=3), good=True)
    wanted, good = one.round()
    assert (bool(wanted), good) == (True, True)
    assert called(tmp_path)[3:] == ["scrub", "all"]


def test_without_all_only_chores_are_done(tmp_path, make, runs):
    runs.insert_one(document(tmp_path))
    one, _ = make(config={"daemon": {"all": False, "scrub": 24}})
    assert one.round() == ([], True)
    assert called(tmp_path) == ["scrub"]


def test_a_chore_that_failed_is_due_again_sooner(tmp_path, make, runs):
    one, _ = make("sys.exit(1)", config={"daemon": {"all": False, "scrub": 4}})
    assert not one.once()
    assert one.once()
    chores.done(tmp_path / "work/midway", "scrub", receipts.now() - datetime.timedelta(hours=1.1), good=False)
    assert not one.once()
    assert called(tmp_path) == ["scrub", "scrub"]
    (tmp_path / "work/midway" / chores.FILE).write_text("{")
    assert not one.once()


def test_a_chore_that_was_interrupted_is_due_still(tmp_path, make, runs):
    script = "import time; file.open('a').write('ready\\n'); time.sleep(600)"
    one, _ = make(script, config={"daemon": {"all": False, "scrub": 4}}, grace=0.1)
    with Serving(one):
        until(lambda: calls(tmp_path) and "ready" in (tmp_path / "calls").read_text(), "a call that is ready")
    assert chores.due(tmp_path / "work/midway", one.load().daemon.every, receipts.now()) == ["scrub"]


def test_nothing_is_due_while_the_database_is_away(tmp_path, make, free_port):
    config = {"daemon": {"all": False, "scrub": 4}}
    one, said = make(uri=f"mongodb://127.0.0.1:{free_port}/?serverSelectionTimeoutMS=200", config=config)
    assert one.round() == ([], False)
    assert "does not answer" in said[0]
    assert calls(tmp_path) == 0


def test_a_purge_that_nothing_is_said_of_is_refused(tmp_path, make):
    one, _ = make(config={"daemon": {"purge": 24}})
    with pytest.raises(CaxflowError, match=r"daemon\.purge: nothing says what may be removed"):
        one.load()


def test_a_new_run_wakes_it(tmp_path, make, runs):
    one, said = make(pause=1000)
    with Serving(one):
        said.wait("waiting for new runs")
        runs.insert_one(document(tmp_path))
        until(lambda: calls(tmp_path), "a call")
    assert said[-1] == "stopped"


def test_a_run_that_comes_right_after_the_look_is_not_missed(tmp_path, make, runs):
    one, said = make(pause=1000)

    def say(line):
        said.append(line)
        if "nothing to do" in line and not runs.count_documents({}):
            runs.insert_one(document(tmp_path))

    one.say = say
    with Serving(one):
        until(lambda: calls(tmp_path), "a call")
    assert said[-1] == "stopped"


def test_the_same_again_waits_for_the_pause(tmp_path, make, runs):
    """A command that achieves nothing, as under `dry`, is not called in a hot loop."""
    runs.insert_one(document(tmp_path))
    one, _ = make(pause=1000)
    waits = []
    one._wait = lambda seconds, news: (waits.append(seconds), one.stop())
    one.run()
    assert (calls(tmp_path), waits) == (2, [1000])


def test_without_the_database_it_says_so_once_and_goes_on(tmp_path, make, free_port):
    one, said = make(uri=f"mongodb://127.0.0.1:{free_port}/?serverSelectionTimeoutMS=200", pause=0.05)
    looks, load = [], one.load
    one.load = lambda: (looks.append(1), load())[1]
    with Serving(one):
        said.wait("does not answer")
        so_far = len(looks)
        until(lambda: len(looks) > so_far + 3, "further looks")
    assert sum("does not answer" in line for line in said) == 1
    assert calls(tmp_path) == 0


def test_a_configuration_that_was_spoiled_is_told_and_mended_without_restart(tmp_path, make, runs):
    runs.insert_one(document(tmp_path, raw(tmp_path, "midway"), raw(tmp_path, "tegner")))
    one, said = make(pause=0.05)
    good, spoiled = one.load, threading.Event()

    def load():
        if spoiled.is_set():
            raise CaxflowError("config.yaml: unknown key 'batch'", "did you mean 'batch_size'?")
        return good()

    one.load = load
    with Serving(one):
        said.wait("nothing to do")
        spoiled.set()
        said.wait("did you mean 'batch_size'?")
        said.clear()
        spoiled.clear()
        said.wait("nothing to do")


def test_only_one_serves_a_site(tmp_path, make):
    one, said = make(pause=1000)
    other, _ = make()
    with Serving(one):
        said.wait("serving midway")
        with pytest.raises(CaxflowError, match=f"process {os.getpid()} -> one is enough"):
            other.run()
    with daemon.alone(tmp_path / "work/midway"):
        pass


def test_jobs_at_work_may_end_when_it_is_to_stop(tmp_path, make, runs):
    """SIGTERM is handed on, and the command, which takes it as Snakemake does, ends in its own time."""
    runs.insert_one(document(tmp_path))
    script = "import signal, time\n"
    script += "def end(*_): time.sleep(0.3); file.open('a').write('ended\\n'); sys.exit(1)\n"
    script += "signal.signal(15, end); file.open('a').write('ready\\n'); time.sleep(600)"
    one, _ = make(script, grace=50)
    with Serving(one):
        until(lambda: calls(tmp_path) and "ready" in (tmp_path / "calls").read_text(), "a call that is ready")
    assert "ended" in (tmp_path / "calls").read_text()


def test_after_the_grace_they_are_interrupted(tmp_path, make, runs):
    runs.insert_one(document(tmp_path))
    script = "import signal, time; signal.signal(15, signal.SIG_IGN)\n"
    script += "try:\n    file.open('a').write('ready\\n'); time.sleep(600)\n"
    script += "except KeyboardInterrupt:\n    file.open('a').write('interrupted\\n')"
    one, said = make(script, grace=0.1)
    with Serving(one):
        until(lambda: calls(tmp_path) and "ready" in (tmp_path / "calls").read_text(), "a call that is ready")
    assert "interrupted" in (tmp_path / "calls").read_text()
    assert any("jobs at work have" in line for line in said)


def test_a_second_signal_interrupts_at_once(tmp_path, make, runs):
    runs.insert_one(document(tmp_path))
    script = "import signal, time; signal.signal(15, signal.SIG_IGN)\n"
    script += "file.open('a').write('ready\\n'); time.sleep(600)"
    one, _ = make(script, grace=1000)
    with Serving(one):
        until(lambda: calls(tmp_path) and "ready" in (tmp_path / "calls").read_text(), "a call that is ready")
        one.stop(signal.SIGTERM, None)


@pytest.fixture
def free_port():
    return reserve_port(pytest)
