"""Small parts of escalation: the cache of watches, errors that pass handlers, and old digests."""

import pickle
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.errors import GraphBubbleUp

from hitl_graph.errors import (
    AlreadyDecidedError,
    HitlError,
    InvalidDecisionError,
    StaleRequestError,
    UnknownRequestError,
)
from hitl_graph.facts import Finding, Situation, as_text, facts_of
from hitl_graph.model import Action, Request
from hitl_graph.nodes.guidance import unanswered
from hitl_graph.nodes.refusing import past_handlers
from hitl_graph.nodes.watching import Watches
from hitl_graph.stuck import Watch


def test_the_watches_used_last_are_kept() -> None:
    made: list[Watch] = []

    def make(memory: Any) -> Watch:
        made.append(Watch(memory=memory))
        return made[-1]

    watches = Watches(make, kept=2)
    for name in ("a", "b", "c", "b"):
        watches.keep((name,), watches.take((name,), ()))
    assert len(made) == 3
    assert watches.take(("b",), ()) is made[1]
    assert watches.take(("b",), ()) is not made[1]  # taken out: no two threads share one
    assert watches.take(("a",), ()) is not made[0]  # the oldest one had to go


@pytest.mark.parametrize(
    "error", [InvalidDecisionError("r", "m"), StaleRequestError("r", "m"), AlreadyDecidedError("r", "bob", "edit")]
)
def test_errors_about_answers_pass_handlers_and_are_what_they_were(error: HitlError) -> None:
    kind, text = type(error), str(error)
    past_handlers(error)
    assert isinstance(error, kind)
    assert isinstance(error, GraphBubbleUp)
    assert (type(error).__name__, str(error)) == (kind.__name__, text)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, text, vars(error))


def test_other_errors_are_left_alone() -> None:
    error = UnknownRequestError("r", "m")
    past_handlers(error)
    assert type(error) is UnknownRequestError


def test_calls_without_an_answer() -> None:
    calls = [{"name": "a", "args": {}, "id": "1"}, {"name": "b", "args": {}, "id": "2"}]
    broken: Any = [{"name": "c", "args": "{", "id": "3", "error": None, "type": "invalid_tool_call"}]
    asked = AIMessage("", tool_calls=calls, invalid_tool_calls=broken)
    one = ToolMessage("x", tool_call_id="1")
    assert [call["id"] for call in unanswered([HumanMessage("go"), asked, one])] == ["2", "3"]
    assert unanswered([asked, *(ToolMessage("x", tool_call_id=id) for id in "123")]) == []
    assert unanswered([asked, AIMessage("never mind")]) == []
    assert unanswered([HumanMessage("go")]) == []


def _request(**more: Any) -> Request:
    return Request(**{"id": "0" * 20, "kind": "escalation", "thread_id": "t", "interrupt_id": "i", **more})


@pytest.mark.parametrize(
    "request_",
    [
        _request(question=None),
        _request(question="stuck"),
        _request(question={"findings": 3}),
        _request(question={}, answer_shape="raw"),
        _request(question={}, kind="review"),
        _request(kind="question", question={"q": 1}),
        _request(question={}, action=Action(name="pay", args={})),
    ],
)
def test_what_is_not_ours_has_no_facts(request_: Request) -> None:
    assert facts_of(request_) is None


def test_a_newer_version_may_say_more() -> None:
    facts = facts_of(_request(question={"findings": [{"kind": "new", "sentence": "s", "more": 1}], "more": {}}))
    assert isinstance(facts, Situation)
    assert facts.findings == (Finding(kind="new", sentence="s"),)
    assert as_text(facts) == "s"


def test_requests_of_before_keep_their_digest() -> None:
    """Stored pending requests stay answerable: what is shown has no new field."""
    request = Request(
        id="0" * 20, kind="approval", thread_id="t", interrupt_id="i", action=Action(name="pay", args={"eur": 1})
    )
    assert request.digest == "e5c6e9e6fb9945f0e41e77499bdaa130d7b58c10c8aff49047f7d85e61c266af"
