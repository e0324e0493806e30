"""A small agent with a real side effect, for tests in one process or in many.

`pay` appends one line to a file, so the file says how often it ran, whatever process ran it. The scripted model decides
from the messages alone: what it shall call stands in the first one. So any process can go on where another one died.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import tools_condition
from langgraph.pregel import Pregel

from hitl_graph.effects import idempotent as declare_idempotent
from hitl_graph.ledger import Ledger
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule

Durability = Literal["sync", "async", "exit"]
Graph = CompiledStateGraph[Any, Any, Any, Any]
AnyGraph = Pregel[Any, Any, Any, Any]
Calls = Sequence[dict[str, Any]]


def pay_call(eur: int, to: str = "bob", *, id: str | None = None) -> dict[str, Any]:
    """What the model shall say to call `pay`."""
    return {"name": "pay", "args": {"eur": eur, "to": to}, "id": id or f"pay-{eur}"}


def search_call(q: str, *, id: str | None = None) -> dict[str, Any]:
    return {"name": "search", "args": {"q": q}, "id": id or f"search-{q}"}


def config_of(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


def build(
    checkpointer: BaseCheckpointSaver[Any],
    effects_file: str | os.PathLike[str],
    *,
    policy: Policy | None = None,
    delay: float = 0.0,
    idempotent: bool = False,
    ledger: Ledger | None = None,
    tools: Sequence[BaseTool] | None = None,
) -> Graph:
    """The agent.

    Args:
        checkpointer: Where it pauses.
        effects_file: Gets one line for each time that a tool ran.
        policy: Default: `search` is allowed, everything else is asked about.
        delay: Seconds that `pay` takes, half of them before its effect and half after it.
        idempotent: Declare `pay` idempotent.
        ledger: Needed beside a foreign checkpointer.
        tools: In place of `pay(eur, to)` and `search(q)`.
    """
    if tools is None:
        tools = default_tools(effects_file, delay, idempotent)
    policy = policy or default_policy(tools)
    builder = StateGraph(MessagesState)
    builder.add_node("agent", _model)
    builder.add_node("tools", ApprovalNode(tools, policy=policy, ledger=ledger))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=checkpointer)


def default_tools(effects_file: str | os.PathLike[str], delay: float = 0.0, idempotent: bool = False) -> list[BaseTool]:
    """`pay(eur, to)` and `search(q)`."""
    return [_pay(effects_file, delay, idempotent), _search(effects_file)]


def default_policy(tools: Sequence[BaseTool]) -> Policy:
    """`search` is allowed, everything else is asked about."""
    return Policy([Rule("search", "allow")] if any(tool.name == "search" for tool in tools) else [])


def start(graph: Graph, thread_id: str, calls: Calls | Sequence[Calls], durability: Durability = "sync") -> Any:
    """Run a new thread to its pause. `calls` come in one message, or each list of them in a turn of its own."""
    return graph.invoke(said(calls), config_of(thread_id), durability=durability)


def said(calls: Calls | Sequence[Calls]) -> dict[str, Any]:
    """The input that makes the model make these calls."""
    turns = [calls] if calls and isinstance(calls[0], dict) else list(calls)
    return {"messages": [HumanMessage(json.dumps(turns))]}


def write_effect(effects_file: str | os.PathLike[str], line: str) -> None:
    """Append a line, whole and durable."""
    handle = os.open(effects_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{line}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def ran(effects_file: str | os.PathLike[str]) -> list[str]:
    """What was executed, in that order: `thread call-id pay 10 bob` or `thread call-id search x`."""
    path = Path(effects_file)
    return path.read_text().splitlines() if path.exists() else []


def tool_messages(graph: Graph, thread_id: str) -> list[str]:
    """What the model was told by the tools, in the order of the calls."""
    messages = graph.get_state(config_of(thread_id)).values["messages"]
    return [str(message.content) for message in messages if isinstance(message, ToolMessage)]


def _model(state: MessagesState) -> dict[str, Any]:
    first = cast(HumanMessage, state["messages"][0])
    turns: list[list[Any]] = json.loads(cast(str, first.content))
    taken = sum(isinstance(message, AIMessage) for message in state["messages"])
    return {"messages": [AIMessage("", tool_calls=turns[taken]) if taken < len(turns) else AIMessage("finished")]}


def _pay(effects_file: str | os.PathLike[str], delay: float, idempotent: bool) -> BaseTool:
    def pay(eur: int, to: str, tool_call_id: Annotated[str, InjectedToolCallId], config: RunnableConfig) -> str:
        """Send money."""
        time.sleep(delay / 2)
        write_effect(effects_file, f"{config['configurable']['thread_id']} {tool_call_id} pay {eur} {to}")
        time.sleep(delay / 2)
        return f"paid {eur} to {to}"

    tool = StructuredTool.from_function(pay)
    return declare_idempotent(tool) if idempotent else tool


def _search(effects_file: str | os.PathLike[str]) -> BaseTool:
    def search(q: str, tool_call_id: Annotated[str, InjectedToolCallId], config: RunnableConfig) -> str:
        """Search the web."""
        write_effect(effects_file, f"{config['configurable']['thread_id']} {tool_call_id} search {q}")
        return f"found {q}"

    return StructuredTool.from_function(search)
