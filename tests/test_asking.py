"""Questions whose schema refers to nested models stay answerable while the other calls of the message are answered."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from hitl_graph.inbox import Inbox
from hitl_graph.model import approve
from hitl_graph.nodes import ApprovalNode
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer

pytestmark = pytest.mark.both_databases


class Place(BaseModel):
    city: str


@tool
def ship(to: Place, weights: list[Place] | None = None) -> str:
    """Ship something."""
    return f"shipped to {to.city}"


def test_calls_with_nested_arguments_are_answered_one_after_the_other(db_path: str) -> None:
    def agent(state: MessagesState) -> dict[str, Any]:
        calls = [{"name": "ship", "args": {"to": {"city": city}}, "id": city} for city in ("Bonn", "Cork")]
        return {"messages": [AIMessage("", tool_calls=calls)]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("tools", ApprovalNode([ship]))
    builder.add_edge(START, "agent")
    builder.add_edge("agent", "tools")
    with open_checkpointer(db_path) as saver:
        graph, inbox = builder.compile(checkpointer=saver), Inbox(saver.ledger)
        graph.invoke({"messages": [HumanMessage("go")]}, {"configurable": {"thread_id": "t"}}, durability="sync")
        worker = Worker(graph, saver.ledger)
        for left in ("paused", "finished"):
            inbox.decide(inbox.pending()[0].id, approve(), reviewer="alice")
            [resumed] = worker.run_once()
            assert (resumed.status, resumed.error) == (left, None)
