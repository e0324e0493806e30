"""Graph nodes that ask people."""

from hitl_graph.nodes.approval import ApprovalNode

__all__ = ["ApprovalNode"]
