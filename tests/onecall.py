"""One call of the workflow in one process: the same planning and the same scripts, without Snakemake.

For tests that kill a process at each of its steps: a call takes a tenth of a second, and its steps are those
of the jobs that Snakemake would start.
"""

import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

# All that is imported late in a job, so that whoever is forked has it.
import caxflow.stages.job
import caxflow.stages.purge
import caxflow.stages.raw
import caxflow.stages.scrub
import caxflow.transfer.job  # noqa: F401
from caxflow import cli, config, hooks, targets
from caxflow.planning import planner, upkeep

SCRIPTS = config.HOME / "workflow/scripts"


class Call:
    """A call; `overrides` is what a profile and the command line say over ``config.yaml``."""

    def __init__(self, overrides: dict, preview: bool = False):
        self.overrides = overrides
        self.settings = config.load(overrides)
        os.chdir(planner.work_dir(self.settings))
        # Read once, not again by each job.
        config.load = lambda _: self.settings
        self.planner = planner.Planner(self.settings, main=True, preview=lambda: preview)
        self.upkeep = upkeep.Upkeep(self.planner)
        self.failed: list[str] = []

    def look(self, target: str) -> None:
        """Ask for ``all``, ``purge``, ``scrub`` or one target what the input functions of a preview ask."""
        known = {"all": self.planner.all, "purge": self.upkeep.purge, "scrub": self.upkeep.scrub}
        with planner.one_line():
            if target in known:
                known[target]()
                return
            site, run, stage = targets.parse(target)
            self.planner.facts(str(run))
            if stage == "raw.purged":
                self.upkeep.removal(str(run), site)
            elif not self.planner.may_register(str(run), site):
                self.planner.source("raw", str(run), site)

    def perform(self, target: str) -> None:
        """Make ``all``, ``purge``, ``scrub`` or one target; ends the process with the reasons of failures."""
        with planner.one_line():
            if target == "scrub":
                self.upkeep.scrub()
                self._try("scrub", "", [])
                wanted = []
            else:
                wanted = {"all": self.planner.all, "purge": self.upkeep.purge}.get(target, lambda: [target])()
        for each in wanted:
            self._make(each)
        hooks.report(self.settings)
        if self.failed:
            sys.exit("\n".join(self.failed))

    def _make(self, target: str) -> bool:
        """Make a target and what it is made of; whether it is there."""
        site, run, stage = targets.parse(target)
        name = f"{site}/{run}"
        with planner.one_line():
            # As input functions do, whatever is there: jobs see whose they are in the plan that this freezes.
            self.planner.facts(str(run))
            if Path(target).exists():
                return True
            if stage == "raw.purged":
                self.upkeep.removal(str(run), site)
                return self._try("purge_raw", target, [])
            if stage == "checksum":
                return self._make(f"{name}.raw.done") and self._try(
                    "verify_raw", target, [f"{name}.raw.done"]
                )
            assert stage == "raw.done", target
            if self.planner.may_register(str(run), site):
                return self._try("register_raw", target, [])
            source = f"{self.planner.source('raw', str(run), site)}/{run}.raw.done"
            return self._make(source) and self._try("copy_raw", target, [source])

    def _try(self, rule: str, target: str, inputs: list[str]) -> bool:
        """Run a rule's script as a job of Snakemake does."""
        wildcards = {}
        if target:
            site, run, _ = targets.parse(target)
            wildcards = {"site": site, "run": str(run)}
        log = f"logs/{'/'.join(wildcards.values())}.{rule}.log"
        job = {"input": inputs, "output": [target], "log": [log], "config": self.overrides, "resources": {}}
        try:
            runpy.run_path(
                str(SCRIPTS / f"{rule}.py"),
                {"snakemake": SimpleNamespace(**job, wildcards=wildcards, params=SimpleNamespace())},
            )
        except SystemExit as failure:
            self.failed.append(str(failure))
            return False
        return True


def perform(target: str, overrides: dict) -> None:
    """One call; for a `mortal.Zygote`."""
    Call(overrides).perform(target)


def previews(targets: list[str], overrides: dict) -> None:
    """What previews of targets look at, each as a call of its own; for a `mortal.Zygote`."""
    for target in targets:
        try:
            Call(overrides, preview=True).look(target)
        except SystemExit as refusal:
            print(f"{target}: {refusal}")


def commands(calls: list[list[str]]) -> None:
    """Several ``caxflow`` commands, whatever they end with; for a `mortal.Zygote`."""
    for words in calls:
        print(words, cli.main(words))


def command(words: list[str]) -> None:
    """One ``caxflow`` command; for a `mortal.Zygote`."""
    sys.exit(cli.main(words) or None)
