"""What operators type: the commands as processes, with real sites, a real database and real failures."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from copies import names
from desk import Desk
from experiment import HOSTS, ROOT, entry

RUN = "160315_1432"


class Ear:
    """Collects the lines of a process."""

    def __init__(self, process):
        self.process, self.lines = process, []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait(self, text, after=0, seconds=90):
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.lines[after:]):
            assert self.process.poll() is None, self.lines
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.05)
        return len(self.lines)

    def end(self, number=signal.SIGTERM):
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._thread.join()
        self.process.stdout.close()
        return code


@pytest.fixture
def desk(experiment):
    return Desk(experiment)


def test_the_daemon_from_idle_to_work_and_a_clean_stop(desk, experiment, runs):
    ear = Ear(desk.start("run", "--pause", "600"))
    try:
        ear.wait("nothing to do at midway")
        experiment.add_run(runs)
        ear.wait("nothing to do at midway", ear.wait("jobs done"))
        assert entry(runs, "raw", "midway")["status"] == "transferred"
        assert entry(runs, "raw", "tegner")["status"] == "transferred"
        # A second daemon is refused with the name of the first.
        code, said = desk.caxflow("run")
        assert code == 1
        assert f"process {ear.process.pid}" in said
    finally:
        code = ear.end()
    assert code == 0, ear.lines
    assert ear.lines[-1] == "caxflow run: stopped"
    assert "Traceback" not in "\n".join(ear.lines)
    lines = [line for line in ear.lines if re.match(r"\d\d:\d\d:\d\d done ", line)]
    # Noted at lngs, pulled and verified, pushed and verified: five jobs.
    assert len(lines) == 5, ear.lines


def test_a_failure_is_one_line_and_why_tells_the_rest(desk, experiment, runs):
    experiment.add_run(runs)
    zips = sorted(experiment.raw("lngs").glob("XENON1T-*.zip"))
    zips[0].unlink()
    code, said = desk.caxflow("run", "--once")
    assert code == 1
    (failed,) = [line for line in said.splitlines() if "FAILED" in line]
    assert re.match(r"\d\d:\d\d:\d\d FAILED take note of 160315_1432 at lngs", failed)
    assert "is not complete" in failed
    for noise in ("CalledProcessError", "set -euo", "RuleException", "Select jobs", "jobid"):
        assert noise not in said
    assert re.search(r"1 failed, so \d others were not run: `caxflow why 160315_1432` tells more", said)

    code, said = desk.caxflow("why", RUN)
    assert code == 1
    assert "is not complete" in said
    assert "next attempt from" in said
    assert str(experiment.work(f"logs/lngs/{RUN}.register_raw.log")) in said

    # Without the database, the journal knows.
    desk.configure(rundb={"uri": "mongodb://127.0.0.1:1", "timeout": 1})
    code, said = desk.caxflow("why", RUN, "150101_0000")
    assert code == 1
    assert "could not be asked" in said
    assert "is not complete" in said
    assert "no receipt and no failure at midway speaks of it" in said
    code, said = desk.caxflow("status")
    assert code == 1
    assert f"failed here: {RUN}" in said


def test_what_is_where_as_table_and_json(desk, experiment, runs):
    experiment.add_run(runs)
    code, said = desk.caxflow("run", "--once")
    assert code == 0, said
    code, said = desk.caxflow("status")
    assert code == 0, said
    assert max(map(len, said.splitlines())) <= 80
    assert "\x1b" not in said
    assert re.search(r"^midway +raw +proven +1 +\S+ [kMG]?B +\d+ s ago$", said, re.MULTILINE)
    rows = desk.json("status")["rows"]
    assert [(row["site"], row["state"], row["copies"]) for row in rows] == [
        ("lngs", "proven", 1),
        ("midway", "proven", 1),
        ("tegner", "proven", 1),
    ]
    size = sum(file.stat().st_size for file in experiment.raw("lngs").iterdir())
    assert {row["bytes"] for row in rows} == {size}
    # The document and each entry have their sizes.
    document = runs.find_one({"name": RUN})
    assert document["raw_size_byte"] == size
    assert {one["size"] for one in document["data"] if one["type"] == "raw"} == {size}

    (one,) = desk.json("status", RUN)
    assert {(copy["site"], copy["location"]) for copy in one["copies"]} == {
        (site, str(experiment.raw(site))) for site in ("lngs", "midway", "tegner")
    }
    assert one["receipts"]["tegner"] == ["raw.done", "checksum"]
    code, said = desk.caxflow("why", RUN)
    assert (code, said.splitlines()[0]) == (0, f"{RUN}: nothing remains to be done at midway")


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["status", "160315-1432"], "names look like 160315_1432"),
        (["why", "../../etc"], "names look like 160315_1432"),
        (["status", "--config", "batch=3"], "did you mean 'batch_size'?"),
        (["status", "--config", "dry"], "write it as dry=true"),
        (["doctor", "atlantis"], "the sites are"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(desk, words, mend):
    code, said = desk.caxflow(*words)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert mend in said


def test_the_database_is_rebuilt_from_receipts(desk, experiment, runs):
    experiment.site("midway", pull_from=["lngs"])
    experiment.add_run(runs)
    assert desk.caxflow("run", "--once")[0] == 0
    assert desk.caxflow("rundb", "init")[0] == 0
    code, said = desk.caxflow("rundb", "check")
    assert (code, said) == (0, "no surprises\n")
    before = {(one["type"], one["host"]): one for one in runs.find_one({"name": RUN})["data"]}

    born = [one for one in runs.find_one({"name": RUN})["data"] if one["host"] == HOSTS["lngs"]]
    runs.update_one({"name": RUN}, {"$set": {"data": born}})
    runs.database["caxflow_manifests"].delete_many({})
    runs.insert_one({"name": "../../etc", "detector": "tpc"})
    code, said = desk.caxflow("rundb", "check")
    assert code == 1
    assert "'../../etc'" in said
    assert said.count("has a receipt, and no entry") == 1

    spoiled = list(runs.find())
    code, said = desk.caxflow("rundb", "rebuild")
    assert code == 0
    assert "2 copies would be told; --apply does it" in said
    assert list(runs.find()) == spoiled
    code, said = desk.caxflow("rundb", "rebuild", "--apply")
    assert code == 0, said
    after = {(one["type"], one["host"]): one for one in runs.find_one({"name": RUN})["data"]}
    for key in ("status", "location", "manifest", "size"):
        assert {name: one[key] for name, one in after.items()} == {
            name: one[key] for name, one in before.items()
        }
    runs.delete_one({"name": "../../etc"})
    assert desk.caxflow("rundb", "check")[0] == 0
    # A second time there is nothing to tell.
    assert "0 copies told" in desk.caxflow("rundb", "rebuild", "--apply")[1]

    # A document that is lost comes back, without what nobody here knows.
    runs.delete_one({"name": RUN})
    code, said = desk.caxflow("rundb", "rebuild", "--apply")
    assert code == 1
    assert "--documents makes them" in said
    assert desk.caxflow("rundb", "rebuild", "--apply", "--documents")[0] == 0
    document = runs.find_one({"name": RUN})
    assert (document["number"], document["detector"]) == (1432, "tpc")
    assert {one["host"] for one in document["data"]} == {HOSTS["lngs"], HOSTS["midway"]}
    assert "end" not in document


def findings(desk, *words):
    return {(one["about"], one["said"]): one for one in desk.json("doctor", *words)}


def test_the_doctor_finds_nothing_then_each_thing_that_is_amiss(desk, experiment, runs):
    assert desk.caxflow("rundb", "init")[0] == 0
    code, said = desk.caxflow("doctor")
    assert code == 0, said
    assert "nothing is in the way" in said
    assert "reaches midway over SSH, as its own workflow does" in said
    # It leaves nothing behind.
    for site in ("midway", "tegner"):
        assert names(experiment.sites[site].root / "raw") == []
    assert runs.database["caxflow_health"].count_documents({}) == 0

    for site in ("midway", "tegner"):
        shutil.rmtree(experiment.sites[site].root / "raw")
    runs.drop_index("caxflow_number")
    hosts = experiment.sites.ssh_config.with_name("known_hosts")
    known = hosts.read_text().splitlines()
    port = experiment.sites["lngs"].port
    hosts.write_text("".join(f"{line}\n" for line in known if f":{port} " not in line))
    code, said = desk.caxflow("doctor")
    assert code == 1
    lines = said.splitlines()
    mends = {
        line.partition("FAIL ")[2]: lines[i + 1].strip() for i, line in enumerate(lines) if "FAIL" in line
    }
    found = "\n".join(f"{what} {mend}" for what, mend in mends.items())
    assert len(mends) == 4, said
    assert re.search(r"raw data here: .* is no folder -> mkdir -p /", found)
    assert re.search(r"runs database: indexes are missing: caxflow_number -> caxflow rundb init", found)
    assert re.search(r"site lngs: .*host key .* is not known -> ssh-keyscan", found)
    assert re.search(r"raw data at tegner: .* is no folder -> ssh .* 'mkdir -p /", found)
    # One partner alone.
    assert {about for about, _ in findings(desk, "lngs")} == {"site lngs"}


def test_without_database_and_python_the_doctor_still_answers(desk, experiment):
    desk.configure(rundb={"uri": "mongodb://127.0.0.1:1", "timeout": 1})
    site = yaml.safe_load((experiment.folder / "sites/lngs.yaml").read_text())
    site["access"]["python"] = "python-of-atlantis"
    experiment.write("sites/lngs.yaml", site)
    code, said = desk.caxflow("doctor")
    assert code == 1
    assert re.search(r"FAIL runs database: .* does not answer.*\n +-> start it", said)
    assert re.search(r"FAIL site lngs: .*python-of-atlantis.*\n +-> set access.python of the site", said)


def test_a_terminal_has_one_display_and_gets_its_cursor_back(desk, experiment, runs):
    experiment.add_run(runs)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--profile", str(desk.profile), f"midway/{RUN}.checksum"],
        cwd=ROOT,
        env=desk.environment | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    said = b""
    # Linux ends the last read with an error once nobody has the other end.
    while True:
        try:
            said += os.read(leader, 65536)
        except OSError:
            break
    os.close(leader)
    assert process.wait(60) == 0, said.decode()
    text = said.decode()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert re.search(r"\d of 3 jobs\b", re.sub(r"\x1b\[[0-9;]*m", "", text))
    assert "3 of 3 jobs done for 1 run" in text


def test_stopping_the_daemon_in_the_middle_of_a_copy(desk, experiment, runs):
    """The grace is over while a limit on its bandwidth holds a copy back; it is nobody's failure."""
    experiment.add_run(runs, events=40, events_per_file=20)
    limited = yaml.safe_load((experiment.folder / "sites/lngs.yaml").read_text())
    limited["access"]["bandwidth"] = 0.02
    experiment.write("sites/lngs.yaml", limited)
    ear = Ear(desk.start("run", "--grace", "0.2"))
    seen = experiment.work(f".caxflow/underway/midway.{RUN}.raw.done.json")
    deadline = time.monotonic() + 60
    while not seen.exists():
        assert time.monotonic() < deadline, ear.lines
        time.sleep(0.05)
    told = desk.json("why", RUN)[0]
    assert told["verdict"] == "busy"
    assert told["underway"][f"midway/{RUN}.raw.done"]["phase"] in ("connecting", "moving")
    assert ear.end() == 0, ear.lines
    assert ear.lines[-1] == "caxflow run: stopped"
    said = "\n".join(ear.lines)
    assert "Traceback" not in said, said
    assert "halted pull 160315_1432 from lngs: interrupted" in said
    assert not experiment.work(f"midway/{RUN}.raw.done").exists()
    assert not seen.exists()
    assert entry(runs, "raw", "midway")["status"] == "transferring"
    assert list(experiment.work(".caxflow/failures").glob("*")) == []
    # The next one takes the claim of the dead process over and goes on.
    del limited["access"]["bandwidth"]
    experiment.write("sites/lngs.yaml", limited)
    code, said = desk.caxflow("run", "--once")
    assert code == 0, said
    assert entry(runs, "raw", "midway")["status"] == "transferred"
