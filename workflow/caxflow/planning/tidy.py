"""What the work directory states of a run, before anything builds upon it: what is void is taken away."""

import datetime
import functools
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from caxflow import clock, receipts, targets
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.planning import sync
from caxflow.planning.decisions import Decision
from caxflow.planning.facts import Facts
from caxflow.planning.pauses import needs
from caxflow.targets import Run
from caxflow.workdir import outdated, times


class Tidy:
    """Tidies up the receipts of the runs that planning looks at.

    Parameters
    ----------
    settings : Settings
    work_dir : Path
    """

    def __init__(self, settings: Settings, work_dir: Path):
        self.settings, self.work_dir = settings, work_dir

    def __call__(self, decision: Decision) -> None:
        """Take away receipts that do not hold any more, whether or not there is something to do for the run.

        Raises
        ------
        CaxflowError
            If one is damaged, or cannot be taken away: the run is passed by.
        """
        self.void(decision.facts)
        if decision.targets:
            self.make_room(decision.facts)
            self.check(decision)

    def check(self, decision: Decision) -> None:
        """See that the receipts can be read that a run's targets build upon.

        Raises
        ------
        CaxflowError
            If one is damaged.
        """
        needed = {
            each
            for target in decision.targets
            for each in needs(targets.parse(target), decision.facts, self.settings)
        }
        for target in sorted(needed):
            path = self.work_dir / str(target)
            if not os.path.lexists(path) or target.stage == "processed.root":
                continue
            if target.stage.endswith("checksum"):
                receipts.content_of(path)
                continue
            receipt = receipts.read(path)
            if target.stage in ("raw.done", "processed.done"):
                with receipts.intact(path):
                    Path(receipt["location"]), receipt["entry"]["kind"], receipt["manifest"]["digest"]

    def void(self, facts: Facts) -> None:
        """Take away receipts of copies that have gone or moved since, and of removals of what is back.

        Raises
        ------
        CaxflowError
            If one is damaged; the others have been seen to, too.
        """
        run, wrong = Run.parse(facts.run), []
        for step in self._voiding(facts, run):
            try:
                step()
            except CaxflowError as error:
                wrong.append(error)
        for site in facts.there["raw"]:
            receipts.remove(self.work_dir / targets.path(site, run, "raw.purged"))
        if wrong:
            raise wrong[0]

    def _voiding(self, facts: Facts, run: Run) -> Iterator[Callable[[], None]]:
        """Yield a step for each copy that has gone, and for each that is there."""
        for kind, sites in facts.gone.items():
            for site, gone in sites.items():
                since = gone | {"at": datetime.datetime.fromisoformat(gone["at"])}
                yield functools.partial(sync.void, self.work_dir, site, run, kind, since)
        for kind, sites in facts.there.items():
            for site, there in sites.items():
                yield functools.partial(sync.void_moved, self.work_dir, site, run, kind, there)

    def make_room(self, facts: Facts) -> None:
        """Take away what states what was wanted once, and repair the order of what stays."""
        run = Run.parse(facts.run)
        for name in (self.settings.here.name, *self.settings.here.push_to):
            if stages := self.outdated(facts, name):
                site = self.settings.site(name)
                version = self.settings.processor(site).pax_version
                outdated.retire(self.work_dir, site, run, stages, version)
        times.repair(self.work_dir, self.settings.sites, run, self._files_now)

    @functools.cached_property
    def _files_now(self) -> float:
        return clock.of_files(self.work_dir)

    def outdated(self, facts: Facts, name: str) -> Collection[str]:
        """Stages of a run at a site that stand, but state what is no longer wanted."""
        site = self.settings.site(name)
        if site.processed is None:
            return ()
        makes = site is self.settings.here and site.processed.make
        return outdated.find(
            self.work_dir,
            site,
            Run.parse(facts.run),
            self.settings.processor(site).pax_version,
            corrections=facts.corrections if makes else None,
            anew=makes and facts.anew,
            renewed=facts.renew.get(name),
        )
