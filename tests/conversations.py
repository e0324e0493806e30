"""Agents that talk, with a person's place among them, for tests in one process or in many.

What an agent says follows from how often it has spoken, so that any process can go on where another one died. Tools
write a line to a file when they run.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Request
from hitl_graph.nodes import ApprovalNode, CodeBlocksNode, CodeResult, UserProxyNode, code_tool
from hitl_graph.policy import Policy
from hitl_graph.termination import mark_of, source
from hitl_graph.worker import Resumed, Worker
from tests.escalation_agents import config_of
from tests.invariants.agents import write_effect

Graph = CompiledStateGraph[Any, Any, Any, Any]
Colour = Literal["sync", "async"]
Line = str | Sequence[dict[str, Any]]


class State(MessagesState):
    stop_reason: NotRequired[str | None]


def call(name: str, id: str | None = None, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": id or f"call-{name}"}


def agent(name: str, lines: Sequence[Line]) -> Any:
    """Says its lines, one a turn, and the last one again and again."""

    def speak(state: MessagesState) -> dict[str, Any]:
        own = (m for m in state["messages"] if isinstance(m, AIMessage) and source(m) == name)
        line = lines[min(sum(not mark_of(message).get("code") for message in own), len(lines) - 1)]
        usage: Any = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
        said: Any = {"content": line} if isinstance(line, str) else {"content": "", "tool_calls": list(line)}
        return {"messages": [AIMessage(**said, name=name, usage_metadata=usage)]}

    return speak


def pay_tool(effects: Path) -> BaseTool:
    def pay(eur: int) -> str:
        """Send money."""
        write_effect(effects, f"pay {eur}")
        return f"paid {eur}"

    return StructuredTool.from_function(pay)


def run_tool(effects: Path) -> BaseTool:
    """Pretends to run code: a line for each block; what has `fail` in it fails."""

    def runner(language: str, code: str) -> CodeResult:
        write_effect(effects, f"{language} {code.strip()}")
        return CodeResult(1, "no such file") if "fail" in code else CodeResult(0, f"ran {code.strip()}")

    return code_tool(runner)


def build(
    saver: BaseCheckpointSaver[Any] | None,
    lines: Sequence[Line],
    *,
    effects: Path | None = None,
    policy: Policy | None = None,
    ledger: Ledger | None = None,
    **options: Any,
) -> Graph:
    """`assistant -> user -> assistant`, with tools and code where `effects` is given; options are the node's."""
    builder = StateGraph(State)
    builder.add_node("assistant", agent("assistant", lines))
    builder.add_edge(START, "assistant")
    builder.add_edge("assistant", "user")
    if effects is not None:
        tools = ApprovalNode([pay_tool(effects), run_tool(effects)], policy=policy, ledger=ledger)
        builder.add_node("tools", tools)
        builder.add_node("code", CodeBlocksNode("assistant"))
        builder.add_edge("tools", "code")
        options = {"tools": "tools", "code": "code", **options}
    builder.add_node("user", UserProxyNode("assistant", ledger=ledger, **options))
    return builder.compile(checkpointer=saver)


class Talk:
    """A thread, its people and a worker."""

    def __init__(self, graph: Graph, ledger: Ledger, colour: Colour = "sync", thread: str = "t") -> None:
        self.graph, self.ledger, self.colour, self.thread = graph, ledger, colour, thread
        self.inbox = Inbox(ledger)

    def say(self, text: str = "go") -> Any:
        """A message of the end user: the graph runs to its next pause, or to the end."""
        given = {"messages": [HumanMessage(text)]}
        if self.colour == "async":
            return asyncio.run(self.graph.ainvoke(given, config_of(self.thread), durability="sync"))
        return self.graph.invoke(given, config_of(self.thread), durability="sync")

    def asked(self) -> Request:
        [request] = self.inbox.pending(thread_id=self.thread)
        return request

    def answer(self, decision: Decision, *, reviewer: str = "alice") -> Resumed:
        request = self.asked()
        self.inbox.decide(request.id, decision, reviewer=reviewer, digest=request.digest)
        return self.work()

    def work(self) -> Resumed:
        worker = Worker(self.graph, self.ledger, config={"recursion_limit": 100})
        found = asyncio.run(worker.arun_once()) if self.colour == "async" else worker.run_once()
        [resumed] = [one for one in found if one.thread_id == self.thread]
        assert resumed.status != "failed", resumed.error
        return resumed

    @property
    def values(self) -> dict[str, Any]:
        values: dict[str, Any] = self.graph.get_state(config_of(self.thread)).values
        return values

    def texts(self) -> list[str]:
        """What was said, by all."""
        return [message.text for message in self.values["messages"]]

    @property
    def ended(self) -> str | None:
        """Why it is at its end; None if it is not."""
        return None if self.graph.get_state(config_of(self.thread)).next else self.values.get("stop_reason")

    def waits(self) -> bool:
        return bool(self.inbox.pending(thread_id=self.thread))
