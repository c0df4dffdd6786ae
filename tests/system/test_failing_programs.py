"""Case U3: a program that fails is run once, told once, and the log that is named has what it said."""

import re
import sys

import pytest

from caxflow import joblogs
from caxflow.targets import Run, Target
from caxflow.workdir import journal
from desk import Desk
from experiment import entry

RUN = "160315_1432"

# What a program does, and what of it is in the log that the message names.
PROGRAMS = {
    "it divides by zero": ("print(1/0)", ["Traceback", "ZeroDivisionError: division by zero"]),
    "it says nothing": ("raise SystemExit(3)", ["exited with 3", "it wrote nothing"]),
    "it makes nothing": ("print('all is well')", ["all is well", "exited with 0 but wrote no"]),
}


@pytest.fixture
def desk(experiment, runs):
    """Midway, that has a run to process by a program; `tries` counts how often that was started."""
    experiment.add_run(runs)
    desk = Desk(experiment)
    desk.tries = experiment.folder / "tries"
    return desk


def program(desk, words):
    """A command that counts its calls, then runs these words of Python."""
    script = desk.experiment.folder / "program.py"
    script.write_text(f"open({str(desk.tries)!r}, 'a').write('.')\n{words}\n")
    return f"{sys.executable} {script} {{input}} {{output}}"


def named_log(line):
    return re.search(r"(/\S+\.log)", line)[1]


def failure_of_minitrees(desk, experiment, command):
    """The line that says how a command for minitrees failed."""
    experiment.site(
        "midway",
        roots=("raw", "processed", "minitrees"),
        pull_from=["lngs"],
        processed={"version": "mini_v1", "cores": 1},
        minitrees={"make": ["Proximity"], "command": command},
    )
    desk.configure(kinds=["raw", "processed", "minitrees"], processors={"mini_v1": {"kind": "mini"}})
    code, said = desk.caxflow("run", "--once")
    assert code == 1
    (failed,) = [line for line in said.splitlines() if "FAILED" in line]
    return failed


def test_u3_the_same_of_a_program_that_makes_minitrees(desk, experiment):
    words, expected = PROGRAMS["it divides by zero"]
    command = program(desk, words).replace("{input} {output}", "{processed} {directory}")
    failed = failure_of_minitrees(desk, experiment, command)
    assert desk.tries.read_text() == "."
    kept = experiment.work(f"logs/midway/{RUN}.make_minitrees.log")
    assert all(word in kept.read_text() for word in expected)
    assert named_log(failed) == str(kept)


@pytest.mark.parametrize("case", PROGRAMS)
def test_u3_a_program_that_fails_is_run_once_and_its_log_is_named(desk, experiment, runs, case):
    """What the user types: snakemake all, with a processor whose command is python3 -c "print(1/0)"."""
    words, expected = PROGRAMS[case]
    processor = {"kind": "command", "command": program(desk, words), "conda": ""}
    experiment.site("midway", pull_from=["lngs"], processed={"version": "pax_v6.11.2", "cores": 1})
    desk.configure(kinds=["raw", "processed"], processors={"pax_v6.11.2": processor})
    code, said = desk.caxflow("run", "--once")
    assert code == 1
    (failed,) = [line for line in said.splitlines() if "FAILED" in line]
    assert desk.tries.read_text() == "."
    log = experiment.work(f"logs/midway/{RUN}.process_raw.log")
    kept = log.read_text()
    assert all(word in kept for word in expected), kept
    if "read /" in failed:
        assert named_log(failed) == str(log)
    failure = journal.failure(experiment.work(), Target("midway", Run.parse(RUN), "processed.done"))
    assert (failure["attempts"], failure["times"]) == (1, 1)
    assert entry(runs, "processed", "midway")["caxflow"]["attempts"] == 1
    code, said = desk.caxflow("why", RUN)
    assert code == 1
    assert str(log) in said
    assert "1 attempt" in said


def test_u3_attempts_of_one_call_and_of_the_next_stand_in_the_log_the_newest_first(desk, experiment):
    """A program that is killed for its memory is tried three times a call, each with a new log."""
    count = f"len(open({str(desk.tries)!r}).read())"
    words = f"import os; print('try', {count}, flush=True); os.kill(os.getpid(), 9)"
    processor = {"kind": "command", "command": program(desk, words), "conda": "", "pax_version": "v6.11.2"}
    experiment.site("midway", pull_from=["lngs"], processed={"version": "pax_v6.11.2", "cores": 1})
    desk.configure(kinds=["raw", "processed"], processors={"pax_v6.11.2": processor})
    log = experiment.work(f"logs/midway/{RUN}.process_raw.log")
    for tries in (3, 6):
        code, said = desk.snakemake(f"midway/{RUN}.processed.root")
        assert code == 1, said
        assert desk.tries.read_text() == "." * tries
        assert {named_log(line) for line in said.splitlines() if "FAILED" in line} == {str(log)}
        found = re.findall(r"^try (\d)$", log.read_text(), re.MULTILINE)
        assert found == [str(number) for number in range(tries, 0, -1)]
    # What succeeds at last has a log of its own, and none of it.
    embedded = {"kind": "mini", "command": None, "conda": None, "pax_version": "v6.11.2"}
    desk.configure(kinds=["raw", "processed"], processors={"pax_v6.11.2": embedded})
    code, said = desk.snakemake(f"midway/{RUN}.processed.root")
    assert code == 0, said
    assert "try" not in log.read_text()
    assert not list(experiment.work(joblogs.FOLDER).iterdir())


def test_u3_a_program_that_makes_minitrees_that_are_none(desk, experiment):
    words = "import sys; print('all is well'); open(sys.argv[1], 'w').write('x')"
    command = program(desk, words).replace("{input} {output}", "{directory}/{run}_Proximity.root")
    failed = failure_of_minitrees(desk, experiment, command)
    log = experiment.work(f"logs/midway/{RUN}.make_minitrees.log")
    assert named_log(failed) == str(log)
    assert "all is well" in log.read_text()
