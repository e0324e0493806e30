"""Our checkpointer beside the official SQLite ones: time and disk, in one run, taking turns.

    growth    one thread of agent and tool turns, a new message from the user every ten
    pauses    many threads pause at `interrupt()` and are resumed; async: 32 at once
    inbox     which threads wait for a person? The official savers have to be read through

    python benchmarks/checkpointers.py [--turns 50 200] [--threads 200] [--rounds 3]

Compare only numbers of one run: machines are noisy. Above 1, ours is better.
"""

import argparse
import asyncio
import contextlib
import math
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from hitl_graph.checkpointers import SqliteCheckpointer

Saver = BaseCheckpointSaver[Any]
CONTESTANTS = ("ours", "official", "ours, async", "official, async")


@contextlib.asynccontextmanager
async def opened(name: str, path: str) -> AsyncGenerator[Saver]:
    if name.startswith("ours"):
        with SqliteCheckpointer(path) as ours:
            yield ours
    elif name == "official":
        with SqliteSaver.from_conn_string(path) as official:
            yield official
    else:
        async with AsyncSqliteSaver.from_conn_string(path) as aofficial:
            yield aofficial


def text(rng: random.Random) -> str:
    """0.3 to 2 KB that do not compress to nothing."""
    return " ".join(f"{rng.getrandbits(40):x}" for _ in range(rng.randint(30, 200)))


def agent(saver: Saver, rng: random.Random, is_async: bool) -> Any:
    """Five agent turns with a tool call each, then an answer."""

    async def model(state: MessagesState) -> dict[str, Any]:
        return said(state)

    def said(state: MessagesState) -> dict[str, Any]:
        since = next(i for i, m in enumerate(reversed(state["messages"])) if isinstance(m, HumanMessage))
        calls = [{"name": "look", "args": {"q": text(rng)[:60]}, "id": f"c{len(state['messages'])}"}]
        return {"messages": [AIMessage(text(rng), tool_calls=calls if since < 20 else [])]}

    async def atools(state: MessagesState) -> dict[str, Any]:
        return tools(state)

    def tools(state: MessagesState) -> dict[str, Any]:
        last = state["messages"][-1]
        assert isinstance(last, AIMessage)
        return {"messages": [ToolMessage(text(rng), tool_call_id=call["id"]) for call in last.tool_calls]}

    def following(state: MessagesState) -> str:
        last = state["messages"][-1]
        return "tools" if isinstance(last, AIMessage) and last.tool_calls else END

    builder = StateGraph(MessagesState)
    builder.add_node("agent", model if is_async else said)
    builder.add_node("tools", atools if is_async else tools)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", following)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


def gate(saver: Saver, is_async: bool) -> Any:
    """Pauses once."""

    async def aask(state: MessagesState) -> dict[str, Any]:
        return ask(state)

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(str(interrupt({"what": "pay", "eur": 10})))]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", aask if is_async else ask)
    builder.add_edge(START, "ask")
    return builder.compile(checkpointer=saver)


async def invoke(graph: Any, given: Any, thread: str, is_async: bool) -> None:
    config = {"configurable": {"thread_id": thread}, "recursion_limit": 10_000}
    if is_async:
        await graph.ainvoke(given, config, durability="sync")
    else:
        graph.invoke(given, config, durability="sync")


async def growth(name: str, path: str, turns: int) -> dict[str, float]:
    rng, is_async = random.Random(7), "async" in name
    async with opened(name, path) as saver:
        graph = agent(saver, rng, is_async)
        start = time.perf_counter()
        for _ in range(turns // 10):
            await invoke(graph, {"messages": [HumanMessage(text(rng))]}, "one", is_async)
        steps = turns // 10 * 22
        took = (time.perf_counter() - start) * 1000 / steps
    return {f"ms a step, {turns} turns": took, f"MB on disk, {turns} turns": disk(path) / 1e6}


async def pauses(name: str, path: str, threads: int) -> dict[str, float]:
    rng, is_async = random.Random(5), "async" in name
    gates = asyncio.Semaphore(32 if is_async else 1)
    async with opened(name, path) as saver:
        graph = gate(saver, is_async)

        async def one(thread: int, given: Any) -> None:
            async with gates:
                await invoke(graph, given, str(thread), is_async)

        start = time.perf_counter()
        history: list[BaseMessage] = [HumanMessage(text(rng)) for _ in range(10)]
        await asyncio.gather(*(one(thread, {"messages": history}) for thread in range(threads)))
        middle = time.perf_counter()
        await asyncio.gather(*(one(thread, Command(resume="yes")) for thread in range(0, threads, 2)))
        end = time.perf_counter()
        found = await waiting(saver)
        assert found == threads - len(range(0, threads, 2)), f"{name} found {found}"
        asked = time.perf_counter() - end
    return {
        "ms a pause": (middle - start) * 1000 / threads,
        "ms a resume": (end - middle) * 1000 / len(range(0, threads, 2)),
        "ms to find who waits": asked * 1000,
    }


async def waiting(saver: Saver) -> int:
    """How many threads wait for a person."""
    if isinstance(saver, SqliteCheckpointer):
        return len(saver.pending_interrupts())
    heads = dict[str, bool]()  # the newest checkpoints come first
    async for found in every(saver):
        thread = found.config["configurable"]["thread_id"]
        heads.setdefault(thread, any(write[1] == "__interrupt__" for write in found.pending_writes or ()))
    return sum(heads.values())


async def every(saver: Saver) -> AsyncIterator[Any]:
    if isinstance(saver, AsyncSqliteSaver):
        async for found in saver.alist(None):
            yield found
    else:
        for found in saver.list(None):
            yield found


def disk(path: str) -> int:
    return sum(os.path.getsize(path + end) for end in ("", "-wal") if os.path.exists(path + end))


def measure(options: argparse.Namespace) -> Iterator[tuple[str, str, float]]:
    """(contestant, what, value) of each round; the contestants take turns, each on files of its own."""
    for round_ in range(options.rounds):
        for work, size in (*((growth, turns) for turns in options.turns), (pauses, options.threads)):
            for name in CONTESTANTS if round_ % 2 else reversed(CONTESTANTS):
                with tempfile.TemporaryDirectory() as folder:
                    for what, value in asyncio.run(work(name, os.path.join(folder, "bench.db"), size)).items():
                        yield name, what, value


def report(figures: dict[str, dict[str, list[float]]], turns: list[int]) -> None:
    medians = {what: {name: statistics.median(seen) for name, seen in by.items()} for what, by in figures.items()}
    if len(turns) > 1:
        small, large = (medians[f"MB on disk, {n} turns"] for n in sorted(turns)[-2:])
        span = math.log(sorted(turns)[-1] / sorted(turns)[-2])
        medians["growth exponent of disk"] = {name: math.log(large[name] / small[name]) / span for name in large}
    print(f"{'':28}" + "".join(f"{name:>17}" for name in CONTESTANTS) + f"{'ratio':>9}{'async':>8}")
    for what, by in medians.items():
        ratios = [by[f"official{end}"] / by[f"ours{end}"] for end in ("", ", async")]
        row = "".join(f"{by[name]:17.2f}" for name in CONTESTANTS)
        print(f"{what:28}{row}" + ("" if "exponent" in what else f"{ratios[0]:9.2f}{ratios[1]:8.2f}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, nargs="+", default=[50, 200], help="lengths of the growing thread")
    parser.add_argument("--threads", type=int, default=200, help="how many threads pause; every second is resumed")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, what, value in measure(options):
        figures[what][name].append(value)
    report(figures, options.turns)


if __name__ == "__main__":
    main()
