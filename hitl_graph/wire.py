"""The shapes in which questions leave a graph and answers come back.

Out: `payload` is what Agent Inbox and Agent Chat UI both render (one action, with `args` and `arguments`);
`recognise` reads any interrupt, ours or not, into a request. In: `parse` reads every answer that those
clients, LangChain's middleware and our own doors send; `resume_value` wraps a decision as the graph wants it.
Whatever is not recognised is refused.
"""

import json
import reprlib
from collections.abc import Mapping
from typing import Any, cast

from pydantic import JsonValue, ValidationError

from hitl_graph.drafts import check_anchor
from hitl_graph.errors import InvalidDecisionError, StaleRequestError
from hitl_graph.grants import Grant, unfit
from hitl_graph.model import WORDS, Action, Decision, Request, Word, canonical, reject, request_id
from hitl_graph.schema import SchemaMismatch, check

__all__ = ["parse", "payload", "recognise", "resume_value", "validate"]

_HELP = (
    'send {"type": "approve"}, {"type": "edit", "args": {...}}, {"type": "reject", "message": "..."}'
    ' or {"type": "respond", "message": "..."}'
)


def payload(request: Request) -> dict[str, Any]:
    """What an interrupt shows for a request: plain JSON, complete enough to be answered by any client."""
    action = _asked_about(request)
    args = {name: value for name, value in action.args.items() if value is not None}  # null crashes Agent Inbox
    return {
        "action_requests": [{"name": action.name, "args": args, "arguments": args, "description": request.description}],
        "review_configs": [{"action_name": action.name, "allowed_decisions": list(request.allowed)}],
        "hitl": {"digest": request.digest, "request": request.shown()},
    }


def _asked_about(request: Request) -> Action:
    """What clients render and edit: the action, or a draft as an action that is named after the kind."""
    if request.action is not None or request.draft is None:
        return request.action or Action(name=request.kind, args={})
    return Action(
        name=request.kind, args=request.draft if isinstance(request.draft, dict) else {"draft": request.draft}
    )


def recognise(thread_id: str, interrupt_id: str, value: Any, schema: Any = None) -> Request:
    """The request that an interrupt asks. Never fails: what is unknown becomes a plain question.

    Args:
        thread_id: Thread that waits.
        interrupt_id: Which of its interrupts.
        value: What it shows.
        schema: Its `response_schema`, a JSON Schema of the answer.
    """
    own = request_id(thread_id, interrupt_id)
    if isinstance(value, Mapping) and ("hitl" in value or "action_requests" in value or "type" in value):
        try:
            canonical(value)
            if isinstance(ours := value.get("hitl"), Mapping):
                request = Request.model_validate(ours.get("request"))
                if (request.id, request.thread_id, request.digest) == (own, thread_id, ours.get("digest")):
                    return request
            if "action_requests" in value:
                return _middleware(own, thread_id, interrupt_id, value)
            if value.get("type") == "tool_approval":
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
        except (ValueError, LookupError, TypeError, AttributeError):
            pass
    return Request(
        id=own,
        kind="question",
        thread_id=thread_id,
        interrupt_id=interrupt_id,
        question=_plain(value),
        allowed=("respond",),
        answer_schema=_plain_schema(schema),
        answer_shape="raw",
        reason="the graph called interrupt()",
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
        return _show(value)


def parse(raw: Any, request: Request) -> Decision | None:
    """The decision in an answer, checked against the request; None if it only points at the ledger's decision.

    Raises:
        InvalidDecisionError: Nothing that is understood, or nothing that this request accepts.
        StaleRequestError: The answer names another request, or other contents than are asked now.
    """
    if isinstance(raw, Decision):
        return validate(raw, request)
    if isinstance(raw, list) and len(raw) == 1 and isinstance(raw[0], Mapping):
        _names_this(raw[0], request)
        return validate(_inbox_response(raw[0], request), request)
    if isinstance(raw, Mapping):
        _names_this(raw, request)
        if "decisions" in raw:
            decisions = raw["decisions"]
            if not isinstance(decisions, list) or len(decisions) != 1:
                count = len(decisions) if isinstance(decisions, list) else "no"
                raise InvalidDecisionError(request.id, f"asks about one action, the answer has {count} decisions")
            raw = decisions[0] if isinstance(decisions[0], Mapping) else {}
            _names_this(raw, request)
        if "type" in raw:
            return validate(_typed(raw, request), request)
        if set(raw) == {"request_id", "digest"}:
            return None
    raise InvalidDecisionError(request.id, f"this is no answer: {_show(raw)}; {_HELP}")


def _show(value: Any) -> str:
    try:
        return reprlib.repr(value)  # short, however long or deep the value is
    except ValueError:  # a number of more digits than Python prints
        return f"a {type(value).__name__}"


def _names_this(raw: Mapping[str, Any], request: Request) -> None:
    for key, mine in (("request_id", request.id), ("digest", request.digest)):
        if key in raw and raw[key] != mine:
            raise StaleRequestError(
                request.id,
                f"the answer was made for {key} {_show(raw[key])}; look at what is asked now and answer that",
            )


def _inbox_response(raw: Mapping[str, Any], request: Request) -> Decision:
    """Agent Inbox: `accept`, `edit`, `response`, `ignore`."""
    args = raw.get("args")
    match raw.get("type"):
        case "accept":
            if args is not None:
                _unchanged(args, request)
            return Decision(type="approve")
        case "edit" if isinstance(args, Mapping):
            return _edit(args.get("action"), args.get("args"), request)
        case "response" if isinstance(args, str):
            word = "reject" if request.kind == "approval" and "respond" not in request.allowed else "respond"
            return _typed({"type": word, "message": args}, request)
        case "ignore":
            return reject("ignored")
        case _:
            return _typed(raw, request)


def _unchanged(shown: Any, request: Request) -> None:
    mine = _asked_about(request).args
    theirs = shown.get("args") if isinstance(shown, Mapping) else None
    if not isinstance(theirs, Mapping) or {**theirs} != {k: v for k, v in mine.items() if v is not None or k in theirs}:
        raise StaleRequestError(
            request.id, "the accepted arguments are not the ones asked about; use edit to change them"
        )


def _typed(raw: Mapping[str, Any], request: Request) -> Decision:
    """LangChain's decisions and our own."""
    word, message = raw.get("type"), raw.get("message")
    if word not in WORDS:
        raise InvalidDecisionError(request.id, f"{_show(word)} is not one of {', '.join(request.allowed)}")
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
    asked = _asked_about(request)
    if (request.action or request.draft is not None) and name is not None and name != asked.name:
        raise InvalidDecisionError(
            request.id,
            f"an edit cannot turn {asked.name} into {_show(name)}; reject it and say what to do instead",
        )
    if not isinstance(args, Mapping):
        needs = "all arguments of the action" if request.draft is None else "the whole draft"
        raise InvalidDecisionError(request.id, f"an edit needs {needs}")
    if name is not None:  # these clients were not shown the nulls (see payload)
        args = {key: None for key, value in asked.args.items() if value is None} | {**args}
    if request.action is None and request.draft is not None:
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


def validate(decision: Decision, request: Request) -> Decision:
    """The decision with the schema's types, if this request accepts it.

    Raises:
        InvalidDecisionError: The word is not offered, the edit breaks the schema or touches what may not be edited, or
            the grant would reach further than what was asked.
    """
    decision = _fitted(decision, request)
    if decision.grant is not None:
        _check_grant(decision, decision.grant, request)
    return decision


def _fitted(decision: Decision, request: Request) -> Decision:
    try:
        canonical([decision.args, decision.draft, decision.message, decision.value])
        canonical([part.model_dump(mode="json") for part in (*decision.comments, decision.grant) if part is not None])
    except TypeError as exc:
        raise InvalidDecisionError(request.id, f"the answer is {exc}") from exc
    if decision.type not in request.allowed:
        raise InvalidDecisionError(request.id, f"{decision.type} is not offered; it takes {', '.join(request.allowed)}")
    for comment in decision.comments:
        if request.draft is None:
            raise InvalidDecisionError(request.id, "there is no draft to comment on; say it in the message")
        try:
            check_anchor(comment, request.draft)
        except ValueError as exc:
            raise InvalidDecisionError(request.id, f"the comment {_show(comment.text)}: {exc}") from exc
    if decision.type == "edit" and request.action is None and request.draft is not None:
        return decision.model_copy(update={"args": None, "draft": _redrafted(decision, request)})
    if decision.type == "edit":
        if decision.args is None:
            raise InvalidDecisionError(request.id, "an edit needs all arguments of the action, as an object")
        fitted = _patched if request.kind == "escalation" else _edited
        return decision.model_copy(update={"args": fitted(cast("dict[str, Any]", decision.args), request)})
    if request.kind == "escalation" and decision.message is not None and decision.type == "respond":
        _says_something(decision.message, request)
    if request.kind == "question" and request.answer_schema and decision.type == "respond":
        answer = decision.message if decision.value is None else decision.value
        try:
            check(request.answer_schema, answer)
        except SchemaMismatch as exc:
            raise InvalidDecisionError(request.id, f"the answer does not fit: {exc}") from exc
    return decision


def _check_grant(decision: Decision, grant: Grant, request: Request) -> None:
    if not request.takes_grant:
        raise InvalidDecisionError(request.id, "it takes no standing permission; decide only this one")
    args = (request.action.args if request.action else {}) if decision.args is None else decision.args
    if problem := unfit(grant, request, args):
        raise InvalidDecisionError(request.id, f"the standing permission does not fit: {problem}")


def _edited(args: dict[str, Any], request: Request) -> dict[str, Any]:
    if request.action is None:
        raise InvalidDecisionError(request.id, "there is no action to edit")
    if request.answer_schema is not None:
        try:
            args = _untouched(check(request.answer_schema, args), args, request.action.args)
        except SchemaMismatch as exc:
            raise InvalidDecisionError(
                request.id, f"the edit does not fit the arguments of {request.action.name}: {exc}"
            ) from exc
    try:
        canonical(args)
    except TypeError as exc:
        raise InvalidDecisionError(request.id, f"the edited arguments are {exc}") from exc
    _check_editable(request, request.action.args, args)
    return args


def _redrafted(decision: Decision, request: Request) -> JsonValue:
    """The person's version of a draft: of the same kind as the one that was shown, and with its schema's types."""
    shown, new = request.draft, decision.draft
    if new is None:  # a dict: the draft itself, or what a client made of one that is none
        args = cast("dict[str, JsonValue]", decision.args)
        new = args if isinstance(shown, dict) else args["draft"] if set(args) == {"draft"} else args
    if type(new) is not type(shown):
        name = "text" if isinstance(shown, str) else "JSON object" if isinstance(shown, dict) else "JSON list"
        raise InvalidDecisionError(request.id, f"the draft is a {name}, and so must the edited one be")
    if request.answer_schema is not None:
        try:
            fitted = cast(JsonValue, check(request.answer_schema, new))
            new = _untouched(fitted, new, shown) if isinstance(fitted, dict) else fitted
        except SchemaMismatch as exc:
            raise InvalidDecisionError(request.id, f"the edit does not fit the draft's schema: {exc}") from exc
    parts = [value if isinstance(value, dict) else {"draft": value} for value in (shown, new)]
    _check_editable(request, *parts)
    return new


def _untouched(fitted: dict[str, Any], given: Any, shown: Any) -> dict[str, Any]:
    """What nobody changed as it was shown: for a schema 5 is the number 5.0, which would be another value."""
    same = {name for name in fitted if name in shown and name in given and _is_one(given[name], shown[name])}
    return {name: shown[name] if name in same else value for name, value in fitted.items()}


def _is_one(given: Any, shown: Any) -> bool:
    try:
        return canonical(given) == canonical(shown)
    except TypeError:
        return False


def _check_editable(request: Request, before: Mapping[str, JsonValue], args: Mapping[str, JsonValue]) -> None:
    if request.editable is not None:
        given = {key: canonical(value) for key, value in args.items()}  # for Python 1 and True are the same
        shown = {key: canonical(value) for key, value in before.items()}
        changed = sorted(key for key in shown.keys() | given.keys() if shown.get(key) != given.get(key))
        if locked := [name for name in changed if name not in request.editable]:
            may = ", ".join(request.editable) or "nothing"
            raise InvalidDecisionError(request.id, f"{', '.join(locked)} may not be edited; only {may}")


def _says_something(guidance: str, request: Request) -> None:
    """Silence is no guidance."""
    if not guidance.strip():
        raise InvalidDecisionError(request.id, "the guidance is empty; say what the agent shall do, or approve")


def _patched(patch: dict[str, Any], request: Request) -> dict[str, Any]:
    """A patch of the graph's state: some of its keys, each with its type."""
    known = (request.answer_schema or {}).get("properties")
    if not isinstance(known, dict):
        raise InvalidDecisionError(request.id, "no key of the state may be edited")
    if unknown := sorted(patch.keys() - known.keys()):
        raise InvalidDecisionError(
            request.id, f"{', '.join(unknown)} may not be edited; the keys are {', '.join(known) or 'none'}"
        )
    if not patch:
        raise InvalidDecisionError(request.id, f"the edit changes nothing; give some of {', '.join(known)}")
    try:
        return cast("dict[str, Any]", check(cast("dict[str, Any]", request.answer_schema), patch))
    except SchemaMismatch as exc:
        raise InvalidDecisionError(request.id, f"the edit does not fit: {exc}") from exc


def resume_value(request: Request, decision: Decision) -> Any:
    """What to resume the graph with. For our own nodes it only points at the ledger, which is what counts."""
    if request.answer_shape == "hitl":
        return {"request_id": request.id, "digest": request.digest}
    if request.answer_shape == "raw":
        return decision.message if decision.value is None else decision.value
    answer: dict[str, Any] = {"type": decision.type}
    if decision.type == "edit":
        name = request.action.name if request.action else ""
        answer["edited_action"] = {"name": name, "args": decision.args}
    elif decision.type != "approve" and decision.message is not None:
        answer["message"] = decision.message
    if request.answer_shape == "tool_approval":
        return answer
    asked = request.question
    count = len(cast("list[Any]", asked["action_requests"])) if isinstance(asked, dict) else 1
    return {"decisions": [answer] * count}
