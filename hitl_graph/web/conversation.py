"""What was said in a thread, as its checkpoints have it: untrusted text for people to read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.ledger import Ledger

__all__ = ["LIMIT", "Call", "Conversation", "Turn", "conversation"]

LIMIT = 200
"""Messages that are shown; of more of them the newest."""


@dataclass(frozen=True)
class Call:
    """A tool call in a message."""

    name: str
    args: str


@dataclass(frozen=True)
class Turn:
    """One message.

    Attributes:
        number: From 1, in the whole conversation.
        who: `user`, `agent`, `system`, `tool` or something else.
        name: Of the tool, or of whoever speaks.
        failed: The tool says that it failed.
    """

    number: int
    who: str
    name: str
    text: str
    calls: tuple[Call, ...]
    failed: bool


@dataclass(frozen=True)
class Conversation:
    """The messages of a thread, oldest first.

    Attributes:
        count: How many there are in all.
        missing: Why there are none; empty where there are some.
    """

    turns: tuple[Turn, ...]
    count: int
    missing: str = ""


def conversation(ledger: Ledger, thread_id: str) -> Conversation:
    """The last messages of a thread. Reads the database: not on the event loop."""
    saver = Checkpointer(ledger.database, directory=ledger.directory)
    try:
        stored = saver.get_tuple({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})
    except Exception as exc:
        return Conversation((), 0, f"Its state cannot be read here ({type(exc).__name__}).")
    if stored is None:
        return Conversation((), 0, "The checkpoints of this thread are not in this database.")
    found = _messages(stored.checkpoint["channel_values"])
    if not found:
        return Conversation((), 0, "The state of this thread has no messages.")
    first = max(0, len(found) - LIMIT)
    return Conversation(tuple(_turn(first + n, one) for n, one in enumerate(found[first:], 1)), len(found))


def _messages(values: dict[str, Any]) -> list[BaseMessage]:
    """The list of messages; where there are several, that under `messages`."""
    lists = [values.get("messages"), *values.values()]
    return next(
        (one for one in lists if isinstance(one, list) and one and all(isinstance(m, BaseMessage) for m in one)), []
    )


def _turn(number: int, message: BaseMessage) -> Turn:
    calls: Sequence[Any] = message.tool_calls if isinstance(message, AIMessage) else ()
    kinds = ((HumanMessage, "user"), (AIMessage, "agent"), (SystemMessage, "system"), (ToolMessage, "tool"))
    who = next((word for kind, word in kinds if isinstance(message, kind)), message.type)
    return Turn(
        number,
        who,
        message.name or "",
        _text(message.content),
        tuple(Call(call["name"], _json(call["args"])) for call in calls),
        isinstance(message, ToolMessage) and message.status == "error",
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts: list[str] = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, dict) and isinstance(text := part.get("text"), str):
            parts.append(text)
        elif isinstance(part, dict):
            parts.append(f"[{part.get('type', 'something else')}]")
    return "\n".join(parts)
