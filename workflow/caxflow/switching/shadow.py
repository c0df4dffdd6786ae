"""Runs beside a cax daemon without touching anything, and says where the two would act differently.

What cax 5.2 would do is derived from its rules as its sources state them: each task looks at a run document
and at the host's entry in ``cax.json``. What caxflow would do is its plan. Both are reduced to the same
words: pull, push, verify, process, remove.
"""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from caxflow import documents, targets, words
from caxflow.conditions.settings import DO_NOT_PROCESS
from caxflow.config import Settings
from caxflow.documents import ERROR, STALLED, TRANSFERRED, TRANSFERRING, VERIFYING, Copy
from caxflow.errors import CaxflowError
from caxflow.planning import decisions, removals
from caxflow.rundb.selecting import excluded

MASTERS = {"raw": ("xe1t-datamanager", "tsm-server"), "processed": ("login", "midway-login1")}
NEEDED = ("gains", "drift_velocity_liquid", "electron_lifetime_liquid")
EXAMPLES = 3


@dataclass(frozen=True)
class Action:
    """What one of the two would do to a run; `other` is a host, `why` the rule."""

    verb: str
    kind: str
    other: str = ""
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        preposition = {"pull": " from ", "push": " to "}.get(self.verb, " at ")
        return f"{self.verb} {self.kind}{preposition + self.other if self.other else ''}"


@dataclass
class Differences:
    """Where the two differ: runs by sentence; and how often they agree."""

    runs: int = 0
    agree: int = 0
    cases: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """A report, the most frequent case first."""
        differing = {run for runs in self.cases.values() for run in runs}
        agree = words.count(self.agree, "action")
        yield f"{words.count(self.runs, 'run')}: both would do {agree}, and differ on {len(differing):,} runs"
        for sentence, runs in sorted(self.cases.items(), key=lambda case: -len(case[1])):
            more = f" and {len(runs) - EXAMPLES:,} more" if len(runs) > EXAMPLES else ""
            yield f"{words.count(len(runs), 'run')}: {sentence} ({', '.join(runs[:EXAMPLES])}{more})"
        yield from self.problems


def compare(
    found: Iterable[Mapping],
    host: Mapping,
    settings: Settings,
    now: datetime.datetime,
) -> Differences:
    """Compare what both would do to each run; cax looks at all, caxflow at those that `select` admits.

    Parameters
    ----------
    found : iterable of mapping
        Run documents.
    host : mapping
        The host's entry in ``cax.json``.
    now : datetime
        Naive UTC.
    """
    result, skip = Differences(), decisions.skip_function()
    for document in found:
        try:
            run = str(documents.run_of(document))
            theirs = {action: action for action in cax_actions(document, host, settings, now)}
            ours, waits = ({}, ["caxflow's selection does not admit it"])
            if excluded(document, settings.selection) is None:
                made, waits = our_actions(document, settings, skip, now)
                ours = {action: action for action in made}
        except CaxflowError as error:
            result.problems.append(str(error))
            continue
        result.runs += 1
        result.agree += len(theirs.keys() & ours.keys())
        for action in theirs.keys() - ours.keys():
            reason = _general("; ".join(waits), run) or "it sees nothing to do"
            why = f", since {theirs[action].why}" if theirs[action].why else ""
            result.cases[f"only cax would {action}{why}; caxflow: {reason}"].append(run)
        for action in ours.keys() - theirs.keys():
            why = f": {ours[action].why}" if ours[action].why else ""
            result.cases[f"only caxflow would {action}{why}"].append(run)
    return result


def our_actions(
    document: Mapping, settings: Settings, skip: object, now: datetime.datetime
) -> tuple[list[Action], list[str]]:
    """What caxflow's plan does to a run at once, and what it waits for."""
    decision = decisions.decide(document, settings, skip, now)
    actions, here = [], settings.here
    hosts = {site.name: site.host for site in settings.sites.values()}
    for target in map(targets.parse, decision.targets):
        site, _, stage = target
        kind = "processed" if stage.startswith("processed") else "raw"
        origin = decision.facts.source[kind].get(site)
        there = decision.facts.there["raw" if stage == "processed.root" else kind]
        if origin == here.name and here.name not in there:
            # It builds on what this call makes; cax would come to it in a later pass.
            continue
        if stage == "processed.root" and origin == here.name:
            actions.append(Action("process", kind))
        elif origin and site == here.name and origin != site:
            actions.append(Action("pull", kind, hosts[origin]))
        elif origin and origin != site:
            actions.append(Action("push", kind, hosts[site]))
        elif stage == "raw.done":
            actions.append(Action("verify", kind, why="it takes the manifest of what the event builder made"))
        elif stage == "checksum":
            actions.append(Action("verify", kind))
    if settings.purge:
        removal, against = removals.describe(document, settings, now, by_policy=True)
        if removal:
            actions.append(Action("remove", "raw"))
        elif against:
            decision.waits.append(f"not removed: {against}")
    return list(dict.fromkeys(actions)), decision.waits


def cax_actions(
    document: Mapping, host: Mapping, settings: Settings, now: datetime.datetime
) -> Iterator[Action]:
    """What one pass of cax's tasks at a host does to a run, not what follows from that in later passes."""
    state = _Cax(document, host, settings, now)
    yield from state.push()
    yield from state.check()
    state.retry()
    yield from state.pull()
    yield from state.checksum()
    yield from state.process()
    yield from state.purge()


class _Cax:
    """A run document as the tasks of cax at one host see it."""

    def __init__(self, document: Mapping, host: Mapping, settings: Settings, now: datetime.datetime):
        self.document, self.host, self.now = document, host, now
        self.name = host["name"]
        self.copies = list(documents.copies(document))
        here = settings.here
        self.version = settings.processor(here).pax_version if here.processed else None
        days = host.get("purge")
        start = documents.time_of(document.get("start"))
        self.old = bool(days is not None and start and now - start > datetime.timedelta(days=days))
        listed = host.get("dataset_list")
        # cax passes over documents without data and, where a list is given, over all others.
        self.looks = bool(self.copies) and (not listed or document.get("name") in listed)
        self.tasks = host.get("task_list")

    def does(self, task: str) -> bool:
        return self.looks and (not self.tasks or task in self.tasks)

    def at(self, host: str, kind: str) -> list[Copy]:
        """Entries at a host; of processed files only those of the version that runs."""
        found = [copy for copy in self.copies if (copy.host, copy.kind) == (host, kind)]
        return [copy for copy in found if kind != "processed" or copy.version == self.version]

    def push(self) -> Iterator[Action]:
        """CopyPush: to the first of its partners that has no entry of any status."""
        if not self.does("CopyPush"):
            return
        for kind in self.host.get("data_type") or ():
            if not any(copy.status == TRANSFERRED for copy in self.at(self.name, kind)):
                continue
            for partner in self.host.get("upload_options") or ():
                if not self.at(partner, kind):
                    yield Action("push", kind, partner)
                    break

    def pull(self) -> Iterator[Action]:
        """CopyPull: from the first partner that has it, where there is no entry here of any status."""
        if not self.does("CopyPull"):
            return
        for kind in self.host.get("data_type") or ():
            if self.at(self.name, kind) or (kind == "raw" and self.old):
                continue
            for partner in self.host.get("download_options") or ():
                if any(copy.status == TRANSFERRED for copy in self.at(partner, kind)):
                    yield Action("pull", kind, partner)
                    break

    def checksum(self) -> Iterator[Action]:
        """AddChecksum: reads what waits to be verified here."""
        if self.does("AddChecksum"):
            for copy in self.copies:
                if copy.host == self.name and copy.status == VERIFYING:
                    yield Action("verify", copy.kind)

    def check(self) -> Iterator[Action]:
        """RetryBadChecksumTransfer: deletes what is not like the master's."""
        if self.does("RetryBadChecksumTransfer"):
            for copy in self.copies:
                if copy.host == self.name and copy.status == TRANSFERRED and self.bad(copy):
                    yield Action("remove", copy.kind, why="its checksum is not the master's")

    def retry(self) -> None:
        """RetryStalledTransfer: forgets what stalled or failed, so that the next task begins anew."""
        if not self.does("RetryStalledTransfer"):
            return
        for copy in list(self.copies):
            if copy.host != self.name or copy.status not in (TRANSFERRING, ERROR) or not copy.created:
                continue
            failed = copy.status == ERROR and self.name != MASTERS["raw"][0]
            if failed or self.now - copy.created > STALLED:
                self.copies.remove(copy)

    def process(self) -> Iterator[Action]:
        """ProcessBatchQueue: what has the three parameters, raw data here and no entry of the version."""
        if not self.does("ProcessBatchQueue") or not self.version or self.at(self.name, "processed"):
            return
        raw = any(copy.status == TRANSFERRED for copy in self.at(self.name, "raw"))
        parameters = documents.value(self.document, "processor", "DEFAULT", type_=Mapping) or {}
        ready = all(name in parameters for name in NEEDED)
        mode = documents.value(self.document, "reader", "ini", "write_mode")
        events = documents.value(self.document, "trigger", "events_built", type_=int)
        tags = self.document.get("tags")
        tagged = isinstance(tags, list) and any(
            isinstance(tag, Mapping) and tag.get("name") == DO_NOT_PROCESS for tag in tags
        )
        if raw and ready and mode == 2 and events and not tagged:
            yield Action("process", "processed")

    def purge(self) -> Iterator[Action]:
        """BufferPurger and PurgeProcessed: what counts as copied often enough, and what is of a version."""
        unwanted = self.host.get("pax_version_purge")
        for copy in self.copies:
            if copy.host != self.name:
                continue
            if copy.kind == "processed" and unwanted == copy.version and self.does("PurgeProcessed"):
                yield Action("remove", "processed", why=f"its version is {unwanted}")
            spare = copy.kind == "raw" and copy.status == TRANSFERRED and self.old and self.good("raw") >= 3
            if spare and self.does("BufferPurger"):
                yield Action("remove", "raw", why=f"cax counts {self.good('raw')} copies with this one")

    def bad(self, copy: Copy) -> bool:
        """Whether cax takes a copy for bad and removes it."""
        main = self.main(copy)
        if main is None or copy.checksum == main.checksum:
            return False
        return copy.kind == "processed" or self.good(copy.kind) > 1

    def main(self, copy: Copy) -> Copy | None:
        """The entry whose checksum cax takes for the right one."""
        for other in self.copies:
            same = (other.status, other.kind, other.version) == (TRANSFERRED, copy.kind, copy.version)
            if same and other.host in MASTERS.get(copy.kind, ()):
                return other
        return None

    def good(self, kind: str) -> int:
        """Copies as cax counts them: rows whose checksum is the master's, and any row of Rucio's."""
        count = 0
        for copy in self.copies:
            if (copy.status, copy.kind) == (TRANSFERRED, kind):
                main = self.main(copy)
                same = copy.checksum == (main.checksum if main else None)
                count += copy.host == "rucio-catalogue" or same
        return count


def _general(text: str, run: str) -> str:
    """A reason without the run's own name, so that equal ones count together."""
    return text.replace(run, "it")
