"""What the worker does with threads that fail, and with answers that a graph itself refuses."""

from collections.abc import Generator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from langgraph.pregel import Pregel
from langgraph.types import interrupt
from pydantic import BaseModel, field_validator
from typing_extensions import TypedDict

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, respond
from hitl_graph.nodes import ApprovalNode
from hitl_graph.worker import Resumed, Worker
from tests.databases import open_checkpointer
from tests.invariants import agents

pytestmark = pytest.mark.both_databases


class State(TypedDict, total=False):
    answer: object
    other: object


class Even(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def is_even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("odd numbers are not taken")
        return number


@pytest.fixture
def saver(db_path: Path) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


def build(saver: Checkpointer, *names: str) -> Pregel[State, None, State, State]:
    builder = StateGraph(State)
    for name in names:

        def ask(state: State, name: str = name) -> State:
            answer = interrupt(name, response_schema=Even)
            return {"answer": answer.number} if name == "answer" else {"other": answer.number}

        builder.add_node(f"ask_{name}", ask)
        builder.add_edge(START, f"ask_{name}")
    return builder.compile(checkpointer=saver)


def thread(name: str) -> RunnableConfig:
    return {"configurable": {"thread_id": name}}


def test_an_answer_that_the_graph_refuses_is_asked_again(saver: Checkpointer) -> None:
    graph, inbox = build(saver, "answer", "other"), Inbox(saver.ledger)
    graph.invoke({}, thread("1"))
    first, second = inbox.pending()
    inbox.decide(first.id, respond({"number": 3}), reviewer="alice")
    inbox.decide(second.id, respond({"number": 4}), reviewer="alice")
    [resumed] = Worker(graph, saver.ledger).run_once()
    assert resumed.status == "paused"
    [again] = inbox.pending()
    assert again.id == first.id
    assert again.note is not None
    assert "odd numbers are not taken" in again.note
    inbox.decide(again.id, respond({"number": 2}), reviewer="alice")
    [resumed] = Worker(graph, saver.ledger).run_once()
    assert resumed.status == "finished"
    assert sorted(map(str, graph.get_state(thread("1")).values.values())) == ["2", "4"]
    assert saver.ledger.verify_audit().ok


def test_threads_that_fail_do_not_hide_the_others(saver: Checkpointer) -> None:
    good, bad = build(saver, "answer"), build(saver, "other")
    inbox = Inbox(saver.ledger)
    for name in ("a0", "a1", "a2"):
        bad.invoke({}, thread(name))
    good.invoke({}, thread("z"))
    for request in inbox.pending():
        inbox.decide(request.id, respond({"number": 2}), reviewer="alice")
    worker = Worker(good, saver.ledger)
    finished = [r.thread_id for _ in range(2) for r in worker.run_once(limit=3) if r.status == "finished"]
    assert finished == ["z"]


def test_it_tells_of_each_thread_and_stops_between_two(saver: Checkpointer) -> None:
    graph, inbox, told = build(saver, "answer"), Inbox(saver.ledger), list[Resumed]()
    for name in ("1", "2"):
        graph.invoke({}, thread(name))
    for request in inbox.pending():
        inbox.decide(request.id, respond({"number": 2}), reviewer="alice")

    def tell(result: Resumed) -> None:
        told.append(result)
        worker.stop()

    worker = Worker(graph, saver.ledger, on_resumed=tell)
    worker.run()
    assert [result.thread_id for result in told] == ["1"]
    worker = Worker(graph, saver.ledger, on_resumed=tell)
    worker.run()
    assert [result.thread_id for result in told] == ["1", "2"]


def test_a_decision_wakes_the_worker(saver: Checkpointer, engine: str) -> None:
    graph, inbox, resumed = build(saver, "answer"), Inbox(saver.ledger), Event()
    worker = Worker(graph, saver.ledger, on_resumed=lambda result: resumed.set())
    serving = Thread(target=worker.run, kwargs={"interval": 0.05 if engine == "sqlite" else 600})
    serving.start()
    try:
        for name in ("1", "2"):
            graph.invoke({}, thread(name))
            [request] = inbox.pending()
            inbox.decide(request.id, respond({"number": 2}), reviewer="alice")
            assert resumed.wait(30)
            resumed.clear()
    finally:
        worker.stop()
        serving.join()


def test_a_worker_leaves_the_threads_of_other_graphs_to_theirs(saver: Checkpointer, tmp_path: Path) -> None:
    """Their nodes are called the same, so that each could resume the other's threads, and find no such tool."""
    did = list[str]()

    def agent_of(name: str) -> Pregel[MessagesState, None, MessagesState, MessagesState]:
        def act(what: str) -> str:
            """Do something."""
            did.append(f"{name}: {what}")
            return "done"

        def model(state: MessagesState) -> dict[str, Any]:
            asked = isinstance(state["messages"][-1], ToolMessage)
            calls = [] if asked else [{"name": f"act_{name}", "args": {"what": "it"}, "id": "1"}]
            return {"messages": [AIMessage("", tool_calls=calls)]}

        builder = StateGraph(MessagesState)
        builder.add_node("agent", model)
        tool = StructuredTool.from_function(act, name=f"act_{name}")
        builder.add_node("tools", ApprovalNode([tool], graph=name))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", tools_condition)
        builder.add_edge("tools", "agent")
        return builder.compile(checkpointer=saver)

    graphs = {name: agent_of(name) for name in ("travel", "buying")}
    inbox = Inbox(saver.ledger)
    for name, graph in graphs.items():
        graph.invoke({"messages": [HumanMessage("go")]}, thread(name))
    for request in inbox.pending():
        inbox.decide(request.id, approve(), reviewer="alice")
    for name, graph in reversed(graphs.items()):
        assert [(one.thread_id, one.status) for one in Worker(graph, saver.ledger).run_once()] == [(name, "finished")]
    assert did == ["buying: it", "travel: it"]


def test_it_learns_when_something_was_decided(db_path: str, tmp_path: Path) -> None:
    learned = list[int]()

    def learn() -> None:
        learned.append(len(learned))
        if len(learned) == 1:
            raise RuntimeError("not yet")

    with open_checkpointer(db_path) as checkpointer:
        graph = agents.build(checkpointer, tmp_path / "effects")
        agents.start(graph, "t", [agents.pay_call(1)])
        worker, inbox = Worker(graph, checkpointer.ledger, learn=learn), Inbox(checkpointer.ledger)
        worker.run_once()
        assert len(learned) == 1
        worker.run_once()  # it failed
        worker.run_once()
        assert len(learned) == 2
        [request] = inbox.pending()
        inbox.decide(request.id, approve(), reviewer="alice")
        [done] = worker.run_once()
        assert (done.status, len(learned)) == ("finished", 3)
