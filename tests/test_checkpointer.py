"""The checkpointer as LangGraph and its users meet it: sync and async, strict, small, callable from anywhere."""

import asyncio
import copy
import dataclasses
import os
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph, add_messages
from langgraph.types import Command, Interrupt, Send, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import DatabaseClosedError
from tests.databases import open_checkpointer

pytestmark = pytest.mark.both_databases


class Profile(BaseModel):
    name: str
    tags: list[str] = []


@dataclasses.dataclass
class Budget:
    euros: int


class Stranger(BaseModel):
    """A type that no schema names."""

    secret: str


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    profile: Profile
    budget: Budget
    anything: object
    count: int


@pytest.fixture
def saver(db_path: str) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


def config(thread_id: str, checkpoint_id: str | None = None, checkpoint_ns: str = "") -> RunnableConfig:
    named: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns}
    return {"configurable": named if checkpoint_id is None else {**named, "checkpoint_id": checkpoint_id}}


def put(
    saver: BaseCheckpointSaver[Any],
    thread_id: str,
    values: dict[str, Any],
    parent: str | None = None,
    checkpoint_ns: str = "",
    **metadata: Any,
) -> str:
    checkpoint: Checkpoint = empty_checkpoint()
    checkpoint["id"] = str(uuid6())
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = dict.fromkeys(values, checkpoint["id"])
    described: Any = {"source": "loop", "step": 1, "parents": {}, **metadata}
    versions = dict(checkpoint["channel_versions"])
    saver.put(config(thread_id, parent, checkpoint_ns), checkpoint, described, versions)
    return checkpoint["id"]


def chat(turns: int) -> list[Any]:
    return [(HumanMessage if n % 2 else AIMessage)(f"{n} " + "word " * 100, id=str(n)) for n in range(turns)]


def graph(saver: BaseCheckpointSaver[Any]) -> Any:
    def agent(state: State) -> State:
        count = state.get("count", 0) + 1
        return {
            "messages": [AIMessage("a" * 300, id=f"a{count}")],
            "profile": Profile(name="Ada", tags=["x" * 300]),
            "budget": Budget(7),
            "count": count,
        }

    def gate(state: State) -> State:
        return {"messages": [HumanMessage(str(interrupt({"why": "pay"})))]}

    builder = StateGraph(State)
    builder.add_node("agent", agent)
    builder.add_node("gate", gate)
    builder.add_edge(START, "agent")
    builder.add_edge("agent", "gate")
    return builder.compile(checkpointer=saver)


def named(item: CheckpointTuple, key: str) -> str:
    """What the config of a checkpoint says."""
    return str(item.config.get("configurable", {})[key])


def plain(tuple_: CheckpointTuple | None) -> Any:
    """What two savers must agree about, without what is theirs to choose."""
    assert tuple_ is not None
    return tuple_.checkpoint, tuple_.metadata, tuple_.parent_config, tuple_.pending_writes


def test_a_graph_pauses_and_goes_on_in_another_process(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        paused = graph(saver).invoke({"messages": [HumanMessage("hello", id="h")]}, config("t"))
        assert "__interrupt__" in paused
        assert len(saver.pending_interrupts()) == 1
    program = f"""
from langgraph.types import Command
from tests.databases import open_checkpointer
from tests.test_checkpointer import config, graph
with open_checkpointer({db_path!r}) as saver:
    print([m.content for m in graph(saver).invoke(Command(resume="yes"), config("t"))["messages"]][-1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=_env())
    assert done.stdout == "yes\n"
    with open_checkpointer(db_path) as saver:
        assert not saver.pending_interrupts()
        assert graph(saver).get_state(config("t")).next == ()


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


async def test_sync_and_async_are_one(saver: Checkpointer) -> None:
    """Each step of one thread may be of either colour, also a sync call on the running event loop."""
    app = graph(saver)
    await app.ainvoke({"messages": [HumanMessage("hello")]}, config("t"))
    app.invoke(Command(resume="first"), config("t"))
    app.invoke({"messages": [HumanMessage("more")]}, config("t"))
    await app.ainvoke(Command(resume="second"), config("t"))
    assert plain(await saver.aget_tuple(config("t"))) == plain(saver.get_tuple(config("t")))
    listed = [plain(item) async for item in saver.alist(config("t"))]
    assert listed == [plain(item) for item in saver.list(config("t"))]
    assert [m.content for m in app.get_state(config("t")).values["messages"]][2::3] == ["first", "second"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_run_leaves_what_the_memory_saver_would_hold(saver: Checkpointer, durability: Any) -> None:
    found = []
    for each in (saver, InMemorySaver()):
        app = graph(each)
        app.invoke({"messages": [HumanMessage("hello", id="h")]}, config("t"), durability=durability)
        app.invoke(Command(resume="yes"), config("t"), durability=durability)
        history = list(app.get_state_history(config("t")))
        found.append(
            [(s.next, s.metadata, len(s.values.get("messages", ())), s.values.get("profile")) for s in history]
        )
    assert found[0] == found[1]


def test_types_of_the_schema_are_built_again_and_others_are_not(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        app = graph(saver)
        app.invoke({"messages": [HumanMessage("x")], "anything": Stranger(secret="s" * 300)}, config("t"))
    with open_checkpointer(db_path) as saver:
        values = graph(saver).get_state(config("t")).values
        assert values["profile"] == Profile(name="Ada", tags=["x" * 300])
        assert values["budget"] == Budget(7)
        assert values["anything"] == {"secret": "s" * 300}
        assert isinstance(values["messages"][0], HumanMessage)


def test_langgraph_s_own_types_are_built_again(saver: Checkpointer) -> None:
    values = [Interrupt(value={"a": 1}, id="i"), Command(goto="x", update={"n": 1}), Send("node", {"n": [1]})]
    head = put(saver, "t", {"one": values, "two": {"deep": values}})
    saver.put_writes(config("t", head), [("x", values), ("y", None), ("z", b"raw")], "task")
    saver._engine._recent.forget()
    found = saver.get_tuple(config("t"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"one": values, "two": {"deep": values}}
    assert found.pending_writes == [("task", "x", values), ("task", "y", None), ("task", "z", b"raw")]


class Masking(SerializerProtocol):
    """Stands for a serializer that encrypts: never twice the same bytes, never the plain text."""

    def __init__(self) -> None:
        self.inner = JsonPlusSerializer(allowed_msgpack_modules=None)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        kind, data = self.inner.dumps_typed(obj)
        key = os.urandom(1)[0] | 1
        return kind + "+mask", bytes([key]) + bytes(byte ^ key for byte in data)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, masked = data
        return self.inner.loads_typed((kind.removesuffix("+mask"), bytes(byte ^ masked[0] for byte in masked[1:])))


@pytest.mark.sqlite_file
def test_with_another_serializer_all_values_go_through_it_and_are_still_shared(db_path: str) -> None:
    with open_checkpointer(db_path, serde=Masking()) as saver:
        head = put(saver, "t", {"messages": chat(50), "note": "TOP SECRET " * 50})
        history = chat(50)
        before = os.path.getsize(db_path + "-wal")
        for _ in range(20):
            found = saver.get_tuple(config("t"))
            assert found is not None
            history = [*found.checkpoint["channel_values"]["messages"], HumanMessage("word secret", id=str(uuid6()))]
            head = put(saver, "t", {"messages": history, "note": "TOP SECRET " * 50}, head)
        saver.put_writes(config("t", head), [("x", "TOP SECRET")], "task")
        saver._engine._recent.forget()
        again = saver.get_tuple(config("t"))
        assert again is not None
        assert again.checkpoint["channel_values"] == {"messages": history, "note": "TOP SECRET " * 50}
        assert os.path.getsize(db_path + "-wal") - before < 20 * 60_000
    with closing(sqlite3.connect(db_path)) as raw:
        dump = "\n".join(raw.iterdump()).encode() + Path(db_path).read_bytes()
    assert b"TOP SECRET" not in dump
    assert b"word word" not in dump


def test_two_readers_never_share_an_object(saver: Checkpointer) -> None:
    mine = chat(3)
    put(saver, "t", {"messages": mine, "plain": [{"a": [1]}] * 40})
    first, second = saver.get_tuple(config("t")), saver.get_tuple(config("t"))
    assert first is not None
    assert second is not None
    ones = first.checkpoint["channel_values"]
    ones["messages"][0].additional_kwargs["x"] = 1
    ones["messages"][1].content = "changed"
    ones["plain"][0]["a"].append(2)
    mine[2].content = "changed too"
    for found in (second, saver.get_tuple(config("t"))):
        assert found is not None
        assert found.checkpoint["channel_values"] == {"messages": chat(3), "plain": [{"a": [1]}] * 40}


def test_a_step_costs_what_it_adds(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        history: list[Any] = []
        head, sizes = None, []
        for number in range(400):
            history = [*history, HumanMessage(f"{number}" + "x" * 1000, id=str(number))]
            head = put(saver, "t", {"messages": history, "notes": {"of": "y" * 5000}}, head)
            if number % 100 == 99:
                sizes.append(_stored(saver))
    steps = [later - earlier for earlier, later in pairwise(sizes)]
    assert max(steps) < 1.1 * min(steps)
    assert sizes[-1] < 400 * 2_000 + 10_000


def _stored(saver: Checkpointer) -> int:
    def count(tx: Any) -> int:
        return int(
            tx.execute("SELECT sum(length(data) + length(metadata) + length(refs)) FROM hitl_states").fetchone()[0]
        )

    return saver._database.read(count)


def test_the_loop_over_list_may_use_the_checkpointer(saver: Checkpointer) -> None:
    heads = [put(saver, "t", {"n": number}, step=number) for number in range(100)]
    seen = []
    for item in saver.list(config("t")):
        identity = named(item, "checkpoint_id")
        seen.append(identity)
        saver.put_writes(item.config, [("x", 1)], "task")
        assert saver.get_tuple(item.config) is not None
        if len(seen) == 50:
            put(saver, "t", {"n": -1})  # too late to be seen
            saver.delete_thread("other")
    assert seen == heads[::-1]


async def test_a_filter_compares_as_json(saver: Checkpointer) -> None:
    put(saver, "t", {"n": 1}, flag=1, tags=["a", {"b": None}])
    put(saver, "t", {"n": 2}, flag=True, tags=["a"])
    put(saver, "u", {"n": 3}, **{"a'b\"; DROP TABLE hitl_writes": "x"})

    async def found(filter: dict[str, Any], **kwargs: Any) -> list[Any]:
        listed = [item.checkpoint["channel_values"]["n"] async for item in saver.alist(None, filter=filter, **kwargs)]
        assert listed == [i.checkpoint["channel_values"]["n"] for i in saver.list(None, filter=filter, **kwargs)]
        return listed

    assert await found({}) == [3, 2, 1]
    assert await found({}, limit=2) == [3, 2]
    assert await found({}, limit=0) == []
    assert await found({"flag": True}) == [2]
    assert await found({"flag": 1}) == [1]
    assert await found({"tags": ["a", {"b": None}]}) == [1]
    assert await found({"flag": None}) == [3]
    assert await found({"source": "loop"}, limit=1) == [3]
    assert await found({"a'b\"; DROP TABLE hitl_writes": "x"}) == [3]


def test_writes_come_in_the_order_in_which_they_are_applied(saver: Checkpointer) -> None:
    head = put(saver, "t", {})
    saver.put_writes(config("t", head), [("x", 3), ("y", 4)], "task-a", "~2")
    saver.put_writes(config("t", head), [("x", 1), ("y", 2)], "task-b", "~1")
    saver.put_writes(config("t", head), [("x", 99), ("new", 5)], "task-a", "~2")  # a retry: what is there stays
    saver.put_writes(config("t", head), [("__error__", "old")], "task-c", "~3")
    saver.put_writes(config("t", head), [("__error__", "new")], "task-c", "~3")  # all special: replaced
    found = saver.get_tuple(config("t"))
    assert found is not None
    assert found.pending_writes == [
        ("task-b", "x", 1),
        ("task-b", "y", 2),
        ("task-a", "x", 3),
        ("task-a", "y", 4),
        ("task-c", "__error__", "new"),
    ]


def test_writes_may_come_before_their_checkpoint(saver: Checkpointer) -> None:
    identity = str(uuid6())
    saver.put_writes(config("t", identity), [("x", 1)], "task")
    assert saver.get_tuple(config("t")) is None
    checkpoint = empty_checkpoint()
    checkpoint["id"] = identity
    for _ in range(2):  # LangGraph's exit mode puts a checkpoint again
        saver.put(config("t"), checkpoint, {"source": "loop"}, {})
    assert [item.pending_writes for item in saver.list(config("t"))] == [[("task", "x", 1)]]


def test_pruning_keeps_what_the_latest_checkpoint_needs(saver: Checkpointer) -> None:
    history, head = [], None  # type: ignore[var-annotated]
    for number in range(30):
        history = [*history, *chat(3)] if number != 15 else history[:4]
        head = put(saver, "t", {"messages": history, "note": "n" * 1000}, head)
        put(saver, "t", {"messages": history[:2]}, None, "sub:1")
    put(saver, "other", {"messages": chat(5)})
    full = _stored(saver)
    saver.prune(["t"])
    assert len(list(saver.list({"configurable": {"thread_id": "t"}}))) == 2
    found = saver.get_tuple(config("t"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"messages": history, "note": "n" * 1000}
    assert _stored(saver) < full
    head = put(saver, "t", {"messages": [*history, *chat(1)]}, head)  # and it can go on
    again = saver.get_tuple(config("t"))
    assert again is not None
    assert again.checkpoint["channel_values"]["messages"] == [*history, *chat(1)]
    saver.prune(["t"], strategy="delete")
    assert saver.get_tuple(config("t")) is None
    saver.delete_thread("other")
    assert saver._database.read(lambda tx: tx.execute("SELECT count(*) FROM hitl_states").fetchone()[0]) == 0
    with pytest.raises(ValueError, match="keep_latest"):
        saver.prune(["t"], strategy="everything")


def test_pruning_and_deleting_are_noticed_by_other_processes(db_path: str) -> None:
    with open_checkpointer(db_path) as one, open_checkpointer(db_path) as other:
        head = put(one, "t", {"messages": chat(20)})
        assert one.get_tuple(config("t")) is not None
        other.delete_thread("t")
        put(other, "t", {"messages": chat(3)})
        head = put(one, "t", {"messages": chat(21)}, head)  # builds on segments that are gone
        found = other.get_tuple(config("t", head))
        assert found is not None
        assert found.checkpoint["channel_values"]["messages"] == chat(21)


@pytest.mark.parametrize("run", ["a", "b", "c"])
def test_deleting_a_run_leaves_the_others_as_they_were(saver: Checkpointer, run: str) -> None:
    expected, head, history = {}, None, chat(2)
    for number in range(12):
        history = [*history, *chat(1)]
        name = "abc"[number % 3]
        head = put(saver, "t", {"messages": history}, head, run_id=name)
        if name != run:
            expected[head] = history
    saver.delete_for_runs([run, "unknown"])
    found = {item.checkpoint["id"]: item.checkpoint["channel_values"]["messages"] for item in saver.list(config("t"))}
    assert found == expected


def test_a_copy_is_a_thread_of_its_own(saver: Checkpointer) -> None:
    app = graph(saver)
    app.invoke({"messages": [HumanMessage("hello", id="h")]}, config("t"))
    app.invoke(Command(resume="yes"), config("t"))
    saver.copy_thread("t", "copy")
    before = [plain(item)[0] for item in saver.list(config("t"))]
    saver.delete_thread("t")
    assert [plain(item)[0] for item in saver.list(config("copy"))] == before
    app.invoke({"messages": [HumanMessage("more")]}, config("copy"))
    assert len(app.get_state(config("copy")).values["messages"]) == 5


def _append(state: list[Any], writes: Any) -> list[Any]:
    return [*state, *(item for write in writes for item in write)]


@pytest.mark.parametrize("turns", [3, 7, 10])
def test_pruning_keeps_the_state_of_a_delta_channel(saver: Checkpointer, turns: int) -> None:
    class Deltas(TypedDict, total=False):
        items: Annotated[list[Any], DeltaChannel(_append, snapshot_frequency=5)]

    def add(state: Deltas) -> Deltas:
        return {"items": [{"n": len(state.get("items", [])), "text": "z" * 300}]}

    builder = StateGraph(Deltas)
    builder.add_node("add", add)
    builder.add_edge(START, "add")
    app = builder.compile(checkpointer=saver)
    for _ in range(turns):
        app.invoke({"items": [{"in": 1}]}, config("t"))
    before = app.get_state(config("t")).values
    assert len(before["items"]) == 2 * turns
    count = len(list(saver.list(config("t"))))
    saver.prune(["t"])
    assert app.get_state(config("t")).values == before
    assert len(list(saver.list(config("t")))) < count
    assert len(app.invoke({"items": []}, config("t"))["items"]) == 2 * turns + 1


def test_threads_of_one_process_write_at_once(saver: Checkpointer) -> None:
    app = graph(saver)

    def run(number: int) -> int:
        app.invoke({"messages": [HumanMessage("hello")]}, config(f"t{number}"))
        app.invoke(Command(resume="yes"), config(f"t{number}"))
        return len(app.get_state(config(f"t{number}")).values["messages"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(40))) == [3] * 40


def test_the_first_writes_of_a_thread_and_its_checkpoint_come_in_any_order(saver: Checkpointer) -> None:
    checkpoint = empty_checkpoint()
    metadata: Any = {"source": "loop", "step": 0, "parents": {}}

    def store(thread_id: str, task: int) -> None:
        if task < 2:
            writes = [("__interrupt__", (Interrupt(f"question {task}", id=f"{thread_id}-{task}"),))]
            saver.put_writes(config(thread_id, checkpoint["id"]), writes, f"task {task}")
        else:
            saver.put(config(thread_id), checkpoint, metadata, {})

    with ThreadPoolExecutor(3) as pool:
        for number in range(40):
            list(pool.map(store, [f"t{number}"] * 3, range(3)))
    for number in range(40):
        found = saver.get_tuple(config(f"t{number}"))
        assert found is not None
        assert found.pending_writes is not None
        assert len(found.pending_writes) == 2
    assert len(saver.pending_interrupts(limit=None)) == 80


def test_several_event_loops_may_share_it(saver: Checkpointer) -> None:
    app = graph(saver)

    def run(number: int) -> None:
        async def many() -> None:
            threads = [config(f"{number}-{i}") for i in range(10)]
            await asyncio.gather(*(app.ainvoke({"messages": [HumanMessage("x")]}, thread) for thread in threads))
            await asyncio.gather(*(app.ainvoke(Command(resume="yes"), thread) for thread in threads))

        asyncio.run(many())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, range(3)))
    heads = {named(item, "thread_id") for item in saver.list(None)}
    assert len(heads) == 30


def test_a_shallow_copy_shares_everything_but_the_serializer(saver: Checkpointer) -> None:
    allowed = saver.with_allowlist({("tests.test_checkpointer", "Stranger")})
    put(saver, "t", {"x": Stranger(secret="s" * 400)})
    put(copy.copy(allowed), "t", {"x": Stranger(secret="s" * 400)})
    assert [type(i.checkpoint["channel_values"]["x"]) for i in saver.list(config("t"))] == [dict, dict]
    strangers = [i.checkpoint["channel_values"]["x"] for i in allowed.list(config("t"))]
    assert [value.secret for value in strangers] == ["s" * 400] * 2
    saver.close()
    with pytest.raises(DatabaseClosedError, match="open it again"):
        allowed.get_tuple(config("t"))


async def test_it_works_with_and_without_with(db_path: str) -> None:
    async with open_checkpointer(db_path) as saver:
        put(saver, "t", {"n": 1})
    saver = open_checkpointer(Path(db_path))
    saver.setup()
    saver.setup()
    assert saver.get_tuple(config("t")) is not None
    assert saver.get_tuple(config("unknown")) is None
    assert saver.get_tuple(config("t", "unknown")) is None
    saver.close()
    saver.close()
