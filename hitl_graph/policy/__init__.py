"""Which calls run, which are asked about and of whom, which never run. Rules and verdicts, no I/O."""

from typing import TYPE_CHECKING, Any

from hitl_graph.policy.deadline import Deadline, EndOfDay, Escalate
from hitl_graph.policy.rules import Call, Outcome, Policy, Predicate, Rule, Verdict
from hitl_graph.terms import Stage

if TYPE_CHECKING:
    from hitl_graph.policy.hours import Hours

__all__ = [
    "Call",
    "Deadline",
    "EndOfDay",
    "Escalate",
    "Hours",
    "Outcome",
    "Policy",
    "Predicate",
    "Rule",
    "Stage",
    "Verdict",
]


def __getattr__(name: str) -> Any:
    if name == "Hours":
        from hitl_graph.policy.hours import Hours

        return Hours
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
