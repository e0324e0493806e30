"""Requests, actions, decisions and their digests. Plain data, no I/O.

The four answers are LangChain's words: approve, edit, reject, respond.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, model_validator

from hitl_graph.grants import Grant
from hitl_graph.handling import Handling
from hitl_graph.terms import Fresh, Origin, Terms

__all__ = [
    "WORDS",
    "Action",
    "Comment",
    "Decision",
    "Finding",
    "Kind",
    "Request",
    "Review",
    "Risk",
    "Route",
    "State",
    "Word",
    "approve",
    "canonical",
    "delivery",
    "digest",
    "edit",
    "edited",
    "from_ms",
    "is_wrong",
    "plain_text",
    "reject",
    "request_id",
    "respond",
    "to_ms",
]

Word = Literal["approve", "edit", "reject", "respond"]
Kind = Literal["approval", "review", "escalation", "question"]
Risk = Literal["low", "medium", "high"]
State = Literal["pending", "decided", "delivered", "expired", "cancelled", "superseded"]
Route = Literal["auto", "audit", "unsure", "query", "policy"]
AnswerShape = Literal["hitl", "middleware", "tool_approval", "raw", "awaited", "audit"]

WORDS: tuple[Word, ...] = ("approve", "edit", "reject", "respond")

_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII.

    Raises:
        TypeError: The value is not plain JSON (a set, an object, a key that is no string, NaN, half a surrogate ...).
    """
    try:
        plain = _JSON.validate_python(value)
        text = _encode(plain)
        if "\\ud" in text:  # a surrogate without its other half cannot be stored as UTF-8
            json.dumps(plain, ensure_ascii=False).encode()
        return text
    except (ValueError, RecursionError) as exc:
        raise TypeError(f"not plain JSON: {exc}") from exc


def from_ms(ms: int) -> datetime:
    """The instant of a stored time: milliseconds since 1970 (UTC)."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(at: datetime) -> int:
    """An instant as it is stored."""
    return round(at.timestamp() * 1000)


def plain_text(value: object) -> str:
    """As `canonical`, of what is known to be plain JSON, such as a dumped model."""
    return _encode(value)


def digest(value: object) -> str:
    """SHA-256 (64 hex digits) over the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def request_id(thread_id: str, interrupt_id: str, position: int = 0) -> str:
    """The id of the request that an interrupt of a thread asks (20 hex digits).

    Every re-execution of the paused task and every process derives the same one.

    Args:
        position: Which of them, from 0, where the interrupt asks several.
    """
    which = f"\0{position}" if position else ""
    return hashlib.sha256(f"{thread_id}\0{interrupt_id}{which}".encode()).hexdigest()[:20]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Action(_Frozen):
    """Name and arguments of one tool call."""

    name: str
    args: dict[str, JsonValue]

    @property
    def digest(self) -> str:
        """What a permit is bound to."""
        return digest({"name": self.name, "args": self.args})


def delivery(draft: JsonValue) -> Action:
    """The delivery of a draft, as an action."""
    return Action(name="deliver", args={"draft": draft})


class Comment(_Frozen):
    """A remark about a draft: about all of it, or anchored to one place.

    Args:
        text: What is to be said.
        span: Of a text: characters from `start` up to, but not including, `end`, counted from 0.
        field: Of JSON: names and positions with dots between them, such as `items.0.price`.
        file: Of a list of files or of a patch: the path of one of them.
        line: From 1; of the text, or of the file (of a patch: of the file as it becomes).

    Raises:
        ValidationError: It says nothing, or is anchored to more than one place.
    """

    text: str = Field(min_length=1)
    span: tuple[int, int] | None = None
    field: str | None = None
    file: str | None = None
    line: int | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(anchor is not None for anchor in (self.span, self.field, self.file)) > 1:
            raise ValueError("a comment is anchored to one place: a span, a field or a file")
        if self.line is not None and (self.span is not None or self.field is not None):
            raise ValueError("a line is one of a text or of a file; with a span or a field it means nothing")
        return self


class Finding(Comment):
    """What an automatic check found in a draft, and what shall come of it.

    Args:
        then: `note`: it is on the card, if people are asked anyway. `ask`: people are asked. `revise`: the draft goes
            back to the writer without asking. `block`: it is not delivered, and nobody is asked.
        check: The name of the check.
    """

    then: Literal["note", "ask", "revise", "block"] = "ask"
    check: str = ""


class Decision(_Frozen):
    """One person's answer. Make it with `approve`, `edit`, `reject` or `respond`."""

    type: Word
    args: dict[str, JsonValue] | None = None
    """edit: all arguments the action shall have."""
    message: str | None = None
    """reject: why. respond: what the model is told. approve, edit: a comment for the record."""
    value: JsonValue = None
    """respond: a structured answer, where the question asks for one."""
    draft: JsonValue = None
    """edit of a review: the person's version of the draft."""
    comments: tuple[Comment, ...] = ()
    """respond to a review: remarks about places of the draft."""
    grant: Grant | None = None
    """approve, edit: from now on, calls like this one are not asked about."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type == "edit" and (self.args is None) == (self.draft is None):
            raise ValueError("an edit needs args or a draft, not both")
        if self.type != "edit" and not (self.args is None and self.draft is None):
            raise ValueError("args and a draft are needed for an edit, and only there")
        if self.value is not None and self.type != "respond":
            raise ValueError("only respond carries a value")
        if self.comments and self.type != "respond":
            raise ValueError("only respond carries comments")
        if self.grant is not None and self.type not in ("approve", "edit"):
            raise ValueError("only approve and edit give a standing permission")
        if self.type == "respond" and self.message is not None and self.value is not None:
            raise ValueError("respond needs a text or a value, not both")
        if self.type == "respond" and self.message is None and self.value is None and not self.comments:
            raise ValueError("respond needs a text or a value (or, to a draft, comments)")
        return self


def approve(comment: str | None = None, *, grant: Grant | None = None) -> Decision:
    """Go ahead exactly as shown.

    Args:
        grant: And with calls like this one from now on, without asking.
    """
    return Decision(type="approve", message=comment, grant=grant)


def edit(new: dict[str, Any] | list[Any] | str, comment: str | None = None, *, grant: Grant | None = None) -> Decision:
    """Go ahead with this instead: all arguments of an action, or the whole new draft of a review.

    Args:
        grant: And with calls like this one, as it is edited, from now on without asking.
    """
    if isinstance(new, dict):  # of a review, too: `wire.validate` knows which it is
        return Decision(type="edit", args=new, message=comment, grant=grant)
    return Decision(type="edit", draft=new, message=comment, grant=grant)


def reject(reason: str = "") -> Decision:
    """Do not do it. The model is told the reason."""
    return Decision(type="reject", message=reason)


def respond(answer: str | JsonValue = None, *, comments: Iterable[Comment] = ()) -> Decision:
    """Do not do it; answer this instead. The model gets it as the result.

    Args:
        answer: A text, or a structured answer where the question asks for one. To a review: feedback for the writer.
        comments: To a review: remarks about places of the draft.
    """
    if isinstance(answer, str):
        return Decision(type="respond", message=answer, comments=tuple(comments))
    return Decision(type="respond", value=answer, comments=tuple(comments))


def edited(decision: Decision) -> JsonValue:
    """What a decision makes of what was proposed; None where it is no edit."""
    if decision.type != "edit":
        return None
    return decision.draft if decision.args is None else decision.args


def is_wrong(decision: Decision, output: JsonValue) -> bool:
    """Whether a decision says that what was proposed is wrong: anything but "yes, exactly so"."""
    if decision.type == "edit":
        return canonical(edited(decision)) != canonical(output)
    return decision.type != "approve"


class Review(_Frozen):
    """What a review shows beside the draft."""

    revision: int = 1
    """From 1; the draft that the writer wrote after feedback has the next number."""
    max_revisions: int = 0
    """How often it may be sent back by people; then they are asked for a final word."""
    findings: tuple[Finding, ...] = ()
    """What the automatic checks found."""
    previous: JsonValue = None
    """The draft before, where it was sent back."""
    feedback: str | None = None
    """Why it was sent back."""
    comments: tuple[Comment, ...] = ()
    """Remarks about places of the previous draft."""
    sent_back_by: str | None = None
    """A reviewer, or `checks`."""
    diff: str | None = None
    """From the previous draft to this one, line by line (see `hitl_graph.drafts.difference`)."""


class Request(_Frozen):
    """One question to people, and what became of it.

    The upper half is fixed when the question is asked and covered by `digest`; the lower half moves
    `pending -> decided -> delivered`, or ends as expired, cancelled or superseded.
    """

    id: str
    kind: Kind
    thread_id: str
    interrupt_id: str
    position: int | None = None
    """Which of the requests of its interrupt, from 0; None where it is the only one."""
    action: Action | None = None
    question: JsonValue = None
    """What a plain `interrupt()` showed, or the facts of a question."""
    draft: JsonValue = None
    review: Review | None = None
    """Where it is about a draft: its history and what the checks found."""
    allowed: tuple[Word, ...] = WORDS
    labels: dict[Word, str] = {}
    """What a word means for this request, where it is not obvious."""
    editable: tuple[str, ...] | None = None
    """Arguments that an edit may change; None means all."""
    answer_schema: dict[str, JsonValue] | None = None
    """JSON Schema of the action's arguments, or of the draft; for a plain interrupt, of the answer."""
    answer_shape: AnswerShape = "hitl"
    """How the graph wants the answer wrapped. `awaited`: no graph is resumed; whoever asked waits for the decision.
    `audit`: nothing waits for it."""
    description: str = ""
    reason: str = ""
    """Why people are asked."""
    tool_call_id: str | None = None
    action_key: str | None = None
    """Names the call for permits and effects: thread, message, tool call id and position."""
    ignored: str | None = None
    """Digest of an answer that lay around before the question was asked; it does not count."""
    score: float | None = None
    model_digest: str | None = None
    route: Route = "policy"
    propensity: float = 1.0
    reference: str | None = None
    terms: Terms | None = None
    """Who has to agree, and by when. None: one answer of anybody."""
    origin: Origin | None = None
    """On whose behalf, and by which version of what."""
    fresh: Fresh | None = None
    """Facts that are read again before the action runs."""
    grantable: bool | None = None
    """Whether a standing permission may be given with the answer. None: for an approval that one of our nodes asks."""
    risk: Risk | None = None
    """How much harm a wrong answer may do, as the rule says; None where no rule does."""

    state: State = "pending"
    checkpoint_id: str | None = None
    created_at: datetime | None = None
    decided_at: datetime | None = None
    decision: Decision | None = None
    reviewer: str | None = None
    channel: str | None = None
    note: str | None = None
    """Why it was superseded or could not be delivered."""
    stage: int = 0
    """In which of the stages of `terms` people vote now, from 0."""
    fired: int = 0
    """How many turns of the schedule have come."""
    handling: Handling | None = None
    """Who has claimed it, who has given their vote to whom."""

    @property
    def digest(self) -> str:
        """SHA-256 over what was shown and what may be answered."""
        return digest(self.shown())

    def shown(self) -> dict[str, JsonValue]:
        """The fixed half, as plain JSON."""
        unused = {name for name in _LATER if getattr(self, name) is None}
        return cast("dict[str, JsonValue]", self.model_dump(mode="json", exclude=_MOVING | unused))

    @property
    def is_ours(self) -> bool:
        """Whether this library asks it, not a plain `interrupt()` or the middleware of others."""
        return self.answer_shape in ("hitl", "awaited", "audit")

    @property
    def is_audit(self) -> bool:
        """Whether people only say what they think of something, and nothing waits for it (see `is_label`)."""
        return self.answer_shape == "audit"

    @property
    def is_label(self) -> bool:
        """Whether it is such a question about an item of a pool, of which nothing has been done."""
        return self.is_audit and self.interrupt_id == "label"

    @property
    def takes_grant(self) -> bool:
        """Whether its decision may carry a standing permission."""
        asks = self.kind == "approval" and self.is_ours and "approve" in self.allowed
        return asks and self.grantable is not False

    @property
    def delivery(self) -> Action | None:
        """What a permit to deliver the draft of a review is bound to."""
        return delivery(self.draft) if self.kind == "review" and self.draft is not None else None


_LATER = ("position", "review", "terms", "origin", "fresh", "grantable", "risk")
"""Fields of later versions: where they are not used, they are not in the digest, so that older requests keep theirs."""
_MOVING = {
    "state", "checkpoint_id", "created_at", "decided_at", "decision", "reviewer", "channel", "note", "stage", "fired",
    "handling",
}  # fmt: skip
