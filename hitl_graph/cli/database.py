"""`hitl db`: how large the database is, and what may go."""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Annotated

import typer

from hitl_graph.checkpointers.retention import Retained, Retention, apply
from hitl_graph.cli import queries, views
from hitl_graph.cli.app import (
    REFUSED,
    USAGE,
    Command,
    Db,
    Failure,
    Json,
    app,
    check_database,
    emit,
    note,
    on_terminal,
    open_ledger,
)
from hitl_graph.cli.progress import counted
from hitl_graph.steps import run
from hitl_graph.storage.urls import is_postgres, versions

__all__ = ["age_of", "moment_of"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

database = typer.Typer(help="How large the database is, and what may go.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(database, name="db")


def age_of(text: str) -> timedelta:
    """A duration as people type it: `30d`, `12h`."""
    parts = re.fullmatch(r"(\d+)([smhdw])", text.strip())
    if parts is None:
        raise Failure(USAGE, f"{text!r} is no age; write 30d, 12h, 4w, 90m or 60s")
    try:
        return timedelta(seconds=int(parts[1]) * _UNITS[parts[2]])
    except OverflowError:
        raise Failure(USAGE, f"{text!r} is longer than there have been computers") from None


def moment_of(text: str) -> datetime | None:
    """A moment as people type it: how long ago (`30d`), or a date (`2026-11-01`); None: before there are dates."""
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except ValueError:
        age = age_of(text)
    try:
        return datetime.now(UTC) - age
    except OverflowError:
        return None


@database.command(cls=Command)
def stats(db: Db = "agent.db", as_json: Json = False) -> None:
    """How much is stored, of what, and the largest threads."""
    with open_ledger(db) as ledger:
        sizes, counts, largest = ledger.database.sizes(), queries.counts(ledger), queries.largest_threads(ledger, 10)
    if as_json:
        emit({"url": ledger.database.url, **sizes._asdict(), **counts, "largest": largest})
        return
    out = views.console()
    rows = [("on disk", _bytes(sizes.total))]
    if sizes.log:
        rows.append(("of it write-ahead log", _bytes(sizes.log)))
    if sizes.free is not None:
        rows.append(("free inside (`hitl db vacuum`)", _bytes(sizes.free)))
    rows += [(name.replace("_", " "), f"{count:,}") for name, count in counts.items()]
    rows += [(name, _bytes(size)) for name, size in sizes.tables.items()]
    views.show(out, [f"{views.visible(ledger.database.url)}", ""])
    width = max(len(name) for name, _ in rows)
    views.show(out, [f"{name:<{width}}  {value:>12}" for name, value in rows])
    if largest:
        cells = [
            (views.visible(row["thread_id"]), f"{row['checkpoints']:,}", f"{row['writes']:,}", _bytes(row["bytes"]))
            for row in largest
        ]
        views.show(out, ["", views.table(out, ("LARGEST THREADS", "CHECKPOINTS", "WRITES", "BYTES"), cells, main=0)])


@database.command(cls=Command)
def prune(
    keep_latest: Annotated[bool, typer.Option("--keep-latest", help="All but the latest checkpoint a thread.")] = False,
    older_than: Annotated[str | None, typer.Option(metavar="AGE", help="Checkpoints this old, as 30d or 12h.")] = None,
    delete_idle: Annotated[str | None, typer.Option(metavar="AGE", help="Threads idle for this long, whole.")] = None,
    thread: Annotated[list[str] | None, typer.Option(help="Only this thread; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    db: Db = "agent.db",
) -> None:
    """Delete old checkpoints or idle threads.

    The latest checkpoint of a thread stays, and so does whatever people are still asked about. The ledger stays whole:
    `hitl audit redact` is for that. The file becomes smaller with `hitl db vacuum`.
    """
    if keep_latest == (older_than is not None) and (keep_latest or delete_idle is None):
        raise Failure(USAGE, "say what may go: --keep-latest or --older-than AGE, --delete-idle AGE, or both kinds")
    checkpoints = timedelta() if keep_latest else age_of(older_than) if older_than is not None else None
    retention = Retention(checkpoints=checkpoints, threads=age_of(delete_idle) if delete_idle is not None else None)
    with open_ledger(db) as ledger:
        for name in thread or ():
            queries.require_thread(ledger, name)
        total = len(thread) if thread else queries.counts(ledger)["threads"]
        if not (dry_run or yes):
            if not on_terminal():
                raise Failure(USAGE, "this deletes for good: --yes says so, --dry-run only counts; nothing was deleted")
            with _progress("looking", total) as tick:
                would = run(apply(ledger.database, retention, only=thread, dry_run=True, progress=tick))
            if not would.checkpoints:
                print("Nothing is old enough; nothing was deleted.")
                return
            if input(f"Delete {_told(would)} for good? [y/N] ").strip().lower() not in ("y", "yes"):
                raise Failure(REFUSED, "nothing was deleted")
        with _progress("pruning", total) as tick:
            done = run(apply(ledger.database, retention, only=thread, dry_run=dry_run, progress=tick))
    print(f"{'Would delete' if dry_run else 'Deleted'} {_told(done)}; looked at {_count(done.seen, 'thread')}.")


@database.command(cls=Command)
def vacuum(db: Db = "agent.db") -> None:
    """Give back the room of what was deleted."""
    with open_ledger(db) as ledger:
        before = ledger.database.sizes()
        if on_terminal():
            note(f"{_bytes(before.total)} to go through ...")
        start = monotonic()
        ledger.database.vacuum()
        after = ledger.database.sizes()
    print(f"{_bytes(before.total)} before, {_bytes(after.total)} after; {monotonic() - start:.1f} s.")


@database.command(cls=Command)
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    db: Db = "agent.db",
) -> None:
    """Bring the database up to the version of this hitl-graph, which opening it also does."""
    check_database(db)
    stored, newest = versions(db)
    if stored == newest:
        print(f"Version {stored}; nothing to do.")
    elif dry_run:
        print(f"Version {stored}; would be brought up to {newest}.")
    else:
        with open_ledger(db):
            pass
        print(f"Version {stored} before, {newest} now.")
    if not dry_run and not is_postgres(db) and stored < newest:
        note("An older hitl-graph cannot open it any more.")


@contextmanager
def _progress(what: str, total: int) -> Generator[Callable[[Retained], None]]:
    with counted(what, "threads") as tick:
        yield lambda done: tick(done.seen, total)


def _told(done: Retained) -> str:
    threads = f", with {_count(done.threads, 'whole thread')}" if done.threads else ""
    return f"{_count(done.checkpoints, 'checkpoint')}{threads}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _bytes(count: int) -> str:
    size, unit = float(count), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
