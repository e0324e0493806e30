"""A ledger's decisions as examples, a page at a time."""

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage, convert_to_openai_messages
from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import JsonValue

from hitl_graph.learning.examples import Example
from hitl_graph.ledger import Ledger, deciding, requests, routing
from hitl_graph.ledger.routing import Routed
from hitl_graph.model import Request, edited, from_ms
from hitl_graph.storage import Transaction
from hitl_graph.voting import Vote

__all__ = ["examples"]

_PAGE = 200
_DEADLINE = "deadline"
_LABELLED = ("approval", "review")


def examples(
    ledger: Ledger, checkpointer: BaseCheckpointSaver[Any] | None = None, *, thread_id: str | None = None
) -> Iterator[Example]:
    """Each approval and review, and each call that nobody was asked about, oldest first.

    Args:
        checkpointer: Of the threads, where the messages before a call are to be read; else the input is what was kept
            with the call, if anything was.
        thread_id: Of this thread only.
    """
    asked = _asked(ledger, checkpointer, thread_id)
    return merge(asked, _automatic(ledger, thread_id), key=lambda example: example.at)


def _asked(ledger: Ledger, checkpointer: BaseCheckpointSaver[Any] | None, thread_id: str | None) -> Iterator[Example]:
    last: tuple[int, str] = (-1, "")
    where = "kind IN ('approval', 'review') AND (created_ms, id) > (?, ?)"
    while True:
        parameters: list[Any] = [*last]
        clause = where
        if thread_id is not None:
            clause, parameters = f"{where} AND thread_id = ?", [*last, thread_id]

        def page(
            tx: Transaction, clause: str = clause, parameters: Sequence[Any] = tuple(parameters)
        ) -> list[tuple[Request, Routed | None, tuple[Vote, ...], JsonValue]]:
            found = requests.select(tx, f"{clause} ORDER BY created_ms, id LIMIT {_PAGE}", parameters)
            votes = deciding.votes_on(tx, [request.id for request in found]) if found else {}
            routed = routing.of_requests(tx, found)
            return [(one, routed.get(one.id), votes[one.id], _better(tx, one)) for one in found]

        rows = ledger.read(page)
        if not rows:
            return
        for request, routed, votes, better in rows:
            given = _input(checkpointer, request) if checkpointer is not None else None
            yield _example(request, routed, votes, better, given)
        final = rows[-1][0]
        last = (ledger.read(requests.place, final.id)[0], final.id)


def _automatic(ledger: Ledger, thread_id: str | None) -> Iterator[Example]:
    where, parameters = (
        ("route = 'auto'", []) if thread_id is None else ("route = 'auto' AND thread_id = ?", [thread_id])
    )
    after = 0
    while rows := ledger.read(routing.labels, where, parameters, after=after, limit=_PAGE):
        for label in rows:
            one = label.routed
            is_draft = one.tool == "deliver"
            yield Example(
                one.key, one.thread_id, "review" if is_draft else "approval", None if is_draft else one.tool,
                one.input, one.output, one.at, one.score, one.source.model or None, one.source.group, "auto",
                one.propensity,
            )  # fmt: skip
        after = rows[-1].routed.number


def _example(
    request: Request, routed: Routed | None, votes: tuple[Vote, ...], better: JsonValue, given: JsonValue
) -> Example:
    decision = request.decision
    seconds = None
    if request.created_at is not None and request.decided_at is not None:
        seconds = (request.decided_at - request.created_at).total_seconds()
    return Example(
        id=request.id,
        thread_id=request.thread_id,
        kind=request.kind,
        tool=request.action.name if request.action else None,
        input=given or (routed.input if routed else None),
        output=cast(JsonValue, request.action.args) if request.action else request.draft,
        at=request.created_at or from_ms(0),
        score=request.score,
        model=request.model_digest,
        group=routed.source.group if routed else "",
        route=request.route,
        propensity=request.propensity,
        split="audit" if request.route == "audit" else "train",
        state=request.state,
        decision=decision,
        reviewer=request.reviewer,
        by_people=decision is not None and request.channel != _DEADLINE,
        seconds=seconds,
        reference=request.reference or _reference(request),
        votes=votes,
        better=better,
    )


def _reference(request: Request) -> str:
    quorum = sum(stage.quorum for stage in request.terms.stages) if request.terms else 1
    return "one reviewer" if quorum == 1 else f"{quorum} who agree"


def _better(tx: Transaction, request: Request) -> JsonValue:
    """What people approved after they had sent a draft back: the next revision of it."""
    if request.kind != "review" or request.decision is None or request.decision.type != "respond":
        return None
    number = request.review.revision if request.review else 1
    later = requests.select(
        tx, "thread_id = ? AND kind = 'review' AND decision IS NOT NULL AND created_ms >= ? ORDER BY created_ms, id",
        (request.thread_id, requests.place(tx, request.id)[0]),
    )  # fmt: skip
    for other in later:
        follows = other.review is not None and other.review.revision == number + 1
        if follows and other.review is not None and other.review.previous == request.draft and other.decision:
            if other.channel == _DEADLINE:
                return None
            return other.draft if other.decision.type == "approve" else edited(other.decision)
    return None


def _input(checkpointer: BaseCheckpointSaver[Any], request: Request) -> JsonValue:
    """The messages before the call or the draft, in OpenAI's form; None if they are not there any more."""
    if request.checkpoint_id is None:
        return None
    at = {"thread_id": request.thread_id, "checkpoint_ns": "", "checkpoint_id": request.checkpoint_id}
    found = checkpointer.get_tuple({"configurable": at})
    messages: list[AnyMessage] = (found.checkpoint["channel_values"].get("messages") or []) if found else []
    before = messages[: _place(messages, request)]
    return cast(JsonValue, convert_to_openai_messages(before)) if before else None


def _place(messages: Sequence[AnyMessage], request: Request) -> int:
    """Where the message is that proposes what the request is about; after the last, if it is none of them."""
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if isinstance(message, AIMessage) and (
            any(call["id"] == request.tool_call_id for call in message.tool_calls)
            if request.action is not None
            else message.text == request.draft
        ):
            return place
    return len(messages)
