"""Run a graph to its pause, and look at what it asks."""

from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from hitl_graph.ledger import Ledger
from hitl_graph.notebook.run import Run
from hitl_graph.notebook.session import Graph, Session, ledger_of, reviewer_named
from hitl_graph.reviewers import Reviewer
from hitl_graph.steps import arun, run

__all__ = ["areview", "review"]


def review(
    graph: Graph,
    config: RunnableConfig | dict[str, Any],
    input: Any = None,
    *,
    reviewer: str | Reviewer | None = None,
    ledger: Ledger | None = None,
    context: Any = None,
    ask: bool = False,
) -> Run:
    """Run a graph to its pause; at once, if it waits already.

    It does not wait for anybody: what it returns shows what is asked, as a form where there are widgets, and has
    the answers as methods.

    Args:
        graph: Compiled, with a checkpointer.
        config: As for `graph.invoke`; it names the thread.
        input: As for `graph.invoke`. Without one, and where people are asked already, it only looks; what is decided
            is carried out.
        reviewer: Who decides; else `HITL_REVIEWER`, else the user of the operating system. A name, or whom your
            authentication knows.
        ledger: Where the graph has a foreign checkpointer: the ledger of its nodes.
        context: As for `graph.invoke`.
        ask: Ask on the terminal until nothing is asked any more. Only in a plain terminal.

    Raises:
        NotebookError: The config names no thread, or this is no terminal and `ask` was given.
        LedgerMissingError: There is no ledger.
        Exception: What the graph raised.
    """
    session = _session(graph, config, reviewer, ledger, context)
    if ask:
        from hitl_graph.notebook.prompting import check_terminal, prompted

        check_terminal()
        return prompted(Run(session, run(session.begin(input))))
    try:
        return Run(session, run(session.begin(input)))
    except TypeError as exc:
        if "synchronous function" in str(exc):
            exc.add_note("The graph has async nodes only: run = await areview(graph, config, input).")
        raise


async def areview(
    graph: Graph,
    config: RunnableConfig | dict[str, Any],
    input: Any = None,
    *,
    reviewer: str | Reviewer | None = None,
    ledger: Ledger | None = None,
    context: Any = None,
) -> Run:
    """As `review`, for graphs that are awaited. So are the answers: `await run.aapprove()`.

    The form goes on with the graph in the event loop in which this was awaited.
    """
    session = _session(graph, config, reviewer, ledger, context)
    return Run(session, await arun(session.begin(input)), is_async=True)


def _session(
    graph: Graph, config: RunnableConfig | dict[str, Any], reviewer: Any, ledger: Ledger | None, context: Any
) -> Session:
    return Session(
        graph, ledger_of(graph, ledger), cast(RunnableConfig, config), reviewer_named(reviewer), context=context
    )
