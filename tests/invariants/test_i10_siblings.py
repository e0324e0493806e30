"""I10: the calls of one message are independent: one's fate neither discards nor re-runs the others."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool
from langgraph.types import Command, interrupt

from hitl_graph.errors import InvalidDecisionError
from hitl_graph.model import Decision, Request, approve, edit, reject, respond
from hitl_graph.policy import Policy, Rule
from tests.invariants.agents import config_of, pay_call, search_call, tool_messages, write_effect
from tests.invariants.scenes import APPROVE, Scene


def by_amount(requests: Sequence[Request]) -> dict[int, Request]:
    return {int(str(r.action.args["eur"])): r for r in requests if r.action}


def test_each_call_has_its_own_question_its_own_answer_and_runs_once(scene: Scene) -> None:
    graph = scene.agent()
    asked = by_amount(scene.start(graph, [search_call("x"), *(pay_call(eur) for eur in (1, 2, 3, 4))]))
    assert scene.ran() == ["search x"]
    answers: dict[int, Decision] = {
        1: approve(), 2: reject("no"), 3: edit({"eur": 30, "to": "eve"}), 4: respond("later")
    }  # fmt: skip
    for eur, answer in answers.items():
        scene.decide(asked[eur], answer)
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 30 eve", "search x"]
    told = tool_messages(graph, "t")
    assert told[0] == "found x"
    assert told[1] == "paid 1 to bob"
    assert "rejected" in told[2]
    assert told[3].startswith("paid 30 to eve")
    assert told[4] == "later"
    assert scene.states() == ["delivered"] * 4


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_answers_in_any_order_one_at_a_time_reach_the_call_they_were_given_to(
    sync_scene: Scene, order: tuple[int, ...]
) -> None:
    """A plain ToolNode matches answers by arrival, runs approved tools again, and can pay 3 for the approval of 1."""
    scene = sync_scene
    graph = scene.agent()
    asked = by_amount(scene.start(graph, [pay_call(1), pay_call(2), pay_call(3)]))
    expected: list[str] = []
    for eur in order:
        if eur == 2:
            scene.go(graph, Command(resume={asked[eur].interrupt_id: {"type": "reject", "message": "no"}}))
        else:
            scene.go(graph, Command(resume={asked[eur].interrupt_id: APPROVE}))
            expected.append(f"pay {eur} bob")
        assert scene.ran() == expected
    assert ["rejected" in message for message in tool_messages(graph, "t")] == [False, True, False]


def test_a_partial_answer_leaves_the_others_asked_as_they_were(scene: Scene) -> None:
    graph = scene.agent()
    asked = by_amount(scene.start(graph, [pay_call(1), pay_call(2), search_call("x")]))
    scene.decide(asked[2], approve())
    assert [result.status for result in scene.work(graph)] == ["paused"]
    assert scene.the_one() == asked[1]
    scene.go(graph, None)
    assert sorted(scene.ran()) == ["pay 2 bob", "search x"]


def test_rejecting_one_discards_nothing_that_another_did(scene: Scene) -> None:
    graph = scene.agent()
    asked = by_amount(scene.start(graph, [pay_call(1), pay_call(2)]))
    scene.decide(asked[1], approve())
    scene.work(graph)
    scene.decide(asked[2], reject("no"))
    scene.work(graph)
    assert scene.ran() == ["pay 1 bob"]
    assert tool_messages(graph, "t")[0] == "paid 1 to bob"


def test_one_call_that_fails_does_not_run_the_others_again(scene: Scene) -> None:
    @tool
    def pay(eur: int, to: str) -> str:
        """Send money; fail for 13."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        if eur == 13:
            raise ConnectionError("the line went dead")
        return f"paid {eur}"

    graph = scene.agent(tools=[pay])
    asked = by_amount(scene.start(graph, [pay_call(1), pay_call(13), pay_call(3)]))
    for request in asked.values():
        scene.decide(request, approve())
    [result] = scene.work(graph)
    assert (result.status, type(result.error)) == ("failed", ConnectionError)
    scene.go(graph, None)
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 13 bob", "pay 3 bob"]
    doubt = scene.the_one()
    assert (doubt.kind, doubt.action) == ("question", asked[13].action)
    scene.decide(doubt, respond("it arrived after all"))
    scene.work(graph)
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 13 bob", "pay 3 bob"]
    assert tool_messages(graph, "t") == ["paid 1", "it arrived after all", "paid 3"]


def test_a_failure_among_allowed_calls_does_not_run_the_others_again(scene: Scene) -> None:
    @tool
    def pay(eur: int, to: str) -> str:
        """Send money; fail for 13."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        if eur == 13:
            raise ConnectionError("the line went dead")
        return f"paid {eur}"

    graph = scene.agent(tools=[pay], policy=Policy([Rule("pay", "allow")]))
    with pytest.raises(ConnectionError):
        scene.start(graph, [pay_call(1), pay_call(13), pay_call(3)])
    scene.go(graph, None)
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 13 bob", "pay 3 bob"]
    scene.decide(scene.the_one(), approve())
    [result] = scene.work(graph)
    assert (result.status, type(result.error)) == ("failed", ConnectionError)
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 13 bob", "pay 13 bob", "pay 3 bob"]


def test_a_denied_call_does_not_stop_its_siblings(scene: Scene) -> None:
    policy = Policy([Rule("search", "allow"), Rule("pay", "deny", when=lambda call: call.args["eur"] > 2)])
    graph = scene.agent(policy=policy)
    scene.start(graph, [search_call("x"), pay_call(1), pay_call(3)])
    scene.decide(scene.the_one(), approve())
    scene.work(graph)
    assert sorted(scene.ran()) == ["pay 1 bob", "search x"]
    assert "not permitted" in tool_messages(graph, "t")[2]


def test_a_bad_answer_to_one_does_not_touch_the_good_answer_to_another(scene: Scene) -> None:
    graph = scene.agent()
    asked = by_amount(scene.start(graph, [pay_call(1), pay_call(2)]))
    answers = {asked[1].interrupt_id: APPROVE, asked[2].interrupt_id: "yes"}
    with pytest.raises(InvalidDecisionError, match="this is no answer"):
        scene.go(graph, Command(resume=answers))
    scene.go(graph, None)
    assert scene.ran() == ["pay 1 bob"]
    assert scene.the_one() == asked[2]
    scene.decide(asked[2], approve())
    scene.work(graph)
    assert scene.ran() == ["pay 1 bob", "pay 2 bob"]
    assert graph.get_state(config_of("t")).next == ()


def quiz(scene: Scene) -> BaseTool:
    @tool
    def quiz(topic: str) -> str:
        """Ask two questions, and note each answer as soon as it came."""
        for number in (1, 2):
            write_effect(scene.effects, f"t x {topic}{number}: {interrupt(f'{topic}{number}')}")
        return topic

    return quiz


def quiz_calls(*topics: str) -> list[dict[str, Any]]:
    return [{"name": "quiz", "args": {"topic": topic}, "id": topic} for topic in topics]


@pytest.mark.parametrize("outcome", ["allow", "ask"])
def test_questions_that_tools_ask_themselves_get_each_its_own_answer(own_scene: Scene, outcome: Any) -> None:
    """Under a plain ToolNode the answer to one tool's question is handed to another tool."""
    scene = own_scene
    graph = scene.agent(tools=[quiz(scene)], policy=Policy([Rule("quiz", outcome)]))
    scene.start(graph, quiz_calls("a", "b"))
    for request in [request for request in scene.asked() if request.kind == "approval"]:
        scene.decide(request, approve())
        scene.work(graph)
    for _ in range(4):
        question = scene.asked()[0]
        scene.decide(question, respond(f"to {question.question}"))
        assert [result.error for result in scene.work(graph)] == [None]
    assert set(scene.ran()) == {f"{question}: to {question}" for question in ("a1", "a2", "b1", "b2")}
    assert graph.get_state(config_of("t")).next == ()


def test_a_bare_answer_to_a_tool_s_second_question_does_not_reach_its_first(own_scene: Scene) -> None:
    scene = own_scene
    graph = scene.agent(tools=[quiz(scene)], policy=Policy([Rule("quiz", "allow")]))
    scene.start(graph, quiz_calls("a", "b"))
    by_question = {request.question: request for request in scene.asked()}
    for question in ("b1", "b2", "a1"):
        by_question |= {request.question: request for request in scene.asked()}
        scene.go(graph, Command(resume={by_question[question].interrupt_id: f"to {question}"}))
    assert [request.question for request in scene.asked()] == ["a2"]
    scene.go(graph, Command(resume="to a2"))
    assert set(scene.ran()) == {f"{question}: to {question}" for question in ("a1", "a2", "b1", "b2")}
