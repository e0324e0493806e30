"""What of the state an edit may change: checked before it is recorded, applied once, with the state's own types."""

from collections.abc import Generator
from datetime import UTC, datetime
from typing import Annotated, Any, NotRequired, cast

import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.graph import add_messages
from langgraph.types import Command
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypedDict

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.facts import facts_of
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, edit, respond
from tests.databases import open_checkpointer
from tests.escalation_agents import Colour, answer, build, config_of, start, the_one, told, values

pytestmark = pytest.mark.both_databases


@pytest.fixture
def saver(db_path: str) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("patch", "problem"),
    [
        ({}, "changes nothing"),
        ({"limit": "many"}, "limit"),
        ({"limit": None}, "limit"),
        ({"limits": 1}, "limits may not be edited"),
        ({"limit": 1, "branch:to:tools": None}, "branch:to:tools"),
        ({"__start__": {}}, "__start__"),
        ({"range": {"low": 2, "hihg": 3}}, "hihg"),
        ({"notes": "one"}, "notes"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user"}]}, "content"),
    ],
)
def test_a_wrong_edit_is_refused_before_it_is_recorded(
    saver: Checkpointer, patch: dict[str, Any], problem: str
) -> None:
    graph = build(saver)
    start(graph)
    request = the_one(saver.ledger)
    with pytest.raises(InvalidDecisionError, match=problem):
        Inbox(saver.ledger).decide(request.id, edit(patch), reviewer="alice")
    with pytest.raises(InvalidDecisionError, match=problem):  # straight through LangGraph, too
        graph.invoke(Command(resume={request.interrupt_id: {"type": "edit", "args": patch}}), config_of())
    assert the_one(saver.ledger) == request
    answer(graph, saver.ledger, edit({"limit": 7}))
    assert values(graph)["limit"] == 7


@pytest.mark.parametrize("patch", [{"range": {"low": 3}}, {"messages": [{"role": "tool", "content": "no id"}]}])
def test_an_edit_that_only_the_state_refuses_is_asked_again(
    saver: Checkpointer, colour: Colour, patch: dict[str, Any]
) -> None:
    graph = build(saver)
    start(graph, colour=colour)
    request = the_one(saver.ledger)
    assert answer(graph, saver.ledger, edit(patch), colour).status == "paused"  # no schema tells; the graph found out
    again = the_one(saver.ledger)
    assert (again.id, again.state, again.decision) == (request.id, "pending", None)
    assert next(iter(patch)) in str(again.note)
    with pytest.raises(InvalidDecisionError):  # given to the graph itself, it is an error at once
        graph.invoke(Command(resume={request.interrupt_id: {"type": "edit", "args": patch}}), config_of())
    answer(graph, saver.ledger, respond("look for y"), colour)
    assert "look for y" in told(graph)[-1][1]
    assert saver.ledger.verify_audit().ok


def test_only_named_keys_are_shown_and_changed(saver: Checkpointer) -> None:
    graph = build(saver, editable=["limit"])
    start(graph, region="secret")
    request = the_one(saver.ledger)
    assert "secret" not in request.model_dump_json()
    with pytest.raises(InvalidDecisionError, match="region"):
        Inbox(saver.ledger).decide(request.id, edit({"region": "us"}), reviewer="alice")


def test_only_the_allowed_answers_are_offered(saver: Checkpointer) -> None:
    graph = build(saver, allowed=["respond", "reject"])
    start(graph)
    request = the_one(saver.ledger)
    assert (request.allowed, request.answer_schema) == (("reject", "respond"), None)
    assert facts_of(request).state == {}  # type: ignore[union-attr]
    with pytest.raises(InvalidDecisionError, match="not offered"):
        Inbox(saver.ledger).decide(request.id, approve(), reviewer="alice")


class Odd:
    """No type that JSON knows."""


class Sizes(BaseModel):
    """Has defaults that JSON does not know."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    sizes: tuple[int, ...] = ()
    when: datetime = datetime(2024, 5, 1, tzinfo=UTC)
    odd: SkipJsonSchema[Any] = Odd()


class Mixed(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    odd: NotRequired[Odd]
    rate: NotRequired[Annotated[float, Field(default=float("nan"))]]
    sizes: NotRequired[Sizes]
    size: NotRequired[int]
    long: NotRequired[str]


def test_what_has_no_schema_cannot_be_edited_and_what_is_long_is_not_shown(saver: Checkpointer) -> None:
    graph = build(saver, schema=Mixed)
    graph.invoke({"messages": [HumanMessage("Look for x")], "size": 3, "long": "x" * 5000}, config_of())
    request = the_one(saver.ledger)
    assert request.answer_schema is not None
    assert set(cast("Any", request.answer_schema["properties"])) == {"long", "messages", "size", "sizes"}
    assert facts_of(request).state == {"size": 3}  # type: ignore[union-attr]
