"""Raw data: taking note of a copy, copying it, proving it."""

import contextlib
import dataclasses
import datetime
import posixpath
from collections.abc import Mapping
from typing import Any

from caxflow import clock, documents, receipts, transfer
from caxflow.copies import proof, quarantine, renewal, roots
from caxflow.copies.subject import Subject
from caxflow.documents import Copy
from caxflow.errors import BadCopy, BadSource, CaxflowError, Occupied
from caxflow.files.manifest import Manifest
from caxflow.planning import refusal
from caxflow.rawdata.completeness import Verdict, judge_raw
from caxflow.rundb import DatabaseAway, Held, Key
from caxflow.stages.job import Job
from caxflow.transfer import Place
from caxflow.workdir import proofs

_HANDED_ON = ("correction_versions",)  # what is true of every copy of a file


def register_raw(job: Job) -> None:
    """Take note of a raw copy that is there: its manifest, and that the dataset is whole and nothing else.

    Where the database has the copy's manifest already, that is taken over if the files have its names and
    sizes: verification reads the bytes.
    """
    refused = job.facts.registrable.get(job.site.name)
    there = refused or job.facts.there["raw"][job.site.name]
    location = there["location"]
    job.entry = {"kind": "raw", "host": job.site.host, "version": None, "location": location}
    known = job.database.manifest(there["manifest"]) if there["manifest"] else None
    checksum = there["checksum"]
    subject = job.subject(Key("raw", job.site.host))
    seen = _seen(subject) if there["manifest"] and not refused else None
    with quarantine.reading(subject, seen):
        if known and refused:
            manifest, how = _read_damaged(job, location, known), "found damaged, then read again: whole"
        elif known:
            manifest, how = Manifest.from_json(known), "the runs database states it, and its files are there"
            _look_at(subject, seen, known, location)
        else:
            manifest, checksum, remarks = _take(job, location, there)
            how = "; ".join(["complete by its own zips, every byte read at the site", *remarks])
    if wrong := proof.unlike(there["manifest"], manifest):
        raise quarantine.condemn(subject, location, [wrong], seen)
    job.say(f"{location}: {len(manifest)} files, {manifest.digest}")
    # What was refused before is good after all; else the copy's status is not ours to say.
    status = documents.TRANSFERRED if refused else None
    job.state(job.statement(manifest, location, status, proof=how, checksum=checksum))


def _read_damaged(job: Job, location: str, known: dict) -> Manifest:
    """Read a copy that was found damaged again; what it must be is known."""
    # What is found bad from now on is not made good by this reading.
    job.entry["since"] = job.database.now().replace(tzinfo=datetime.UTC).isoformat()
    _, wrong = proof.read_again(job.place(job.site), location, [known], job.report)
    if wrong:
        what = (
            f"{job.run}: its raw copy at {job.site.name} is still not what it must be: {proof.summary(wrong)}"
        )
        raise CaxflowError(what, "bring back the files that it names, then ask again")
    return Manifest.from_json(known)


def _look_at(subject: Subject, seen: Copy | None, known: Mapping, location: str) -> None:
    """See that a copy has the files of its manifest; one that has others is read, and bad if it is."""
    if odd := proof.same_files(subject.place, location, Manifest.from_json(known)):
        subject.say(f"{odd}; reading it")
        _, wrong = proof.read_again(subject.place, location, [known], subject.progress)
        if wrong:
            raise quarantine.condemn(subject, location, wrong, seen)


def _take(job: Job, location: str, there: Mapping) -> tuple[Manifest, str, list[str]]:
    """The manifest of a copy that is whole, and not unlike any other.

    Also cax's checksum of it, and what is to be said of it.
    """
    place = job.place(job.site)
    judged = refusal.sign(place, there, job.facts, job.settings, job.database.now())
    found = transfer.inventory(place, location)
    events, number = job.facts.events, job.facts.number
    verdict = judge_raw(found, detector=job.run.detector, number=number, events_built=events)
    remarks = _judge(job, verdict, judged)
    checksum = there["checksum"] if documents.is_cax_checksum(there["checksum"]) else None
    algorithms = ("xxh128", "sha512")
    read = transfer.examine(place, location, algorithms=algorithms, progress=job.report)
    remarks += _judge(job, Verdict(damage=tuple(read.faults), foreign=tuple(read.oddities)), judged)
    manifest = next(each for each in read.manifests.values() if each.algorithm != "sha512")
    if {entry.path: entry.size for entry in manifest.entries} != found.files:
        what = f"{job.run} at {job.site.name} changed while it was read"
        raise CaxflowError(what, "wait until nothing writes to it")
    _compare_with_others(job, manifest)
    if (sums := read.manifests.get("sha512")) is None:
        raise CaxflowError(f"{job.site.name} does not compute sha512", "check its Python")
    if checksum:
        _compare_with_cax(job, sums, checksum, judged)
    remarks += [f"{name} is left out, which NFS or the like will remove" for name in found.leftovers]
    for remark in remarks:
        job.say(f"{location}: {remark}")
    return manifest, checksum or proof.cax_checksum(sums, "raw"), remarks


def copy_raw(job: Job, source: str) -> None:
    """Copy a raw dataset from the site `source`; pull, push or relay, as the two sites lie from here."""
    origin = job.settings.site(source)
    stated = job.receipt(origin, "raw.done")
    expected = Manifest.from_json(stated["manifest"])
    made = make_copy(job, Key("raw", job.site.host), stated, expected, job.site.raw_path(job.run))
    job.clear(lambda: receipts.remove(job.path("raw.purged")))
    job.state(made)


def make_copy(
    job: Job,
    key: Key,
    stated: dict,
    expected: Manifest | None,
    location: str,
    *,
    instead: str | None = None,
) -> dict:
    """Claim a copy, make it at `location` from the one that is `stated`, and return its receipt.

    `instead` is the digest of the manifest of an older one that it replaces.
    """
    subject = job.subject(key)
    if moved := quarantine.make_room(subject):
        job.say(f"what was found bad was moved to {moved}")
    left = _is_left(subject, location)
    job.take_claim(key, location, instead)
    roots.ensure(job.settings, job.database, job.site, key.kind, location)
    source, path = job.place(job.settings.site(stated["site"])), stated["location"]
    more: dict = {"expected": expected}
    if not documents.is_cax_checksum(stated.get("checksum")):
        more["extra_algorithms"] = ("sha512",)
    try:
        if instead:
            copied = renewal.renew(subject, source, path, location, old=instead, **more)
        else:
            copied = _copy(subject, source, path, location, left, **more)
    except BadSource as error:
        raise _judge_source(job, key, stated, error) from error
    job.say(f"{location}: {copied}")
    for remark in copied.remarks:
        job.say(f"{location} is published; {remark}")
    job.permit(key.kind, location)
    return _copy_statement(job, key, copied, stated, location)


def _copy(
    subject: Subject, source: Place, path: str, location: str, left: bool, **more: Any
) -> transfer.Copied:
    """Copy a dataset; what another program `left` in its place, and is not the same, is moved aside."""
    more |= {"progress": subject.progress, "root": subject.root}
    try:
        return transfer.copy(source, path, subject.place, location, **more)
    except Occupied as error:
        if not left:
            raise
        aside = quarantine.set_aside(subject, location, error.what)
        subject.say(f"{error.what}; another program left it, it was moved to {aside}")
    return transfer.copy(source, path, subject.place, location, **more)


def _is_left(subject: Subject, location: str) -> bool:
    """Whether what lies where a copy is to be may be what another program began and gave up.

    Raises
    ------
    Held
        If that seems to be at work: files there were written lately.
    """
    key = subject.key
    copy = documents.find(subject.database.get(subject.run), key.kind, key.host, key.version)
    if copy is None or copy.manifest or "suspect" in copy.note:
        return False
    if "owner" in copy.note:
        return "abandoned" in copy.note
    if copy.status == documents.TRANSFERRING:
        written, now = _last_written(subject, location), subject.database.now()
        if written and abs(now - written) < documents.STALLED:
            raise Held(
                f"{subject}: another program wrote to {location} at {written:%Y-%m-%d %H:%M} UTC",
                "let it finish, or ask there; a day after it was last written to it is taken over",
            )
    return copy.status != documents.TRANSFERRED


def _last_written(subject: Subject, location: str) -> datetime.datetime | None:
    """When the newest file of a copy was written, naive UTC; None where there is none."""
    kind = transfer.exists(subject.place, location)
    folder, name = posixpath.split(location)
    if kind == "directory":
        items = transfer.census(subject.place, location)
    else:
        items = [item for item in transfer.census(subject.place, folder) if item.name == name] if kind else []
    newest = max((item.newest for item in items), default=None)
    return newest and datetime.datetime.fromtimestamp(newest, datetime.UTC).replace(tzinfo=None)


def _judge_source(job: Job, key: Key, stated: dict, error: BadSource) -> CaxflowError:
    """Read a source again that was not what it must be; if it is bad, nobody takes it any more."""
    site, location = job.settings.site(stated["site"]), stated["location"]
    subject = dataclasses.replace(job.subject(Key(key.kind, site.host, key.version)), site=site)
    seen = _seen(subject)
    if seen is None or seen.manifest != stated["manifest"]["digest"]:
        return error
    job.say(f"{error}; reading it again")
    try:
        _, wrong = proof.read_again(subject.place, location, [stated["manifest"]], subject.progress)
        # It speaks against the source, and not against what this job makes.
        bad = quarantine.condemn(subject, location, wrong, seen) if wrong else error
    except Held:
        raise
    except CaxflowError as failure:
        job.say(str(failure))
        return error
    return CaxflowError(bad.what, bad.mend)


def _copy_statement(job: Job, key: Key, copied: transfer.Copied, stated: dict, location: str) -> dict:
    """The receipt of a copy; others trust it once it has been read again, where that is configured."""
    status = documents.VERIFYING if job.settings.verify else documents.TRANSFERRED
    others = [m.to_json() for name, m in copied.manifests.items() if name != copied.manifest.algorithm]
    by_sha512 = copied.manifests.get("sha512")
    return job.statement(
        copied.manifest,
        location,
        status,
        source=stated["site"],
        sent=copied.sent,
        seconds=round(copied.seconds, 3),
        rate=round(copied.rate),
        adopted=copied.adopted,
        proof="hashed at both ends while it moved"
        if not copied.adopted
        else "was there, every byte compared",
        other_manifests=others,
        checksum=proof.cax_checksum(by_sha512, key.kind) if by_sha512 else stated.get("checksum"),
        **{name: stated[name] for name in _HANDED_ON if stated.get(name)},
    )


def verify(job: Job, stage: str) -> None:
    """Read a copy again from disk and compare it with the manifest in the receipt of `stage`."""
    stated = job.receipt(job.site, stage)
    expected = Manifest.from_json(stated["manifest"])
    job.entry = {name: stated["entry"][name] for name in ("kind", "host", "version", "location")}
    begun, clock = _time(job)
    subject = job.subject(Key(job.entry["kind"], job.entry["host"], job.entry["version"]))
    seen = _seen(subject)
    manifests = [stated["manifest"], *stated.get("other_manifests", ())]
    with quarantine.reading(subject, seen):
        found, wrong = proof.read_again(job.place(job.site), stated["location"], manifests, job.report)
    if wrong:
        raise quarantine.condemn(subject, stated["location"], wrong, seen=seen)
    job.say(f"{stated['location']}: {len(found)} files read again from disk, as at the origin")
    sums = expected.to_sums()
    proofs.state(job.work_dir, job.target, sums, begun, clock)
    job.state(sums)


def _time(job: Job) -> tuple[datetime.datetime, str]:
    """The time, naive UTC, and whose it is: the database's, since sites' clocks may be off, if it answers."""
    try:
        return job.database.now(), "server"
    except DatabaseAway:
        return clock.now(), "host"


def _seen(subject: Subject) -> Copy | None:
    """The entry of a copy, if the database answers, and has one that can be read."""
    with contextlib.suppress(CaxflowError):
        return subject.find(subject.database.get(subject.run))
    return None


def _judge(job: Job, verdict: Verdict, judged: str) -> list[str]:
    """Return what is to be said of raw data that are accepted.

    Parameters
    ----------
    judged : str
        What `refusal.sign` said of them: refused, they are not looked at again before that changes.

    Raises
    ------
    CaxflowError
        If they are refused, a BadCopy if there is evidence against them; or still being built.
    """
    where = f"{job.run} at {job.site.name}"
    damage = list(verdict.damage)
    if verdict.building and refusal.is_recent(job.facts, job.database.now()):
        job.refused, job.passing = judged, True
        raise CaxflowError(f"{where} is still being built: {verdict.building}", "wait for the event builder")
    if verdict.building:
        damage.insert(0, f"{verdict.building}, though the run ended on {(job.facts.end or '?')[:10]}")
    if damage:
        problems = proof.summary([*damage, *verdict.unclear, *verdict.foreign])
        fix = (
            "that is damage of the origin, and of no other copy: have the run built again"
            if job.site.origin
            else "have it copied again from where it is whole"
        )
        job.refused = judged
        raise BadCopy(f"{where} is not complete: {problems}", f"{fix}; {_again(job)}")
    if verdict.unclear:
        problems = proof.summary([*verdict.unclear, *verdict.foreign])
        job.refused = judged
        raise CaxflowError(f"{where} cannot be judged: {problems}", "correct the run document")
    if verdict.foreign and job.settings.foreign_files == "refuse":
        problems = proof.summary(list(verdict.foreign))
        fix = "move that away, or have it registered and copied, too: foreign_files: register"
        job.refused = judged
        raise CaxflowError(f"{where} has what is not part of raw data: {problems}", f"{fix}; {_again(job)}")
    return list(verdict.foreign)


def _again(job: Job) -> str:
    """Return when data that were refused are looked at again: those of other sites when that is asked for."""
    if job.site.name == job.settings.here.name:
        return "it is looked at again once its files change"
    return f"then ask for {job.target}"


def _compare_with_others(job: Job, manifest: Manifest) -> None:
    """A copy whose bytes are not those that the other sites have proven is not taken note of as good."""
    for site, there in job.facts.there["raw"].items():
        known = there["manifest"] if site != job.site.name else None
        if known and known.startswith(f"{manifest.algorithm}:") and known != manifest.digest:
            document = job.database.manifest(known)
            wrong = Manifest.from_json(document).differences(manifest) if document else []
            said = proof.summary(list(map(str, wrong))) or "manifests differ"
            what = f"{job.run} at {job.site.name} differs from {site}: {said}"
            if wrong and proof.are_extra(wrong):
                raise CaxflowError(what, "move away what is not part of it")
            raise BadCopy(what, "find out which of the two is right before anything is copied")


def _compare_with_cax(job: Job, found: Manifest, checksum: str, judged: str) -> None:
    """A copy that cax had a checksum of is the one that cax knew."""
    if not proof.is_as_cax_recorded(found, checksum):
        job.refused = judged
        raise BadCopy(
            f"{job.run} at {job.site.name} does not have the sha512 that cax recorded",
            "find out what changed it before anything is copied",
        )
