"""Moves, proves, processes and keeps track of an experiment's data.

The library behind the workflow: plain functions that know nothing of Snakemake and do nothing on import.
"""

__version__ = "0.1.0"
