"""The colours of answers."""

from caxflow.planning import standing

# Of what a run's state is called, and of answers without one.
OF_RUNS = dict.fromkeys((standing.SETTLED, standing.TODO, standing.BUSY), "green")
OF_RUNS |= dict.fromkeys((standing.WAITS, standing.EXCLUDED, standing.TAKING, "unasked"), "yellow")
OF_RUNS |= dict.fromkeys((standing.FAILED, standing.PROBLEM, "unknown"), "red")
