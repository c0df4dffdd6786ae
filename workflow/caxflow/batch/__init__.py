"""Jobs on batch systems: submission, what is known of them, how they end."""

from caxflow.batch.gridengine import GridEngine
from caxflow.batch.htcondor import HTCondor
from caxflow.batch.pbs import PBS
from caxflow.batch.slurm import Slurm
from caxflow.batch.system import System
from caxflow.errors import CaxflowError

SYSTEMS: dict[str, type[System]] = {
    "slurm": Slurm,
    "htcondor": HTCondor,
    "gridengine": GridEngine,
    "pbs": PBS,
}


def load(name: str | None) -> System:
    """Return the batch system of a name, as ``caxflow-system`` in a profile has it."""
    if not isinstance(name, str) or name not in SYSTEMS:
        said = f"there is no batch system {name!r}" if name else "the batch system is not named"
        raise CaxflowError(said, f"set caxflow-system in the profile, to one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name]()
