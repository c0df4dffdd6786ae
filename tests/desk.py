"""Where an operator sits: a site's profile, and the commands that are typed there."""

import json
import subprocess
import sys

import yaml

from experiment import ROOT


class Desk:
    """Where an operator sits: midway's profile, and the command ``caxflow``."""

    def __init__(self, experiment):
        self.experiment = experiment
        self.profile = experiment.folder / "profiles/midway"
        self.profile.mkdir(parents=True)
        self.configure()
        shipped = yaml.safe_load((ROOT / "profiles/demo/config.yaml").read_text())
        (self.profile / "config.yaml").write_text(yaml.safe_dump(shipped | {"cores": 2}))

    def configure(self, **config):
        """Write what the profile says over config/config.yaml."""
        rundb = {"uri": self.experiment.uri, "database": self.experiment.name, "timeout": 3}
        said = {"site": "midway", "sites_dir": str(self.experiment.folder / "sites"), "rundb": rundb}
        said |= {"kinds": ["raw"], "pause": 60} | config
        (self.profile / "caxflow.yaml").write_text(yaml.safe_dump(said))

    @property
    def environment(self):
        return self.experiment.environment(PYTHONPATH=str(ROOT / "workflow"), COLUMNS="80")

    def start(self, *words):
        """Start ``caxflow``; all it says goes to one stream."""
        return subprocess.Popen(
            [sys.executable, "-m", "caxflow.cli", *words, "--profile", str(self.profile)],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def snakemake(self, *words):
        """Run snakemake with the profile; the exit code and all it said."""
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--profile", str(self.profile), *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def caxflow(self, *words):
        """Run it to its end; the exit code and all it said."""
        process = self.start(*words)
        said, _ = process.communicate(timeout=120)
        assert "Traceback" not in said, said
        return process.returncode, said

    def json(self, *words):
        return json.loads(self.caxflow(*words, "--json")[1])
