"""`hitl history`: what was asked, decided and executed in a thread."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from hitl_graph.card.words import done, happened
from hitl_graph.cli import queries, views
from hitl_graph.cli.app import UNKNOWN, Command, Db, Failure, Json, app, emit, open_ledger
from hitl_graph.ledger import Ledger, denials
from hitl_graph.model import Decision, Request, from_ms

__all__: list[str] = []

_BY_PEOPLE = ("voted", "claimed", "handed_back", "delegated", "taken_back")
_BY_TIME = ("reminded", "escalated", "timed_out")
_HAPPENED = {"done": "ran", "reserved": "started", "not_done": "not done", "paused": "asks itself"}


@app.command("history", cls=Command)
def show_history(
    thread: Annotated[str, typer.Argument(metavar="THREAD", help="A thread, or the beginning of its name.")],
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """What was asked, decided and executed in a thread, in the order in which it happened."""
    with open_ledger(db) as ledger:
        name = queries.thread(ledger, thread)
        if name is None:
            raise Failure(UNKNOWN, f"nothing was ever asked or run in a thread {thread!r}, or several begin so")
        events = sorted(_events(ledger, name), key=lambda event: (event["at"], event["request_id"] or ""))
        if as_json:
            for event in events:
                at = from_ms(event["at"])
                emit({**event, "at": at.isoformat().replace("+00:00", "Z"), "thread_id": name})
            return
        short = queries.short_ids(ledger, [event["request_id"] for event in events if event["request_id"]])
        rows = [
            (
                views.clock(event["at"]),
                event["event"],
                short.get(event["request_id"], "-"),
                event["by"] or "-",
                event["text"],
            )
            for event in events
        ]
        out = views.console()
        views.show(out, [views.table(out, ("TIME", "EVENT", "ID", "BY", "WHAT"), rows, whole=(0, 1, 2), main=4)])


def _events(ledger: Ledger, thread: str) -> Iterator[dict[str, Any]]:
    def event(
        at: datetime | int | None, name: str, request_id: str | None, by: str | None, text: str
    ) -> dict[str, Any]:
        ms = int(at.timestamp() * 1000) if isinstance(at, datetime) else at or 0
        return {"at": ms, "event": name, "request_id": request_id, "by": by and views.visible(by), "text": text}

    asked = {request.id: request for request in ledger.history(thread)}
    for request in asked.values():
        reason = f"  ({views.visible(request.reason)})" if request.reason else ""
        yield event(request.created_at, "asked", request.id, None, views.what(request) + reason)
        if request.decided_at is not None:
            decision = request.decision
            name = "decided" if decision is None else views.DONE[decision.type]
            name = done(request, decision) if decision is not None and request.is_audit else name
            yield event(request.decided_at, name, request.id, request.reviewer, _answer(request, request.decision))
    for at_ms, name, request_id, actor, body in queries.closings(ledger, thread):
        known, people = asked.get(request_id), name in _BY_PEOPLE
        text = _handled(name, body) if people or name in _BY_TIME else (known.note if known else None) or ""
        yield event(at_ms, name.replace("_", " "), request_id, actor if people else None, views.visible(text))
    for denial in ledger.read(denials.of_thread, thread):
        shown = views.visible(denial.tool) if denial.args is None else views.call(denial.tool, denial.args)
        yield event(denial.at, "denied", None, None, f"{shown}  ({views.visible(denial.reason)})")
    for row in ledger.executed(thread):
        took = f" in {row['ended_ms'] - row['started_ms']} ms" if row["ended_ms"] else ""
        error = f": {views.visible(row['error'])}" if row["error"] else ""
        text = f"{views.visible(row['tool'])} {row['state']}{took}{error}  ({views.visible(row['reason'])})"
        happened = _HAPPENED.get(row["state"], str(row["state"]))
        yield event(row["started_ms"], happened, row["request_id"], None, text)


def _handled(name: str, body: dict[str, Any]) -> str:
    """What somebody did with a request that waits, or what time did."""
    if name == "claimed" and isinstance(until := body.get("until_ms"), int):
        return f"until {views.clock(until)}"
    return happened(name, body)


def _answer(request: Request, decision: Decision | None) -> str:
    if decision is None:
        return "(redacted)"
    parts = []
    if decision.type in request.labels:
        parts.append(views.visible(request.labels[decision.type]))
    if decision.args is not None:
        parts.append(views.what(request, decision.args))
    if decision.message:
        parts.append(f'"{views.visible(decision.message)}"')
    if decision.value is not None:
        parts.append(views.one_line(decision.value))
    return " ".join(parts)
