"""Graph nodes that ask people."""

from hitl_graph.nodes.approval import ApprovalNode
from hitl_graph.nodes.escalation import EscalationNode

__all__ = ["ApprovalNode", "EscalationNode"]
