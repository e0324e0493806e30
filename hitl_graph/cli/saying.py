"""`hitl say`: a message into a thread, whatever it waits for."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from hitl_graph.cli import queries, views
from hitl_graph.cli.app import UNKNOWN, USAGE, As, Command, Db, Failure, Json, app, emit, open_ledger, reviewer_name
from hitl_graph.cli.working import attached, load_graph

__all__: list[str] = []


class _Way(StrEnum):
    """What a message does while people are asked."""

    queue = "queue"
    answer = "answer"
    withdraw = "withdraw"


@app.command("say", cls=Command)
def say(
    ctx: typer.Context,
    thread: Annotated[str, typer.Argument(metavar="THREAD", help="A thread, or the beginning of its name.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The message.")],
    graph: Annotated[
        str | None,
        typer.Option("--graph", metavar="MODULE:GRAPH", help="Run this graph with it. Without one, it is queued."),
    ] = None,
    while_waiting: Annotated[
        _Way, typer.Option("--while-waiting", help="What it does while people are asked in the thread.")
    ] = _Way.queue,
    sender: As = None,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """Send a message into a thread: queued for a worker, or as an answer, or in place of what waits."""
    who = reviewer_name(sender)
    if not text.strip():
        raise Failure(USAGE, "the message is empty; nothing was sent")
    if graph is None:
        from hitl_graph.chat import queue

        if while_waiting is not _Way.queue:
            raise Failure(USAGE, f"--while-waiting {while_waiting} needs the graph: --graph MODULE:GRAPH")
        with open_ledger(db) as ledger:
            name = _known(queries.thread(ledger, thread), thread)
            _tell(name, "queued", queue(ledger, name, text, sender=who), (), as_json)
        return
    from hitl_graph.chat import Chat

    source = ctx.get_parameter_source("db")
    named = db if source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT") else None
    with attached(load_graph(graph), named, explicit=source is not None and source.name == "COMMANDLINE") as (
        found,
        ledger,
    ):
        name = _known(queries.thread(ledger, thread), thread)
        sent = Chat(found, ledger, while_waiting=while_waiting.value).send(name, text, sender=who)
        _tell(name, sent.status, sent.message_id, sent.requests, as_json, sent.error)


def _known(name: str | None, thread: str) -> str:
    if name is None:
        raise Failure(UNKNOWN, f"nothing was ever asked or run in a thread {thread!r}, or several begin so")
    return name


def _tell(
    thread: str, status: str, number: Any, requests: tuple[str, ...], as_json: bool, error: Exception | None = None
) -> None:
    problem = f"{type(error).__name__}: {error}" if error is not None else None
    if as_json:
        emit(
            {
                "thread_id": thread,
                "status": status,
                "message_id": number,
                "request_ids": list(requests),
                "error": problem,
            }
        )
        return
    said = {
        "sent": "sent; the graph ran with it",
        "answered": "recorded as the answer",
        "withdrawn": "what waited is withdrawn; the message goes on instead",
        "queued": "queued; a worker delivers it when the thread has come to its end",
    }[status]
    print(f"thread {views.visible(thread)}: {said}")
    if problem is not None:
        print(f"It did not get through yet and is tried again by the next worker: {views.visible(problem)}")
