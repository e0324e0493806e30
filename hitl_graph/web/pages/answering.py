"""From a form that was sent to a decision, or to what is wrong with it. Nothing here records anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from hitl_graph.card import Answer
from hitl_graph.drafts import locate
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.form import MISSING, Filled
from hitl_graph.grants import Grant
from hitl_graph.model import Comment, Decision, Request
from hitl_graph.web.diffs import Change, changes
from hitl_graph.wire import validate

__all__ = ["LASTING", "Typed", "typed"]

LASTING = {"": "until somebody revokes it", "1": "for an hour", "24": "for a day", "168": "for a week"}
"""For how long a standing permission may be given, in hours."""
VALUE = "value:"
"""What the names of the fields of a form begin with."""
_REMARKS = 100


@dataclass(frozen=True)
class Typed:
    """What somebody typed.

    Attributes:
        decision: None where something is wrong.
        errors: What is wrong, by the name of the field; "" is all of it.
        changes: Of an edit: what would be another one.
    """

    given: Mapping[str, str]
    decision: Decision | None = None
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    changes: tuple[Change, ...] = ()


def typed(request: Request, answer: Answer, given: Mapping[str, str]) -> Typed:
    """The decision that was typed.

    Args:
        given: What the form sent.
    """
    text, errors = given.get("text", "").replace("\r\n", "\n"), dict[str, str]()
    made: dict[str, Any] = {"type": answer.word}
    before: Any = MISSING
    match answer.word:
        case "edit":
            before, new = _edited(answer, given, errors)
            made |= {"args": new} if isinstance(new, dict) else {"draft": new}
            made["message"] = text or None
            if not errors and new is not None and _is_same(answer, before, new):
                errors[""] = "Nothing was changed. Approve it as it is, or change something."
        case "respond":
            made |= _response(request, answer, given, text, errors)
        case "reject":
            made["message"] = text
        case "approve":
            made["message"] = text or None
    if answer.grant and given.get("always"):
        made["grant"] = _grant(request, given, made.get("args"), errors)
    changed = _changes(answer, before, made) if answer.word == "edit" else ()
    if errors:
        return Typed(given, None, errors, changed)
    try:
        return Typed(given, validate(Decision(**made), request), {}, changed)
    except ValidationError as exc:
        return Typed(given, None, {"": exc.errors(include_url=False)[0]["msg"]}, changed)
    except InvalidDecisionError as exc:
        return Typed(given, None, {"": str(exc.args[1])}, changed)


def _edited(answer: Answer, given: Mapping[str, str], errors: dict[str, str]) -> tuple[Any, Any]:
    assert answer.form is not None
    filled = _filled(answer, given, errors)
    return answer.form.value, filled.changed if answer.changes else filled.value


def _filled(answer: Answer, given: Mapping[str, str], errors: dict[str, str]) -> Filled:
    assert answer.form is not None
    sent = {name.removeprefix(VALUE): text for name, text in given.items() if name.startswith(VALUE)}
    for name in [name for name in sent if name.endswith("[]")]:
        key, ticked = name.removesuffix("[]"), sent.pop(name)
        sent[key] = "\n".join(filter(None, (ticked, sent.get(key, ""))))
    filled = answer.form.read(sent)
    errors.update({f"{VALUE}{key}" if key else "": message for key, message in filled.errors.items()})
    if not answer.form.fields[0].path and "" in errors:  # a form of one value: the message is at its field
        errors[VALUE] = errors.pop("")
    return filled


def _is_same(answer: Answer, before: Any, new: Any) -> bool:
    return not new if answer.changes else not changes(before, new)


def _changes(answer: Answer, before: Any, made: Mapping[str, Any]) -> tuple[Change, ...]:
    new = made.get("args", made.get("draft"))
    if answer.changes and isinstance(before, dict) and isinstance(new, dict):  # what is not in the patch stays
        before = {name: value for name, value in before.items() if name in new}
    return changes(before, new)


def _response(
    request: Request, answer: Answer, given: Mapping[str, str], text: str, errors: dict[str, str]
) -> dict[str, Any]:
    if answer.comments:
        return {"message": text or None, "comments": _remarks(request, given, errors)}
    if answer.options:
        chosen = given.get("option", "")
        if text and chosen not in ("", "other"):
            errors["text"] = "Choose an answer or write another one, not both."
        elif chosen.isascii() and chosen.isdecimal() and int(chosen) < len(answer.options):
            return {"message": answer.options[int(chosen)]}
        elif not text:
            errors["option"] = "Choose an answer." if answer.text == "no" else "Choose an answer, or write another one."
        return {"message": text}
    if answer.form is not None and not text:
        filled = _filled(answer, given, errors)
        value = None if filled.value is MISSING else filled.value
        if value is None and not errors:
            errors[""] = "Nothing was answered."
        return {"message": value} if isinstance(value, str) else {"value": value}
    if answer.form is not None and any(t for name, t in given.items() if name.startswith(VALUE)):
        errors["text"] = "Answer with a text or with JSON, not both."
    if not text.strip():
        errors["text"] = "Write an answer."
    return {"message": text}


def _remarks(request: Request, given: Mapping[str, str], errors: dict[str, str]) -> tuple[Comment, ...]:
    found: list[Comment] = []
    for number in range(_REMARKS):
        where, text = given.get(f"where{number}", "").strip(), given.get(f"remark{number}", "").strip()
        if not text:
            if where:
                errors[f"remark{number}"] = "Write what is to be said about this place."
            continue
        try:
            found.append(Comment(text=text, **(locate(request.draft, where) if where else {})))
            validate(Decision(type="respond", comments=(found[-1],)), request)
        except ValidationError as exc:
            errors[f"where{number}"] = exc.errors(include_url=False)[0]["msg"]
        except InvalidDecisionError as exc:
            errors[f"where{number}"] = str(exc.args[1]).partition(": ")[2] or str(exc.args[1])
        except ValueError as exc:
            errors[f"where{number}"] = f"{exc}."
    return tuple(found)


def _grant(request: Request, given: Mapping[str, str], args: Any, errors: dict[str, str]) -> Grant | None:
    hours, uses = given.get("lasting", ""), given.get("uses", "").strip()
    if hours not in LASTING:
        errors["lasting"] = f"Choose {', '.join(LASTING.values())}."
    if uses and not (uses.isascii() and uses.isdecimal() and 0 < int(uses[:9]) and len(uses) < 10):
        errors["uses"] = "Give a whole number from 1, or leave it empty."
    if errors.keys() & {"lasting", "uses"}:
        return None
    try:
        grant = Grant.of(
            request,
            same_thread=bool(given.get("same_thread")),
            expires_in=timedelta(hours=int(hours)) if hours else None,
            uses=int(uses) if uses else None,
        )
    except ValueError as exc:
        errors["always"] = str(exc)
        return None
    if not given.get("same_args"):
        return grant
    shown = request.action.args if request.action is not None else {}
    return grant.exactly(args if isinstance(args, dict) else shown)
