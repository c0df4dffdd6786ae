"""Why a job ended that could not say so itself: killed by its batch system, or before it had begun.

A job that fails keeps its reason in the journal. One that is cut off for its time or memory, cancelled, or on
a node that dies, does not; then all that is known is what the batch system tells Snakemake, and the log that
it kept. Snakemake's records of jobs pass here in the main process, and what they tell goes into the journal.
"""

import contextlib
import glob
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from caxflow import joblogs, receipts, targets
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.processing import minitrees
from caxflow.targets import Run, Target
from caxflow.workdir import journal, underway

_STATE = re.compile(r"status is: '([A-Z_]+)")
_SAYS = {
    "TIMEOUT": "it ran out of time",
    "DEADLINE": "it ran out of time",
    "OUT_OF_MEMORY": "it ran out of memory",
    "CANCELLED": "it was cancelled",
    "PREEMPTED": "it had to make room for others",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
}
# What the log of a batch system says, whatever its state is called.
_LOGGED = (
    (re.compile(r"oom.kill|out of memory|memory limit|memory usage", re.IGNORECASE), "it ran out of memory"),
    (
        re.compile(r"time limit|walltime|wall clock|allowed (execute|job) duration", re.IGNORECASE),
        "it ran out of time",
    ),
    (re.compile(r"node fail", re.IGNORECASE), "its node failed"),
    (re.compile(r"was removed/aborted"), _SAYS["CANCELLED"]),  # HTCondor
)
_HELD = re.compile(r"(?:Hold reason|is held): (.+?)\.?(?:For further error|$)")
_EXIT = re.compile(r"ExitCode (\d+)|signal (\d+)")
# Where batch systems keep what a job said, by the job's id there.
_KEPT = (".snakemake/batch_logs/{}.log", ".snakemake/batch_logs/*.o{}", ".snakemake/htcondor/*/*_{}.err")
_TAIL = 8192  # bytes of a log that are read
_PART = re.compile(rf"parts/({targets.SITE})/({targets.RUN})\..+")


class LastWords(logging.Filter):
    """Lets every record pass, and keeps the reason of jobs that ended without a word.

    A filter sees records before any handler does, so that whoever shows a failure finds its reason.

    Parameters
    ----------
    settings : Settings
    work_dir : Path
    give_up : callable, optional
        Is told the number of a job that failed for good, before Snakemake decides whether to restart it.
    """

    def __init__(self, settings: Settings, work_dir: Path, give_up: Callable[[int], None] = lambda job: None):
        super().__init__()
        self.settings, self.work_dir, self._give_up = settings, work_dir, give_up
        self._before: dict[int, dict | None] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Look at a record of Snakemake's."""
        event = getattr(getattr(record, "event", None), "value", None)
        if event == "job_info":
            self._before[record.jobid] = self._failure(target_of(record.output))
        elif event == "job_error":
            kept = _kept(self.work_dir, getattr(record, "external_jobid", None))
            self._ended(record.jobid, record.output, [*record.log, *kept], record.rule_msg)
        return True

    def _ended(self, job: int, output: Sequence[str], logs: Sequence[str], said: str | None) -> None:
        target = target_of(output)
        if target is None:
            return
        known = self._failure(target)
        if known == self._before.get(job) and not _was_interrupted(logs[:1]):
            ending = how(said or "", logs[1:])
            reason = CaxflowError(
                f"{target}: its job ended without a word of its own: {ending}",
                f"see {' and '.join(dict.fromkeys((logs[0], logs[-1])))}" if logs else "",
            )
            try:
                # Whoever cancels a job does not want it back.
                final = ending.startswith(_SAYS["CANCELLED"])
                journal.fail(self.work_dir, target, str(reason), final=final, **told(self.settings, target))
                known = self._failure(target)
            except CaxflowError:
                return  # a full disk; whoever shows the failure says what Snakemake knows
            if logs:
                with contextlib.suppress(OSError, CaxflowError):
                    joblogs.end(self.work_dir, Path(logs[0]), str(reason))
        self._before[job] = known
        # Neither more memory nor more time mends it, and a restart would begin its log anew.
        if known and known.get("final") and known.get("call") == journal.call_of(receipts.who()):
            self._give_up(job)

    def _failure(self, target: Target | None) -> dict | None:
        try:
            return journal.failure(self.work_dir, target) if target else None
        except CaxflowError:
            return None


def target_of(output: Sequence[str]) -> Target | None:
    """The target under which a job's failures are kept: its receipt; for a part, the whole run's."""
    for name in reversed([str(each).split(" ")[0] for each in output]):
        if match := _PART.fullmatch(name):
            return Target(match[1], Run.parse(match[2]), "processed.done")
        try:
            return targets.parse(name)
        except CaxflowError:
            continue
    return None


def how(said: str, logs: Sequence[str]) -> str:
    """How a job ended, in words, from what the batch system told and the logs that it kept."""
    state = match[1] if (match := _STATE.search(said)) else ""
    kept = "\n".join(_tail(log) for log in logs)
    tail = f"{said}\n{kept}"
    last = next((line for line in reversed(tail.splitlines()) if "slurmstepd" in line), "")
    words = _SAYS.get(state) or ""
    # Without accounting Slurm calls a step that ran out of memory failed, or cancelled.
    if state not in ("TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"):
        words = next((text for pattern, text in _LOGGED if pattern.search(tail)), words)
    detail = re.sub(r"^.*?slurmstepd: (error: )?", "", last).strip(" *")
    if held := _HELD.search(said):
        words, detail = words or "the batch system held it", held[1].strip()
    elif not words and (ended := _EXIT.search(said)):
        words = f"it exited with {ended[1]}" if ended[1] else f"signal {ended[2]} ended it"
        detail = next((line.strip() for line in reversed(kept.splitlines()) if line.strip()), "")
    if not words:
        words = f"the batch system says {state}" if state else "killed, or cut off for its time or memory"
    return f"{words} ({detail[:160]})" if detail else words


def _kept(work_dir: Path, job: object) -> list[str]:
    """Logs that the batch system kept of a job."""
    name = glob.escape(str(job)) if job else ""
    return [str(path) for pattern in _KEPT if name for path in sorted(work_dir.glob(pattern.format(name)))]


def told(settings: Settings, target: Target) -> dict:
    """What the runs database is told about a job that made something on a batch system."""
    site, stage = settings.sites[target.site], target.stage
    if not site.processed:
        return {}
    processor = settings.processor(site)
    if stage.startswith("pax_"):
        version = stage.removeprefix("pax_").removesuffix(".done")
        known = {each.pax_version: each for each in settings.processors.values()}
        processor = known.get(version)
    if processor and (stage == "processed.done" or stage.startswith("pax_")) and site.processed.make:
        kind, location = "processed", processor.product_path(site.roots["processed"], target.run)
    elif stage == "minitrees.done" and site.minitrees:
        kind, name = "minitrees", site.minitrees.treemakers[0]
        path = minitrees.minitree_path(site.roots["minitrees"], processor.pax_version, target.run, name)
        location = path.parent
    else:
        return {}
    entry = {"kind": kind, "host": site.host, "version": processor.pax_version, "location": str(location)}
    return {"entry": entry, "call": journal.call_of(receipts.who())}


def _tail(log: str) -> str:
    try:
        with Path(log).open("rb") as stream:
            stream.seek(max(0, Path(log).stat().st_size - _TAIL))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def _was_interrupted(logs: Sequence[str]) -> bool:
    with contextlib.suppress(OSError):
        return any(joblogs.last_line(Path(log)).endswith(underway.INTERRUPTED) for log in logs)
    return False
