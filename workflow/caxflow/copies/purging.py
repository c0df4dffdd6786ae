"""Which raw copies the policy removes to make room: pure functions of a run document."""

import datetime
from collections.abc import Mapping

from caxflow import documents
from caxflow.config import Settings, Site
from caxflow.copies import evidence
from caxflow.documents import Copy


def not_due(document: Mapping, site: Site, settings: Settings, now: datetime.datetime) -> str:
    """Why a run's raw copy at a site stays, whatever is known of other copies; empty if it may go."""
    purge = settings.purge
    if purge is None:
        return "the policy removes nothing"
    start = documents.time_of(document.get("start"))
    if start is None:
        return "its start is not known"
    if now - start < purge.after:
        return f"it is younger than {purge.after / datetime.timedelta(days=1):g} days"
    if purge.processed and site.processed and not is_processed(document, site, settings):
        return f"it is not processed at {site.name}"
    return ""


def is_processed(document: Mapping, site: Site, settings: Settings) -> bool:
    """Whether the processed file of the version a site keeps is there, and was verified."""
    version = settings.processor(site).pax_version
    copy = documents.find(document, "processed", site.host, version)
    return evidence.good(copy) and ("verified" in copy.note or not settings.verify)


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
