"""A Slurm of one machine and one node, private to a test: own key, ports and folders; ended by process id."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import yaml

from experiment import ROOT, Experiment

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")

# Memory is looked at once a second and an overrun ends the job: there are no control groups in a container.
CONFIGURATION = """\
ClusterName=caxflow
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
SlurmdUser=root
SlurmdParameters=config_overrides
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ReturnToService=2
KillWait=2
BatchStartTimeout=10
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={slurmd} CPUs=8 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=n1 Default=YES MaxTime=1-0 DefMemPerCPU=200 State=UP
"""


# In the jobs of Slurm, whoever opens a connection to a runs database leaves a note and gets none.
TRIPWIRE = """\
import os
if "SLURM_JOB_ID" in os.environ:
    import pymongo
    def refuse(self, *words, **keys):
        open({note!r}, "a").write(f"{{words}}\\n")
        raise RuntimeError("a batch job asked for the runs database")
    pymongo.MongoClient.__init__ = refuse
"""


class Slurm:
    """Starts on entering, ends on leaving; `environment` is what its commands and jobs need.

    Parameters
    ----------
    folder : Path
        For everything that it keeps.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("state", "spool", "munge", "bin"):
            (folder / name).mkdir(parents=True)
        self.conf = folder / "slurm.conf"
        ctld, slurmd = _free_ports(2)
        self.conf.write_text(
            CONFIGURATION.format(folder=folder, host=socket.gethostname(), ctld=ctld, slurmd=slurmd)
        )
        # slurmd refuses to start where nothing is mounted on /sys/fs/cgroup, though no such plugin is used.
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self.path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
        self.environment = {"PATH": self.path, "SLURM_CONF": str(self.conf)}
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Slurm":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, *words: str) -> str:
        """What one of its commands answers."""
        done = subprocess.run(
            words, check=False, env=os.environ | self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that it knows, those that have ended, too: ``id``, ``state``, ``about``, ``memory``."""
        said = self.run("squeue", "--noheader", "--states=all", "--format=%i|%T|%k|%m")
        return [
            dict(zip(("id", "state", "about", "memory"), row.split("|"), strict=True))
            for row in said.splitlines()
        ]

    def stop(self) -> None:
        """End all jobs and every process that was started here."""
        if len(self._processes) == 3 and self._processes[1].poll() is None:
            subprocess.run(
                ["scancel", "--user=root"],
                check=False,
                env=os.environ | self.environment,
                capture_output=True,
                timeout=20,
            )
            time.sleep(0.5)
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []

    def _start(self) -> None:
        key, socket_path = self.folder / "munge.key", self.folder / "munge" / "socket"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self._daemon(
            "munged",
            "--foreground",
            f"--key-file={key}",
            f"--socket={socket_path}",
            "--num-threads=2",
            f"--pid-file={self.folder}/munge/pid",
            f"--log-file={self.folder}/munge/log",
            f"--seed-file={self.folder}/munge/seed",
            "--force",
        )
        _until(socket_path.exists, "munged")
        # A job's step forgets SLURM_CONF; then it would look into /etc/slurm, which is not ours.
        shim = self.folder / "bin" / "srun"
        shim.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec /usr/bin/srun "$@"\n')
        shim.chmod(0o755)
        self._daemon("slurmctld", "-D", "-f", str(self.conf))
        self._daemon("slurmd", "-D", "-N", "n1", "-f", str(self.conf))
        _until(self._is_idle, "slurm")

    def _daemon(self, *words: str) -> None:
        log = (self.folder / f"{words[0]}.out").open("wb")
        with log:
            process = subprocess.Popen(
                words, env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._processes.append(process)

    def _is_idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            check=False,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip() == "idle"


class OnSlurm(Experiment):
    """An experiment whose midway processes on a Slurm, as its profile says."""

    slurm: Slurm
    generic: ClassVar[dict[str, str]] = {}  # what the profile says instead of the plugin for Slurm
    limits: tuple[str, ...] = ()  # resources of rules, as --set-resources has them

    def profile(self, **changes) -> Path:
        """Midway's profile, for this Slurm and this configuration."""
        profile = yaml.safe_load((ROOT / "profiles/midway/config.yaml").read_text())
        for key in ("configfile", "config"):
            profile.pop(key)
        profile["default-resources"].pop("slurm_account")
        profile["default-resources"]["slurm_partition"] = "main"
        profile |= {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 10} | changes
        if self.generic:
            profile = {key: value for key, value in profile.items() if not key.startswith("slurm-")}
            profile |= self.generic | {"seconds-between-status-checks": 2}
        return self.write("profile/config.yaml", profile).parent

    def command(self, *words: str, site: str = "midway", **config) -> list[str]:
        super().command(site=site, **config)  # writes the configuration
        options = ["--profile", str(self.profile()), "--configfile", str(self.folder / f"{site}.config.yaml")]
        options += ["--set-resources", *self.limits] if self.limits else []
        return [sys.executable, "-m", "snakemake", *options, "--", *words]

    def environment(self, **more: str) -> dict[str, str]:
        made = super().environment() | self.slurm.environment | more
        path = f"{Path(sys.executable).parent}:{self.slurm.path}"
        wire = self.folder / "wire"
        wire.mkdir(exist_ok=True)
        (wire / "sitecustomize.py").write_text(TRIPWIRE.format(note=str(self.folder / "asked")))
        # As `make install` has it, for the scripts of cluster-generic.
        library = f"{wire}:{ROOT / 'workflow'}"
        return made | {"PATH": path, "PYTHONPATH": library}


def _until(ready, what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what} does not come up"
        time.sleep(0.1)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
