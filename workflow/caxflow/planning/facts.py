"""What jobs need to know of a run, gathered from its document without any decision."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from caxflow import clock, documents, words
from caxflow.conditions import corrections
from caxflow.config import Settings, Site
from caxflow.copies import evidence
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.legible import printable
from caxflow.targets import Run

_EVENTS_PER_FILE = ("reader", "ini", "trigger_config_override", "Zip", "events_per_file")


@dataclass
class Facts:
    """What jobs need to know of a run; plain values, kept in the plan file.

    Parameters
    ----------
    run : str
        Name of the run.
    number : int or None
    start, end : str or None
        ISO times.
    events : int or None
        Events built by the trigger.
    size : int or None
        Bytes of the raw dataset.
    there : dict
        By kind, by site: location, manifest, checksum of copies that can be trusted as a source.
    registrable : dict
        By site: the same of a raw copy that is to be taken note of, or may be looked at again: one at its
        origin that the event builder has finished, or that was found incomplete; the only one, found damaged
        or left by another program.
    faults : dict
        By site: what is wrong with its raw copy.
    source : dict
        By kind, by site that is to get a copy: the site it comes from.
    coming : dict
        By kind: sites that will have a copy once this call is through.
    unproven : dict
        By kind: sites that have a copy made from here which was not read again yet.
    skip : str or None
        Why the run is not processed.
    gone : dict
        By kind, by site: that a copy was removed or found bad: ISO time (``at``) until when receipts about
        it do not hold any more, ``token``, ``version``.
    removals : dict
        By stage: what would be removed here, on which evidence.
    events_per_file : int
        Events in each of its zips but the last.
    corrections : dict
        Versions of the corrections with which it is to be processed here, by name.
    anew : bool
        Whether it is processed again, though there is a file of its version.
    abandoned : bool
        Whether a processed file that may lie here was left: its making failed, or another program gave it
        up.
    renew : dict
        By site that only keeps processed files: digest of the manifest of a copy that has been made anew
        elsewhere, and is to be replaced.
    """

    run: str
    number: int | None = None
    start: str | None = None
    end: str | None = None
    events: int | None = None
    size: int | None = None
    there: dict[str, dict[str, dict]] = field(default_factory=lambda: {"raw": {}, "processed": {}})
    registrable: dict[str, dict] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    source: dict[str, dict[str, str]] = field(default_factory=lambda: {"raw": {}, "processed": {}})
    coming: dict[str, list[str]] = field(default_factory=lambda: {"raw": [], "processed": []})
    unproven: dict[str, list[str]] = field(default_factory=lambda: {"raw": [], "processed": []})
    skip: str | None = None
    gone: dict[str, dict[str, dict]] = field(default_factory=lambda: {"raw": {}, "processed": {}})
    removals: dict[str, str] = field(default_factory=dict)
    events_per_file: int = 1000
    corrections: dict[str, str | int | float] = field(default_factory=dict)
    anew: bool = False
    abandoned: bool = False
    renew: dict[str, str] = field(default_factory=dict)


def gather(document: Mapping, settings: Settings, now: datetime.datetime | None = None) -> Facts:
    """Return facts of a run, without any decision; `now` is the server's time, naive UTC."""
    now = now or clock.now()
    run = documents.run_of(document)
    start, end = (documents.time_of(document.get(name)) for name in ("start", "end"))
    facts = Facts(
        run=str(run),
        number=documents.value(document, "number", type_=int),
        start=start.isoformat() if start else None,
        end=end.isoformat() if end else None,
        events=documents.value(document, "trigger", "events_built", type_=int),
        size=documents.value(document, "raw_size_byte", type_=int) or None,
    )
    if per_file := documents.value(document, *_EVENTS_PER_FILE, type_=int):
        facts.events_per_file = per_file
    right = evidence.master(document, "raw", settings)
    for site in settings.sites.values():
        for kind in ("raw", "processed"):
            copy = copy_at(document, kind, site, settings)
            key = evidence.key_of(kind, site, settings)
            gone = documents.gone(document, kind, site.host, key.version) if key else None
            if at := documents.time_of((gone or {}).get("at")):
                token = documents.value(gone, "token", type_=str)
                facts.gone[kind][site.name] = {"at": at.isoformat(), "token": token, "version": key.version}
            if kind == "raw" and copy and copy.status == documents.ERROR and copy.note.get("error"):
                facts.faults[site.name] = str(copy.note["error"])
            if evidence.good(copy) and not (kind == "raw" and evidence.contradicts(copy, right)):
                facts.there[kind][site.name] = _stated(run, copy, site)
            elif kind == "raw" and site.origin and copy and _is_built(copy, facts, now):
                _register(facts, copy, site)
    alone = not facts.there["raw"] and not facts.registrable
    for site in settings.sites.values():
        if site.processed and not site.processed.make:
            _look_for_newer(document, site, settings, facts)
        copy = None if facts.there["raw"] else copy_at(document, "raw", site, settings)
        left = copy and alone and not site.origin and documents.stalled(copy, now)
        if left or (copy and was_damaged(copy)):
            _register(facts, copy, site)
    return facts


def _is_built(copy: Copy, facts: Facts, now: datetime.datetime) -> bool:
    """Whether a raw copy at its origin is to be taken note of, since the event builder is done with it.

    The event builder leaves the status at ``verifying``; how many events it built it writes when it is done.
    """
    left = documents.stalled(copy, now) and facts.events is not None
    return was_refused(copy) or documents.is_unchecked(copy) or left


def _register(facts: Facts, copy: Copy, site: Site) -> None:
    """Have the copy taken note of; one that lies in no place of the site cannot be."""
    try:
        facts.registrable[site.name] = _stated(Run.parse(facts.run), copy, site)
    except CaxflowError as error:
        facts.faults[site.name] = str(error)


def _look_for_newer(document: Mapping, site: Site, settings: Settings, facts: Facts) -> None:
    """Take note where a kept processed file is none of those that its makers have now."""
    copy = copy_at(document, "processed", site, settings)
    if copy is None or copy.status == documents.VERIFYING or not copy.manifest:
        return
    makers = (settings.sites[name] for name in facts.there["processed"])
    made = [
        copy_at(document, "processed", maker, settings)
        for maker in makers
        if maker.processed.make and _same_version("processed", maker, site)
    ]
    if made and all(_is_superseded(copy, each) for each in made):
        facts.renew[site.name] = copy.manifest
        facts.there["processed"].pop(site.name, None)


def _is_superseded(copy: Copy, made: Copy) -> bool:
    """Whether a processed file was made anew since: with other corrections, where both tell of theirs."""
    of_copy, of_made = (corrections_of(each) for each in (copy, made))
    same = of_copy is not None and of_copy == of_made
    return evidence.contradicts(copy, made) and not same


def corrections_of(copy: Copy) -> dict[str, corrections.Version] | None:
    """Return the versions of the corrections with which a copy was made, by name; None if it does not say."""
    return corrections.read_versions(copy.note.get("correction_versions"))


def source_of(facts: Facts, kind: str, site: Site, settings: Settings) -> str | None:
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


def describe(facts: Facts, kind: str, site: str, settings: Settings) -> str:
    """A copy in words: ``pull 160315_1432 from lngs, 41.2 GB``."""
    size = f", {words.size(facts.size)}" if kind == "raw" and facts.size else ""
    what = facts.run if kind == "raw" else f"processed {facts.run}"
    if site in facts.there[kind] or (kind == "raw" and site in facts.registrable):
        return f"take note of {what} at {site}{size}"
    origin, here = facts.source[kind].get(site), settings.here.name
    if site in facts.unproven[kind]:
        # Its receipt is lost, or the one that speaks of it has yet to be written.
        return f"compare {what} at {site} with {origin}, and bring what is missing{size}"
    if site == here:
        return f"pull {what} from {origin}{size}"
    if origin == here:
        return f"push {what} to {site}{size}"
    return f"relay {what} from {origin} to {site}{size}"


def copy_at(document: Mapping, kind: str, site: Site, settings: Settings) -> Copy | None:
    """The copy of that kind at the site; of processed files, of the version the site keeps."""
    if kind == "raw":
        return documents.find(document, kind, site.host)
    if not site.processed:
        return None
    return documents.find(document, kind, site.host, settings.processor(site).pax_version)


def was_refused(copy: Copy) -> bool:
    """Whether a copy at its origin was found incomplete, which the event builder may have mended since."""
    return copy.status == documents.ERROR and not copy.manifest and "suspect" not in copy.note


def was_damaged(copy: Copy) -> bool:
    """Whether a copy was found bad and left in its place; its manifest says whether it is whole again."""
    aside = documents.value(copy.note, "suspect", "quarantine", type_=str)
    return copy.status == documents.ERROR and bool(copy.manifest) and "suspect" in copy.note and not aside


def _stated(run: Run, copy: Copy, site: Site) -> dict:
    """What the document says of a copy, once its location is known to be one of the site's."""
    _check_location(run, copy, site)
    return {
        "location": copy.location.rstrip("/"),
        "manifest": copy.manifest,
        "checksum": copy.checksum,
        "version": copy.version,
        "correction_versions": corrections_of(copy),
    }


def _check_location(run: Run, copy: Copy, site: Site) -> None:
    root = site.roots.get(copy.kind)
    if root is None or not documents.inside(copy.location, root):
        raise CaxflowError(
            f"{run}: its {copy.kind} copy at {site.name} is said to be in {copy.location!r}, outside {root}",
            f"mend the document's location, or roots.{copy.kind} of site {site.name}",
        )
    if why := documents.misplaced(copy.kind, run, copy.location.rstrip("/"), root):
        raise CaxflowError(
            f"{run}: its {copy.kind} copy at {site.name} is said to be in {printable(copy.location)}, {why}",
            "correct the document's location",
        )
