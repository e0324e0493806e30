"""Which calls run, which are asked about and of whom, which never run. Rules and verdicts, no I/O."""

from hitl_graph.policy.deadline import Deadline, EndOfDay, Escalate
from hitl_graph.policy.hours import Hours
from hitl_graph.policy.policy import Policy
from hitl_graph.policy.rules import Rule
from hitl_graph.policy.verdict import Call, Mode, Outcome, Predicate, Verdict
from hitl_graph.terms import Stage

__all__ = [
    "Call",
    "Deadline",
    "EndOfDay",
    "Escalate",
    "Hours",
    "Mode",
    "Outcome",
    "Policy",
    "Predicate",
    "Rule",
    "Stage",
    "Verdict",
]
