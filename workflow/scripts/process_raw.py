"""Adapter of rule process_raw."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow.stages import job, processed

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    partial(processed.process_raw, link=Path(snakemake.output.root), parts=snakemake.input.get("parts", [])),
    "processed.done",
    overrides=snakemake.config,
    site=snakemake.wildcards.site,
    run=snakemake.wildcards.run,
    output=snakemake.output.done,
    log=snakemake.log[0],
    threads=snakemake.threads,
    attempt=snakemake.resources.attempt,
    reports=False,
)
