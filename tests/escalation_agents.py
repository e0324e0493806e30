"""An agent that gets stuck, for tests in one process or in many.

It looks for the same thing until somebody steps in; then it does what it was told. What it does follows from the
messages alone, and each look-up is a line in a file, so that any process can go on where another one died.
"""

import asyncio
import operator
import os
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal, cast

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel, field_validator

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Request
from hitl_graph.nodes import EscalationNode
from hitl_graph.worker import Resumed, Worker
from tests.invariants.agents import write_effect

Graph = CompiledStateGraph[Any, Any, Any, Any]
Colour = Literal["sync", "async"]


class Range(BaseModel):
    """Has a check that no JSON Schema tells."""

    low: int
    high: int = 10

    @field_validator("low")
    @classmethod
    def _even(cls, low: int) -> int:
        if low % 2:
            raise ValueError("odd numbers are not taken")
        return low


class State(MessagesState):
    region: str
    limit: int
    since: date
    range: Range | None
    notes: Annotated[list[str], operator.add]


def config_of(thread_id: str = "t") -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}, "recursion_limit": 100}


def agent(state: Any) -> dict[str, Any]:
    """Does the same again, until it is told something; then finishes with what it was told."""
    messages: list[Any] = state["messages"]
    told = [m for m in messages if isinstance(m, HumanMessage)][1:]
    if told:
        return {"messages": [AIMessage(f"I did as I was told: {told[-1].text.splitlines()[1:-1] or told[-1].text}")]}
    call = {"name": "look", "args": {"q": "x"}, "id": f"call-{len(messages)}"}
    usage: Any = {"input_tokens": 90, "output_tokens": 10, "total_tokens": 100}
    return {"messages": [AIMessage("", tool_calls=[call], usage_metadata=usage)]}


def look_tool(effects: str | os.PathLike[str] | None = None) -> BaseTool:
    def look(q: str) -> str:
        """Look something up."""
        if effects is not None:
            write_effect(effects, f"look {q}")
        return f"nothing found for {q}"

    return StructuredTool.from_function(look)


def build(
    checkpointer: BaseCheckpointSaver[Any] | None,
    *,
    effects: str | os.PathLike[str] | None = None,
    ledger: Ledger | None = None,
    schema: Any = State,
    tools: Sequence[BaseTool] | None = None,
    **options: Any,
) -> Graph:
    """`agent -> tools -> watch -> agent`; options are those of the EscalationNode."""
    builder = StateGraph(schema)
    builder.add_node("agent", agent)
    builder.add_node("tools", ToolNode(tools or [look_tool(effects)]))
    builder.add_node("watch", EscalationNode(**{"resume": "agent", "ledger": ledger, **options}))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "watch")
    return builder.compile(checkpointer=checkpointer)


def start(graph: Graph, thread: str = "t", colour: Colour = "sync", **state: Any) -> Any:
    given = {"messages": [HumanMessage("Look for x", id="first")], "region": "eu", "limit": 100, **state}
    if colour == "async":
        return asyncio.run(graph.ainvoke(given, config_of(thread), durability="sync"))
    return graph.invoke(given, config_of(thread), durability="sync")


def work(graph: Graph, ledger: Ledger, colour: Colour = "sync") -> Resumed:
    """One round of a worker, which has one thread to resume."""
    worker = Worker(graph, ledger, config={"recursion_limit": 100})
    [resumed] = asyncio.run(worker.arun_once()) if colour == "async" else worker.run_once()
    assert resumed.status != "failed", resumed.error
    return resumed


def answer(graph: Graph, ledger: Ledger, decision: Decision, colour: Colour = "sync", thread: str = "t") -> Resumed:
    """Decide the one question of a thread, and resume."""
    inbox = Inbox(ledger)
    [request] = inbox.pending(thread_id=thread)
    inbox.decide(request.id, decision, reviewer="alice", digest=request.digest)
    return work(graph, ledger, colour)


def the_one(ledger: Ledger, thread: str = "t") -> Request:
    [request] = Inbox(ledger).pending(thread_id=thread)
    return request


def values(graph: Graph, thread: str = "t") -> dict[str, Any]:
    return cast("dict[str, Any]", graph.get_state(config_of(thread)).values)


def told(graph: Graph, thread: str = "t") -> list[tuple[str, str]]:
    """The messages as (type, text)."""
    return [(message.type, message.text) for message in values(graph, thread)["messages"]]


def is_valid_history(messages: Sequence[Any]) -> bool:
    """What model providers ask for: each call is answered, once, before anything else is said."""
    open_calls: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in open_calls:
                return False
            open_calls.remove(message.tool_call_id)
            continue
        if open_calls:
            return False
        if isinstance(message, AIMessage):
            open_calls = [str(call["id"]) for call in message.tool_calls]
    return not open_calls
