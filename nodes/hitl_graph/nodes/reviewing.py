"""What people are shown of a draft, and what of its end goes into the graph's state. Pure functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AnyMessage
from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from hitl_graph.drafts import difference, excerpt, feedback, place
from hitl_graph.ledger.effects import Lost
from hitl_graph.model import WORDS, Comment, Finding, Request, Review, Word, delivery, digest
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.drafting import Draft, Place
from hitl_graph.nodes.revisions import Past, Revision
from hitl_graph.nodes.verdicts import Judged
from hitl_graph.terms import Terms

__all__ = ["End", "Item", "question", "update", "what_became"]

_LABELS: dict[Word, str] = {
    "approve": "it is delivered exactly as shown",
    "edit": "your version is delivered instead",
    "reject": "nothing is delivered, and it ends here",
    "respond": "it goes back to the writer with your feedback",
}


@dataclass(frozen=True)
class Item:
    """One draft on its way through the node. `key` names it for the ledger."""

    draft: Draft
    past: Past
    key: str
    asker: Asker
    state: Any

    @property
    def mode(self) -> Any:
        """The mode that the run wants."""
        return self.asker.config.get("configurable", {}).get("hitl_mode")


@dataclass(frozen=True)
class End:
    """What becomes of a draft.

    Attributes:
        by: The reviewer, or `checks`, `policy` or `deadline`.
        message: What they said.
        terms: On which it was decided.
        draft: What is delivered, as JSON; `typed`: as the state has it; `result`: what the delivery gave.
    """

    outcome: Literal["delivered", "revise", "rejected", "blocked"]
    by: str
    message: str | None = None
    comments: Sequence[Comment] = ()
    draft: JsonValue = None
    typed: Any = None
    result: Any = None
    request_id: str | None = None
    terms: Terms | None = None


# --- what people are shown -------------------------------------------------------------------------------------------


def question(
    item: Item, judged: Judged, found: tuple[Finding, ...], max_revisions: int, draft: JsonValue
) -> Callable[[str, str], Request]:
    """The question whether a draft is good enough: the writer's, or a version that others have to agree to, too."""
    last, verdict = item.past.last, judged.verdict
    allowed, reason = verdict.allowed, verdict.reason
    if item.past.by_people >= max_revisions:
        rest = tuple(word for word in allowed if word != "respond")
        allowed = rest if {"approve", "edit"} & {*rest} and "reject" in rest else ("approve", "edit", "reject")
        reason = f"{reason}; it was sent back {item.past.by_people} times, which is the most: a final word is needed"
    message = item.draft.message
    model = message.response_metadata.get("model_name") if message is not None else None
    previous = last["draft"] if last else None
    review = Review(
        revision=item.past.revision,
        max_revisions=max_revisions,
        findings=found,
        previous=previous,
        feedback=last["message"] if last else None,
        comments=item.past.comments,
        sent_back_by=last["by"] if last else None,
        diff=difference(previous, draft) if previous is not None else None,
    )

    def describe(request_id: str, interrupt_id: str) -> Request:
        return Request(
            id=request_id,
            kind="review",
            thread_id=item.asker.thread_id,
            interrupt_id=interrupt_id,
            draft=draft,
            review=review,
            allowed=tuple(word for word in WORDS if word in allowed),
            labels={word: text for word, text in _LABELS.items() if word in allowed},
            editable=verdict.editable,
            answer_schema=item.draft.schema,
            description=_description(review),
            reason=reason,
            action_key=item.key,
            score=judged.score,
            model_digest=digest(str(model)) if model else None,
            route=judged.route,
            propensity=judged.propensity,
            reference=judged.reference,
        )

    return describe


def _description(review: Review) -> str:
    """For clients that know nothing of reviews: Markdown."""
    parts = [f"Revision {review.revision} of a draft that is to be delivered."]
    if review.findings:
        lines = (f"- {f.check}: {f'{place(f)}: ' if place(f) else ''}{f.text}" for f in review.findings)
        parts.append("Checks found:\n" + "\n".join(lines))
    if review.previous is not None:
        said = [review.feedback] if review.feedback else []
        said += [f"- {f'{place(c)}: ' if place(c) else ''}{c.text}" for c in review.comments]
        parts.append(f"{review.sent_back_by} had sent the draft before back:\n" + "\n".join(said))
        parts.append(f"What changed since:\n```diff\n{review.diff}\n```" if review.diff else "Nothing changed since.")
    return "\n\n".join(parts)


def what_became(item: Item, end: End, lost: Lost) -> Callable[[str, str], Request]:
    """The question what became of a delivery: for the people who let it go out, and no silence answers it."""

    def describe(request_id: str, interrupt_id: str) -> Request:
        return Request(
            id=request_id,
            kind="question",
            thread_id=item.asker.thread_id,
            interrupt_id=interrupt_id,
            action=delivery(end.draft),
            allowed=("approve", "reject", "respond"),
            labels={
                "approve": "deliver it again",
                "reject": "it was not delivered, and shall not be",
                "respond": "it was delivered, with this result",
            },
            description=f"Was this delivered? The delivery was started, and {lost.error}.",
            reason=f"the outcome is {lost.outcome}; it is not delivered again without a person",
            action_key=item.key,
            terms=end.terms and end.terms.unscheduled,
        )

    return describe


# --- what goes into the state ----------------------------------------------------------------------------------------


def update(
    item: Item, end: End, found: tuple[Finding, ...], where: Place
) -> tuple[dict[str, Any], Sequence[AnyMessage]]:
    """The update of the state, and what to stream of it, if the end user has not seen it yet."""
    return where.changes(item.draft, _entry(item, end, found), end.typed)


def _entry(item: Item, end: End, found: tuple[Finding, ...]) -> Revision:
    draft = item.draft.plain
    entry = Revision(
        revision=item.past.revision,
        draft=draft,
        outcome=end.outcome,
        by=end.by,
        message=end.message,
        findings=[finding.model_dump(mode="json", exclude_none=True) for finding in found],
        request_id=end.request_id,
    )
    if end.outcome == "revise":
        entry["feedback"] = feedback(draft, end.by, end.message, end.comments)
        entry["comments"] = [
            comment.model_dump(mode="json", exclude_none=True) | {"excerpt": excerpt(comment, draft)}
            for comment in end.comments
        ]
    if end.outcome == "delivered":
        entry["delivered"] = end.draft
        entry["result"] = to_jsonable_python(end.result, fallback=str)
    return entry
