"""Which copies the policy removes to make room: pure functions of a run document."""

import datetime
import re
from collections.abc import Mapping

from caxflow import clock, documents, targets
from caxflow.config import Settings, Site
from caxflow.copies import evidence
from caxflow.documents import Copy


def not_due(document: Mapping, site: Site, settings: Settings, now: datetime.datetime) -> str:
    """Why a run's raw copy at a site stays, whatever is known of other copies; empty if it may go."""
    purge = settings.purge
    if purge is None or purge.after is None:
        return "the policy removes nothing"
    start = documents.time_of(document.get("start"))
    if start is None:
        return "its start is not known"
    if now - start < purge.after:
        return f"it is younger than {purge.after / datetime.timedelta(days=1):g} days"
    if purge.processed and site.processed and not is_processed(document, site, settings):
        return f"it is not processed at {site.name}"
    return ""


def is_superseded(copy: Copy, site: Site, settings: Settings) -> bool:
    """Whether a processed file is of an older version than the one that the site keeps.

    One of a newer version was asked for by its name, and programs that take the newest take that.
    """
    if copy.kind != "processed" or copy.host != site.host or site.processed is None:
        return False
    theirs, kept = _numbers(copy.version), _numbers(settings.processor(site).pax_version)
    return theirs is not None and kept is not None and theirs < kept


def not_superseded_for_long(
    document: Mapping, copy: Copy, site: Site, settings: Settings, now: datetime.datetime
) -> str:
    """Why a processed file of an older version stays, whatever reading finds; empty if it may go."""
    purge = settings.purge
    if purge is None or purge.superseded is None:
        return "the policy removes no processed files"
    version = settings.processor(site).pax_version
    kept = documents.find(document, "processed", site.host, version)
    if kept is None or not evidence.good(kept):
        return f"its successor of {version} is not there"
    # One that was made by a clock that was wrong is as old as its last reading, at least.
    made = clock.past(kept.created, now) or kept.verified
    if made is None:
        return f"when its successor of {version} was made, is not known"
    if now - made < purge.superseded:
        days = purge.superseded / datetime.timedelta(days=1)
        return f"its successor of {version} is younger than {days:g} days"
    return ""


def is_processed(document: Mapping, site: Site, settings: Settings) -> bool:
    """Whether the processed file of the version a site keeps is there, and was verified."""
    version = settings.processor(site).pax_version
    copy = documents.find(document, "processed", site.host, version)
    return evidence.good(copy) and (copy.verified is not None or not settings.verify)


def would_go(document: Mapping, site: Site, settings: Settings, now: datetime.datetime) -> bool:
    """Whether a raw copy, if it were at a site, would be removed at once: then it is not fetched."""
    if not_due(document, site, settings, now):
        return False
    right = evidence.master(document, "raw", settings)
    if right is None:
        return False
    here = Copy("raw", site.host, documents.TRANSFERRED, site.roots["raw"], manifest=right.manifest)
    found = evidence.witnesses(document, here, settings, settings.purge.demand, now)
    return sum(each.counts or each.renewable for each in found) >= settings.purge.demand.copies


def _numbers(version: str | None) -> tuple[int, ...] | None:
    """A version as numbers, without zeros at its end; None if it is none of ours."""
    if version is None or not re.fullmatch(targets.VERSION, version):
        return None
    return tuple(map(int, re.sub(r"(\.0)+$", "", version[1:]).split(".")))
