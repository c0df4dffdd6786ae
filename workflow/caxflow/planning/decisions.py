"""Decides what is to be done for one run, here and at the sites that this one pushes to."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from caxflow import clock, documents, targets
from caxflow.conditions import corrections
from caxflow.conditions.corrections import Edition, Waiting
from caxflow.config import Settings, Site
from caxflow.copies import evidence, purging
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.planning.facts import Facts, copy_at, corrections_of, gather, source_of, was_refused
from caxflow.rundb import marks
from caxflow.targets import Run

DAMAGED = "THE ONLY COPY IS DAMAGED"
LONGEST_PAUSE = datetime.timedelta(days=1)  # between two attempts at what fails
UNHEARD = datetime.timedelta(days=30)  # after a run, in which its raw data may still appear at their origin


@dataclass
class Decision:
    """What is to be done for a run: targets to ask for, or what it waits for; neither means settled.

    `wrong`: what only a human can put right, and how. `passing`: it waits for a time, or for what somebody is
    about.
    """

    facts: Facts
    targets: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    passing: bool = False

    @property
    def settled(self) -> bool:
        """Nothing remains to be done under the present policy."""
        return not self.targets and not self.waits and not self.wrong

    def mark(self, document: Mapping, now: datetime.datetime) -> dict | None:
        """What to keep of the document so that it is not looked at for a while; None for each time."""
        if self.targets or self.passing or self.wrong:
            return None
        kind = marks.WAITS if self.waits else marks.SETTLED
        until = marks.next_look(document, kind, now)
        return until and {
            "_id": document["_id"],
            "caxflow": document.get("caxflow"),
            "mark": kind,
            "until": until,
        }


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
    facts = gather(document, settings, now)
    decision = Decision(facts)
    if documents.ended(document) is None:
        decision.waits.append("it is still being taken")
        return decision
    told = "; ".join(map(str, lacks))
    if settings.here.processed and settings.here.processed.make:
        try:
            facts.corrections = corrections.expected(document, editions)
            facts.skip = skip_reason(corrections.promised(document, editions) if editions else document)
        except CaxflowError as error:
            # Which says nothing about its raw data.
            facts.skip = str(error).removeprefix(f"{facts.run}: ")
        if facts.skip and told:
            facts.skip += f" ({told})"
    state = _State(document, settings, facts, decision, now)
    state.complete_removals()
    state.everything()
    state.leftovers()
    decision.targets = list(dict.fromkeys(decision.targets))
    decision.waits = list(dict.fromkeys(decision.waits))
    if lacks and not is_to_process(decision, settings):
        # Whatever else it waits for, this may come at any time.
        decision.passing = True
        if not any(told in each for each in decision.waits):
            decision.waits.append(told)
    if decision.waits and not facts.there["raw"]:
        decision.waits += [f"at {name}: {fault}" for name, fault in facts.faults.items()]
    return decision


def is_to_process(decision: Decision, settings: Settings) -> bool:
    """Whether the decision has the run processed here."""
    run = Run.parse(decision.facts.run)
    return targets.path(settings.here.name, run, "processed.root") in decision.targets


def skip_function(settings: Settings) -> Callable[[Mapping], str | None]:
    """The rules that tell why a run is not processed here, as planning uses them."""
    from caxflow.conditions.settings import skip_reason

    also = settings.run_parameters
    return lambda document: skip_reason(document, has_verified_raw=True, also=also)


def _moving(kind: str, site: Site) -> str:
    return f"its {kind} copy at {site.name} is being moved: caxflow mv completes it"


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
        if "raw" in kinds and not self.register():
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

    def register(self) -> bool:
        """Take the manifest of what the event builder has finished, or of the only copy that is left.

        Whether there is such a copy here.
        """
        here = self.settings.here
        copy = copy_at(self.document, "raw", here, self.settings)
        if copy is None or copy.manifest:
            if copy is None and here.origin and self.unheard(here):
                self.decision.waits.append("the event builder has not said where it is")
            return False
        if here.name in self.facts.registrable:
            if self.may_retry(copy):
                self.want(here, "raw.done")
                if copy.status != documents.ERROR:
                    self.facts.coming["raw"].append(here.name)
            return True
        if here.origin and here.name in self.facts.there["raw"]:
            self.want(here, "raw.done")
        elif here.origin and copy.status != documents.ERROR and self.may_retry(copy):
            self.decision.waits.append(f"its raw copy at {here.name} is said to be {copy.status}")
        elif here.origin and was_refused(copy) and not self.facts.there["raw"]:
            # It is said to lie where no copy of this site can.
            self.decision.wrong.append(self.facts.faults[here.name])
            self.decision.waits.append(self.facts.faults[here.name])
        return False

    def unheard(self, site: Site) -> bool:
        """Whether the event builder may still write down where the run is, without a word to us."""
        ended = documents.time_of(self.document.get("end"))
        recent = ended is not None and self.now - ended < UNHEARD
        return recent and site.name not in self.facts.gone["raw"]

    def copy(self, kind: str, site: Site) -> None:
        """Copy to `site` what it lacks, and read it again from disk."""
        copy = copy_at(self.document, kind, site, self.settings)
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
        origin = source_of(self.facts, kind, site, self.settings)
        if origin is None:
            shout = f"{DAMAGED}: {copy.note.get('error')}" if suspect else ""
            self.decision.waits.append(shout or self.no_source(kind, site))
            if shout:
                self.decision.wrong.append(f"{shout} -> look for another copy, and ask who made it")
            return
        allowed = site.pull_from if site is self.settings.here else (self.settings.here.name,)
        # What was damaged is mended from wherever it is good.
        if origin not in allowed and not suspect:
            self.decision.waits.append(f"{site.name} may not copy it from {origin}")
            return
        self.facts.source[kind][site.name] = origin
        self.facts.coming[kind].append(site.name)
        self.want(site, last)

    def no_source(self, kind: str, site: Site) -> str:
        """Return why there is nothing that a copy could be made of."""
        why = f"no site has a {kind} copy for {site.name}"
        if kind != "raw":
            return why
        new = [name for name in self.facts.registrable if name not in self.facts.faults]
        return why + "".join(f"; `all` at {name} has yet to take note of the one there" for name in new)

    def stands(self, kind: str, site: Site, copy: Copy | None, last: str) -> bool:
        """Whether there is a copy, or one that only has to be read again, by whoever made it."""
        if kind == "processed" and site.name in self.facts.renew:
            return False
        if copy and copy.status == documents.TRANSFERRED:
            if site.name not in self.facts.there[kind]:
                self.decision.waits.append(f"its {kind} copy at {site.name} is not like the others: scrub it")
            return True
        if copy and copy.status == documents.VERIFYING and not documents.stalled(copy, self.now):
            if copy.note.get("owner") == self.settings.here.name:
                self.facts.coming[kind].append(site.name)
                self.facts.unproven[kind].append(site.name)
                self.want(site, last)
            else:
                # Once it has stalled, it is taken over.
                self.decision.passing = self.decision.passing or documents.is_unchecked(copy)
                self.decision.waits.append(f"its {kind} copy at {site.name} is being verified")
            return True
        return False

    def leaves(self, kind: str, site: Site, copy: Copy | None) -> bool:
        """Whether the copy is on its way; a removal that this site began, it completes."""
        if copy and "moving" in copy.note:
            self.decision.waits.append(_moving(kind, site))
            return True
        key = evidence.key_of(kind, site, self.settings)
        if key is None or (kind, key.version) not in documents.leaving(self.document, site.host):
            return False
        here, owner = self.settings.here, copy.note.get("owner") if copy else None
        if site is here:
            return True  # `complete_removals` asks for it, or says what it waits for
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
                self.decision.waits.append(f"its {kind} copy at {here.name} is being removed")
                continue
            stage = "raw.purged" if kind == "raw" else f"pax_{version}.purged"
            if kind in ("raw", "processed") and targets.is_stage(stage):
                self.want(here, stage)
            else:
                self.decision.waits.append(
                    f"its {kind} copy at {here.name} is being removed: caxflow rm completes it"
                )

    def leftovers(self) -> None:
        """Say which moves here were begun, and what moves to another file system have left."""
        here = self.settings.here
        for copy in documents.copies(self.document):
            if copy.host != here.host:
                continue
            if "moving" in copy.note:
                self.decision.waits.append(_moving(copy.kind, here))
            if left := documents.value(copy.note, "left", "path", type_=str):
                self.decision.waits.append(
                    f"its {copy.kind} copy at {here.name} was moved, and {left} is still there: the same "
                    "caxflow mv removes it"
                )

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
        copy = copy_at(self.document, "processed", here, self.settings)
        if self.leaves("processed", here, copy) or (copy is None and self.removed("processed", here)):
            return
        if copy and documents.is_unchecked(copy) and not documents.stalled(copy, self.now):
            self.decision.passing = True
            self.decision.waits.append(f"its processed copy at {here.name} is being verified")
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
        self.facts.abandoned = copy is not None and not anew and "suspect" not in copy.note
        self.facts.coming["processed"].append(here.name)
        self.want(here, "processed.root", *(["processed.checksum"] if self.settings.verify else []))

    def outdated(self, copy: Copy) -> bool:
        """Whether a processed file is to be made anew: its corrections are not those that the run has now."""
        made_with = corrections_of(copy)
        if made_with is None:
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
        # One whose location is the folder of all runs is made again, into a folder of its own.
        own = copy and not documents.misplaced("minitrees", self.run, copy.location, here.roots["minitrees"])
        if own and copy.status == documents.TRANSFERRED and not renewed:
            made = documents.value(copy.note, "treemakers", type_=list) or []
            if set(here.minitrees.treemakers) <= {name for name in made if isinstance(name, str)}:
                return
        if copy is None or self.may_retry(copy):
            self.want(here, "minitrees.done")

    def may_retry(self, copy: Copy) -> bool:
        """Whether a copy that failed or was left may be tried (again); else say what it waits for."""
        at = self.settings.site_at(copy.host).name
        where = f"its {copy.kind} copy at {at}"
        attempts = documents.value(copy.note, "attempts", type_=int) or 0
        later = documents.time_of(copy.note.get("next"))
        error = f"the last time: {copy.note.get('error')}"
        good = copy.status == documents.TRANSFERRED
        if good:
            where = f"making {copy.kind} data at {at} anew"
        if copy.status == documents.ERROR or (good and attempts):
            if attempts >= self.settings.attempts:
                self.decision.waits.append(f"{where} failed {attempts} times, {error}")
                return False
            if clock.is_ahead(later, self.now, LONGEST_PAUSE):
                self.decision.passing = True
                again = f"is tried again at {later:%Y-%m-%d %H:%M} UTC"
                self.decision.waits.append(f"{where} {again}" + (f", {error}" if good else ""))
                return False
            return True
        if copy.status not in documents.STATUSES:
            self.decision.waits.append(f"{where} has the unknown status {copy.status!r}")
            return False
        ours = copy.note.get("owner") == self.settings.here.name
        held = documents.is_held(copy, self.now) and not documents.stalled(copy, self.now)
        if copy.status == documents.TRANSFERRING and not ours and held:
            self.decision.passing = True
            self.decision.waits.append(
                f"{where} is being made by {copy.note.get('owner', 'another program')}"
            )
            return False
        return True
