"""What a watch looks for if nobody says otherwise."""

from hitl_graph.stuck.delegation import DelegationStall
from hitl_graph.stuck.detector import Detector
from hitl_graph.stuck.failures import RepeatedFailure
from hitl_graph.stuck.novelty import NoNewInformation
from hitl_graph.stuck.oscillation import Oscillation
from hitl_graph.stuck.output import MalformedOutput
from hitl_graph.stuck.repetition import RepeatedAction
from hitl_graph.stuck.talking import DialogueStall, Monologue

__all__ = ["default_detectors"]


def default_detectors() -> tuple[Detector, ...]:
    """The detectors that need no configuration, with the numbers a patient supervisor would use."""
    return (
        RepeatedAction(),
        Oscillation(),
        RepeatedFailure(),
        NoNewInformation(),
        DelegationStall(),
        DialogueStall(),
        Monologue(),
        MalformedOutput(),
    )
