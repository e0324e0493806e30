"""The same guarantees for agents of LangChain: middleware for `create_agent` and for deep agents; extra `langchain`."""

try:
    import langchain.agents.middleware as _  # noqa: F401
except ImportError as exc:
    raise ImportError('hitl_graph.adapters.langchain needs an extra: pip install "hitl-graph[langchain]"') from exc

from hitl_graph.adapters.langchain.approval import ApprovalMiddleware
from hitl_graph.adapters.langchain.escalation import EscalationMiddleware
from hitl_graph.adapters.langchain.review import OutputReviewMiddleware

__all__ = ["ApprovalMiddleware", "EscalationMiddleware", "OutputReviewMiddleware"]
