"""The cost of safety: `ApprovalNode` with everything allowed, beside plain `ToolNode`.

The same graph (agent, tool, agent, tool ...) on the same saver, ours and the official one, sync and async. The
contestants take turns in one process; what is printed are medians, and the median of the ratios of neighbours.

    python benchmarks/safety.py [--turns 20] [--rounds 15] [--calls 1]
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.ledger import Ledger
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule

TEXT = "The invoice of the twelfth is paid, the one of the nineteenth is not. " * 8


def _look_up(number: int) -> str:
    """Look up an invoice."""
    return f"{number}: {TEXT}"


async def _alook_up(number: int) -> str:
    return _look_up(number)


look_up = StructuredTool.from_function(_look_up, _alook_up, name="look_up")


def build(node: ToolNode, saver: BaseCheckpointSaver[Any], turns: int, calls: int, is_async: bool) -> Any:
    def said(state: MessagesState) -> dict[str, Any]:
        turn = sum(isinstance(message, AIMessage) for message in state["messages"])
        if turn == turns:
            return {"messages": [AIMessage("done")]}
        wanted = [{"name": "look_up", "args": {"number": turn}, "id": f"c{turn}-{i}"} for i in range(calls)]
        return {"messages": [AIMessage("let me see", tool_calls=wanted)]}

    async def asaid(state: MessagesState) -> dict[str, Any]:
        return said(state)

    builder = StateGraph(MessagesState)
    builder.add_node("agent", asaid if is_async else said)
    builder.add_node("tools", node)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


@contextlib.asynccontextmanager
async def savers(
    folder: str, *, is_async: bool
) -> AsyncGenerator[dict[str, tuple[BaseCheckpointSaver[Any], Ledger | None]]]:
    path = os.path.join(folder, "async-" * is_async)
    with SqliteCheckpointer(path + "ours.db") as ours, Ledger.open(path + "ledger.db") as ledger:
        if is_async:
            async with AsyncSqliteSaver.from_conn_string(path + "official.db") as aofficial:
                yield {"ours": (ours, None), "official": (aofficial, ledger)}
        else:
            with SqliteSaver.from_conn_string(path + "official.db") as official:
                yield {"ours": (ours, None), "official": (official, ledger)}


async def measure(options: argparse.Namespace, folder: str, *, is_async: bool) -> None:
    allowed = Policy([Rule("*", "allow")])
    async with savers(folder, is_async=is_async) as opened:
        contestants = {
            (saver_name, node_name): build(node, saver, options.turns, options.calls, is_async)
            for saver_name, (saver, ledger) in opened.items()
            for node_name, node in (
                ("ToolNode", ToolNode([look_up])),
                ("ApprovalNode", ApprovalNode([look_up], policy=allowed, ledger=ledger)),
            )
        }
        took: dict[tuple[str, str], list[float]] = {name: [] for name in contestants}
        for round_ in range(-2, options.rounds):  # two to warm up
            for name, graph in contestants.items():
                config = {"configurable": {"thread_id": f"{name}-{round_}"}, "recursion_limit": 10_000}
                given = {"messages": [HumanMessage("which ones are open?")]}
                start = time.perf_counter()
                if is_async:
                    await graph.ainvoke(given, config, durability=options.durability)
                else:
                    graph.invoke(given, config, durability=options.durability)
                if round_ >= 0:
                    took[name].append((time.perf_counter() - start) * 1000 / options.turns)
    for saver_name in opened:
        plain, safe = took[saver_name, "ToolNode"], took[saver_name, "ApprovalNode"]
        ratio = statistics.median(b / a for a, b in zip(plain, safe, strict=True))
        print(
            f"{'async' if is_async else 'sync':6}{saver_name:10}{statistics.median(plain):12.2f}"
            f"{statistics.median(safe):16.2f}{ratio:9.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20, help="agent and tool turns in a thread")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=1, help="tool calls in a turn")
    parser.add_argument("--durability", default="sync", choices=("sync", "async", "exit"))
    options = parser.parse_args()
    print(f"{options.turns} turns of agent and tool, {options.calls} call(s) each, {options.rounds} rounds, medians")
    print(f"{'':6}{'saver':10}{'ToolNode ms':>12}{'ApprovalNode ms':>16}{'ratio':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for is_async in (False, True):
            asyncio.run(measure(options, folder, is_async=is_async))


if __name__ == "__main__":
    main()
