"""Rules that `hitl learn` is told of by name."""

from typing import Any

from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from hitl_graph.learning import Guarantee, Unsure
from hitl_graph.nodes import ApprovalNode, OutputReviewNode
from hitl_graph.policy import Policy, Rule
from tests.learning.moderating import confidence

__all__ = ["fixed", "graph", "grouped", "moderate", "node", "nothing", "policy", "review", "strict", "unsure"]

_SECRET = b"a secret of the tests"

unsure = Unsure(confidence, name="moderate", secret=_SECRET, version="1", audit_rate=0.3)
strict = Unsure(confidence, name="moderate", secret=_SECRET, version="1", guarantee=Guarantee(0.001))
grouped = Unsure(confidence, name="each", secret=_SECRET, version="1", group=lambda call: call.args["label"])
fixed = Unsure(confidence, below=0.8)
policy = Policy([Rule("moderate", "ask", when=unsure), Rule("moderate", "allow"), Rule("delete", "ask", when=fixed)])
nothing = Policy([Rule("*", "ask")])


@tool
def moderate(post: str, label: str, confidence: float) -> str:
    """Label a post."""
    return f"{post} is {label}, {confidence}"


@tool
def delete(post: str) -> str:
    """Delete a post."""
    return f"{post} is gone"


node = ApprovalNode([moderate, delete], policy=policy)
review = OutputReviewNode(
    "draft", revise="write", policy=Policy([Rule("review", "ask", when=unsure), Rule("review", "allow")])
)


def graph() -> Any:
    """A graph whose inner graph has the node."""
    inner = StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools").compile()
    return StateGraph(MessagesState).add_node("inner", inner).add_edge(START, "inner").compile()
