"""An agent to chat with, in one process or in many. Its model refuses open tool calls, as the APIs of models do.

It makes the calls that the last message spells out as JSON, and else says what it heard. `pay` appends a line to a
file, so the file says how often it ran. A message that begins with `fail` or `hold` makes the model do that, until
there is a file `healed`.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Send, interrupt

from hitl_graph.ledger import Ledger
from hitl_graph.nodes import ApprovalNode, ask_human
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel

__all__ = ["Graph", "agent", "calls", "conversation", "of", "paid", "plain_agent"]

Graph = CompiledStateGraph[Any, Any, Any, Any]


def calls(*eurs: int, name: str = "pay") -> str:
    """What to say so that the model calls `pay`, once for each amount."""
    return json.dumps([{"name": name, "args": {"eur": eur}, "id": f"{name}-{eur}"} for eur in eurs])


def of(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


def agent(
    saver: BaseCheckpointSaver[Any],
    folder: str | os.PathLike[str],
    ledger: Ledger | None = None,
    *,
    sends: bool = False,
) -> Graph:
    """The agent; `pay` is asked about, `note` and `ask_human` are not."""

    @tool
    def pay(eur: int) -> str:
        """Send money."""
        _append(folder, f"pay {eur}")
        return f"paid {eur}"

    @tool
    def note(eur: int) -> str:
        """Note an amount."""
        _append(folder, f"note {eur}")
        return f"noted {eur}"

    policy = Policy(
        [
            Rule("note", "allow"),
            Rule("ask_human", "allow"),
            Rule("pay", "ask", when=lambda call: call.args["eur"] < 1000),
            Rule("pay", "ask", when=lambda call: call.args["eur"] >= 1000, allowed=("approve", "reject")),
        ]
    )
    return _built(saver, folder, ApprovalNode([pay, note, ask_human()], policy=policy, ledger=ledger), sends)


def plain_agent(saver: BaseCheckpointSaver[Any], folder: str | os.PathLike[str]) -> Graph:
    """As LangGraph has it: a tool that asks by itself, in a node that knows nothing of this library."""

    @tool
    def pay(eur: int) -> str:
        """Send money."""
        answer = interrupt(f"pay {eur}?")
        _append(folder, f"pay {eur}")
        return f"paid {eur}, for they said {answer}"

    return _built(saver, folder, ToolNode([pay]))


def _built(
    saver: BaseCheckpointSaver[Any], folder: str | os.PathLike[str], tools: ToolNode, sends: bool = False
) -> Graph:
    model = ScriptedChatModel(_reply, strict=True)

    def heard(state: MessagesState) -> dict[str, Any]:
        text = str(state["messages"][-1].content)
        if isinstance(state["messages"][-1], HumanMessage):
            _append(folder, f"run {text}")
        if text.startswith("fail") and not Path(folder, "healed").exists():
            raise ConnectionError("the model is down")
        if text.startswith("hold"):  # until somebody kills this process
            Path(folder, "stopped").touch()
            while not Path(folder, "healed").exists():
                time.sleep(0.01)
        return {"messages": [model.invoke(state["messages"])]}

    async def aheard(state: MessagesState) -> dict[str, Any]:
        return heard(state)

    builder = StateGraph(MessagesState)
    builder.add_node("agent", RunnableLambda(heard, aheard))
    builder.add_node("tools", tools)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", _each_alone if sends else tools_condition, ["tools", END])
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


def _reply(messages: list[BaseMessage]) -> str | AIMessage:
    last = messages[-1]
    if isinstance(last, HumanMessage) and str(last.content).startswith("["):
        return AIMessage("", tool_calls=json.loads(str(last.content)))
    return "done" if isinstance(last, ToolMessage) else f"heard {last.content}"


def _each_alone(state: MessagesState) -> list[Send] | str:
    last = state["messages"][-1]
    return [Send("tools", [call]) for call in getattr(last, "tool_calls", [])] or END


def _append(folder: str | os.PathLike[str], line: str) -> None:
    handle = os.open(Path(folder) / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def paid(folder: str | os.PathLike[str], word: str = "pay") -> list[str]:
    """What ran, in that order: `pay 5`, `note 5`; with `run`, the messages with which the model began to work."""
    path = Path(folder) / "effects"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.startswith(word)]


def conversation(graph: Graph, thread_id: str) -> list[str]:
    """Who said what: `human: ...`, `ai: ...`, `tool: ...`; calls as `ai: [names]`."""
    return [
        f"{message.type}: {[call['name'] for call in message.tool_calls]}"
        if isinstance(message, AIMessage) and message.tool_calls
        else f"{message.type}: {message.content}"
        for message in graph.get_state(of(thread_id)).values["messages"]
    ]
