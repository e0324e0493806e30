"""Recorded histories, one JSON object a line: `{"id": ..., "messages": [OpenAI-style messages]}`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

__all__ = ["Recording", "read_lines", "to_messages"]


@dataclass(frozen=True)
class Recording:
    """One recorded history."""

    id: str
    messages: list[BaseMessage]


def read_lines(lines: Iterable[str]) -> Iterator[Recording]:
    """The histories of a JSONL file, one a line; empty lines are passed over.

    Raises:
        ValueError: Says which line is wrong, and how.
    """
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            recording = _recording(line)
        except ValueError as exc:
            raise ValueError(f"line {number}: {exc}") from exc
        if recording.id in seen:
            raise ValueError(f"line {number}: there was an id {recording.id!r:.80} before")
        seen.add(recording.id)
        yield recording


def _recording(line: str) -> Recording:
    try:
        found = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as exc:
        raise ValueError(f"not JSON ({exc})") from exc
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    match found.get("id"), found.get("messages"):
        case str(id_), list(messages) if id_:
            return Recording(id_, to_messages(messages))
        case str(id_), _ if id_:
            raise ValueError('has no "messages" list')
        case _:
            raise ValueError('has no "id" text')


def to_messages(recorded: Sequence[Mapping[str, Any]]) -> list[BaseMessage]:
    """OpenAI-style messages as LangChain's.

    As `langchain_core.messages.convert_to_messages`, but of the looser kind that recordings are: calls as
    `{id, name, arguments}` with or without `function` around it, arguments as an object or as text (what is no JSON
    becomes an invalid tool call), results without the id of their call, unknown keys.

    Raises:
        ValueError: Says which message is none, and why.
    """
    return [_message(index, one) for index, one in enumerate(recorded)]


def _message(index: int, one: object) -> BaseMessage:
    if not isinstance(one, Mapping):
        raise ValueError(f"messages[{index}] is no object")
    content, name = _content(index, one.get("content")), one.get("name")
    more: dict[str, Any] = {"name": name} if isinstance(name, str) and name else {}
    match one.get("role"):
        case "system" | "developer":
            return SystemMessage(content, **more)
        case "user" | "human":
            return HumanMessage(content, **more)
        case "tool" | "function":
            return ToolMessage(content, tool_call_id=str(one.get("tool_call_id") or ""), **more)
        case "assistant" | "ai":
            good, bad = _calls(index, one.get("tool_calls") or ())
            return AIMessage(content, tool_calls=good, invalid_tool_calls=bad, **more)
        case role:
            raise ValueError(f"messages[{index}] has the role {role!r}, not system, user, assistant or tool")


def _content(index: int, content: object) -> Any:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, str | dict) for part in content):
        return content
    raise ValueError(f"messages[{index}] has a content that is neither text nor a list of blocks")


def _calls(index: int, calls: object) -> tuple[list[Any], list[Any]]:
    good: list[Any] = []
    bad: list[Any] = []
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise ValueError(f"messages[{index}] has tool_calls that are no list")
    for call in calls:
        inner = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise ValueError(f"messages[{index}] has a tool call without a name")
        args, id_ = inner.get("arguments", inner.get("args")), call.get("id")
        if isinstance(args, str):
            try:
                args = json.loads(args)
            except ValueError:
                pass
        if args is None or isinstance(args, Mapping):
            good.append({"name": inner["name"], "args": dict(args or {}), "id": id_, "type": "tool_call"})
        else:
            bad.append(
                {"name": inner["name"], "args": str(args), "id": id_, "error": None, "type": "invalid_tool_call"}
            )
    return good, bad
