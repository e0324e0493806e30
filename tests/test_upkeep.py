"""What is deleted is gone, what stays reads back as before, and no question loses what its answer needs."""

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from hitl_graph.chat import queue
from hitl_graph.checkpointers import Retained, Retention
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.checkpointers.upkeep import earliest_id
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import messages
from hitl_graph.model import respond
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer

pytestmark = pytest.mark.both_databases


class Deltas(TypedDict, total=False):
    messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer, snapshot_frequency=3)]


def config(thread: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread}, **more}


def plain(saver: Any) -> Any:
    return chatting(saver, MessagesState)


def with_deltas(saver: Any) -> Any:
    return chatting(saver, Deltas)


def chatting(saver: Any, state: Any) -> Any:
    """Three turns, then a question, then an answer."""

    def turn(state: Any) -> Any:
        return {"messages": [AIMessage(f"turn {len(state['messages'])}")]}

    def ask(state: Any) -> Any:
        return {"messages": [AIMessage(str(interrupt("which?")))]}

    builder = StateGraph(state)
    for name in ("one", "two", "three"):
        builder.add_node(name, turn)
    builder.add_node("ask", ask)
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    builder.add_edge("two", "three")
    builder.add_edge("three", "ask")
    return builder.compile(checkpointer=saver)


def nested(saver: Any) -> Any:
    """The question is asked two graphs deep."""
    inner = plain(None)
    middle = StateGraph(MessagesState)
    middle.add_node("inner", inner)
    middle.add_edge(START, "inner")
    outer = StateGraph(MessagesState)
    outer.add_node("first", lambda state: {"messages": [AIMessage("first")]})
    outer.add_node("middle", middle.compile())
    outer.add_edge(START, "first")
    outer.add_edge("first", "middle")
    return outer.compile(checkpointer=saver)


def siblings(saver: Any) -> Any:
    """One of three parallel tasks asks; the others are done and must not run again."""

    def work(state: Any) -> Any:
        text = str(interrupt("which?")) if state["n"] == 1 else f"done {state['n']} {time.monotonic_ns()}"
        return {"messages": [AIMessage(text, id=f"work {state['n']}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("fan", lambda state: {"messages": [AIMessage("fan")]})
    builder.add_node("work", work)
    builder.add_edge(START, "fan")
    builder.add_conditional_edges("fan", lambda state: [Send("work", {"n": n}) for n in range(3)], ["work"])
    builder.add_edge("work", END)
    return builder.compile(checkpointer=saver)


def prune_latest(saver: Checkpointer) -> None:
    saver.prune(["t"])


def prune_old(saver: Checkpointer) -> None:
    saver.prune(["t"], strategy="older_than", older_than=timedelta(0))


def retain_nothing(saver: Checkpointer) -> None:
    saver.retain(Retention(checkpoints=timedelta(0), threads=timedelta(0)))


@pytest.mark.parametrize("cut", [prune_latest, prune_old, retain_nothing])
@pytest.mark.parametrize("build", [plain, with_deltas, nested, siblings])
@pytest.mark.parametrize("reopened", [False, True])
def test_a_paused_thread_goes_on_after_it_was_pruned(db_path: str, build: Any, cut: Any, reopened: bool) -> None:
    saver = open_checkpointer(db_path)
    graph = build(saver)
    graph.invoke({"messages": [HumanMessage("hello")]}, config("t"))
    before = graph.get_state(config("t"), subgraphs=True)
    cut(saver)
    if reopened:
        saver.close()
        saver = open_checkpointer(db_path)
        graph = build(saver)
    pruned = graph.get_state(config("t"), subgraphs=True)
    assert (pruned.values, pruned.next, pruned.interrupts) == (before.values, before.next, before.interrupts)
    [request] = Inbox(saver.ledger).pending()
    Inbox(saver.ledger).decide(request.id, respond("this one"), reviewer="alice")
    [resumed] = Worker(graph, saver.ledger).run_once()
    assert resumed.status == "finished"
    texts = [message.content for message in graph.get_state(config("t")).values["messages"]]
    assert "this one" in texts
    kept = [message.content for message in before.values["messages"]]
    assert [text for text in texts if text in kept] == kept  # and none of them was made again
    assert saver.ledger.verify_audit().ok
    saver.close()


def test_older_than_keeps_the_young_ones(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        graph = plain(saver)
        graph.invoke({"messages": [HumanMessage("hello")]}, config("t"))
        history = list(graph.get_state_history(config("t")))
        saver.prune(["t"], strategy="older_than", older_than=timedelta(hours=1))
        assert len(list(graph.get_state_history(config("t")))) == len(history) == 5
        saver.prune(["t"], strategy="older_than", older_than=timedelta(0))
        [left] = graph.get_state_history(config("t"))
        assert left.values == history[0].values


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strategy": "keep"}, "is unknown"),
        ({"strategy": "older_than"}, "older_than=timedelta"),
        ({"older_than": timedelta(1)}, "older_than=timedelta"),
    ],
)
def test_what_prune_does_not_understand_deletes_nothing(db_path: str, options: Any, says: str) -> None:
    with open_checkpointer(db_path) as saver:
        plain(saver).invoke({"messages": [HumanMessage("hello")]}, config("t"))
        with pytest.raises(ValueError, match=says):
            saver.prune(["t"], **options)
        assert len(list(saver.list(config("t")))) == 5
    with pytest.raises(ValueError, match="negative"):
        Retention(threads=timedelta(-1))


async def test_retention_deletes_idle_threads_and_leaves_those_in_which_people_are_asked(db_path: str) -> None:
    async with open_checkpointer(db_path) as saver:
        graph = plain(saver)
        for thread in ("asks", "done", "new"):
            await graph.ainvoke({"messages": [HumanMessage("hello")]}, config(thread))
        for thread in ("done", "new"):
            await graph.ainvoke(Command(resume="x"), config(thread))
        seen = list[Retained]()
        assert await saver.aretain(Retention(threads=timedelta(hours=1))) == Retained(seen=3)
        done = await saver.aretain(Retention(checkpoints=timedelta(0), threads=timedelta(0)), progress=seen.append)
        assert done == Retained(seen=3, checkpoints=4 + 6 + 6, threads=2)
        assert seen == [done]
        assert [found.config["configurable"]["thread_id"] for found in saver.list(None)] == ["asks"]
        [request] = Inbox(saver.ledger).pending()
        assert request.thread_id == "asks"
        await graph.ainvoke({"messages": [HumanMessage("again")]}, config("done"))  # the name is free
        assert len(graph.get_state(config("done")).values["messages"]) == 4


def test_retention_leaves_a_thread_in_which_a_message_waits(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        graph = plain(saver)
        graph.invoke({"messages": [HumanMessage("hello")]}, config("t"))
        graph.invoke(Command(resume="x"), config("t"))
        queue(saver.ledger, "t", "one more thing", sender="bob")
        assert saver.retain(Retention(threads=timedelta(0))).threads == 0
        assert [message.sender for message in saver.ledger.read(messages.queued, "t")] == ["bob"]


def test_a_run_that_is_deleted_while_it_asks_takes_its_question_with_it(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        graph = with_deltas(saver)
        graph.invoke({"messages": [HumanMessage("one")]}, config("t", metadata={"run_id": "r1"}))
        graph.invoke(Command(resume="x"), config("t", metadata={"run_id": "r2"}))
        whole = graph.get_state(config("t")).values
        saver.delete_for_runs(["r1"])  # the survivors are rebuilt from some of these
        assert graph.get_state(config("t")).values == whole
        graph.invoke({"messages": [HumanMessage("two")]}, config("t", metadata={"run_id": "r3"}))
        [request] = Inbox(saver.ledger).pending()
        saver.delete_for_runs(["r3"])
        assert not Inbox(saver.ledger).pending()
        assert Inbox(saver.ledger).get(request.id).state == "cancelled"
        assert graph.get_state(config("t")).values == whole


def test_a_copied_pause_is_not_answered_by_the_question_of_the_other_thread(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        graph = plain(saver)
        graph.invoke({"messages": [HumanMessage("hello")]}, config("t"))
        saver.copy_thread("t", "copy")
        [request] = Inbox(saver.ledger).pending()
        Inbox(saver.ledger).decide(request.id, respond("for t"), reviewer="alice")
        Worker(graph, saver.ledger).run_once()
        assert graph.get_state(config("t")).next == ()
        assert graph.get_state(config("copy")).next == ("ask",)
        graph.invoke(None, config("copy"))  # asks anew
        [asked] = Inbox(saver.ledger).pending()
        assert asked.thread_id == "copy"


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: 1990 < moment.year < 2100))
def test_the_earliest_id_of_a_moment_sorts_before_and_after(moment: datetime) -> None:
    later = moment + timedelta(milliseconds=1)
    assert len(earliest_id(moment)) == 36
    assert earliest_id(moment) < earliest_id(later)


def test_the_earliest_id_of_now_is_near_a_real_one() -> None:
    now = datetime.now(UTC)
    assert earliest_id(now - timedelta(seconds=5)) < str(uuid6()) < earliest_id(now + timedelta(seconds=5))


@pytest.mark.sqlite_file
def test_a_database_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    """Made by version 0.1.0: one finished thread, one that waits, a dict, a long text, an audit log."""
    path = tmp_path / "agent.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parent / "data" / "version2.sql").read_text())
        connection.execute("PRAGMA application_id=1212765255")
        connection.execute("PRAGMA user_version=2")
        connection.commit()
    with open_checkpointer(str(path)) as saver:
        graph = plain(saver)
        assert saver.ledger.verify_audit().ok
        assert [message.content for message in graph.get_state(config("done")).values["messages"]] == [
            "hello", "turn 1", "turn 2", "turn 3", "x"
        ]  # fmt: skip
        assert len(list(graph.get_state_history(config("done")))) == 6
        [request] = Inbox(saver.ledger).pending()
        Inbox(saver.ledger).decide(request.id, respond("late"), reviewer="alice")
        [resumed] = Worker(graph, saver.ledger).run_once()
        assert resumed.status == "finished"
        assert graph.get_state(config("waits")).values["messages"][-1].content == "late"
        assert saver.ledger.verify_audit().ok
