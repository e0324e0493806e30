"""When a conversation ends: as AutoGen's own conditions say, and in every process the same."""

import asyncio
import pickle
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from hitl_graph.errors import ConversationError
from hitl_graph.termination import (
    ExternalTermination,
    FunctionalTermination,
    FunctionCallTermination,
    HandoffTermination,
    MaxMessageTermination,
    SourceMatchTermination,
    Termination,
    TextMentionTermination,
    TextMessageTermination,
    TimeoutTermination,
    TokenUsageTermination,
    Turn,
    is_from_person,
    source,
)

TASK = HumanMessage("Write a poem")


def says(text: str, name: str = "writer", tokens: tuple[int, int] | None = (8, 2)) -> AIMessage:
    usage: Any = tokens and {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)}
    return AIMessage(text, name=name, usage_metadata=usage)


def calls(tool: str, name: str = "writer") -> AIMessage:
    return AIMessage("", name=name, tool_calls=[{"name": tool, "args": {}, "id": f"{name}-{tool}"}])


def came_back(tool: str, text: str = "ok", name: str = "writer") -> ToolMessage:
    return ToolMessage(text, name=tool, tool_call_id=f"{name}-{tool}")


@pytest.mark.parametrize(
    ("condition", "met", "not_met"),
    [
        (TextMentionTermination("APPROVE"), [TASK, says("I APPROVE.")], [TASK, says("I approve.")]),
        (
            TextMentionTermination("APPROVE", sources=["critic"]),
            [TASK, says("APPROVE", "critic")],
            [HumanMessage("Say APPROVE"), says("APPROVE")],
        ),
        (MaxMessageTermination(3), [TASK, says("a"), says("b")], [TASK, says("a"), calls("x"), came_back("x")]),
        (
            MaxMessageTermination(4, include_agent_event=True),
            [TASK, says("a"), calls("x"), came_back("x")],
            [TASK, calls("x"), came_back("x")],
        ),
        (TokenUsageTermination(20), [TASK, says("a"), says("b")], [TASK, says("a")]),
        (TokenUsageTermination(max_prompt_token=16), [TASK, says("a"), says("b")], [TASK, says("a")]),
        (TokenUsageTermination(max_completion_token=4), [TASK, says("a"), says("b")], [TASK, says("a")]),
        (SourceMatchTermination(["critic"]), [TASK, says("a", "critic")], [TASK, says("critic")]),
        (TextMessageTermination(), [TASK, says("a")], [TASK, calls("x"), came_back("x")]),
        (TextMessageTermination("critic"), [TASK, says("a", "critic")], [TASK, says("a"), calls("x", "critic")]),
        (HandoffTermination("user"), [TASK, calls("transfer_to_user")], [TASK, calls("transfer_to_critic")]),
        (HandoffTermination("The Boss"), [TASK, calls("transfer_to_the_boss")], [TASK, says("transfer_to_the_boss")]),
        (HandoffTermination("user", tool="escalate"), [calls("escalate")], [calls("transfer_to_user")]),
        (FunctionCallTermination("approve"), [TASK, calls("approve"), came_back("approve")], [TASK, calls("approve")]),
        (FunctionalTermination(lambda said: len(said) > 2), [TASK, says("a"), says("b")], [TASK, says("a")]),
        (
            TextMentionTermination("done") & SourceMatchTermination(["critic"]),
            [TASK, says("done"), says("a", "critic")],
            [TASK, says("done")],
        ),
        (TextMentionTermination("done") | MaxMessageTermination(9), [TASK, says("done")], [TASK, says("a")]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Termination) else "",
)
def test_what_ends_it(condition: Termination, met: list[BaseMessage], not_met: list[BaseMessage]) -> None:
    found = condition(met)
    assert found is not None
    assert not found.failed
    assert found.reason
    assert condition(not_met) is None
    assert condition(met) == found  # it has counted nothing


def test_time_and_a_stop_from_outside_are_told_by_whoever_knows() -> None:
    limit = TimeoutTermination(60)
    assert limit(Turn.of([TASK], elapsed=timedelta(seconds=59))) is None
    assert limit(Turn.of([TASK], elapsed=timedelta(seconds=60))) is not None
    assert ExternalTermination()([TASK]) is None
    stopped = ExternalTermination()(Turn.of([TASK], stopped="ops stopped it"))
    assert stopped is not None
    assert stopped.reason == "ops stopped it"


def test_a_person_who_says_something_begins_anew() -> None:
    limit = MaxMessageTermination(3)
    history = [TASK, says("a"), says("b"), HumanMessage("more")]
    assert limit(history) is None
    assert limit([*history, says("c"), says("d")]) is not None
    assert TextMentionTermination("done")([says("done"), HumanMessage("no, go on")]) is None


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("Please go on.", additional_kwargs={"hitl": {"auto_reply": True}}),
        HumanMessage("my findings", name="researcher"),
        SystemMessage("be good"),
        says("hello"),
        came_back("x"),
    ],
)
def test_what_only_looks_like_a_person_does_not(message: BaseMessage) -> None:
    assert not is_from_person(message)
    assert MaxMessageTermination(3)([TASK, says("a"), message, says("b"), says("c")]) is not None


def test_who_speaks() -> None:
    assert [source(one) for one in (TASK, says("a"), AIMessage("a"), came_back("x"), SystemMessage("s"))] == [
        "user", "writer", "assistant", "tool", "system",
    ]  # fmt: skip


# --- what cannot be told is an end ------------------------------------------------------------------------------------


def fails(said: Sequence[BaseMessage]) -> bool:
    raise KeyError("content")


CANNOT_BE_TOLD = [
    (FunctionalTermination(fails), "KeyError"),
    (FunctionalTermination(lambda said: None), "not True or False"),  # type: ignore[arg-type,return-value]
    (FunctionalTermination(lambda said: "yes"), "not True or False"),  # type: ignore[arg-type,return-value]
    (FunctionalTermination(lambda said: 1), "not True or False"),  # type: ignore[arg-type,return-value]
    (TimeoutTermination(60), "not known since when"),
]


@pytest.mark.parametrize(("condition", "reason"), CANNOT_BE_TOLD)
def test_a_condition_that_cannot_be_judged_ends_it_and_says_so(condition: Termination, reason: str) -> None:
    never = TextMentionTermination("not said by anybody")
    for one in (condition, condition & never, never & condition, never | condition, (condition | never) & never):
        found = one([TASK, says("a")])
        assert found is not None
        assert found.failed
        assert reason in found.reason


def test_a_model_that_does_not_say_what_it_used_has_no_budget() -> None:
    found = TokenUsageTermination(1_000_000)([TASK, says("a"), says("b", tokens=None)])
    assert found is not None
    assert found.failed


@pytest.mark.parametrize(
    "make",
    [
        lambda: TextMentionTermination(""),
        lambda: TextMentionTermination("x", sources="critic"),
        lambda: MaxMessageTermination(0),
        lambda: TokenUsageTermination(),
        lambda: TimeoutTermination(0),
        lambda: SourceMatchTermination([]),
        lambda: SourceMatchTermination("critic"),
        lambda: HandoffTermination(" "),
        lambda: FunctionalTermination(None),  # type: ignore[arg-type]
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(make: Any) -> None:
    with pytest.raises(ConversationError):
        make()


def test_an_async_function_is_refused_at_once() -> None:
    async def later(said: Sequence[BaseMessage]) -> bool:
        return True

    with pytest.raises(ConversationError, match="async"):
        FunctionalTermination(later)  # type: ignore[arg-type]


def test_and_and_or_of_python_are_refused() -> None:
    """`a and b` would be `b` alone, without a word."""
    one, other = MaxMessageTermination(3), TextMentionTermination("x")
    with pytest.raises(TypeError, match="combine conditions with"):
        one and other  # noqa: B018


def test_conditions_go_to_other_processes() -> None:
    condition = TextMentionTermination("done") | MaxMessageTermination(3) & HandoffTermination("user")
    again = pickle.loads(pickle.dumps(condition))
    assert again([says("done")]) == condition([says("done")])


# --- beside AutoGen's own --------------------------------------------------------------------------------------------

names = st.sampled_from(["writer", "critic"])
spoken = st.one_of(
    st.builds(says, st.sampled_from(["hello", "I am DONE now", "APPROVE"]), names).map(lambda said: [said]),
    st.builds(
        lambda tool, name: [calls(tool, name), came_back(tool, "nothing", name)],
        st.sampled_from(["search", "transfer_to_user"]),
        names,
    ),
)
simple = st.one_of(
    st.builds(TextMentionTermination, st.sampled_from(["DONE", "APPROVE"]), st.sampled_from([None, ["critic"]])),
    st.builds(MaxMessageTermination, st.integers(2, 6), st.booleans()),
    st.builds(TokenUsageTermination, st.integers(15, 45)),
    st.builds(SourceMatchTermination, st.just(["critic"])),
    st.builds(TextMessageTermination, names),
    st.builds(FunctionCallTermination, st.just("search")),
)
combined = st.recursive(
    simple, lambda inner: st.builds(lambda one, other, both: one & other if both else one | other, inner, inner,
                                    st.booleans()), max_leaves=4,
)  # fmt: skip


@given(combined, st.lists(spoken, max_size=8))
def test_it_ends_when_autogen_s_conditions_say_so(condition: Termination, turns: list[list[BaseMessage]]) -> None:
    """AutoGen's count along, message by message; these look at the whole turn.

    They differ in whose words the result of a tool is: for AutoGen its agent's, here the tool's. No result says DONE.
    """
    pytest.importorskip("autogen_agentchat")
    said = [message for turn in turns for message in turn]
    history = [TASK, *[AIMessage(m.content, **_with_usage(m)) if isinstance(m, AIMessage) else m for m in said]]
    theirs = asyncio.run(_autogen_ends(condition, history))
    ours = next((at for at in range(len(history)) if condition(history[: at + 1]) is not None), None)
    assert ours == theirs


def _with_usage(message: AIMessage) -> dict[str, Any]:
    usage = message.usage_metadata or {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    return {"name": message.name, "tool_calls": message.tool_calls, "usage_metadata": usage}


async def _autogen_ends(condition: Termination, history: Sequence[BaseMessage]) -> int | None:
    theirs = _as_autogen(condition)
    for at, message in enumerate(history):
        if await theirs([_message(message)]) is not None:
            return at
    return None


def _as_autogen(condition: Any) -> Any:
    from autogen_agentchat import base, conditions

    if hasattr(condition, "conditions"):
        parts = [_as_autogen(part) for part in condition.conditions]
        kind = base.AndTerminationCondition if condition.enough is all else base.OrTerminationCondition
        return kind(*parts)
    options = [getattr(condition, name) for name in condition.__dataclass_fields__]
    return getattr(conditions, type(condition).__name__)(*options)


def _message(message: BaseMessage) -> Any:
    from autogen_agentchat.messages import TextMessage, ToolCallExecutionEvent, ToolCallRequestEvent
    from autogen_core import FunctionCall
    from autogen_core.models import FunctionExecutionResult, RequestUsage

    if isinstance(message, ToolMessage):
        agent = message.tool_call_id.split("-")[0]
        result = FunctionExecutionResult(content=message.text, name=str(message.name), call_id=message.tool_call_id)
        return ToolCallExecutionEvent(content=[result], source=agent)
    usage = getattr(message, "usage_metadata", None)
    spent = usage and RequestUsage(prompt_tokens=usage["input_tokens"], completion_tokens=usage["output_tokens"])
    if isinstance(message, AIMessage) and message.tool_calls:
        called = [FunctionCall(id=str(call["id"]), name=call["name"], arguments="{}") for call in message.tool_calls]
        return ToolCallRequestEvent(content=called, source=source(message), models_usage=spent)
    return TextMessage(content=message.text, source=source(message), models_usage=spent)
