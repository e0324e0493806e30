"""Chat messages that wait until their thread has come to its end. Every function runs inside a transaction.

A message is delivered as the input of one run, of which every checkpoint names it in its metadata. So a run that was
begun can be told from one that was not, whatever became of the process that began it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hitl_graph.errors import AlreadyDecidedError
from hitl_graph.ledger import audit, requests
from hitl_graph.model import Request
from hitl_graph.storage import Transaction

__all__ = ["MARK", "Queued", "begun", "delivered", "drop", "queue", "queued", "threads", "withdraw"]

MARK = "hitl_message"
"""In the metadata of a run's checkpoints: the id of the message with which it began, as a text."""


class Queued(NamedTuple):
    """A message that waits.

    Attributes:
        id: Its number; within a thread they are delivered in this order.
        message: JSON, as `turns.packed` makes it.
        at_ms: When it was sent, in milliseconds since 1970 (UTC).
    """

    id: int
    thread_id: str
    sender: str
    message: str
    at_ms: int


def queue(tx: Transaction, now_ms: int, thread_id: str, sender: str, message: str) -> int:
    """Keep a message until its thread has come to its end; returns its id."""
    row = tx.execute(
        "INSERT INTO hitl_messages (thread_id, sender, message, at_ms) VALUES (?,?,?,?) RETURNING id",
        (thread_id, sender, message, now_ms),
    ).fetchone()
    audit.append(tx, now_ms, "message.queued", str(row[0]), {}, thread_id=thread_id, actor=sender)
    tx.notify("decided")
    return int(row[0])


def withdraw(
    tx: Transaction, now_ms: int, thread_id: str, sender: str, message: str, waiting: Sequence[Request] | None = None
) -> tuple[int, tuple[Request, ...]]:
    """End all that is asked in a thread without an answer, and keep the message that came instead.

    Args:
        waiting: For which requests the thread waits, where the ledger itself cannot tell.

    Returns:
        The id of the message, and the requests that were withdrawn.

    Raises:
        AlreadyDecidedError: One of them is decided, and its decision is about to be carried out. Nothing was recorded.
    """
    asked = requests.select(tx, "thread_id = ? AND state IN ('pending', 'decided') ORDER BY created_ms", (thread_id,))
    if waiting is not None:
        asked = [request for request in asked if request.id in {other.id for other in waiting}]
    for request in asked:
        if request.decision is not None:
            raise AlreadyDecidedError(request.id, str(request.reviewer), request.decision.type)
    note = f"withdrawn by {sender}: a new message came instead of an answer"
    for request in asked:
        requests.close(tx, now_ms, request, "cancelled", note, is_open=True, actor=sender)
    return queue(tx, now_ms, thread_id, sender, message), tuple(asked)


def queued(tx: Transaction, thread_id: str) -> list[Queued]:
    """What waits in a thread, the next one first."""
    rows = tx.execute(
        "SELECT id, thread_id, sender, message, at_ms FROM hitl_messages"
        " WHERE thread_id = ? AND delivered_ms IS NULL ORDER BY id",
        (thread_id,),
    )
    return [Queued(*row) for row in rows]


def threads(tx: Transaction) -> list[str]:
    """Threads for which messages wait, but those that wait for people themselves."""
    rows = tx.execute(
        "SELECT m.thread_id FROM hitl_messages m WHERE m.delivered_ms IS NULL AND NOT EXISTS (SELECT 1 FROM"
        " hitl_requests r WHERE r.thread_id = m.thread_id AND r.state IN ('pending', 'decided')"
        " AND r.task_id IS NOT NULL) GROUP BY m.thread_id ORDER BY min(m.id)"
    )
    return [row[0] for row in rows]


def begun(tx: Transaction, message: Queued) -> bool:
    """Whether a checkpoint of this database says that the message's run was begun."""
    row = tx.execute(
        "SELECT 1 FROM hitl_states c JOIN hitl_namespaces n ON n.ns = c.ns WHERE n.thread_id = ?"
        " AND n.checkpoint_ns = '' AND c.checkpoint_id <> '' AND c.metadata LIKE ? LIMIT 1",
        (message.thread_id, f'%"{MARK}": "{message.id}"%'),
    ).fetchone()
    return row is not None


def delivered(tx: Transaction, now_ms: int, message: Queued) -> None:
    """The thread has the message now; its text is not kept twice."""
    _end(tx, now_ms, message, "message.delivered", {}, "graph")


def drop(tx: Transaction, now_ms: int, thread_id: str, *, actor: str, reason: str, id: int | None = None) -> int:
    """Deliver nothing of what waits in a thread, or not this one; returns how many that were."""
    doomed = [message for message in queued(tx, thread_id) if id in (None, message.id)]
    for message in doomed:
        _end(tx, now_ms, message, "message.dropped", {"reason": reason}, actor)
    return len(doomed)


def _end(tx: Transaction, now_ms: int, message: Queued, event: str, body: dict[str, Any], actor: str) -> None:
    changed = tx.execute(
        "UPDATE hitl_messages SET delivered_ms = ?, message = NULL WHERE id = ? AND delivered_ms IS NULL",
        (now_ms, message.id),
    )
    if changed.rowcount == 1:
        audit.append(tx, now_ms, event, str(message.id), body, thread_id=message.thread_id, actor=actor)
