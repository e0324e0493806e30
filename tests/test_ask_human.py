"""`ask_human`: the agent asks by itself, and gets an answer of the kind that it asked for."""

import asyncio
import json
from collections.abc import Generator, Sequence
from typing import Any, Literal, cast

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send
from pydantic import BaseModel, PydanticUserError, field_validator
from pydantic.errors import PydanticInvalidForJsonSchema

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import InvalidDecisionError, LedgerMissingError
from hitl_graph.facts import Inquiry, facts_of
from hitl_graph.inbox import Inbox
from hitl_graph.model import Decision, Request, approve, reject, respond
from hitl_graph.nodes import ApprovalNode, ask_human
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call
from tests.databases import open_checkpointer, open_ledger
from tests.escalation_agents import Colour, Graph, answer, config_of, the_one, values, work

pytestmark = pytest.mark.both_databases


class Verdict(BaseModel):
    """What shall become of a post."""

    post: int
    verdict: Literal["keep", "remove"]
    note: str = ""

    @field_validator("post")
    @classmethod
    def _exists(cls, post: int) -> int:
        if post > 9:
            raise ValueError("there are nine posts")
        return post


@tool
def look(q: str) -> str:
    """Look something up."""
    return f"found {q}"


@pytest.fixture
def saver(db_path: str) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


def question(id: str = "q", **args: Any) -> dict[str, Any]:
    return {"name": "ask_human", "args": {"question": "Which account?", **args}, "id": id}


def build(saver: Any, calls: Sequence[dict[str, Any]], node: Any, *, sends: bool = False) -> Graph:
    def agent(state: MessagesState) -> dict[str, Any]:
        done = any(isinstance(message, AIMessage) for message in state["messages"])
        return {"messages": [AIMessage("finished") if done else AIMessage("", tool_calls=list(calls))]}

    def route(state: MessagesState) -> Any:
        asked = getattr(state["messages"][-1], "tool_calls", [])
        return ([Send("tools", [call]) for call in asked] if sends else "tools") if asked else END

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("tools", node)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", route, ["tools", END])
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


def start(graph: Graph, colour: Colour = "sync") -> None:
    given = {"messages": [HumanMessage("go")]}
    if colour == "async":
        asyncio.run(graph.ainvoke(given, config_of(), durability="sync"))
    else:
        graph.invoke(given, config_of(), durability="sync")


def results(graph: Graph) -> list[tuple[str, str]]:
    return [(m.text, m.status) for m in values(graph)["messages"] if isinstance(m, ToolMessage)]


def facts(request: Request) -> Inquiry:
    found = facts_of(request)
    assert isinstance(found, Inquiry)
    return found


# --- in an ApprovalNode ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", [ApprovalNode, ToolNode])
def test_a_question_and_its_answer(saver: Checkpointer, colour: Colour, node: Any) -> None:
    graph = build(saver, [question(why="the order names two")], node([ask_human()]))
    start(graph, colour)
    request = the_one(saver.ledger)
    assert (request.kind, request.allowed, request.reason) == ("question", ("reject", "respond"), "the order names two")
    assert facts(request) == Inquiry(question="Which account?", why="the order names two")
    assert request.description == "Which account?"
    assert answer(graph, saver.ledger, respond("the second"), colour).status == "finished"
    assert results(graph) == [("the second", "success")]
    assert saver.ledger.history("t")[0].state == "delivered"
    assert saver.ledger.verify_audit().ok


@pytest.mark.parametrize("node", [ApprovalNode, ToolNode])
def test_an_answer_can_be_declined(saver: Checkpointer, node: Any) -> None:
    graph = build(saver, [question()], node([ask_human()]))
    start(graph)
    answer(graph, saver.ledger, reject("decide yourself"))
    [(text, status)] = results(graph)
    assert "declined" in text
    assert "decide yourself" in text
    assert status == "error"


@pytest.mark.parametrize(
    ("args", "good", "bad"),
    [
        ({}, "anything", ["", " \n", ["a"], {"a": 1}, 5, True]),
        ({"options": ["red", "blue"]}, "blue", ["green", "", "Red", ["red"], 1]),
        ({"options": ["red", "blue"], "free_text": True}, "green", ["", " "]),
        ({"options": ["red", "blue", "red"], "free_text": True}, "red", [""]),
        ({"options": [], "free_text": False}, "green", [""]),
        ({"options": None}, "green", [""]),
    ],
)
def test_options_and_free_text(saver: Checkpointer, args: dict[str, Any], good: str, bad: list[Any]) -> None:
    graph = build(saver, [question(**args)], ApprovalNode([ask_human()]))
    start(graph)
    request = the_one(saver.ledger)
    assert list(facts(request).options) == list(dict.fromkeys(args.get("options") or []))
    wrong: list[Decision] = [approve(), *map(respond, bad)]
    for decision in wrong:
        with pytest.raises(InvalidDecisionError):
            Inbox(saver.ledger).decide(request.id, decision, reviewer="alice")
    answer(graph, saver.ledger, respond(good))
    assert results(graph) == [(good, "success")]


@pytest.mark.parametrize("node", [ApprovalNode, ToolNode])
def test_a_typed_answer(saver: Checkpointer, colour: Colour, node: Any) -> None:
    graph = build(saver, [question()], node([ask_human(answer=Verdict)]))
    start(graph, colour)
    request = the_one(saver.ledger)
    assert request.answer_schema is not None
    assert set(cast("Any", request.answer_schema["properties"])) == {"note", "post", "verdict"}
    inbox = Inbox(saver.ledger)
    for wrong in ("keep it", {}, {"post": "x", "verdict": "keep"}, {"post": 4, "verdict": "maybe"}, {"post": 4}):
        with pytest.raises(InvalidDecisionError):
            inbox.decide(request.id, respond(wrong), reviewer="alice")  # type: ignore[arg-type]
    assert answer(graph, saver.ledger, respond({"post": 12, "verdict": "keep"}), colour).status == "paused"
    again = the_one(saver.ledger)  # what only the model's own check tells, the graph found out: it asks again
    assert (again.id, again.decision) == (request.id, None)
    assert "there are nine posts" in str(again.note)
    with pytest.raises(InvalidDecisionError, match="nine posts"):
        graph.invoke(
            Command(resume={request.interrupt_id: {"type": "respond", "value": {"post": 12, "verdict": "keep"}}}),
            config_of(),
        )
    answer(graph, saver.ledger, respond({"post": "4", "verdict": "keep"}), colour)
    [(text, status)] = results(graph)
    assert (json.loads(text), status) == ({"post": 4, "verdict": "keep", "note": ""}, "success")


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (int, "42", "42"),
        (int, 42, "42"),
        (bool, False, "false"),
        (list[int], [1, 2], "[1,2]"),
        (list[int], [], "[]"),
        (Literal["yes", "no"], "no", '"no"'),
        (dict[str, int], {"a": 1}, '{"a":1}'),
        (float | None, 0.5, "0.5"),
    ],
)
def test_any_type_that_pydantic_knows(saver: Checkpointer, kind: Any, given: Any, told: str) -> None:
    graph = build(saver, [question()], ApprovalNode([ask_human(answer=kind)]))
    start(graph)
    answer(graph, saver.ledger, respond(given))
    assert results(graph) == [(told, "success")]


def test_a_type_without_a_schema_is_refused_at_once() -> None:
    class Odd:
        pass

    with pytest.raises((PydanticUserError, PydanticInvalidForJsonSchema)):
        ask_human(answer=Odd)


def test_several_questions_of_one_message_are_independent(saver: Checkpointer, colour: Colour) -> None:
    calls = [question("a", question="First?"), question("b", question="Second?"), tool_call("look", q="x", id="l")]
    graph = build(saver, calls, ApprovalNode([ask_human(), look], policy=Policy([Rule("look", "allow")])))  # type: ignore[arg-type]
    start(graph, colour)
    inbox = Inbox(saver.ledger)
    by_text = {facts(request).question: request for request in inbox.pending()}
    inbox.decide(by_text["Second?"].id, respond("two"), reviewer="alice")
    assert work(graph, saver.ledger, colour).status == "paused"
    inbox.decide(by_text["First?"].id, respond("one"), reviewer="alice")
    assert work(graph, saver.ledger, colour).status == "finished"
    assert [text for text, _ in results(graph)] == ["one", "two", "found x"]


@pytest.mark.parametrize(
    "args", [{"question": ""}, {"options": "red"}, {"options": [1]}, {"question": None}, {"free_text": "perhaps"}]
)
def test_nonsense_of_the_model_reaches_no_person(saver: Checkpointer, args: dict[str, Any]) -> None:
    graph = build(saver, [question(**args)], ApprovalNode([ask_human()]))
    start(graph)
    assert saver.ledger.history("t") == []
    assert results(graph)[0][1] == "error"


def test_a_policy_can_deny_it_and_cannot_answer_it(saver: Checkpointer) -> None:
    for outcome, asked in (("deny", 0), ("allow", 1), ("ask", 1)):
        policy = Policy([Rule("ask_human", outcome)])  # type: ignore[arg-type]
        graph = build(saver, [question()], ApprovalNode([ask_human()], policy=policy))
        graph.invoke({"messages": [HumanMessage("go")]}, config_of(outcome), durability="sync")
        assert len(saver.ledger.history(outcome)) == asked


def test_name_and_description_are_mine(saver: Checkpointer) -> None:
    mine = ask_human(name="ask_the_boss", description="Ask the boss.")
    assert (mine.name, mine.description) == ("ask_the_boss", "Ask the boss.")
    assert sorted(mine.tool_call_schema.model_json_schema()["properties"]) == [  # type: ignore[union-attr]
        "free_text", "options", "question", "why",
    ]  # fmt: skip


# --- elsewhere -------------------------------------------------------------------------------------------------------


def test_a_plain_tool_node_is_refused_where_answers_could_be_mixed_up(saver: Checkpointer, colour: Colour) -> None:
    calls = [question("a"), question("b"), tool_call("look", q="x", id="l")]
    graph = build(saver, calls, ToolNode([ask_human(), look]))  # type: ignore[arg-type]
    start(graph, colour)
    assert saver.ledger.history("t") == []
    one, other, looked = results(graph)
    assert one == other
    assert "alone" in one[0]
    assert one[1] == "error"
    assert looked == ("found x", "success")


def test_a_plain_tool_node_with_a_task_for_each_call(saver: Checkpointer, colour: Colour) -> None:
    calls = [question("a", question="First?"), question("b", question="Second?")]
    graph = build(saver, calls, ToolNode([ask_human()]), sends=True)
    start(graph, colour)
    inbox = Inbox(saver.ledger)
    for request in inbox.pending():
        inbox.decide(request.id, respond(facts(request).question.lower()), reviewer="alice")
    assert work(graph, saver.ledger, colour).status == "finished"
    assert [text for text, _ in results(graph)] == ["first?", "second?"]


def test_two_questions_in_one_send_cannot_swap_their_answers(saver: Checkpointer) -> None:
    calls = [question("a", question="First?"), question("b", question="Second?")]

    def agent(state: MessagesState) -> dict[str, Any]:
        done = any(isinstance(message, ToolMessage) for message in state["messages"])
        return {"messages": [AIMessage("finished") if done else AIMessage("", tool_calls=calls)]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("tools", ToolNode([ask_human()]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges(
        "agent", lambda s: Send("tools", s["messages"][-1].tool_calls) if s["messages"][-1].tool_calls else END
    )
    builder.add_edge("tools", "agent")
    graph = builder.compile(checkpointer=saver)
    start(graph)
    request = the_one(saver.ledger)  # the other one waits for nobody
    asked = facts(request).question
    answer(graph, saver.ledger, respond(f"to {asked}"))
    texts = dict(zip(("First?", "Second?"), [text for text, _ in results(graph)], strict=True))
    assert texts[asked] == f"to {asked}"
    assert all("alone" in text for name, text in texts.items() if name != asked)


def test_with_create_agent(saver: Checkpointer, colour: Colour) -> None:
    script: list[Any] = [
        [tool_call("ask_human", question="First?", id="a"), tool_call("ask_human", question="Second?", id="b")],
        "finished",
    ]
    graph: Any = create_agent(ScriptedChatModel(script), [ask_human()], checkpointer=saver)
    start(graph, colour)
    inbox = Inbox(saver.ledger)
    for request in inbox.pending():
        inbox.decide(request.id, respond(facts(request).question.lower()), reviewer="alice")
    assert work(graph, saver.ledger, colour).status == "finished"
    assert [text for text, _ in results(graph)] == ["first?", "second?"]


@pytest.mark.parametrize("node", [ApprovalNode, ToolNode])
def test_beside_a_foreign_checkpointer(db_path: str, colour: Colour, node: Any) -> None:
    with open_ledger(db_path) as ledger:
        made = (
            ApprovalNode([ask_human()], ledger=ledger) if node is ApprovalNode else ToolNode([ask_human(ledger=ledger)])
        )
        graph = build(InMemorySaver(), [question()], made)
        start(graph, colour)
        assert answer(graph, ledger, respond("the second"), colour).status == "finished"
        assert results(graph) == [("the second", "success")]
        assert ledger.history("t")[0].state == "delivered"


@pytest.mark.parametrize("node", [ApprovalNode, ToolNode])
def test_without_a_ledger_it_says_what_to_do(node: Any) -> None:
    with pytest.raises(LedgerMissingError, match="ledger"):
        start(build(InMemorySaver(), [question()], node([ask_human()])))


def test_straight_through_langgraph(saver: Checkpointer) -> None:
    graph = build(saver, [question(options=["red", "blue"])], ApprovalNode([ask_human()]))
    start(graph)
    [pause] = graph.get_state(config_of()).interrupts
    assert pause.response_schema is not None
    assert pause.response_schema["properties"]["value"] == {"enum": ["red", "blue"]}
    for wrong in ({"type": "respond", "message": "green"}, {"type": "respond"}, "green", [{"type": "accept"}]):
        with pytest.raises(InvalidDecisionError):
            graph.invoke(Command(resume={pause.id: wrong}), config_of())
    graph.invoke(Command(resume={pause.id: [{"type": "response", "args": "blue"}]}), config_of())  # Agent Inbox
    assert results(graph) == [("blue", "success")]
