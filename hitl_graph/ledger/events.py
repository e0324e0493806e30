"""The outbox: what became of requests, in order, for whoever wants to hear of it.

The log has each transition as one row, written in its transaction and numbered without gaps in the order of the
commits: so the log is the outbox, and nothing has to be written twice. A consumer that must not miss anything (a
channel, a webhook) keeps its position here, and moves it on in the transaction that notes what it did.
"""

from dataclasses import dataclass
from datetime import datetime

from hitl_graph.model import from_ms
from hitl_graph.storage import Transaction

__all__ = ["Event", "advance", "last", "position", "since"]


@dataclass(frozen=True)
class Event:
    """One transition of a request.

    Attributes:
        seq: Its number in the log: the cursor to go on from.
        name: Such as `request.opened`, `request.decided`, `request.claimed`.
        actor: Who brought it on; `graph` where nobody did.
    """

    seq: int
    at: datetime
    name: str
    request_id: str
    thread_id: str | None
    actor: str


def since(tx: Transaction, seq: int, *, limit: int = 1000) -> list[Event]:
    """What came after a position, oldest first. That somebody looked at a request is no news (see `viewers`)."""
    rows = tx.execute(
        "SELECT seq, at_ms, event, subject, thread_id, actor FROM hitl_audit WHERE seq > ?"  # as the index says it
        " AND event >= 'request.' AND event < 'request/' AND event <> 'request.seen' ORDER BY seq LIMIT ?",
        (seq, limit),
    )
    return [Event(row[0], from_ms(row[1]), row[2], row[3], row[4], row[5]) for row in rows]


def last(tx: Transaction) -> int:
    """The position after everything that there is; 0 where there is nothing."""
    return int(tx.execute("SELECT coalesce(max(seq), 0) FROM hitl_audit").fetchone()[0])


def position(tx: Transaction, consumer: str) -> int:
    """How far a consumer has come; 0 where it is new."""
    row = tx.execute("SELECT seq FROM hitl_outbox WHERE consumer = ?", (consumer,)).fetchone()
    return int(row[0]) if row else 0


def advance(tx: Transaction, now_ms: int, consumer: str, seq: int) -> None:
    """Note that a consumer is done with everything up to a position. It never goes back."""
    tx.execute(
        "INSERT INTO hitl_outbox (consumer, seq, at_ms) VALUES (?,?,?) ON CONFLICT (consumer) DO UPDATE"
        " SET seq = excluded.seq, at_ms = excluded.at_ms WHERE excluded.seq > hitl_outbox.seq",
        (consumer, seq, now_ms),
    )
