"""Subgraphs at any depth, several at a time, and `Send`: each call has its own question and runs once."""

import operator
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.functional import ask, requires_approval
from hitl_graph.inbox import Inbox
from hitl_graph.model import Request, approve, reject, respond
from hitl_graph.worker import Resumed, Worker
from tests.databases import open_checkpointer
from tests.invariants.agents import Graph, build, pay_call, ran, said, search_call
from tests.ways import functional_agent

pytestmark = pytest.mark.both_databases
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


class House:
    """A checkpointer, its people, and what ran."""

    def __init__(self, path: Path) -> None:
        self.path, self.effects = path, path / "effects"
        self.saver: Checkpointer = open_checkpointer(str(path / "agent.db"))
        self.inbox = Inbox(self.saver.ledger)

    def agent(self, way: str = "node", checkpointer: Any = None) -> Any:
        """The agent of the invariants, as a part of another graph."""
        made: Any = functional_agent.build if way == "functional" else build
        return made(checkpointer, self.effects)

    def asked(self) -> dict[int, Request]:
        """What waits for people, by the amount that it is about."""
        return {int(str(r.action.args["eur"])): r for r in self.inbox.pending() if r.action}

    def work(self, graph: Any) -> Resumed:
        [resumed] = Worker(graph, self.saver.ledger).run_once()
        if resumed.error is not None:
            raise resumed.error
        return resumed

    def ran(self) -> list[str]:
        return [line.split(" ", 2)[2] for line in ran(self.effects)]


@pytest.fixture
def house(tmp_path: Path) -> Generator[House]:
    made = House(tmp_path)
    yield made
    assert made.saver.ledger.verify_audit().ok
    made.saver.close()


def around(inner: Any, checkpointer: Any = None, *, called: bool = False) -> Graph:
    """A graph with this one as its only node, or called by the function that is its only node."""

    def call(state: MessagesState) -> Any:
        return {"messages": inner.invoke({"messages": state["messages"]})["messages"]}

    builder = StateGraph(MessagesState)
    builder.add_node("inner", call if called else inner)
    builder.add_edge(START, "inner")
    return builder.compile(checkpointer=checkpointer)


def ids(output: Any) -> set[str]:
    """What an output says is asked. LangGraph names a task's question of a graph in a graph twice, with one id."""
    return {interrupt.id for interrupt in output["__interrupt__"]}


@pytest.mark.parametrize("own", [None, True], ids=["inherits", "its own"])
@pytest.mark.parametrize("called", [False, True], ids=["as a node", "called in a node"])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("way", ["node", "functional"])
def test_a_subgraph_pauses_and_goes_on_at_any_depth(
    house: House, way: str, depth: int, called: bool, own: bool | None
) -> None:
    graph: Any = house.agent(way, own)
    for level in range(depth):
        graph = around(graph, house.saver if level == depth - 1 else None, called=called)
    graph.invoke(said([[search_call("x"), pay_call(1), pay_call(2)], [pay_call(3)]]), THREAD)
    house.inbox.decide(house.asked()[2].id, approve(), reviewer="alice")
    assert house.work(graph).status == "paused"
    assert house.ran() == ["search x", "pay 2 bob"]
    house.inbox.decide(house.asked()[1].id, reject("no"), reviewer="alice")
    house.work(graph)
    assert set(house.asked()) == {3}
    house.inbox.decide(house.asked()[3].id, approve(), reviewer="alice")
    assert house.work(graph).status == "finished"
    assert house.ran() == ["search x", "pay 2 bob", "pay 3 bob"]
    assert {r.state for r in house.saver.ledger.history("t")} == {"delivered"}


@pytest.mark.parametrize("way", ["node", "functional"])
def test_parallel_subgraphs_ask_at_the_same_time_and_independently(house: House, way: str) -> None:
    class Both(TypedDict):
        left: list[Any]
        right: list[Any]

    def part(side: str, eur: int) -> Any:
        agent = house.agent(way)

        def run(_: Both) -> Any:
            return {side: agent.invoke(said([pay_call(eur), pay_call(eur + 1)]))["messages"]}

        return run

    builder = StateGraph(Both)
    builder.add_node("l", part("left", 1))
    builder.add_node("r", part("right", 11))
    builder.add_edge(START, "l")
    builder.add_edge(START, "r")
    graph = builder.compile(checkpointer=house.saver)
    output = graph.invoke({"left": [], "right": []}, THREAD)
    assert len(ids(output)) == 4
    asked = house.asked()
    assert set(asked) == {1, 2, 11, 12}
    for eur, answer in ((11, approve()), (2, reject("no")), (12, reject("no")), (1, approve())):
        house.inbox.decide(asked[eur].id, answer, reviewer="alice")
        assert house.work(graph).status == ("finished" if eur == 1 else "paused")
    assert house.ran() == ["pay 11 bob", "pay 1 bob"]
    values = graph.get_state(THREAD).values
    told = {side: [m.content for m in values[side] if isinstance(m, ToolMessage)] for side in ("left", "right")}
    assert told["left"][0] == "paid 1 to bob"
    assert "rejected" in told["left"][1]
    assert told["right"][0] == "paid 11 to bob"
    assert "rejected" in told["right"][1]


class Jobs(TypedDict):
    items: list[int]
    done: Annotated[list[str], operator.add]


class Job(TypedDict):
    eur: int


def fan_out(house: House, node: Any) -> Graph:
    builder = StateGraph(Jobs)
    builder.add_node("plan", lambda _: {})
    builder.add_node("job", node)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda state: [Send("job", {"eur": eur}) for eur in state["items"]], ["job"])
    return cast(Graph, builder.compile(checkpointer=house.saver))


def by_agent(house: House) -> Any:
    agent = house.agent()

    def job(state: Job) -> Any:
        messages = agent.invoke(said([pay_call(state["eur"])]))["messages"]
        return {"done": [str(m.content) for m in messages if isinstance(m, ToolMessage)]}

    return job


def by_function(house: House) -> Any:
    @requires_approval(on_reject=lambda error: f"rejected: {error.message}")
    def pay(eur: int, to: str = "bob") -> str:
        with open(house.effects, "a") as effects:
            effects.write(f"t id pay {eur} {to}\n")
        return f"paid {eur} to {to}"

    return lambda state: {"done": [pay(state["eur"])]}


@pytest.mark.parametrize("job", [by_agent, by_function])
def test_a_map_over_items_asks_about_each_and_takes_partial_answers(house: House, job: Any) -> None:
    graph = fan_out(house, job(house))
    output = graph.invoke({"items": [1, 2, 3, 4], "done": []}, THREAD)
    assert len(ids(output)) == 4
    asked = house.asked()
    order = (3, 1, 4, 2)
    for eur in order:
        house.inbox.decide(asked[eur].id, approve() if eur % 2 else reject("even"), reviewer="alice")
        assert house.work(graph).status == ("finished" if eur == 2 else "paused")
    assert house.ran() == ["pay 3 bob", "pay 1 bob"]
    done = graph.get_state(THREAD).values["done"]  # in the order of the items, whatever the order of the answers
    assert [text.split()[0] for text in done] == (
        ["paid", "A", "paid", "A"] if job is by_agent else ["paid", "rejected:", "paid", "rejected:"]
    )


def test_the_same_item_sent_twice_is_two_actions(house: House) -> None:
    graph = fan_out(house, by_function(house))
    graph.invoke({"items": [5, 5], "done": []}, THREAD)
    one, two = house.inbox.pending()
    assert one.action == two.action
    house.inbox.decide(one.id, approve(), reviewer="alice")
    assert house.work(graph).status == "paused"
    house.inbox.decide(two.id, reject("once"), reviewer="alice")
    assert house.work(graph).status == "finished"
    assert house.ran() == ["pay 5 bob"]


def test_calls_that_are_sent_one_by_one_to_the_node_are_independent(house: House) -> None:
    """As agents of LangChain do it: one Send a call."""
    agent: Any = build(cast(Any, None), house.effects)
    node = agent.builder.nodes["tools"].runnable

    def plan(state: MessagesState) -> Any:
        return [Send("tools", [call]) for call in cast(AIMessage, state["messages"][-1]).tool_calls]

    builder = StateGraph(MessagesState)
    builder.add_node("agent", lambda _: {"messages": [AIMessage("", tool_calls=[pay_call(1), pay_call(2)])]})
    builder.add_node("tools", node)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", plan, ["tools"])
    graph = builder.compile(checkpointer=house.saver)
    graph.invoke({"messages": [HumanMessage("pay")]}, THREAD)
    asked = house.asked()
    graph.invoke(Command(resume={asked[2].interrupt_id: {"type": "approve"}}), THREAD)
    assert house.ran() == ["pay 2 bob"]
    graph.invoke(Command(resume={asked[1].interrupt_id: {"type": "reject"}}), THREAD)
    assert house.ran() == ["pay 2 bob"]
    assert graph.get_state(THREAD).next == ()


def test_a_functional_agent_in_a_graph_and_a_graph_in_a_functional_agent(house: House) -> None:
    inner = house.agent()

    @entrypoint()
    def middle(given: dict[str, Any]) -> dict[str, Any]:
        city = ask("Which city?")
        return {"messages": [*inner.invoke(given)["messages"], HumanMessage(city)]}

    graph = around(middle, house.saver, called=True)
    graph.invoke(said([pay_call(1)]), THREAD)
    [question] = house.inbox.pending()
    house.inbox.decide(question.id, respond("Lisbon"), reviewer="alice")
    house.work(graph)
    house.inbox.decide(house.asked()[1].id, approve(), reviewer="alice")
    assert house.work(graph).status == "finished"
    assert house.ran() == ["pay 1 bob"]
    assert graph.get_state(THREAD).values["messages"][-1].content == "Lisbon"


def test_a_subgraph_with_a_memory_of_its_own_remembers_what_was_paid(house: House) -> None:
    """`checkpointer=True`: its messages stay from one call of the outer graph to the next."""
    graph = around(build(cast(Any, True), house.effects), house.saver)
    for turn in (1, 2):
        graph.invoke(said([pay_call(turn)]), THREAD)
        for request in house.inbox.pending():
            house.inbox.decide(request.id, approve(), reviewer="alice")
        Worker(graph, house.saver.ledger).run_once()
    assert house.ran() == ["pay 1 bob"]  # the script of the first message is over, so that the second is "finished"
    inner = graph.get_state(THREAD, subgraphs=True)
    assert inner.next == ()
