"""A list is stored as what each step adds, and reads back exactly, whatever happened to it in between."""

import math
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from hitl_graph.checkpointers.codec import Codec, array
from hitl_graph.checkpointers.history import Snapshot, compare, fresh, recalled
from tests.databases import open_checkpointer

CODEC = Codec(JsonPlusSerializer(allowed_msgpack_modules=None))

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.0, -0.0, 1.0, math.inf]), st.text(max_size=3)
)
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
extras = st.dictionaries(st.text(max_size=2), data, max_size=2)


def exact(value: Any) -> Any:
    """A form in which equal means the same: 1, 1.0 and True differ, except where models report on themselves."""
    if isinstance(value, BaseMessage):
        fields = {k: v for k, v in value.__dict__.items() if k not in ("response_metadata", "usage_metadata")}
        reports = value.response_metadata, getattr(value, "usage_metadata", None)
        return type(value), exact(fields), reports, exact(value.__pydantic_extra__ or {})
    if isinstance(value, dict):
        return {k: exact(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [exact(v) for v in value]
    if isinstance(value, Document):
        return type(value), exact(value.__dict__)
    return type(value), repr(value)


@st.composite
def messages(draw: st.DrawFn) -> BaseMessage:
    text, kwargs, identity = draw(st.text(max_size=5)), draw(extras), str(draw(st.uuids()))
    match draw(st.integers(0, 4)):
        case 0:
            return HumanMessage(text, additional_kwargs=kwargs, id=identity)
        case 1:
            calls = [{"name": "f", "args": draw(extras), "id": "c"} for _ in range(draw(st.integers(0, 2)))]
            return AIMessage(text, additional_kwargs=kwargs, tool_calls=calls, id=identity)
        case 2:
            artifact = draw(st.one_of(data, st.just((1, 2)), st.builds(Document, page_content=st.text(max_size=3))))
            return ToolMessage(text, tool_call_id="c", artifact=artifact, id=identity)
        case 3:
            return SystemMessage([{"type": "text", "text": text}], response_metadata=kwargs, id=identity)
        case _:
            message = HumanMessage(text, id=identity)
            message.surprise = draw(data)  # type: ignore[attr-defined]  # messages allow extra fields
            return message


def mutate(message: Any, new: Any, way: int) -> None:
    """Change an element deep inside, in place."""
    if isinstance(message, dict):
        message["m"] = new
    elif isinstance(message, list):
        message.append(new)
    elif isinstance(message, BaseMessage):
        match way % 6:
            case 0:
                message.additional_kwargs["m"] = new
            case 1:
                message.content = str(new)
            case 2:
                message.response_metadata = {"m": [new]}
            case 3 if isinstance(message, AIMessage) and message.tool_calls:
                message.tool_calls[0]["args"]["m"] = new
            case 4:
                message.name = str(new)
            case _:
                message.extra_note = new  # type: ignore[attr-defined]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.one_of(messages(), messages(), messages(), data), max_size=3)),
        st.tuples(st.just("chat"), st.lists(messages(), min_size=1, max_size=4)),
        st.tuples(st.just("replace"), st.integers(0, 30), messages()),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("mutate"), st.integers(0, 30), data, st.integers(0, 5)),
        st.tuples(st.just("truncate"), st.integers(0, 30)),
        st.tuples(st.just("front"), messages()),
        st.tuples(st.just("fork"), st.integers(0, 30)),
        st.tuples(st.just("reload")),
    ),
    max_size=14,
)


def apply(values: list[Any], step: tuple[Any, ...]) -> list[Any]:
    match step:
        case ("append" | "chat", new):
            return [*values, *new]
        case ("replace", at, new) if values:
            return [new if i == at % len(values) else v for i, v in enumerate(values)]
        case ("remove", at) if values:
            return [v for i, v in enumerate(values) if i != at % len(values)]
        case ("mutate", at, new, way) if values:
            mutate(values[at % len(values)], new, way)
        case ("truncate", size):
            return values[: size % (len(values) + 1)]
        case ("front", new):
            return [new, *values]
        case _:
            pass
    return values


@settings(deadline=None, max_examples=150)
@given(st.lists(messages(), max_size=6), steps)
def test_the_kept_elements_and_the_tail_are_the_list(start: list[Any], changes: list[tuple[Any, ...]]) -> None:
    values, before, stored = start, None, []  # type: ignore[var-annotated]
    for step in [("append", []), *changes]:
        values = apply(values, step)
        change = compare(values, before, CODEC)
        stored = [*stored[: change.keep], *change.tail]
        assert len(stored) == len(values)
        elements = ormsgpack.unpackb(array(len(stored), b"".join(stored)))
        again = [CODEC.decode(element) for element in elements]
        expected = [CODEC.decode(ormsgpack.unpackb(CODEC.encode(value).data)) for value in values]
        assert exact(again) == exact(expected)
        assert exact(fresh(change.snapshot, CODEC)) == exact(expected)
        before = change.snapshot
        if step[0] == "reload":
            values, before = again, recalled(again, elements, CODEC)
        elif step[0] == "fork":
            values = fresh(before, CODEC)


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (0.0, -0.0), (True, 1), ([], {}), (None, False)])
def test_equal_is_not_the_same(old: Any, new: Any) -> None:
    message = HumanMessage("x", additional_kwargs={"a": {"b": [old]}}, id="1")
    before = compare([message], None, CODEC).snapshot
    message.additional_kwargs["a"]["b"][0] = new
    assert compare([message], before, CODEC).keep == 0
    message.additional_kwargs = {"a": {"b": [old]}}  # a new dict, equal to the old one
    assert compare([message], before, CODEC).keep == 1


def test_a_container_that_was_replaced_by_an_equal_one_is_watched_too() -> None:
    message = HumanMessage("x", additional_kwargs={"a": 1}, id="1")
    before = compare([message], None, CODEC).snapshot
    message.additional_kwargs = {"a": 1}
    change = compare([message], before, CODEC)
    assert change.keep == 1
    message.additional_kwargs["a"] = True
    assert compare([message], change.snapshot, CODEC).keep == 0


def test_a_mutated_object_that_is_no_plain_data_is_noticed() -> None:
    document = Document(page_content="a")
    messages_ = [HumanMessage("x", id="1"), ToolMessage("y", tool_call_id="c", artifact=[document], id="2")]
    before = compare(messages_, None, CODEC).snapshot
    assert compare(messages_, before, CODEC).keep == 2
    document.metadata["page"] = 3
    assert compare(messages_, before, CODEC).keep == 1


def test_an_array_that_came_in_later_is_noticed() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    message = HumanMessage("x", id="1")
    before: Snapshot = compare([message], None, CODEC).snapshot
    message.name = Odd()  # type: ignore[assignment]
    with pytest.raises(TypeError):  # neither is it stored, as with the official savers
        compare([message], before, CODEC)


def put(saver: Any, parent: str | None, identity: str, values: list[Any]) -> None:
    checkpoint: Checkpoint = empty_checkpoint()
    checkpoint["id"] = identity
    checkpoint["channel_values"] = {"messages": values, "note": {"of": "x" * 300}, "n": len(values)}
    checkpoint["channel_versions"] = dict.fromkeys(checkpoint["channel_values"], identity)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": parent}}
    metadata: Any = {"source": "loop", "step": 0, "parents": {}}
    saver.put(config, checkpoint, metadata, dict(checkpoint["channel_versions"]))


def read(saver: Any, identity: str) -> dict[str, Any]:
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": identity}}
    found = saver.get_tuple(config)
    assert found is not None
    values: dict[str, Any] = found.checkpoint["channel_values"]
    return values


@pytest.mark.both_databases
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.lists(messages(), max_size=8), changes=steps, forget_every=st.integers(0, 3))
def test_any_history_reads_back_as_from_memory(
    tmp_path: Path, start: list[Any], changes: list[tuple[Any, ...]], forget_every: int
) -> None:
    path = tmp_path / f"{uuid6()}.db"
    memory, heads = InMemorySaver(), []  # type: ignore[var-annotated]
    with open_checkpointer(path) as ours:
        values, head = start, None
        every: list[tuple[Any, ...]] = [("append", []), *changes]
        for number, step in enumerate(every):
            if step[0] == "fork" and heads:
                head = heads[step[1] % len(heads)]
                values = read(ours, head)["messages"]
            elif step[0] == "reload" and head is not None:
                values = read(ours, head)["messages"]
            values = apply(values, step)
            if forget_every and number % (forget_every + 1) == 0:
                ours._engine._recent.forget()  # as after a restart, or when the cache is full
            parent, head = head, str(uuid6())
            put(ours, parent, head, values)
            put(memory, parent, head, values)
            heads.append(head)
            if number % 2:
                assert exact(read(ours, head)) == exact(read(memory, head))
        with open_checkpointer(path) as cold:
            for identity in heads:
                assert exact(read(cold, identity)) == exact(read(memory, identity))
    path.unlink(missing_ok=True)
