"""Tells the runs database what the receipts state and what failed; telling it twice changes nothing."""

import datetime
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caxflow import clock, documents, errors, receipts, targets, transfer, words
from caxflow.config import Settings
from caxflow.copies import proof
from caxflow.copies.subject import Subject
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.planning import pauses
from caxflow.rundb import DatabaseAway, Key, RunsDB, audit, entries, telling
from caxflow.targets import Run, Target
from caxflow.workdir import journal, proofs

_WRITING = 600  # seconds in which an announced receipt may still be written

# The receipts beside which proofs stand that a copy was read again.
_PROOFS = {"checksum": "raw.done", "processed.checksum": "processed.done"}

# What a receipt says beside the copy itself, and planning asks for.
_NOTED = {"correction_versions": dict, "treemakers": list}


@dataclass
class Synced:
    """What a sync did: number of facts told, those that still wait, and what could not be told."""

    told: int = 0
    waiting: int = 0
    problems: list[str] = field(default_factory=list)
    away: str = ""

    def __str__(self) -> str:
        if self.away:
            verb = "waits" if self.waiting == 1 else "wait"
            return f"{words.count(self.waiting, 'fact')} {verb} for the runs database: {self.away}"
        return f"{words.count(self.told, 'fact')} told to the runs database"


def sync(
    database: RunsDB, settings: Settings, work_dir: Path, only: Iterable[Target] | None = None
) -> Synced:
    """Tell everything that is pending, or `only` some of it; what is wrong with one spoils no other."""
    done = Synced()
    if database.dry:
        return done
    try:
        todo = list(journal.pending(work_dir) if only is None else only)
    except CaxflowError as error:
        return Synced(problems=[str(error)])
    for index, target in enumerate(todo):
        try:
            with errors.about(str(target), receipts.REMOVE):
                if _is_underway(work_dir, target):
                    continue
                done.told += _tell(database, settings, work_dir, target)
                journal.settle(work_dir, target)
        except DatabaseAway as error:
            done.waiting, done.away = len(todo) - index, str(error)
            break
        except CaxflowError as error:
            said = str(error)
            done.problems.append(said if str(target.run) in said else f"{target}: {said}")
    return done


def _is_underway(work_dir: Path, target: Target) -> bool:
    """Whether a job, perhaps of a workflow that was killed, is about to write the receipt it announced."""
    if target.stage.endswith(".purged"):
        return False  # nothing of it is to be told
    if (work_dir / str(target)).exists() or journal.failure(work_dir, target):
        return False
    since = journal.announced(work_dir, target)
    return since is not None and since < _WRITING


def damage(work_dir: Path) -> Iterator[tuple[Target, str]]:
    """Yield what is pending and cannot be told, for its receipt or record is damaged, and why."""
    for target in journal.pending(work_dir):
        try:
            with errors.about(str(target), receipts.REMOVE):
                if target.stage.endswith(".purged"):
                    continue
                if (work_dir / str(target)).exists():
                    _read(work_dir, target)
                else:
                    journal.failure(work_dir, target)
        except CaxflowError as error:
            yield target, str(error)


def _tell(database: RunsDB, settings: Settings, work_dir: Path, target: Target) -> bool:
    if (work_dir / str(target)).exists():
        if target.stage.endswith(".purged"):
            return False  # the removal itself has told it
        return _tell_receipt(database, settings, work_dir, target)
    failure = journal.failure(work_dir, target)
    if failure and failure.get("entry"):
        with receipts.intact(f"of a failure, {target},"):
            return _tell_failure(database, target.run, failure, settings.pause)
    return False


@dataclass(frozen=True)
class _Fact:
    """What a receipt states, as the database is told it."""

    path: Path
    receipt: Mapping
    key: Key
    born: dict
    changes: dict
    audited: dict
    manifest: Manifest
    proven: dict
    read_at: datetime.datetime | None
    since: datetime.datetime


def _read(work_dir: Path, target: Target) -> _Fact | None:
    """Return what a receipt states; None if that is nothing of the database's."""
    path, proven, read_at = work_dir / str(target), {}, None
    if target.stage in _PROOFS:
        # The manifest itself: what it is a manifest of stands in the receipt beside it.
        read_at = _to_milliseconds(proofs.read_at(work_dir, target))
        proven = {"status": documents.TRANSFERRED}
        proven |= {"caxflow.verified": read_at} if clock.past(read_at) else {}
        path = work_dir / str(target._replace(stage=_PROOFS[target.stage]))
    receipt = receipts.read(path)
    if not receipt.get("entry"):
        return None
    with receipts.intact(path):
        key, born, changes = _key(receipt["entry"]), _birth(receipt), _entry_changes(receipt)
        manifest, since = Manifest.from_json(receipt["manifest"]), read_at or _time(receipt["at"])
        audited = _audited(receipt)
        entries.check_kept(changes | born | audited)
        return _Fact(path, receipt, key, born, changes, audited, manifest, proven, read_at, since)


def _tell_receipt(database: RunsDB, settings: Settings, work_dir: Path, target: Target) -> bool:
    site, run, stage = target
    if stage in _PROOFS:
        done = target._replace(stage=_PROOFS[stage])
        if journal.is_new(work_dir, done):
            _tell_receipt(database, settings, work_dir, done)
    fact = _read(work_dir, target)
    if fact is None:
        return False
    path, receipt, key, born, changes = fact.path, fact.receipt, fact.key, fact.born, fact.changes
    proven, read_at, stated = fact.proven, fact.read_at, fact.manifest
    ident = f"{target}@{fact.since.isoformat()}"
    database.keep_manifest(receipt["manifest"])
    subject = Subject(settings, database, settings.site(site), run, key, work_dir, say=lambda line: None)
    look = functools.cache(lambda: _look(subject, changes["location"], stated))
    new = journal.is_new(work_dir, target)
    version, digest = key.version, changes["manifest"]
    void_since, stands = [], []

    def change(document: Mapping) -> tuple[dict, dict] | None:
        gone = documents.gone(document, key.kind, key.host, key.version)
        with receipts.intact(path):
            if gone and is_void(receipt, gone):
                void_since.append(gone)
                return None
        copy = documents.find(document, key.kind, key.host, key.version)
        known = changes["checksum"] or documents.cax_checksum(document, key.kind, version, digest)
        unsaid = _unsaid(copy, changes | proven | {"checksum": known}, born)
        stands[:] = [copy] if not unsaid and not {"suspect", "removing"} & set(copy.note) else []
        if unsaid and (copy is None or not new):
            look()
            if not new:
                unsaid = unsaid | {"caxflow.restored": _to_milliseconds(clock.now())}
                unsaid.pop("caxflow.verified", None)
        return telling(key, copy, unsaid) if unsaid else None

    told = database.revise(run, change)
    if void_since:
        # The copy that it speaks of was removed, or found bad, since then.
        journal.forget(work_dir, site, run, key.kind, key.version)
        return False
    # What a crash kept from the audit is recorded now; the same record twice is one.
    made = key.kind != "raw" and receipt["entry"].get("status")
    if told or (stands and (proven or made or "source" in receipt)):
        done = "copied" if "source" in receipt else "made" if made else "registered"
        action = "verified" if proven else done
        grounds = "its bytes were read again from disk" if proven else str(receipt.get("proof"))
        when = read_at if proven else born["creation_time"]
        # The server's time, where the receipt has it: others order what all sites did by it.
        begun = fact.audited["since"]
        facts = fact.audited | {"site": site, "manifest": changes["manifest"]}
        facts["done"] = when if proven else begun or when
        del facts["since"]
        audit.record(database, action, run, key, grounds=grounds, ident=ident, **facts)
    if key.kind == "raw" and receipt["bytes"]:
        database.fill_in(run, "raw_size_byte", receipt["bytes"])
    return told


def _look(subject: Subject, location: str, stated: Manifest) -> None:
    """Look whether a copy is there, of which the database says less than a receipt does.

    Raises
    ------
    CaxflowError
        If it is not what the receipt states: then the database is not told. Receipts about nothing go.
    """
    lost = f"{subject} has a receipt, the runs database knows less of it"
    if not documents.inside(location, subject.root) or documents.misplaced(
        subject.key.kind, subject.run, location, subject.root
    ):
        raise CaxflowError(f"{lost}, and {location} is no place of it", receipts.REMOVE)
    if not (wrong := proof.same_files(subject.place, location, stated)):
        return
    if transfer.exists(subject.place, location):
        raise CaxflowError(
            f"{lost}, and {wrong}", "look at what is there; without its receipts it is made anew"
        )
    subject.check_mounted(location)
    journal.forget(subject.work_dir, subject.site.name, subject.run, subject.key.kind, subject.key.version)
    raise CaxflowError(f"{lost}, and {wrong}: the receipt is removed", "a later call makes it anew")


def is_void(receipt: Mapping, gone: Mapping[str, Any]) -> bool:
    """Whether a receipt speaks of a copy that had gone since.

    One that was written after that very removal names it. Of others the server's times tell, which do not
    depend on a site's clock.

    Parameters
    ----------
    gone : mapping
        The copy's removal, or that it was found bad, as `documents.gone` has it.
    """
    entry, at = receipt["entry"], documents.time_of(gone.get("at"))
    if gone.get("token") and entry.get("after") == gone["token"]:
        return False
    since = clock.past(_time(entry.get("since") or receipt["at"]))
    return at is not None and (since is None or since <= at)


def void(work_dir: Path, site: str, run: Run, kind: str, gone: Mapping[str, Any]) -> None:
    """Take the receipts about a copy away if it had gone since they were written."""
    path = work_dir / targets.path(site, run, "raw.done" if kind == "raw" else "processed.done")
    if os.path.lexists(path):
        receipt = receipts.read(path)
        with receipts.intact(path):
            if is_void(receipt, gone):
                journal.forget(work_dir, site, run, kind, receipt["entry"].get("version"))


def void_moved(work_dir: Path, site: str, run: Run, kind: str, there: Mapping) -> None:
    """Take the receipts about a copy away if they point to another path than where it is by now.

    Parameters
    ----------
    there : mapping
        The copy's ``location`` and ``version``, as the database has them.
    """
    path = work_dir / targets.path(site, run, "raw.done" if kind == "raw" else "processed.done")
    if not os.path.lexists(path):
        return
    receipt = receipts.read(path)
    with receipts.intact(path):
        entry = receipt["entry"]
        same = entry.get("version") == (there["version"] if kind == "processed" else None)
        if same and str(entry.get("location")).rstrip("/") != there["location"]:
            journal.forget(work_dir, site, run, kind, entry.get("version"))


def _audited(receipt: Mapping) -> dict:
    """What the audit keeps of a receipt.

    A copy that was found there, by an attempt after a crash or by another work directory, sent nothing.
    """
    since, source, sent = receipt["entry"].get("since"), receipt.get("source"), receipt.get("sent")
    return {
        "since": None if since is None else _time(since),
        "source": None if source is None else _text(source),
        "sent": None if sent is None else _count(sent),
    }


def _birth(receipt: Mapping) -> dict:
    """Keys of an entry that this receipt makes."""
    return {
        "status": receipt["entry"].get("status") or documents.TRANSFERRED,
        "creation_time": clock.past(_time(receipt["at"])) or _to_milliseconds(clock.now()),
        "creation_place": _text(receipt["by"]["host"]),
    }


def _entry_changes(receipt: Mapping) -> dict:
    """Keys of the entry in ``data`` that a receipt proves."""
    entry = receipt["entry"]
    changes = {
        "location": _text(entry["location"]),
        "manifest": _text(receipt["manifest"]["digest"]),
        **{f"caxflow.{name}": _of(type_, receipt[name]) for name, type_ in _NOTED.items() if name in receipt},
        "checksum": receipt["checksum"] if documents.is_cax_checksum(receipt.get("checksum")) else None,
        "size": _count(receipt["bytes"]),
        "caxflow.version": receipt.get("caxflow"),  # of the program that proved it
        # A success ends the claim and the memory of failures.
        "caxflow.lease": None,
        "caxflow.token": None,
        "caxflow.error": None,
        "caxflow.attempts": None,
        "caxflow.next": None,
        "caxflow.abandoned": None,
    }
    # A receipt without a status takes note of a copy that the entry speaks of already.
    return changes | (_birth(receipt) | {"caxflow.suspect": None} if entry.get("status") else {})


def _unsaid(copy: Copy | None, changes: dict, born: Mapping) -> dict | None:
    """What an entry does not say yet, if anything; never a step back from what is proven already."""
    if copy is None:
        changes = born | changes
    elif {"removing", "moving"} & set(copy.note):
        return None  # what is on its way has its own words
    else:
        same = copy.manifest == changes["manifest"]
        restored = documents.time_of(copy.note.get("restored"))
        if restored and (read := changes.get("caxflow.verified")) and read <= restored:
            # What was read before the entry was lost bears no witness.
            del changes["caxflow.verified"]
        stays = same or "status" not in changes
        if stays and documents.is_cax_checksum(copy.checksum) and not changes["checksum"]:
            changes.pop("checksum")  # it is of this copy
        if same and copy.status == documents.TRANSFERRED:
            for name in ("status", "creation_time", "creation_place"):
                changes.pop(name, None)
        verified = changes.get("caxflow.verified")
        before = copy.verified
        if same and verified and before and verified < before:
            # It was read again since, by a scrub.
            verified = changes["caxflow.verified"] = before
        if same and changes.get("status") is None and verified == copy.note.get("verified"):
            return None
        if same and changes.get("status", copy.status) == copy.status and verified is None:
            return None
    return changes


def _tell_failure(database: RunsDB, run: Run, failure: Mapping, pause: float) -> bool:
    entry, attempts = failure["entry"], None if failure.get("refused") else failure["attempts"]
    key = _key(entry)
    at = clock.past(_time(failure["at"])) or clock.now()
    changes = {
        "status": documents.ERROR,
        "location": _text(entry["location"]),
        "caxflow.error": failure["reason"],
        # What was refused is looked at again once it has changed, however often that happens.
        "caxflow.attempts": attempts,
        "caxflow.next": None if failure.get("refused") else at + pauses.wait(pause, attempts),
        "caxflow.lease": None,
        "caxflow.token": None,
    }
    entries.check_kept(changes)
    copy = documents.find(database.get(run), key.kind, key.host, key.version)
    same = copy and (copy.note.get("attempts"), copy.note.get("error")) == (attempts, failure["reason"])
    if same and "token" not in copy.note:
        return False
    if copy and copy.status == documents.TRANSFERRED and not failure.get("evidence"):
        # A failed attempt to make it anew counts, but says nothing against a copy that is good.
        del changes["status"], changes["location"]
    # Whoever took our claim over has the word.
    token = failure.get("token")
    return database.tell(run, key, changes, {"token": token} if token else None)


def _key(entry: Mapping) -> Key:
    version = entry.get("version")
    return Key(_text(entry["kind"]), _text(entry["host"]), version if version is None else _text(version))


def _of(type_: type, found: object) -> Any:
    if not isinstance(found, type_) or isinstance(found, bool):
        raise TypeError(f"{found!r:.60} is no {type_.__name__}")
    return found


def _text(found: object) -> str:
    return _of(str, found)


def _count(found: object) -> int:
    if _of(int, found) < 0:
        raise ValueError(f"{found} is less than nothing")
    return found


def _time(text: object) -> datetime.datetime:
    """The time that a receipt states, as MongoDB keeps it."""
    if (at := clock.read(text)) is None:
        raise ValueError(f"{text!r:.60} is no time")
    return _to_milliseconds(at)


def _to_milliseconds(time: datetime.datetime) -> datetime.datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
