"""Is the agent stuck, or unsure? Detectors over message histories. No I/O, no clock, no model call.

Start with `Watch`.
"""

from hitl_graph.stuck.budget import Budget
from hitl_graph.stuck.confidence import LowConfidence
from hitl_graph.stuck.default import default_detectors
from hitl_graph.stuck.delegation import DelegationStall
from hitl_graph.stuck.detector import Detector, Fold, detect
from hitl_graph.stuck.evidence import Alarm, Answered, Evidence, Kind, Spent
from hitl_graph.stuck.failures import RepeatedFailure
from hitl_graph.stuck.novelty import NoNewInformation
from hitl_graph.stuck.oscillation import Oscillation
from hitl_graph.stuck.output import MalformedOutput
from hitl_graph.stuck.reading import Event
from hitl_graph.stuck.recorded import to_messages
from hitl_graph.stuck.repetition import RepeatedAction
from hitl_graph.stuck.talking import DialogueStall, Monologue
from hitl_graph.stuck.watch import Patience, Watch, spent

__all__ = [
    "Alarm",
    "Answered",
    "Budget",
    "DelegationStall",
    "Detector",
    "DialogueStall",
    "Event",
    "Evidence",
    "Fold",
    "Kind",
    "LowConfidence",
    "MalformedOutput",
    "Monologue",
    "NoNewInformation",
    "Oscillation",
    "Patience",
    "RepeatedAction",
    "RepeatedFailure",
    "Spent",
    "Watch",
    "default_detectors",
    "detect",
    "spent",
    "to_messages",
]
