"""Adapter of rule link_processed."""

from functools import partial
from typing import TYPE_CHECKING

from caxflow.stages import job, processed

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    partial(processed.link_processed, done=snakemake.input[0]),
    "processed.root",
    overrides=snakemake.config,
    **snakemake.wildcards,
    output=snakemake.output[0],
    log=snakemake.log[0],
)
