"""Replay recorded agent runs through a graph that is watched: what people say to a stuck run comes in between."""

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from hitl_graph.nodes import EscalationNode
from tests.traces_replay import Trace, as_message, thread_of

Graph = CompiledStateGraph[Any, Any, Any, Any]


class Watched:
    """One graph for all runs; the thread's id says which run is played. Its tools need no policy: nothing happens."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self.traces = {trace.id: trace for trace in traces}

    def config(self, thread: str) -> RunnableConfig:
        return {"configurable": {"thread_id": thread}, "recursion_limit": 10_000}

    def messages(self, trace: Trace) -> list[BaseMessage]:
        """The whole run."""
        return [_message(recorded) for recorded in trace.messages]

    def graph(self, checkpointer: BaseCheckpointSaver[Any]) -> Graph:
        builder = StateGraph(MessagesState)
        builder.add_node("play", self._play)
        builder.add_node("watch", EscalationNode(resume="play"))
        builder.add_edge(START, "play")
        builder.add_conditional_edges("play", self._route, ["watch", END])
        return builder.compile(checkpointer=checkpointer)

    def _play(self, state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        """The next turn: up to the model's next message, with what came back for it."""
        trace, here = self.traces[thread_of(config)], _position(state["messages"])
        turn: list[BaseMessage] = []
        while (recorded := trace.at(here + len(turn))) is not None:
            if recorded["role"] == "assistant" and any(isinstance(message, AIMessage) for message in turn):
                break
            turn.append(_message(recorded))
        return {"messages": turn}

    def _route(self, state: MessagesState, config: RunnableConfig) -> str:
        following = self.traces[thread_of(config)].at(_position(state["messages"]))
        return END if following is None else "watch"


def _position(messages: Sequence[BaseMessage]) -> int:
    """How much of the recording has been played: all but what people said in between."""
    return sum(not str(message.id).startswith("hitl-") for message in messages)


def _message(recorded: dict[str, Any]) -> BaseMessage:
    if recorded["role"] == "tool":
        content = cast(str, recorded["content"])
        return ToolMessage(content, tool_call_id=recorded["tool_call_id"], name=recorded.get("name"))
    return as_message({"content": "", **recorded})
