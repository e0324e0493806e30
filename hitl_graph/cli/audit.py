"""`hitl audit verify`, `log`, `export`, `redact`."""

import json
import os
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from hitl_graph.cli import queries, views
from hitl_graph.cli.app import (
    REFUSED,
    TAMPERED,
    UNKNOWN,
    USAGE,
    As,
    Command,
    Db,
    Failure,
    Json,
    app,
    emit,
    note,
    on_terminal,
    open_ledger,
    reviewer_name,
)
from hitl_graph.cli.files import writing
from hitl_graph.cli.progress import counted
from hitl_graph.model import from_ms

__all__: list[str] = []

audit = typer.Typer(help="The hash-chained log of every question, decision and effect.", no_args_is_help=True)
app.add_typer(audit, name="audit")


@audit.command(cls=Command)
def verify(
    db: Db = "agent.db",
    anchor: Annotated[
        str | None, typer.Option(metavar="HASH", help="A head noted earlier: nothing up to it may have been rewritten.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute the chain and hold it against the tables. Exit code 6 if something was changed."""
    if anchor is not None and (len(anchor) != 64 or set(anchor.lower()) - set("0123456789abcdef")):
        raise Failure(USAGE, "--anchor takes a head as `hitl audit verify` prints it: 64 hex digits")
    with open_ledger(db) as ledger, counted("verifying", "rows") as tick:
        start = monotonic()
        report = ledger.verify_audit(anchor.lower() if anchor else None, progress=tick)
        took = monotonic() - start
    if as_json:
        told = {"ok": report.ok, "rows": report.rows, "head": report.head, "redacted": report.redacted}
        emit(told | {"problem": report.problem, "seconds": round(took, 3)})
        if not report.ok:
            raise typer.Exit(TAMPERED)
        return
    if not report.ok:
        raise Failure(
            TAMPERED,
            f"the log of {db} does not verify: {report.problem}\n"
            f"({report.rows:,} rows before it are in order.) Keep this file as it is, and compare it with a backup.",
        )
    redacted = f", {report.redacted:,} of them redacted" if report.redacted else ""
    print(f"In order: {report.rows:,} rows{redacted}, and the tables agree with them{_rate(report.rows, took)}.")
    print(f"Head: {report.head}")
    note(
        "Keep the head elsewhere; `hitl audit verify --anchor HEAD` proves later that nothing before it was rewritten."
    )


@audit.command(cls=Command)
def log(
    db: Db = "agent.db",
    thread: Annotated[str | None, typer.Option(help="Only of this thread.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the last so many rows.")] = None,
    as_json: Json = False,
) -> None:
    """The rows of the log, oldest first."""
    with open_ledger(db) as ledger:
        rows = list(queries.audit_rows(ledger, thread, limit))
    if as_json:
        for row in rows:
            body = json.loads(row.pop("body")) if row["body"] is not None else row.pop("body")
            at = from_ms(row.pop("at_ms")).isoformat(timespec="milliseconds")
            emit(row | {"at": at.replace("+00:00", "Z"), "body": body})
        return
    if not rows:
        note("The log has no rows." if thread is None else f"The log has no rows of a thread {thread!r}.")
        return
    out = views.console()
    cells = [
        (
            str(row["seq"]),
            views.clock(row["at_ms"]),
            row["event"],
            views.visible(row["thread_id"] or "-"),
            views.visible(row["subject"])[:12],
            views.visible(row["actor"]),
            "(redacted)" if row["body"] is None else views.visible(row["body"]),
        )
        for row in rows
    ]
    views.show(
        out,
        [views.table(out, ("SEQ", "TIME", "EVENT", "THREAD", "SUBJECT", "BY", "SAYS"), cells, whole=(0, 1), main=2)],
    )


@audit.command(cls=Command)
def export(
    thread: Annotated[
        str | None,
        typer.Option("--thread", metavar="THREAD", help="Texts of this thread only; of other rows only the seals."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write; - for stdout.")] = Path("-"),
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    db: Db = "agent.db",
) -> None:
    """Write the log as JSON lines, which can be verified without hitl and without the database.

    The file is complete or not there. It holds what people were asked and answered: keep it as safe as the database.
    """
    to_file = str(out) != "-"
    if to_file and out.exists():
        if os.path.exists(db) and out.samefile(db):
            raise Failure(USAGE, f"{out} is the database; nothing was written")
        if not force:
            raise Failure(USAGE, f"{out} exists; --force replaces it, another name keeps it. Nothing was written")
    with open_ledger(db) as ledger:
        if thread is not None and not any(queries.audit_rows(ledger, thread, 1)):
            raise Failure(UNKNOWN, f"the log has no rows of a thread {thread!r} (its whole name is needed)")
        start = monotonic()
        with writing(out) as write, counted("exporting", "rows") as tick:
            exported = ledger.export_audit(write, thread_id=thread, progress=tick)
    if to_file:
        print(f"Exported {exported.rows:,} rows to {out}{_rate(exported.rows, monotonic() - start)}.")
        print(f"Head: {exported.head}")
        note("`python verify_audit.py FILE HEAD` verifies it, without hitl: the script is in the documents (Audit).")


def _rate(rows: int, seconds: float) -> str:
    return f"; {seconds:.1f} s, {rows / seconds:,.0f} rows a second" if seconds >= 1 else ""


@audit.command(cls=Command)
def redact(
    thread: Annotated[str, typer.Argument(metavar="THREAD", help="The whole name of the thread.")],
    message: Annotated[str, typer.Option("-m", "--message", help="Why. It stays in the log.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")] = False,
    reviewer: As = None,
    db: Db = "agent.db",
) -> None:
    """Remove what a thread's requests, decisions and log rows say. That they happened stays provable.

    It cannot be undone, and what still waits in the thread is cancelled. The messages in the agent's own state are not
    touched: delete them with checkpointer.delete_thread(THREAD).
    """
    who = reviewer_name(reviewer)
    if not message.strip():
        raise Failure(USAGE, "say why: -m TEXT; nothing was removed")
    with open_ledger(db) as ledger:
        if not thread or queries.thread(ledger, thread) != thread:
            raise Failure(
                UNKNOWN, f"there is no thread {thread!r} here (its whole name is needed); nothing was removed"
            )
        if on_terminal() and not yes:
            open_ = sum(request.state in ("pending", "decided") for request in ledger.history(thread))
            warning = f" {open_} open requests are cancelled." if open_ else ""
            question = f"Remove for good what thread {views.visible(thread)} asked and was answered?{warning} [y/N] "
            if input(question).strip().lower() not in ("y", "yes"):
                raise Failure(REFUSED, "nothing was removed")
        count = ledger.redact(thread, actor=who, reason=message)
    print(f"Redacted as {who}: the text of {count} log rows of thread {views.visible(thread)}.")
    note("Messages in the agent's own state remain: checkpointer.delete_thread(...) removes them.")
