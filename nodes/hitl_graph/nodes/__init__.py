"""Graph nodes that ask people."""

from hitl_graph.nodes.approval import ApprovalNode
from hitl_graph.nodes.review import OutputReviewNode

__all__ = ["ApprovalNode", "OutputReviewNode"]
