"""I3: the policy's verdict is stored with the question; while people think, it can only become stricter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig

from hitl_graph.model import Decision, approve, edit, reject, respond
from hitl_graph.policy import Call, Policy, Rule
from tests.invariants.agents import pay_call, tool_messages
from tests.invariants.scenes import Scene


class Threshold:
    """A limit that somebody changes: payments above it are asked about, above ten times as much denied."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.policy = Policy(
            [
                Rule("pay", "allow"),
                Rule("pay", "ask", when=lambda call: call.args["eur"] > self.limit, reason="above the limit"),
                Rule("pay", "deny", when=lambda call: call.args["eur"] > 10 * self.limit, reason="far above the limit"),
            ]
        )


@pytest.fixture
def threshold() -> Threshold:
    return Threshold(10)


def test_a_rejected_call_does_not_run_because_the_threshold_was_raised(scene: Scene, threshold: Threshold) -> None:
    graph = scene.agent(policy=threshold.policy)
    scene.decide(scene.start(graph, [pay_call(50)])[0], reject("too much"))
    threshold.limit = 1000
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == []
    assert "too much" in tool_messages(graph, "t")[0]


def test_what_was_asked_waits_for_an_answer_though_the_policy_would_allow_it_now(
    scene: Scene, threshold: Threshold
) -> None:
    graph = scene.agent(policy=threshold.policy)
    scene.start(graph, [pay_call(50)])
    threshold.limit = 1000
    scene.go(graph, None)
    assert scene.ran() == []
    assert scene.states() == ["pending"]
    scene.decide(scene.the_one(), respond("paid by cheque"))
    scene.work(graph)
    assert scene.ran() == []


def test_that_holds_in_a_new_process_with_a_laxer_policy(own_scene: Scene) -> None:
    scene = own_scene
    scene.start(scene.agent(), [pay_call(50)])
    lax = scene.agent(policy=Policy([Rule("*", "allow")]))
    scene.go(lax, None)
    assert scene.ran() == []
    assert scene.states() == ["pending"]


def test_and_after_the_thread_was_forked_in_front_of_the_question(scene: Scene, threshold: Threshold) -> None:
    graph = scene.agent(policy=threshold.policy)
    scene.decide(scene.start(graph, [pay_call(50)])[0], reject("no"))
    before = scene.head(graph)
    scene.work(graph)
    threshold.limit = 1000
    scene.go(graph, None, checkpoint_id=before)
    fork: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": before}}
    graph.update_state(fork, {"messages": []})
    scene.go(graph, None)
    assert scene.ran() == []


@pytest.mark.parametrize("answer", [approve(), edit({"eur": 60, "to": "bob"})])
def test_an_approved_call_does_not_run_when_the_policy_denies_it_by_then(
    scene: Scene, threshold: Threshold, answer: Decision
) -> None:
    graph = scene.agent(policy=threshold.policy)
    scene.decide(scene.start(graph, [pay_call(50)])[0], answer)
    threshold.limit = 1
    scene.work(graph)
    assert scene.ran() == []
    assert "far above the limit" in tool_messages(graph, "t")[0]
    assert scene.asked() == []


def test_a_waiting_call_that_the_policy_denies_by_then_waits_no_longer(scene: Scene, threshold: Threshold) -> None:
    graph = scene.agent(policy=threshold.policy)
    scene.start(graph, [pay_call(50)])
    threshold.limit = 1
    scene.go(graph, None)
    assert scene.ran() == []
    assert scene.asked() == []
    assert scene.states() == ["superseded"]


def test_an_edit_is_judged_before_it_runs(scene: Scene, threshold: Threshold) -> None:
    """A reviewer may not do by an edit what the policy never allows."""
    graph = scene.agent(policy=threshold.policy)
    scene.decide(scene.start(graph, [pay_call(50)])[0], edit({"eur": 5000, "to": "bob"}))
    scene.work(graph)
    assert scene.ran() == []
    assert "far above the limit" in tool_messages(graph, "t")[0]


def test_an_edit_below_the_threshold_runs_as_edited(scene: Scene, threshold: Threshold) -> None:
    graph = scene.agent(policy=threshold.policy)
    scene.decide(scene.start(graph, [pay_call(50)])[0], edit({"eur": 5, "to": "bob"}))
    scene.work(graph)
    assert scene.ran() == ["pay 5 bob"]


def test_a_call_that_was_allowed_is_asked_about_when_the_policy_became_stricter(
    scene: Scene, threshold: Threshold
) -> None:
    graph = scene.agent(policy=threshold.policy)
    graph.interrupt_before_nodes = ["tools"]
    scene.start(graph, [pay_call(5)])
    threshold.limit = 1
    graph.interrupt_before_nodes = []
    scene.go(graph, None)
    assert scene.ran() == []
    assert scene.the_one().reason == "above the limit"


def test_the_verdict_is_recorded_with_its_reason(scene: Scene, threshold: Threshold) -> None:
    rules = [Rule("pay", "ask", allowed=("approve", "reject"), editable=("to",), reason="money")]
    graph = scene.agent(policy=Policy(rules))
    request = scene.start(graph, [pay_call(50)])[0]
    scene.go(scene.agent(policy=Policy([Rule("pay", "ask", reason="something else")])), None)
    assert scene.the_one() == request
    assert (request.reason, request.allowed, request.editable) == ("money", ("approve", "reject"), ("to",))


@pytest.mark.parametrize("flips", [lambda n: n % 2 == 0, lambda n: n % 2 == 1, lambda n: n < 2, lambda n: n >= 2])
def test_a_predicate_that_changes_its_mind_each_time_lets_nothing_run_undecided(
    tmp_path: Path, flips: Callable[[int], bool]
) -> None:
    scene, seen = Scene(tmp_path, own=True, mode="sync"), list[int]()

    def moody(call: Call) -> bool:
        seen.append(len(seen))
        return flips(len(seen))

    graph = scene.agent(policy=Policy([Rule("pay", "allow"), Rule("pay", "ask", when=moody)]))
    asked = scene.start(graph, [pay_call(1)])
    if asked:
        scene.decide(asked[0], reject("no"))
        scene.work(graph)
        assert scene.ran() == []
    else:
        assert len(scene.ran()) == 1
    scene.close()


def test_the_policy_sees_the_state_but_cannot_change_the_arguments_that_run(scene: Scene) -> None:
    def meddle(call: Call) -> bool:
        args: Any = call.args
        args["eur"] = 1_000_000
        return True

    graph = scene.agent(policy=Policy([Rule("pay", "ask", when=meddle)]))
    scene.decide(scene.start(graph, [pay_call(5)])[0], approve())
    scene.work(graph)
    assert scene.ran() == ["pay 5 bob"]
