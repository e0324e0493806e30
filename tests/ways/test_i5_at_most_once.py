"""I5, in every way: an effect happens at most once; if nobody can know whether it did, a person is asked."""

import pytest
from langchain_core.tools import BaseTool, tool

from hitl_graph.model import approve, reject, respond
from tests.invariants.agents import pay_call, write_effect
from tests.invariants.test_i10_siblings import by_amount
from tests.ways.places import TWO, WayScene


def unsteady(scene: WayScene) -> BaseTool:
    @tool
    def pay(eur: int, to: str) -> str:
        """Send money; the line goes dead after 13."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        if eur == 13:
            raise ConnectionError("the line went dead")
        return f"paid {eur}"

    return pay


def test_a_call_that_failed_in_the_middle_is_asked_about_and_not_run_again(scene: WayScene) -> None:
    graph = scene.agent(tools=[unsteady(scene)])
    asked = by_amount(scene.start(graph, [pay_call(1), pay_call(13), pay_call(3)]))
    for request in asked.values():
        scene.decide(request, approve())
    [result] = scene.work(graph)
    assert (result.status, type(result.error)) == ("failed", ConnectionError)
    for _ in range(2):
        scene.go(graph, None)
        assert sorted(set(scene.ran())) == sorted(scene.ran())
    doubts = by_amount(scene.asked())  # where each call is a task of its own, LangGraph may have cut off a sibling
    assert 13 in doubts
    for doubt in doubts.values():
        assert doubt.kind == "question"
        assert "Did this happen?" in doubt.description
        scene.decide(doubt, respond("it arrived after all"))
    assert [result.error for result in scene.work(graph)] == [None]
    assert scene.state(graph).next == ()
    ran = scene.ran()  # one that was cut off may not have happened, and people said that it had
    assert sorted(set(ran)) == sorted(ran)
    assert {"pay 13 bob", *(f"pay {eur} bob" for eur in (1, 3) if eur not in doubts)} <= {*ran}
    whole = {"pay-1": "paid 1", "pay-13": "it arrived after all", "pay-3": "paid 3"}
    assert scene.told() == whole | {f"pay-{eur}": "it arrived after all" for eur in doubts}


@pytest.mark.parametrize("place", TWO)
def test_the_person_says_whether_it_runs_again(scene: WayScene) -> None:
    graph = scene.agent(tools=[unsteady(scene)])
    scene.decide(scene.start(graph, [pay_call(13)])[0], approve())
    scene.work(graph)
    scene.go(graph, None)
    scene.decide(scene.the_one(), approve())
    scene.work(graph)
    assert scene.ran() == ["pay 13 bob"] * 2
    scene.go(graph, None)
    scene.decide(scene.the_one(), reject("leave it"))
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == ["pay 13 bob"] * 2
    assert {request.state for request in scene.ledger.history("t")} == {"delivered"}
