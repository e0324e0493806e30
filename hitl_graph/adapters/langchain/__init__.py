"""Middleware for agents of LangChain's `create_agent`; extra `langchain`."""

from hitl_graph.adapters.langchain.approval import ApprovalMiddleware

__all__ = ["ApprovalMiddleware"]
