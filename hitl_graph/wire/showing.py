"""What an interrupt shows: plain JSON that a client renders, with our own requests beside it, whole.

`hitl` in it is ours: a lone first request as its digest and itself, several (or what is left of several) as a list of
these. Clients leave keys that they do not know alone.
"""

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from hitl_graph.model import Action, Request

__all__ = ["MARK", "Shape", "about", "ag_ui", "bridge", "excerpt", "human_interrupt", "ours"]

Shape = Callable[[Sequence[Request]], Any]
"""Makes what an interrupt shows of the requests that it asks."""


MARK = "hitl_request"
"""The name under which a request is named among its arguments, for a client that sends nothing else back."""


def bridge(requests: Sequence[Request]) -> dict[str, Any]:
    """LangChain's `HITLRequest`, with the arguments under both of their names: both pages of LangChain render it."""
    asked = [(request, about(request)) for request in requests]
    return {
        "action_requests": [_action(request, action) for request, action in asked],
        "review_configs": [
            {"action_name": action.name, "allowed_decisions": list(request.allowed)} for request, action in asked
        ],
        "hitl": ours(requests),
    }


def _action(request: Request, action: Action) -> dict[str, Any]:
    args = _without_nulls(action)
    return {"name": action.name, "args": args, "arguments": args, "description": request.description}


def _without_nulls(action: Action) -> dict[str, Any]:
    return {name: value for name, value in action.args.items() if value is not None}  # null crashes Agent Inbox


def human_interrupt(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """LangGraph's older `HumanInterrupt`, of which Agent Inbox draws one.

    Agent Inbox sends the arguments back with what is accepted or edited, and nothing else; so the request is named
    among them. Editing is always on, for otherwise it sends nothing back, and crashes on a number.
    """
    first, action = requests[0], about(requests[0])
    shown = {"action": action.name, "args": {**_without_nulls(action), MARK: first.id}}
    config = {
        "allow_accept": "approve" in first.allowed,
        "allow_edit": not {"approve", "edit"}.isdisjoint(first.allowed),
        "allow_respond": not {"respond", "reject"}.isdisjoint(first.allowed),
        "allow_ignore": "reject" in first.allowed,
    }
    return [{"action_request": shown, "config": config, "description": first.description, "hitl": ours(requests)}]


def ag_ui(requests: Sequence[Request]) -> dict[str, Any]:
    """As `bridge`, with what the AG-UI adapter for LangGraph makes AG-UI's own interrupt of."""
    first = requests[0]
    is_call = first.kind == "approval" and first.tool_call_id is not None
    reason = "tool_call" if is_call else "input_required" if first.kind == "question" else f"hitl:{first.kind}"
    named: dict[str, Any] = {"request_id": {"const": first.id}, "digest": {"const": first.digest}}
    if is_call:
        answer: dict[str, Any] = {"approved": {"type": "boolean"}, "message": {"type": "string"}}
        if "edit" in first.allowed:
            answer["editedArgs"] = first.answer_schema or {"type": "object"}
    else:
        answer = {"type": {"enum": list(first.allowed)}, "message": {"type": "string"}}
    schema = {"type": "object", "properties": answer | named, "required": ["approved" if is_call else "type"]}
    return {
        **bridge(requests),
        "request_id": first.id,
        "digest": first.digest,
        "reason": reason,
        "message": first.description or f"{about(first).name}: {' / '.join(first.allowed)}",
        "response_schema": schema,
        **({"tool_call_id": first.tool_call_id} if is_call else {}),
    }


def ours(requests: Sequence[Request]) -> dict[str, Any]:
    """The requests, as `recognise` finds them again."""
    parts = [{"digest": request.digest, "request": request.shown()} for request in requests]
    return parts[0] if len(requests) == 1 and requests[0].position is None else {"requests": parts}


def about(request: Request) -> Action:
    """What clients render and edit: the action, or a draft as an action that is named after the kind."""
    if request.action is not None or request.draft is None:
        return request.action or Action(name=request.kind, args={})
    return Action(
        name=request.kind, args=request.draft if isinstance(request.draft, dict) else {"draft": request.draft}
    )


def excerpt(value: Any) -> str:
    """A value for a message: short, however long or deep it is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # a number of more digits than Python prints
        return f"a {type(value).__name__}"
