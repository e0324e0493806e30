"""How long what is stored is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from hitl_graph.checkpointers import upkeep
from hitl_graph.steps import Step, Steps
from hitl_graph.storage import Database, Transaction

__all__ = ["Retained", "Retention", "apply"]

_PAGE = 200


@dataclass(frozen=True)
class Retention:
    """What may go, and when. What people are still asked about never does, nor does the ledger.

    Attributes:
        checkpoints: Checkpoints older than this are deleted, except the latest of each thread and what it needs.
        threads: Threads in which nothing has happened for so long are deleted altogether.
    """

    checkpoints: timedelta | None = None
    threads: timedelta | None = None

    def __post_init__(self) -> None:
        for name, age in (("checkpoints", self.checkpoints), ("threads", self.threads)):
            if age is not None and age < timedelta():
                raise ValueError(f"{name}={age} is negative; give the age from which on something may go")


@dataclass(frozen=True)
class Retained:
    """What was done.

    Attributes:
        seen: Threads that were looked at.
        checkpoints: Checkpoints that were deleted, those of deleted threads among them.
        threads: Threads that were deleted.
    """

    seen: int = 0
    checkpoints: int = 0
    threads: int = 0


def apply(
    database: Database,
    retention: Retention,
    *,
    only: Sequence[str] | None = None,
    now: datetime | None = None,
    dry_run: bool = False,
    progress: Callable[[Retained], object] | None = None,
) -> Steps[Retained]:
    """Delete what may go, a transaction a thread: it may be cut off, or run beside agents and beside itself.

    Args:
        database: Where.
        retention: What.
        only: Look at these threads alone.
        now: Aware; the clock on the wall if not given.
        dry_run: Only count.
        progress: Told of each page of threads.
    """
    now, done, after = now or datetime.now(UTC), Retained(), None
    idle_since = upkeep.earliest_id(now - retention.threads) if retention.threads is not None else None
    old = upkeep.earliest_id(now - retention.checkpoints) if retention.checkpoints is not None else None
    while page := ((yield _step(database, partial(_page, after), write=False)) if only is None else list(only)):
        after, only = page[-1], None if only is None else ()
        idle = set((yield _step(database, partial(_idle, page, idle_since), write=False))) if idle_since else set[str]()
        for thread_id in page:
            if idle_since is not None and thread_id in idle:
                delete = partial(_delete_idle, thread_id, idle_since)
                gone = yield _step(database, _undone(delete, dry_run), write=True)
                done = replace(done, threads=done.threads + (gone > 0), checkpoints=done.checkpoints + gone)
            elif old is not None:
                gone = yield _step(database, _undone(partial(_prune, thread_id, old), dry_run), write=True)
                done = replace(done, checkpoints=done.checkpoints + gone)
            done = replace(done, seen=done.seen + 1)
        if progress is not None:
            progress(done)
    return done


def _undone(work: Callable[[Transaction], int], dry_run: bool) -> Callable[[Transaction], int]:
    return partial(_count_only, work) if dry_run else work


def _count_only(work: Callable[[Transaction], int], tx: Transaction) -> int:
    tx.execute("SAVEPOINT dry")
    count = work(tx)
    tx.execute("ROLLBACK TO SAVEPOINT dry")
    tx.execute("RELEASE SAVEPOINT dry")
    return count


def _step(database: Database, work: Callable[[Transaction], Any], *, write: bool) -> Step:
    if write:
        return Step(partial(database.write, work), partial(database.awrite, work))
    return Step(partial(database.read, work), partial(database.aread, work))


def _page(after: str | None, tx: Transaction) -> list[str]:
    return upkeep.threads(tx, after, _PAGE)


def _idle(thread_ids: list[str], before: str, tx: Transaction) -> list[str]:
    return upkeep.idle_threads(tx, thread_ids, before)


def _delete_idle(thread_id: str, before: str, tx: Transaction) -> int:
    return upkeep.delete_idle(tx, thread_id, before)


def _prune(thread_id: str, before: str, tx: Transaction) -> int:
    return upkeep.prune(tx, thread_id, before)
