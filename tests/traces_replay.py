"""Replay recorded agent runs through a graph that asks before each call.

The recorded assistant messages are the model, the recorded outputs are the tools, and a reviewer in another process
approves. Where a run stands can be read from its state: the next message is the recorded one at that position.

    python tests/traces_replay.py DATABASE      the reviewer; ends when its standard input is closed
"""

import gzip
import json
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolRuntime

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel
from hitl_graph.worker import Worker

TRACES = Path(__file__).parents[2] / "shared" / "traces"
Graph = CompiledStateGraph[Any, Any, Any, Any]
REVIEWER = "reviewer@elsewhere"


@dataclass(frozen=True)
class Trace:
    """One recorded run."""

    id: str
    messages: list[dict[str, Any]]

    def at(self, position: int) -> dict[str, Any] | None:
        return self.messages[position] if position < len(self.messages) else None

    def outputs(self) -> list[int]:
        """Positions of the tools' outputs."""
        return [position for position, message in enumerate(self.messages) if message["role"] == "tool"]


def load(path: Path) -> list[Trace]:
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [Trace(row["id"], row["messages"]) for row in rows]


def as_message(recorded: dict[str, Any]) -> BaseMessage:
    if recorded["role"] == "assistant":
        calls = [
            {"name": call["name"], "args": call["arguments"], "id": call["id"]}
            for call in recorded.get("tool_calls") or []
        ]
        return AIMessage(recorded["content"], tool_calls=calls)
    if recorded["role"] == "system":
        return SystemMessage(recorded["content"])
    return HumanMessage(recorded["content"], name=recorded.get("name"))


def as_recorded(message: BaseMessage) -> dict[str, Any]:
    """The other way round."""
    if isinstance(message, ToolMessage):
        return {
            "role": "tool",
            "content": message.content,
            "tool_call_id": message.tool_call_id,
            "name": message.name,
            "status": message.status,
        }
    role = {"human": "user", "ai": "assistant", "system": "system"}[message.type]
    shown: dict[str, Any] = {"role": role, "content": message.content}
    if isinstance(message, AIMessage) and message.tool_calls:
        shown["tool_calls"] = [
            {"id": call["id"], "name": call["name"], "arguments": call["args"]} for call in message.tool_calls
        ]
    if message.name:
        shown["name"] = message.name
    return shown


def expected(trace: Trace) -> list[dict[str, Any]]:
    """The recorded history in the form of `as_recorded`.

    Most outputs were recorded without the name of their tool: it is the one that was called.
    """
    history: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for message in trace.messages:
        shown = {key: value for key, value in message.items() if key != "truncated" and value not in (None, [])}
        shown.setdefault("content", "")
        names.update({call["id"]: call["name"] for call in message.get("tool_calls") or []})
        if message["role"] == "tool":
            shown = {"name": names[message["tool_call_id"]], "status": "success", **shown}
        history.append(shown)
    return history


def thread_of(config: RunnableConfig) -> str:
    return str(config.get("configurable", {})["thread_id"])


class Replay:
    """One graph for all runs; the thread's id says which run is played.

    Attributes:
        ran: How often each output was given, by run and position.
    """

    def __init__(self, traces: Sequence[Trace]) -> None:
        self.traces = {trace.id: trace for trace in traces}
        self.ran: Counter[tuple[str, int]] = Counter()

    def graph(self, checkpointer: BaseCheckpointSaver[Any]) -> Graph:
        builder = StateGraph(MessagesState)
        builder.add_node("agent", self._agent)
        builder.add_node("tools", ApprovalNode(self._tools(), policy=Policy([Rule("*", "ask")])))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", self._route, ["agent", "tools", END])
        builder.add_edge("tools", "agent")
        return builder.compile(checkpointer=checkpointer)

    def _agent(self, state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        """What the user and the system say next, then the model's turn."""
        trace = self.traces[thread_of(config)]
        said: list[BaseMessage] = []
        here = len(state["messages"])
        while (recorded := trace.at(here + len(said))) is not None and recorded["role"] in ("user", "system"):
            said.append(as_message(recorded))
        if recorded is not None:
            model = ScriptedChatModel(lambda messages: cast(AIMessage, as_message(recorded)))
            said.append(model.invoke([*state["messages"], *said] or [HumanMessage("go")]))
        return {"messages": said}

    def _route(self, state: MessagesState, config: RunnableConfig) -> str:
        following = self.traces[thread_of(config)].at(len(state["messages"]))
        if following is None:
            return END
        return "tools" if following["role"] == "tool" else "agent"  # some calls were never carried out

    def _tools(self) -> list[StructuredTool]:
        calls: dict[str, list[dict[str, Any]]] = {}
        for trace in self.traces.values():
            for message in trace.messages:
                for call in message.get("tool_calls") or []:
                    calls.setdefault(call["name"], []).append(call["arguments"])
        return [
            StructuredTool.from_function(self._play, name=name, description=name, args_schema=_schema(arguments))
            for name, arguments in calls.items()
        ]

    def _play(self, runtime: ToolRuntime[None, dict[str, Any]], **arguments: Any) -> str:
        """The output that was recorded for this call."""
        trace = self.traces[thread_of(runtime.config)]
        messages = runtime.state["messages"]
        index = [call["id"] for call in messages[-1].tool_calls].index(runtime.tool_call_id)
        self.ran[trace.id, len(messages) + index] += 1
        return str(trace.messages[len(messages) + index]["content"])


def _schema(calls: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A schema that all recorded calls of a tool fit, as an MCP server would give it."""
    arguments = list(calls)
    names = dict.fromkeys(name for one in arguments for name in one)
    required = [name for name in names if all(name in one for one in arguments)]
    return {"type": "object", "properties": {name: {} for name in names}, "required": required}


def play(traces: Sequence[Trace], graph: Graph, ledger: Ledger, patience: float) -> None:
    """Start all runs, then work for the reviewer until each is finished.

    Raises:
        TimeoutError: Nothing was decided for `patience` seconds.
    """
    waiting = set[str]()
    for trace in traces:
        config: RunnableConfig = {"configurable": {"thread_id": trace.id}, "recursion_limit": 10_000}
        graph.invoke({"messages": []}, config, durability="sync")
        if graph.get_state(config).interrupts:
            waiting.add(trace.id)
    worker = Worker(graph, ledger, config={"recursion_limit": 10_000})
    last = time.monotonic()
    while waiting:
        for resumed in worker.run_once():
            last = time.monotonic()
            if resumed.status == "failed":
                raise RuntimeError(f"{resumed.thread_id} failed") from resumed.error
            if resumed.status == "finished":
                waiting.discard(resumed.thread_id)
        if time.monotonic() - last > patience:
            raise TimeoutError(f"{len(waiting)} runs wait, and nobody decides")
        time.sleep(0.002)


@contextmanager
def reviewer(database: str) -> Generator["subprocess.Popen[bytes]"]:
    """A process that approves whatever is asked in this database."""
    process = subprocess.Popen([sys.executable, __file__, database], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def review(database: str) -> None:
    with Ledger.open(database) as ledger:
        inbox = Inbox(ledger)
        while not select.select([sys.stdin], [], [], 0)[0]:
            pending = inbox.pending(limit=200)
            for request in pending:
                inbox.decide(request.id, approve(), reviewer=REVIEWER, digest=request.digest)
            if not pending:
                time.sleep(0.01)


if __name__ == "__main__":
    review(sys.argv[1])
