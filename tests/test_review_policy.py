"""Which drafts people are asked about: checks, samples, confidence."""

import asyncio
import statistics
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from pydantic import BaseModel, field_validator

from hitl_graph.errors import PolicyError
from hitl_graph.model import Finding
from hitl_graph.nodes import Unsure
from hitl_graph.nodes.checking import Judge, findings
from hitl_graph.nodes.verdicts import DRAW, Judged, Sampled, judge
from hitl_graph.policy import Call, Policy, Rule
from hitl_graph.steps import arun, run
from hitl_graph.testing import ScriptedChatModel
from tests.reviews import Colour

ALLOW = Rule("review", "allow")


def a_call(draw: str = "t\0001\0d") -> Call:
    return Call("review", {"draft": "text"}, metadata={DRAW: draw, "findings": (), "revision": 1})


def judged(*rules: Rule, call: Call | None = None, colour: Colour = "sync") -> Judged:
    steps = judge(Policy(rules), call or a_call())
    return asyncio.run(arun(steps)) if colour == "async" else run(steps)


# --- policy ----------------------------------------------------------------------------------------------------------


def test_a_sample_has_its_rate_and_repeats_itself() -> None:
    rule = Rule("review", "ask", when=Sampled(0.3, seed="s"))
    calls = [a_call(f"thread-{number}\0001\0d") for number in range(2000)]
    drawn = [judged(ALLOW, rule, call=call).verdict.outcome == "ask" for call in calls]
    assert abs(statistics.mean(drawn) - 0.3) < 0.04
    assert drawn == [judged(ALLOW, rule, call=call).verdict.outcome == "ask" for call in calls]
    other = Rule("review", "ask", when=Sampled(0.3, seed="another"))
    assert drawn != [judged(ALLOW, other, call=call).verdict.outcome == "ask" for call in calls]
    more = Rule("review", "ask", when=Sampled(0.6, seed="s"))  # the same draw: a larger share has the smaller one in it
    also = [judged(ALLOW, more, call=call).verdict.outcome == "ask" for call in calls]
    assert all(second for first, second in zip(drawn, also, strict=True) if first)


def test_a_drawn_draft_says_how_likely_that_was() -> None:
    rules = [Rule("review", "ask", when=Sampled(1.0, seed="a")), Rule("review", "ask", when=Sampled(0.5, seed="b"))]
    result = judged(ALLOW, *rules)
    assert (result.verdict.outcome, result.route, result.propensity) == ("ask", "audit", 1.0)
    both = [Rule("review", "ask", when=Sampled(0.5, seed=seed), reason="audit") for seed in "ab"]
    calls = [a_call(str(number)) for number in range(400)]
    results = [judged(ALLOW, *both, call=call) for call in calls]
    asked = [result for result in results if result.verdict.outcome == "ask"]
    assert {(result.propensity, result.route, result.verdict.reason) for result in asked} == {(0.75, "audit", "audit")}
    assert abs(len(asked) / 400 - 0.75) < 0.08
    one_seed = [Rule("review", "ask", when=Sampled(rate, seed="a")) for rate in (0.25, 0.5)]
    chosen = [r for r in (judged(ALLOW, *one_seed, call=call) for call in calls) if r.verdict.outcome == "ask"]
    assert {result.propensity for result in chosen} == {0.5}


def test_what_is_asked_anyway_is_no_sample() -> None:
    rule = Rule("review", "ask", when=Sampled(1.0))
    assert judged(Rule("review", "ask"), rule).route == "policy"
    assert judged(rule).verdict.outcome == "ask"  # nothing allows it, so that it does not depend on the draw
    assert judged(Rule("review", "ask", when=Sampled(0.0))).verdict.outcome == "ask"
    assert judged(Rule("review", "deny"), rule).verdict.outcome == "deny"
    assert judged(ALLOW, Rule("review", "ask", when=Sampled(0.0))).verdict.outcome == "allow"


def test_confidence(colour: Colour) -> None:
    async def confidence(call: Call) -> float:
        await asyncio.sleep(0)
        return {"low": 0.2, "high": 0.9}[call.args["draft"]]

    rule = Rule("review", "ask", when=Unsure(confidence, below=0.8), allowed=("approve", "reject"))
    for draft, outcome, route, score in (("low", "ask", "unsure", 0.2), ("high", "allow", "policy", 0.9)):
        call = Call("review", {"draft": draft}, metadata={DRAW: "x"})
        result = judged(ALLOW, rule, call=call, colour=colour)
        assert (result.verdict.outcome, result.route, result.score) == (outcome, route, score)
    low = Call("review", {"draft": "low"}, metadata={DRAW: "x"})
    assert judged(ALLOW, rule, call=low, colour=colour).verdict.reason == "the score is 0.2, below 0.8"
    assert judged(ALLOW, rule, call=low, colour=colour).verdict.allowed == ("approve", "reject")
    asked = judged(Rule("review", "ask"), rule, call=low, colour=colour)
    assert (asked.route, asked.score) == ("policy", 0.2)  # it is on record, too, where people are asked anyway


@pytest.mark.parametrize("value", [None, "0.9", True, float("nan"), RuntimeError("broken")], ids=str)
def test_a_confidence_that_is_not_known_means_ask(value: Any, colour: Colour) -> None:
    def confidence(call: Call) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    result = judged(ALLOW, Rule("review", "ask", when=Unsure(confidence, below=0.5)), colour=colour)
    assert (result.verdict.outcome, result.score) == ("ask", None)


def test_rules_that_make_no_sense_are_refused() -> None:
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(PolicyError, match="the rate is a share"):
            Sampled(rate)
    for outcome in ("allow", "deny"):
        for when in (Sampled(0.5), Unsure(lambda call: 1.0, below=0.5)):
            with pytest.raises(PolicyError, match="goes with 'ask'"):
                Rule("review", outcome, when=when)
    elsewhere = Policy([Rule("pay", "allow"), Rule("pay", "ask", when=Unsure(lambda call: 1.0, below=0.5))])
    assert elsewhere.judge(Call("pay", {})).outcome == "ask"  # without a node, nobody knows the score
    assert Policy([Rule("pay", "allow"), Rule("pay", "ask", when=Sampled(0.0))]).judge(Call("pay", {})).outcome == "ask"


# --- checks ----------------------------------------------------------------------------------------------------------


def found(check: Any, draft: Any = "text", plain: Any = None, colour: Colour = "sync") -> list[Finding]:
    steps = findings([check], draft, draft if plain is None else plain)
    return list(asyncio.run(arun(steps)) if colour == "async" else run(steps))


def test_what_a_check_may_give() -> None:
    note = Finding(text="n", then="note", check="own")
    for given, expected in (
        (None, []),
        (True, []),
        ("", []),
        ([], []),
        ([None, True], []),
        ("too long", [("too long", "ask")]),
        (["a", note], [("a", "ask"), ("n", "note")]),
        (False, [("it does not pass", "ask")]),
        (0, [("the check gave 0, which is no finding", "ask")]),
        ({"a": 1}, [("the check gave {'a': 1}, which is no finding", "ask")]),
    ):
        assert [(finding.text, finding.then) for finding in found(lambda draft, given=given: given)] == expected
    assert found(lambda draft: note)[0].check == "own"


def test_an_async_check_and_one_that_fails(colour: Colour) -> None:
    async def slow(draft: str) -> str:
        await asyncio.sleep(0)
        return f"saw {draft}"

    def broken(draft: str) -> None:
        raise ValueError("no such dictionary")

    assert found(slow, colour=colour) == [Finding(text="saw text", check="slow")]
    [finding] = found(broken, colour=colour)
    assert (finding.then, finding.check) == ("ask", "broken")
    assert "no such dictionary" in finding.text


def test_a_check_cannot_change_the_draft() -> None:
    draft = {"a": [1]}
    found(lambda own: own["a"].append(2))
    assert draft == {"a": [1]}


class Tidy(BaseModel):
    title: str
    count: int = 0

    @field_validator("title")
    @classmethod
    def _strict(cls, title: str) -> str:
        if title == "boom":
            raise RuntimeError("a bug in the model")
        return title


def test_pydantic_models_are_checks() -> None:
    assert found(Tidy, {"title": "x"}) == []
    assert found(Tidy, '{"title": "x"}') == []
    assert found(Tidy, Tidy(title="x"), {"title": "x", "count": 0}) == []
    [missing] = found(Tidy, {"count": "many", "title": "x"})
    assert (missing.field, missing.then, missing.check) == ("count", "revise", "Tidy")
    [no_json] = found(Tidy, "no json")
    assert (no_json.field, no_json.then) == (None, "revise")
    [bug] = found(Tidy, {"title": "boom"})
    assert bug.then == "ask"


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        ("OK", []),
        ("ok.", []),
        ("- a\n- b\n", ["a", "b"]),
        ("", ["the judge gave no answer"]),
        ("OK\nbut", ["OK", "but"]),
    ],
)
def test_a_model_as_judge(answer: str, texts: list[str], colour: Colour) -> None:
    model = ScriptedChatModel([AIMessage(answer)])
    assert [finding.text for finding in found(Judge(model, "Be strict."), {"a": 1}, colour=colour)] == texts
    [[system, human]] = model.calls
    assert "Be strict." in system.text
    assert '{"a":1}' in human.text


def test_a_judge_that_is_out_of_order_means_ask(colour: Colour) -> None:
    [finding] = found(Judge(ScriptedChatModel([ConnectionError("down")]), "x", then="note"), colour=colour)
    assert finding.then == "ask"
