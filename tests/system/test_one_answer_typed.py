"""What is typed at a real site about one run: snakemake -n, caxflow why, status and page say the same."""

import json
import re
import shutil

import pytest

from desk import Desk
from experiment import HOSTS

RUN = "160315_1432"


@pytest.fixture
def desk(experiment, runs):
    """Midway, where `all` has done everything for a run that is proven at three sites."""
    experiment.add_run(runs)
    desk = Desk(experiment)
    code, said = desk.caxflow("run", "--once")
    assert code == 0, said
    return desk


def preview(desk, *words):
    code, said = desk.snakemake("-n", *words)
    assert code == 0, said
    return said


def page(desk):
    folder = desk.experiment.folder / "page"
    code, said = desk.caxflow("page", str(folder))
    assert code == 0, said
    day = (folder / f"data/days/{RUN[:6]}.js").read_text()
    month = (folder / f"data/runs/{RUN[:4]}.js").read_text()
    (run,) = json.loads(re.search(r", (\[.*\])\);", day)[1])
    return json.loads(re.search(r", (\{.*\})\);", month)[1])["rows"][0][7], run


def test_u1_a_run_that_select_leaves_out(desk, runs):
    """The page went on to say "1 to do here", and that the next call makes it."""
    runs.update_one({}, {"$pull": {"data": {"host": HOSTS["midway"]}}, "$inc": {"caxflow.revision": 1}})
    runs.update_one({}, {"$unset": {"caxflow.settled": ""}})
    assert page(desk)[0] == "a"
    desk.configure(select={"tags": ["none has it"]})
    code, said = desk.caxflow("why", RUN)
    assert (code, said.splitlines()[0]) == (1, f"{RUN}: midway does not look after it")
    assert "nothing to do at midway" in preview(desk, "all")
    state, run = page(desk)
    assert (state, run["todo"], run["said"]) == ("x", [], "midway does not look after it")


def test_y6_a_dataset_that_is_gone_comes_back_by_a_scrub_and_all(desk, experiment, runs):
    """`rm -r` of a proven dataset: `status` said "proven", and `why` ended with 0."""
    shutil.rmtree(experiment.raw("midway"))
    experiment.raw("midway", "160101_0000").mkdir()  # an empty root may be one that is not mounted
    code, said = desk.caxflow("status", RUN)
    assert code == 1
    assert re.search(r"^midway +raw +missing ", said, re.MULTILINE)
    code, said = desk.caxflow("why", RUN)
    assert code == 1
    assert f"its raw copy at midway is missing: there is no {experiment.raw('midway')}" in said
    state, run = page(desk)
    assert (state, run["copies"][1]["word"]) == ("f", "missing")
    code, said = desk.snakemake("scrub")
    assert code == 1, said
    assert "it is not there" in said, said
    code, said = desk.caxflow("run", "--once")
    assert code == 0, said
    assert experiment.raw("midway").is_dir()
    code, said = desk.caxflow("why", RUN)
    assert (code, said.splitlines()[0]) == (0, f"{RUN}: nothing remains to be done at midway")
    assert page(desk)[0] == "d"


def test_u5_a_target_by_name_of_a_run_that_is_left_out(desk, experiment, runs):
    """`snakemake midway/….processed.root`: "about to be read again", where nothing was about to."""
    desk.configure(
        kinds=["raw", "processed"],
        processors={"mini_v1": {"kind": "mini"}},
        select={"tags": ["none has it"]},
    )
    target = f"midway/{RUN}.processed.root"
    assert f"process {RUN}" in preview(desk, target)
    code, said = desk.snakemake(target)
    assert code == 0, said
    code, said = desk.caxflow("status", RUN)
    assert re.search(r"^midway +processed v0.0.1 +verifying ", said, re.MULTILINE)
    assert "no `all` at midway does that: caxflow why" in said
    assert "about to" not in said
    code, said = desk.snakemake(target.replace("root", "checksum"))
    assert code == 0, said
    code, said = desk.caxflow("status", RUN)
    assert re.search(r"^midway +processed v0.0.1 +proven ", said, re.MULTILINE)


def test_a_damaged_receipt_that_is_to_be_told(desk, experiment):
    """`why` ended with 0, and `-n` said nothing, while each call could not tell the database."""
    from caxflow.targets import parse
    from caxflow.workdir import journal

    target = parse(f"midway/{RUN}.raw.done")
    experiment.work(f"midway/{RUN}.raw.done").write_text("{")
    journal.announce(experiment.work(), target)
    code, said = desk.caxflow("why", RUN)
    assert code == 1
    (line,) = [line.strip() for line in said.splitlines() if "is damaged" in line]
    assert line in preview(desk, "all")
    assert page(desk)[0] == "f"


def test_what_is_typed_is_missing_behind_its_receipts(desk, experiment):
    """`rm -r` of a dataset, then its targets by name: "Nothing to be done", exit code 0."""
    desk.configure(kinds=["raw", "processed"], processors={"mini_v1": {"kind": "mini"}})
    code, said = desk.snakemake("all")
    assert code == 0, said
    (file,) = experiment.raw("midway").parents[1].glob(f"processed/*/{RUN}.root")
    targets = {"processed": [f"midway/{RUN}.processed.{stage}" for stage in ("root", "done", "checksum")]}
    targets["raw"] = [f"midway/{RUN}.raw.done", f"midway/{RUN}.checksum"]
    code, said = desk.snakemake(*targets["raw"], *targets["processed"])
    assert (code, "Nothing to be done" in said or "nothing to do" in said) == (0, True), said
    saved = file.read_bytes()
    file.unlink()
    for target in targets["processed"]:
        code, said = desk.snakemake(target)
        assert code == 1
        assert f"{RUN}: its processed copy at midway is missing: there is no {file}" in said
    file.write_bytes(saved)
    shutil.rmtree(experiment.raw("midway"))
    experiment.raw("midway", "160101_0000").mkdir()  # an empty root may be one that is not mounted
    for words in ([target] for target in targets["raw"]), (["-n", target] for target in targets["raw"]):
        for each in words:
            code, said = desk.snakemake(*each)
            assert code == 1
            assert f"{RUN}: its raw copy at midway is missing: there is no {experiment.raw('midway')}" in said
    # What does not need it stands.
    code, said = desk.snakemake(targets["processed"][0])
    assert code == 0, said
