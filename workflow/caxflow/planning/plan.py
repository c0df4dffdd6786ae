"""Decides what is to be done here, run by run, from what the runs database says.

The main process plans once; what it learned (where each copy is and comes from, sizes) is frozen in a file of
the work directory, since the input functions of the rules run again inside every batch job, and those never
ask the database.
"""

import dataclasses
import datetime
import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caxflow import documents, receipts, targets, words
from caxflow.conditions import corrections
from caxflow.conditions.corrections import Edition, Waiting
from caxflow.config import Settings, Site
from caxflow.copies import evidence, purging
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.rundb import marks
from caxflow.targets import Run

FILE = ".caxflow/plan.json"
FORMAT = 1

_UNHEARD_DAYS = 30  # in which a run's raw data may still appear at their origin

_EVENTS_PER_FILE = ("reader", "ini", "trigger_config_override", "Zip", "events_per_file")


@dataclass
class Facts:
    """What jobs need to know of a run; plain values, kept in the plan file.

    Parameters
    ----------
    run : str
        Name of the run.
    number : int or None
    start : str or None
        ISO time.
    events : int or None
        Events built by the trigger.
    size : int or None
        Bytes of the raw dataset.
    there : dict
        By kind, by site: location, manifest, checksum of copies that can be trusted as a source.
    registrable : dict
        By site: the same of a raw copy at its origin that was found incomplete, and may be looked at again.
    faults : dict
        By site: what is wrong with its raw copy.
    source : dict
        By kind, by site that is to get a copy: the site it comes from.
    coming : dict
        By kind: sites that will have a copy once this call is through.
    skip : str or None
        Why the run is not processed.
    gone : dict
        By kind, by site: ISO time until when receipts about a copy do not hold any more, for it was removed
        or found bad then.
    removals : dict
        By stage: what would be removed here, on which evidence.
    events_per_file : int
        Events in each of its zips but the last.
    corrections : dict
        Versions of the corrections with which it is to be processed here, by name.
    anew : bool
        Whether it is processed again, though there is a file of its version.
    renew : dict
        By site that only keeps processed files: digest of the manifest of a copy that has been made anew
        elsewhere, and is to be replaced.
    """

    run: str
    number: int | None = None
    start: str | None = None
    events: int | None = None
    size: int | None = None
    there: dict[str, dict[str, dict]] = field(default_factory=lambda: {"raw": {}, "processed": {}})
    registrable: dict[str, dict] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    source: dict[str, dict[str, str]] = field(default_factory=lambda: {"raw": {}, "processed": {}})
    coming: dict[str, list[str]] = field(default_factory=lambda: {"raw": [], "processed": []})
    skip: str | None = None
    gone: dict[str, dict[str, str]] = field(default_factory=lambda: {"raw": {}, "processed": {}})
    removals: dict[str, str] = field(default_factory=dict)
    events_per_file: int = 1000
    corrections: dict[str, str | int | float] = field(default_factory=dict)
    anew: bool = False
    renew: dict[str, str] = field(default_factory=dict)


@dataclass
class Decision:
    """What is to be done for a run: targets to ask for, or what it waits for; neither means settled.

    `passing`: it waits for a time, or for what somebody is about.
    """

    facts: Facts
    targets: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    passing: bool = False

    @property
    def settled(self) -> bool:
        """Nothing remains to be done under the present policy."""
        return not self.targets and not self.waits

    def mark(self, document: Mapping, now: datetime.datetime) -> dict | None:
        """What to keep of the document so that it is not looked at for a while; None for each time."""
        if self.targets or self.passing:
            return None
        kind = marks.WAITS if self.waits else marks.SETTLED
        until = marks.next_look(document, kind, now)
        return until and {
            "_id": document["_id"],
            "caxflow": document.get("caxflow"),
            "mark": kind,
            "until": until,
        }


@dataclass
class Plan:
    """All decisions of one call; `main` is the process that made it.

    `more` is the number of runs left out, `asleep` of those that wait and were not looked at this time.
    """

    here: str
    facts: dict[str, Facts] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    more: int = 0
    asleep: int = 0
    main: dict = field(default_factory=receipts.who)

    def replace(self, decision: Decision) -> None:
        """Take another decision on one of the runs."""
        run = decision.facts.run
        mine = [target for target in self.targets if str(targets.parse(target).run) == run]
        if mine == decision.targets or not mine:
            return
        self.targets = [target for target in self.targets if target not in mine] + decision.targets
        self.waiting.pop(run, None)
        if decision.waits:
            self.waiting[run] = "; ".join(decision.waits)

    def write(self, work_dir: Path) -> None:
        """Freeze what was learned for the jobs."""
        content = {
            "format": FORMAT,
            "here": self.here,
            "main": self.main,
            "counts": {
                "actionable": len(self.facts),
                "left": self.more,
                "waiting": len(self.waiting) + self.asleep,
                "problems": len(self.problems),
            },
            "problems": self.problems[:50],
            "runs": {n: dataclasses.asdict(f) for n, f in self.facts.items()},
        }
        receipts.write(work_dir / FILE, content)

    @classmethod
    def read(cls, work_dir: Path) -> "Plan":
        """Read what the main process froze."""
        path = work_dir / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            facts = {name: Facts(**facts) for name, facts in content["runs"].items()}
            return cls(content["here"], facts, main=content["main"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CaxflowError(
                f"plan {path} cannot be read: {error}",
                "start the workflow again; its main process writes the plan",
            ) from error


def policy(settings: Settings, editions: Sequence[Edition] = ()) -> str:
    """Fingerprint of what makes a run settled here; another policy looks at every run once more."""
    here = settings.here
    partners = [settings.sites[name] for name in here.push_to]
    decisive = [
        FORMAT,
        settings.kinds,
        settings.verify,
        settings.purge,
        settings.corrections.reprocess,
        here.minitrees and here.minitrees.treemakers,
        sorted(map(str, editions)),
        here.pull_from,
        here.origin,
        [
            (
                site.name,
                site.host,
                site.roots,
                site.processed and (site.processed.version, site.processed.make),
            )
            for site in (here, *partners)
        ],
    ]
    return hashlib.sha256(json.dumps(decisive, default=str).encode()).hexdigest()[:12]


def make(
    found: Iterable[Mapping],
    settings: Settings,
    skip_reason: Callable[[Mapping], str | None],
    now: datetime.datetime,
    *,
    settle: Callable[[list[Mapping]], None] = lambda documents: None,
    editions: Sequence[Edition] = (),
    waiting: Callable[[Mapping], Sequence[Waiting]] = lambda document: (),
    hold: Callable[[Decision], None] = lambda decision: None,
) -> Plan:
    """Plan from documents: at most ``batch_size`` runs that can be acted on, the newest first.

    Parameters
    ----------
    found : iterable of mapping
        Run documents in any order; they are looked at one by one, so memory does not grow with their number.
    skip_reason : callable
        Tells why a document's run cannot be processed.
    now : datetime
        The server's time, naive UTC.
    settle : callable
        Is given what `RunsDB.settle` takes of documents that need not be looked at for a while, as they are
        found, a thousand at a time.
    editions : sequence of Edition
        Corrections that are written into the documents of the plan before its runs are processed.
    waiting : callable
        Tells which of them cannot be made yet for a document's run; asked only of those that would have a
        place in the batch, which goes to others then.
    hold : callable
        Takes targets out of a decision that are not to be tried yet.
    """
    plan, marked = Plan(settings.here.name), []
    newest = _Newest(settings.batch_size)
    unseen = set(settings.selection.runs)
    for document in found:
        try:
            run = documents.run_of(document)
            if settings.selection.runs and str(run) not in settings.selection.runs:
                continue
            unseen.discard(str(run))
            decision = decide(document, settings, skip_reason, now, editions=editions)
            if _is_to_process(decision, settings) and newest.takes(run) and (lacks := waiting(document)):
                decision = decide(document, settings, skip_reason, now, editions=editions, lacks=lacks)
            hold(decision)
        except CaxflowError as error:
            plan.problems.append(str(error))
            continue
        if mark := decision.mark(document, now):
            marked.append(mark)
            if len(marked) == 1000:
                settle(marked)
                marked = []
        if decision.waits:
            plan.waiting[str(run)] = "; ".join(decision.waits)
        if decision.targets:
            newest.add(run, document["_id"], decision)
    settle(marked)
    for decision in newest.decisions():
        plan.facts[decision.facts.run] = decision.facts
        plan.targets += decision.targets
    plan.problems += newest.problems() + [_unseen(run) for run in sorted(unseen)]
    plan.more = newest.more
    return plan


def _is_to_process(decision: Decision, settings: Settings) -> bool:
    run = Run.parse(decision.facts.run)
    return targets.path(settings.here.name, run, "processed.root") in decision.targets


def _unseen(run: str) -> str:
    what = f"{run} is not in the runs database, or what `select` demands does not hold for it"
    return str(CaxflowError(what, f"check the name, or ask: caxflow why {run}"))


class _Newest:
    """The newest decisions, at most `size` of them; counts how many `more` there are."""

    def __init__(self, size: int):
        self.size, self.more = size, 0
        self._heap: list[tuple[str, str, Decision]] = []
        self._ids: dict[str, object] = {}
        self._twice: set[str] = set()

    def takes(self, run: Run) -> bool:
        """Whether there is a place for this run, or one that an older run has."""
        return len(self._heap) < self.size or self._heap[0][:2] < (run.name, run.detector)

    def add(self, run: Run, identity: object, decision: Decision) -> None:
        if str(run) in self._ids:
            # The same document may be found twice while others write; two documents are one too many.
            if self._ids[str(run)] != identity:
                self._twice.add(str(run))
            return
        self._ids[str(run)] = identity
        entry = (run.name, run.detector, decision)
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)
            self.more += 1

    def decisions(self) -> Iterator[Decision]:
        """The newest first, without those of which there are two documents."""
        for _, _, decision in sorted(self._heap, key=lambda item: item[:2], reverse=True):
            if decision.facts.run not in self._twice:
                yield decision

    def problems(self) -> list[str]:
        return [
            str(CaxflowError(f"{run}: the runs database has two documents of it", "remove the wrong one"))
            for run in sorted(self._twice)
        ]


def decide(
    document: Mapping,
    settings: Settings,
    skip_reason: Callable[[Mapping], str | None],
    now: datetime.datetime,
    *,
    editions: Sequence[Edition] = (),
    lacks: Sequence[Waiting] = (),
) -> Decision:
    """Decide what is to be done for one run at this site and those it pushes to.

    Parameters
    ----------
    editions : sequence of Edition
        Corrections that will be written into the document before the run is processed.
    lacks : sequence of Waiting
        Those of them that cannot be made yet.
    """
    late = {each.edition.correction.name for each in lacks}
    editions = [each for each in editions if each.correction.name not in late]
    facts = gather(document, settings)
    decision = Decision(facts)
    if documents.time_of(document.get("end")) is None:
        decision.waits.append("it is still being taken")
        return decision
    told = "; ".join(map(str, lacks))
    if settings.here.processed and settings.here.processed.make:
        facts.skip = skip_reason(corrections.promised(document, editions) if editions else document)
        if facts.skip and told:
            facts.skip += f" ({told})"
        facts.corrections = corrections.expected(document, editions)
    state = _State(document, settings, facts, decision, now)
    state.complete_removals()
    state.everything()
    decision.targets = list(dict.fromkeys(decision.targets))
    if lacks and not _is_to_process(decision, settings):
        # Whatever else it waits for, this may come at any time.
        decision.passing = True
        if not any(told in each for each in decision.waits):
            decision.waits.append(told)
    if decision.waits and not facts.there["raw"]:
        decision.waits += [f"at {name}: {fault}" for name, fault in facts.faults.items()]
    return decision


def gather(document: Mapping, settings: Settings) -> Facts:
    """Facts of a run, without any decision."""
    run = documents.run_of(document)
    start = documents.time_of(document.get("start"))
    facts = Facts(
        run=str(run),
        number=documents.value(document, "number", type_=int),
        start=start.isoformat() if start else None,
        events=documents.value(document, "trigger", "events_built", type_=int),
        size=documents.value(document, "raw_size_byte", type_=int, check=lambda size: size > 0),
    )
    if per_file := documents.value(document, *_EVENTS_PER_FILE, type_=int, check=lambda number: number > 0):
        facts.events_per_file = per_file
    right = evidence.master(document, "raw", settings)
    for site in settings.sites.values():
        for kind in ("raw", "processed"):
            copy = _copy(document, kind, site, settings)
            key = evidence.key_of(kind, site, settings)
            gone = documents.gone(document, kind, site.host, key.version) if key else None
            if at := documents.time_of((gone or {}).get("at")):
                facts.gone[kind][site.name] = at.isoformat()
            if kind == "raw" and copy and copy.status == documents.ERROR and copy.note.get("error"):
                facts.faults[site.name] = str(copy.note["error"])
            if evidence.good(copy) and not (kind == "raw" and evidence.contradicts(copy, right)):
                facts.there[kind][site.name] = _stated(run, copy, site)
            elif kind == "raw" and site.origin and copy and _was_refused(copy):
                facts.registrable[site.name] = _stated(run, copy, site)
    for site in settings.sites.values():
        if site.processed and not site.processed.make:
            _look_for_newer(document, site, settings, facts)
    return facts


def _look_for_newer(document: Mapping, site: Site, settings: Settings, facts: Facts) -> None:
    """Take note where a kept processed file is none of those that its makers have now."""
    copy = _copy(document, "processed", site, settings)
    if copy is None or copy.status == documents.VERIFYING or not copy.manifest:
        return
    makers = (settings.sites[name] for name in facts.there["processed"])
    made = [
        _copy(document, "processed", maker, settings)
        for maker in makers
        if maker.processed.make and _same_version("processed", maker, site)
    ]
    if made and all(_is_superseded(copy, each) for each in made):
        facts.renew[site.name] = copy.manifest
        facts.there["processed"].pop(site.name, None)


def _is_superseded(copy: Copy, made: Copy) -> bool:
    """Whether a processed file was made anew since: with other corrections, where both tell of theirs."""
    of_copy, of_made = (_corrections(each) for each in (copy, made))
    same = of_copy is not None and of_copy == of_made
    return evidence.contradicts(copy, made) and not same


def _corrections(copy: Copy) -> dict | None:
    return documents.value(copy.note, "correction_versions", type_=dict)


def source(facts: Facts, kind: str, site: Site, settings: Settings) -> str | None:
    """The site a copy comes from: first those it pulls from, then who pushes to it, then any that has it."""
    there = facts.there[kind]
    here = settings.here.name
    preferred = [*site.pull_from]
    if site.name in settings.here.push_to:
        preferred.insert(0, here)
    preferred += [other.name for other in settings.sites.values() if other.origin]
    for name in [*preferred, here, *sorted(there)]:
        coming = name == here and here in facts.coming[kind]
        if (
            name != site.name
            and (name in there or coming)
            and _same_version(kind, settings.sites[name], site)
        ):
            return name
    return None


def _same_version(kind: str, one: Site, other: Site) -> bool:
    if kind == "raw":
        return True
    return bool(one.processed and other.processed and one.processed.version == other.processed.version)


def skip_function() -> Callable[[Mapping], str | None]:
    """The rules that tell why a run is not processed, as planning uses them."""
    from caxflow.conditions.settings import skip_reason

    return lambda document: skip_reason(document, has_verified_raw=True)


@dataclass
class _State:
    """One run while it is decided upon."""

    document: Mapping
    settings: Settings
    facts: Facts
    decision: Decision
    now: datetime.datetime

    @property
    def run(self) -> Run:
        return Run.parse(self.facts.run)

    def want(self, site: Site, *stages: str) -> None:
        self.decision.targets += [targets.path(site.name, self.run, stage) for stage in stages]

    def everything(self) -> None:
        """All kinds of data, here and where this site brings them."""
        here, kinds = self.settings.here, self.settings.kinds
        if "raw" in kinds:
            self.register()
            self.copy("raw", here)
        if "processed" in kinds and here.processed:
            if here.processed.make:
                self.process()
            else:
                self.copy("processed", here)
        if "minitrees" in kinds and here.minitrees:
            self.minitrees()
        for name in here.push_to:
            site = self.settings.sites[name]
            if "raw" in kinds:
                self.copy("raw", site)
            if "processed" in kinds and site.processed and not site.processed.make:
                self.copy("processed", site)

    def register(self) -> None:
        """At the origin, take the manifest of what the event builder has finished."""
        here = self.settings.here
        copy = _copy(self.document, "raw", here, self.settings)
        if not here.origin or (copy and copy.manifest):
            return
        if copy is None:
            if self.unheard(here):
                self.decision.waits.append("the event builder has not said where it is")
        elif here.name in self.facts.there["raw"] or (_was_refused(copy) and self.may_retry(copy)):
            self.want(here, "raw.done")
        elif copy.status != documents.ERROR and self.may_retry(copy):
            self.decision.waits.append(f"its raw copy at {here.name} is said to be {copy.status}")

    def unheard(self, site: Site) -> bool:
        """Whether the event builder may still write down where the run is, without a word to us."""
        ended = documents.time_of(self.document.get("end"))
        recent = ended is not None and self.now - ended < datetime.timedelta(days=_UNHEARD_DAYS)
        return recent and site.name not in self.facts.gone["raw"]

    def copy(self, kind: str, site: Site) -> None:
        """Copy to `site` what it lacks, and read it again from disk."""
        copy = _copy(self.document, kind, site, self.settings)
        done = "raw.done" if kind == "raw" else "processed.done"
        proof = "checksum" if kind == "raw" else "processed.checksum"
        last = proof if self.settings.verify else done
        if kind == "processed" and self.facts.anew and copy and copy.manifest:
            self.facts.renew[site.name] = copy.manifest
            self.facts.there[kind].pop(site.name, None)
        if self.leaves(kind, site, copy) or self.stands(kind, site, copy, last):
            return
        suspect = copy is not None and "suspect" in copy.note
        if site is self.settings.here and not site.pull_from and not suspect:
            return
        unwanted = self.unwanted(site) if kind == "raw" else self.removed(kind, site)
        if not self.may_retry(copy) if copy else unwanted:
            return
        origin = source(self.facts, kind, site, self.settings)
        if origin is None:
            shout = f"THE ONLY COPY IS DAMAGED: {copy.note.get('error')}" if suspect else ""
            self.decision.waits.append(shout or f"no site has a {kind} copy for {site.name}")
            return
        allowed = site.pull_from if site is self.settings.here else (self.settings.here.name,)
        # What was damaged is mended from wherever it is good.
        if origin not in allowed and not suspect:
            self.decision.waits.append(f"{site.name} may not copy it from {origin}")
            return
        self.facts.source[kind][site.name] = origin
        self.facts.coming[kind].append(site.name)
        self.want(site, last)

    def stands(self, kind: str, site: Site, copy: Copy | None, last: str) -> bool:
        """Whether there is a copy, or one that only has to be read again, by whoever made it."""
        if kind == "processed" and site.name in self.facts.renew:
            return False
        if copy and copy.status == documents.TRANSFERRED:
            if site.name not in self.facts.there[kind]:
                self.decision.waits.append(f"its {kind} copy at {site.name} is not like the others: scrub it")
            return True
        if copy and copy.status == documents.VERIFYING:
            if copy.note.get("owner") == self.settings.here.name:
                self.facts.coming[kind].append(site.name)
                self.want(site, last)
            else:
                self.decision.waits.append(f"its {kind} copy at {site.name} is being verified")
            return True
        return False

    def leaves(self, kind: str, site: Site, copy: Copy | None) -> bool:
        """Whether the copy is on its way; a removal that this site began, it completes."""
        if copy and "moving" in copy.note:
            self.decision.waits.append(
                f"its {kind} copy at {site.name} is being moved: caxflow mv completes it"
            )
            return True
        key = evidence.key_of(kind, site, self.settings)
        if key is None or (kind, key.version) not in documents.leaving(self.document, site.host):
            return False
        here, owner = self.settings.here, copy.note.get("owner") if copy else None
        if site is here and kind != "minitrees" and owner in (None, here.name):
            return True  # `complete_removals` asks for it
        if kind == "raw" and owner == here.name:
            self.want(site, "raw.purged")
        else:
            self.decision.waits.append(f"its {kind} copy at {site.name} is being removed")
        return True

    def complete_removals(self) -> None:
        """Complete the removals that this site began here; a claim of another one is its own."""
        here = self.settings.here
        for kind, version in documents.leaving(self.document, here.host):
            copy = documents.find(self.document, kind, here.host, version)
            if copy and copy.note.get("owner") != here.name:
                continue
            stage = "raw.purged" if kind == "raw" else f"pax_{version}.purged"
            if kind in ("raw", "processed") and targets.is_stage(stage):
                self.want(here, stage)

    def unwanted(self, site: Site) -> bool:
        """Whether a raw copy is not to be fetched: it was removed on purpose, or would be at once."""
        maker = site is self.settings.here and site.processed and site.processed.make
        needed = maker and "processed" in self.settings.kinds and not self.facts.skip
        if needed and not purging.is_processed(self.document, site, self.settings):
            return False
        if self.removed("raw", site):
            return True
        here = site is self.settings.here
        return here and purging.would_go(self.document, site, self.settings, self.now)

    def removed(self, kind: str, site: Site) -> bool:
        """Whether the copy that a site would have was removed on purpose."""
        key = evidence.key_of(kind, site, self.settings)
        gone = documents.gone(self.document, kind, site.host, key.version) if key else None
        return bool(gone and gone.get("why") == "removed")

    def process(self) -> None:
        """Make the processed file of the version this site keeps."""
        here = self.settings.here
        copy = _copy(self.document, "processed", here, self.settings)
        if self.leaves("processed", here, copy) or (copy is None and self.removed("processed", here)):
            return
        anew = copy is not None and copy.status == documents.TRANSFERRED
        if anew and not self.outdated(copy):
            return
        if copy and copy.status != documents.VERIFYING and not self.may_retry(copy):
            return
        if self.facts.skip:
            self.decision.waits.append(f"not processed: {self.facts.skip}")
            return
        if here.name not in self.facts.there["raw"] and here.name not in self.facts.coming["raw"]:
            self.decision.waits.append(f"no verified raw copy at {here.name} to process")
            return
        self.facts.anew = anew
        self.facts.coming["processed"].append(here.name)
        self.want(here, "processed.root", *(["processed.checksum"] if self.settings.verify else []))

    def outdated(self, copy: Copy) -> bool:
        """Whether a processed file is to be made anew: its corrections are not those that the run has now."""
        made_with = copy.note.get("correction_versions")
        if not isinstance(made_with, Mapping):
            return False  # cax did not say
        changed = [
            f"{name} {made_with.get(name)}, now {version}"
            for name, version in self.facts.corrections.items()
            if made_with.get(name) != version
        ]
        if changed and not self.settings.corrections.reprocess:
            self.decision.waits.append(
                f"its processed file is stale ({', '.join(changed)}); corrections.reprocess has it made anew"
            )
        return bool(changed) and self.settings.corrections.reprocess

    def minitrees(self) -> None:
        """Make the minitrees of a processed file that is here, or will be.

        What cax processed has no receipt here to build upon, and its minitrees were hax's own business.
        """
        here = self.settings.here
        there = self.facts.there["processed"].get(here.name)
        if here.name not in self.facts.coming["processed"] and not (there and there["manifest"]):
            return
        version = self.settings.processor(here).pax_version
        copy = documents.find(self.document, "minitrees", here.host, version)
        if self.leaves("minitrees", here, copy) or (copy is None and self.removed("minitrees", here)):
            return
        renewed = self.facts.anew or here.name in self.facts.renew
        if copy and copy.status == documents.TRANSFERRED and not renewed:
            made = documents.value(copy.note, "treemakers", type_=list) or []
            if set(here.minitrees.treemakers) <= {name for name in made if isinstance(name, str)}:
                return
        if copy is None or self.may_retry(copy):
            self.want(here, "minitrees.done")

    def may_retry(self, copy: Copy) -> bool:
        """Whether a copy that failed or was left may be tried (again); else say what it waits for."""
        at = next(site.name for site in self.settings.sites.values() if site.host == copy.host)
        where = f"its {copy.kind} copy at {at}"
        attempts, later = copy.note.get("attempts", 0), documents.time_of(copy.note.get("next"))
        error = f"the last time: {copy.note.get('error')}"
        good = copy.status == documents.TRANSFERRED
        if good:
            where = f"making {copy.kind} data at {at} anew"
        if copy.status == documents.ERROR or (good and attempts):
            if isinstance(attempts, int) and attempts >= self.settings.attempts:
                self.decision.waits.append(f"{where} failed {attempts} times, {error}")
                return False
            if later and later > self.now:
                self.decision.passing = True
                again = f"is tried again at {later:%Y-%m-%d %H:%M} UTC"
                self.decision.waits.append(f"{where} {again}" + (f", {error}" if good else ""))
                return False
            return True
        lease = documents.time_of(copy.note.get("lease"))
        ours = copy.note.get("owner") == self.settings.here.name
        held = (lease is None or lease > self.now) and not documents.stalled(copy, self.now)
        if copy.status == documents.TRANSFERRING and not ours and held:
            self.decision.passing = True
            self.decision.waits.append(
                f"{where} is being made by {copy.note.get('owner', 'another program')}"
            )
            return False
        return True


def _copy(document: Mapping, kind: str, site: Site, settings: Settings) -> Copy | None:
    """The copy of that kind at the site; of processed files, of the version the site keeps."""
    if kind == "raw":
        return documents.find(document, kind, site.host)
    if not site.processed:
        return None
    return documents.find(document, kind, site.host, settings.processor(site).pax_version)


def _was_refused(copy: Copy) -> bool:
    """Whether a copy at its origin was found incomplete, which the event builder may have mended since."""
    return copy.status == documents.ERROR and not copy.manifest and "suspect" not in copy.note


def _stated(run: Run, copy: Copy, site: Site) -> dict:
    """What the document says of a copy, once its location is known to be one of the site's."""
    _check_location(run, copy, site)
    return {
        "location": copy.location.rstrip("/"),
        "manifest": copy.manifest,
        "checksum": copy.checksum,
        "version": copy.version,
        "correction_versions": _corrections(copy),
    }


def _check_location(run: Run, copy: Copy, site: Site) -> None:
    root = site.roots.get(copy.kind)
    if root is None or not documents.inside(copy.location, root):
        raise CaxflowError(
            f"{run}: its {copy.kind} copy at {site.name} is said to be in {copy.location!r}, outside {root}",
            f"mend the document's location, or roots.{copy.kind} of site {site.name}",
        )


def describe(facts: Facts, kind: str, site: str, settings: Settings) -> str:
    """A copy in words: ``pull 160315_1432 from lngs, 41.2 GB``."""
    size = f", {words.size(facts.size)}" if kind == "raw" and facts.size else ""
    what = facts.run if kind == "raw" else f"processed {facts.run}"
    if site in facts.there[kind] or (kind == "raw" and site in facts.registrable):
        return f"take note of {what} at {site}{size}"
    origin, here = facts.source[kind].get(site), settings.here.name
    if site == here:
        return f"pull {what} from {origin}{size}"
    if origin == here:
        return f"push {what} to {site}{size}"
    return f"relay {what} from {origin} to {site}{size}"
