"""A writer whose drafts are reviewed, with a delivery that leaves a line in a file, in whatever process it runs.

It is a graph with an `OutputReviewNode`, or an agent of LangChain with the middleware.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, Literal

from langchain.agents import create_agent
from langgraph.checkpoint.base import BaseCheckpointSaver

from hitl_graph.adapters.langchain import OutputReviewMiddleware
from hitl_graph.effects import idempotency_key
from hitl_graph.nodes import OutputReviewNode
from hitl_graph.testing import ScriptedChatModel
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer
from tests.invariants.agents import ran, write_effect
from tests.invariants.processes import Report, child
from tests.reviews import Colour, Graph, writing

__all__ = ["Way", "build", "crash", "delivered"]

Way = Literal["node", "middleware"]


def build(
    checkpointer: BaseCheckpointSaver[Any],
    effects: str | os.PathLike[str],
    *,
    deaths: int = 0,
    colour: Colour = "sync",
    way: Way = "node",
    **options: Any,
) -> Graph:
    """The graph.

    Args:
        way: How it is built.
        effects: Gets one line for each delivery: the draft, and the key of the delivery.
        deaths: The first so many deliveries kill their process, after the line.
        options: For the node, or the middleware.
    """

    def deliver(draft: str) -> str:
        deadly = len(ran(f"{effects}.deaths")) < deaths
        write_effect(effects, f"{draft} {idempotency_key()}")
        if deadly:
            write_effect(f"{effects}.deaths", "died")
            os.kill(os.getpid(), signal.SIGKILL)
        return f"sent {draft}"

    async def adeliver(draft: str) -> str:
        await asyncio.sleep(0)
        return deliver(draft)

    options.setdefault("delivery", adeliver if colour == "async" else deliver)
    drafts = [f"draft-{number}" for number in range(1, 100)]
    if way == "middleware":
        middleware = OutputReviewMiddleware(**options)
        return create_agent(ScriptedChatModel(drafts), [], middleware=[middleware], checkpointer=checkpointer)
    return writing(drafts, OutputReviewNode("draft", revise="writer", **options)).compile(checkpointer=checkpointer)


def delivered(effects: str | os.PathLike[str]) -> list[str]:
    """The drafts that were delivered, each as often as it was."""
    return [line.split(" ")[0] for line in ran(effects)]


def work_once(report: Report, path: str, effects: str, colour: Colour, deaths: int, options: dict[str, Any]) -> None:
    """A worker in a process of its own."""
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, deaths=deaths, colour=colour, **options)
        worker = Worker(graph, checkpointer.ledger)
        results = asyncio.run(worker.arun_once()) if colour == "async" else worker.run_once()
        for result in results:
            report(result.thread_id, result.status, repr(result.error))


def crash(path: Path, effects: Path, colour: Colour, deaths: int = 1, **options: Any) -> None:
    """Let a worker run into its death."""
    with child(work_once, str(path), str(effects), colour, deaths, options) as worker:
        assert worker.end() == []
        assert worker.process.exitcode != 0
