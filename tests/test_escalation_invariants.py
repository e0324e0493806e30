"""I1-I10 for escalations, questions of `ask_human` and turns of a conversation: the same promise as for approvals."""

import asyncio
import re
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send

from hitl_graph.errors import AlreadyDecidedError, HitlError, InvalidDecisionError, StaleRequestError
from hitl_graph.inbox import Inbox
from hitl_graph.model import Decision, Request, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode, EscalationNode, UserProxyNode, ask_human
from hitl_graph.worker import Worker
from tests import escalation_agents as agents
from tests.databases import open_checkpointer, open_ledger
from tests.escalation_agents import Graph, config_of, told, values, work
from tests.invariants.processes import Barrier, race

Kind = Literal["escalation", "question", "conversation"]
KINDS: tuple[Kind, ...] = ("escalation", "question", "conversation")

pytestmark = pytest.mark.both_databases


def build(kind: Kind, saver: Any) -> Graph:
    """A graph that asks one question of this kind, and finishes when it is answered."""
    if kind == "escalation":
        return agents.build(saver)

    if kind == "conversation":
        return _conversation(saver)

    def agent(state: agents.State) -> dict[str, Any]:
        results = [m.text for m in state["messages"] if isinstance(m, ToolMessage)]
        if results:
            return {"messages": [AIMessage(f"I got: {results[-1]}")]}
        args = {"question": "Which colour?", "options": ["red", "look for y"]}
        return {"messages": [AIMessage("", tool_calls=[{"name": "ask_human", "args": args, "id": "q"}])]}

    builder = StateGraph(agents.State)
    builder.add_node("agent", agent)
    builder.add_node("tools", ApprovalNode([ask_human()]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


def _conversation(saver: Any) -> Graph:
    def agent(state: agents.State) -> dict[str, Any]:
        told = [m.text for m in state["messages"] if isinstance(m, HumanMessage)][1:]
        return {"messages": [AIMessage(f"I got: {told[-1]}" if told else "What shall I do?")]}

    builder = StateGraph(agents.State)
    builder.add_node("agent", agent)
    builder.add_node("user", UserProxyNode("agent"))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda s: END if "I got" in s["messages"][-1].text else "user")
    return builder.compile(checkpointer=saver)


class Stage:
    def __init__(self, kind: Kind, path: str) -> None:
        self.kind, self.path = kind, path
        self.saver = open_checkpointer(path)
        self.ledger, self.inbox = self.saver.ledger, Inbox(self.saver.ledger)
        self.graph = build(kind, self.saver)

    def ask(self, thread: str = "t") -> Request:
        agents.start(self.graph, thread)
        [request] = self.inbox.pending(thread_id=thread)
        assert request.kind == ("question" if self.kind == "conversation" else self.kind)
        return request

    def answer(self, request: Request, raw: Any, thread: str = "t") -> Any:
        """Straight through LangGraph, strict."""
        config = config_of(thread)
        config["configurable"]["__pregel_strict_resume"] = True
        return self.graph.invoke(Command(resume={request.interrupt_id: raw}), config, durability="sync")

    def ends_as_told(self, thread: str = "t") -> bool:
        return "look for y" in told(self.graph, thread)[-1][1]


@pytest.fixture(params=KINDS)
def stage(request: pytest.FixtureRequest, db_path: str) -> Generator[Stage]:
    made = Stage(request.param, db_path)
    yield made
    assert made.ledger.verify_audit().ok  # I8, whatever was tried
    made.saver.close()


# --- I1: bound to the request ----------------------------------------------------------------------------------------


def test_i1_an_answer_for_other_contents_is_refused(stage: Stage) -> None:
    request = stage.ask()
    with pytest.raises(StaleRequestError):
        stage.inbox.decide(request.id, respond("look for y"), reviewer="alice", digest="0" * 64)
    with pytest.raises(StaleRequestError):
        stage.answer(request, {"type": "respond", "message": "look for y", "digest": "0" * 64})
    assert stage.inbox.pending() == [request]


def test_i1_an_answer_to_another_thread_s_question_is_refused(stage: Stage) -> None:
    one, other = stage.ask("one"), stage.ask("other")
    with pytest.raises(StaleRequestError):
        stage.answer(one, {"request_id": other.id, "digest": other.digest}, "one")
    with pytest.raises(StaleRequestError):
        stage.answer(one, {"type": "respond", "message": "look for y", "request_id": other.id}, "one")
    assert {request.id for request in stage.inbox.pending()} == {one.id, other.id}


def test_i1_an_old_answer_does_not_answer_the_next_escalation(db_path: str) -> None:
    stage = Stage("escalation", db_path)
    first = stage.ask()
    stage.inbox.decide(first.id, approve(), reviewer="alice")
    work(stage.graph, stage.ledger)
    [second] = stage.inbox.pending()
    with pytest.raises(AlreadyDecidedError):
        stage.inbox.decide(first.id, reject("stop"), reviewer="bob")
    with pytest.raises(Exception, match=r"interrupt|pending"):
        stage.answer(first, {"type": "reject", "message": "stop"})
    stage.graph.invoke(Command(resume={first.interrupt_id: {"type": "reject"}}), config_of())  # lax: nothing happens
    assert [request.id for request in stage.inbox.pending()] == [second.id]
    stage.saver.close()


# --- I2: one answer counts -------------------------------------------------------------------------------------------


def decide_all(index: int, barrier: Barrier, path: str, ids: list[str]) -> list[tuple[str, str]]:
    outcomes = []
    with open_ledger(path) as ledger:
        for request_id in ids:
            barrier.wait(60)
            decision = respond("look for y") if index % 2 else reject(f"no, says {index}")
            try:
                Inbox(ledger).decide(request_id, decision, reviewer=f"p{index}")
                outcomes.append((request_id, "counted"))
            except AlreadyDecidedError as exc:
                outcomes.append((request_id, exc.decided_by))
    return outcomes


def test_i2_of_four_processes_one_counts(stage: Stage) -> None:
    ids = [stage.ask(f"t{number}").id for number in range(5)]
    results = race(4, decide_all, stage.path, ids)
    assert Counter(request_id for outcomes in results for request_id, told_ in outcomes if told_ == "counted") == {
        request_id: 1 for request_id in ids
    }
    Worker(stage.graph, stage.ledger, config={"recursion_limit": 100}).run_once()
    for request in (stage.inbox.get(request_id) for request_id in ids):
        assert request.state == "delivered"
        assert stage.ends_as_told(request.thread_id) == (request.decision == respond("look for y"))


# --- I4, I5: once ----------------------------------------------------------------------------------------------------


def resume_all(index: int, barrier: Barrier, kind: Kind, path: str) -> int:
    with open_checkpointer(path) as saver:
        worker = Worker(build(kind, saver), saver.ledger, config={"recursion_limit": 100})
        barrier.wait(60)
        return len([one for one in worker.run_once() if one.request_ids])


def test_i5_workers_at_once_apply_an_answer_once(stage: Stage) -> None:
    for number in range(4):
        request = stage.ask(f"t{number}")
        stage.inbox.decide(request.id, respond("look for y"), reviewer="alice")
    race(3, resume_all, stage.kind, stage.path)
    for number in range(4):
        texts = [text for _, text in told(stage.graph, f"t{number}")]
        said = [m for m in values(stage.graph, f"t{number}")["messages"] if "look for y" in m.text]
        assert len(said) == 2, texts  # the person's words, and what the agent made of them
        assert [request.state for request in stage.ledger.history(f"t{number}")] == ["delivered"]


def test_i5_an_edit_is_applied_once(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        graph, inbox = agents.build(saver), Inbox(saver.ledger)
        agents.start(graph)
        [request] = inbox.pending()
        inbox.decide(request.id, edit({"notes": ["one"]}), reviewer="alice")
        pointer = {"request_id": request.id, "digest": request.digest}
        step: Command[Any] = Command(resume={request.interrupt_id: pointer})
        graph.invoke(step, config_of(), durability="sync")
        graph.invoke(step, config_of(), durability="sync")  # repeated: of no effect
        work_again = Worker(graph, saver.ledger).run_once()
        assert work_again == []
        assert values(graph)["notes"] == ["one"]


# --- I6: a decision survives the process that took it ----------------------------------------------------------------


def test_i6_a_decision_is_carried_out_by_whoever_comes(stage: Stage) -> None:
    request = stage.ask()
    with open_ledger(stage.path) as ledger:
        Inbox(ledger).decide(request.id, respond("look for y"), reviewer="alice")
    with open_checkpointer(stage.path) as saver:
        work(build(stage.kind, saver), saver.ledger)
    assert stage.ends_as_told()


# --- I7, I9: malformed answers and silence ---------------------------------------------------------------------------

NO_ANSWERS: list[Any] = [
    "", "yes", "approve", 0, 1, True, False, [], {"x": 1}, {"type": None}, {"type": "maybe"}, {"decisions": []},
    {"type": "respond"}, {"type": "respond", "message": ""}, {"type": "respond", "message": " \n"},
    {"type": "respond", "message": "look for y", "args": {}}, {"type": "edit"},
    {"type": "edit", "args": []}, {"type": "edit", "args": {"limit": "x"}}, [{"type": "accept", "args": {"x": 1}}],
    {"decisions": [{"type": "approve"}, {"type": "approve"}]},
]  # fmt: skip


@pytest.mark.parametrize("raw", NO_ANSWERS, ids=str)
def test_i7_a_malformed_answer_is_an_error_and_the_question_stays(stage: Stage, raw: Any) -> None:
    if stage.kind == "conversation" and isinstance(raw, str) and raw.strip():
        pytest.skip("a text is what a person says in a conversation")
    request = stage.ask()
    before = told(stage.graph)
    with pytest.raises(HitlError):
        stage.answer(request, raw)
    assert stage.inbox.pending() == [request]
    assert told(stage.graph) == before
    stage.inbox.decide(request.id, respond("look for y"), reviewer="alice")
    work(stage.graph, stage.ledger)
    assert stage.ends_as_told()


def test_i7_what_the_request_does_not_offer_is_refused(db_path: str) -> None:
    stage = Stage("question", db_path)
    request = stage.ask()
    wrong: list[Decision] = [
        approve(), edit({"limit": 1}), respond("blue"), respond(""), respond({"colour": "red"}), respond(["red"]),
    ]  # fmt: skip
    for decision in wrong:
        with pytest.raises(InvalidDecisionError):
            stage.inbox.decide(request.id, decision, reviewer="alice")
    assert stage.inbox.pending() == [request]
    stage.saver.close()


def test_i9_going_on_without_an_answer_asks_again(stage: Stage) -> None:
    request = stage.ask()
    before = told(stage.graph)
    for _ in range(2):
        stage.graph.invoke(None, config_of(), durability="sync")
    assert told(stage.graph) == before
    assert stage.inbox.pending() == [request]


# --- I10: siblings ---------------------------------------------------------------------------------------------------


def test_i10_escalations_of_one_step_are_independent(db_path: str) -> None:
    """Two branches of a graph, each with its own watch, are stuck at the same time."""

    def loop(name: str) -> Any:
        calls = [
            message
            for number in range(4)
            for message in (
                AIMessage("", tool_calls=[{"name": "look", "args": {"q": name}, "id": f"{name}{number}"}]),
                ToolMessage("nothing found", tool_call_id=f"{name}{number}", name="look"),
            )
        ]
        return {"messages": [HumanMessage(f"go {name}"), *calls]}

    def end(state: MessagesState) -> dict[str, Any]:
        return {}

    with open_checkpointer(db_path) as saver:
        builder = StateGraph(MessagesState)
        builder.add_node("watch", EscalationNode("end"))
        builder.add_node("end", end)
        builder.add_conditional_edges(START, lambda _: [Send("watch", loop("a")), Send("watch", loop("b"))], ["watch"])
        graph, inbox = builder.compile(checkpointer=saver), Inbox(saver.ledger)
        graph.invoke({"messages": [HumanMessage("go")]}, config_of(), durability="sync")
        one, other = inbox.pending()
        inbox.decide(one.id, respond("to the first"), reviewer="alice")
        assert work(graph, saver.ledger).status == "paused"
        assert [request.id for request in inbox.pending()] == [other.id]
        inbox.decide(other.id, respond("to the second"), reviewer="bob")
        assert work(graph, saver.ledger).status == "finished"
        said = [re.findall("to the (?:first|second)", text) for _, text in told(graph)]
        assert sorted(found for texts in said for found in texts) == ["to the first", "to the second"]


def test_i10_async_too(tmp_path: Path) -> None:
    with open_checkpointer(tmp_path / "agent.db") as saver:
        graph, inbox = build("question", saver), Inbox(saver.ledger)

        async def play() -> None:
            given = {"messages": [HumanMessage("go")]}
            await asyncio.gather(*(graph.ainvoke(given, config_of(f"t{n}")) for n in range(3)))
            for request in await inbox.apending():
                await inbox.adecide(request.id, respond("look for y"), reviewer="alice")
            assert [one.status for one in await Worker(graph, saver.ledger).arun_once()] == ["finished"] * 3

        asyncio.run(play())
