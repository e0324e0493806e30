"""What a chat message becomes: the input of one run. Pure functions.

A model's API refuses a conversation in which a tool call has no answer. So the input of a run that begins while calls
are open answers them first: with what they gave, where that is stored, and else with what is known of them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
    message_to_dict,
    messages_from_dict,
)
from langgraph.types import Command

from hitl_graph.model import Request, canonical

__all__ = ["Said", "answers", "as_input", "closing", "open_calls", "packed", "text_of", "unpacked", "with_closing"]

Said: TypeAlias = str | BaseMessage | Mapping[str, Any]
"""A text, a message, or the input of the graph."""
Call = Mapping[str, Any]


def as_input(said: Said, key: str) -> dict[str, Any]:
    """The input of the graph: a text is a message of the user, and a message goes into the state's `key`.

    Raises:
        TypeError: It is none of these.
        ValueError: There is nothing in it.
    """
    if isinstance(said, str):
        if not said.strip():
            raise ValueError("the message is empty; nothing was sent")
        said = HumanMessage(said)
    if isinstance(said, BaseMessage):
        return {key: [said]}
    if not isinstance(said, Mapping):
        raise TypeError(f"a message is a text, a LangChain message or a dict, the graph's input; not {said!r:.80}")
    if not said:
        raise ValueError("the input is empty; nothing was sent")
    given = {**said}
    if key in given:
        listed = given[key] if isinstance(given[key], list) else [given[key]]
        given[key] = convert_to_messages(listed)
    return given


def text_of(said: Said) -> str | None:
    """The text of what was said, as an answer; None if there is none."""
    text = said if isinstance(said, str) else said.text if isinstance(said, BaseMessage) else ""
    return str(text) if text.strip() else None


def packed(said: Said, key: str) -> str:
    """As JSON, for the ledger.

    Raises:
        TypeError: Something in it is not plain JSON.
        ValueError: There is nothing in it.
    """
    given = as_input(said, key)
    plain = {name: [message_to_dict(one) for one in value] if name == key else value for name, value in given.items()}
    try:
        return canonical({"key": key, "input": plain})
    except TypeError as exc:
        raise TypeError(f"the message cannot be kept until the thread has come to its end: it is {exc}") from exc


def unpacked(text: str, number: int) -> tuple[dict[str, Any], str]:
    """The input that was packed, and the state's key of the messages. Its messages have the same ids each time."""
    content = json.loads(text)
    key, given = str(content["key"]), cast("dict[str, Any]", content["input"])
    if key in given:
        given[key] = messages_from_dict(given[key])
        for position, message in enumerate(given[key]):
            message.id = message.id or f"hitl-message-{number}-{position}"
    return given, key


def open_calls(state: Any, key: str) -> list[Call]:
    """The tool calls at the end of the conversation that have no answer."""
    messages = state.get(key) if isinstance(state, Mapping) else None
    answered = set[str]()
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            calls: Iterable[Any] = [*message.tool_calls, *message.invalid_tool_calls]
            return [call for call in calls if call["id"] and call["id"] not in answered]
        else:
            break
    return []


def answers(writes: Sequence[tuple[str, str, Any]]) -> dict[str, ToolMessage]:
    """The answers to tool calls that a pause keeps for the node's return, by the id of the call."""
    return {message.tool_call_id: message for _, _, value in writes for message in _tool_messages(value)}


def _tool_messages(value: Any) -> Iterator[ToolMessage]:
    if isinstance(value, ToolMessage):
        yield value
    elif isinstance(value, Command):
        yield from _tool_messages(value.update)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tool_messages(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tool_messages(part)


def closing(
    calls: Sequence[Call], done: Mapping[str, ToolMessage], over: Sequence[Request], sender: str
) -> list[ToolMessage]:
    """Answers to open calls.

    Args:
        calls: They.
        done: What some of them gave, by their ids.
        over: The requests for which the thread waits, and which nobody will answer any more.
        sender: Who goes on without the others.
    """
    return [done.get(call["id"]) or _closed(call, over, sender) for call in calls]


def _closed(call: Call, over: Sequence[Request], sender: str) -> ToolMessage:
    name = call["name"] or "unknown"
    request = next((request for request in over if _asks_about(request, call)), None)
    note = (request and request.note) or f"{sender} wrote a new message"
    if request is None or (request.kind == "question" and request.action is not None):
        told = f"It is not known what became of this call of {name}: {note}. Check it before you call it again."
    elif request.kind == "question":
        told = f"The question was not answered: {note}."
    else:
        told = f"This call of {name} did not run: {note}. Do not make it again unless you are asked to."
    return ToolMessage(told, name=name, tool_call_id=call["id"], status="error")


def _asks_about(request: Request, call: Call) -> bool:
    if request.tool_call_id is not None:
        return bool(request.tool_call_id == call["id"])
    asked = [(request.action.name, request.action.args)] if request.action else _actions(request.question)
    return any(name == call["name"] and _same(args, call.get("args")) for name, args in asked)


def _actions(question: Any) -> list[tuple[str, Any]]:
    """Those of a batch of LangChain's middleware."""
    listed = question.get("action_requests") if isinstance(question, dict) else None
    return [(str(action.get("name")), action.get("args")) for action in listed or [] if isinstance(action, dict)]


def _same(one: object, other: object) -> bool:
    try:
        return canonical(one) == canonical(other)
    except TypeError:
        return False


def with_closing(given: Mapping[str, Any], closed: Sequence[ToolMessage], key: str) -> dict[str, Any]:
    """The input, with the answers to open calls before everything else."""
    return {**given, key: [*closed, *given.get(key, ())]} if closed else {**given}
