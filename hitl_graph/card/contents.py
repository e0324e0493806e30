"""What a request is about, as plain data: arguments, a draft, a situation, a question."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue

from hitl_graph.card.words import arguments, kind_of, properties
from hitl_graph.drafts import excerpt, files, is_patch, place
from hitl_graph.facts import Inquiry, Situation, facts_of
from hitl_graph.model import Comment, Finding, Request

__all__ = [
    "Draft",
    "Evidence",
    "Feedback",
    "Field",
    "File",
    "Question",
    "Remark",
    "draft_of",
    "evidence_of",
    "fields_of",
    "kind",
    "question_of",
    "remark",
]


@dataclass(frozen=True)
class Field:
    """One argument, one fact, or one key of a state.

    Attributes:
        kind: `text`, `number`, `boolean`, `nothing`, `list` or `object`.
        editable: An edit may change it.
        given: Whether there is a value.
        hint: What is to be known about it.
    """

    name: str
    value: JsonValue = None
    kind: str = "nothing"
    editable: bool = False
    given: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Remark:
    """What somebody or a check says about a draft.

    Attributes:
        where: The place: `line 3`, `a.py:12`, `items.0.price`; empty for all of it.
        quote: What stands there.
        check: The name of the check; empty where a person says it.
        then: Of a finding: `note`, `ask`, `revise`, `block`.
    """

    text: str
    where: str = ""
    quote: str | None = None
    check: str = ""
    then: str = ""


@dataclass(frozen=True)
class File:
    """One file of a draft: its content, or its part of a patch."""

    path: str
    text: str


@dataclass(frozen=True)
class Feedback:
    """Why the draft before was sent back.

    Attributes:
        by: A reviewer, or `checks`.
        diff: From that draft to this one; empty: nothing changed.
    """

    by: str
    text: str
    remarks: tuple[Remark, ...]
    previous: JsonValue
    diff: str


@dataclass(frozen=True)
class Draft:
    """What shall be delivered."""

    kind: Literal["text", "patch", "files", "json"]
    value: JsonValue
    files: tuple[File, ...]
    revision: int
    revisions: int
    findings: tuple[Remark, ...]
    feedback: Feedback | None


@dataclass(frozen=True)
class Evidence:
    """Why an agent is thought to be stuck.

    Attributes:
        sentences: Strongest first.
        since: The message with which it began, and how many there are; None where that is not known.
        spent: What it has cost since, in words; empty where nobody counts.
        next_steps: What could be done, likeliest first.
        state: What an edit may change.
    """

    sentences: tuple[str, ...]
    tried: tuple[str, ...]
    came_back: tuple[str, ...]
    since: tuple[int, int] | None
    spent: str
    next_steps: tuple[str, ...]
    state: tuple[Field, ...]


@dataclass(frozen=True)
class Question:
    """What an agent asks by itself.

    Attributes:
        options: The answers that it offers, in the order of their numbers from 1.
        free_text: Another answer is welcome, too.
        answer: What kind of answer it takes, in a few words; empty where it is a text or has fields.
    """

    text: str
    why: str
    options: tuple[str, ...]
    free_text: bool
    answer: str
    fields: tuple[Field, ...]


def kind(value: JsonValue) -> str:
    """What a JSON value is, in a word."""
    match value:
        case bool():
            return "boolean"
        case None:
            return "nothing"
        case str():
            return "text"
        case int() | float():
            return "number"
        case list():
            return "list"
        case _:
            return "object"


def fields_of(request: Request) -> tuple[Field, ...]:
    """The arguments of the action; then those that the tool knows and that were not given."""
    if request.action is None:
        return ()
    args, known = arguments(request), properties(request)
    edits = "edit" in request.allowed
    return tuple(
        Field(
            name,
            args.get(name),
            kind(args.get(name)),
            edits and (request.editable is None or name in request.editable),
            name in args,
            _description(known.get(name)),
        )
        for name in dict.fromkeys((*args, *known))
    )


def _description(schema: Any) -> str:
    return str(schema.get("description") or "") if isinstance(schema, Mapping) else ""


def draft_of(request: Request) -> Draft | None:
    """The draft of a review; None if it is about something else."""
    if request.kind != "review" or request.draft is None:
        return None
    draft, review = request.draft, request.review
    known = tuple(File(path, text) for path, text in files(draft).items())
    if isinstance(draft, str):
        shape: Literal["text", "patch", "files", "json"] = "patch" if is_patch(draft) else "text"
    else:
        shape = "files" if known else "json"
    value = arguments(request, draft) if isinstance(draft, dict) else draft
    if review is None:
        return Draft(shape, value, known, 1, 0, (), None)
    feedback = None
    if review.previous is not None:
        remarks = tuple(remark(comment, review.previous) for comment in review.comments)
        by, text = review.sent_back_by or "?", review.feedback or ""
        feedback = Feedback(by, text, remarks, review.previous, review.diff or "")
    findings = tuple(remark(finding, draft) for finding in review.findings)
    return Draft(shape, value, known, review.revision, review.max_revisions, findings, feedback)


def remark(comment: Comment, draft: JsonValue) -> Remark:
    """A comment or a finding with the place that it is about."""
    check, then = (comment.check, comment.then) if isinstance(comment, Finding) else ("", "")
    return Remark(comment.text, place(comment), excerpt(comment, draft), check, then)


def evidence_of(request: Request) -> Evidence | None:
    """What happened to an agent that is stuck; None if it is about something else."""
    facts = facts_of(request)
    if not isinstance(facts, Situation):
        return None
    more = [f.sentence for f in facts.findings if f.sentence != facts.sentence and f.kind != "error"]
    tried, back = (_each(f.tried for f in facts.findings), _each(f.came_back for f in facts.findings))
    spent = ""
    if facts.steps or facts.cost is not None:
        spent = f"{facts.spent} since then" if facts.steps else f"cost {facts.cost:g}"
    state: list[Field] = []
    if request.answer_schema is not None and "edit" in request.allowed:
        for name, schema in properties(request).items():
            hint = "what you give is added" if name in facts.adds else "not set, or too long to show"
            is_set = name in facts.state
            value = facts.state.get(name)
            state.append(Field(name, value, kind(value), True, is_set, _description(schema) if is_set else hint))
    since = None if facts.since_message is None else (facts.since_message, facts.messages)
    shown_back = back if back != tried else ()
    return Evidence((facts.sentence, *more), tried, shown_back, since, spent, facts.next_steps, tuple(state))


def _each(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry for group in groups for entry in group))


def question_of(request: Request) -> Question | None:
    """What an agent asks by itself; None if it is about something else."""
    facts = facts_of(request)
    if not isinstance(facts, Inquiry):
        return None
    schema = request.answer_schema or {}
    required = schema.get("required")
    needed = required if isinstance(required, list) else []
    fields = tuple(
        Field(name, kind=kind_of(sub), editable=True, given=name in needed, hint="" if name in needed else "optional")
        for name, sub in properties(request).items()
    )
    told = kind_of(schema)
    answer = "" if fields or facts.options or told == "string" else told
    return Question(facts.question, facts.why, facts.options, facts.free_text, answer, fields)
