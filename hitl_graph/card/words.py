"""What people read: the same words at every door. Pure functions; hidden characters are made visible."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from hitl_graph.drafts import files
from hitl_graph.facts import Inquiry, Situation, facts_of
from hitl_graph.model import Decision, Request, Word
from hitl_graph.terms import Turn
from hitl_graph.visible import visible

__all__ = [
    "DONE",
    "age",
    "arguments",
    "asked",
    "call",
    "did",
    "done",
    "happened",
    "heading",
    "in_time",
    "kind_of",
    "label",
    "left",
    "meaning",
    "nothing_waits",
    "one_line",
    "properties",
    "sort",
    "turn",
    "what",
]

DONE: dict[Word, str] = {"approve": "approved", "edit": "edited", "reject": "rejected", "respond": "answered"}
_SHORT = 40  # a value in a one-line summary
_DRAFT = 100  # a draft in one
_MEANING: dict[Word, str] = {
    "approve": "{it} runs once, exactly as shown",
    "edit": "{it} runs once, with your arguments; the agent is told",
    "reject": "{it} does not run; the agent is told why",
    "respond": "{it} does not run; the agent gets your text as its result",
}
_AUDITED: dict[Word, tuple[str, str, str, str]] = {  # what the button says, what it means, done, as an answer
    "approve": ("Right", "it was right", "found right", "found it right"),
    "edit": ("Correct", "it should have been this", "corrected", "corrected it"),
    "reject": ("Wrong", "it was wrong", "found wrong", "found it wrong"),
    "respond": ("Comment", "what you say is kept", "commented on", "commented on it"),
}
_LABELS: dict[str, dict[Word, str]] = {
    "question": {"respond": "Answer", "reject": "Decline"},
    "review": {"respond": "Send back"},
    "escalation": {"approve": "Carry on", "edit": "Change the state", "respond": "Guide", "reject": "Stop"},
}
_ENDS = {"remind": "reminder", "escalate": "escalates", "reject": "rejected", "approve": "APPROVED"}


# --- what it is about ------------------------------------------------------------------------------------------------


def heading(request: Request) -> str:
    """What will happen, or is asked, in one sentence."""
    agent, facts = f"The agent of thread {visible(request.thread_id)}", facts_of(request)
    wants = "wants" if request.state == "pending" else "wanted"
    if isinstance(facts, Situation):
        return f"{agent} {'failed' if facts.failure is not None else 'is stuck'}, and asks what now"
    if isinstance(facts, Inquiry):
        return f"{agent} asks you"
    if request.is_label:
        topic = visible(request.thread_id.removeprefix("labels:"))
        return f"A label {'is' if request.state == 'pending' else 'was'} wanted for {topic}: is this right?"
    if request.is_audit:
        did = f"called {visible(request.action.name)}" if request.action is not None else "delivered this draft"
        return f"{agent} {did} without asking" + (": was that right?" if request.state == "pending" else "")
    if request.kind == "review":
        number = request.review.revision if request.review is not None else 1
        draft = "this draft" if number == 1 else f"this draft (revision {number})"
        return f"{agent} {wants} to deliver {draft}"
    if request.action is not None and request.kind != "question":
        return f"{agent} {wants} to call {visible(request.action.name)}"
    if request.action is not None:
        return f"{agent} needs to know what became of {visible(request.action.name)}"
    return f"{agent} asks"


def sort(request: Request) -> str:
    """Its kind, in a word for people: also `audit` and `label`."""
    return "label" if request.is_label else "audit" if request.is_audit else request.kind


def nothing_waits(request: Request) -> str:
    """What sort of question it is for which nothing waits; empty for others."""
    if request.is_label:
        return "label: something is to be learned from it, and nothing waits for it"
    return "audit: it was decided automatically, and nothing waits for it" if request.is_audit else ""


def what(request: Request, changed: dict[str, Any] | None = None) -> str:
    """What a request is about, in one line; with the arguments that an edit gave it."""
    if request.action is not None:
        text = call(request.action.name, arguments(request, changed))
        return f"did {text} happen?" if request.kind == "question" else text
    if (facts := facts_of(request)) is not None:
        return visible(facts.sentence)
    if request.kind == "review" and request.draft is not None:
        return _draft_in_short(request)
    question = request.question
    if isinstance(question, dict) and isinstance(actions := question.get("action_requests"), list):
        calls = [
            call(str(a.get("name")), cast("dict[str, Any]", a.get("args") or {}))
            for a in actions
            if isinstance(a, dict)
        ]
        return f"{len(calls)} calls: {'; '.join(calls)}"
    shown = question if question is not None else request.draft
    if shown is None:
        return visible(request.description) or "(nothing is shown)"
    return visible(shown) if isinstance(shown, str) else one_line(shown)


def _draft_in_short(request: Request) -> str:
    number = f" {request.review.revision}" if request.review is not None and request.review.revision > 1 else ""
    if paths := files(request.draft):
        text = ", ".join(map(visible, paths))
    elif isinstance(request.draft, str):
        text = visible(" ".join(request.draft.split()))
    else:
        text = one_line(arguments(request, request.draft) if isinstance(request.draft, dict) else request.draft)
    return f"draft{number}: {text if len(text) <= _DRAFT else f'{text[: _DRAFT - 1]}…'}"


def call(name: str, args: dict[str, Any]) -> str:
    """A call in short: `pay(eur=1, to="bob")`, with long values cut."""
    parts = []
    for key, value in args.items():
        text = one_line(value)
        if len(text) > _SHORT:
            text = text[: _SHORT - 2] + ('…"' if isinstance(value, str) else "…")
        parts.append(f"{visible(key)}={text}")
    return f"{visible(name)}({', '.join(parts)})"


def one_line(value: Any) -> str:
    """A JSON value on one line."""
    return visible(json.dumps(value, ensure_ascii=False))


def arguments(request: Request, changed: dict[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of a request's action, in the order in which the tool requires them; stored JSON has none.

    Args:
        changed: Other arguments, to be put into the same order.
    """
    args: dict[str, Any] = changed if changed is not None else dict(request.action.args) if request.action else {}
    required = (request.answer_schema or {}).get("required")
    first = [name for name in required if name in args] if isinstance(required, list) else []
    return {name: args[name] for name in (*first, *args)}


def properties(request: Request) -> dict[str, Any]:
    """The properties of the answer's schema, the required ones first; stored JSON has no order."""
    schema = request.answer_schema or {}
    known, required = schema.get("properties"), schema.get("required")
    if not isinstance(known, dict):
        return {}
    first = [name for name in required if name in known] if isinstance(required, list) else []
    return {str(name): known[str(name)] for name in (*first, *known)}


def kind_of(schema: Any) -> str:
    """A JSON Schema in a few words: `string`, `list of integer`, `"red" | "blue"`."""
    if not isinstance(schema, dict):
        return "anything"
    if "const" in schema or isinstance(schema.get("enum"), list):
        return " | ".join(one_line(value) for value in schema.get("enum", [schema.get("const")]))
    branches = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(branches, list):
        return " or ".join(dict.fromkeys(map(kind_of, branches)))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items'))}"
    told = str(schema.get("type") or ("object" if "$ref" in schema else "anything"))
    return f"{told}, {visible(str(schema['description']))}" if schema.get("description") else told


# --- the answers -----------------------------------------------------------------------------------------------------


def label(request: Request, word: Word) -> str:
    """What the button of an answer says."""
    if request.answer_shape == "raw" and word == "respond":
        return "Answer"
    if request.is_audit:
        return _AUDITED[word][0]
    return _LABELS.get(request.kind, {}).get(word, word.capitalize()) if request.action is None else word.capitalize()


def meaning(request: Request, word: Word) -> str:
    """What comes of an answer."""
    if request.is_audit:
        return visible(request.labels.get(word, _AUDITED[word][1]))
    if word in request.labels:
        return visible(request.labels[word])
    if request.answer_shape == "raw":
        return "the graph gets your answer and goes on"
    if request.answer_shape == "middleware" and request.action is None:
        return {"approve": "all of these calls run", "reject": "none of these calls runs"}.get(word, "")
    means = _MEANING[word].format(it=visible(request.action.name) if request.action else "it")
    if word == "edit" and request.editable is not None:
        return f"{means}. Only these may change: {', '.join(map(visible, request.editable)) or 'none'}"
    return means


def done(request: Request, decision: Decision) -> str:
    """An answer as something that was done: `approved`, `sent back`."""
    if request.is_audit:
        return _AUDITED[decision.type][2]
    return "sent back" if request.kind == "review" and decision.type == "respond" else DONE[decision.type]


def did(request: Request, decision: Decision) -> str:
    """The same after a name: `approved it`, `sent it back`."""
    if request.is_audit:
        return _AUDITED[decision.type][3]
    return "sent it back" if (word := done(request, decision)) == "sent back" else f"{word} it"


# --- people and time -------------------------------------------------------------------------------------------------


def asked(selectors: Sequence[str]) -> str:
    """Whom selectors mean."""
    return "anybody" if tuple(selectors) == ("*",) else " or ".join(map(visible, selectors))


def age(since: datetime | None, now: datetime) -> str:
    """How long ago: `12s`, `4m`, `3h`, `2d`."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def left(until: datetime, now: datetime) -> str:
    """How long there is until then: `3h 12m`, `45s`; `overdue` when it has passed."""
    seconds = int((until - now).total_seconds())
    if seconds < 0:
        return "overdue"
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    return f"{minutes}m" if minutes else f"{seconds}s"


def in_time(coming: Turn, now: datetime) -> str:
    """The next turn, in a few words: `rejected in 3h`."""
    if (span := left(coming.at, now)) == "overdue":
        return f"{_ENDS[coming.then]}: due"
    return f"{_ENDS[coming.then]} in {span}"


def turn(request: Request, coming: Turn) -> str:
    """What a turn brings, in a sentence."""
    if coming.then == "remind":
        return "they are reminded" + (f", and {asked(coming.to)} told" if coming.to else "")
    if coming.then == "escalate":
        return f"{asked(coming.to)} may decide, too"
    word: Word = coming.then if coming.then in request.allowed else "reject"
    means = f": {visible(request.labels[word])}" if word in request.labels else ""
    ends = "APPROVED without an answer" if word == "approve" else "rejected"
    return f"if nobody has decided, it is {ends}{means}"


def happened(name: str, body: Mapping[str, Any]) -> str:
    """What somebody did with a request that waits, or what time did: the details of a row of the log."""
    match name.removeprefix("request."):
        case "voted" if isinstance(text := body.get("vote"), str):
            vote = json.loads(text)
            return visible(str(vote.get("type")) + (f': "{vote["message"]}"' if vote.get("message") else ""))
        case "delegated":
            return visible(f"to {body.get('to')}" + (f': "{body["comment"]}"' if body.get("comment") else ""))
        case "reminded" | "escalated" if isinstance(to := body.get("to"), list):
            return visible(f"to {' or '.join(map(str, to))}")
        case "seen" if isinstance(channel := body.get("channel"), str):
            return visible(f"through {channel}")
        case _:
            return ""
