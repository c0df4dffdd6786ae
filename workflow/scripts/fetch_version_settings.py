"""Adapter of rule fetch_version_settings."""

from functools import partial
from typing import TYPE_CHECKING

from caxflow.stages import job, processed

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    partial(processed.fetch_settings, processor=snakemake.params.processor),
    f"pax_{snakemake.wildcards.version}.settings.json",
    overrides=snakemake.config,
    site=snakemake.wildcards.site,
    run=snakemake.wildcards.run,
    output=snakemake.output[0],
    log=snakemake.log[0],
)
