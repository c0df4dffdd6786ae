"""What the embedded processor takes from a run's frozen settings."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from caxflow.errors import CaxflowError
from caxflow.rawdata.detectors import ELECTRONICS, LED_GAIN, MUON_VETO_GAINS
from caxflow.rawdata.rawformat import N_CHANNELS
from caxflow.targets import Run

KINDS = ("tpc", "led", "muon_veto")


@dataclass(frozen=True)
class Parameters:
    """Calibration of one run.

    Parameters
    ----------
    kind : str
        ``"tpc"``: with S1s, S2s and interactions; ``"led"``, ``"muon_veto"``: hits and their clusters.
    photoelectrons : numpy.ndarray of float64, shape (channels,)
        What one count of the digitizer in one sample stands for; 0 for a channel to be left out.
    drift_velocity : float
        cm/ns; NaN if `kind` needs none.
    electron_lifetime : float
        ns; NaN if `kind` needs none.
    """

    kind: str
    photoelectrons: np.ndarray
    drift_velocity: float = np.nan
    electron_lifetime: float = np.nan

    @classmethod
    def from_settings(cls, settings: Mapping, run: Run) -> "Parameters":
        """Read them from ``settings["kind"]`` and pax's section ``settings["processor"]["DEFAULT"]``.

        Raises
        ------
        CaxflowError
            Names the run and the value that is missing or makes no sense.
        """
        kind = settings.get("kind") or ("muon_veto" if run.detector == "muon_veto" else "tpc")
        if kind not in KINDS or (kind == "muon_veto") != (run.detector == "muon_veto"):
            raise _useless(run, "kind", kind)
        default = (settings.get("processor") or {}).get("DEFAULT") or {}
        gains = _gains(default.get("gains"), kind, run)
        electrons = ELECTRONICS[run.detector].electrons_per_count
        photoelectrons = np.divide(electrons, gains, out=np.zeros(len(gains)), where=gains > 0)
        if kind != "tpc":
            return cls(kind, photoelectrons)
        return cls(
            kind,
            photoelectrons,
            _positive(default.get("drift_velocity_liquid"), "drift_velocity_liquid", run),
            _positive(default.get("electron_lifetime_liquid"), "electron_lifetime_liquid", run),
        )


def _gains(values, kind: str, run: Run) -> np.ndarray:
    n_channels = N_CHANNELS[run.detector]
    if values is None or (kind != "tpc" and values == []):
        if kind == "tpc":
            raise _useless(run, "gains", values)
        return np.full(n_channels, LED_GAIN) if kind == "led" else np.array(MUON_VETO_GAINS)
    try:
        gains = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise _useless(run, "gains", values) from None
    if gains.ndim != 1 or not 0 < len(gains) <= n_channels or not (gains >= 0).all():
        raise _useless(run, "gains", values)
    if not np.isfinite(gains).all():
        raise _useless(run, "gains", values)
    return np.pad(gains, (0, n_channels - len(gains)))


def _positive(value, name: str, run: Run) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise _useless(run, name, value)
    return float(value)


def _useless(run: Run, name: str, value) -> CaxflowError:
    return CaxflowError(
        f"settings of {run}: {name} is {value!r:.40}",
        "freeze the settings again once the run document has a proper value",
    )
