"""Processed data: freezing the settings, processing, in parts or at once, copying the product."""

import secrets
from collections.abc import Sequence
from pathlib import Path

from caxflow import documents, receipts
from caxflow.conditions.settings import freeze, skip_reason
from caxflow.copies import proof, quarantine, roots, subject
from caxflow.errors import CaxflowError
from caxflow.files import manifest
from caxflow.files.manifest import Manifest
from caxflow.processing import products, running
from caxflow.processing.processors import Processor
from caxflow.rawdata import rawformat
from caxflow.rundb import Key
from caxflow.stages.job import Job
from caxflow.stages.raw import make_copy


def fetch_settings(job: Job, processor: str) -> None:
    """Freeze the parameters for processing a run by `processor`; batch jobs need nothing else."""
    document = job.database.get(job.run)
    configured = job.settings.processors[processor]
    also = configured.run_parameters
    why = skip_reason(document, has_verified_raw=True, also=also)
    if why:
        raise CaxflowError(f"{job.run} is not processed: {why}", "mend the run document if that is wrong")
    # The jobs that write there may not ask the database.
    product = configured.product_path(job.site.roots["processed"], job.run)
    roots.ensure(job.settings, job.database, job.site, "processed", str(product))
    version = configured.pax_version
    job.state(freeze(document, processor=processor, pax_version=version, also=also, now=receipts.now()))


def part_zips(names: Sequence[str], part: str) -> Sequence[str]:
    """The zips that a part has, by its name ``0002-of-0005``: all parts together have each once, in order."""
    number, parts = map(int, part.split("-of-"))
    return names[len(names) * (number - 1) // parts : len(names) * number // parts]


def process_part(job: Job, part: str, product: Path) -> None:
    """Process some of a run's zips, as one of several jobs."""
    from caxflow import mini

    frozen = job.receipt(job.site, "settings.json")
    processor = job.settings.processors[frozen["made_for"]["processor"]]
    _is_making(job, processor)
    raw = Path(job.receipt(job.site, "raw.done")["location"])
    zips = part_zips(rawformat.zip_names(raw), part)
    job.say(f"{processor.name}, part {part}, {job.threads} cores: {len(zips)} zips, {zips[0]} first")
    counts = mini.process_run(raw, product, settings=frozen, run=job.run, cores=job.threads, zips=zips)
    job.say(f"{counts['events']} events")


def process_raw(job: Job, link: Path, settings: str = "settings.json", parts: Sequence[str] = ()) -> None:
    """Process a verified raw copy, or join its processed `parts`; `link` points at the checked product.

    Parameters
    ----------
    settings : str
        Stage of the frozen settings, which name the processor.
    """
    frozen = job.receipt(job.site, settings)
    processor = job.settings.processors[frozen["made_for"]["processor"]]
    product = _is_making(job, processor)
    job.say(f"{processor.name}, {job.threads} cores: {product}")
    kept = job.stage == "processed.done"
    aside = None
    if kept and job.facts.abandoned:
        place, root, token = job.place(job.site), job.site.roots["processed"], secrets.token_hex(8)
        aside = Path(subject.aside(place, root, quarantine.FOLDER, str(product), token))
    made = running.process(
        processor,
        job.receipt(job.site, "raw.done")["location"],
        product,
        settings=frozen,
        threads=job.threads,
        workdir=job.work_dir / products.JOBS,
        log=job.log.name,
        replace=kept and job.facts.anew,
        aside=aside,
        parts=parts,
        roots=tuple(job.site.roots.values()),
    )
    job.say(f"{made.events} events, {made.size} bytes in {made.seconds:.1f} s")
    if made.remark:
        job.say(made.remark)
    if aside and aside.exists():
        job.say(f"what was left in its place, and could not be taken over, was moved to {aside}")
    link.unlink(missing_ok=True)
    link.symlink_to(product)
    job.permit("processed", str(product))
    taken = manifest.take_all(str(product), ("xxh128", "sha512"), roots=tuple(job.site.roots.values()))
    # Only the version that the site keeps is read again, and copied.
    status = documents.VERIFYING if kept and job.settings.verify else documents.TRANSFERRED
    job.state(
        job.statement(
            taken["xxh128"],
            str(product),
            status,
            processor=processor.name,
            events=made.events,
            seconds=round(made.seconds, 3),
            correction_versions=frozen["correction_versions"],
            checksum=proof.cax_checksum(taken["sha512"], "processed"),
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
    key = Key("processed", job.site.host, job.settings.processor(job.site).pax_version)
    old = job.facts.renew.get(job.site.name)
    job.state(make_copy(job, key, stated, expected, location, instead=old))


def link_processed(job: Job, done: str) -> None:
    """Point at a processed file that was copied to this site."""
    job.output.unlink(missing_ok=True)
    job.output.symlink_to(receipts.read(done)["location"])


def _stated_by_rundb(job: Job, source: str) -> dict:
    there = job.facts.there["processed"][source]
    known = job.database.manifest(there["manifest"]) if there["manifest"] else None
    made_with, checksum = there["correction_versions"], there["checksum"]
    if documents.is_cax_checksum(checksum) and not known:
        place = job.place(job.settings.site(source))
        if not proof.agrees_with_cax(place, there["location"], checksum, job.report):
            raise CaxflowError(
                f"{job.run}: its processed file at {source} does not have the sha512 that cax recorded",
                "find out what changed it before it is copied",
            )
    return {
        "site": source,
        "location": there["location"],
        "manifest": known,
        "checksum": checksum,
        "correction_versions": made_with,
    }


def _is_making(job: Job, processor: Processor) -> Path:
    """Say which copy the job makes, so that its failure is told as that copy's."""
    product = processor.product_path(job.site.roots["processed"], job.run)
    job.entry = {
        "kind": "processed",
        "host": job.site.host,
        "version": processor.pax_version,
        "location": str(product),
    }
    job.making = True
    job.check_root("processed")
    return product
