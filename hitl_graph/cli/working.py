"""`hitl worker`: carry out decisions, and take what is due, until it is told to stop."""

import asyncio
import importlib
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hitl_graph.cli import app as shared
from hitl_graph.cli import queries, views
from hitl_graph.cli.app import FAILED, USAGE, Command, Db, Failure, Json, app, check_database, emit, note
from hitl_graph.deadlines import Came
from hitl_graph.ledger import Ledger

__all__ = ["attached", "imported", "load_graph", "turn_reporter", "where"]


def imported(spec: str, kind: type, nouns: str, example: str) -> Any:
    """What `pkg.mod:name` names, whatever it is.

    Args:
        kind: What is wanted: if there is no such name, those of this kind are named.
        nouns: What such are called, such as `graphs`.
        example: Such as `my_agent:graph`.

    Raises:
        Failure: Nothing of that name can be imported.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name) or module_name.endswith(".py"):
        raise Failure(USAGE, f"{spec!r} names none of the {nouns}; give MODULE:NAME, such as {example}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name and (module_name == exc.name or module_name.startswith(f"{exc.name}.")):
            raise Failure(
                USAGE, f"there is no module {module_name} here or on the Python path ({os.getcwd()})"
            ) from exc
        raise Failure(FAILED, f"{module_name} cannot be imported: {where(exc)}") from exc
    except Exception as exc:
        raise Failure(FAILED, f"{module_name} cannot be imported: {where(exc)}") from exc
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            known = [n for n, value in vars(module).items() if isinstance(value, kind)]
            hint = f"; its {nouns} are {', '.join(known)}" if known else ""
            raise Failure(USAGE, f"{module_name} has no {name}{hint}") from None
    return found


def load_graph(spec: str) -> Any:
    """The compiled graph that `pkg.mod:name` names; a function of that name is called for it.

    Raises:
        Failure: Nothing of that name can be imported, or it is no compiled graph.
    """
    from langgraph.pregel import Pregel

    found = imported(spec, Pregel, "graphs", "my_agent:graph")
    if not isinstance(found, Pregel) and callable(found) and not inspect.isclass(found):
        try:
            found = found()
        except Exception as exc:
            raise Failure(FAILED, f"{spec}() failed: {where(exc)}") from exc
    if isinstance(found, Pregel):
        return found
    if inspect.iscoroutine(found):
        found.close()
    kind = type(found).__name__
    hint = "; call .compile(checkpointer=...) on it" if hasattr(found, "compile") else ""
    raise Failure(
        USAGE, f"{spec} is a {kind}; a compiled graph is needed, or a function without arguments that gives one{hint}"
    )


def where(exc: BaseException) -> str:
    """An error, and the line that raised it."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    at = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace else ""
    return f"{type(exc).__name__}: {exc}{at}"


@contextmanager
def attached(graph: Any, db: str | None, *, explicit: bool) -> Generator[tuple[Any, Ledger]]:
    """The graph with a checkpointer, and the ledger that it reports to.

    Args:
        db: What `--db` or `HITL_DB` named; None if nothing did.
        explicit: It stood on the command line.

    Raises:
        Failure: There is no checkpointer, or no ledger, or `--db` is another database than the graph's.
    """
    from langgraph.checkpoint.base import BaseCheckpointSaver

    with ExitStack() as stack:
        saver = graph.checkpointer
        if not isinstance(saver, BaseCheckpointSaver):
            if db is None:
                raise Failure(
                    USAGE,
                    "the graph has no checkpointer: compile it with checkpointer=SqliteCheckpointer('agent.db'),"
                    " or name the database that its threads are in with --db FILE",
                )
            check_database(db)
            from hitl_graph.checkpointers import SqliteCheckpointer

            saver = stack.enter_context(SqliteCheckpointer(db, directory=shared.directory()))
            graph = graph.copy(update={"checkpointer": saver})
        ledger = getattr(saver, "ledger", None) or _ledger_of_nodes(graph)
        if ledger is not None and (people := shared.directory()) is not None:
            ledger.directory = people
        if ledger is None:
            if db is None:
                raise Failure(
                    USAGE, "the graph's checkpointer keeps no ledger; name the database with the ledger with --db FILE"
                )
            ledger = stack.enter_context(shared.open_ledger(db))
        elif db is not None and explicit and not _same(db, ledger.database.url):
            raise Failure(USAGE, f"the graph keeps its threads in {ledger.database.url}, not in {db}; leave --db out")
        yield graph, ledger


def _ledger_of_nodes(graph: Any) -> Ledger | None:
    found = (getattr(getattr(node, "bound", None), "ledger", None) for node in graph.nodes.values())
    return next((ledger for ledger in found if isinstance(ledger, Ledger)), None)


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


@app.command("worker", cls=Command)
def run_worker(
    ctx: typer.Context,
    graph: Annotated[
        str, typer.Argument(metavar="MODULE:GRAPH", help="A compiled graph, or a function that gives one.")
    ],
    once: Annotated[bool, typer.Option("--once", help="Carry out what is decided by now, then end.")] = False,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = 0.5,
    sync: Annotated[bool, typer.Option("--sync", help="Use invoke, for a checkpointer without async methods.")] = False,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """Resume the threads whose requests are decided; remind, escalate and decide what is due.

    Runs until SIGTERM or Ctrl-C, and then still finishes the thread that it is at. A second one ends it at once; of a
    tool that was running then, a person is asked what became of it.
    """
    source = ctx.get_parameter_source("db")
    named = db if source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT") else None
    with attached(load_graph(graph), named, explicit=source is not None and source.name == "COMMANDLINE") as (
        found,
        ledger,
    ):
        if not shared.debugging():  # each failure is one line of ours, here
            logging.getLogger("hitl_graph.worker").setLevel(logging.CRITICAL)
        if not once:
            note(f"Worker {os.getpid()} for {graph} on {ledger.database.url}. Ctrl-C ends it.")
        tell, tell_turn = _reporter(ledger, as_json), turn_reporter(ledger, as_json)
        failed = asyncio.run(_serve(found, ledger, once, interval, sync, tell, tell_turn))
        if once and failed:
            raise typer.Exit(FAILED)


def _reporter(ledger: Ledger, as_json: bool) -> Callable[[Any], None]:
    def tell(result: Any) -> None:
        error = f"{type(result.error).__name__}: {result.error}" if result.error else None
        if as_json:
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            told = {"thread_id": result.thread_id, "status": result.status, "request_ids": list(result.request_ids)}
            emit({"at": at, **told, "message_ids": list(result.message_ids), "error": error})
            return
        short = queries.short_ids(ledger, result.request_ids)
        why = f"  {views.visible(error)}" if error else ""
        ids = ", ".join([*(short[own] for own in result.request_ids), *(f"message {n}" for n in result.message_ids)])
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        print(f"{now}  {result.status:<8}  thread {views.visible(result.thread_id)}  {ids}{why}", flush=True)

    return tell


def turn_reporter(ledger: Ledger, as_json: bool) -> Callable[[Came], None]:
    """Prints each turn of a deadline, one a line."""

    def tell(came: Came) -> None:
        event = "lapsed" if came.lapsed else _TURNS[came.turn.then]
        if as_json:
            at, due = (moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") for moment in
                       (datetime.now(UTC), came.turn.at.astimezone(UTC)))  # fmt: skip
            told = {"thread_id": came.request.thread_id, "status": event, "request_ids": [came.request.id]}
            emit({"at": at, **told, "due": due, "to": list(came.to), "error": None})
            return
        [short] = queries.short_ids(ledger, [came.request.id]).values()
        if came.lapsed:
            what = f"not approved: {came.lapsed}; it waits on"
        elif came.request.decision is not None:
            what = str(came.request.decision.message)
        else:
            what = f"to {', '.join('anybody' if selector == '*' else selector for selector in came.to)}"
        late = f"  ({views.age(came.turn.at, ledger.clock())} late)" if came.late >= 60 else ""
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        named = views.visible(f"{came.request.thread_id}  {short}  {what}{late}")
        print(f"{now}  {event:<8}  thread {named}", flush=True)

    return tell


_TURNS = {"remind": "reminded", "escalate": "escalated", "reject": "rejected", "approve": "approved"}


async def _serve(
    graph: Any,
    ledger: Ledger,
    once: bool,
    interval: float,
    sync: bool,
    tell: Callable[[Any], None],
    tell_turn: Callable[[Came], None],
) -> bool:
    """Returns whether a thread failed in the last round."""
    from hitl_graph.worker import Worker

    worker = Worker(graph, ledger, on_resumed=tell, on_turn=tell_turn)

    def stop() -> None:
        worker.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # the second one is obeyed even by a tool that does not return
        note("Stopping when this thread is done; once more to stop at once.")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if not once:
        await (asyncio.to_thread(worker.run, interval=interval) if sync else worker.arun(interval=interval))
        return False
    results = await (asyncio.to_thread(worker.run_once) if sync else worker.arun_once())
    if not results:
        note("Nothing is decided that waits to be carried out.")
    return any(result.status == "failed" for result in results)
