"""`EscalationNode` while all is well: what passing through costs at each step of a run.

A graph goes round (agent, tool, watch) with a history of so many messages in which nothing is wrong; the time that the
node itself takes is measured, in a run that keeps its messages, and in one that is resumed from its checkpoint at each
step, as a worker does. With `--postgres DSN` the ledger is read over there.

    python benchmarks/escalation.py [--steps 100] [--postgres DSN]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from stuck import history

from hitl_graph.checkpointers import PostgresCheckpointer, SqliteCheckpointer
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.nodes import EscalationNode

SIZES = (10, 200, 2000)


class Timed(EscalationNode):
    """Notes what each call takes."""

    took: list[float]

    def invoke(self, input: Any, config: RunnableConfig | None = None, **more: Any) -> Any:
        begun = time.perf_counter()
        try:
            return super().invoke(input, config, **more)
        finally:
            self.took.append(time.perf_counter() - begun)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **more: Any) -> Any:
        begun = time.perf_counter()
        try:
            return await super().ainvoke(input, config, **more)
        finally:
            self.took.append(time.perf_counter() - begun)


def measure(saver: Checkpointer, length: int, steps: int, how: str) -> float:
    """Milliseconds that the node takes, the median of so many steps."""
    messages = history(length + 2 * steps, 60)
    node = Timed("agent")
    node.took = []
    thread: RunnableConfig = {
        "configurable": {"thread_id": f"{how}-{length}-{time.time_ns()}"},
        "recursion_limit": 10_000,
    }

    def agent(state: MessagesState) -> dict[str, Any]:
        here = len(state["messages"])
        return {"messages": messages[here : here + 2]}

    def route(state: MessagesState) -> str:
        return "watch" if len(state["messages"]) < len(messages) else "__end__"

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("watch", node)
    builder.add_edge(START, "watch")
    builder.add_conditional_edges("agent", route, ["watch", "__end__"])
    graph = builder.compile(checkpointer=saver)
    given: Any = {"messages": messages[:length]}
    if how == "async":
        asyncio.run(graph.ainvoke(given, thread, durability="sync"))
    elif how == "sync":
        graph.invoke(given, thread, durability="sync")
    else:
        while len(graph.invoke(given, thread, durability="sync", interrupt_after=["watch"])["messages"]) < len(
            messages
        ):
            given = None
    return statistics.median(node.took[1:]) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="steps to time, after the history")
    parser.add_argument("--postgres", metavar="DSN", help="measure there, too")
    options = parser.parse_args()
    print(f"{options.steps} steps after a history of so many messages; milliseconds that the node takes, medians")
    print(f"{'':10}{'messages':>10}{'sync':>10}{'async':>10}{'resumed':>10}")
    with tempfile.TemporaryDirectory() as folder:
        savers: dict[str, Checkpointer] = {"sqlite": SqliteCheckpointer(Path(folder) / "agent.db")}
        if options.postgres:
            savers["postgres"] = PostgresCheckpointer(options.postgres, schema="hitl_benchmark")
        for name, saver in savers.items():
            with saver:
                measure(saver, 10, 10, "sync")  # to warm up
                for length in SIZES:
                    told = [measure(saver, length, options.steps, how) for how in ("sync", "async", "resumed")]
                    print(f"{name:10}{length:10}" + "".join(f"{took:10.3f}" for took in told))


if __name__ == "__main__":
    main()
