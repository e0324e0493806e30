"""`ask_human_questions`: several questions in one go, and a typed answer to each."""

import json
from collections.abc import Generator
from typing import Any

import pytest
from langgraph.prebuilt import ToolNode

from hitl_graph.card import answers_of, card
from hitl_graph.card.words import what
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.facts import facts_of
from hitl_graph.form import Form
from hitl_graph.inbox import Inbox
from hitl_graph.mcp.forms import First, Second
from hitl_graph.model import Request, approve, reject, respond
from hitl_graph.nodes import ApprovalNode, ask_human, ask_human_questions
from hitl_graph.wire import validate
from tests.databases import open_checkpointer
from tests.escalation_agents import Colour, Graph, answer, the_one
from tests.test_ask_human import build, question, results, start

pytestmark = pytest.mark.both_databases

STORE: dict[str, Any] = {
    "question": "Which database shall hold the orders?",
    "header": "Database",
    "options": [
        {"label": "PostgreSQL", "description": "we run it already"},
        {"label": "SQLite", "description": "one file, one machine"},
    ],
}
SEND: dict[str, Any] = {
    "question": "Who is told when it is done?",
    "header": "Who is told",
    "multiSelect": True,
    "options": [{"label": "the customer"}, {"label": "the warehouse"}],
}
NAME: dict[str, Any] = {"question": "What shall the service be called?", "header": "Name"}
GOOD: dict[str, Any] = {"Database": "SQLite", "Who is told": ["the customer", "my aunt"], "Name": "orders"}


def call(*questions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "ask_human_questions", "args": {"questions": list(questions), **more}, "id": "q"}


@pytest.fixture
def saver(db_path: str) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


def asked(saver: Checkpointer, *questions: dict[str, Any], **options: Any) -> tuple[Graph, Request]:
    graph = build(saver, [call(*questions, why="before I start")], ApprovalNode([ask_human_questions(**options)]))
    start(graph)
    return graph, the_one(saver.ledger)


@pytest.mark.parametrize("node", [ApprovalNode, ToolNode])
def test_several_questions_are_one_request_and_the_model_gets_each_answer(
    saver: Checkpointer, colour: Colour, node: Any
) -> None:
    graph = build(saver, [call(STORE, SEND, NAME, why="before I start")], node([ask_human_questions()]))
    start(graph, colour)
    request = the_one(saver.ledger)
    assert (request.kind, request.allowed, request.reason) == ("question", ("reject", "respond"), "before I start")
    assert "PostgreSQL: we run it already" in request.description
    answer(graph, saver.ledger, respond(GOOD), colour)
    [(text, status)] = results(graph)
    assert (json.loads(text), status) == (GOOD, "success")


def test_silence_half_an_answer_and_another_type_are_no_answer(saver: Checkpointer) -> None:
    graph, request = asked(saver, STORE, SEND)
    both: dict[str, Any] = {"Database": "SQLite", "Who is told": ["the customer"]}
    wrong: list[Any] = [
        {}, {"Database": "SQLite"}, {**both, "Database": ""}, {**both, "Database": " "}, {**both, "Database": None},
        {**both, "Who is told": []}, {**both, "Who is told": [""]}, {**both, "Who is told": "the customer"},
        {**both, "More": "x"}, "SQLite", ["SQLite"],
    ]  # fmt: skip
    for decision in (approve(), *map(respond, wrong)):
        with pytest.raises(InvalidDecisionError):
            Inbox(saver.ledger).decide(request.id, decision, reviewer="alice")
    answer(graph, saver.ledger, respond(both))
    assert json.loads(results(graph)[0][0]) == both


def test_without_other_only_what_is_offered_is_an_answer(saver: Checkpointer) -> None:
    _, request = asked(saver, STORE, SEND, other=False)
    good: dict[str, Any] = {"Database": "SQLite", "Who is told": ["the customer", "the warehouse"]}
    for wrong in ({**good, "Database": "MySQL"}, {**good, "Who is told": ["the customer", "my aunt"]}):
        with pytest.raises(InvalidDecisionError):
            validate(respond(wrong), request)
    validate(respond(good), request)


def test_it_can_be_declined(saver: Checkpointer) -> None:
    graph, _ = asked(saver, STORE)
    answer(graph, saver.ledger, reject("decide yourself"))
    [(text, status)] = results(graph)
    assert ("decide yourself" in text, status) == (True, "error")


@pytest.mark.parametrize(
    "questions",
    [
        [],
        [NAME] * 2,
        [STORE, SEND, NAME, {**NAME, "header": "A"}, {**NAME, "header": "B"}],
        [{**STORE, "options": [{"label": "x"}, {"label": "x"}]}],
        [{**STORE, "options": [{"label": " "}]}],
        [{**STORE, "options": [{"label": "two\nlines"}]}],
        [{"question": " ", "header": "H"}],
        [{"question": "Why?"}],
        "Why?",
    ],
)
def test_nonsense_of_the_model_reaches_no_person(saver: Checkpointer, questions: Any) -> None:
    wanted = {**call(), "args": {"questions": questions}}
    graph = build(saver, [wanted], ApprovalNode([ask_human_questions()]))
    start(graph)
    assert Inbox(saver.ledger).pending() == []
    assert [status for _, status in results(graph)] == ["error"]


def test_it_is_a_form_at_every_door(saver: Checkpointer) -> None:
    _, request = asked(saver, STORE, SEND, NAME)
    assert what(request) == " ".join(one["question"] for one in (STORE, SEND, NAME))
    shown = card(request, Inbox(saver.ledger).standing(request.id), now=saver.ledger.clock(), reviewer=None)
    assert shown.question is not None
    assert [field.name for field in shown.question.fields] == ["Database", "Who is told", "Name"]
    form = answers_of(request)[0].form
    assert form is not None
    fields = {field.path[0]: field for field in form.fields}
    assert [(name, field.widget, field.suggested, field.required) for name, field in fields.items()] == [
        ("Database", "text", ("PostgreSQL", "SQLite"), True),
        ("Who is told", "list", ("the customer", "the warehouse"), True),
        ("Name", "text", (), True),
    ]
    typed = {"/Database": "SQLite", fields["Who is told"].key: "the customer\nmy aunt", "/Name": "orders"}
    assert form.read(typed).value == GOOD
    assert form.read({}).errors  # nothing typed is no answer
    assert set(form.read({"/Database": "SQLite"}).errors) == {"/Who is told", "/Name"}
    first = First(request, None, None)
    second = Second(request, first.read({"answer": "respond"}), None)
    assert second.schema["required"] == ["Database", "Who is told", "Name"]
    decision = second.read({"Database": "SQLite", "Who is told": "the customer\nmy aunt", "Name": "orders"})
    assert validate(decision, request).value == GOOD


def test_a_closed_choice_is_a_choice_and_closed_choices_are_options() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "one": {"type": "string", "enum": ["a", "b"]},
            "many": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        },
        "required": ["one", "many"],
    }
    one, many = Form.of(schema).fields
    assert (one.widget, [option.label for option in one.options]) == ("choice", ["a", "b"])
    assert (many.widget, [option.label for option in many.options], many.suggested) == ("list", ["a", "b"], ())


def test_one_question_is_recorded_as_before(saver: Checkpointer) -> None:
    """What a thread asked before there were several must be what it asks now, so that it can go on."""
    graph = build(saver, [question()], ApprovalNode([ask_human()]))
    start(graph)
    request = the_one(saver.ledger)
    assert request.question == {"question": "Which account?", "why": "", "options": [], "free_text": False}
    assert facts_of(request) is not None
