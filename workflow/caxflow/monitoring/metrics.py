"""Metrics of a site for Prometheus: a text file that node_exporter's textfile collector reads.

Format: Prometheus' text exposition format, version 0.0.4.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caxflow import __version__, legible, receipts
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.planning import pauses, plan
from caxflow.workdir import journal


@dataclass
class Metric:
    """One metric: its name without prefix, what it means, and its values by labels."""

    name: str
    help: str
    values: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Lines of the exposition format; a metric without values has none."""
        if not self.values:
            return
        yield f"# HELP caxflow_{self.name} {self.help}"
        yield f"# TYPE caxflow_{self.name} gauge"
        for labels, value in self.values:
            inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
            yield f"caxflow_{self.name}{{{inside}}} {value:.17g}"


def write(path: Path, settings: Settings, work_dir: Path, *, waiting: int, reached: bool, now: float) -> None:
    """Write the metrics of a finished call, at once and whole.

    Parameters
    ----------
    path : Path
        The file; node_exporter reads those that end in ``.prom``.
    work_dir : Path
        The site's work directory.
    waiting : int
        Facts that the runs database has yet to be told.
    reached : bool
        Whether it answered.
    now : float
        Seconds since 1970.

    Raises
    ------
    CaxflowError
        If the file cannot be written.
    """
    text = render(collect(settings, work_dir, waiting, reached, now))
    try:
        # The collector must not meet a half-written file, and ignores other endings.
        receipts.write(path, text)
    except CaxflowError as error:
        raise CaxflowError(f"metrics {error.what}", "make its folder writable") from error


def render(metrics: Iterable[Metric]) -> str:
    """The text of a metrics file."""
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())


def collect(settings: Settings, work_dir: Path, waiting: int, reached: bool, now: float) -> Iterator[Metric]:
    """All metrics of a site, from its work directory."""
    here = {"site": settings.here.name}
    yield Metric("info", "Version at work.", [(here | {"version": __version__}, 1)])
    yield Metric("report_time_seconds", "When a call last ended, since 1970.", [(here, now)])
    yield Metric("rundb_up", "Whether the runs database answered.", [(here, float(reached))])
    yield Metric("facts_pending", "Facts the runs database has yet to be told.", [(here, waiting)])
    yield from _planned(work_dir, here)
    yield _failures(settings, work_dir)
    yield from _disks(settings, here)


def _planned(work_dir: Path, here: Mapping[str, str]) -> Iterator[Metric]:
    counts = plan.survey(work_dir).get("counts", {})
    helps = {
        "actionable": "Runs the last plan took up.",
        "left": "Runs it left for the next calls.",
        "waiting": "Runs that wait for something.",
        "problems": "Runs that only a human can mend: an odd document, or the only copy is damaged.",
    }
    for name, meaning in helps.items():
        if isinstance(counts.get(name), int):
            yield Metric(f"runs_{name}", meaning, [(here, counts[name])])


def _failures(settings: Settings, work_dir: Path) -> Metric:
    found: Counter = Counter()
    for target in plan.failures(work_dir):
        try:
            failure = journal.failure(work_dir, target) or {}
        except CaxflowError:
            failure = {}
        if pauses.is_passing(failure, settings):
            continue
        waits = failure.get("attempts", 0) >= settings.attempts or pauses.waits_for_change(failure, settings)
        final = str(waits).lower()
        found[target.site, target.stage, final] += 1
    values = [
        ({"site": site, "stage": stage, "final": final}, count)
        for (site, stage, final), count in sorted(found.items())
    ]
    return Metric("failures", "Targets that failed; final ones wait for a human.", values)


def _disks(settings: Settings, here: Mapping[str, str]) -> Iterator[Metric]:
    free = Metric("disk_free_bytes", "Free space of a data root.")
    size = Metric("disk_size_bytes", "Size of the file system of a data root.")
    for kind, root in settings.here.roots.items():
        try:
            usage = shutil.disk_usage(root)
        except OSError:
            continue
        labels = {**here, "kind": kind}
        free.values.append((labels, usage.free))
        size.values.append((labels, usage.total))
    yield free
    yield size


def _escape(text: str) -> str:
    return legible.line(text).replace("\\", "\\\\").replace('"', '\\"')
