"""Adapter of rule report_run."""

from typing import TYPE_CHECKING

from caxflow.stages import job, report

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    report.report_run,
    "report.html",
    overrides=snakemake.config,
    **snakemake.wildcards,
    output=snakemake.output[0],
    log=snakemake.log[0],
    reports=False,
)
