"""How clients say it, in the words of `Decision`: Agent Inbox's lists, AG-UI's `approved`, JSON in a text.

Nothing is decided here: what comes out is read and checked as any other answer.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hitl_graph.errors import InvalidDecisionError, StaleRequestError
from hitl_graph.model import Request
from hitl_graph.wire.showing import MARK, about, excerpt

__all__ = ["POINTER", "named_in", "names_this", "opened", "spoken", "understood"]

POINTER = {"request_id", "digest"}
_AG_UI_MAP, _AG_UI_CANCELLED = "__agui_resume_map__", "__agui_cancelled__"  # ag_ui_langgraph.interrupts
_AG_UI_KEYS = {"approved", "editedArgs", "message", "reason", *POINTER}


def opened(raw: Any, asked: Sequence[Request]) -> Any:
    """An answer out of its wrapping: JSON in a text, and what the AG-UI adapter makes of AG-UI's `resume`.

    Args:
        asked: What the client draws of one interrupt.
    """
    if isinstance(raw, str) and raw.lstrip()[:1] in ("{", "["):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            return raw
    first = asked[0]
    if not isinstance(raw, Mapping):
        return raw
    if isinstance(entries := raw.get(_AG_UI_MAP), Mapping):
        if set(entries) != {first.interrupt_id} or not isinstance(one := entries[first.interrupt_id], Mapping):
            given = excerpt(sorted(map(str, entries)))
            raise StaleRequestError(
                first.id, f"the answer was made for the interrupts {given}, and {first.interrupt_id} is asked now"
            )
        return _cancelled(asked) if one.get("status") == "cancelled" else opened(one.get("payload"), asked)
    if raw.get(_AG_UI_CANCELLED) is True:
        if raw.get("interrupt_id") != first.interrupt_id:
            raise StaleRequestError(first.id, f"what was cancelled is {excerpt(raw.get('interrupt_id'))}")
        return _cancelled(asked)
    return raw


def _cancelled(asked: Sequence[Request]) -> dict[str, Any]:
    """Whoever does not want to answer does not want it done."""
    return {"decisions": [{"type": "reject", "message": "cancelled", "request_id": one.id} for one in asked]}


def named_in(raw: Any) -> str | None:
    """The one request that an answer names, wherever its client has a place for that; None if it names none."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            return None
    one = raw.get("decisions", raw) if isinstance(raw, Mapping) else raw
    one = one[0] if isinstance(one, list) and len(one) == 1 else one
    if not isinstance(one, Mapping):
        return None
    named = one.get("request_id")
    for _ in range(2):  # {"args": {"args": {...}}}
        one = one.get("args") if isinstance(one, Mapping) else None
        named = one.get(MARK) if named is None and isinstance(one, Mapping) else named
    return named if isinstance(named, str) else None


def spoken(raw: Any, request: Request) -> Mapping[str, Any] | None:
    """A text that answers a question; None if it is none. To whether something may be done, a text is no answer."""
    is_text = isinstance(raw, str) and request.kind == "question" and request.answer_shape == "hitl"
    return {"type": "respond", "message": raw} if is_text and "respond" in request.allowed else None


def understood(
    raw: Mapping[str, Any], request: Request, *, listed: bool, approved: bool
) -> tuple[Mapping[str, Any], bool]:
    """One answer in our words, and whether its client has no place in it to name a request.

    Args:
        listed: It stood in a list, as Agent Inbox sends it.
        approved: Its client says `approved`, as AG-UI does.
    """
    if listed and raw.get("type") in ("accept", "edit", "response", "ignore"):
        return _agent_inbox(raw, request)
    if approved and "approved" in raw and "type" not in raw:
        return _ag_ui(raw, request), False
    return raw, False


def _agent_inbox(raw: Mapping[str, Any], request: Request) -> tuple[Mapping[str, Any], bool]:
    """Agent Inbox: `accept`, `edit`, `response`, `ignore`."""
    args = raw.get("args")
    match raw["type"]:
        case "accept":
            named = {} if args is None else _unchanged(args, request)
            return {**_pointing(raw), **named, "type": "approve"}, False
        case "edit" if isinstance(args, Mapping):
            edited, named = _unmarked(args.get("args"), request)
            action = {"name": args.get("action"), "args": edited}
            return {**_pointing(raw), **named, "type": "edit", "edited_action": action}, False
        case "response" if isinstance(args, str):
            word = "reject" if request.kind == "approval" and "respond" not in request.allowed else "respond"
            return {"type": word, "message": args}, True
        case "ignore":
            return {"type": "reject", "message": "ignored"}, True
        case _:
            return raw, False


def _pointing(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: raw[key] for key in POINTER if key in raw}


def _unchanged(shown: Any, request: Request) -> dict[str, Any]:
    """Which request was accepted; refused, if it is not what is asked about now."""
    asked = about(request)
    echo: Mapping[str, Any] = shown if isinstance(shown, Mapping) else {}
    theirs, named = _unmarked(echo.get("args"), request)
    mine = {k: v for k, v in asked.args.items() if v is not None or (isinstance(theirs, Mapping) and k in theirs)}
    if not isinstance(theirs, Mapping) or {**theirs} != mine or echo.get("action", asked.name) != asked.name:
        raise StaleRequestError(
            request.id, "the accepted arguments are not the ones asked about; use edit to change them"
        )
    return named


def _unmarked(args: Any, request: Request) -> tuple[Any, dict[str, Any]]:
    """Arguments without the request that is named among them."""
    if not isinstance(args, Mapping) or MARK not in args or MARK in about(request).args:
        return args, {}
    named = {"request_id": args[MARK]}
    names_this(named, request)
    return {name: value for name, value in args.items() if name != MARK}, named


def _ag_ui(raw: Mapping[str, Any], request: Request) -> Mapping[str, Any]:
    """AG-UI's answer to a tool call: `{"approved": true, "editedArgs": {...}}`."""
    approved, edited = raw["approved"], raw.get("editedArgs")
    if not isinstance(approved, bool) or not set(raw) <= _AG_UI_KEYS or (edited is not None and not approved):
        raise InvalidDecisionError(
            request.id, f'this is no answer: {excerpt(dict(raw))}; send {{"approved": true}} or {{"approved": false}}'
        )
    said: dict[str, Any] = _pointing(raw)
    if approved and edited is not None:
        return {**said, "type": "edit", "edited_action": {"name": about(request).name, "args": edited}}
    message = raw.get("message", raw.get("reason"))
    return {**said, "type": "approve" if approved else "reject", "message": message}


def names_this(raw: Mapping[str, Any], request: Request) -> None:
    """Refuse an answer that names another request, or other contents than are asked now."""
    for key, mine in (("request_id", request.id), ("digest", request.digest)):
        if key in raw and raw[key] != mine:
            raise StaleRequestError(
                request.id,
                f"the answer was made for {key} {excerpt(raw[key])}; look at what is asked now and answer that",
            )
