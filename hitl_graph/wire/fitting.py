"""Whether a decision fits its request: the word is offered, an edit keeps the schema and what may not be edited."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import JsonValue

from hitl_graph.drafts import check_anchor
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.grants import Grant, unfit
from hitl_graph.model import Decision, Request, canonical
from hitl_graph.schema import SchemaMismatch, check
from hitl_graph.wire.showing import excerpt

__all__ = ["validate"]


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
            raise InvalidDecisionError(request.id, f"the comment {excerpt(comment.text)}: {exc}") from exc
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
