"""Reading copies here again from the disk, those first that were not read for longest."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caxflow import clock, config, documents, joblogs, legible, receipts, words
from caxflow.copies import evidence, proof, quarantine
from caxflow.copies.subject import Subject
from caxflow.documents import Copy
from caxflow.errors import BadCopy, CaxflowError
from caxflow.files.manifest import Manifest
from caxflow.planning import readings
from caxflow.planning.plan import Plan
from caxflow.planning.readings import Reading
from caxflow.rundb import DatabaseAway, Key, RunsDB
from caxflow.stages.job import end_with, logging_to
from caxflow.targets import Run, Target
from caxflow.transfer import take_manifests
from caxflow.workdir import underway

# The targets that state what a scrub finds out anew.
STAGES = {"raw": "checksum", "processed": "processed.checksum"}


def run(overrides: Mapping[str, Any], log: str) -> None:
    """Read what the main process wrote down, within the budget of time; a copy that is read is told at once.

    Whatever ends this, what was read counts, and the next call goes on with what was not.
    """
    with logging_to(Path(log)) as stream:

        def say(text: str) -> None:
            joblogs.say(stream, text)

        try:
            settings = config.load(overrides)
            plan = Plan.read(Path.cwd())
            clock.follow(plan.clock)
            end_with(plan.main)
            with receipts.intact(Path.cwd() / readings.FILE):
                listed = json.loads(receipts.content_of(Path.cwd() / readings.FILE))
                todo = [Reading(**each) for each in listed]
            with RunsDB(settings.rundb, dry=settings.dry) as database:
                bad = scrub(todo, settings, database, say)
        except CaxflowError as error:
            say(str(error))
            sys.exit(f"caxflow: {error}")
        if bad:
            say(f"{words.count(len(bad), 'copy')} bad, or not to be read: {'; '.join(bad)}")
    if bad:
        sys.exit("\n".join(f"caxflow: {legible.line(each)}" for each in bad))


def scrub(todo: list[Reading], settings: config.Settings, database: RunsDB, say) -> list[str]:
    """Read copies again; what is wrong, a line each.

    Raises
    ------
    DatabaseAway
        What is found could not be told.
    """
    end, bad, size = time.monotonic() + settings.scrub.time.total_seconds(), [], 0
    for number, each in enumerate(todo):
        if number and time.monotonic() > end:
            say(f"the time is up; {words.count(len(todo) - number, 'copy')} left for the next call")
            break
        subject = Subject(
            settings=settings,
            database=database,
            site=settings.here,
            run=Run.parse(each.run),
            key=Key(each.kind, settings.here.host, each.version),
            work_dir=Path.cwd(),
            say=say,
        )
        teller = underway.Teller(subject.work_dir, Target(subject.site.name, subject.run, STAGES[each.kind]))
        subject.progress = lambda progress, to=teller: to.tell(
            progress.phase, progress.done, progress.total, progress.rate
        )
        try:
            size += read_one(subject)
        except DatabaseAway:
            raise
        except CaxflowError as error:
            say(str(error))
            bad.append(str(error))
        finally:
            teller.end()
    say(f"{words.size(size)} read again")
    return bad


def read_one(subject: Subject) -> int:
    """Read a copy again and tell when; the bytes read.

    It is compared with the manifest of the master copy, or with its own; where there is none, with what else
    is known of the run's copies. One of which nothing is known gets a manifest, and is not verified by that.

    Raises
    ------
    BadCopy
        If it is not what it must be. It is suspect from then on, and moved aside if it is not the only one,
        where it differs from what is stated of itself; where it differs from other copies only, either may
        be right, and it stays what it is.
    """
    database, key = subject.database, subject.key
    document, begun = database.get(subject.run), database.now()
    copy = subject.find(document)
    if not evidence.good(copy):
        return 0
    right = evidence.master(document, "raw", subject.settings) if key.kind == "raw" else copy
    stated = database.manifest(right.manifest) if right and right.manifest else None
    expected = right.manifest if stated else copy.manifest
    algorithm = expected.partition(":")[0] if expected else "xxh128"
    checksum = copy.checksum if documents.is_cax_checksum(copy.checksum) else None
    checksum = checksum or documents.cax_checksum(document, key.kind, key.version, expected)
    algorithms = [algorithm] if stated and checksum else [algorithm, "sha512"]
    with quarantine.reading(subject, copy):
        read = take_manifests(subject.place, copy.location, algorithms, progress=subject.progress)
    found = read[algorithm]
    sums = read.get("sha512")
    taken = proof.cax_checksum(sums, key.kind) if sums else None
    if stated:
        manifest, proven = Manifest.from_json(stated), True
        wrong = proof.compare(subject.place, copy.location, [manifest], found)
        if wrong and copy.manifest != manifest.digest:
            wrong = _against_itself(subject, copy, right, wrong, sums)
    else:
        unlike = proof.unlike(copy.manifest, found)
        manifest, wrong = found, [unlike] if unlike else _against_cax(subject, copy, sums)
        proven = not wrong and _compare_with_others(subject, document, copy, found, sums)
    if wrong:
        raise quarantine.condemn(subject, copy.location, wrong, seen=copy)
    database.keep_manifest(manifest.to_json())
    told = {"manifest": manifest.digest, "size": manifest.size}
    told |= {"caxflow.verified": begun} if proven else {}
    told |= {"checksum": checksum or taken}
    if not database.confirm(subject.run, key, copy, told):
        subject.say(f"{subject} was changed while it was read; nothing is told of it")
        return found.size
    _share_checksum(subject, manifest.digest, checksum or taken)
    how = "as it must be" if proven else "nothing is known that it could be compared with"
    subject.say(f"{subject} was read again, {words.size(found.size)}: {how}")
    return found.size


def _share_checksum(subject: Subject, manifest: str, checksum: str) -> None:
    """Tell cax's checksum of all copies that have the manifest: they have the same contents."""
    database, key = subject.database, subject.key
    for copy in documents.copies(database.get(subject.run)):
        of_same = (copy.kind, copy.manifest, copy.status) == (key.kind, manifest, documents.TRANSFERRED)
        if of_same and copy.version == key.version and not documents.is_cax_checksum(copy.checksum):
            database.confirm(
                subject.run, Key(copy.kind, copy.host, copy.version), copy, {"checksum": checksum}
            )


def _compare_with_others(
    subject: Subject, document: Mapping, copy: Copy, found: Manifest, sums: Manifest
) -> bool:
    """Compare a copy that has no manifest with what is known of all; whether there was anything.

    Parameters
    ----------
    sums : Manifest
        Of what was read, by sha512.

    Raises
    ------
    BadCopy
        If it differs from another one.
    """
    # With these it was compared already.
    known = documents.is_cax_checksum(copy.checksum) or copy.manifest == found.digest
    if copy.kind != "raw":
        return known  # each site may have made its own
    for site in subject.settings.sites.values():
        other = documents.find(document, copy.kind, site.host, copy.version)
        if other is None or site.host == copy.host or "suspect" in other.note:
            continue
        if other.manifest and other.manifest.startswith(f"{found.algorithm}:"):
            if other.manifest != found.digest:
                raise _unlike(subject, other)
            known = True
        if not known and documents.is_cax_checksum(other.checksum):
            if not proof.has_cax_checksum(sums, copy.kind, other.checksum):
                raise _unlike(subject, other)
            known = True
    return known


def _against_itself(
    subject: Subject, copy: Copy, right: Copy, wrong: list[str], sums: Manifest | None
) -> list[str]:
    """What condemns a copy that differs from the master, whose manifest it was never proven to have.

    Raises
    ------
    BadCopy
        If nothing is stated of the copy itself, or it is what cax recorded: the master may be the bad one.
    """
    # Of a copy that caxflow made the checksum is its own, and no other witness.
    if copy.manifest and ("owner" in copy.note or not documents.is_cax_checksum(copy.checksum)):
        return wrong
    if not (against := _against_cax(subject, copy, sums)):
        raise _unlike(subject, right)
    return against


def _unlike(subject: Subject, other: Copy) -> BadCopy:
    return BadCopy(
        f"{subject} differs from the one at {other.host}",
        "find out which of the two is right before anything is copied or removed",
    )


def _against_cax(subject: Subject, copy: Copy, sums: Manifest | None) -> list[str]:
    """What is wrong with a copy by the checksum that cax recorded of it, if there is one.

    Where its `sums` by sha512 were not taken as it was read, it is read once more.
    """
    if not documents.is_cax_checksum(copy.checksum):
        return []
    if sums:
        agrees = proof.has_cax_checksum(sums, copy.kind, copy.checksum)
    else:
        agrees = proof.agrees_with_cax(subject.place, copy.location, copy.checksum, subject.progress)
    return [] if agrees else ["its files do not have the sha512 that cax recorded"]
