"""Raw data that were refused where they lie are not read again before something changes."""

import datetime
import hashlib
import json
from collections.abc import Mapping

from caxflow import __version__, clock, transfer
from caxflow.config import Settings, reach
from caxflow.copies import proof
from caxflow.errors import CaxflowError
from caxflow.planning.decisions import UNHEARD
from caxflow.planning.facts import Facts
from caxflow.transfer import Place


def is_recent(facts: Facts, now: datetime.datetime) -> bool:
    """Return whether the event builder may still be at work, by the time when the run ended."""
    ended = clock.read(facts.end)
    return ended is None or now - ended < UNHEARD


def sign(place: Place, there: Mapping, facts: Facts, settings: Settings, now: datetime.datetime) -> str:
    """Return a digest of all that a judgement of raw data rests upon, but for their bytes.

    Parameters
    ----------
    there : mapping
        What `facts` state of the copy.
    now : datetime
        The server's time, naive UTC.
    """
    look = proof.glance(place, there["location"])
    seen = [look.kind, look.error, sorted(look.files.items()), sorted(map(list, look.identity))]
    # A look tells of files alone, and a folder may be empty.
    items = transfer.census(place, there["location"]) if look.kind == "directory" else []
    folders = [list(item) for item in items if item.kind == "directory"]
    data = [there["location"], there["checksum"], *seen, folders]
    asked = [facts.number, facts.events, is_recent(facts, now), settings.foreign_files, __version__]
    return hashlib.sha256(json.dumps([data, asked]).encode()).hexdigest()


def stands(failure: Mapping, facts: Facts, settings: Settings, now: datetime.datetime) -> bool:
    """Return whether data that were refused here are as they were then."""
    site = settings.here
    there = facts.registrable.get(site.name) or facts.there["raw"].get(site.name)
    if not there:
        return False
    try:
        found = sign(reach.place(settings, site), there, facts, settings, now)
    except CaxflowError:
        return False
    return found == failure["refused"]
