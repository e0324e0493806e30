"""The model of every way to build the agent: it reads from the conversation alone what it shall call next.

So any process can go on where another one died, whichever agent of a team it belongs to.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.graph import MessagesState

from hitl_graph.testing import ScriptedChatModel
from hitl_graph.testing.model import Reply

__all__ = ["chat_model", "model_node", "next_reply", "told", "turns_of"]

Path_ = str | os.PathLike[str]


def turns_of(messages: Sequence[BaseMessage]) -> list[list[dict[str, Any]]]:
    """The script: the first message of a person that is JSON."""
    for message in messages:
        if isinstance(message, HumanMessage) and str(message.content).startswith("["):
            turns: list[list[dict[str, Any]]] = json.loads(str(message.content))
            return turns
    return []


def next_reply(messages: Sequence[BaseMessage], effects_file: Path_) -> Reply:
    """The calls of the next turn; at the end, a note of what the tools told the model, and a text."""
    turns = turns_of(messages)
    scripted = {call["id"] for turn in turns for call in turn}
    made = [m for m in messages if isinstance(m, AIMessage) and {call["id"] for call in m.tool_calls} & scripted]
    if len(made) < len(turns):
        return AIMessage("", tool_calls=turns[len(made)])
    heard = {m.tool_call_id: str(m.content) for m in messages if isinstance(m, ToolMessage)}
    _note(effects_file, {call: text for call, text in heard.items() if call in scripted})
    return "finished"


def chat_model(effects_file: Path_) -> ScriptedChatModel:
    """For what wants a chat model."""

    def reply(messages: list[BaseMessage]) -> Any:
        return next_reply(messages, effects_file)

    return ScriptedChatModel(reply)


def model_node(effects_file: Path_) -> Any:
    """For a graph that calls its model in a node."""
    model = chat_model(effects_file)

    def agent(state: MessagesState) -> dict[str, list[AnyMessage]]:
        return {"messages": [model.invoke(state["messages"])]}

    return agent


def told(effects_file: Path_) -> dict[str, str]:
    """What the model was told, by the id of the call."""
    notes = Path(f"{os.fspath(effects_file)}.told")
    lines = notes.read_text().splitlines() if notes.exists() else []
    heard: dict[str, str] = {}
    for line in lines:
        heard |= json.loads(line)
    return heard


def _note(effects_file: Path_, heard: dict[str, str]) -> None:
    with Path(f"{os.fspath(effects_file)}.told").open("a") as notes:
        notes.write(json.dumps(heard) + "\n")
