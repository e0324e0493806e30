"""What clients answer: every shape that is documented or measured, and nothing else.

A word that is not known, silence, and an answer that names something else are refused.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue, ValidationError

from hitl_graph.errors import InvalidDecisionError, StaleRequestError
from hitl_graph.model import WORDS, Decision, Request
from hitl_graph.wire.clients import BRIDGE, Client
from hitl_graph.wire.dialects import POINTER, names_this, opened, spoken, understood
from hitl_graph.wire.fitting import validate
from hitl_graph.wire.showing import about, excerpt

__all__ = ["parse", "parse_all"]

_HELP = (
    'send {"type": "approve"}, {"type": "edit", "args": {...}}, {"type": "reject", "message": "..."}'
    ' or {"type": "respond", "message": "..."}'
)


def parse(raw: Any, request: Request, client: Client = BRIDGE) -> Decision | None:
    """The decision in an answer, checked against the request; None if it only points at the ledger's decision.

    Raises:
        InvalidDecisionError: Nothing that is understood, or nothing that this request accepts.
        StaleRequestError: The answer names another request, or other contents than are asked now.
    """
    return parse_all(raw, [request], client)[request.id]


def parse_all(raw: Any, requests: Sequence[Request], client: Client = BRIDGE) -> dict[str, Decision | None]:
    """The decisions in an answer to an interrupt that asks several things, by request id.

    An answer has one decision for each, in their order; or some of them, each with its `request_id`. All are checked
    before any is returned.

    Args:
        requests: Those that the interrupt shows, in the order in which it shows them; at least one.
        client: For which it shows them. One that draws only the first answers only that.

    Returns:
        As `parse`, for those requests that are answered.

    Raises:
        InvalidDecisionError: Nothing that is understood, not as many decisions as there are requests, or one of them is
            nothing that its request accepts.
        StaleRequestError: The answer names another request, or other contents than are asked now.
    """
    asked = [*(requests if client.draws_all else requests[:1])]
    raw = opened(raw, asked)
    entries = _entries(raw, requests)
    if len(requests) > 1 and all(isinstance(one, Mapping) and "request_id" in one for one in entries):
        asked = _named(entries, requests)
    elif len(entries) != len(asked):
        given = f"the answer has {len(entries) or 'no'} decision{'s' if len(entries) != 1 else ''}"
        raise InvalidDecisionError(asked[0].id, f"{_asks(asked)}, {given}")
    listed = isinstance(raw, list)
    answered = zip(asked, entries, strict=True)
    return {request.id: _entry(one, request, client, listed=listed) for request, one in answered}


def _entries(raw: Any, requests: Sequence[Request]) -> list[Any]:
    """The answer as a list of answers."""
    if isinstance(raw, list):
        return raw
    if not isinstance(raw, Mapping) or "decisions" not in raw:
        return [raw]
    if len(requests) == 1:
        names_this(raw, requests[0])
    elif not raw.keys().isdisjoint(POINTER):
        raise InvalidDecisionError(requests[0].id, "with several decisions, each has to name its own request")
    return raw["decisions"] if isinstance(raw["decisions"], list) else []


def _named(entries: Sequence[Mapping[str, Any]], requests: Sequence[Request]) -> list[Request]:
    """The requests that the entries name."""
    known = {request.id: request for request in requests}
    named = [one["request_id"] for one in entries]
    if strange := [name for name in named if not (isinstance(name, str) and name in known)]:
        raise StaleRequestError(requests[0].id, f"{_asks(requests)}; the answer was made for {excerpt(strange[0])}")
    if len(set(named)) < len(named) or not named:
        raise InvalidDecisionError(requests[0].id, f"{_asks(requests)}; give one decision for each of them")
    return [known[name] for name in named]


def _asks(requests: Sequence[Request]) -> str:
    """What an interrupt asks about, for whoever answered something else."""
    if len(requests) == 1:
        return "asks about one action"
    return f"asks about {len(requests)}: {', '.join(f'{about(one).name} ({one.id})' for one in requests)}"


def _entry(raw: Any, request: Request, client: Client, *, listed: bool) -> Decision | None:
    """An answer to one request."""
    if isinstance(raw, Decision):
        return validate(raw, request)
    answer = raw if isinstance(raw, Mapping) else spoken(raw, request)
    if answer is None:
        raise InvalidDecisionError(request.id, f"this is no answer: {excerpt(raw)}; {_HELP}")
    names_this(answer, request)
    if set(answer) == POINTER:
        return None
    said, names_none = understood(answer, request, listed=listed, approved=client.says_approved)
    if "type" not in said:
        raise InvalidDecisionError(request.id, f"this is no answer: {excerpt(raw)}; {_HELP}")
    if client.names_request and not names_none and "request_id" not in said:
        raise InvalidDecisionError(
            request.id,
            f"the answer does not say that it is for this question; send its request_id, too, for {client.name} has no"
            " other way to say which question it answers",
        )
    return validate(_typed(said, request), request)


def _typed(raw: Mapping[str, Any], request: Request) -> Decision:
    """LangChain's decisions and our own."""
    word, message = raw.get("type"), raw.get("message")
    if word not in WORDS:
        raise InvalidDecisionError(request.id, f"{excerpt(word)} is not one of {', '.join(request.allowed)}")
    if word == "edit":
        edited = raw.get("edited_action")
        if raw.get("draft") is not None and raw.get("args") is None and edited is None:
            return _made(request, type="edit", draft=raw["draft"], message=message)
        given = {"comment": message, "grant": raw.get("grant")}
        if isinstance(edited, Mapping):
            return _edit(edited.get("name"), edited.get("args"), request, **given)
        return _edit(None, raw.get("args"), request, **given)
    if any(raw.get(name) is not None for name in ("args", "edited_action", "draft")):
        raise InvalidDecisionError(request.id, f"{word} takes no arguments; use edit to change them")
    return _made(
        request,
        type=word,
        message="" if word == "reject" and message is None else message,
        value=raw.get("value") if word == "respond" else None,
        comments=raw.get("comments") or (),
        grant=raw.get("grant"),
    )


def _made(request: Request, **fields: Any) -> Decision:
    try:
        return Decision(**fields)
    except ValidationError as exc:
        raise InvalidDecisionError(request.id, _first(exc)) from exc


def _edit(name: Any, args: Any, request: Request, comment: Any = None, grant: Any = None) -> Decision:
    asked = about(request)
    if (request.action or request.draft is not None) and name is not None and name != asked.name:
        raise InvalidDecisionError(
            request.id,
            f"an edit cannot turn {asked.name} into {excerpt(name)}; reject it and say what to do instead",
        )
    if not isinstance(args, Mapping):
        needs = "all arguments of the action" if request.draft is None else "the whole draft"
        raise InvalidDecisionError(request.id, f"an edit needs {needs}")
    if name is not None:  # these clients were not shown the nulls (see payload)
        args = {key: None for key, value in asked.args.items() if value is None} | {**args}
    if name is not None or (request.action is None and request.draft is not None):
        args = {key: _unfolded(value, asked.args.get(key)) for key, value in args.items()}
    return _made(request, type="edit", args=dict(args), message=comment, grant=grant)


def _unfolded(value: Any, shown: JsonValue) -> Any:
    """JSON again, where a client let it be edited as a text."""
    if isinstance(value, str) and isinstance(shown, dict | list):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            pass
    return value


def _first(exc: ValidationError) -> str:
    error = exc.errors(include_url=False)[0]
    return f"{'.'.join(map(str, error['loc'])) or 'answer'}: {error['msg']}"
