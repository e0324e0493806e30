"""I1, in every way: an answer counts only for the question that it was made for."""

from contextlib import suppress

import pytest
from langchain_core.messages import HumanMessage
from langgraph.types import Command

from hitl_graph.errors import StaleRequestError
from hitl_graph.model import approve
from tests.invariants.agents import pay_call
from tests.invariants.scenes import ALICE, APPROVE
from tests.ways.places import TWO, WayScene


def test_the_answer_to_the_first_question_sent_again_does_not_answer_the_second(scene: WayScene) -> None:
    graph = scene.agent()
    scene.start(graph, [[pay_call(1)], [pay_call(2)]])
    [first] = scene.waits(graph)
    for _ in range(2):
        scene.go(graph, Command(resume={first: APPROVE}))
        assert scene.ran() == ["pay 1 bob"]
    second = scene.the_one()
    assert second.action is not None
    assert second.action.args["eur"] == 2
    scene.go(graph, Command(resume={second.interrupt_id: APPROVE}))
    assert scene.ran() == ["pay 1 bob", "pay 2 bob"]
    assert scene.state(graph).next == ()


@pytest.mark.parametrize("place", TWO)
def test_an_answer_made_for_something_else_is_refused(scene: WayScene) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1)], "other")
    foreign = scene.the_one()
    scene.start(graph, [pay_call(2)])
    [shown] = [request for request in scene.asked() if request.id != foreign.id]
    for claim in ({"request_id": foreign.id}, {"digest": foreign.digest}):
        with pytest.raises(StaleRequestError, match="look at what is asked now"):
            scene.go(graph, Command(resume={shown.interrupt_id: {**APPROVE, **claim}}))
    with pytest.raises(StaleRequestError, match="look again"):
        scene.inbox.decide(shown.id, approve(), reviewer=ALICE, digest=foreign.digest)
    scene.go(graph, Command(resume={foreign.interrupt_id: APPROVE}))
    assert scene.ran() == []
    assert scene.states() == scene.states("other") == ["pending"]


@pytest.mark.parametrize("place", TWO)
def test_new_input_while_it_waits_takes_the_old_answer_its_effect(scene: WayScene) -> None:
    graph = scene.agent()
    scene.start(graph, [[pay_call(1)], [pay_call(2)]])
    shown = scene.the_one()
    with suppress(ValueError):  # a react agent takes no message while a call of its own has no answer
        scene.go(graph, {"messages": [HumanMessage("never mind")]})
    with suppress(ValueError):
        scene.go(graph, Command(resume={shown.interrupt_id: APPROVE}))
    assert "pay 1 bob" not in scene.ran()
    if scene.own:
        with pytest.raises(StaleRequestError):
            scene.decide(shown, approve())
    else:  # a foreign checkpointer does not tell the ledger; the worker finds out
        scene.decide(shown, approve())
        scene.work(graph)
    assert "pay 1 bob" not in scene.ran()


@pytest.mark.parametrize("place", TWO)
def test_an_answer_given_to_a_process_that_was_started_later_reaches_its_question(scene: WayScene) -> None:
    scene.start(scene.agent(), [pay_call(1), pay_call(2)])
    one, two = scene.asked()
    assert one.action is not None
    graph = scene.agent()
    scene.answer(graph, (one, APPROVE), (two, {"type": "reject", "message": "no"}))
    assert scene.states() == ["delivered"] * 2
    assert scene.ran() == [f"pay {one.action.args['eur']} bob"]
    assert scene.state(graph).next == ()
