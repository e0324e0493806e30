"""I3, in every way: the verdict is stored with the question; by the time of execution it can only be stricter."""

import pytest

from hitl_graph.model import approve, edit, reject
from hitl_graph.policy import Policy, Rule
from tests.invariants.agents import pay_call
from tests.invariants.test_i3_verdict_stored import Threshold
from tests.ways.places import TWO, WayScene


@pytest.fixture
def threshold() -> Threshold:
    return Threshold(10)


def test_a_predicate_that_flips_while_people_think_lets_nothing_run(scene: WayScene, threshold: Threshold) -> None:
    graph = scene.agent(policy=threshold.policy)
    shown = scene.start(graph, [pay_call(50)])[0]
    threshold.limit = 1000
    scene.go(graph, None)
    lax = scene.agent(policy=Policy([Rule("*", "allow")]))  # as a new process with another policy builds it
    scene.go(lax, None)
    assert scene.ran() == []
    assert scene.states() == ["pending"]
    scene.decide(shown, reject("too much"))
    assert [result.status for result in scene.work(lax)] == ["finished"]
    assert scene.ran() == []
    assert "too much" in scene.told()["pay-50"]


@pytest.mark.parametrize("place", TWO)
def test_a_policy_that_became_stricter_overrules_an_approval_and_an_edit(scene: WayScene, threshold: Threshold) -> None:
    graph = scene.agent(policy=threshold.policy)
    first, second = scene.start(graph, [pay_call(50), pay_call(60)])
    scene.decide(first, approve())
    scene.decide(second, edit({"eur": 5000, "to": "bob"}))
    threshold.limit = 1
    scene.work(graph)
    assert scene.ran() == []
    assert all("far above the limit" in text for text in scene.told().values())
    assert scene.asked() == []
