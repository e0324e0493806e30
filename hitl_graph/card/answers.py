"""The answers that a request takes: what each means, and what goes with it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from hitl_graph.card.words import label, meaning
from hitl_graph.facts import Inquiry, Situation, facts_of
from hitl_graph.form import MISSING, Form
from hitl_graph.model import WORDS, Request, Word

__all__ = ["Answer", "answers_of"]

Need = Literal["no", "may", "must"]
_COMMENT = "Comment for the record"


@dataclass(frozen=True)
class Answer:
    """One of the answers.

    Attributes:
        label: What it is called.
        confirm: What the button says that gives it.
        means: What comes of it.
        text: Whether a text goes with it: the comment of an approval, the reason of a reject, what the agent is told.
        text_label: What that text is.
        form: Of an edit: the arguments, the draft or the state, with their values; of a response: the structured
            answer. None: it takes none.
        changes: The form is a patch: only what was changed is the answer.
        options: Texts to choose one from.
        comments: Remarks about places of the draft may go with it.
        grant: A standing permission may go with it.
    """

    word: Word
    label: str
    means: str
    confirm: str = ""
    text: Need = "may"
    text_label: str = "Comment"
    form: Form | None = None
    changes: bool = False
    options: tuple[str, ...] = ()
    comments: bool = False
    grant: bool = False


def answers_of(request: Request) -> tuple[Answer, ...]:
    """The answers that it takes while it waits, the likeliest first."""
    words = ("respond", "reject") if request.kind == "question" and request.action is None else WORDS
    found = (_answer(request, word) for word in words if word in request.allowed)
    return tuple(replace(answer, confirm=_confirm(request, answer)) for answer in found)


def _confirm(request: Request, answer: Answer) -> str:
    if answer.word != "edit":
        return answer.label
    if request.is_audit:
        return "Record what it should have been"
    return {"review": "Deliver this version"}.get(
        request.kind, answer.label if answer.changes else "Approve with changes"
    )


def _answer(request: Request, word: Word) -> Answer:
    says, means = label(request, word), meaning(request, word)
    match word:
        case "approve":
            return Answer(word, says, means, text_label=_COMMENT, grant=request.takes_grant)
        case "reject":
            told = "Reason" if request.kind == "review" else "Reason; the agent is told"
            return Answer(word, says, means, text_label=told)
        case "edit":
            form, patch = _edited(request)
            grant = request.takes_grant
            return Answer(word, says, means, text_label=_COMMENT, form=form, changes=patch, grant=grant)
        case "respond":
            return _response(request, says, means)


def _edited(request: Request) -> tuple[Form, bool]:
    """What an edit begins with, and whether it is a patch."""
    schema = request.answer_schema
    if request.action is not None:
        return Form.of(schema, request.action.args, editable=request.editable), False
    if request.draft is not None:
        return Form.of(schema, request.draft, editable=request.editable), False
    facts = facts_of(request)
    return Form.of(schema, facts.state if isinstance(facts, Situation) else {}), True


def _response(request: Request, says: str, means: str) -> Answer:
    if request.is_audit:
        return Answer("respond", says, means, text="must", text_label="Comment")
    if request.kind == "review":
        return Answer("respond", says, means, text_label="What to change", comments=True)
    if request.kind == "escalation":
        return Answer("respond", says, means, text="must", text_label="What the agent shall do")
    if request.kind != "question":
        return Answer("respond", says, means, text="must", text_label="What the agent gets as the result")
    schema, facts = request.answer_schema, facts_of(request)
    if isinstance(facts, Inquiry) and facts.options:
        free: Need = "may" if facts.free_text else "no"
        return Answer("respond", says, means, text=free, text_label="Another answer", options=facts.options)
    if _is_text(schema) or (schema is None and request.is_ours):
        return Answer("respond", says, means, text="must", text_label="Answer")
    form = Form.of(schema, MISSING)
    text: Need = "may" if schema is None else "no"
    return Answer("respond", says, means, text=text, text_label="Answer as a text", form=form)


def _is_text(schema: Mapping[str, object] | None) -> bool:
    return schema is not None and schema.get("type") == "string" and "enum" not in schema and "const" not in schema
