"""A moderation agent on LangGraph: it proposes what a post is, and asks people as long as nothing says it need not.

What the model says of a post depends on the post alone, so that any process can go on where another one died.
"""

import random
from datetime import timedelta
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph

from hitl_graph.inbox import Inbox
from hitl_graph.learning import Guarantee, Unsure
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Request, approve, edit
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Call, Policy, Rule
from hitl_graph.worker import Worker
from tests.invariants.agents import AnyGraph, config_of, write_effect

__all__ = ["UNSURE", "answered", "build", "confidence", "opinion", "posted", "proposed", "resumed", "truth"]

PEOPLE = ("alice", "bob", "carol")


def confidence(call: Call) -> Any:
    return call.args["confidence"]


UNSURE = Unsure(
    confidence,
    guarantee=Guarantee(0.1, 0.9),
    audit_rate=0.2,
    double_rate=0.1,
    version="1",
    secret=b"a secret of the tests",
    patience=timedelta(days=1),
)


def truth(post: str) -> str:
    return random.Random(f"truth {post}").choice(["ok", "hate"])


def proposed(post: str, model: str = "one") -> dict[str, Any]:
    """What the model says: right where it is sure, and often wrong where it is not."""
    rng = random.Random(f"{model} {post}")
    sureness = round(rng.random(), 3)
    wrong = rng.random() < (0.4 if model == "two" or sureness < 0.4 else 0.01)
    label = truth(post) if not wrong else {"ok": "hate", "hate": "ok"}[truth(post)]
    return {"post": post, "label": label, "confidence": sureness}


def opinion(reviewer: str, post: str) -> str:
    """What a person thinks; now and then they err."""
    wrong = random.Random(f"{reviewer} {post}").random() < 0.01
    return truth(post) if not wrong else {"ok": "hate", "hate": "ok"}[truth(post)]


def build(
    checkpointer: BaseCheckpointSaver[Any], effects: str, *, unsure: Unsure = UNSURE, model: str = "one"
) -> AnyGraph:
    def propose(state: MessagesState) -> dict[str, Any]:
        post = state["messages"][-1].text
        call = {"name": "moderate", "args": proposed(post, model), "id": f"call-{post}"}
        named = {"model_name": model}
        return {"messages": [AIMessage("", tool_calls=[call], response_metadata=named)]}

    policy = Policy([Rule("moderate", "ask", when=unsure), Rule("moderate", "allow")])
    builder = StateGraph(MessagesState)
    builder.add_node("model", propose)
    builder.add_node("tools", ApprovalNode([_moderate(effects)], policy=policy))
    builder.add_edge(START, "model")
    builder.add_edge("model", "tools")
    return builder.compile(checkpointer=checkpointer)


def _moderate(effects: str) -> BaseTool:
    def moderate(post: str, label: str, confidence: float, config: RunnableConfig) -> str:
        """Say what a post is."""
        write_effect(effects, f"{post} {label}")
        return f"{post} is {label}"

    return StructuredTool.from_function(moderate)


def posted(graph: AnyGraph, post: str) -> None:
    """One post, in a thread of its own."""
    graph.invoke({"messages": [HumanMessage(post)]}, config_of(post), durability="sync")


def answered(ledger: Ledger, request: Request, reviewer: str) -> None:
    """A person says what they think."""
    assert request.action is not None
    args = request.action.args
    said = opinion(reviewer, str(args["post"]))
    decision: Decision = approve() if said == args["label"] else edit({**args, "label": said})
    Inbox(ledger).decide(request.id, decision, reviewer=reviewer, digest=request.digest)


def resumed(graph: AnyGraph, ledger: Ledger) -> None:
    """What people decided is carried out."""
    problems = [one.error for one in Worker(graph, ledger).run_once() if one.error is not None]
    assert problems == []
