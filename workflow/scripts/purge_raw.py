"""Adapter of rule purge_raw."""

from typing import TYPE_CHECKING

from caxflow.stages import job, purge

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    purge.purge,
    "raw.purged",
    overrides=snakemake.config,
    **snakemake.wildcards,
    output=snakemake.output[0],
    log=snakemake.log[0],
)
