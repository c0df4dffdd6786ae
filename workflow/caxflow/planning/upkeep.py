"""The main process' side of purge and scrub: what is removed and what is read again, by policy, in words."""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping

from caxflow import documents, receipts, targets, words
from caxflow.config import Selection
from caxflow.copies import proof
from caxflow.copies.removal import Removal
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError
from caxflow.planning import readings, removals
from caxflow.planning.facts import gather
from caxflow.planning.planner import Planner, say
from caxflow.planning.removals import Planned, Removals
from caxflow.rundb import DatabaseAway
from caxflow.targets import Run
from caxflow.transfer import kept

_WITHOUT = "nothing is removed without it"


class Upkeep:
    """Plans what rules ``purge`` and ``scrub`` do.

    Parameters
    ----------
    planner : Planner
    """

    def __init__(self, planner: Planner):
        self.planner, self.settings = planner, planner.settings

    @kept.connections()
    def purge(self) -> list[str]:
        """Targets of all copies here that the policy removes; says which, and on what evidence."""
        here, planner, policy = self.settings.here, self.planner, self.settings.purge
        if policy is None or policy.after is policy.superseded is None:
            raise CaxflowError(
                f"nothing says what may be removed at {here.name}",
                "add purge: {after_days: …} to config.yaml",
            )
        planner.without = _WITHOUT
        planner.lock()
        planner.catch_up()
        now = planner.database.now()
        made = removals.select(self._found(now), self.settings, now)
        if planner.preview():
            self._look(made)
        self._take_up(made.planned)
        say(*removals.summary(made, self.settings, listed=not planner.preview()))
        return [targets.path(here.name, each.run, each.stage) for each in made.planned]

    @kept.connections()
    def removal(self, run: str, site: str, stage: str = "raw.purged") -> str:
        """What removing a copy means, in words; an error if the evidence cannot suffice."""
        planner, here = self.planner, self.settings.here
        planner.without = _WITHOUT
        if site != here.name:
            return self._elsewhere(run, site, stage)
        facts = planner.facts(run)
        if stage not in facts.removals:
            document = planner.database.get(Run.parse(run))
            key = removals.key_of_stage(stage, here.host)
            removal, against = removals.describe(document, self.settings, planner.database.now(), key)
            if against:
                raise CaxflowError(f"{run} is not removed from {site}: {against}", "it stays where it is")
            planned = removals.planned(document, key, self.settings, removal)
            if planner.preview():
                self._preview(planned, proof.glance)
            self._take_up([planned])
        return planner.facts(run).removals[stage]

    def scrub(self) -> list[str]:
        """Write down what is to be read again, the longest unread first; says what."""
        planner = self.planner
        planner.lock()
        planner.catch_up()
        here, now = self.settings.here, planner.database.now()
        found = readings.readings(planner.database.holding(self.settings.selection, here.host), self.settings)
        todo, oldest, count = readings.select_readings(found, self.settings, now)
        planner.take_up([])  # jobs read in the plan whose they are
        if not planner.preview():
            receipts.write(planner.work_dir / readings.FILE, [dataclasses.asdict(each) for each in todo])
        if oldest is None:
            say(f"no copy at {here.name} to read again")
            return []
        size = sum(each.size or 0 for each in todo)
        say(f"{words.count(len(todo), 'copy')} to read again at {here.name}, {words.size(size)}")
        if count > len(todo):
            say(f"{count - len(todo):,} more are due, for the next calls")
        say(*removals.first([str(each) for each in todo]))
        say(f"the longest unread copy: {oldest}")
        return []

    def _found(self, now: datetime.datetime) -> Iterator[Mapping]:
        """Documents that a purge looks at, each once.

        What was begun goes on whatever the policy, but never beyond the runs that were named.
        """
        here, policy, selection = self.settings.here, self.settings.purge, self.settings.selection
        database, begun = self.planner.database, set()
        for document in database.removing(here.host, Selection(runs=selection.runs)):
            begun.add(document["_id"])
            yield document
        if policy.superseded is None:
            # Raw copies of young runs are not even asked for.
            before = min(now - policy.after, selection.before or now)
            selection = dataclasses.replace(selection, before=before)
        for document in database.holding(selection, here.host):
            if document["_id"] not in begun:
                yield document

    def _look(self, made: Removals) -> None:
        """Look at what a preview would remove, as the jobs do first; what would stay is said to stay.

        What reading other copies again would find, nobody knows before.
        """
        album, planned = proof.Album(), made.planned
        paths: dict = {}
        for each in planned:
            for subject, location in self._places(each):
                paths.setdefault(subject.site.name, (subject.place, []))[1].append(location)
        for place, locations in paths.values():
            album.see(place, locations)
        made.planned = []
        for each in planned:
            try:
                self._preview(each, album)
            except DatabaseAway:
                raise
            except CaxflowError as error:
                made.problems.append(str(error))
            else:
                made.planned.append(each)

    def _places(self, planned: Planned) -> Iterator[tuple[Subject, str]]:
        """Copies that are looked at before one goes: it itself, and those that bear witness."""
        removal = self._removal(planned, proof.glance)
        copy = removal.subject.find(planned.document)
        if copy is None:
            return
        yield removal.subject, copy.location.rstrip("/")
        now = self.planner.database.now()
        for witness in removal.hearing.witnesses(planned.document, copy, now):
            if witness.counts or witness.renewable:
                yield removal.hearing.at(witness), witness.copy.location

    def _preview(self, planned: Planned, look: proof.Glance) -> None:
        """Look at all that a removal rests on, as its job does."""
        removal = self._removal(planned, look)
        removal.subject.check_mounted()
        removal.preview()

    def _removal(self, planned: Planned, look: proof.Glance) -> Removal:
        subject = Subject(
            settings=self.settings,
            database=self.planner.database,
            site=self.settings.here,
            run=planned.run,
            key=planned.key,
            work_dir=self.planner.work_dir,
            say=say,
        )
        return Removal(subject, removals.demand(planned.key, self.settings), "", look)

    def _take_up(self, planned: list[Planned]) -> None:
        """Have the plan know what is removed; receipts of an earlier removal of what is back make room."""
        planner = self.planner
        known = dict(planner.plan.facts)
        for each in planned:
            run = str(each.run)
            facts = known.setdefault(run, gather(each.document, self.settings))
            facts.removals[each.stage] = each.words
            if not each.begun and not planner.preview():
                target = targets.path(self.settings.here.name, each.run, each.stage)
                try:
                    receipts.remove(planner.work_dir / target)
                except CaxflowError as error:
                    say(str(error))  # its job says so, too
        planner.take_up([known[str(each.run)] for each in planned])

    def _elsewhere(self, run: str, site: str, stage: str) -> str:
        """A removal at another site, which may only go on if it was begun from here."""
        planner, here = self.planner, self.settings.here.name
        document = planner.database.get(Run.parse(run)) if planner.main else {}
        key = removals.key_of_stage(stage, self.settings.site(site).host)
        copy = documents.find(document, key.kind, key.host, key.version)
        if copy and "removing" in copy.note and copy.note.get("owner") == here:
            return f"go on removing {run} from {site}"
        raise CaxflowError(f"{run} at {site} is removed there", f"type it there: snakemake --profile {site}")
