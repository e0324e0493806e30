"""What a model was given and what it answers, as the messages that chat models are trained with. No I/O.

A call of a tool is a message with `tool_calls`, its arguments as an object, as chat templates take them; a draft is a
text, and JSON is its text.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

__all__ = ["Message", "Unusable", "answer", "conversation", "prompt", "text"]

Message = dict[str, Any]

_ROLES = {role: role for role in ("system", "developer", "user", "assistant", "tool")} | {
    "human": "user",
    "ai": "assistant",
}


class Unusable(Exception):
    """Why a format has no row for an example, in words that are the same for all such examples."""


def prompt(value: JsonValue) -> list[Message]:
    """What the model was given: its messages, or one message with all of it.

    Raises:
        Unusable: Nothing is known of it, or no model can go on from there.
    """
    if value in (None, "", [], {}):
        raise Unusable("no input is known")
    messages = conversation(value)
    if messages is None:
        return [{"role": "user", "content": text(value)}]
    if messages[-1]["role"] not in ("user", "tool"):
        raise Unusable("the input does not end with a message to the model")
    return messages


def answer(tool: str | None, value: JsonValue) -> Message:
    """What the model says: a call of a tool with these arguments, or a draft.

    Raises:
        Unusable: A call without arguments.
    """
    if tool is None:
        return {"role": "assistant", "content": text(value)}
    if not isinstance(value, dict):
        raise Unusable("the call has no arguments")
    return {"role": "assistant", "content": "", "tool_calls": [_call(tool, value)]}


def conversation(value: JsonValue) -> list[Message] | None:
    """The messages, if it is a list of them.

    Raises:
        Unusable: They hold what a model of texts cannot be given.
    """
    if not isinstance(value, list) or not value:
        return None
    found = [one for one in value if isinstance(one, dict) and isinstance(one.get("role"), str)]
    if len(found) < len(value) or not all("content" in one or "tool_calls" in one for one in found):
        return None
    return [_message(one) for one in found]


def text(value: JsonValue) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _message(given: Mapping[str, Any]) -> Message:
    if (role := _ROLES.get(given["role"])) is None:
        raise Unusable("the input has a message of an unknown role")
    message: Message = {"role": role, "content": _content(given.get("content"))}
    if calls := given.get("tool_calls"):
        message["tool_calls"] = [_called(call) for call in calls]
    return message | {key: given[key] for key in ("name", "tool_call_id") if isinstance(given.get(key), str)}


def _content(given: Any) -> str:
    if given is None or isinstance(given, str):
        return given or ""
    parts = given if isinstance(given, list) else [given]
    found = [part.get("text") if isinstance(part, dict) else part for part in parts]
    texts = [part for part in found if isinstance(part, str)]
    if len(texts) < len(found):
        raise Unusable("the input is not only text")
    return "".join(texts)


def _called(call: Any) -> dict[str, Any]:
    """A call in the shape of OpenAI, or of LangChain."""
    made = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(made, dict) or not isinstance(made.get("name"), str):
        raise Unusable("the input has a tool call of an unknown shape")
    args = made.get("arguments", made.get("args"))
    if isinstance(args, str):
        try:
            args = json.loads(args)
        except ValueError:
            args = None
    if not isinstance(args, dict):
        raise Unusable("the input has a tool call of an unknown shape")
    named = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return named | _call(made["name"], args)


def _call(tool: str, args: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool, "arguments": dict(args)}}
