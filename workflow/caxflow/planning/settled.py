"""Marks of settled runs that do not hold any more, since another program changed the document."""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from caxflow.conditions.corrections import Edition
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.planning import decisions, plan
from caxflow.rundb import marks


def untrue(
    found: Iterable[Mapping], settings: Settings, editions: Sequence[Edition], now: datetime.datetime
) -> Iterator[tuple[Any, str, list[str]]]:
    """Documents that are marked as settled here, and would have something made.

    Yields
    ------
    object
        ``_id`` of the document.
    str
        Its run.
    list of str
        Targets that it wants.
    """
    here, policy, skip = settings.here.name, plan.policy(settings, editions), decisions.skip_function()
    for document in found:
        if not marks.is_settled(document, here, policy):
            continue
        try:
            decision = decisions.decide(document, settings, skip, now, editions=editions)
        except CaxflowError:
            continue  # its surprises are told elsewhere
        if decision.targets:
            yield document["_id"], decision.facts.run, decision.targets
