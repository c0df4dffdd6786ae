"""Adapter of rule process_version."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow.stages import job, processed

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

folder = f"pax_{snakemake.wildcards.version}"
job.run(
    partial(processed.process_raw, link=Path(snakemake.output.root), settings=f"{folder}.settings.json"),
    f"{folder}.done",
    overrides=snakemake.config,
    site=snakemake.wildcards.site,
    run=snakemake.wildcards.run,
    output=snakemake.output.done,
    log=snakemake.log[0],
    threads=snakemake.threads,
    attempt=snakemake.resources.attempt,
    reports=False,
)
