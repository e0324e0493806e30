"""Requests, actions, decisions and their digests. Plain data, no I/O.

The four answers are LangChain's words: approve, edit, reject, respond.
"""

import hashlib
import json
from datetime import datetime
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, model_validator

__all__ = [
    "WORDS",
    "Action",
    "Decision",
    "Kind",
    "Request",
    "State",
    "Word",
    "approve",
    "canonical",
    "digest",
    "edit",
    "plain_text",
    "reject",
    "request_id",
    "respond",
]

Word = Literal["approve", "edit", "reject", "respond"]
Kind = Literal["approval", "review", "escalation", "question"]
State = Literal["pending", "decided", "delivered", "expired", "cancelled", "superseded"]
AnswerShape = Literal["hitl", "middleware", "tool_approval", "raw"]

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


def plain_text(value: object) -> str:
    """As `canonical`, of what is known to be plain JSON, such as a dumped model."""
    return _encode(value)


def digest(value: object) -> str:
    """SHA-256 (64 hex digits) over the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def request_id(thread_id: str, interrupt_id: str) -> str:
    """The id of the request that an interrupt of a thread asks (20 hex digits).

    Every re-execution of the paused task and every process derives the same one.
    """
    return hashlib.sha256(f"{thread_id}\0{interrupt_id}".encode()).hexdigest()[:20]


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


class Decision(_Frozen):
    """One person's answer. Make it with `approve`, `edit`, `reject` or `respond`."""

    type: Word
    args: dict[str, JsonValue] | None = None
    """edit: all arguments the action shall have."""
    message: str | None = None
    """reject: why. respond: what the model is told. approve, edit: a comment for the record."""
    value: JsonValue = None
    """respond: a structured answer, where the question asks for one."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.args is None) == (self.type == "edit"):
            raise ValueError("args are needed for an edit, and only there")
        if self.value is not None and self.type != "respond":
            raise ValueError("only respond carries a value")
        if self.type == "respond" and (self.message is None) == (self.value is None):
            raise ValueError("respond needs a text or a value, not both")
        return self


def approve(comment: str | None = None) -> Decision:
    """Go ahead exactly as shown."""
    return Decision(type="approve", message=comment)


def edit(args: dict[str, Any], comment: str | None = None) -> Decision:
    """Go ahead with these arguments instead; they replace all of the old ones."""
    return Decision(type="edit", args=args, message=comment)


def reject(reason: str = "") -> Decision:
    """Do not do it. The model is told the reason."""
    return Decision(type="reject", message=reason)


def respond(answer: str | JsonValue) -> Decision:
    """Do not do it; answer this instead. The model gets it as the result."""
    if isinstance(answer, str):
        return Decision(type="respond", message=answer)
    return Decision(type="respond", value=answer)


class Request(_Frozen):
    """One question to people, and what became of it.

    The upper half is fixed when the question is asked and covered by `digest`; the lower half moves
    `pending -> decided -> delivered`, or ends as expired, cancelled or superseded.
    """

    id: str
    kind: Kind
    thread_id: str
    interrupt_id: str
    action: Action | None = None
    question: JsonValue = None
    """What a plain `interrupt()` showed, or the facts of a question."""
    draft: JsonValue = None
    allowed: tuple[Word, ...] = WORDS
    labels: dict[Word, str] = {}
    """What a word means for this request, where it is not obvious."""
    editable: tuple[str, ...] | None = None
    """Arguments that an edit may change; None means all."""
    answer_schema: dict[str, JsonValue] | None = None
    """JSON Schema of the action's arguments; for a plain interrupt, of the answer."""
    answer_shape: AnswerShape = "hitl"
    """How the graph wants the answer wrapped."""
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
    route: Literal["auto", "audit", "unsure", "query", "policy"] = "policy"
    propensity: float = 1.0
    reference: str | None = None

    state: State = "pending"
    checkpoint_id: str | None = None
    created_at: datetime | None = None
    decided_at: datetime | None = None
    decision: Decision | None = None
    reviewer: str | None = None
    channel: str | None = None
    note: str | None = None
    """Why it was superseded or could not be delivered."""

    @property
    def digest(self) -> str:
        """SHA-256 over what was shown and what may be answered."""
        return digest(self.shown())

    def shown(self) -> dict[str, JsonValue]:
        """The fixed half, as plain JSON."""
        return cast("dict[str, JsonValue]", self.model_dump(mode="json", exclude=_MOVING))


_MOVING = {"state", "checkpoint_id", "created_at", "decided_at", "decision", "reviewer", "channel", "note"}
