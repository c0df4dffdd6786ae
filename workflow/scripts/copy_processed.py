"""Adapter of rule copy_processed."""

from functools import partial
from typing import TYPE_CHECKING

from caxflow.stages import job, processed

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    partial(processed.copy_processed, source=snakemake.params.source),
    "processed.done",
    overrides=snakemake.config,
    **snakemake.wildcards,
    output=snakemake.output[0],
    log=snakemake.log[0],
    resources=snakemake.resources,
)
