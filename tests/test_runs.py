"""Of several runs that go on from one pause, one does; the others wait for it, and find it done."""

import asyncio
import gc
import multiprocessing
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from hitl_graph.checkpointers import runs
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import ThreadBusyError
from tests.databases import open_checkpointer

pytestmark = pytest.mark.both_databases

CONFIG: Any = {"configurable": {"thread_id": "t"}}


class State(TypedDict, total=False):
    answer: str


def build(saver: Any, act: Any, *, is_async: bool = False) -> Any:
    """Asks with a plain interrupt(), then acts: nothing but the checkpointer keeps it from acting twice."""

    def ask(state: State) -> State:
        return {"answer": interrupt("shall I?")}

    async def aact(state: State) -> State | None:
        return await asyncio.to_thread(act, state)

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_node("act", aact if is_async else act)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "act")
    return builder.compile(checkpointer=saver)


def racer(path: str, effects: str, barrier: Any, durability: Any, is_async: bool) -> None:
    def act(state: State) -> None:
        with open(effects, "a") as file:
            file.write("acted\n")
        time.sleep(0.05)

    with open_checkpointer(path) as saver:
        graph = build(saver, act, is_async=is_async)
        for thread in range(10):
            config: Any = {"configurable": {"thread_id": str(thread)}}
            barrier.wait()
            if is_async:
                asyncio.run(graph.ainvoke(Command(resume="yes"), config, durability=durability))
            else:
                graph.invoke(Command(resume="yes"), config, durability=durability)


@pytest.mark.parametrize(
    ("durability", "is_async"),
    [
        ("sync", False),
        ("async", True),
        pytest.param("async", False, marks=pytest.mark.slow),
        pytest.param("exit", True, marks=pytest.mark.slow),
    ],
)
def test_four_processes_resume_ten_pauses_and_each_action_runs_once(
    tmp_path: Path, durability: str, is_async: bool
) -> None:
    path, effects = str(tmp_path / "agent.db"), str(tmp_path / "effects")
    with open_checkpointer(path) as saver:
        graph = build(saver, lambda state: None)
        for thread in range(10):
            graph.invoke({}, {"configurable": {"thread_id": str(thread)}})
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    racers = [context.Process(target=racer, args=(path, effects, barrier, durability, is_async)) for _ in range(4)]
    for process in racers:
        process.start()
    for process in racers:
        process.join(60)
        assert process.exitcode == 0
    assert Path(effects).read_text().splitlines() == ["acted"] * 10


def test_a_second_run_waits_and_does_nothing_more(db_path: str) -> None:
    acted, going, done = list[str](), threading.Event(), threading.Event()

    def act(state: State) -> None:
        acted.append(state["answer"])
        going.set()
        done.wait(10)

    with open_checkpointer(db_path) as saver:
        graph = build(saver, act)
        graph.invoke({}, CONFIG)
        first = threading.Thread(target=graph.invoke, args=(Command(resume="one"), CONFIG))
        first.start()
        assert going.wait(10)
        second = threading.Thread(target=graph.invoke, args=(Command(resume="two"), CONFIG))
        second.start()
        time.sleep(0.2)
        assert second.is_alive()
        done.set()
        first.join(10)
        second.join(10)
        assert acted == ["one"]
        assert graph.get_state(CONFIG).values == {"answer": "one"}


def test_whoever_waits_too_long_is_told_who_has_it(db_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "WAIT", 0.2)
    going, done = threading.Event(), threading.Event()

    def act(state: State) -> None:
        going.set()
        done.wait(10)

    with open_checkpointer(db_path) as saver:
        graph = build(saver, act)
        graph.invoke({}, CONFIG)
        first = threading.Thread(target=graph.invoke, args=(Command(resume="one"), CONFIG))
        first.start()
        assert going.wait(10)
        with pytest.raises(ThreadBusyError, match="thread t is being resumed by another run") as caught:
            graph.invoke(Command(resume="two"), CONFIG)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        assert graph.get_state(CONFIG).next == ("act",)  # to look is free
        done.set()
        first.join(10)
        assert graph.get_state(CONFIG).values == {"answer": "one"}


def test_a_run_that_fails_gives_its_pause_back(db_path: str) -> None:
    def act(state: State) -> None:
        raise ConnectionError("down")

    with open_checkpointer(db_path) as saver:
        graph, kept = build(saver, act), list[BaseException]()
        graph.invoke({}, CONFIG)
        with pytest.raises(ConnectionError) as caught:
            graph.invoke(Command(resume="yes"), CONFIG)
        kept.append(caught.value)  # and with it every frame of the run
        outcome = list[str]()

        def again() -> None:
            try:
                graph.invoke(None, CONFIG)
            except Exception as error:
                outcome.append(type(error).__name__)

        other = threading.Thread(target=again)
        other.start()
        other.join(5)
        assert outcome == ["ConnectionError"]


def test_a_run_that_was_cancelled_gives_its_pause_back(db_path: str) -> None:
    going = threading.Event()

    def act(state: State) -> None:
        going.set()
        time.sleep(0.3)

    async def main() -> None:
        async with open_checkpointer(db_path) as saver:
            graph = build(saver, act, is_async=True)
            await graph.ainvoke({}, CONFIG)
            run = asyncio.create_task(graph.ainvoke(Command(resume="yes"), CONFIG))
            await asyncio.to_thread(going.wait, 10)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert await asyncio.wait_for(graph.ainvoke(None, CONFIG), 5) == {"answer": "yes"}

    asyncio.run(main())


def killed(path: str) -> None:
    with open_checkpointer(path) as saver:
        build(saver, lambda state: os._exit(9)).invoke(Command(resume="yes"), CONFIG, durability="sync")


def test_a_process_that_dies_does_not_keep_its_thread(db_path: str) -> None:
    acted = list[str]()
    with open_checkpointer(db_path) as saver:
        graph = build(saver, lambda state: acted.append(state["answer"]))
        graph.invoke({}, CONFIG)
        dying = multiprocessing.get_context("spawn").Process(target=killed, args=(db_path,))
        dying.start()
        dying.join(30)
        assert dying.exitcode == 9
        start = time.monotonic()
        graph.invoke(None, CONFIG)
        assert acted == ["yes"]
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("pauses", [1, 2], ids=["finishes", "pauses again"])
def test_an_ended_run_leaves_no_claim_behind(db_path: str, pauses: int, is_async: bool) -> None:
    def act(state: State) -> State | None:
        return {"answer": interrupt("really?")} if pauses == 2 else None

    async def resume(graph: Any) -> None:
        await graph.ainvoke(Command(resume="yes"), CONFIG)

    with open_checkpointer(db_path) as saver:
        graph = build(saver, act, is_async=is_async and pauses == 1)
        gc.disable()  # its end is seen without the collector
        try:
            graph.invoke({}, CONFIG)
            if is_async:
                asyncio.run(resume(graph))
            else:
                graph.invoke(Command(resume="yes"), CONFIG)
            deadline = time.monotonic() + 5
            while (claim := _claim(saver)) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert claim == ""
        finally:
            gc.enable()


def test_a_run_that_could_not_begin_gives_its_pause_back(db_path: str) -> None:
    def ask(state: State) -> State:
        return {"answer": str(interrupt("how many?", response_schema=int))}

    with open_checkpointer(db_path) as saver:
        builder = StateGraph(State)
        builder.add_node("ask", ask)
        builder.add_edge(START, "ask")
        graph = builder.compile(checkpointer=saver)
        graph.invoke({}, CONFIG)
        with pytest.raises(ValueError, match="int"):
            graph.invoke(Command(resume="many"), CONFIG)
        deadline = time.monotonic() + 5
        while (claim := _claim(saver)) and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        assert claim == ""


def _claim(saver: Checkpointer) -> str:
    def work(tx: Any) -> str:
        return str(tx.execute("SELECT claim FROM hitl_namespaces WHERE thread_id = 't'").fetchone()[0])

    return saver.ledger.read(work)
