"""Adapter of rule copy_raw."""

from functools import partial
from typing import TYPE_CHECKING

from caxflow import targets
from caxflow.stages import job, raw

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

source, _, _ = targets.parse(snakemake.input[0])
job.run(
    partial(raw.copy_raw, source=source),
    "raw.done",
    overrides=snakemake.config,
    **snakemake.wildcards,
    output=snakemake.output[0],
    log=snakemake.log[0],
    resources=snakemake.resources,
)
