"""A workflow whose keys are tied to ``caxflow serve`` at its partners."""

import json
import subprocess
import sys

import pytest

from caxflow.transfer import singlefile
from experiment import ROOT, entry

RUN = "160315_1432"
PURGE = {"after_days": 30, "copies": 2, "processed": False, "evidence": "read"}


@pytest.fixture
def partners(experiment, tmp_path):
    """What partners let midway do: lngs to read, tegner to add copies; their logs by name."""
    program = tmp_path / "caxflow-serve"
    singlefile.write(program)
    logs = {name: tmp_path / f"{name}-serve.log" for name in ("lngs", "tegner")}
    for name, option in (("lngs", "--read-only"), ("tegner", "--no-delete")):
        site = experiment.sites[name]
        command = [sys.executable, program, option, "--log", logs[name], "--name", "midway"]
        command += [f"--root={site.root}/{kind}" for kind in ("raw", "processed")]
        make = site._sshd_command

        def restricted(make=make, site=site, command=command):
            called = make()
            with (site._ssh / f"{site.name}.sshd_config").open("a") as file:
                file.write(f"ForceCommand {' '.join(map(str, command))}\n")
            return called

        site._sshd_command = restricted
        site.stop()
        site.start()
    return logs


def test_all_that_a_partner_lets_us_do_works(experiment, runs, partners):
    experiment.add_run(runs)
    code, said = experiment.snakemake("all", kinds=["raw"], purge=PURGE)
    assert code == 0, said
    file = experiment.folder / "midway.config.yaml"
    before = {name: log.read_text() for name, log in partners.items()}
    as_known = entry(runs, "raw", "tegner")
    for words in (["rm", "--because", "tried"], ["mv", "--to", str(experiment.raw("tegner", "other") / RUN)]):
        command = [sys.executable, "-m", "caxflow.cli", *words, RUN, "--at", "tegner", "--configfile", file]
        refused = subprocess.run(
            command, env=experiment.environment(), cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1
        assert (
            "the key of this account may only add copies there (caxflow serve --no-delete)" in refused.stderr
        )
        assert "reading" not in refused.stdout + refused.stderr, "bytes that were read for nothing"
    assert entry(runs, "raw", "tegner") == as_known
    new = "".join(log.read_text().removeprefix(before[name]) for name, log in partners.items())
    assert " manifests " not in new

    code, said = experiment.snakemake("purge", kinds=["raw"], purge=PURGE)
    assert code == 0, said
    assert not experiment.raw("midway").exists()
    assert {site: bool(entry(runs, "raw", site)) for site in ("lngs", "midway", "tegner")} == {
        "lngs": True, "midway": False, "tegner": True,
    }  # fmt: skip
    evidence = json.loads(experiment.work(f"midway/{RUN}.raw.purged").read_text())["evidence"]
    assert {each["read"] for each in evidence} == {"from here"}
    assert " refused" not in "".join(log.read_text() for log in partners.values())
