"""Adapter of rule purge_version."""

from typing import TYPE_CHECKING

from caxflow.stages import job, purge

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    purge.purge,
    f"pax_{snakemake.wildcards.version}.purged",
    overrides=snakemake.config,
    site=snakemake.wildcards.site,
    run=snakemake.wildcards.run,
    output=snakemake.output[0],
    log=snakemake.log[0],
)
