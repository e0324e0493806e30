"""I9, in every way: silence, `None`, an unknown word, a failing predicate: never "yes"."""

from contextlib import suppress
from typing import Any

import pytest
from langgraph.types import Command

from hitl_graph.errors import InvalidDecisionError
from hitl_graph.policy import Call, Policy, Rule
from tests.invariants.agents import pay_call, search_call
from tests.ways.places import TWO, WayScene

SILENCE: list[Any] = [None, True, 1, "", "approve", [], {"approved": "yes"}, {"type": None}, {"type": "approved"}]


def test_what_is_not_a_decision_runs_nothing(scene: WayScene) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [pay_call(1)])[0]
    refused = 0
    for silence in SILENCE:
        try:
            scene.go(graph, Command(resume={shown.interrupt_id: silence}))
        except InvalidDecisionError:
            refused += 1
        scene.go(graph, None)
    assert refused == len(SILENCE)
    with suppress(UnboundLocalError):  # LangGraph's own, for what is no answer at all
        scene.go(graph, Command(resume=None))
    assert scene.work(graph) == []
    assert scene.ran() == []
    assert scene.states() == ["pending"]


@pytest.mark.parametrize("place", TWO)
def test_a_failing_or_undecided_predicate_and_no_rule_at_all_ask_a_person(scene: WayScene) -> None:
    def fails(call: Call) -> bool:
        raise KeyError("no such customer")

    def neither(call: Call) -> Any:
        return None

    graph = scene.agent(policy=Policy([Rule("pay", "allow", when=fails), Rule("search", "allow", when=neither)]))
    asked = scene.start(graph, [pay_call(1), search_call("x")])
    assert len(asked) == 2
    bare = scene.agent(policy=Policy())
    scene.start(bare, [search_call("x")], "bare")
    assert len(scene.asked()) == 3
    assert scene.ran() == []
