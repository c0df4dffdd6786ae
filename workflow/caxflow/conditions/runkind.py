"""The three kinds of runs, which are read out, corrected and processed differently."""

from collections.abc import Mapping

from caxflow import documents, values
from caxflow.errors import CaxflowError

TPC, LED, MUON_VETO = "tpc", "led", "muon_veto"

CONFIGURATIONS = {TPC: "XENON1T", LED: "XENON1T_LED", MUON_VETO: "XENON1T_MV"}
CHANNELS = {TPC: 260, LED: 260, MUON_VETO: 88}


def kind_of(document: Mapping) -> str:
    """``tpc``, ``led`` or ``muon_veto``.

    Raises
    ------
    CaxflowError
        If a TPC run does not say whether it triggered itself: whether it is an LED run is not guessed.
    """
    run = documents.run_of(document)
    if run.detector == MUON_VETO:
        return MUON_VETO
    found = documents.value(document, "reader", "self_trigger")
    self_trigger = values.truth(found)
    if self_trigger is None:
        raise CaxflowError(
            f"{run}: reader.self_trigger is {values.said(found)}, so it may be a physics or an LED run",
            "set it to true or false in the run document",
        )
    return TPC if self_trigger else LED
