"""Adapter of rule make_minitrees."""

from typing import TYPE_CHECKING

from caxflow.stages import job, minitrees

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    minitrees.make_minitrees,
    "minitrees.done",
    overrides=snakemake.config,
    site=snakemake.wildcards.site,
    run=snakemake.wildcards.run,
    output=snakemake.output[0],
    log=snakemake.log[0],
    attempt=snakemake.resources.attempt,
    reports=False,
)
