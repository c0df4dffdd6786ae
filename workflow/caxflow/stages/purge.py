"""Removing the raw copy of a run, on evidence that others are good."""

from caxflow import receipts
from caxflow.config import retention
from caxflow.copies.removal import Removal
from caxflow.rundb import Key
from caxflow.stages.job import Job


def purge_raw(job: Job) -> None:
    """Remove the raw copy; the receipt says on what evidence."""
    key = Key("raw", job.site.host)
    purge = job.settings.purge
    grounds = f"policy: {purge}" if purge else f"asked for by name: {job.target}"
    facts = Removal(job.subject(key), retention.demand(purge), grounds).perform()
    entry = {"kind": key.kind, "host": key.host, "version": None, "token": facts["token"]}
    job.say(f"{job.run} is gone from {job.site.name}; evidence: {facts['evidence']}")
    job.state(receipts.statement(job.target, entry=entry, **facts))
