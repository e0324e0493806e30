"""I2, in every way: of several answers one counts, and what is recorded is what happens."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langgraph.types import Command

from hitl_graph.errors import AlreadyDecidedError, HitlError
from hitl_graph.model import approve, reject
from tests.invariants.agents import pay_call
from tests.invariants.scenes import ALICE, AnyGraph
from tests.ways.places import TWO, WayScene


@pytest.mark.parametrize("place", TWO)
def test_the_second_answer_is_told_of_the_first_whatever_door_it_comes_through(scene: WayScene) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [pay_call(1)])[0]
    scene.decide(shown, reject("no"))
    with pytest.raises(AlreadyDecidedError, match="reject by alice"):
        scene.inbox.decide(shown.id, approve(), reviewer="bob")
    with pytest.raises(AlreadyDecidedError, match="reject by alice"):
        scene.go(graph, Command(resume={shown.interrupt_id: {"type": "approve"}}))
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == []
    assert "rejected" in scene.told()["pay-1"]


def both(scene: WayScene, graph: AnyGraph, answers: list[Command[Any]]) -> list[Any]:
    """Resume the thread with each answer, at the same time; gives what was raised."""
    config: Any = {"configurable": {"thread_id": "t"}}
    outcomes: list[Any]
    if scene.mode == "async":

        async def gathered() -> list[Any]:
            return list(await asyncio.gather(*(graph.ainvoke(a, config) for a in answers), return_exceptions=True))

        outcomes = scene.run(gathered())
        return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(graph.invoke, answer, config) for answer in answers]
        return [exc for run in running if (exc := run.exception()) is not None]


def test_of_approve_against_reject_at_once_one_counts_and_happens(scene: WayScene) -> None:
    graph = scene.agent(delay=0.02)
    shown = scene.start(graph, [pay_call(1)])[0]
    words = [{"type": "approve"}, {"type": "reject", "message": "no"}]
    raised = both(scene, graph, [Command(resume={shown.interrupt_id: word}) for word in words])
    assert all(isinstance(exc, HitlError) for exc in raised), raised
    assert len(raised) <= 1
    [request] = scene.ledger.history("t")
    assert request.decision is not None
    assert scene.ran() == (["pay 1 bob"] if request.decision.type == "approve" else [])
    with pytest.raises(AlreadyDecidedError):
        scene.inbox.decide(shown.id, approve(), reviewer=ALICE)


@pytest.mark.parametrize("place", TWO)
def test_two_approvals_at_once_run_it_once(scene: WayScene) -> None:
    graph = scene.agent(delay=0.02)
    shown = scene.start(graph, [pay_call(1)])[0]
    raised = both(scene, graph, [Command(resume={shown.interrupt_id: {"type": "approve"}}) for _ in range(2)])
    assert all(isinstance(exc, HitlError) for exc in raised), raised
    assert scene.ran() == ["pay 1 bob"]
