"""I10, in every way: the fate of one call neither discards nor re-runs the others."""

import pytest

from hitl_graph.model import Decision, approve, edit, reject, respond
from tests.invariants.agents import pay_call, search_call
from tests.invariants.scenes import APPROVE
from tests.invariants.test_i10_siblings import by_amount
from tests.ways.places import TWO, WayScene


def test_each_call_gets_its_own_answer_and_runs_once(scene: WayScene) -> None:
    graph = scene.agent()
    asked = by_amount(scene.start(graph, [search_call("x"), *(pay_call(eur) for eur in (1, 2, 3, 4))]))
    assert scene.ran() == ([] if scene.way.turns_wait else ["search x"])
    answers: dict[int, Decision] = {
        4: respond("later"), 2: reject("no"), 3: edit({"eur": 30, "to": "eve"}), 1: approve()
    }  # fmt: skip
    for eur, answer in answers.items():
        scene.decide(asked[eur], answer)
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 30 eve", "search x"]
    told = scene.told()
    assert told["search-x"] == "found x"
    assert told["pay-1"] == "paid 1 to bob"
    assert "rejected" in told["pay-2"]
    assert told["pay-3"].startswith("paid 30 to eve")
    assert told["pay-4"] == "later"


@pytest.mark.parametrize("place", TWO)
def test_a_part_of_the_answers_leaves_the_other_calls_asked_as_they_were(scene: WayScene) -> None:
    graph = scene.agent()
    asked = by_amount(scene.start(graph, [pay_call(1), pay_call(2), pay_call(3)]))
    scene.answer(graph, (asked[3], APPROVE))
    assert scene.ran() == ([] if scene.way.turns_wait else ["pay 3 bob"])
    scene.decide(asked[1], reject("no"))
    assert [result.status for result in scene.work(graph)] in (["paused"], [])
    assert scene.the_one() == asked[2]
    scene.decide(asked[2], approve())
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert sorted(scene.ran()) == ["pay 2 bob", "pay 3 bob"]
