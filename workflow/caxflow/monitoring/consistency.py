"""Whether run documents make sense, and whether they say what the receipts of a site prove."""

import datetime
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caxflow import documents, receipts, targets, values
from caxflow.conditions import parameters
from caxflow.config import Settings, Site
from caxflow.copies import evidence
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.legible import printable
from caxflow.planning import copystate, sync
from caxflow.rundb import Key
from caxflow.targets import Run, Target

# Stages of receipts about copies, and the stage whose receipt says that the bytes were read again.
PROOFS = {"raw.done": "checksum", "processed.done": "processed.checksum"}

_MOST_REFUSED = 10  # parameters of one document that are named

# Values that are read, how, and what they have to be.
_RUN = {
    "number": (values.whole, "a whole number"),
    "start": (values.time, "a time"),
    "end": (values.time, "a time"),
    "trigger.events_built": (values.whole, "a whole number"),
    "raw_size_byte": (values.whole, "a whole number"),
    "reader.self_trigger": (values.truth, "true or false"),
    "reader.ini.write_mode": (values.whole, "a whole number"),
    "reader.ini.trigger_config_override.Zip.events_per_file": (values.whole, "a whole number"),
}
_ENTRY = {
    "creation_time": (values.time, "a time"),
    "size": (values.whole, "a whole number"),
    "caxflow.attempts": (values.whole, "a whole number"),
    **{
        f"caxflow.{key}": (values.time, "a time")
        for key in ("verified", "since", "lease", "next", "restored")
    },
}


@dataclass(frozen=True)
class Stated:
    """What receipts here state about one copy.

    Parameters
    ----------
    done : Target
        Of the receipt that has the copy's manifest.
    receipt : mapping
    proof : Target or None
        Of the file that says when its bytes were last read.
    """

    done: Target
    receipt: Mapping[str, Any]
    proof: Target | None

    @property
    def targets(self) -> list[Target]:
        """What the database is told by."""
        return [self.done, *([self.proof] if self.proof else [])]

    @property
    def key(self) -> Key:
        """Which entry of the document it is about."""
        entry = self.receipt["entry"]
        return Key(entry["kind"], entry["host"], entry.get("version"))


def surprises(document: Mapping, settings: Settings, now: datetime.datetime) -> Iterator[str]:
    """What is odd about a document, whoever wrote it; each in one line that names the run.

    Parameters
    ----------
    now : datetime
        The server's time, naive UTC.
    """
    try:
        run = documents.run_of(document)
    except CaxflowError as error:
        yield str(error)
        return
    entries = document.get("data", [])
    if not isinstance(entries, list):
        yield f"{run}: data is no list of entries -> mend the document"
        return
    if not isinstance(document.get("caxflow", {}), Mapping):
        yield f"{run}: its key caxflow is no mapping, so nothing is planned -> remove that key"
    good = list(documents.copies(document))
    if len(good) < len(entries):
        odd = f"{len(entries) - len(good)} of {len(entries)} entries"
        yield f"{run}: {odd} lack type, host, status or location -> mend or remove them"
    for (kind, host, version), number in Counter(map(_identity, good)).items():
        if number > 1:
            of = f" {version}" if version else ""
            yield f"{run}: {number} entries for its {kind}{of} copy at {host} -> remove the wrong one"
    yield from unreadable(document, settings)
    for copy in good:
        yield from _odd_copy(run, copy, settings, now)
        yield from _odd_checksum(run, document, copy, settings)


def unreadable(document: Mapping, settings: Settings) -> Iterator[str]:
    """Yield which values of a document cannot be read, and so count as missing, or may not be there."""
    run = documents.run_of(document)
    for text in itertools.islice(parameters.refused(document, settings.run_parameters), _MOST_REFUSED):
        yield f"{run}: {text} -> correct it in the run document"
    yield from (f"{run}: {text}" for text in _unreadable(document, _RUN))
    for entry in documents.value(document, "data", type_=list) or ():
        kind, host = (documents.value(entry, key) for key in ("type", "host"))
        for text in _unreadable(entry, _ENTRY):
            yield f"{run}: in the entry of its {kind} copy at {host}, {text}"


def _unreadable(document: Mapping, known: Mapping[str, tuple]) -> Iterator[str]:
    for key, (read, wanted) in known.items():
        found = documents.value(document, *key.split("."))
        if found is not None and read(found) is None:
            yield f"{key} is {values.said(found)}, not {wanted} -> correct it in the run document"


def contradictions(document: Mapping, stated: Stated) -> list[str]:
    """Where an entry does not say what a receipt proves; empty where it does, or the copy has gone since."""
    run, key, receipt = stated.done.run, stated.key, stated.receipt
    gone = documents.gone(document, key.kind, key.host, key.version)
    try:
        with receipts.intact(str(stated.done)):
            if gone and sync.is_void(receipt, gone):
                return []
    except CaxflowError as error:
        return [str(error)]
    where = f"{run}: its {key.kind} copy at {key.host}"
    try:
        copy = documents.find(document, key.kind, key.host, key.version)
    except CaxflowError as error:
        return [str(error)]
    if copy is None:
        return [f"{where} has a receipt, and no entry"]
    found = []
    digest = receipt["manifest"]["digest"]
    if copy.manifest != digest:
        found.append(f"{where}: the receipt has manifest {digest}, the entry {copy.manifest}")
    if copy.location.rstrip("/") != str(receipt["entry"]["location"]).rstrip("/"):
        found.append(f"{where}: the receipt has {receipt['entry']['location']}, the entry {copy.location}")
    if copy.size is None:
        found.append(f"{where}: the entry has no size")
    if stated.proof and copy.status != documents.TRANSFERRED:
        found.append(f"{where} was read again and is good, the entry says {copy.status}")
    elif stated.proof and not {"verified", "restored"} & set(copy.note):
        found.append(f"{where} was read again, the entry does not say when")
    return found


def stated(work_dir: Path, sites: Iterable[str]) -> Iterator[tuple[Run, list[Target]]]:
    """Runs that receipts about copies speak of, with these receipts; by name, the newest first."""
    found: dict[Run, list[Target]] = {}
    for site in sites:
        folder = work_dir / site
        for path in folder.iterdir() if folder.is_dir() else ():
            try:
                target = targets.parse(f"{site}/{path.name}")
            except CaxflowError:
                continue
            if target.stage in PROOFS:
                found.setdefault(target.run, []).append(target)
    for run in sorted(found, reverse=True):
        yield run, sorted(found[run])


def read(work_dir: Path, done: Target) -> Stated | None:
    """Read a receipt about a copy; None if it is about none of the database's entries.

    Raises
    ------
    CaxflowError
        If it is damaged.
    """
    receipt = receipts.read(work_dir / str(done))
    if not receipt.get("entry"):
        return None
    entry = receipt["entry"]
    whole = documents.value(receipt, "manifest", "digest", type_=str) and isinstance(entry, Mapping)
    try:
        if not whole or not {"kind", "host", "location"} <= entry.keys():
            raise CaxflowError("something is missing")
        Manifest.from_json(receipt["manifest"])
    except CaxflowError as error:
        raise CaxflowError(
            f"receipt {work_dir / str(done)} is damaged: {error.what}", receipts.REMOVE
        ) from error
    proof = Target(done.site, done.run, PROOFS[done.stage])
    return Stated(done, receipt, proof if (work_dir / str(proof)).exists() else None)


def document_from(run: Run, work_dir: Path, sites: Iterable[str], now: datetime.datetime) -> dict:
    """A run document out of what is kept here, for a run that the database has lost.

    It has no ``end``: nobody here knows when the run ended, and until that is set nothing new is done for it.
    """
    frozen = next(_kept(work_dir, run, sites, "settings.json"), {})
    raw = next(_kept(work_dir, run, sites, "raw.done"), {})
    number = frozen.get("number", _number(raw))
    start = frozen.get("start")
    document: dict[str, Any] = {
        "name": run.name,
        "detector": run.detector,
        # The name is the time of the start.
        "start": datetime.datetime.fromisoformat(start)
        if start
        else datetime.datetime.strptime(run.name, "%y%m%d_%H%M"),
        "data": [],
        "caxflow": {"rebuilt": now},
    }
    if number is not None:
        document["number"] = number
    if frozen:
        document["trigger"] = {"events_built": frozen["events_built"]}
        # As it was, since the run was to be processed; cax reads these without asking.
        zips = {"events_per_file": frozen["events_per_file"]}
        document["reader"] = {"ini": {"write_mode": 2, "trigger_config_override": {"Zip": zips}}}
        document["reader"]["self_trigger"] = frozen["kind"] != "led"
        versions = {"correction_versions": frozen["correction_versions"]}
        document["processor"] = frozen["processor"] | versions
    return document


def _kept(work_dir: Path, run: Run, sites: Iterable[str], stage: str) -> Iterator[dict]:
    for site in sites:
        path = work_dir / targets.path(site, run, stage)
        if path.exists():
            yield receipts.read(path)


def _number(raw: Mapping) -> int | None:
    """The run's number as the names of its zip files have it."""
    files = documents.value(raw, "manifest", "files", type_=list) or []
    for name, *_ in files:
        match = re.match(r"XENON1T-(\d+)-", str(name))
        if match:
            return int(match[1])
    return None


def _identity(copy: Copy) -> tuple[str, str, str | None]:
    return copy.kind, copy.host, copy.version if copy.kind == "processed" else None


def _odd_checksum(run: Run, document: Mapping, copy: Copy, settings: Settings) -> Iterator[str]:
    """What makes cax, where it still runs, stop or remove a copy: it compares checksums as they stand."""
    site = settings.site_at(copy.host)
    where = f"{run}: its {copy.kind} copy at {copy.host}"
    if documents.is_old_checksum(copy.checksum, copy.manifest):
        yield f"{where} has the checksum of an earlier caxflow, {copy.checksum} -> caxflow rundb init"
    elif site and copy.manifest and documents.lacks_checksum(document, copy):
        yield f"{where} has no sha512 for cax to compare with -> snakemake scrub, at {site.name}, takes it"


def _fix_of_left(copy: Copy, site: Site, settings: Settings) -> str:
    """Return who takes over what another program left, if anything does: not versions that are not kept."""
    key = evidence.key_of(copy.kind, site, settings)
    if key is None or key.version not in (None, copy.version):
        return "no `all` makes that version there: remove the entry, and what lies there"
    makes = copy.kind == "processed" and site.processed.make
    by = [other.name for other in settings.sites.values() if site.name in other.push_to]
    if site.origin or site.pull_from or makes or not by:
        by.insert(0, site.name)
    return f"`all` at {' or '.join(by)} takes it over"


def _odd_copy(run: Run, copy: Copy, settings: Settings, now: datetime.datetime) -> Iterator[str]:
    where = f"{run}: its {copy.kind} copy at {copy.host}"
    site = settings.site_at(copy.host)
    if site is None or copy.kind not in ("raw", "processed", "minitrees"):
        return
    if copy.status not in documents.STATUSES:
        known = ", ".join(documents.STATUSES)
        yield f"{where} has the unknown status {copy.status!r} -> use one of {known}"
    root = site.roots.get(copy.kind)
    if root is None or not documents.inside(copy.location, root):
        yield f"{where} is said to be in {copy.location!r}, outside {root} -> mend it, or roots.{copy.kind}"
    elif why := documents.misplaced(copy.kind, run, copy.location.rstrip("/"), root):
        yield f"{where} is said to be in {printable(copy.location)}, {why} -> correct the document's location"
    if copy.kind == "processed" and copy.version is None:
        yield f"{where} has no pax_version -> set it"
    lease = documents.time_of(copy.note.get("lease"))
    if copy.status == documents.TRANSFERRING and lease and lease < now:
        owner = copy.note.get("owner", "another program")
        yield f"{where}: the claim of {owner} ended at {lease:%Y-%m-%d %H:%M} UTC -> it may be taken over"
    if documents.stalled(copy, now):
        yield f"{where} is {copystate.left(copy)} -> {_fix_of_left(copy, site, settings)}"
    if "suspect" in copy.note:
        yield f"{where} is {copystate.remark(copy)} -> caxflow why {run}"
