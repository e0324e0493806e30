"""deny > ask > allow, whatever the order; a predicate that fails never allows."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitl_graph.errors import HitlError, PolicyError
from hitl_graph.policy import Call, Outcome, Policy, Rule, Verdict

STRENGTH: dict[str, int] = {"allow": 0, "ask": 1, "deny": 2}


def fails(call: Call) -> bool:
    raise RuntimeError("down")


async def later_true(call: Call) -> bool:
    await asyncio.sleep(0)
    return True


async def later_false(call: Call) -> bool:
    return False


async def fails_later(call: Call) -> bool:
    raise RuntimeError("down")


# What each predicate makes of a rule that says `outcome`.
PREDICATES: list[tuple[Callable[[Call], Any] | None, Callable[[Outcome], Outcome | None]]] = [
    (None, lambda outcome: outcome),
    (lambda call: True, lambda outcome: outcome),
    (lambda call: False, lambda outcome: None),
    (lambda call: None, lambda outcome: "ask"),
    (lambda call: 1, lambda outcome: "ask"),
    (lambda call: "yes", lambda outcome: "ask"),
    (fails, lambda outcome: "ask"),
    (later_true, lambda outcome: outcome),
    (later_false, lambda outcome: None),
    (fails_later, lambda outcome: "ask"),
]
CASES = st.lists(
    st.tuples(
        st.sampled_from(["pay", "p*", "*", "search", "Pay"]),
        st.sampled_from(["allow", "ask", "deny"]),
        st.integers(0, len(PREDICATES) - 1),
    ),
    max_size=6,
)


def expected(cases: list[tuple[str, Any, int]]) -> str:
    said = [PREDICATES[which][1](outcome) for glob, outcome, which in cases if fnmatchcase("pay", glob)]
    return max((outcome for outcome in said if outcome), key=STRENGTH.__getitem__, default="ask")


@given(CASES, st.randoms(use_true_random=False))
def test_the_strictest_matching_rule_decides_in_any_order_and_colour(cases: list[Any], seed: Any) -> None:
    call = Call("pay", {"eur": 1})
    for _ in range(3):
        policy = Policy([Rule(glob, outcome, when=PREDICATES[which][0]) for glob, outcome, which in cases])
        assert policy.judge(call).outcome == asyncio.run(policy.ajudge(call)).outcome == expected(cases)
        seed.shuffle(cases)


@given(CASES)
def test_one_failing_predicate_is_enough_to_never_allow(cases: list[Any]) -> None:
    rules = [Rule(glob, outcome, when=PREDICATES[which][0]) for glob, outcome, which in cases]
    assert Policy([*rules, Rule("pay", "allow", when=fails)]).judge(Call("pay", {})).outcome != "allow"


def test_an_async_predicate_can_be_judged_from_inside_a_running_loop() -> None:
    async def inside() -> Verdict:
        return Policy([Rule("pay", "deny", when=later_true)]).judge(Call("pay", {}))

    assert asyncio.run(inside()).outcome == "deny"


def test_the_first_of_equally_strict_rules_gives_the_reason() -> None:
    rules = [
        Rule("pay", "allow", reason="small"),
        Rule("pay", "ask", reason="first"),
        Rule("*", "ask", reason="second"),
    ]
    assert Policy(rules).judge(Call("pay", {})).reason == "first"


def test_every_verdict_has_a_reason() -> None:
    call = Call("pay", {})
    assert Policy([Rule("p*", "deny")]).judge(call).reason == "rule 'p*' says deny"
    assert Policy().judge(call).reason == "no rule matches"
    assert "failed: RuntimeError('down')" in Policy([Rule("pay", "allow", when=fails)]).judge(call).reason
    assert "gave 'maybe', no bool" in Policy([Rule("pay", "allow", when=lambda c: "maybe")]).judge(call).reason  # type: ignore[arg-type,return-value]


def test_a_predicate_cannot_change_the_arguments() -> None:
    def meddle(call: Call) -> bool:
        args: Any = call.args
        args["to"]["name"] = "eve"
        return True

    args = {"to": {"name": "bob"}}
    Policy([Rule("pay", "ask", when=meddle)]).judge(Call("pay", args))
    assert args == {"to": {"name": "bob"}}


def test_a_predicate_sees_state_metadata_and_id() -> None:
    seen: list[Call] = []
    call = Call("pay", {"eur": 1}, "c1", {"vip": True}, {"owner": "x"})

    def look(given: Call) -> bool:
        seen.append(given)
        return True

    Policy([Rule("pay", "ask", when=look)]).judge(call)
    assert seen == [call]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("", "ask"), "name of a tool"),
        ((1, "ask"), "name of a tool"),
        (("pay", "perhaps"), "'allow', 'ask' or 'deny'"),
        (("pay", "ALLOW"), "'allow', 'ask' or 'deny'"),
        (("pay", None), "'allow', 'ask' or 'deny'"),
        (("pay", "ask", True), "when= takes a function"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong: tuple[Any, ...], says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        Rule(*wrong)
    assert isinstance(caught.value, HitlError | ValueError)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"allowed": "approve"}, "takes a list of words"),
        ({"allowed": ("yes",)}, "knows approve, edit, reject, respond, not 'yes'"),
        ({"allowed": ()}, "nobody could answer"),
        ({"editable": "to"}, "takes a list of words"),
        ({"reviewers": []}, "reviewers= is empty, so that nobody could decide"),
        ({"reviewers": "alice"}, "reviewers= takes a list of words"),
        ({"reviewers": ["role:"]}, "there is no name after 'role:'"),
        ({"reviewers": ["role:a or"]}, "names nobody"),
        ({"quorum": 0}, "quorum: Input should be greater than or equal to 1"),
        ({"distinct_roles": True, "quorum": 2, "reviewers": ["role:a"]}, "needs as many reviewers="),
        ({"stages": [["role:a"]], "quorum": 2}, "stages= takes the place of"),
        ({"stages": ["role:a"]}, "each of stages= is"),
        ({"stages": []}, "at least 1 item"),
        ({"exclude": ["boss"]}, "exclude= knows requester and author"),
        ({"rejects": 0}, "rejects: Input should be greater"),
        ({"deadline": timedelta(0)}, "no duration"),
        ({"deadline": 5}, "no duration"),
        ({"deadline": timedelta(hours=1), "on_deadline": "yes"}, "then= is"),
        ({"deadline": timedelta(hours=1), "on_deadline": "escalate"}, "does not say to whom"),
        ({"on_deadline": "reject"}, "needs a duration"),
        ({"facts": ["balance"]}, "facts= takes a dict"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        Rule("pay", "ask", **options)


def test_a_policy_takes_only_rules() -> None:
    with pytest.raises(PolicyError, match=r"takes Rule\(\.\.\.\)"):
        Policy([{"pay": "allow"}])  # type: ignore[list-item]


@pytest.mark.parametrize("glob", ["pya", "Pay", "send_*", "pay "])
def test_a_rule_that_names_no_tool_is_refused_with_a_hint(glob: str) -> None:
    with pytest.raises(PolicyError, match=r"matches no tool; (did you mean 'pay'|the tools are pay, search)"):
        Policy([Rule(glob, "allow")]).check(["pay", "search"])


def test_a_catch_all_and_globs_that_match_are_fine() -> None:
    Policy([Rule("*", "ask"), Rule("p*", "deny"), Rule("search", "allow")]).check(["pay", "search"])


@given(st.sampled_from(["allow", "ask", "deny"]), st.sampled_from(["allow", "ask", "deny"]))
def test_a_verdict_only_becomes_stricter(one: Any, other: Any) -> None:
    joined = Verdict(one, "first").stricter(Verdict(other, "second"))
    assert STRENGTH[joined.outcome] == max(STRENGTH[one], STRENGTH[other])
    assert joined.reason == ("second" if STRENGTH[other] > STRENGTH[one] else "first")
