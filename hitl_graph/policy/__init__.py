"""Which calls run, which are asked about and of whom, which never run. Rules and verdicts, no I/O."""

from hitl_graph.policy.deadline import Deadline, Escalate
from hitl_graph.policy.modes import Mode
from hitl_graph.policy.rules import Call, Outcome, Policy, Predicate, Rule, Verdict
from hitl_graph.terms import Stage

__all__ = ["Call", "Deadline", "Escalate", "Mode", "Outcome", "Policy", "Predicate", "Rule", "Stage", "Verdict"]
