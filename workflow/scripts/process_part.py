"""Adapter of rule process_part."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow.stages import job, processed

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    partial(processed.process_part, part=snakemake.wildcards.part, product=Path(snakemake.output[0])),
    "processed.done",
    overrides=snakemake.config,
    site=snakemake.wildcards.site,
    run=snakemake.wildcards.run,
    output=snakemake.output[0],
    log=snakemake.log[0],
    threads=snakemake.threads,
    attempt=snakemake.resources.attempt,
    reports=False,
)
