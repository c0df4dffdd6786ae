"""What the page of one run shows: plain JSON of its copies, its receipts, its history and why."""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from caxflow import documents, receipts, targets, values, words
from caxflow.config import Settings
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.page.rows import letter_of
from caxflow.planning import copystate
from caxflow.planning.standing import Standing
from caxflow.planning.troubles import Trouble, next_attempt
from caxflow.targets import Run, Target
from caxflow.workdir import proofs

MOST_FILES = 400  # of a manifest
LONGEST = 2000  # characters of a comment


def details(document: Mapping, copies: list[Copy], settings: Settings, stands: Standing) -> dict[str, Any]:
    """Everything the database knows of a run that an operator asks for."""
    run = documents.run_of(document)
    sites = {site.host: site.name for site in settings.sites.values()}
    shown = [_copy(copy, stands.state_of(copy), sites) for copy in copies]
    return {
        "run": str(run),
        "detector": run.detector,
        "start": _iso(document.get("start")),
        "end": _iso(document.get("end")),
        "user": _text(document.get("user")),
        "reader": documents.value(document, "reader", "ini", "name", type_=str),
        "comments": list(_comments(document)),
        "tags": documents.tags(document),
        "copies": shown,
        "corrections": _corrections(document),
        "history": sorted(_history(document, copies, sites)),
        "said": stands.in_words(settings.here.name),
        "todo": stands.todo,
        "why": [*stands.waits, *stands.claims],
        "troubles": list(map(_trouble, stands.troubles)),
        "elsewhere": list(map(_trouble, stands.elsewhere)),
    }


def _trouble(found: Trouble) -> dict[str, Any]:
    """What failed, as `caxflow why` tells it; without `next` it waits for a human, or for a change."""
    told = asdict(found) | {"at": _iso(found.at), "next": _iso(found.next)}
    return {key: value for key, value in told.items() if value}


def from_work_dir(work_dir: Path, run: Run, sites: list[str]) -> dict[str, Any]:
    """What the receipts in the work directory prove, and the frozen settings for processing."""
    stated, manifest = [], None
    for site in sites:
        for stage in ("raw.done", "processed.done", "minitrees.done", "raw.purged"):
            receipt = _read(work_dir / targets.path(site, run, stage))
            if receipt is None:
                continue
            stated.append(_receipt(receipt, site, stage))
            if stage == "raw.done" and manifest is None:
                manifest = _manifest(receipt)
        for stage in ("checksum", "processed.checksum"):
            path = work_dir / targets.path(site, run, stage)
            if path.exists():
                at = proofs.read_at(work_dir, Target(site, run, stage)).replace(tzinfo=datetime.UTC)
                proof = "read again from disk, equal to the origin's manifest"
                stated.append(
                    {"stage": stage, "site": site, "at": at.isoformat(timespec="seconds"), "proof": proof}
                )
    frozen = next(
        (found for site in sites if (found := _read(work_dir / targets.path(site, run, "settings.json")))),
        None,
    )
    return {"receipts": stated, "manifest": manifest, "settings": frozen and _settings(frozen)}


def rates_in(work_dir: Path, run: Run, sites: Iterable[str]) -> Iterator[tuple[str, float]]:
    """The link and the rate (B/s) of each raw copy that was made from here."""
    for site in sites:
        receipt = _read(work_dir / targets.path(site, run, "raw.done")) or {}
        rate = values.number(receipt.get("rate"))
        if receipt.get("source") and rate and rate > 0:
            yield f"{receipt['source']} → {site}", rate


def _read(path: Path) -> dict | None:
    try:
        found = receipts.read(path) if path.exists() else None
    except CaxflowError:
        return None
    return found if isinstance(found, dict) else None


def _receipt(receipt: Mapping, site: str, stage: str) -> dict:
    keys = ("at", "source", "bytes", "rate", "seconds", "proof", "caxflow", "location")
    return {"stage": stage, "site": site} | {key: receipt[key] for key in keys if key in receipt}


def _manifest(receipt: Mapping) -> dict | None:
    manifest = receipt.get("manifest")
    if not isinstance(manifest, Mapping):
        return None
    files = manifest.get("files")
    files = files if isinstance(files, list) else []
    return {"digest": manifest.get("digest"), "count": len(files), "files": files[:MOST_FILES]}


def _settings(frozen: Mapping) -> dict:
    keys = ("made_for", "configuration", "events_built", "events_per_file", "correction_versions", "frozen")
    shown = {key: frozen.get(key) for key in keys}
    parameters = documents.value(frozen, "processor", "DEFAULT", type_=Mapping) or {}
    return shown | {key: value for key, value in parameters.items() if not isinstance(value, list)}


def _copy(copy: Copy, word: str, sites: Mapping[str, str]) -> dict:
    """One line of the table of copies; empty values are left out."""
    note = copy.note
    line = {
        "kind": copy.kind,
        "host": copy.host,
        "site": sites.get(copy.host),
        "version": copy.version,
        "word": word,
        "state": letter_of(word),
        "location": copy.location,
        "manifest": copy.manifest,
        "checksum": copy.checksum,
        "created": _iso(copy.created),
        "verified": _iso(copy.verified),
        "owner": _text(note.get("owner")),
        "caxflow": _text(note.get("version")),
        "lease": _iso(copystate.held_until(copy)),
        "error": _text(note.get("error")),
        "attempts": documents.value(note, "attempts", type_=int),
        "next": _iso(next_attempt(copy)),
    }
    return {key: value for key, value in line.items() if value is not None}


def _corrections(document: Mapping) -> dict[str, str]:
    found = documents.value(document, "processor", "correction_versions", type_=Mapping) or {}
    return {str(name): str(version) for name, version in found.items()}


def _comments(document: Mapping) -> Iterator[dict]:
    found = document.get("comments")
    for comment in found if isinstance(found, list) else ():
        if isinstance(comment, Mapping):
            text = _text(comment.get("text")) or _text(comment.get("comment"))
            if text:
                who, at = _text(comment.get("user")), _iso(comment.get("date"))
                yield {"text": text[:LONGEST], "user": who, "at": at}


def _history(document: Mapping, copies: list[Copy], sites: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, what in (("start", "data taking began"), ("end", "data taking ended")):
        if at := _iso(document.get(key)):
            yield at, what
    for copy in copies:
        name = f"{copy.kind} {copy.version}" if copy.version else copy.kind
        where = f"{name} at {sites.get(copy.host, copy.host)}"
        if at := _iso(copy.created):
            there = copy.status in (documents.TRANSFERRED, documents.VERIFYING)
            yield at, f"{where}: {'made' if there else 'begun'}"
        if at := _iso(copy.verified):
            yield at, f"{where}: read again from disk, its bytes are the origin's"
        if at := _iso(next_attempt(copy)):
            tried = documents.value(copy.note, "attempts", type_=int)
            after = f", after {words.count(tried, 'attempt')}" if tried else ""
            yield at, f"{where}: to be tried again{after}"


def _iso(found: object) -> str | None:
    at = documents.time_of(found)
    return at.isoformat(timespec="seconds") if at else None


def _text(found: object) -> str | None:
    return found if isinstance(found, str) and found else None
