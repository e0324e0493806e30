"""`hitl export`, `hitl import`: decisions as data to learn from, and labels that were made elsewhere."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import TextColumn

from hitl_graph.cli import queries, views
from hitl_graph.cli.app import (
    REFUSED,
    UNKNOWN,
    USAGE,
    Command,
    Db,
    Failure,
    Json,
    app,
    emit,
    note,
    open_ledger,
)
from hitl_graph.cli.database import moment_of
from hitl_graph.cli.progress import shown
from hitl_graph.errors import LearningError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Request

if TYPE_CHECKING:  # imported when a command runs: others need not wait for it
    from hitl_graph.learning.examples import Example
    from hitl_graph.learning.export import Exported
    from hitl_graph.learning.imported import Imported

__all__: list[str] = []

_LISTED = 20
_FORMATS = "jsonl, parquet, trl-sft, trl-dpo, trl-kto, label-studio, argilla, langsmith, openai-evals"
_READ = "jsonl, label-studio, argilla"


@app.command("export", cls=Command)
def export_decisions(
    format: Annotated[str, typer.Option("--format", "-f", metavar="FORMAT", help=f"{_FORMATS}.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write.")],
    split: Annotated[
        Literal["train", "audit"] | None,
        typer.Option("--split", help="Only this one. Audits measure: no model is trained with them unless you say so."),
    ] = None,
    waiting: Annotated[
        bool, typer.Option("--waiting", help=f"What waits for people, to be labelled elsewhere ({_READ}).")
    ] = False,
    thread: Annotated[str | None, typer.Option("--thread", metavar="THREAD", help="Only of this thread.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="AGE", help="Only asked from then on: 30d, 12h, or 2026-11-01.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """Write decisions as data to train, evaluate or label with; or what waits, to be labelled elsewhere.

    The file is complete or not there. It holds what people were asked and answered: keep it as safe as the database.
    """
    from hitl_graph.learning.export import export, export_waiting

    start = None if since is None else moment_of(since)
    _check(format, waiting=waiting)
    if waiting and split is not None:
        raise Failure(USAGE, "--split is of decisions; what waits has none. Nothing was written")
    if os.path.exists(out):
        if os.path.exists(db) and out.samefile(db):
            raise Failure(USAGE, f"{out} is the database; nothing was written")
        if not force:
            raise Failure(USAGE, f"{out} exists; --force replaces it, another name keeps it. Nothing was written")
    with open_ledger(db) as ledger:
        if thread is not None and queries.thread(ledger, thread) != thread:
            raise Failure(UNKNOWN, f"nothing was ever asked or run in a thread {thread!r} (its whole name is needed)")
        with _counting("exporting: {task.completed:,.0f} done") as tick:
            if waiting:
                asked = (one for one in _waiting(ledger, thread) if start is None or _asked_at(one) >= start)
                given = {one.id: one.input for one in _examples(ledger, thread) if one.state == "pending"}
                result = export_waiting(asked, format, out, input_of=given.get, overwrite=force, progress=tick)
            else:
                found = (one for one in _examples(ledger, thread) if start is None or one.at >= start)
                result = export(found, format, out, split=split, overwrite=force, progress=tick)
    _tell_exported(result, out, as_json)


@app.command("import", cls=Command)
def import_decisions(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What was labelled elsewhere.")],
    format: Annotated[str, typer.Option("--format", "-f", metavar="FORMAT", help=f"{_READ}.")],
    people: Annotated[
        list[str] | None,
        typer.Option("--reviewer", metavar="ACCOUNT=NAME", help="Who is meant by an account; may be given again."),
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Whose labels those are that name nobody.")
    ] = None,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """Record labels that were made elsewhere, each as the decision of whoever made it.

    Every check of a decision holds; what is refused is listed with its reason, and the rest is recorded. Exit code 4 if
    something was refused.
    """
    from hitl_graph.learning.imported import import_labels

    names = dict(_account(one) for one in people or ())
    if reviewer is not None and not reviewer.strip():
        raise Failure(USAGE, "--as is empty; give the name of who decided. Nothing was recorded")
    _check(format, waiting=True)
    if not file.exists():
        raise Failure(UNKNOWN, f"there is no file {file}; nothing was recorded")
    with open_ledger(db) as ledger, _counting("importing: {task.completed:,.0f} done") as tick:
        result = import_labels(ledger, file, format, names=names, reviewer=reviewer, progress=tick)
    _tell_imported(result, file, as_json)
    if result.refused:
        raise typer.Exit(REFUSED)


def _check(format: str, *, waiting: bool) -> None:
    from hitl_graph.learning.formats import find

    try:
        find(format, waiting=waiting)
    except LearningError as exc:
        raise Failure(USAGE, str(exc)) from exc


@contextmanager
def _counting(text: str) -> Generator[Callable[[int], None]]:
    with shown(TextColumn(text)) as tick:

        def count(done: int) -> None:
            tick(completed=done)

        yield count


def _examples(ledger: Ledger, thread: str | None) -> Iterator["Example"]:
    """With the messages before them, as far as the threads are still in this database."""
    from hitl_graph.checkpointers.base import Checkpointer
    from hitl_graph.learning.reading import examples

    return examples(ledger, Checkpointer(ledger.database), thread_id=thread)


def _waiting(ledger: Ledger, thread: str | None) -> Iterator[Request]:
    inbox, last = Inbox(ledger), None
    while page := inbox.pending(thread_id=thread, limit=200, after=last):
        yield from page
        last = page[-1].id


def _asked_at(request: Request) -> datetime:
    return request.created_at or datetime.fromtimestamp(0, UTC)


def _account(given: str) -> tuple[str, str]:
    account, equals, name = (part.strip() for part in given.partition("="))
    if not (account and equals and name):
        raise Failure(USAGE, f"--reviewer takes ACCOUNT=NAME, not {given!r}; nothing was recorded")
    return account, name


def _tell_exported(result: "Exported", out: Path, as_json: bool) -> None:
    if as_json:
        emit({"file": str(out), "written": result.written, "skipped": result.skipped})
        return
    print(f"Exported {result.written:,} rows to {out}.")
    if result.skipped:
        note("Left out: " + "; ".join(f"{count:,} {why}" for why, count in sorted(result.skipped.items())) + ".")


def _tell_imported(result: "Imported", file: Path, as_json: bool) -> None:
    if as_json:
        refused = [vars(one) for one in result.refused]
        counts = {"decided": result.decided, "votes": result.votes, "unanswered": result.unanswered}
        emit({"file": str(file), **counts, "refused": refused})
        return
    votes = f", and {result.votes:,} votes that wait for others" if result.votes else ""
    then = "; a worker carries it out" if result.decided else ""
    print(f"Decided by {file}: {result.decided:,} requests{votes}{then}.")
    if result.unanswered:
        note(f"Without an answer: {result.unanswered:,}.")
    for one in result.refused[:_LISTED]:
        which = f" (request {one.request_id})" if one.request_id else ""
        note(f"Refused, {views.visible(one.where + which)}: {views.visible(one.reason)}")
    if len(result.refused) > _LISTED:
        note(f"... and {len(result.refused) - _LISTED:,} more; --json has all of them.")
