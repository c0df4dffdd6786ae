"""Adapter of rule register_raw."""

from typing import TYPE_CHECKING

from caxflow.stages import job, raw

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    raw.register_raw,
    "raw.done",
    overrides=snakemake.config,
    **snakemake.wildcards,
    output=snakemake.output[0],
    log=snakemake.log[0],
)
