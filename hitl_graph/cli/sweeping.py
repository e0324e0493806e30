"""`hitl sweep`: take what is due of deadlines, where no worker of ours runs."""

import logging
import os
import signal
from typing import Annotated, Any

import typer

from hitl_graph.cli.app import Command, Db, Json, app, note, open_ledger
from hitl_graph.cli.working import turn_reporter
from hitl_graph.deadlines import Sweeper

__all__: list[str] = []


@app.command("sweep", cls=Command)
def sweep(
    once: Annotated[bool, typer.Option("--once", help="Take what is due by now, then end.")] = False,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks for new requests.")] = 1.0,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """Remind, escalate and decide what is due, without a graph.

    `hitl worker` does it, too; this is for threads that something else resumes. Runs until SIGTERM or Ctrl-C.
    """
    with open_ledger(db) as ledger:
        sweeper = Sweeper(ledger, on_turn=turn_reporter(ledger, as_json))
        if once:
            if not sweeper.run_once():
                due = sweeper.next_due()
                note(
                    f"Nothing is due before {due.astimezone():%Y-%m-%d %H:%M:%S}." if due else "Nothing has a deadline."
                )
            return

        def stop(*_: Any) -> None:
            sweeper.stop()

        logging.basicConfig(format="%(message)s")  # what goes wrong is logged, and it goes on
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        note(f"Sweeper {os.getpid()} on {ledger.database.url}. Ctrl-C ends it.")
        sweeper.run(interval=interval)
