"""Adapter of rule scrub."""

from typing import TYPE_CHECKING

from caxflow.stages import scrub

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

scrub.run(snakemake.config, snakemake.log[0])
