"""Marks that do not hold any more, since another program changed the document."""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from caxflow.conditions.corrections import Edition
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.planning import plan
from caxflow.planning.standing import Standings
from caxflow.rundb import marks
from caxflow.rundb.selecting import excluded


def untrue(
    found: Iterable[Mapping], settings: Settings, editions: Sequence[Edition], now: datetime.datetime
) -> Iterator[tuple[Any, str, list[str]]]:
    """Documents that are marked as settled or waiting here, and would have something made.

    Yields
    ------
    object
        ``_id`` of the document.
    str
        Its run.
    list of str
        Targets that it wants.
    """
    here, policy = settings.here.name, plan.policy(settings, editions)
    standings = Standings(settings, now, editions=editions)
    for document in found:
        if not marks.spared(document, here, policy, now):
            continue
        try:
            if excluded(document, settings.selection):
                continue
            decision = standings.decide(document)
        except CaxflowError:
            continue  # its surprises are told elsewhere
        if decision.targets:
            yield document["_id"], decision.facts.run, decision.targets
