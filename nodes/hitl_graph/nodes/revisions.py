"""The history of a draft in the graph's state: plain JSON, so that the writer and anybody else can read it.

It is in the channel `reviews`, or, where the draft is a message, on the messages themselves (`additional_kwargs`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from hitl_graph.model import Comment

__all__ = ["MARK", "Past", "Revision", "feedback_message", "on_messages", "past", "released", "revision"]

MARK = "hitl_review"
"""In `additional_kwargs`: of a draft what became of it, of a feedback message that it is one."""

Outcome = Literal["delivered", "revise", "rejected", "blocked"]


class Revision(TypedDict):
    """One draft and what became of it."""

    revision: int
    """From 1."""
    draft: Any
    """As JSON; what the writer wrote."""
    outcome: Outcome
    by: str
    """The reviewer, or `checks` or `policy`."""
    feedback: NotRequired[str]
    """For the writer's prompt: who wants changes, why, and each comment with the place that it is about."""
    message: str | None
    """What the reviewer wrote, without the comments; of a draft that was rejected or blocked, why."""
    comments: NotRequired[list[dict[str, Any]]]
    """Each with `text`, its anchor (`span`, `field`, `file`, `line`) and the `excerpt` that stands there."""
    findings: list[dict[str, Any]]
    """What the automatic checks found."""
    delivered: NotRequired[Any]
    """What was delivered: the draft, or a person's version of it."""
    result: NotRequired[Any]
    """What the delivery gave."""
    request_id: str | None
    """The request in the ledger, where people were asked."""


_revision: TypeAdapter[Revision] = TypeAdapter(Revision)


@dataclass(frozen=True)
class Past:
    """What came before a draft.

    Attributes:
        revision: The number of the draft that is looked at now, from 1.
        last: The entry of the draft before, if that was sent back; `comments`: what it says of places of that draft.
        by_people: How often people have sent this one back.
        by_checks: How often checks have, since people last did.
    """

    revision: int = 1
    last: Revision | None = None
    comments: tuple[Comment, ...] = ()
    by_people: int = 0
    by_checks: int = 0


def past(entries: Sequence[Any]) -> Past:
    """What came before, from the entries of a state, oldest first. What is no entry does not count."""
    before = Past()
    for entry in entries:
        try:
            read = revision(entry)
            comments = tuple(map(_comment, read.get("comments", ())))
        except ValidationError:
            continue
        if read["outcome"] != "revise":
            before = Past()
        elif read["by"] == "checks":
            before = Past(read["revision"] + 1, read, comments, before.by_people, before.by_checks + 1)
        else:
            before = Past(read["revision"] + 1, read, comments, before.by_people + 1)
    return before


def _comment(raw: dict[str, Any]) -> Comment:
    return Comment.model_validate({name: value for name, value in raw.items() if name in Comment.model_fields})


def revision(raw: Any) -> Revision:
    """An entry.

    Raises:
        ValidationError: It is none.
    """
    return _revision.validate_python(raw)


def on_messages(messages: Iterable[BaseMessage]) -> list[Any]:
    """The entries that are kept on messages."""
    marks = (message.additional_kwargs.get(MARK) for message in messages if isinstance(message, AIMessage))
    return [mark for mark in marks if isinstance(mark, dict) and "revision" in mark]


def released(messages: Iterable[AnyMessage]) -> list[AnyMessage]:
    """The messages that an end user may see: no draft that was not delivered, no feedback of reviewers.

    Of drafts it knows those that an `OutputReviewNode` has decided about and those of a `withheld` writer.
    """
    kept = []
    for message in messages:
        mark = message.additional_kwargs.get(MARK)
        if mark is None or (isinstance(mark, dict) and isinstance(message, AIMessage) and _is_public(mark)):
            kept.append(message)
    return kept


def _is_public(mark: dict[str, Any]) -> bool:
    return mark.get("outcome") in ("delivered", "rejected", "blocked")  # the latter say that nothing is delivered


def feedback_message(text: str) -> HumanMessage:
    """Feedback as a message to the writer."""
    return HumanMessage(text, additional_kwargs={MARK: {"feedback": True}})
