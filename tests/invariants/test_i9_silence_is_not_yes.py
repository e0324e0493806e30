"""I9: silence, `None`, an unknown word, a failing predicate: never "yes"."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.types import Command

from hitl_graph.errors import InvalidDecisionError, PolicyError
from hitl_graph.policy import Call, Deadline, Policy, Rule
from tests.invariants.agents import pay_call, search_call
from tests.invariants.scenes import Scene


def test_without_an_answer_nothing_runs_however_often_the_thread_is_resumed(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1)])
    for _ in range(3):
        scene.go(graph, None)
        assert scene.work(graph) == []
    assert scene.ran() == []
    assert scene.states() == ["pending"]


SILENCE = """
    null, true, false, 0, 1, "", "yes", "approve", "y", "ok", [], [null], ["approve"], {"approved": true},
    {"decision": "approve"}, {"type": null}, {"type": "APPROVE"}, {"type": "approved"}, {"type": "accept"},
    {"type": ["approve"]}, {"action": "approve"}, {"decisions": null}, {"decisions": [null]},
    {"decisions": ["approve"]}, [{"type": "approve"}, {"type": "approve"}]
"""


@pytest.mark.parametrize("silence", json.loads(f"[{SILENCE}]"), ids=json.dumps)
def test_what_is_not_a_decision_is_not_a_yes(sync_scene: Scene, silence: Any) -> None:
    graph = sync_scene.agent()
    request = sync_scene.start(graph, [pay_call(1)])[0]
    with pytest.raises(InvalidDecisionError):
        sync_scene.go(graph, Command(resume={request.interrupt_id: silence}))
    assert sync_scene.ran() == []
    assert sync_scene.states() == ["pending"]


def test_no_answer_at_all_is_an_error_of_langgraph_and_no_yes(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1)])
    with pytest.raises(UnboundLocalError):
        scene.go(graph, Command(resume=None))
    assert scene.ran() == []
    assert scene.states() == ["pending"]


def fails(call: Call) -> bool:
    raise KeyError("no such customer")


async def fails_later(call: Call) -> bool:
    raise KeyError("no such customer")


@pytest.mark.parametrize("predicate", [fails, fails_later])
@pytest.mark.parametrize("outcome", ["allow", "ask", "deny"])
def test_a_failing_predicate_asks_a_person_and_says_why(scene: Scene, predicate: Any, outcome: Any) -> None:
    graph = scene.agent(policy=Policy([Rule("pay", outcome, when=predicate)]))
    request = scene.start(graph, [pay_call(1)])[0]
    assert scene.ran() == []
    assert "failed: KeyError('no such customer')" in request.reason


@pytest.mark.parametrize("answer", [None, 1, "yes", object()])
def test_a_predicate_that_says_neither_yes_nor_no_asks_a_person(scene: Scene, answer: Any) -> None:
    rule = Rule("pay", "allow", when=lambda call: answer)
    graph = scene.agent(policy=Policy([rule]))
    assert "no bool" in scene.start(graph, [pay_call(1)])[0].reason
    assert scene.ran() == []


def test_without_a_policy_every_call_is_asked_about(scene: Scene) -> None:
    graph = scene.agent(policy=Policy())
    assert len(scene.start(graph, [pay_call(1), search_call("x")])) == 2
    assert scene.ran() == []


def test_a_tool_that_no_rule_names_is_asked_about(scene: Scene) -> None:
    graph = scene.agent(policy=Policy([Rule("search", "allow")]))
    request = scene.start(graph, [pay_call(1)])[0]
    assert request.reason == "no rule matches"
    assert scene.ran() == []


def test_a_misspelt_rule_is_refused_when_the_node_is_built(own_scene: Scene) -> None:
    with pytest.raises(PolicyError, match="did you mean 'search'"):
        own_scene.agent(policy=Policy([Rule("serach", "allow")]))


RULES = st.builds(
    lambda people, deadline: Rule("pay", "ask", reviewers=people, deadline=deadline),
    st.sampled_from([None, ["role:finance"], ["role:lead"]]),
    st.none()
    | st.builds(
        lambda hours, then: Deadline(timedelta(hours=hours), then, to=["role:boss"] if then == "escalate" else ()),
        st.integers(1, 9),
        st.sampled_from(["reject", "escalate", "approve", "approve"]),
    ),
)


@given(st.lists(RULES, max_size=4))
def test_the_end_of_waiting_approves_only_where_rules_say_so_in_as_many_words(rules: list[Rule]) -> None:
    deadline = Policy(rules).judge(Call("pay", {})).deadline
    ends = [turn.then for turn in deadline.schedule(datetime(2030, 1, 1, tzinfo=UTC))] if deadline else []
    said = [rule.deadline.then if isinstance(rule.deadline, Deadline) else None for rule in rules]
    assert bool(ends) == any(said)
    if "approve" in ends:
        assert ends == ["approve"]
        assert {*said} <= {"approve", None}
        assert all(then for rule, then in zip(rules, said, strict=True) if rule.reviewers)
