"""I7, in every way: a malformed answer is an error, costs nothing, and can be corrected."""

from typing import Any

import pytest
from langgraph.types import Command

from hitl_graph.errors import InvalidDecisionError
from hitl_graph.model import edit
from tests.invariants.agents import pay_call
from tests.invariants.scenes import APPROVE
from tests.ways.places import TWO, WayScene

MALFORMED: list[Any] = [
    "yes",
    {"decisions": []},
    {"decisions": [APPROVE, APPROVE]},
    {"type": "approve", "args": {"eur": 1_000_000, "to": "eve"}},
    {"type": "edit", "args": {"eur": "seven", "to": "eve"}},
    [{"type": "edit", "args": {"action": "refund", "args": {}}}],
]


def test_a_malformed_answer_poisons_nothing_and_the_right_one_still_works(scene: WayScene) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [[pay_call(1)], [pay_call(2)]])[0]
    for answer in MALFORMED:
        with pytest.raises(InvalidDecisionError):
            scene.go(graph, Command(resume={shown.interrupt_id: answer}))
    saved = scene.saved()
    assert all(channel != "__resume__" for _, channel, _ in saved.pending_writes or [])
    with pytest.raises(InvalidDecisionError):
        scene.decide(shown, edit({"eur": "seven", "to": "eve"}))
    assert (scene.ran(), scene.the_one()) == ([], shown)
    scene.go(graph, Command(resume={shown.interrupt_id: APPROVE}))
    assert scene.ran() == ["pay 1 bob"]
    assert len(scene.asked()) == 1


@pytest.mark.parametrize("place", TWO)
def test_a_bad_answer_to_one_call_does_not_touch_the_good_answer_to_another(scene: WayScene) -> None:
    graph = scene.agent()
    one, two = sorted(scene.start(graph, [pay_call(1), pay_call(2)]), key=lambda request: str(request.action))
    with pytest.raises(InvalidDecisionError):
        scene.answer(graph, (one, APPROVE), (two, "yes"))
    scene.go(graph, None)
    if scene.way.turns_wait:  # one interrupt, one answer: it counts as a whole or not at all
        assert (scene.ran(), scene.states()) == ([], ["pending"] * 2)
        scene.answer(graph, (one, APPROVE))
    else:
        assert scene.ran() == ["pay 1 bob"]
    scene.answer(graph, (two, APPROVE))
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 2 bob"]
    assert scene.state(graph).next == ()
