"""I4, in every way: an action runs only under a permit for its digest. Position in the graph is no permit."""

from contextlib import suppress
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.types import Command, Send

from hitl_graph.model import approve, edit, reject
from tests.invariants.agents import pay_call
from tests.invariants.scenes import ALICE, AnyGraph
from tests.ways.places import WayScene


def test_every_effect_names_the_decision_that_let_it_run(scene: WayScene) -> None:
    graph = scene.agent()
    one, two = sorted(scene.start(graph, [pay_call(1), pay_call(2)]), key=lambda request: str(request.action))
    scene.decide(one, approve())
    scene.decide(two, edit({"eur": 20, "to": "eve"}))
    scene.work(graph)
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 20 eve"]
    effects = sorted(scene.ledger.executed("t"), key=lambda row: str(row["reason"]))
    assert [(row["request_id"], row["reason"], row["state"]) for row in effects] == [
        (one.id, f"approve by {ALICE}", "done"),
        (two.id, f"edit by {ALICE}", "done"),
    ]


def places_of(scene: WayScene, graph: AnyGraph) -> list[dict[str, Any]]:
    """Every place of the thread that a caller can address: each checkpoint so far, and each graph inside."""
    found = [{}, *(dict(state.config["configurable"]) for state in scene.past(graph))]

    def inside(state: Any) -> None:
        for task in state.tasks:
            nested = getattr(task.state, "config", task.state)
            if isinstance(nested, dict):
                found.append(dict(nested["configurable"]))
            if hasattr(task.state, "tasks"):
                inside(task.state)

    inside(scene.state(graph, subgraphs=True))
    return [{key: value for key, value in place.items() if not key.startswith("__")} for place in found]


def attack(scene: WayScene, graph: AnyGraph) -> int:
    """Walk around the gate in every way that LangGraph offers a caller; gives how many ways there were.

    LangGraph may refuse an attempt, with whatever error. What counts is what ran.
    """
    call = {**pay_call(1), "type": "tool_call"}
    context = {"__type": "tool_call_with_context", "tool_call": call, "state": {"messages": []}}
    nodes = [name for name in graph.nodes if name != "__start__"]
    jumps: list[Command[Any] | None] = [None]
    for node in ("tools", *nodes):
        jumps += [Command(goto=node), Command(goto=Send(node, [call])), Command(goto=Send(node, context))]
    tries = 0
    for place in places_of(scene, graph):
        for jump in jumps if not place else [None, Command(goto="tools")]:
            with suppress(Exception):
                tries += 1
                scene.go(graph, jump, configurable=place)
    for place in places_of(scene, graph)[:6]:
        for node in ("tools", "agent", "model", *nodes):
            config = {"configurable": {"thread_id": "t", "checkpoint_ns": "", **place}}
            with suppress(Exception):
                tries += 1
                forged = {"messages": [AIMessage("", tool_calls=[call])]}
                scene.go(graph, None, configurable=scene.update(graph, config, forged, node)["configurable"])
    return tries


@pytest.mark.parametrize("place", ["SqliteCheckpointer", "InMemorySaver"])
def test_no_jump_no_forged_state_no_time_travel_runs_what_was_not_approved(scene: WayScene) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [pay_call(1)])[0]
    assert attack(scene, graph) > 5
    assert scene.ran() == []
    other = "u"
    scene.start(graph, [pay_call(1)], other)
    [again] = [request for request in scene.asked() if request.thread_id == other]
    scene.decide(again, reject("no"))
    scene.work(graph)
    assert attack(scene, graph) > 5
    assert scene.ran() == []
    assert scene.inbox.get(shown.id).decision is None


@pytest.mark.parametrize("place", ["SqliteCheckpointer", "InMemorySaver"])
def test_no_jump_and_no_time_travel_runs_again_what_ran(scene: WayScene) -> None:
    graph = scene.agent()
    scene.decide(scene.start(graph, [pay_call(1)])[0], approve())
    scene.work(graph)
    assert scene.ran() == ["pay 1 bob"]
    for place in places_of(scene, graph):
        with suppress(Exception):
            scene.go(graph, None, configurable=place)
    assert scene.ran() == ["pay 1 bob"]
