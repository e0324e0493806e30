"""The durable record of what was asked, decided and executed.

`Ledger` runs the transactions of the modules beside it: `requests` (questions), `deciding` (answers), `handling` (who
has a question in hand), `schedule` (what comes when nobody answers), `grants` (standing permissions), `switches` (what
is above every policy), `credentials` (who is let in by the doors), `effects` (permits and executions), `denials` (what
was denied), `routing` and `certificates` (what was decided without asking, and on what promise), `messages` (what was
said while a thread waited), `claims` (who resumes a thread), `audit` (the hash chain; `verification` and `export` read
it) and `parking` (what the checkpointer reports).
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from hitl_graph.errors import InvalidDecisionError, NotEntitledError, StaleRequestError
from hitl_graph.ledger import (
    audit,
    deciding,
    denials,
    effects,
    export,
    grants,
    handling,
    messages,
    requests,
    routing,
    schedule,
    verification,
)
from hitl_graph.ledger.export import Exported
from hitl_graph.ledger.verification import AuditReport, Progress
from hitl_graph.model import Decision, Request
from hitl_graph.reviewers import Directory, Reviewer, person
from hitl_graph.storage import Database, Transaction
from hitl_graph.storage.urls import open_database

__all__ = ["AuditReport", "Exported", "Ledger", "utc_now"]

P = ParamSpec("P")
T = TypeVar("T")


def utc_now() -> datetime:
    """The clock on the wall."""
    return datetime.now(UTC)


class Ledger:
    """Requests, decisions, permits, effects and the log of one database.

    Args:
        database: Shared with a checkpointer, or its own.
        clock: Gives aware datetimes; tests pass a fake one.
        directory: Knows the roles and groups of people. Without one, a rule can name people only by their names.
    """

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime] = utc_now, directory: Directory | None = None
    ) -> None:
        self.database = database
        self.clock = clock
        self.directory = directory

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime] = utc_now,
        directory: Directory | None = None,
    ) -> Self:
        """Open the ledger in a database, from any process.

        Args:
            url: An SQLite file, which is created if need be, or `postgresql://...`.
            clock: Gives aware datetimes; tests pass a fake one.
            directory: Knows the roles and groups of people.
        """
        return cls(open_database(url), clock=clock, directory=directory)

    def close(self) -> None:
        """Close the database. Not needed where the checkpointer owns it."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def now_ms(self) -> int:
        """Milliseconds since 1970 (UTC) by the ledger's clock."""
        return int(self.clock().timestamp() * 1000)

    def write(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the ledger's functions in a write transaction, while nobody else changes the ledger."""
        return self.database.write(_alone(work, *args, **kwargs), in_turn=True)

    def note(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, for what may be lost when the power fails at once: the next `write` makes it durable."""
        return self.database.write(_alone(work, *args, **kwargs), durable=False, in_turn=True)

    def read(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the ledger's functions on a snapshot."""
        return self.database.read(lambda tx: work(tx, *args, **kwargs))

    def decide(
        self, request_id: str, decision: Decision, *, reviewer: str | Reviewer, channel: str, digest: str | None = None,
        version: str | None = None,
    ) -> Request:  # fmt: skip
        """Record an answer (see `Inbox.decide`)."""
        return self.acting(
            deciding.decide, request_id, decision, reviewer=reviewer, channel=channel, shown=digest, version=version
        )

    def acting(self, work: Callable[..., T], request_id: str, *args: Any, reviewer: str | Reviewer, **how: Any) -> T:
        """Run a transaction in which somebody acts on a request: after what is due by then, and as a deputy if need be.

        Args:
            work: Takes the transaction, the time, `request_id`, `args`, `reviewer=`, `away=` and `how`.
        """
        who, away, idle = person(reviewer, self.directory), dict[str, Reviewer](), False
        while True:
            try:
                return self.write(_acted(work, away), self.now_ms(), request_id, *args, reviewer=who, **how)
            except deciding.TurnDue as due:
                came = self.write(schedule.catch_up, self.now_ms(), str(due.args[0]))
                if idle and not came:  # twice: nobody else took the turn either
                    raise StaleRequestError(due.args[0], "its pause is not stored yet; try again in a moment") from None
                idle = not came
            except (NotEntitledError, InvalidDecisionError):  # the latter: whose own right is only a veto
                names = [] if away else self.read(handling.deputised, self.now_ms(), who.name)
                if not names:
                    raise
                away = {name: person(name, self.directory) for name in names}

    def history(self, thread_id: str) -> list[Request]:
        """Every request of a thread, oldest first, whatever became of it."""
        return self.read(requests.select, "thread_id = ? ORDER BY created_ms, id", (thread_id,))

    def executed(self, thread_id: str) -> list[dict[str, Any]]:
        """What ran in a thread: tool, request_id, reason, state, started_ms, ended_ms, error, permit_id."""
        return self.read(effects.executed, thread_id)

    def pending_rows(self) -> list[Request]:
        """Every request that waits, over all threads. `Inbox.pending` gives them by the page."""
        return self.read(requests.pending, limit=None)

    def verify_audit(self, anchor: str | None = None, progress: Progress | None = None) -> AuditReport:
        """Recompute the hash chain and hold it against the tables.

        Args:
            anchor: A head hash noted earlier, to prove that nothing up to it was rewritten since.
            progress: Told now and then how many rows are done (of the log, then of the tables), and of how many.
        """
        return self.read(verification.verify, anchor, progress)

    def export_audit(
        self, write: Callable[[str], object], *, thread_id: str | None = None, progress: Progress | None = None
    ) -> Exported:
        """Write the log as JSON lines that `docs/verify_audit.py` verifies without this library or the database.

        One snapshot, a few rows at a time. Nothing is verified here: a log that was changed is exported as it is.

        Args:
            write: Given one line after the other, with its end; ASCII. The `write` of an open file, for example.
            thread_id: Texts of this thread only. The other rows come without theirs, so the chain still verifies.
            progress: Told now and then how many rows are written, and of how many.

        Returns:
            Number of rows, and the head.

        Raises:
            DatabaseCorruptError: A row holds what no log can hold; `verify_audit` says which.
            StorageError: The connection was lost in the middle; begin again.
        """
        return export.once(self.database, write, thread_id, progress)

    def redact(self, thread_id: str, *, actor: str, reason: str) -> int:
        """Remove what a thread's requests, decisions, effects and log rows say; that they happened stays provable.

        What waits in it is cancelled, and messages that wait for it are dropped.

        The messages are in the checkpoints: `checkpointer.delete_thread`. SQLite overwrites what was removed when the
        file is next vacuumed.

        Returns:
            Number of log rows whose body was removed.
        """

        def work(tx: Transaction) -> int:
            for request in requests.select(tx, "thread_id = ? AND state IN ('pending', 'decided')", (thread_id,)):
                requests.close(tx, self.now_ms(), request, "cancelled", "redacted")
            tx.execute(
                "UPDATE hitl_requests SET shown = NULL, decision = NULL, handling = NULL WHERE thread_id = ?",
                (thread_id,),
            )
            tx.execute(
                "UPDATE hitl_votes SET decision = NULL WHERE request_id IN (SELECT id FROM hitl_requests"
                " WHERE thread_id = ?)",
                (thread_id,),
            )
            effects.redact(tx, thread_id)
            messages.drop(tx, self.now_ms(), thread_id, actor=actor, reason="redacted")
            denials.redact(tx, thread_id)
            routing.redact(tx, thread_id)
            grants.redact(tx, self.now_ms(), thread_id, actor=actor)
            return audit.redact(tx, self.now_ms(), thread_id, actor=actor, reason=reason)

        return self.write(work)


def _acted(work: Callable[..., T], away: dict[str, Reviewer]) -> Callable[..., T]:
    """The work for those who are still away: the directory was asked who they are, and that took its time."""

    def acted(tx: Transaction, now_ms: int, request_id: str, *args: Any, reviewer: Reviewer, **how: Any) -> T:
        still = handling.deputised(tx, now_ms, reviewer.name) if away else ()
        absent = tuple(human for name, human in away.items() if name in still)
        return work(tx, now_ms, request_id, *args, reviewer=reviewer, away=absent, **how)

    return acted


def _alone(
    work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> Callable[[Transaction], T]:
    def locked(tx: Transaction) -> T:
        audit.lock(tx)
        return work(tx, *args, **kwargs)

    return locked
