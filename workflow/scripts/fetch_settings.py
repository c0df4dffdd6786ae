"""Adapter of rule fetch_settings."""

from typing import TYPE_CHECKING

from caxflow.stages import job, processed

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    processed.fetch_settings,
    "settings.json",
    overrides=snakemake.config,
    **snakemake.wildcards,
    output=snakemake.output[0],
    log=snakemake.log[0],
)
