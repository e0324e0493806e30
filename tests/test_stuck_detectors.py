"""What is wrong at once: errors, budgets, output that cannot be used, a model that is not sure."""

import math
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from hitl_graph.stuck import Budget, LowConfidence, MalformedOutput, Spent, Watch, default_detectors, detect
from hitl_graph.stuck.confidence import agreement, confidence
from tests.stuck_histories import first_alarm, run, step


def broken(text: str = "", **more: Any) -> AIMessage:
    call = {"name": "send", "args": '{"to": "bob', "id": "x", "error": None, "type": "invalid_tool_call"}
    return AIMessage(text, invalid_tool_calls=[call], **more)


# --- output ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        AIMessage(""),
        AIMessage("  \n"),
        AIMessage([]),
        AIMessage([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": ""}]),
    ],
)
def test_an_empty_answer_calls_somebody(message: AIMessage) -> None:
    alarm = Watch().see(run(message))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("malformed_output", 1)
    assert alarm.sentence == "The model answered with nothing at all."


def test_a_call_that_is_no_json_calls_somebody() -> None:
    alarm = Watch().see(run(broken("I send it.")))
    assert alarm is not None
    assert alarm.kind == "malformed_output"
    assert alarm.evidence[0].tried == ('{"to": "bob',)


def test_a_broken_call_beside_a_good_one_may_happen_once() -> None:
    beside = broken(tool_calls=[{"name": "read", "args": {}, "id": "y"}])
    assert Watch().see(run(beside)) is None
    alarm = Watch().see(run(beside, beside))
    assert alarm is not None
    assert "2 times in a row" in alarm.sentence


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("Done."),
        AIMessage("", additional_kwargs={"refusal": "I won't."}),
        AIMessage([{"type": "image", "url": "https://example.com/a.png"}]),
        step("ok")[0],
    ],
)
def test_other_messages_are_output(message: AIMessage) -> None:
    assert Watch().see(run(message)) is None


def test_experts_may_wait_longer() -> None:
    watch = Watch(detectors=[MalformedOutput(times=3)])
    alarm = first_alarm(run(AIMessage(""), AIMessage(""), AIMessage("")), watch)
    assert alarm is not None
    assert alarm.evidence[0].count == 3


# --- errors ------------------------------------------------------------------------------------------------------


def test_an_error_of_a_node_calls_somebody_now() -> None:
    watch, messages = Watch("high"), run("Let me see.")
    alarm = watch.see(messages, error=TimeoutError("the bank does not answer"))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("error", 1)
    assert alarm.sentence == "The run failed with TimeoutError: the bank does not answer"
    assert watch.see(messages) is None  # it was of that moment
    watch.answered(alarm)
    assert watch.see([*messages, AIMessage("Again.")], error=TimeoutError("the bank does not answer")) is not None


def test_an_error_before_any_message() -> None:
    alarm = Watch().see([], error=ValueError())
    assert alarm is not None
    assert alarm.index == -1
    assert alarm.since == -1
    assert "no message" in alarm.sentence


# --- budgets -----------------------------------------------------------------------------------------------------


def talk(tokens: int) -> AIMessage:
    return AIMessage("Hm.", usage_metadata={"input_tokens": tokens - 1, "output_tokens": 1, "total_tokens": tokens})


@pytest.mark.parametrize("patience", ["low", "normal", "high"])
def test_a_budget_of_steps_is_what_it_says_whatever_the_patience(patience: Any) -> None:
    messages = run(*(step(f"page {number}", "open", page=f"p{number}") for number in range(12)))
    watch = Watch(patience, detectors=[*default_detectors(), Budget(steps=5)])
    alarm = first_alarm(messages, watch)
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("budget", 9)
    assert alarm.sentence == "The run has spent 5 steps; its budget is 5."
    watch.answered(alarm)
    told = [alarm.index for end in range(11, len(messages) + 1) if (alarm := watch.see(messages[:end]))]
    assert told[0] == 19  # five more


def test_a_budget_of_tokens() -> None:
    assert detect(Budget(tokens=100), run(talk(60), "No usage here.")) is None
    said = detect(Budget(tokens=100), run(talk(60), talk(50)))
    assert said is not None
    assert "110 tokens" in said.sentence


def test_cost_and_time_are_what_is_passed() -> None:
    watch, messages = Watch(detectors=[Budget(cost=2, wall_time=60)]), run("Hm.")
    assert watch.see(messages, now=Spent(cost=1.5, wall_time=59)) is None
    dear = watch.see(messages, now=Spent(cost=2.5))
    assert dear is not None
    assert dear.sentence == "The run has spent 2.5; its budget is 2."
    watch.answered(dear)
    assert watch.see(messages, now=Spent(cost=3.9)) is None
    assert watch.see(messages, now=Spent(cost=4.1)) is not None
    slow = watch.see(messages, now=Spent(wall_time=61))
    assert slow is not None
    assert "61 seconds" in slow.sentence


# --- confidence --------------------------------------------------------------------------------------------------


def sure(value: Any, **more: Any) -> AIMessage:
    return AIMessage("It is 12.", response_metadata={"confidence": value}, **more)


def test_nobody_looks_at_confidence_unless_told_to() -> None:
    assert Watch().see(run(sure(0.01))) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (sure(0.2), 0.2),
        (sure(20), 0.2),
        (sure("low"), None),
        (sure(True), None),
        (sure(-3), None),
        (AIMessage("It is 12.", additional_kwargs={"confidence": 0.9}), 0.9),
        (AIMessage('{"answer": 12, "confidence": 0.3}'), 0.3),
        (AIMessage('{"answer": 12'), None),
        (AIMessage('["confidence"]'), None),
        (
            AIMessage("It is", response_metadata={"logprobs": {"content": [{"logprob": -1.0}, {"logprob": -2.0}]}}),
            math.exp(-1.5),
        ),
        (AIMessage("It", response_metadata={"logprobs": {"content": []}}), None),
        (AIMessage("It", response_metadata={"logprobs": "none"}), None),
        (AIMessage("It"), None),
    ],
)
def test_how_sure_a_message_is(message: AIMessage, expected: float | None) -> None:
    assert confidence(message) == (pytest.approx(expected) if expected is not None else None)


def test_low_confidence_calls_somebody() -> None:
    watch = Watch(detectors=[LowConfidence(below=0.4)])
    assert watch.see(run(sure(0.4))) is None
    alarm = watch.see(run(sure(0.39)))
    assert alarm is not None
    assert alarm.kind == "low_confidence"
    assert "39%" in alarm.sentence


def test_samples_that_disagree() -> None:
    assert agreement(["Paris", "paris ", "It is Rome"]) == pytest.approx(2 / 3)
    watch, messages = Watch(detectors=[LowConfidence(below=0.6)]), run("It is Paris.")
    assert watch.see(messages, samples=["Paris", "Paris", "Rome"]) is None
    assert watch.see(messages, samples=["Paris"]) is None
    alarm = watch.see(messages, samples=["Paris", "Rome", "Oslo"])
    assert alarm is not None
    assert alarm.evidence[0].tried == ("Paris", "Rome", "Oslo")
