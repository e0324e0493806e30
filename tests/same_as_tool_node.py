"""Run one graph with plain `ToolNode` and with `ApprovalNode`, and compare what comes out.

The plain node is the reference; nothing that it gives is written down here.
"""

import asyncio
import inspect
import itertools
import operator
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send
from typing_extensions import TypedDict

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule

Gate = Literal["allowed", "asked"]
Colour = Literal["sync", "async"]
Graph = CompiledStateGraph[Any, Any, Any, Any]
Tools = Sequence[BaseTool | Callable[..., Any]]
Wiring = Literal["state", "send calls", "send with context", "subgraph"]


class State(TypedDict, total=False):
    messages: Annotated[list[BaseMessage], add_messages]
    user: str
    notes: Annotated[list[str], operator.add]


@dataclass(frozen=True)
class Run:
    """What came out of a run: the final state or the exception, and what was seen on the way."""

    values: Any
    error: tuple[str, str] | None
    custom: list[Any]
    pauses: int

    def messages(self, key: str = "messages") -> list[dict[str, Any]]:
        values = self.values if isinstance(self.values, list) else read(self.values, key)
        return [plain(message) for message in values]

    @property
    def answers(self) -> list[str]:
        """The contents of the tool messages."""
        return [str(message["content"]) for message in self.messages() if message["type"] == "tool"]


@dataclass(frozen=True)
class Scene:
    """A graph around a node that runs tools.

    Args:
        tools: Makes the tools afresh for each run.
        calls: What the model calls, all in its first message.
        state: The state's type, or `list` for a graph whose state is the list of messages.
        wiring: How the calls get to the node.
        given: Goes into the first input beside the messages.
        node: More arguments of the node.
        extra: More nodes of the graph, as (name, function); each leads to the end.
        answer: Given to an `interrupt()` of a tool itself.
    """

    tools: Callable[[], Tools]
    calls: Sequence[dict[str, Any]]
    state: Any = State
    wiring: Wiring = "state"
    given: dict[str, Any] = field(default_factory=dict)
    node: dict[str, Any] = field(default_factory=dict)
    extra: Sequence[tuple[str, Callable[..., Any]]] = ()
    context: Any = None
    messages_key: str = "messages"
    answer: Any = "yes"
    message: Callable[[list[dict[str, Any]]], AIMessage] = lambda calls: AIMessage("", tool_calls=list(calls), id="m1")

    def run(self, gate: Gate | None, colour: Colour, checkpointer: BaseCheckpointSaver[Any], **config: Any) -> Run:
        """Run it to its end, approving whatever is asked. No gate: plain `ToolNode`."""
        graph = self.build(gate, checkpointer)
        return asyncio.run(self.drive(graph, colour, cast(RunnableConfig, config)))

    def build(self, gate: Gate | None, checkpointer: BaseCheckpointSaver[Any]) -> Graph:
        return self.outer(self._node(gate)).compile(checkpointer=checkpointer, store=InMemoryStore())

    def _node(self, gate: Gate | None) -> ToolNode:
        options: dict[str, Any] = {"messages_key": self.messages_key, **self.node}
        if gate is None:
            return ToolNode(self.tools(), **options)
        policy = Policy([Rule("*", "allow" if gate == "allowed" else "ask")])
        return ApprovalNode(self.tools(), policy=policy, **options)

    def outer(self, node: ToolNode) -> "StateGraph[Any, Any, Any, Any]":
        schema: Any = Annotated[list[BaseMessage], add_messages] if self.state is list else self.state
        context = {} if self.context is None else {"context_schema": type(self.context)}
        builder: StateGraph[Any, Any, Any, Any] = StateGraph(schema, **context)

        def model(state: Any) -> Any:
            messages = self._messages(state)
            said = AIMessage("done") if isinstance(messages[-1], BaseMessage) and len(messages) > 1 else None
            said = said or self.message([{"type": "tool_call", **call} for call in self.calls])
            return [said] if self.state is list else {self.messages_key: [said]}

        def route(state: Any) -> Any:
            calls = cast(AIMessage, self._messages(state)[-1]).tool_calls
            if self.wiring == "send calls":
                return [Send("tools", [call]) for call in calls] or END
            if self.wiring == "send with context":
                context = {"__type": "tool_call_with_context", "state": state}
                return [Send("tools", {**context, "tool_call": call}) for call in calls] or END
            return tools_condition(state, self.messages_key)

        builder.add_node("agent", model)
        builder.add_edge(START, "agent")
        if self.wiring == "subgraph":
            inner: StateGraph[Any, Any, Any, Any] = StateGraph(schema, **context)
            inner.add_node("tools", node)
            inner.add_edge(START, "tools")
            builder.add_node("tools", inner.compile())
        else:
            builder.add_node("tools", node)
        builder.add_conditional_edges("agent", route, ["tools", END])
        builder.add_edge("tools", "agent")
        for name, function in self.extra:
            builder.add_node(name, function)
            builder.add_edge(name, END)
        return builder

    def _messages(self, state: Any) -> list[BaseMessage]:
        return cast(list[BaseMessage], state if isinstance(state, list) else read(state, self.messages_key))

    async def drive(self, graph: Graph, colour: Colour, config: RunnableConfig) -> Run:
        config = {**config, "configurable": {"thread_id": "1", **config.get("configurable", {})}}
        question = [HumanMessage("go", id="h1")]
        given: Any = question if self.state is list else {self.messages_key: question, **self.given}
        custom: list[Any] = []
        values: Any = None
        for pauses in itertools.count():
            try:
                async for mode, part in self._stream(graph, colour, given, config):
                    if mode == "custom":
                        custom.append(part)
                    elif not (isinstance(part, dict) and "__interrupt__" in part):
                        values = part
            except Exception as error:
                return Run(values, (type(error).__name__, str(error)), custom, pauses)
            state = await graph.aget_state(config) if colour == "async" else graph.get_state(config)
            if not state.interrupts:
                return Run(values, None, custom, pauses)
            given = Command(resume={pause.id: self._answer(pause.value) for pause in state.interrupts})
        raise AssertionError("unreachable")

    def _answer(self, asked: Any) -> Any:
        return {"type": "approve"} if isinstance(asked, dict) and "hitl" in asked else self.answer

    async def _stream(
        self, graph: Graph, colour: Colour, given: Any, config: RunnableConfig
    ) -> AsyncIterator[tuple[str, Any]]:
        how: dict[str, Any] = {"stream_mode": ["values", "custom"], "context": self.context, "durability": "sync"}
        if colour == "async":
            parts: Any = graph.astream(given, config, **how)
            async for part in parts:
                yield part
        else:  # in a thread without a loop, as sync programs are
            seen: Any = await asyncio.to_thread(lambda: list(graph.stream(given, config, **how)))
            for part in seen:
                yield part


def same(scene: Scene, gate: Gate, colour: Colour, db_path: str, *, key: str = "messages", **config: Any) -> Run:
    """Assert that both nodes give the same; returns the run with `ApprovalNode`."""
    runs: list[Run] = []
    for choice in (None, gate):
        with SqliteCheckpointer(f"{db_path}-{choice}") as checkpointer:
            runs.append(scene.run(choice, colour, checkpointer, **config))
            report = checkpointer.ledger.verify_audit()
            assert report.ok, report.problem
    reference, ours = runs
    assert ours.error == reference.error
    assert ours.custom == reference.custom
    if reference.error is None:
        assert ours.messages(key) == reference.messages(key)
        assert others(ours.values, key) == others(reference.values, key)
    assert gate == "allowed" or ours.pauses > reference.pauses or not scene.calls
    return ours


def read(values: Any, key: str) -> Any:
    return values[key] if isinstance(values, dict) else getattr(values, key)


def others(values: Any, key: str) -> Any:
    if isinstance(values, list):
        return None
    fields = values if isinstance(values, dict) else vars(values)
    return {name: value for name, value in fields.items() if name != key}


def plain(message: BaseMessage) -> dict[str, Any]:
    """A message without what is random in it."""
    fields = message.model_dump()
    if message.id not in ("h1", "m1"):
        del fields["id"]
    if isinstance(message.content, list):
        fields["content"] = [
            {name: value for name, value in block.items() if name != "id"} if isinstance(block, dict) else block
            for block in message.content
        ]
    return fields


def call(name: str, /, id: str = "c1", **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": id}


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def rename(user: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Rename the user."""
    return Command(update={"user": user, "messages": [ToolMessage(f"now {user}", tool_call_id=tool_call_id)]})


def coloured(colour: Colour, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, or the same as a coroutine function."""
    if colour == "sync":
        return function

    async def twin(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    twin.__name__, twin.__doc__ = function.__name__, function.__doc__
    twin.__annotations__ = function.__annotations__
    twin.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return twin
