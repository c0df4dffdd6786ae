"""A Slurm of one machine and one node, private to a test: own key, ports and folders; ended by process id."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pymongo
import yaml

import garbage
from caxflow.demo.server import Server, reserve_port
from caxflow.demo.sshd import SshSites
from experiment import ROOT, Experiment
from waiting import until

_until = partial(until, seconds=120)
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
# What it takes beside them to keep accounts.
ACCOUNTING_PROGRAMS = ("mariadbd", "mariadb", "mariadb-install-db", "slurmdbd", "sacct", "sacctmgr")

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
{accounting}
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={slurmd} CPUs=8 RealMemory=8000 State=UNKNOWN
PartitionName=xenon1t Nodes=n1 Default=YES MaxTime=1-0 DefMemPerCPU=200 PriorityTier=1 State=UP
{preemption}
"""
# Jobs of the other partition push those of the first one out; what has ended is soon forgotten.
PREEMPTION = """\
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
MinJobAge=2
PartitionName=urgent Nodes=n1 MaxTime=1-0 DefMemPerCPU=200 PriorityTier=10 State=UP
"""
NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none"
# Jobs of unknown accounts are refused, as at sites that bill their groups.
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge/socket
AccountingStorageEnforce=associations
"""
SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""
ACCOUNT = "pi-lgrandi"  # as midway's profile has it


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
    accounting : bool
        Whether it keeps accounts, in a MariaDB of its own, and takes jobs of `ACCOUNT` only.
    preempting : bool
        Whether jobs of its partition `urgent` push others out; such a Slurm soon forgets what has ended.
    """

    def __init__(self, folder: Path, accounting: bool = False, preempting: bool = False):
        self.folder, self.accounting = folder, accounting
        for name in ("state", "spool", "munge", "bin"):
            (folder / name).mkdir(parents=True)
        self.conf = folder / "slurm.conf"
        ctld, slurmd, self._mariadb, accounts = (reserve_port(self) for _ in range(4))
        keeps = ACCOUNTING.format(folder=folder, port=accounts) if accounting else NO_ACCOUNTING
        self.conf.write_text(
            CONFIGURATION.format(
                folder=folder,
                host=socket.gethostname(),
                ctld=ctld,
                slurmd=slurmd,
                accounting=keeps,
                preemption=PREEMPTION if preempting else "",
            )
        )
        conf = folder / "slurmdbd.conf"
        conf.touch(0o600)
        conf.write_text(SLURMDBD.format(folder=folder, port=accounts, mariadb=self._mariadb))
        # slurmd refuses to start where nothing is mounted on /sys/fs/cgroup, though no such plugin is used.
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self.path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
        self.environment = {"PATH": self.path, "SLURM_CONF": str(self.conf)}
        self._daemons: dict[str, Server] = {}

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
        done = self._ask(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that it knows, those that have ended, too: ``id``, ``state``, ``about``, ``memory``."""
        said = self.run("squeue", "--noheader", "--states=all", "--format=%i|%T|%k|%m")
        return [
            dict(zip(("id", "state", "about", "memory"), row.split("|"), strict=True))
            for row in said.splitlines()
        ]

    def accounts(self) -> dict[str, str]:
        """State of each job as the accounts have it, by id."""
        said = self.run("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobIDRaw,State")
        return dict(row.split("|") for row in said.splitlines())

    def of(self, run: str) -> list[dict[str, str]]:
        """Return the jobs for a run."""
        return [job for job in self.jobs() if run in job["about"].split()]

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Have the controller answer nothing for a while."""
        controller = int((self.folder / "slurmctld.pid").read_text())
        os.kill(controller, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(controller, signal.SIGCONT)

    def forget(self) -> None:
        """Have the controller know no job any more; then only the accounts do."""
        self._daemons.pop("slurmctld").stop()
        self._daemon("slurmctld", "-D", "-c", "-f", str(self.conf))
        _until(self._is_idle, "slurm")

    def stop(self) -> None:
        """End all jobs and every process that was started here."""
        try:
            if "slurmd" in self._daemons and self._daemons["slurmctld"].running:
                self._ask("scancel", "--user=root")
                going = ("squeue", "--noheader", "--states=running,completing")
                _until(lambda: not self._ask(*going).stdout.strip(), "an end of all jobs")
        finally:
            while self._daemons:
                self._daemons.popitem()[1].stop()

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
        if self.accounting:
            self._open_accounts()
        self._daemon("slurmctld", "-D", "-f", str(self.conf))
        self._daemon("slurmd", "-D", "-N", "n1", "-f", str(self.conf))
        _until(self._is_idle, "slurm")

    def _open_accounts(self) -> None:
        data, door = self.folder / "mariadb", self.folder / "mariadb.sock"
        options = ["--no-defaults", f"--datadir={data}"]
        self.run(
            "mariadb-install-db",
            *(*options, "--user=root", "--skip-test-db", "--auth-root-authentication-method=socket"),
        )
        listens = (f"--socket={door}", "--bind-address=127.0.0.1", f"--port={self._mariadb}")
        modest = ("--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0")
        patient = ("--innodb-lock-wait-timeout=900", f"--pid-file={self.folder}/mariadb.pid")
        self._daemon("mariadbd", *options, "--user=root", *listens, *modest, *patient)
        tell = ("mariadb", "--no-defaults", f"--socket={door}", "--execute")
        _until(lambda: self._ask(*tell, "select 1").returncode == 0, "MariaDB")
        self.run(
            *tell,
            "create database slurm_acct_db; create user slurm@'127.0.0.1' identified by 'slurm';"
            "grant all on slurm_acct_db.* to slurm@'127.0.0.1'",
        )
        self._daemon("slurmdbd", "-D")
        _until(lambda: self._ask("sacctmgr", "--noheader", "list", "cluster").returncode == 0, "slurmdbd")
        for words in (("cluster", "caxflow"), ("account", ACCOUNT), ("user", "root", f"account={ACCOUNT}")):
            self.run("sacctmgr", "--immediate", "add", *words)

    def _daemon(self, *words: str) -> None:
        # Kept by a process that collects what the jobs leave, as process 1 of a machine does but not of every
        # container: Slurm takes a zombie for a job that cannot be ended, and drains the node.
        needed = [f"{name}={value}" for name, value in self.environment.items()]
        daemon = Server(words[0], ["env", *needed, *words], self.folder / f"{words[0]}.out")
        daemon.start()
        self._daemons[words[0]] = daemon
        garbage.SERVICES.add(daemon._keeper.pid)

    def _ask(self, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            words, check=False, env=os.environ | self.environment, capture_output=True, text=True, timeout=60
        )

    def _is_idle(self) -> bool:
        return self._ask("sinfo", "--noheader", "--format=%T").stdout.strip() == "idle"


class OnSlurm(Experiment):
    """An experiment whose midway processes on a Slurm, as its profile says."""

    slurm: Slurm
    changes: ClassVar[dict] = {}  # what the profile says otherwise

    def profile(self) -> Path:
        """Midway's profile, for this Slurm and this configuration."""
        profile = yaml.safe_load((ROOT / "profiles/midway/config.yaml").read_text())
        for key in ("configfile", "config"):
            profile.pop(key)
        if not self.slurm.accounting:
            profile["default-resources"].pop("slurm_account")
        profile["default-resources"]["slurm_partition"] = "xenon1t"
        profile |= {"seconds-between-status-checks": 2, "latency-wait": 10} | self.changes
        return self.write("profile/config.yaml", profile).parent

    def command(self, *words: str, site: str = "midway", **config) -> list[str]:
        super().command(site=site, **config)  # writes the configuration
        options = ["--profile", str(self.profile()), "--configfile", str(self.folder / f"{site}.config.yaml")]
        return [sys.executable, "-m", "snakemake", *options, "--", *words]

    def environment(self, **more: str) -> dict[str, str]:
        made = super().environment() | self.slurm.environment | more
        path = f"{Path(sys.executable).parent}:{self.slurm.path}"
        wire = self.folder / "wire"
        wire.mkdir(exist_ok=True)
        (wire / "sitecustomize.py").write_text(TRIPWIRE.format(note=str(self.folder / "asked")))
        # As `make install` has it.
        library = f"{wire}:{ROOT / 'workflow'}"
        return made | {"PATH": path, "PYTHONPATH": library}


PAXER = (
    "--input {input} --output {output_stem} --config {configuration} --config_path {overrides}"
    " --input_type {input_type} --ignore_rundb"
)


@contextlib.contextmanager
def on_slurm(folder: Path, slurm: Slurm, uri: str) -> Iterator[OnSlurm]:
    """An experiment on a Slurm, with a database of its own; its `moods` are for `processors`."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with (
        SshSites(folder / "sites", ["lngs", "midway", "tegner"], embedded=False) as sites,
        pymongo.MongoClient(uri) as client,
    ):
        made = OnSlurm(folder, sites, uri, name)
        made.slurm, made.runs, made.moods = slurm, client[name]["runs_new"], folder / "moods"
        made.site("midway", pull_from=["lngs"], processed={"version": "pax_v6.11.2", "cores": 1})
        made.moods.mkdir()
        yield made
        client.drop_database(name)


def processors(folder: Path) -> dict:
    """A processor that does to a run's job what the file of its name in a folder says."""
    misbehave, paxer = ROOT / "tests/lab/misbehave.py", ROOT / "tests/standin_paxer.py"
    words = f"{sys.executable} {misbehave} {folder} {{run}} {paxer} {PAXER}"
    definition = {"kind": "command", "command": words, "conda": "", "memory_mb_per_core": 800}
    return {"pax_v6.11.2": definition}
