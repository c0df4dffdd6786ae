"""Removing a copy of a run, on evidence that others are good, or that its successor is."""

from caxflow import receipts
from caxflow.copies.removal import Removal
from caxflow.planning import removals
from caxflow.stages.job import Job


def purge(job: Job) -> None:
    """Remove the copy that the job's stage names; the receipt says on what evidence."""
    key = removals.key_of_stage(job.stage, job.site.host)
    policy = job.settings.purge
    grounds = f"policy: {policy}" if policy else f"asked for by name: {job.target}"
    job.database.without = "nothing is removed without it"
    subject = job.subject(key)
    subject.check_mounted()
    facts = Removal(subject, removals.demand(key, job.settings), grounds).perform()
    entry = {"kind": key.kind, "host": key.host, "version": key.version, "token": facts["token"]}
    job.say(f"{job.run} is gone from {job.site.name}; evidence: {facts['evidence']}")
    job.state(receipts.statement(job.target, entry=entry, **facts))
