"""Graph nodes that ask people."""

from hitl_graph.nodes.approval import ApprovalNode
from hitl_graph.nodes.escalation import EscalationNode
from hitl_graph.nodes.human import ask_human

__all__ = ["ApprovalNode", "EscalationNode", "ask_human"]
