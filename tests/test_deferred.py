"""What a run stores may wait a moment; nobody in the process can tell, and it is on disk when the run returns."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import DatabaseWriteError
from hitl_graph.storage import Database, Transaction
from tests.databases import open_checkpointer

pytestmark = pytest.mark.both_databases

CLAIM = "INSERT INTO hitl_thread_claims (thread_id, owner, until_ms) VALUES (?, 'x', 0)"
CONFIG: Any = {"configurable": {"thread_id": "t"}}


def names(database: Database, scope: str | None = None) -> list[str]:
    def look(tx: Transaction) -> list[str]:
        return [row[0] for row in tx.execute("SELECT thread_id FROM hitl_thread_claims ORDER BY thread_id")]

    return database.read(look, scope=scope)


def two_steps(saver: Any, second: Any, *, is_async: bool = False) -> Any:
    def first(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("ai", "first")]}

    async def asecond(state: MessagesState) -> Any:
        return await asyncio.to_thread(second, state)

    builder = StateGraph(MessagesState)
    builder.add_node("first", first)
    builder.add_node("second", asecond if is_async else second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    return builder.compile(checkpointer=saver)


def test_reads_see_it_and_it_is_stored_within_a_moment(db_path: str) -> None:
    with open_checkpointer(db_path) as one, open_checkpointer(db_path) as other:
        database = one.ledger.database
        database.defer((CLAIM, ("a",)), scope="a")
        assert names(database, "a") == ["a"]
        database.defer(lambda tx: tx.execute(CLAIM, ("b",)), scope="b")
        assert names(database) == ["a", "b"]
        database.defer((CLAIM, ("c",)), scope="c")
        database.write(lambda tx: tx.execute(CLAIM, ("d",)))
        assert names(other.ledger.database) == ["a", "b", "c", "d"]
        database.defer((CLAIM, ("e",)), scope="e")
        until = time.monotonic() + 5
        while "e" not in names(other.ledger.database) and time.monotonic() < until:
            time.sleep(0.005)
        assert names(other.ledger.database) == ["a", "b", "c", "d", "e"]


def test_what_fails_fails_alone_and_is_told_at_the_end(db_path: str) -> None:
    def fail(tx: Transaction) -> None:
        tx.execute(CLAIM, ("lost",))
        raise LookupError("no")

    with open_checkpointer(db_path) as saver:
        database = saver.ledger.database
        deferred = [
            database.defer((CLAIM, ("a",)), scope="a"),
            database.defer(fail, scope="a"),
            database.defer(lambda tx: tx.execute(CLAIM, ("b",)), scope="a"),
        ]
        with pytest.raises(LookupError, match="no"):
            database.settle(deferred)
        assert names(database) == ["a", "b"]
        asyncio.run(database.asettle(deferred[2:]))


def test_a_statement_that_changes_too_little_is_done_otherwise(db_path: str) -> None:
    nothing = f"{CLAIM[: CLAIM.index('VALUES')]} SELECT ?, 'x', 0 WHERE 1 = 0"

    def claim(name: str, tx: Transaction) -> None:
        tx.execute(CLAIM, (name,))

    with open_checkpointer(db_path) as saver:
        database = saver.ledger.database
        deferred = [
            database.defer((nothing, (name,)), scope="a", expected=1, otherwise=partial(claim, name))
            for name in ("a", "b")
        ]
        deferred.append(database.defer((CLAIM, ("c",)), scope="a", expected=1, otherwise=partial(claim, "wrong")))
        deferred.append(database.defer(partial(claim, "d"), scope="a"))
        database.settle(deferred)
        assert names(database) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
def test_all_of_a_run_is_there_when_it_returns(db_path: str, durability: Any, is_async: bool) -> None:
    with open_checkpointer(db_path) as saver, open_checkpointer(db_path) as other:
        graph = two_steps(saver, lambda state: {"messages": [("ai", "second")]}, is_async=is_async)
        if is_async:
            asyncio.run(graph.ainvoke({"messages": [("user", "hi")]}, CONFIG, durability=durability))
        else:
            graph.invoke({"messages": [("user", "hi")]}, CONFIG, durability=durability)
        found = other.ledger.database.read(
            lambda tx: tx.execute("SELECT count(*) FROM hitl_states WHERE checkpoint_id <> ''").fetchone()
        )
        assert found[0] == (1 if durability == "exit" else 4)


def test_a_node_sees_the_steps_before_it(db_path: str) -> None:
    seen: list[int] = []
    with open_checkpointer(db_path) as saver:

        def second(state: MessagesState) -> None:
            time.sleep(0.02)  # until LangGraph has handed the checkpoint over, in its own thread
            seen.append(len(graph.get_state(CONFIG).values["messages"]))
            seen.append(len(list(saver.list(CONFIG))))

        graph = two_steps(saver, second)
        graph.invoke({"messages": [("user", "hi")]}, CONFIG, durability="async")
    assert seen == [2, 3]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_thread_that_is_pruned_while_a_run_goes_on_goes_on(db_path: str, is_async: bool) -> None:
    with open_checkpointer(db_path) as saver, open_checkpointer(db_path) as other:

        def second(state: MessagesState) -> dict[str, Any]:
            time.sleep(0.05)
            other.prune(["t"])
            return {"messages": [("ai", "second" * 100)]}

        graph = two_steps(saver, second, is_async=is_async)
        for _ in range(3):
            given = {"messages": [("user", "hi" * 200)]}
            if is_async:
                asyncio.run(graph.ainvoke(given, CONFIG, durability="async"))
            else:
                graph.invoke(given, CONFIG, durability="async")
        there = two_steps(other, second).get_state(CONFIG).values["messages"]
        assert [message.content for message in there] == ["hi" * 200, "first", "second" * 100] * 3


def test_a_thread_that_is_deleted_while_a_run_goes_on_is_told(db_path: str) -> None:
    with open_checkpointer(db_path) as saver, open_checkpointer(db_path) as other:
        deleting = [True]

        def second(state: MessagesState) -> dict[str, Any]:
            time.sleep(0.05)
            if deleting:
                other.delete_thread("t")
            return {"messages": [("ai", "second" * 100)]}

        graph = two_steps(saver, second)
        given = {"messages": [("user", "hi" * 200)]}
        with pytest.raises(DatabaseWriteError, match="thread t was deleted while a run went on with it"):
            graph.invoke(given, CONFIG, durability="async")
        deleting.clear()
        graph.invoke(given, CONFIG, durability="async")
        assert len(graph.get_state(CONFIG).values["messages"]) == 3


PROGRAM = """
import sys
from pathlib import Path
from tests.databases import open_checkpointer
from tests.test_deferred import CONFIG, two_steps

saver = open_checkpointer(sys.argv[1])
graph = two_steps(saver, lambda state: {"messages": [("ai", "second")]})
for number in range(10 ** 6):
    graph.invoke({"messages": [("user", "hi")]}, {"configurable": {"thread_id": str(number)}}, durability=sys.argv[2])
    print(number, flush=True)
"""


@pytest.mark.parametrize("durability", ["async", "exit"])
def test_what_returned_is_there_after_kill_9(db_path: str, durability: str) -> None:
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, db_path, durability], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        told += process.stdout.readlines()
    with open_checkpointer(db_path) as saver:
        graph = two_steps(saver, lambda state: None)
        threads = [line.strip() for line in told if line.endswith("\n")]
        assert len(threads) >= 20
        for name in threads:
            state = graph.get_state({"configurable": {"thread_id": name}})
            assert (len(state.values["messages"]), state.next) == (3, ())


def test_a_checkpointer_is_shared_by_its_copies(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        assert isinstance(saver, Checkpointer)
        copy = saver.with_allowlist([])
        graph = two_steps(copy, lambda state: None)
        graph.invoke({"messages": [("user", "hi")]}, CONFIG)
        assert len(list(saver.list(CONFIG))) == 4
