"""`EscalationNode` as a watch: it passes through, asks when the agent is stuck, and does what the answer says."""

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from pydantic import BaseModel

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import EscalationError, InvalidDecisionError, LedgerMissingError, StaleRequestError, WatchError
from hitl_graph.facts import Situation, facts_of
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.nodes import EscalationNode
from hitl_graph.stuck import Budget, RepeatedAction, Spent
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger
from tests.escalation_agents import (
    Colour,
    Range,
    State,
    agent,
    answer,
    build,
    config_of,
    is_valid_history,
    look_tool,
    start,
    the_one,
    told,
    values,
)

pytestmark = pytest.mark.both_databases


@pytest.fixture
def saver(db_path: Path) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


# --- passing through -------------------------------------------------------------------------------------------------


def test_a_run_that_gets_on_is_left_alone(saver: Checkpointer, colour: Colour) -> None:
    graph = build(saver)
    given = {"messages": [HumanMessage("go"), HumanMessage("[x]\nfinish\n[y]")]}
    if colour == "async":
        asyncio.run(graph.ainvoke(given, config_of()))
    else:
        graph.invoke(given, config_of())
    assert saver.ledger.history("t") == []


def test_the_graph_is_drawn_with_its_edges_and_a_misspelt_node_does_not_compile(saver: Checkpointer) -> None:
    edges = {(edge.source, edge.target) for edge in build(saver).get_graph().edges}
    assert ("watch", "agent") in edges
    assert ("watch", END) in edges
    with pytest.raises(ValueError, match="agnet"):
        build(saver, resume="agnet")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"resume": ""}, "resume"),
        ({"resume": "agent", "stop": 1}, "stop"),
        ({"resume": "agent", "allowed": "approve"}, "allowed"),
        ({"resume": "agent", "allowed": ()}, "allowed"),
        ({"resume": "agent", "allowed": ("maybe",)}, "allowed"),
        ({"resume": "agent", "editable": "region"}, "editable"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(EscalationError, match=problem):
        EscalationNode(**options)


def test_wrong_patience_is_refused_at_once() -> None:
    with pytest.raises(WatchError, match="patience"):
        EscalationNode("agent", patience="very high")  # type: ignore[arg-type]


def test_without_a_ledger_it_says_what_to_do() -> None:
    with pytest.raises(LedgerMissingError, match="EscalationNode"):
        start(build(InMemorySaver()))


# --- the question ----------------------------------------------------------------------------------------------------


def test_the_request_says_what_was_tried_what_came_back_since_when_and_what_it_cost(
    saver: Checkpointer, colour: Colour
) -> None:
    begun = datetime.now(UTC)
    graph = build(saver, spent=lambda state: Spent(cost=0.25))
    start(graph, colour=colour)
    request = the_one(saver.ledger)
    assert (request.kind, request.allowed) == ("escalation", ("approve", "edit", "reject", "respond"))
    facts = facts_of(request)
    assert isinstance(facts, Situation)
    assert facts.findings[0].tried == ('look({"q": "x"})',)
    assert facts.findings[0].came_back == ("nothing found for x",)
    assert (facts.messages, facts.since_message, facts.steps, facts.tokens, facts.cost) == (7, 2, 3, 300, 0.25)
    assert facts.since is not None
    assert timedelta() <= facts.since - begun < timedelta(seconds=60)
    assert facts.next_steps
    assert facts.state == {"limit": 100, "region": "eu"}
    for part in ("3 times", "nothing found for x", "300 tokens", facts.next_steps[0]):
        assert part in request.description


# --- the four answers ------------------------------------------------------------------------------------------------


def test_respond_guides_the_model(saver: Checkpointer, colour: Colour) -> None:
    graph = build(saver)
    start(graph, colour=colour)
    assert answer(graph, saver.ledger, respond("look for y"), colour).status == "finished"
    *_, guidance, last = values(graph)["messages"]
    assert (guidance.type, guidance.id) == ("human", f"hitl-{saver.ledger.history('t')[0].id}")
    assert "look for y" in guidance.text
    assert guidance.additional_kwargs["hitl"]["reviewer"] == "alice"
    assert "look for y" in last.text
    assert saver.ledger.verify_audit().ok


def test_edit_changes_the_state_with_its_own_types(saver: Checkpointer, colour: Colour) -> None:
    graph = build(saver)
    start(graph, colour=colour, notes=["one"])
    patch = {"limit": "5", "since": "2026-01-31", "range": {"low": 2}, "notes": ["two"]}
    answer(graph, saver.ledger, edit(patch, "take smaller steps"), colour)
    held = values(graph)
    assert (held["limit"], held["since"], held["range"], held["notes"], held["region"]) == (
        5, date(2026, 1, 31), Range(low=2), ["one", "two"], "eu",
    )  # fmt: skip
    recorded = saver.ledger.history("t")[0].decision
    assert recorded is not None
    assert recorded.args == {**patch, "limit": 5}
    assert recorded.message == "take smaller steps"


def test_an_edit_of_the_messages_is_what_the_model_goes_on_from(saver: Checkpointer) -> None:
    graph = build(saver)
    start(graph)
    answer(graph, saver.ledger, edit({"messages": [{"role": "user", "content": "give up on x"}]}))
    assert told(graph)[-1] == ("ai", "I did as I was told: give up on x")


def test_approve_carries_on_with_patience_restored(saver: Checkpointer, colour: Colour) -> None:
    graph = build(saver)
    start(graph, colour=colour)
    first = the_one(saver.ledger)
    assert answer(graph, saver.ledger, approve(), colour).status == "paused"  # in the end it gets nowhere again
    facts = [facts_of(request) for request in saver.ledger.history("t")]
    counts = [one.messages for one in facts if isinstance(one, Situation)]
    assert counts[0] == 7
    assert counts[1] >= 7 + 2 * 3  # not at the next step for the same evidence
    assert the_one(saver.ledger).id != first.id


def test_reject_stops_with_a_last_message(saver: Checkpointer, colour: Colour) -> None:
    graph = build(saver)
    start(graph, colour=colour)
    assert answer(graph, saver.ledger, reject("x does not exist"), colour).status == "finished"
    assert told(graph)[-1] == ("ai", "This run was stopped by a person: x does not exist")
    assert graph.get_state(config_of()).next == ()


def test_reject_goes_where_it_is_told_to(saver: Checkpointer) -> None:
    def clean_up(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("cleaned up")]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("tools", ToolNode([look_tool()]))
    builder.add_node("watch", EscalationNode("agent", stop="clean_up"))
    builder.add_node("clean_up", clean_up)
    builder.add_edge(START, "agent")
    builder.add_edge("agent", "tools")
    builder.add_edge("tools", "watch")
    graph = builder.compile(checkpointer=saver)
    start(graph)
    answer(graph, saver.ledger, reject())
    assert [text for _, text in told(graph)[-2:]] == ["This run was stopped by a person.", "cleaned up"]


# --- what is answered stays answered ---------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["approve", "edit"])
def test_another_process_does_not_ask_again_for_the_same_evidence(db_path: str, words: str) -> None:
    decision = approve() if words == "approve" else edit({"limit": 1})
    with open_checkpointer(db_path) as checkpointer:
        start(build(checkpointer))
        request = the_one(checkpointer.ledger)
        Inbox(checkpointer.ledger).decide(request.id, decision, reviewer="alice")
    with open_checkpointer(db_path) as checkpointer:  # nothing of the first watch is left
        graph = build(checkpointer)
        step = graph.invoke(
            Command(resume={request.interrupt_id: {"request_id": request.id, "digest": request.digest}}),
            config_of(), interrupt_after=["watch"], durability="sync",
        )  # fmt: skip
        assert "__interrupt__" not in step
    with open_checkpointer(db_path) as checkpointer:  # a third one, at the next step of the run
        graph = build(checkpointer)
        step = graph.invoke(None, config_of(), interrupt_after=["tools"], durability="sync")
        step = graph.invoke(None, config_of(), interrupt_after=["watch"], durability="sync")
        assert "__interrupt__" not in step
        assert Inbox(checkpointer.ledger).pending() == []


def test_a_decision_that_was_never_carried_out_is_no_answer(saver: Checkpointer) -> None:
    graph = build(saver)
    start(graph)
    request = the_one(saver.ledger)
    Inbox(saver.ledger).decide(request.id, approve(), reviewer="alice")
    graph.invoke({"messages": [HumanMessage("Look for x", id="first")]}, config_of())  # replaces the first message
    assert saver.ledger.history("t")[0].state == "superseded"
    assert the_one(saver.ledger).id != request.id


def test_a_redacted_thread_can_go_on(saver: Checkpointer) -> None:
    graph = build(saver)
    start(graph)
    answer(graph, saver.ledger, respond("look for y"))
    saver.ledger.redact("t", actor="ann", reason="GDPR")
    graph.invoke({"messages": [HumanMessage("again")]}, config_of())
    assert saver.ledger.verify_audit().ok


# --- where it stands -------------------------------------------------------------------------------------------------


def _between(saver: Checkpointer, **options: Any) -> Any:
    """The watch stands between the model and its tools."""
    builder = StateGraph(State)
    builder.add_node("agent", agent)
    builder.add_node("tools", ToolNode([look_tool()]))
    builder.add_node("watch", EscalationNode(**options))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda state: "watch" if state["messages"][-1].tool_calls else END)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("decision", [respond("look for y"), reject("enough"), approve(), "messages"])
def test_between_model_and_tools_the_history_stays_valid(saver: Checkpointer, decision: Any) -> None:
    if decision == "messages":
        decision = edit({"messages": [{"role": "user", "content": "give up"}]})
    # the watch sees a loop only when results came back, so it asks with the next call open
    graph = _between(saver, resume="agent", onward="tools")
    start(graph)
    request = the_one(saver.ledger)
    assert values(graph)["messages"][-1].tool_calls
    assert request.allowed == ("approve", "edit", "reject", "respond")
    answer(graph, saver.ledger, decision)
    messages = values(graph)["messages"]
    if decision.type == "approve":  # paused again, with another call open
        messages = messages[:-1]
    assert is_valid_history(messages)
    assert sum(isinstance(message, ToolMessage) for message in messages[:9]) >= 3


def test_where_guidance_cannot_reach_the_model_it_is_not_offered(saver: Checkpointer) -> None:
    graph = _between(saver, resume="tools")
    start(graph)
    request = the_one(saver.ledger)
    assert request.allowed == ("approve", "edit", "reject")
    with pytest.raises(InvalidDecisionError, match="messages"):
        Inbox(saver.ledger).decide(request.id, edit({"messages": []}), reviewer="alice")
    answer(graph, saver.ledger, reject("enough"))
    assert is_valid_history(values(graph)["messages"])


def test_in_a_subgraph(saver: Checkpointer, colour: Colour) -> None:
    outer = StateGraph(MessagesState)
    outer.add_node("inner", build(None, schema=MessagesState))
    outer.add_edge(START, "inner")
    graph = outer.compile(checkpointer=saver)
    start(graph, colour=colour)
    answer(graph, saver.ledger, respond("look for y"), colour)
    assert "look for y" in told(graph)[-1][1]
    assert [request.state for request in saver.ledger.history("t")] == ["delivered"]


class Chat(BaseModel):
    chat: Annotated[list[AnyMessage], add_messages]
    region: str = "eu"


@dataclass
class Talk:
    chat: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)
    region: str = "eu"


@pytest.mark.parametrize("schema", [Chat, Talk])
def test_other_schemas_and_another_key_for_the_messages(saver: Checkpointer, schema: Any) -> None:
    def chat(state: Any) -> dict[str, Any]:
        return {"chat": agent({"messages": state.chat})["messages"]}

    builder = StateGraph(schema)
    builder.add_node("agent", chat)
    builder.add_node("tools", ToolNode([look_tool()], messages_key="chat"))
    builder.add_node("watch", EscalationNode("agent", messages_key="chat"))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda state: "tools" if state.chat[-1].tool_calls else END)
    builder.add_edge("tools", "watch")
    graph = builder.compile(checkpointer=saver)
    graph.invoke({"chat": [HumanMessage("Look for x")], "region": "eu"}, config_of())
    assert facts_of(the_one(saver.ledger)).state == {"region": "eu"}  # type: ignore[union-attr]
    answer(graph, saver.ledger, edit({"region": "us"}))
    assert values(graph)["region"] == "us"
    answer(graph, saver.ledger, respond("look for y"))
    assert "look for y" in values(graph)["chat"][-1].text


# --- options, and other checkpointers --------------------------------------------------------------------------------


def test_patience_and_detectors_in_the_users_terms(saver: Checkpointer) -> None:
    asked: dict[str, int] = {}
    chosen: dict[str, dict[str, Any]] = {
        "low": {"patience": "low"},
        "normal": {},
        "high": {"patience": "high"},
        "own": {"detectors": [RepeatedAction(times=2)]},
        "budget": {"detectors": [Budget(cost=1)], "spent": lambda state: Spent(cost=len(state["messages"]) / 4)},
    }
    for name, options in chosen.items():
        start(build(saver, **options), thread=name)
        asked[name] = len(build(saver).get_state(config_of(name)).values["messages"])
    assert asked["low"] <= asked["normal"] < asked["high"]
    assert asked["own"] == asked["budget"] == 5


@pytest.mark.parametrize("decision", [approve(), edit({"limit": 3}), reject("no"), respond("look for y")])
def test_beside_a_foreign_checkpointer(db_path: str, colour: Colour, decision: Any) -> None:
    with open_ledger(db_path) as ledger:
        graph = build(InMemorySaver(), ledger=ledger)
        start(graph, colour=colour)
        status = answer(graph, ledger, decision, colour).status
        assert status == ("finished" if decision.type in ("reject", "respond") else "paused")
        assert ledger.history("t")[0].state == "delivered"
        assert ledger.verify_audit().ok


def test_new_input_supersedes_the_question(saver: Checkpointer) -> None:
    graph = build(saver)
    start(graph)
    request = the_one(saver.ledger)
    graph.invoke({"messages": [HumanMessage("[x]\nleave it\n[y]")]}, config_of())
    assert saver.ledger.history("t")[0].state == "superseded"
    with pytest.raises(StaleRequestError):
        Inbox(saver.ledger).decide(request.id, approve(), reviewer="alice")


def test_a_worker_without_anything_to_do_leaves_a_waiting_thread_alone(saver: Checkpointer) -> None:
    graph = build(saver)
    start(graph)
    assert Worker(graph, saver.ledger).run_once() == []
