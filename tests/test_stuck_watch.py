"""One score with hysteresis; an answer restores patience; all of it follows from messages and a small memory."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from hitl_graph.errors import HitlError, WatchError
from hitl_graph.stuck import (
    Alarm,
    Answered,
    Budget,
    DelegationStall,
    Detector,
    DialogueStall,
    Evidence,
    LowConfidence,
    MalformedOutput,
    Monologue,
    NoNewInformation,
    Oscillation,
    RepeatedAction,
    RepeatedFailure,
    Watch,
    default_detectors,
    detect,
)
from tests.stuck_histories import first_alarm, run, step, user

LOOP = [message for _ in range(40) for message in step("permission denied", command="cat /etc/shadow")]


# --- patience ----------------------------------------------------------------------------------------------------


def test_patience_is_how_much_it_takes() -> None:
    guesses = [step(f"Error: no such table: t{n}", "sql", query=f"select {n} from t{n}") for n in range(9)]
    fired = {
        word: alarm.index
        for word in ("low", "normal", "high", 2.0)
        if (alarm := first_alarm(run(*guesses), Watch(word)))
    }
    assert fired == {"low": 6, "normal": 8, "high": 12, 2.0: 16}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Watch("endless"), "'low', 'normal', 'high' or a number above 0, not 'endless'"),  # type: ignore[arg-type]
        (lambda: Watch(0), "above 0, not 0"),
        (lambda: Watch(True), "not True"),
        (lambda: Watch(detectors=[Budget]), "takes detectors, such as Budget(steps=50)"),  # type: ignore[list-item]
        (lambda: Watch(detectors=["budget"]), "takes detectors"),  # type: ignore[list-item]
        (lambda: Watch(memory=[{"place": 3}]), "what watch.memory gave"),
        (lambda: RepeatedAction(times=1), "RepeatedAction(times=...) takes a whole number from 2 on, not 1"),
        (lambda: RepeatedAction(times=5, within=3), "within=...) takes a whole number from 4 on"),
        (lambda: RepeatedFailure(times=2.5), "whole number"),  # type: ignore[arg-type]
        (lambda: Oscillation(longest=1), "longest"),
        (lambda: NoNewInformation(steps=0), "steps"),
        (lambda: DelegationStall(times=0), "times"),
        (lambda: DialogueStall(times=1), "times"),
        (lambda: Monologue(times=1), "times"),
        (lambda: MalformedOutput(times=0), "times"),
        (lambda: Budget(), "limits nothing"),
        (lambda: Budget(tokens=-1), "Budget(tokens=...) takes a number above 0 or None, not -1"),
        (lambda: LowConfidence(below=2), "above 0, up to 1"),
        (lambda: LowConfidence(field=""), "name of a field"),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Any, says: str) -> None:
    with pytest.raises(WatchError) as refused:
        make()
    assert says in str(refused.value)
    assert isinstance(refused.value, HitlError | ValueError)


def test_detectors_are_values() -> None:
    assert default_detectors() == default_detectors()
    assert all(isinstance(one, Detector) for one in default_detectors())
    assert isinstance(hash(default_detectors()), int)


def test_one_detector_is_a_pure_function() -> None:
    said = detect(RepeatedAction(), run(LOOP[:6]))
    assert said == detect(RepeatedAction(), run(LOOP[:6]))
    assert isinstance(said, Evidence)
    assert said.strength == 1.0
    assert detect(RepeatedAction(), []) is None


# --- hysteresis --------------------------------------------------------------------------------------------------


def test_an_alarm_stands_until_the_run_has_moved_on() -> None:
    watch = Watch()
    messages = run(LOOP[:6])
    raised = watch.see(messages)
    assert raised is not None
    standing = []
    for word in ("apples", "pears", "plums", "figs"):
        for message in step(f"a basket of {word}", "pick", fruit=word):
            messages.append(message)
            standing.append(watch.see(messages))
    assert standing[0] is raised  # the same alarm, not a new one
    assert standing[-1] is None
    assert [one is raised for one in standing] == sorted((one is raised for one in standing), reverse=True)


def test_it_is_raised_again_if_the_loop_comes_back() -> None:
    watch = Watch()
    messages = run(LOOP[:6], *(step(f"a basket of {n}", "pick", fruit=f"fruit{n}") for n in range(14)))
    assert first_alarm(messages[:7], watch)
    assert watch.see(messages) is None
    messages += LOOP[:6]
    again = watch.see(messages)
    assert again is not None
    assert again.index == len(messages) - 1


# --- an answer ---------------------------------------------------------------------------------------------------


def test_what_was_answered_is_not_told_again() -> None:
    watch = Watch()
    messages = run(LOOP[:6])
    alarm = watch.see(messages)
    assert alarm is not None
    watch.answered(alarm)
    assert watch.see(messages) is None
    for message in LOOP[6:20]:
        messages.append(message)
        assert watch.see(messages) is None


def test_a_loop_that_only_goes_on_is_told_again_when_it_has_tripled() -> None:
    watch, messages = Watch(), run()
    told = []
    for message in LOOP:
        messages.append(message)
        if alarm := watch.see(messages):
            told.append(alarm.evidence[0].count)
            watch.answered(alarm)
    assert told == [3, 9, 27]


def test_a_circle_that_was_answered_is_not_told_again_as_its_parts() -> None:
    circle = [*step("port = 80", "read", file="web.conf"), *step("nginx is running", "restart", service="nginx")]
    watch = Watch()
    messages = run(circle * 2)
    alarm = watch.see(messages)
    assert alarm is not None
    assert alarm.kind == "oscillation"
    watch.answered(alarm)
    for message in circle * 5:
        messages.append(message)
        assert watch.see(messages) is None


def test_new_evidence_is_told() -> None:
    watch = Watch()
    messages = run(LOOP[:6])
    alarm = watch.see(messages)
    assert alarm is not None
    watch.answered(alarm)
    for _ in range(3):
        messages += step("connection refused", command="ping server")
    other = watch.see(messages)
    assert other is not None
    assert other.evidence[0].tried == ('bash({"command": "ping server"})',)
    assert other.since > alarm.index


def test_an_answer_restores_patience() -> None:
    watch = Watch()
    messages = run(LOOP[:6])
    alarm = watch.see(messages)
    assert alarm is not None
    watch.answered(alarm)
    guesses = [step(f"Error: no such table: t{n}", "sql", query=f"select {n} from t{n}") for n in range(4)]
    for guess in guesses[:3]:
        messages += guess
        assert watch.see(messages) is None  # three failures before the answer do not count with these three
    messages += guesses[3]
    assert watch.see(messages) is not None


def test_a_result_that_comes_after_the_answer_belongs_to_before_it() -> None:
    watch = Watch()
    messages = run(LOOP[:6], LOOP[6:7])  # the fourth call waits for its result
    alarm = watch.see(messages)
    assert alarm is not None
    watch.answered(alarm)
    messages += [LOOP[7], *step("x is 1", "read", name="x")]
    assert watch.see(messages) is None


def test_the_memory_is_small_and_plain_json() -> None:
    watch = Watch()
    messages = run(LOOP[:6])
    alarm = watch.see(messages)
    assert alarm is not None
    answer = watch.answered(alarm)
    assert isinstance(answer, Answered)
    assert watch.memory == (answer,)
    text = json.dumps([one.model_dump() for one in watch.memory])
    assert len(text) < 500
    elsewhere = Watch(memory=json.loads(text))
    assert elsewhere.see(messages) is None
    assert elsewhere.see(messages + LOOP[6:12]) is None
    assert Watch().see(messages) is not None  # without the memory it would be told


def test_alarms_are_plain_json() -> None:
    alarm = Watch().see(run(LOOP[:6]))
    assert alarm is not None
    assert Alarm.model_validate_json(alarm.model_dump_json()) == alarm


# --- trimmed, edited, loaded anew ---------------------------------------------------------------------------------


def named(messages: list[BaseMessage]) -> list[BaseMessage]:
    return [message.model_copy(update={"id": f"m{number}"}) for number, message in enumerate(messages)]


def test_a_history_that_was_loaded_anew_is_the_same() -> None:
    watch = Watch()
    messages = run(LOOP[:6])
    raised = watch.see(messages[:7])
    assert watch.see([message.model_copy(deep=True) for message in messages]) is raised


def test_an_edited_history_is_read_anew() -> None:
    watch = Watch()
    messages = run(LOOP[:6])
    assert watch.see(messages) is not None
    messages[4] = ToolMessage("root:x:0:0", tool_call_id=LOOP[2].tool_calls[0]["id"])  # type: ignore[attr-defined]
    assert watch.see(messages) is None


def test_an_answer_is_found_again_in_a_trimmed_history() -> None:
    watch = Watch()
    messages = named(run("Let me see.", user("Go on."), LOOP[:6]))
    alarm = watch.see(messages)
    assert alarm is not None
    watch.answered(alarm)
    rest = messages[3:]
    assert watch.see(rest) is None
    assert Watch(memory=watch.memory).see(rest) is None
    assert Watch(memory=watch.memory).see([*rest, *named(LOOP[6:10])]) is None


def test_an_answer_to_what_was_trimmed_away_still_counts() -> None:
    watch = Watch()
    messages = named(run(LOOP[:6]))
    alarm = watch.see(messages)
    assert alarm is not None
    watch.answered(alarm)
    assert Watch(memory=watch.memory).see(run(LOOP[6:12])) is None


# --- properties --------------------------------------------------------------------------------------------------

RESULTS = ["", "[]", "ok", "Error: no such file", "Error: no such table: x", "42 rows", "the answer is red"]
TEXTS = [
    "I am sorry, but I cannot refund the ticket.",
    "Unfortunately a refund of the ticket is not possible.",
    "I will list the files, read them and fix the port.",
    "First list the files, then read them, then fix the port.",
    "Done.",
    "",
    "```bash\nls -l\n```",
]
REQUEST = "Please find out how many people live in the town and tell me the number, {}."


@st.composite
def histories(draw: st.DrawFn) -> list[BaseMessage]:
    messages: list[BaseMessage] = []
    for number in range(draw(st.integers(0, 25))):
        match draw(st.sampled_from(["call", "call", "call", "two", "open", "ask", "say", "hear", "observe"])):
            case "call":
                name = draw(st.sampled_from(["read", "run"]))
                messages += step(draw(st.sampled_from(RESULTS)), name, of=draw(st.sampled_from("ab")))
            case "two":
                calls = [{"name": "read", "args": {"of": part}, "id": f"{number}-{part}"} for part in "ab"]
                messages.append(AIMessage("", tool_calls=calls))
                messages += [ToolMessage("ok", tool_call_id=f"{number}-{part}") for part in draw(st.permutations("ab"))]
            case "open":
                messages.append(step("", "read", of="c")[0])
            case "ask":
                messages += step("I looked.", "helper", request=REQUEST.format(draw(st.sampled_from(["now", "again"]))))
            case "say":
                messages.append(AIMessage(draw(st.sampled_from(TEXTS))))
            case "hear":
                messages.append(HumanMessage(draw(st.sampled_from(["yes", "no", "Please try again."]))))
            case _:
                messages.append(ToolMessage("late", tool_call_id="unknown"))
    return messages


EAGER = (*default_detectors(), Budget(steps=9), LowConfidence())


@given(histories(), st.lists(st.booleans(), min_size=100, max_size=100), st.sampled_from(["low", "normal"]))
def test_step_by_step_is_the_same_as_from_scratch(messages: list[BaseMessage], answer: list[bool], word: Any) -> None:
    watch = Watch(word, detectors=EAGER)
    for end in range(len(messages) + 1):
        seen = messages[:end]
        alarm = watch.see(seen)
        assert Watch(word, detectors=EAGER, memory=watch.memory).see(seen) == alarm
        if alarm and answer[end % len(answer)]:
            watch.answered(alarm)
            assert watch.see(seen) is None
            memory = json.loads(json.dumps([one.model_dump() for one in watch.memory]))
            assert Watch(word, detectors=EAGER, memory=memory).see(seen) is None


@given(histories(), histories())
def test_an_alarm_does_not_depend_on_what_comes_later(messages: list[BaseMessage], later: list[BaseMessage]) -> None:
    alone, followed = Watch("low"), Watch("low")
    told = [alone.see(messages[:end]) for end in range(1, len(messages) + 1)]
    longer = messages + later
    assert told == [followed.see(longer[:end]) for end in range(1, len(longer) + 1)][: len(messages)]


@given(histories())
def test_evidence_points_at_messages_that_were_there(messages: list[BaseMessage]) -> None:
    watch = Watch("low", detectors=EAGER)
    for end in range(1, len(messages) + 1):
        if alarm := watch.see(messages[:end]):
            assert alarm.index < end
            for one in alarm.evidence:
                assert one.indices == tuple(sorted(one.indices))
                assert all(0 <= index <= alarm.index for index in one.indices)
                assert one.sentence
                assert one.suggestions
            assert Alarm.model_validate_json(alarm.model_dump_json()) == alarm
