"""Snakemake's executor plugin ``caxflow``: jobs on Slurm, HTCondor, Grid Engine or PBS.

It hands what Snakemake wants to `caxflow.batch.queue`. Snakemake imports every plugin it finds, and before it
reads the Snakefile, which decides which caxflow is the one of this workflow: so nothing of caxflow is
imported before there is an executor.
"""

import hashlib
import re
import shlex
import signal
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

if TYPE_CHECKING:
    from caxflow.batch.queue import Watched

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)


def _option(help_: str, default: object, type_: type = str) -> object:
    return field(default=default, metadata={"help": help_, "required": False, "type": type_})


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """What the profile says with ``caxflow-…``."""

    system: str | None = _option("Batch system: slurm, htcondor, gridengine or pbs", None)
    options: str = _option("More words for its command that submits; of HTCondor, lines, separated by ;", "")
    variables: str = _option("Names of variables that jobs get beside those that all get", "")
    lost_after: float = _option("Seconds until a job that is no longer listed has failed", 120, float)
    longest_silence: float = _option(
        "Hours until jobs of a system that does not answer are left to the next call", 6, float
    )
    longest_wait: float = _option("Hours until a job that does not begin is given up", 168, float)


class Executor(RemoteExecutor):
    """Jobs on a batch system."""

    def __post_init__(self) -> None:
        """Take stock of what earlier calls left there."""
        from caxflow import batch, variables
        from caxflow.batch.queue import Limits, Queue
        from caxflow.errors import CaxflowError

        settings = self.workflow.executor_settings
        try:
            limits = Limits.of_profile(settings.lost_after, settings.longest_silence, settings.longest_wait)
            self.queue = Queue(batch.load(settings.system), Path.cwd(), limits, self._say)
            variables.declare(settings.variables.split(), "caxflow-variables in the profile")
            self._options = self.queue.system.options(settings.options)
        except CaxflowError as error:
            raise WorkflowError(f"caxflow: {error}") from error
        self._infos: dict[str, SubmittedJobInfo] = {}
        self._looking = threading.Lock()
        self._left = self._listening = False

    @property
    def tmpdir(self) -> str:
        """Where scripts are: they outlive the call, as their jobs may."""
        from caxflow.batch.queue import SCRIPTS

        SCRIPTS.mkdir(parents=True, exist_ok=True, mode=0o700)  # they have what --config says
        return str(SCRIPTS.absolute())

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit a job; one that is not taken has failed, and has not begun."""
        from caxflow.batch.system import NotTaken

        self._listen()
        if self._left:
            self.workflow.scheduler.error_callback(job)
            return
        info = SubmittedJobInfo(job)
        try:
            watched = self._submit(info)
        except NotTaken as error:
            self._infos.pop(info.aux["name"], None)
            self.report_job_error(info, msg=f"{error}. ")
            self.queue.drop(list(map(str, job.output)))
            return
        info.external_jobid = watched.record.job
        self.report_job_submission(info)
        if self._left:  # meanwhile
            self._leave_jobs()

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Look once at all jobs."""
        if not active_jobs:  # the base class begins to look before there is a queue
            return
        with self._looking:
            for watched, report in list(self.queue.look()):
                info = self._infos.pop(watched.record.name)
                good = report.phase == "done"
                if good:
                    self.report_job_success(info)
                    for used in Path(self.tmpdir).glob(f"{watched.record.name}.*"):
                        used.unlink(missing_ok=True)
                else:
                    self.queue.end(watched, report)
                    self.report_job_error(info, msg=f"{report.reason}. ")
                self.queue.settle(watched, report)
        for info in active_jobs:
            if info.aux["name"] in self._infos:
                yield info

    def cancel(self) -> None:
        """Cancel all jobs; those that are being looked at, too, which the base class forgets meanwhile."""
        self.cancel_jobs([])
        self.shutdown()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all jobs."""
        with self._looking:
            self.queue.cancel()
            self._infos.clear()

    def shutdown(self) -> None:
        """End the watch; scripts stay, for jobs that go on."""
        with self.lock:
            self.wait = False
        self.wait_thread.join()

    def get_jobscript(self, job: JobExecutorInterface) -> str:
        """Return what the list of many inputs of a job is named after: the same in each call."""
        made = "\0".join(sorted(map(str, job.output)))
        return str(Path(self.tmpdir) / hashlib.sha256(made.encode()).hexdigest()[:12])

    def get_job_exec_prefix(self, job: JobExecutorInterface) -> str:
        """Return what a script begins with: jobs start where this call did, with its umask."""
        return f"umask g-w,o-w && cd {shlex.quote(str(self.workflow.workdir_init))}"

    def _submit(self, info: SubmittedJobInfo) -> "Watched":
        from caxflow.batch import lastwords
        from caxflow.batch.queue import name_of
        from caxflow.batch.system import Wanted

        job = info.job
        rule = job.groupid if job.is_group() else job.rule.name
        output = sorted(str(each) for each in job.output)  # of a group in any order
        made = [lastwords.target_of([each]) for each in output]
        runs = list(dict.fromkeys(str(target.run) for target in made if target))
        asked = sorted(self.get_resource_declarations_dict(job).items())
        # Of the whole command some words are others in each call; a group has another id, and any order.
        told = sorted(re.sub(r"--local-groupid \S+", "", self.get_job_args(job)).split())
        what = f"{self.get_snakefile()} {told} {job.threads} {asked}"
        name = name_of(rule, runs, what, map(str, job.input))
        # Before it is watched: it may end at once.
        info.aux = {"name": name}
        self._infos[name] = info
        script = self._script(name)
        system, resources = self.queue.system, job.resources
        wanted = Wanted(
            name=name,
            about=f"{rule} {' '.join(runs)}"[:200],
            cores=int(job.threads),
            memory_mb=int(resources.get("mem_mb", 1000)),
            minutes=int(resources.get("runtime", 60)),
            queue=system.queue_of(resources),
            account=system.account_of(resources),
            options=self._options,
        )
        return self.queue.submit(
            wanted,
            script,
            lambda: self.write_jobscript(job, str(script)),
            rule=rule,
            output=output,
            runs=runs,
        )

    def _script(self, name: str) -> Path:
        return Path(self.tmpdir) / f"{name}.sh"

    def _say(self, text: str) -> None:
        self.logger.warning(f"caxflow: {text}")

    def _listen(self) -> None:
        """Have SIGTERM leave the jobs to the next call, beside what Snakemake does, which waits for them.

        In a thread of its own: Snakemake's handler takes a lock that the interrupted thread may hold.
        """
        if self._listening:
            return
        self._listening = True
        before = signal.getsignal(signal.SIGTERM)

        def leave(*words: object) -> None:
            threading.Thread(target=self._leave, args=(before, words)).start()

        signal.signal(signal.SIGTERM, leave)

    def _leave(self, before: object, words: tuple) -> None:
        if callable(before):
            before(*words)
        self._left = True
        self._leave_jobs()

    def _leave_jobs(self) -> None:
        with self._looking:
            for watched in self.queue.leave():
                self.workflow.scheduler.error_callback(self._infos.pop(watched.record.name).job)
