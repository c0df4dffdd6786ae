"""The embedded processor: raw events to peaks and interactions, with numpy, awkward and uproot only."""

from caxflow.mini.run import NAME, NOT_DONE, VERSION, merge, process_run

__all__ = ["NAME", "NOT_DONE", "VERSION", "merge", "process_run"]
