"""Which copies count: the master that others are compared with, and the witnesses that let one go.

Pure functions of a run document; whoever acts on them reads it from the primary right before.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from caxflow import clock, documents, words
from caxflow.config import Settings, Site
from caxflow.config.retention import Demand
from caxflow.documents import Copy
from caxflow.legible import printable
from caxflow.rundb import Key
from caxflow.targets import Run
from caxflow.workdir import witnessed


@dataclass(frozen=True)
class Witness:
    """Another copy of what is to be removed.

    Parameters
    ----------
    site : str
    copy : Copy
    verified : datetime or None
        When its bytes were last read, naive UTC.
    against : str
        Why it does not count; empty if it does.
    renewable : bool
        Whether reading it again could make it count.
    from_here : bool
        Whether `verified` is when it was read from here, not when its entry says that it was read.
    """

    site: str
    copy: Copy
    verified: datetime.datetime | None
    against: str = ""
    renewable: bool = False
    from_here: bool = False

    @property
    def counts(self) -> bool:
        """Whether it counts as it stands."""
        return not self.against

    def __str__(self) -> str:
        if self.counts:
            how = "from here" if self.from_here else "again"
            return f"{self.site} (read {how} {self.verified:%Y-%m-%d %H:%M} UTC)"
        return f"not {self.site}: {self.against}"

    def to_json(self) -> dict:
        """Plain values, for receipts and the audit."""
        return {
            "site": self.site,
            "host": self.copy.host,
            "location": self.copy.location,
            "manifest": self.copy.manifest,
            "verified": self.verified.isoformat() if self.verified else None,
        } | ({"read": "from here"} if self.from_here else {})


def key_of(kind: str, site: Site, settings: Settings) -> Key | None:
    """The entry of a site's copy; of what has versions, that of the one it keeps; None if it keeps none."""
    if kind not in documents.VERSIONED:
        return Key(kind, site.host)
    return Key(kind, site.host, settings.processor(site).pax_version) if site.processed else None


def good(copy: Copy | None) -> bool:
    """Whether others may take a copy from there: transferred, and nothing is known against it."""
    return (
        copy is not None
        and copy.status == documents.TRANSFERRED
        and not {"suspect", "removing"} & set(copy.note)
    )


def master(document: Mapping, kind: str, settings: Settings, version: str | None = None) -> Copy | None:
    """The copy that all others are compared with: of the good ones with a manifest, the first master's."""
    for name in settings.masters:
        copy = documents.find(document, kind, settings.sites[name].host, version)
        if good(copy) and copy.manifest:
            return copy
    return None


def contradicts(copy: Copy, right: Copy | None) -> bool:
    """Whether a copy's manifest is not that of the master; those of different digests tell nothing."""
    if right is None or not copy.manifest or not right.manifest:
        return False
    same_digest = copy.manifest.partition(":")[0] == right.manifest.partition(":")[0]
    return same_digest and copy.manifest != right.manifest


def witnesses(
    document: Mapping, subject: Copy, settings: Settings, demand: Demand, now: datetime.datetime
) -> list[Witness]:
    """All other copies of `subject` at known sites, those that count first, then the most recently read.

    Only a copy that was byte-verified within the demanded time counts: neither the copy itself, nor an entry
    without a manifest, nor one of a host that no site file describes.
    """
    found = []
    for site in settings.sites.values():
        copy = documents.find(document, subject.kind, site.host, subject.version)
        if copy is None or site.host == subject.host:
            continue
        verified = documents.time_of(copy.note.get("verified"))
        against, renewable = _against(copy, subject, site, now, demand.within)
        if why := documents.misplaced(
            copy.kind, documents.run_of(document), copy.location.rstrip("/"), site.roots.get(copy.kind, "")
        ):
            against, renewable = f"it is said to be in {printable(copy.location)}, {why}", False
        found.append(Witness(site.name, copy, verified, against, renewable))
    return sorted(found, key=lambda each: (not each.counts, -_seconds(each.verified)))


def read_from_here(
    found: Iterable[Witness], run: Run, demand: Demand, now: datetime.datetime, work_dir: Path
) -> list[Witness]:
    """Witnesses by what was read from here, where that is demanded, in addition to what their entries say."""
    return [_by_own_reading(each, run, demand, now, work_dir) if demand.read else each for each in found]


def _by_own_reading(
    witness: Witness, run: Run, demand: Demand, now: datetime.datetime, work_dir: Path
) -> Witness:
    if witness.against and not witness.renewable:
        return witness
    read = witnessed.read_at(work_dir, witness.site, run, witness.copy)
    against = witness.against
    if read is None:
        against = "it was not read from here"
    elif _is_old(read, now, demand.within):
        against = f"it was last read from here {read:%Y-%m-%d %H:%M} UTC"
    return dataclasses.replace(
        witness, verified=read, against=against, renewable=bool(against), from_here=True
    )


def successors(
    document: Mapping,
    subject: Copy,
    site: Site,
    settings: Settings,
    demand: Demand,
    *,
    now: datetime.datetime,
) -> list[Witness]:
    """The processed file of the version a site keeps, as the witness that lets one of another version go."""
    key = key_of("processed", site, settings)
    if key is None or subject.version == key.version:
        return []
    return _stand_ins(document, [key], site, demand, now)[:1]


def makers(
    document: Mapping,
    subject: Copy,
    site: Site,
    settings: Settings,
    demand: Demand,
    *,
    now: datetime.datetime,
) -> list[Witness]:
    """The processed file that lets minitrees go, since they can be made of it again.

    It is that of their version, or of the version that the site keeps, whichever is the better witness.
    """
    kept = key_of("processed", site, settings)
    keys = [Key("processed", site.host, subject.version), *([kept] if kept else [])]
    return _stand_ins(document, list(dict.fromkeys(keys)), site, demand, now)[:1]


def _stand_ins(
    document: Mapping, keys: Iterable[Key], site: Site, demand: Demand, now: datetime.datetime
) -> list[Witness]:
    """Copies at the site itself that need to be good by their own manifests, the best first."""
    found = []
    for key in keys:
        copy = documents.find(document, key.kind, key.host, key.version)
        if copy is not None:
            against, renewable = _against(copy, copy, site, now, demand.within)
            if not copy.manifest:
                against, renewable = "it has no manifest", False
            verified = documents.time_of(copy.note.get("verified"))
            found.append(Witness(site.name, copy, verified, against, renewable))
    return sorted(found, key=lambda each: (not each.counts, not each.renewable))


def enough(found: Iterable[Witness], demand: Demand) -> bool:
    """Whether so many witnesses count."""
    return sum(each.counts for each in found) >= max(demand.copies, 1)


def wanting(found: Iterable[Witness], demand: Demand, nobody: str = "no other site has one") -> str:
    """Why the witnesses are not enough, in words; `nobody` are those of whom there is none."""
    found = list(found)
    count = sum(each.counts for each in found)
    seen = "; ".join(map(str, found)) or nobody
    need = words.count(max(demand.copies, 1), "other copy")
    days = demand.within / datetime.timedelta(days=1)
    how = "from here" if demand.read else "again"
    return f"{need} read {how} within {days:g} days wanted, {count} found ({seen})"


def _against(
    copy: Copy, subject: Copy, site: Site, now: datetime.datetime, within: datetime.timedelta
) -> tuple[str, bool]:
    """Why a copy does not count, and whether reading it again could mend that."""
    root, verified = site.roots.get(copy.kind), documents.time_of(copy.note.get("verified"))
    final = {
        "it is suspect": "suspect" in copy.note,
        "it is being removed": "removing" in copy.note,
        f"its status is {copy.status}": copy.status != documents.TRANSFERRED,
        f"it is said to be in {copy.location!r}, outside {root}": not (
            root and documents.inside(copy.location, root)
        ),
        "its manifest is another one": contradicts(copy, subject),
    }
    for why, holds in final.items():
        if holds:
            return why, False
    if copy.manifest != subject.manifest:
        return "its bytes were never compared with this manifest", True
    if verified is None:
        return "it was never read again from disk", True
    if _is_old(verified, now, within):
        return f"it was last read {verified:%Y-%m-%d %H:%M} UTC", True
    return "", False


def _is_old(read: datetime.datetime, now: datetime.datetime, within: datetime.timedelta) -> bool:
    """Return whether a reading is too long ago, or said to be still to come."""
    return clock.past(read, now) is None or now - read > within


def _seconds(time: datetime.datetime | None) -> float:
    return (time - datetime.datetime(1970, 1, 1)).total_seconds() if time else 0.0
