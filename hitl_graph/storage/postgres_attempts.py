"""What to do when a transaction failed: run it again, or say what is known of it."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from hitl_graph.errors import DatabaseWriteError
from hitl_graph.storage.postgres_errors import is_conflict
from hitl_graph.storage.postgres_pool import Pool
from hitl_graph.storage.postgres_session import Session

__all__ = ["ATTEMPTS", "is_stale", "may_pass", "may_run_again", "pause", "retrying", "unknown_outcome"]

T = TypeVar("T")

ATTEMPTS = 12


class _Again(Exception):
    """Nothing was stored, and the reason may be gone next time."""

    def __init__(self, error: psycopg.Error, *, lost: bool) -> None:
        self.error, self.lost = error, lost


def retrying(pool: Pool, once: Callable[[Session], T]) -> T:
    """Run `once` on a connection: again while others are in the way, and once more after a lost connection."""
    attempt, losses = 0, 0
    while True:
        try:
            with pool.session() as session:
                return once(session)
        except _Again as again:
            attempt, losses = attempt + 1, losses + again.lost
            if attempt >= ATTEMPTS or losses > 1:
                raise again.error from None
        pause(attempt)


def is_stale(error: BaseException | None) -> bool:
    """Whether a prepared statement is of no more use: its table has changed, or a pooler has lost it."""
    return isinstance(error, psycopg.Error) and error.sqlstate in ("0A000", "26000")


def may_pass(error: BaseException | None) -> bool:
    """Whether it is worth another attempt on a connection that still stands."""
    return is_conflict(error) or is_stale(error)


def may_run_again(session: Session, error: BaseException | None) -> _Again | None:
    """What to raise so that `retrying` begins again; None if that would be of no use. Nothing must be stored yet."""
    if not isinstance(error, psycopg.Error):
        return None
    if is_stale(error):
        session.broken = True
    if session.broken or may_pass(error):
        return _Again(error, lost=session.broken)
    return None


def pause(attempt: int) -> None:
    """Wait for a short random time, so that those who met do not meet again."""
    time.sleep(random.uniform(0, min(0.2, 0.002 * 2**attempt)))


def unknown_outcome(place: str, error: BaseException) -> DatabaseWriteError:
    """The error for a commit that was sent and never answered."""
    said = " ".join(str(error).split())
    return DatabaseWriteError(
        f"{place}: the connection was lost during the commit; it is unknown whether this write was stored. Look before"
        f" you repeat it ({said})"
    )
