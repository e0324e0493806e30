"""`ask` and `aask`: a question in the middle of a function, and an answer of the kind that it asked for."""

import asyncio
import time
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from pydantic import BaseModel

from hitl_graph.errors import InvalidDecisionError, PermitError, PolicyError, RejectedError
from hitl_graph.functional import aask, ask
from hitl_graph.model import reject, respond
from hitl_graph.policy import Rule
from tests.test_functional import THREAD, AnyGraph, Room

pytestmark = pytest.mark.both_databases


class Address(BaseModel):
    street: str
    number: int


@pytest.fixture
def room(tmp_path: Path) -> Generator[Room]:
    made = Room(tmp_path)
    yield made
    assert made.saver.ledger.verify_audit().ok
    made.saver.close()


def asking(room: Room, question: Callable[[], Any]) -> AnyGraph:
    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> Any:
        return question()

    return agent


@pytest.mark.parametrize(
    ("how", "bad", "good", "answer"),
    [
        ({}, respond("  "), respond("Lisbon"), "Lisbon"),
        ({"options": ["a", "b"]}, respond("c"), respond("b"), "b"),
        ({"options": ["a", "b"], "free_text": True}, respond(" "), respond("c"), "c"),
        ({"answer": int}, respond("many"), respond("7"), 7),
        ({"answer": Literal["yes", "no"]}, respond("perhaps"), respond("no"), "no"),
        (
            {"answer": Address},
            respond({"street": "Rua"}),
            respond({"street": "Rua", "number": 7}),
            Address(street="Rua", number=7),
        ),
        ({"answer": list[int]}, respond("1"), respond([1, 2]), [1, 2]),
    ],
)  # fmt: skip
def test_the_answer_is_of_the_kind_that_was_asked_for(room: Room, how: Any, bad: Any, good: Any, answer: Any) -> None:
    graph = asking(room, lambda: room.ran.append(ask("Where?", why="it matters", **how)))
    graph.invoke("", THREAD)
    request = room.the_one()
    assert (request.kind, request.reason) == ("question", "it matters")
    with pytest.raises(InvalidDecisionError):
        room.decide(bad)
    assert room.the_one() == request
    room.answer(graph, good)
    assert room.ran == [answer]
    assert [r.state for r in room.saver.ledger.history("t")] == ["delivered"]


def test_who_declines_is_no_answer(room: Room) -> None:
    graph = asking(room, lambda: ask("Where?"))
    graph.invoke("", THREAD)
    room.decide(reject("none of your business"))
    with pytest.raises(RejectedError, match="'Where\\?' was declined: none of your business") as caught:
        room.work(graph)
    assert caught.value.message == "none of your business"
    assert "alice" not in str(caught.value)


def test_a_default_is_taken_if_it_is_declined_or_nobody_answers_in_time(room: Room) -> None:
    rule = Rule("*", "ask", deadline=timedelta(milliseconds=1), on_deadline="reject")
    graph = asking(room, lambda: [ask("One?", answer=int, default=0), ask("Two?", default=None, rule=rule)])
    graph.invoke("", THREAD)
    room.decide(reject())
    room.work(graph)
    time.sleep(0.01)
    room.work(graph)
    assert graph.get_state(THREAD).values == [0, None]


def test_only_whom_the_rule_names_answers(room: Room) -> None:
    graph = asking(room, lambda: ask("Where?", rule=Rule("*", "ask", reviewers=["carol"])))
    graph.invoke("", THREAD)
    with pytest.raises(PermissionError):
        room.decide(respond("here"))
    request = room.the_one()
    with pytest.raises(PermissionError):  # nor an answer that comes straight through LangGraph, from nobody
        graph.invoke(Command(resume={request.interrupt_id: {"type": "respond", "message": "here"}}), THREAD)
    room.inbox.decide(request.id, respond("there"), reviewer="carol")
    room.work(graph)
    assert graph.get_state(THREAD).values == "there"


class State(TypedDict):
    city: str


@pytest.mark.parametrize("where", ["entrypoint", "task", "node", "coroutine"])
def test_it_asks_wherever_a_graph_runs(room: Room, where: str) -> None:
    @task
    def inner() -> str:
        return str(ask("Which city?"))

    if where == "node":
        builder = StateGraph(State)
        builder.add_node("ask", lambda _: {"city": ask("Which city?")})
        builder.add_edge(START, "ask")
        graph: AnyGraph = builder.compile(checkpointer=room.saver)
    elif where == "coroutine":

        @entrypoint(checkpointer=room.saver)
        async def agent(_: Any) -> dict[str, str]:
            return {"city": await aask("Which city?")}

        graph = agent
    else:
        graph = asking(room, lambda: {"city": ask("Which city?") if where == "entrypoint" else inner().result()})

    async def play() -> None:
        await graph.ainvoke({"city": ""}, THREAD)
        request = room.the_one()
        await graph.ainvoke(Command(resume={request.interrupt_id: {"type": "respond", "message": "Lisbon"}}), THREAD)

    asyncio.run(play())
    assert graph.get_state(THREAD).values == {"city": "Lisbon"}


def test_one_after_the_other_each_gets_its_own_answer(room: Room) -> None:
    """LangGraph would take the answer to the first question for one to the second, when it is sent once more."""
    graph = asking(room, lambda: [ask("One?"), ask("Two?"), ask("One?")])
    graph.invoke("", THREAD)
    first = room.the_one()
    stale: Any = Command(resume={first.interrupt_id: {"type": "respond", "message": "1"}})
    graph.invoke(stale, THREAD)
    second = room.the_one()
    graph.invoke(stale, THREAD)
    assert room.the_one() == second
    assert room.answer(graph, respond("2")) is None
    assert room.the_one().id != first.id
    assert room.answer(graph, respond("3")) == ["1", "2", "3"]


def test_a_question_that_has_changed_meanwhile_is_asked_anew(room: Room) -> None:
    words = ["Which city?"]
    graph = asking(room, lambda: ask(words[0]))
    graph.invoke("", THREAD)
    words[0] = "Which country?"
    room.decide(respond("Lisbon"))
    assert room.work(graph).status == "paused"
    request = room.the_one()
    assert isinstance(request.question, dict)
    assert request.question["question"] == "Which country?"
    assert room.answer(graph, respond("Portugal")) == "Portugal"


def test_what_makes_no_sense_is_refused_before_anybody_is_asked(room: Room) -> None:
    with pytest.raises(PermitError, match="no graph runs"):
        ask("Where?")
    with pytest.raises(PolicyError, match="options, or a type"):
        ask("Where?", options=["a"], answer=int)
    with pytest.raises(PolicyError):
        ask("Where?", rule=Rule("*", "deny"))

    @entrypoint(checkpointer=room.saver)
    async def agent(_: str) -> Any:
        return ask("Where?")

    with pytest.raises(PermitError, match="await aask"):
        asyncio.run(agent.ainvoke("", THREAD))
    assert room.inbox.pending() == []
