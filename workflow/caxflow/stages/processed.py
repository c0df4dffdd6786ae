"""Processed data: freezing the settings, processing, copying the product."""

import datetime
from pathlib import Path

from caxflow import documents, manifest, processing, receipts, transfer
from caxflow.errors import CaxflowError
from caxflow.manifest import Manifest
from caxflow.rundb import Key
from caxflow.settings import freeze, skip_reason
from caxflow.stages.job import Job
from caxflow.stages.raw import copy_statement


def fetch_settings(job: Job) -> None:
    """Freeze the parameters for processing a run; batch jobs need nothing else."""
    document = job.database.get(job.run)
    why = skip_reason(document, has_verified_raw=True)
    if why:
        raise CaxflowError(f"{job.run} is not processed: {why}", "mend the run document if that is wrong")
    processor = job.settings.processor(job.site)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    job.state(freeze(document, processor=processor.name, pax_version=processor.pax_version, now=now))


def process_raw(job: Job, link: Path) -> None:
    """Process a verified raw copy; `link` points at the checked product."""
    frozen = job.receipt(job.site, "settings.json")
    processor = job.settings.processors[frozen["made_for"]["processor"]]
    product = processor.product_path(job.site.roots["processed"], job.run)
    job.entry = _entry(job, processor.pax_version, str(product))
    job.making = True
    job.say(f"{processor.name}, {job.threads} cores: {product}")
    made = processing.process(
        processor,
        job.receipt(job.site, "raw.done")["location"],
        product,
        settings=frozen,
        threads=job.threads,
        workdir=job.work_dir / "processing",
        log=job.log.name,
    )
    job.say(f"{made.events} events, {made.size} bytes in {made.seconds:.1f} s")
    link.unlink(missing_ok=True)
    link.symlink_to(product)
    taken = manifest.take(product)
    status = documents.VERIFYING if job.settings.verify else documents.TRANSFERRED
    job.state(
        job.statement(
            taken,
            str(product),
            status,
            processor=processor.name,
            events=made.events,
            seconds=round(made.seconds, 3),
            correction_versions=frozen["correction_versions"],
            proof="every branch read, event numbers equal to those of the raw data",
        )
    )


def copy_processed(job: Job, source: str) -> None:
    """Copy a processed file from the site `source`."""
    origin = job.settings.site(source)
    here = origin.name == job.settings.here.name
    stated = job.receipt(origin, "processed.done") if here else _stated_by_rundb(job, source)
    expected = Manifest.from_json(stated["manifest"]) if stated.get("manifest") else None
    location = job.settings.processed_path(job.site, job.run)
    job.take_claim(Key("processed", job.site.host, job.settings.processor(job.site).pax_version), location)
    copied = transfer.copy(
        job.place(origin),
        stated["location"],
        job.place(job.site),
        location,
        expected=expected,
        progress=job.report,
    )
    job.say(f"{location}: {copied}")
    job.state(copy_statement(job, copied, stated, location))


def link_processed(job: Job, done: str) -> None:
    """Point at a processed file that was copied to this site."""
    job.output.unlink(missing_ok=True)
    job.output.symlink_to(receipts.read(done)["location"])


def _stated_by_rundb(job: Job, source: str) -> dict:
    there = job.facts.there["processed"][source]
    known = job.database.manifest(there["manifest"]) if there["manifest"] else None
    return {"site": source, "location": there["location"], "manifest": known}


def _entry(job: Job, version: str, location: str) -> dict:
    return {"kind": "processed", "host": job.site.host, "version": version, "location": location}
