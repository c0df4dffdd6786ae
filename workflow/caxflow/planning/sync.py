"""Tells the runs database what the receipts state and what failed; telling it twice changes nothing."""

import datetime
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caxflow import documents, receipts, targets, words
from caxflow.documents import Copy
from caxflow.errors import CaxflowError
from caxflow.rundb import DatabaseAway, Key, RunsDB, audit, telling
from caxflow.targets import Run, Target
from caxflow.workdir import journal, proofs

_WRITING = 600  # seconds in which an announced receipt may still be written

# What a receipt says beside the copy itself, and planning asks for.
_NOTED = ("correction_versions", "treemakers")


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
    database: RunsDB,
    work_dir: Path,
    only: Iterable[Target] | None = None,
    pause: float = 10,
) -> Synced:
    """Tell everything that is pending, or `only` some of it.

    Parameters
    ----------
    pause : float
        Minutes before a second attempt at what failed; doubled for each further one, up to a day.
    """
    done = Synced()
    todo = list(journal.pending(work_dir) if only is None else only)
    if database.dry:
        return done
    for index, target in enumerate(todo):
        try:
            if _is_underway(work_dir, target):
                continue
            told = _tell(database, work_dir, target, pause)
        except DatabaseAway as error:
            done.waiting, done.away = len(todo) - index, str(error)
            break
        except CaxflowError as error:
            done.problems.append(str(error))
            continue
        done.told += told
        journal.settle(work_dir, target)
    return done


def _is_underway(work_dir: Path, target: Target) -> bool:
    """Whether a job, perhaps of a workflow that was killed, is about to write the receipt it announced."""
    if (work_dir / str(target)).exists() or journal.failure(work_dir, target):
        return False
    return journal.announced(work_dir, target) > time.time() - _WRITING


def _tell(database: RunsDB, work_dir: Path, target: Target, pause: float) -> bool:
    if (work_dir / str(target)).exists():
        return _tell_receipt(database, work_dir, target)
    failure = journal.failure(work_dir, target)
    if failure and failure.get("entry"):
        return _tell_failure(database, target.run, failure, pause)
    return False


def _tell_receipt(database: RunsDB, work_dir: Path, target: Target) -> bool:
    site, run, stage = target
    path = work_dir / str(target)
    if stage.endswith(".purged"):
        return False  # the removal itself has told it
    if stage in ("checksum", "processed.checksum"):
        # The manifest itself: what it is a manifest of stands in the receipt beside it.
        read_at = proofs.read_at(work_dir, target).replace(tzinfo=datetime.UTC)
        proven = {"status": documents.TRANSFERRED, "caxflow.verified": _naive(read_at)}
        path = work_dir / targets.path(site, run, "raw.done" if stage == "checksum" else "processed.done")
    else:
        proven = {}
    receipt = receipts.read(path)
    if not receipt.get("entry"):
        return False
    try:
        key, born, changes = _key(receipt["entry"]), _birth(receipt), _entry_changes(receipt)
    except (KeyError, TypeError, ValueError) as error:
        raise CaxflowError(
            f"receipt {path} is damaged: {type(error).__name__} {error}",
            receipts.REMOVE,
        ) from error
    database.keep_manifest(receipt["manifest"])
    void_since, stands = [], []

    def change(document: Mapping) -> tuple[dict, dict] | None:
        gone = documents.gone(document, key.kind, key.host, key.version)
        if gone and is_void(receipt, documents.time_of(gone.get("at"))):
            void_since.append(gone)
            return None
        copy = documents.find(document, key.kind, key.host, key.version)
        unsaid = _unsaid(copy, changes | proven, born)
        stands[:] = [copy] if not unsaid and not {"suspect", "removing"} & set(copy.note) else []
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
        when = _naive(read_at) if proven else born["creation_time"]
        # The server's time, where the receipt has it: others order what all sites did by it.
        since = receipt["entry"].get("since")
        begun = _naive(datetime.datetime.fromisoformat(since)) if since and not proven else when
        facts = {"site": site, "manifest": changes["manifest"], "done": begun}
        # A copy that was found there, by an attempt after a crash or by another work directory, sent nothing.
        facts |= {name: receipt.get(name) for name in ("source", "sent")}
        ident = f"{target}@{when.isoformat()}"
        audit.record(database, action, run, key, grounds=grounds, ident=ident, **facts)
    if key.kind == "raw" and receipt["bytes"]:
        database.fill_in(run, "raw_size_byte", receipt["bytes"])
    return told


def is_void(receipt: Mapping, gone: datetime.datetime | None) -> bool:
    """Whether a receipt speaks of a copy that had `gone` (naive UTC) since.

    Receipts of copies that were claimed carry the server's time, which does not depend on a site's clock.
    """
    since = receipt["entry"].get("since") or receipt["at"]
    return gone is not None and _naive(datetime.datetime.fromisoformat(since)) <= gone


def void(work_dir: Path, site: str, run: Run, kind: str, gone: str) -> None:
    """Take the receipts about a copy away if it had `gone` (ISO time, UTC) since they were written."""
    path = work_dir / targets.path(site, run, "raw.done" if kind == "raw" else "processed.done")
    if path.exists():
        receipt = receipts.read(path)
        if receipt.get("entry") and is_void(receipt, datetime.datetime.fromisoformat(gone)):
            journal.forget(work_dir, site, run, kind, receipt["entry"].get("version"))


def void_moved(work_dir: Path, site: str, run: Run, kind: str, there: Mapping) -> None:
    """Take the receipts about a copy away if they point to another path than where it is by now.

    Parameters
    ----------
    there : mapping
        The copy's ``location`` and ``version``, as the database has them.
    """
    path = work_dir / targets.path(site, run, "raw.done" if kind == "raw" else "processed.done")
    try:
        entry = receipts.read(path).get("entry") or {}
    except CaxflowError:
        return  # none, or a damaged one: whoever needs it says so
    same = entry.get("version") == (there["version"] if kind == "processed" else None)
    if same and str(entry.get("location")).rstrip("/") != there["location"]:
        journal.forget(work_dir, site, run, kind, entry.get("version"))


def _birth(receipt: Mapping) -> dict:
    """Keys of an entry that this receipt makes."""
    return {
        "status": receipt["entry"].get("status") or documents.TRANSFERRED,
        "creation_time": _naive(datetime.datetime.fromisoformat(receipt["at"])),
        "creation_place": receipt["by"]["host"],
    }


def _entry_changes(receipt: Mapping) -> dict:
    """Keys of the entry in ``data`` that a receipt proves."""
    entry = receipt["entry"]
    changes = {
        "location": entry["location"],
        "manifest": receipt["manifest"]["digest"],
        **{f"caxflow.{name}": receipt[name] for name in _NOTED if name in receipt},
        "checksum": receipt["manifest"]["digest"],
        "size": receipt["bytes"],
        "caxflow.version": receipt.get("caxflow"),  # of the program that proved it
        # A success ends the claim and the memory of failures.
        "caxflow.lease": None,
        "caxflow.token": None,
        "caxflow.error": None,
        "caxflow.attempts": None,
        "caxflow.next": None,
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
        if copy.checksum and ":" not in copy.checksum:
            changes.pop("checksum")  # cax's own, which its other programs compare
        if same and copy.status == documents.TRANSFERRED:
            for name in ("status", "creation_time", "creation_place"):
                changes.pop(name, None)
        verified, before = changes.get("caxflow.verified"), documents.time_of(copy.note.get("verified"))
        if same and verified and before and verified < before:
            # It was read again since, by a scrub.
            verified = changes["caxflow.verified"] = before
        if same and changes.get("status") is None and verified == copy.note.get("verified"):
            return None
        if same and changes.get("status", copy.status) == copy.status and verified is None:
            return None
    return changes


def _tell_failure(database: RunsDB, run: Run, failure: Mapping, pause: float) -> bool:
    entry, attempts = failure["entry"], failure["attempts"]
    key = _key(entry)
    wait = min(pause * 2 ** (attempts - 1), 24 * 60)
    at = datetime.datetime.fromisoformat(failure["at"])
    changes = {
        "status": documents.ERROR,
        "location": entry["location"],
        "caxflow.error": failure["reason"],
        "caxflow.attempts": attempts,
        "caxflow.next": _naive(at) + datetime.timedelta(minutes=wait),
        "caxflow.lease": None,
        "caxflow.token": None,
    }
    copy = documents.find(database.get(run), key.kind, key.host, key.version)
    if copy and copy.note.get("attempts") == attempts and copy.note.get("error") == failure["reason"]:
        return False
    if copy and copy.status == documents.TRANSFERRED and not failure.get("evidence"):
        # A failed attempt to make it anew counts, but says nothing against a copy that is good.
        del changes["status"], changes["location"]
    # Whoever took our claim over has the word.
    token = failure.get("token")
    return database.tell(run, key, changes, {"token": token} if token else None)


def _key(entry: Mapping) -> Key:
    return Key(entry["kind"], entry["host"], entry.get("version"))


def _naive(time: datetime.datetime) -> datetime.datetime:
    """UTC without a zone and to the millisecond, as MongoDB keeps it."""
    time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
