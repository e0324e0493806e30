"""Which requests an interrupt asks: our own, LangChain's middleware's, or a plain `interrupt()`'s."""

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import JsonValue

from hitl_graph.model import WORDS, Action, Request, Word, canonical, request_id
from hitl_graph.wire.showing import excerpt

__all__ = ["recognise"]


def recognise(thread_id: str, interrupt_id: str, value: Any, schema: Any = None) -> list[Request]:
    """The requests that an interrupt asks, at least one. Never fails: what is unknown becomes a plain question.

    Args:
        thread_id: Thread that waits.
        interrupt_id: Which of its interrupts.
        value: What it shows.
        schema: Its `response_schema`, a JSON Schema of the answer.
    """
    try:
        return _ours(thread_id, interrupt_id, value) or [_foreign(thread_id, interrupt_id, value, schema)]
    except (ValueError, LookupError, TypeError, AttributeError):
        return [
            Request(
                id=request_id(thread_id, interrupt_id),
                kind="question",
                thread_id=thread_id,
                interrupt_id=interrupt_id,
                question=_plain(value),
                allowed=("respond",),
                answer_schema=_plain_schema(schema),
                answer_shape="raw",
                reason="the graph called interrupt()",
            )
        ]


def _ours(thread_id: str, interrupt_id: str, value: Any) -> list[Request] | None:
    """Our own requests, whatever the client for which they are shown; None if a word of it is not as we wrote it."""
    carrier = value[0] if isinstance(value, list) and value else value
    shown = carrier.get("hitl") if isinstance(carrier, Mapping) else None
    if not isinstance(shown, Mapping):
        return None
    canonical(value)
    parts = shown["requests"] if "requests" in shown else [shown]
    try:
        found = [(Request.model_validate(part["request"]), part["digest"]) for part in parts]
    except (ValueError, LookupError, TypeError):
        return None
    requests = [request for request, _ in found]
    genuine = all(
        (request.id, request.thread_id, request.interrupt_id, request.digest)
        == (request_id(thread_id, interrupt_id, request.position or 0), thread_id, interrupt_id, digest)
        for request, digest in found
    )
    return requests if genuine and len({request.id for request in requests}) == len(requests) else None


def _foreign(thread_id: str, interrupt_id: str, value: Any, schema: Any) -> Request:
    own = request_id(thread_id, interrupt_id)
    if not isinstance(value, Mapping):
        raise TypeError("a plain question")
    canonical(value)
    if "action_requests" in value:
        return _middleware(own, thread_id, interrupt_id, value)
    if value["type"] != "tool_approval":
        raise ValueError("a plain question")
    return Request(
        id=own,
        kind="approval",
        thread_id=thread_id,
        interrupt_id=interrupt_id,
        action=Action(name=value["name"], args=value["args"]),
        allowed=_offered(schema),
        answer_schema=_edit_schema(schema),
        description=str(value.get("description") or ""),
        tool_call_id=value.get("tool_call_id"),
        answer_shape="tool_approval",
        reason="asked by LangChain's middleware",
    )


def _middleware(own: str, thread_id: str, interrupt_id: str, value: Mapping[str, Any]) -> Request:
    actions = [Action(name=a["name"], args=a["args"]) for a in value["action_requests"]]
    offered = [set(c["allowed_decisions"]) for c in value["review_configs"]]
    allowed = set.intersection(*offered) & set(WORDS)
    if len(actions) > 1:  # one answer for all of them: no single edit or text could be meant for each
        allowed -= {"edit", "respond"}
    if not allowed:
        raise ValueError("no one answer fits all of them: whoever answers has to spell them out")
    return Request(
        id=own,
        kind="approval",
        thread_id=thread_id,
        interrupt_id=interrupt_id,
        action=actions[0] if len(actions) == 1 else None,
        question=None if len(actions) == 1 else _plain(value),
        allowed=tuple(word for word in WORDS if word in allowed),
        description=str(value["action_requests"][0].get("description") or ""),
        answer_shape="middleware",
        reason="asked by LangChain's middleware",
    )


def _offered(schema: Any) -> tuple[Word, ...]:
    """The decisions that LangChain's answer schema takes: one branch a decision, each with its `type`."""
    branches = [schema, *schema.get("$defs", {}).values()] if isinstance(schema, dict) else []
    types = {branch.get("properties", {}).get("type", {}).get("const") for branch in branches}
    return tuple(word for word in WORDS if word in types) or WORDS


def _edit_schema(schema: Any) -> dict[str, JsonValue] | None:
    """The schema of an edit's arguments in LangChain's answer schema."""
    if not isinstance(schema, dict) or "EditedAction" not in (named := schema.get("$defs", {})):
        return None
    return _plain_schema({"$defs": named, **named["EditedAction"]["properties"]["args"]})


def _plain_schema(schema: Any) -> dict[str, JsonValue] | None:
    plain = _plain(schema) if isinstance(schema, dict) else None
    return plain if isinstance(plain, dict) else None


def _plain(value: Any) -> JsonValue:
    try:
        return cast(JsonValue, json.loads(canonical(value)))
    except TypeError:
        return excerpt(value)
