"""Adapter of rule verify_raw."""

from functools import partial
from typing import TYPE_CHECKING

from caxflow.stages import job, raw

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.run(
    partial(raw.verify, stage="raw.done"),
    "checksum",
    overrides=snakemake.config,
    **snakemake.wildcards,
    output=snakemake.output[0],
    log=snakemake.log[0],
)
