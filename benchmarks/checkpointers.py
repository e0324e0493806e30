"""Our checkpointers beside the official ones, on SQLite and PostgreSQL: time and disk, in one run, taking turns.

    growth    one thread of agent and tool turns, a new message from the user every ten
    pauses    many threads pause at `interrupt()` and are resumed; async: 32 at once
    inbox     which threads wait for a person? The official savers have to be read through
    limit     what the disk itself takes: each step's new messages appended to a file, and fsync

    python benchmarks/checkpointers.py [--database sqlite postgres] [--turns 50 200] [--threads 200] [--rounds 3]
                                       [--svg growth.svg]

Compare only numbers of one run: machines are noisy. Above 1, ours is better. PostgreSQL is a server of its own, from
the binaries that are installed here.
"""

import argparse
import asyncio
import contextlib
import math
import os
import pickle
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from hitl_graph.checkpointers import PostgresCheckpointer, SqliteCheckpointer
from hitl_graph.checkpointers.base import Checkpointer

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.postgres import Cluster

Saver = BaseCheckpointSaver[Any]
CONTESTANTS = ("ours", "official", "ours, async", "official, async")
LIMIT = "limit"


@contextlib.asynccontextmanager
async def opened(name: str, where: str) -> AsyncGenerator[Saver]:
    """A saver on a file, or on the database that a conninfo names."""
    is_file = "dbname=" not in where
    if name.startswith("ours"):
        with SqliteCheckpointer(where) if is_file else PostgresCheckpointer(where) as ours:
            yield ours
    elif name == "official":
        with SqliteSaver.from_conn_string(where) if is_file else PostgresSaver.from_conn_string(where) as official:
            official.setup()
            yield official
    elif is_file:
        async with AsyncSqliteSaver.from_conn_string(where) as lite:
            yield lite
    else:
        async with AsyncPostgresSaver.from_conn_string(where) as postgres:
            await postgres.setup()
            yield postgres


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


async def growth(name: str, where: str, turns: int) -> dict[str, float]:
    rng, is_async = random.Random(7), "async" in name
    async with opened(name, where) as saver:
        graph = agent(saver, rng, is_async)
        start = time.perf_counter()
        for _ in range(turns // 10):
            await invoke(graph, {"messages": [HumanMessage(text(rng))]}, "one", is_async)
        took = (time.perf_counter() - start) * 1000 / steps(turns)
    return {f"ms a step, {turns} turns": took, f"MB on disk, {turns} turns": disk(where) / 1e6}


def steps(turns: int) -> int:
    return turns // 10 * 22


def limit(path: str, turns: int) -> dict[str, float]:
    """Each step's new message at the end of a file, with fsync: less than this no durable checkpointer can do."""
    rng = random.Random(7)
    start = time.perf_counter()
    with open(path, "ab", buffering=0) as file:
        for _ in range(steps(turns)):
            file.write(pickle.dumps(AIMessage(text(rng)).model_dump()))
            os.fsync(file.fileno())
    took = (time.perf_counter() - start) * 1000 / steps(turns)
    return {f"ms a step, {turns} turns": took, f"MB on disk, {turns} turns": os.path.getsize(path) / 1e6}


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
    if isinstance(saver, Checkpointer):
        return len(saver.pending_interrupts(limit=None))
    heads = dict[str, bool]()  # the newest checkpoints come first
    async for found in every(saver):
        thread = found.config["configurable"]["thread_id"]
        heads.setdefault(thread, any(write[1] == "__interrupt__" for write in found.pending_writes or ()))
    return sum(heads.values())


async def every(saver: Saver) -> AsyncIterator[Any]:
    if isinstance(saver, AsyncSqliteSaver | AsyncPostgresSaver):
        async for found in saver.alist(None):
            yield found
    else:
        for found in saver.list(None):
            yield found


def disk(where: str) -> int:
    """Bytes of the file and its log, or of the tables and their indexes."""
    if "dbname=" not in where:
        return sum(os.path.getsize(where + end) for end in ("", "-wal") if os.path.exists(where + end))
    with psycopg.connect(where) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = current_schema()::regnamespace"
        ).fetchone()
    assert row is not None
    return int(row[0])


@contextlib.contextmanager
def place(database: str, cluster: Cluster | None) -> Iterator[str]:
    """An empty file or database."""
    if cluster is not None and database == "postgres":
        with cluster.database() as dsn:
            yield dsn
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield os.path.join(folder, "bench.db")


def measure(database: str, options: argparse.Namespace, cluster: Cluster | None) -> Iterator[tuple[str, str, float]]:
    """(contestant, what, value) of each round; the contestants take turns, each with a database of its own."""
    works = [*((growth, turns) for turns in options.turns), (pauses, options.threads)]
    for round_ in range(options.rounds):
        for done, (work, size) in enumerate(works):
            tell(
                f"{database}: round {round_ + 1} of {options.rounds}, {work.__name__} {size} ({done + 1}/{len(works)})"
            )
            for name in CONTESTANTS if round_ % 2 else reversed(CONTESTANTS):
                with place(database, cluster) as where:
                    for what, value in asyncio.run(work(name, where, size)).items():
                        yield name, what, value
            if work is growth:
                with place("sqlite", None) as where:
                    for what, value in limit(where, size).items():
                        yield LIMIT, what, value


def tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


Figures = dict[str, dict[str, float]]  # what -> contestant -> median


def report(database: str, medians: Figures, turns: list[int]) -> None:
    tell("")
    if len(turns) > 1:
        small, large = (medians[f"MB on disk, {n} turns"] for n in sorted(turns)[-2:])
        span = math.log(sorted(turns)[-1] / sorted(turns)[-2])
        medians["growth exponent of disk"] = {name: math.log(large[name] / small[name]) / span for name in large}
    columns = (*CONTESTANTS, LIMIT)
    print(f"{database:28}" + "".join(f"{name:>17}" for name in columns) + f"{'ratio':>9}{'async':>8}")
    for what, by in medians.items():
        ratios = [by[f"official{end}"] / by[f"ours{end}"] for end in ("", ", async")]
        row = "".join(f"{by[name]:17.2f}" if name in by else f"{'-':>17}" for name in columns)
        print(f"{what:28}{row}" + ("" if "exponent" in what else f"{ratios[0]:9.2f}{ratios[1]:8.2f}"))
    print()


def draw(path: str, figures: dict[str, Figures], turns: list[int]) -> None:
    """Disk and time against turns, on logarithmic axes, where a straight line of slope 1 means: costs what it adds."""
    import matplotlib as mpl
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    mpl.rcParams.update({"svg.hashsalt": "hitl-graph", "font.family": "sans-serif", "font.size": 10})
    styles = {"ours": ("#1f6f4a", "-", "o"), "official": ("#b4442c", "--", "s"), LIMIT: ("#777777", ":", None)}
    figure, axes = pyplot.subplots(len(figures), 2, figsize=(9, 3.1 * len(figures)), squeeze=False)
    for row, (database, medians) in zip(axes, figures.items(), strict=True):
        for axis, what, unit in zip(row, ("MB on disk", "ms a step"), ("MB", "ms"), strict=True):
            for name, (colour, dash, mark) in styles.items():
                seen = [medians[f"{what}, {n} turns"][name] for n in turns]
                label = {"ours": "hitl-graph", "official": "official saver", LIMIT: "append + fsync"}[name]
                axis.plot(turns, seen, dash, color=colour, marker=mark, markersize=4, label=label)
                told = f"{seen[-1]:,.0f} {unit}" if seen[-1] >= 100 else f"{seen[-1]:.2g} {unit}"
                beside = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
                axis.annotate(told, (turns[-1], seen[-1]), color=colour, **beside)
            title = {"sqlite": "SQLite", "postgres": "PostgreSQL"}[database]
            axis.set(xscale="log", yscale="log", title=f"{title}: {what}", xlabel="turns", xticks=turns)
            axis.set_xlim(turns[0] * 0.9, turns[-1] * 1.9)
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axis.minorticks_off()
            axis.grid(visible=True, alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--turns", type=int, nargs="+", default=[50, 200], help="lengths of the growing thread")
    parser.add_argument("--threads", type=int, default=200, help="how many threads pause; every second is resumed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--svg", help="draw growth against turns into this file")
    options = parser.parse_args()
    figures: dict[str, Figures] = {}
    with Cluster() if "postgres" in options.database else contextlib.nullcontext() as cluster:
        for database in options.database:
            seen: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
            for name, what, value in measure(database, options, cluster):
                seen[what][name].append(value)
            figures[database] = {what: {n: statistics.median(v) for n, v in by.items()} for what, by in seen.items()}
            report(database, figures[database], options.turns)
    if options.svg:
        draw(options.svg, figures, sorted(options.turns))


if __name__ == "__main__":
    main()
